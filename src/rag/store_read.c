/* Reading the store. See store.h. */
#include <string.h>

#include "rag/store_impl.h"

toque_status tq_rag_find(tq_rag *store, const char *uri, tq_source *found, bool *is_there, toque_error *err) {
    sqlite3_stmt *s;
    TQ_TRY(tq_rag_statement(store, TQ_SQL_FIND, &s, err));
    tq_sql_text(s, 1, uri);
    TQ_TRY(tq_sql_step(s, is_there, err));
    if (!*is_there) return TOQUE_OK;
    *found = (tq_source){.id = sqlite3_column_int64(s, 0),
                         .uri = uri,
                         .hash = tq_sql_column(s, 1),
                         .size = sqlite3_column_int64(s, 2),
                         .mtime = sqlite3_column_int64(s, 3),
                         .root = tq_sql_column(s, 4)};
    return TOQUE_OK;
}

static const char *copy_column(tq_arena *arena, sqlite3_stmt *s, int i, size_t *n) {
    const char *data = sqlite3_column_blob(s, i);
    *n = (size_t)sqlite3_column_bytes(s, i);
    return tq_arena_strndup(arena, data ? data : "", *n);
}

toque_status tq_rag_passage(tq_rag *store, int64_t chunk, tq_arena *arena, tq_passage_info *p, toque_error *err) {
    sqlite3_stmt *s;
    bool row;
    size_t n;
    TQ_TRY(tq_rag_statement(store, TQ_SQL_PASSAGE, &s, err));
    sqlite3_bind_int64(s, 1, tq_chunk_document(chunk));
    sqlite3_bind_int64(s, 2, tq_chunk_ordinal(chunk));
    TQ_TRY(tq_sql_step(s, &row, err));
    if (!row)
        return TQ_FAIL(err, EFORMAT,
                       "%s is damaged (chunk %lld of the index is missing), or was changed while it was read",
                       store->path, (long long)chunk);
    *p = (tq_passage_info){.chunk = chunk,
                           .document = tq_chunk_document(chunk),
                           .ordinal = tq_chunk_ordinal(chunk),
                           .uri = copy_column(arena, s, 0, &n),
                           .title = copy_column(arena, s, 1, &n),
                           .language = copy_column(arena, s, 2, &n),
                           .heading = copy_column(arena, s, 3, &n),
                           .start = sqlite3_column_int64(s, 4),
                           .end = sqlite3_column_int64(s, 5),
                           .context_start = sqlite3_column_int64(s, 6),
                           .context_end = sqlite3_column_int64(s, 7),
                           .page = sqlite3_column_int(s, 8)};
    p->text = copy_column(arena, s, 9, &p->text_len);
    p->context = p->text;
    p->context_len = p->text_len;
    if (sqlite3_column_type(s, 10) != SQLITE_NULL) p->context = copy_column(arena, s, 10, &p->context_len);
    sqlite3_reset(s);
    if (!p->uri || !p->title || !p->language || !p->heading || !p->text || !p->context) return TQ_NOMEM(err);
    if ((int64_t)p->text_len != p->end - p->start || (int64_t)p->context_len != p->context_end - p->context_start)
        return TQ_FAIL(err, EFORMAT, "%s is damaged (a chunk lies outside its document)", store->path);
    return TOQUE_OK;
}

/* The next number of a blob; false when it ends too soon or is too large. */
static bool take_number(const uint8_t **p, const uint8_t *end, uint32_t *n) {
    uint64_t value = 0;
    for (int shift = 0; *p < end && shift < 35; shift += 7) {
        uint8_t byte = *(*p)++;
        value |= (uint64_t)(byte & 127) << shift;
        if (byte > 127) continue;
        *n = (uint32_t)value;
        return value <= UINT32_MAX;
    }
    return false;
}

/* The blocks as put_blocks wrote them; what does not lie in the text is damage. */
static toque_status read_blocks(tq_rag *store, tq_doc *doc, const uint8_t *p, size_t n, toque_error *err) {
    const uint8_t *end = p + n;
    uint64_t at = 0;
    while (p < end) {
        uint32_t page, gap, length;
        int head = *p++;
        bool whole = take_number(&p, end, &page) && take_number(&p, end, &gap) && take_number(&p, end, &length);
        if (!whole || page > INT32_MAX || length == 0 || at + gap + length > doc->text.len)
            return TQ_FAIL(err, EFORMAT, "%s is damaged (the blocks of a document)", store->path);
        at += gap;
        if (!TQ_GROW(doc->mem, doc->blocks, doc->n, doc->cap)) return TQ_NOMEM(err);
        doc->blocks[doc->n++] =
            (tq_block){(tq_block_kind)(head & 3), head >> 2, (int)page, (uint32_t)at, (uint32_t)(at + length)};
        at += length;
    }
    return TOQUE_OK;
}

toque_status tq_rag_document(tq_rag *store, int64_t document, bool pairs, tq_doc *doc, toque_error *err) {
    sqlite3_stmt *s;
    bool row;
    TQ_TRY(tq_rag_statement(store, TQ_SQL_DOCUMENT, &s, err));
    sqlite3_bind_int64(s, 1, document);
    TQ_TRY(tq_sql_step(s, &row, err));
    if (!row) return TQ_FAIL(err, ENOTFOUND, "%s has no document %lld", store->path, (long long)document);
    const char *title = tq_sql_column(s, 0);
    tq_doc_title(doc, title, strlen(title));
    const void *text = sqlite3_column_blob(s, 2);
    if (text) tq_buf_put(&doc->text, text, (size_t)sqlite3_column_bytes(s, 2));
    const uint8_t *blob = sqlite3_column_blob(s, 1);
    toque_status status = tq_doc_status(doc, err);
    if (status == TOQUE_OK && blob) status = read_blocks(store, doc, blob, (size_t)sqlite3_column_bytes(s, 1), err);
    sqlite3_reset(s);
    if (status != TOQUE_OK || !pairs) return status;
    TQ_TRY(tq_rag_statement(store, TQ_SQL_PAIRS_OF, &s, err));
    sqlite3_bind_int64(s, 1, document);
    for (;;) {
        TQ_TRY(tq_sql_step(s, &row, err));
        if (!row) return tq_doc_status(doc, err);
        tq_doc_pair_add(doc, tq_sql_column(s, 0), tq_sql_column(s, 1), strlen(tq_sql_column(s, 1)));
    }
}

toque_status tq_rag_frequency(tq_rag *store, const char *term, size_t n, int64_t *chunks, toque_error *err) {
    sqlite3_stmt *s;
    bool row;
    if (!store->statements[TQ_SQL_FREQUENCY])
        TQ_TRY(tq_sql_exec(
            store->db, "CREATE VIRTUAL TABLE IF NOT EXISTS temp.vocabulary USING fts5vocab(main, terms, row)", err));
    TQ_TRY(tq_rag_statement(store, TQ_SQL_FREQUENCY, &s, err));
    sqlite3_bind_text(s, 1, term, (int)n, SQLITE_STATIC);
    TQ_TRY(tq_sql_step(s, &row, err));
    *chunks = row ? sqlite3_column_int64(s, 0) : 0;
    sqlite3_reset(s);
    return TOQUE_OK;
}

toque_status tq_rag_halves(tq_rag *store, const tq_scored *chunks, size_t n, uint16_t *out, toque_error *err) {
    sqlite3_blob *blob = NULL;
    int bytes = (int)(store->facts.dim * 2);
    toque_status status = TOQUE_OK;
    for (size_t i = 0; i < n && status == TOQUE_OK; i++, out += store->facts.dim) {
        int64_t row = tq_chunk_document(chunks[i].chunk), at = tq_chunk_ordinal(chunks[i].chunk) * bytes;
        int r = blob ? sqlite3_blob_reopen(blob, row)
                     : sqlite3_blob_open(store->db, "main", "vectors", "halves", row, 0, &blob);
        if (r == SQLITE_OK && at + bytes > sqlite3_blob_bytes(blob)) r = SQLITE_CORRUPT;
        if (r == SQLITE_OK) r = sqlite3_blob_read(blob, out, bytes, (int)at);
        if (r != SQLITE_OK)
            status = TQ_FAIL(err, EFORMAT, "%s is damaged (vectors of document %lld), or was changed while it was read",
                             store->path, (long long)row);
    }
    sqlite3_blob_close(blob);
    return status;
}

toque_status tq_rag_list(tq_rag *store, tq_list_fn *visit, void *arg, toque_error *err) {
    sqlite3_stmt *s;
    TQ_TRY(tq_sql_prepare(store->db, &s,
                          "SELECT id, chunks, size, mtime, length(text), uri, title, format, language, root"
                          " FROM documents ORDER BY uri",
                          err));
    toque_status status;
    for (bool row;;) {
        TQ_GO(tq_sql_step(s, &row, err));
        if (!row) break;
        const tq_listed d = {sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1), sqlite3_column_int64(s, 2),
                             sqlite3_column_int64(s, 3), sqlite3_column_int64(s, 4), tq_sql_column(s, 5),
                             tq_sql_column(s, 6),        tq_sql_column(s, 7),        tq_sql_column(s, 8),
                             tq_sql_column(s, 9)};
        TQ_GO(visit(arg, &d, err));
    }
done:
    sqlite3_finalize(s);
    return status;
}
