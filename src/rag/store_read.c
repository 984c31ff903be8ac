/* Reading the store, and what changes little in it: SQL that both kinds understand. See store.h. */
#include <string.h>

#include "rag/store_impl.h"

/* --- finding --------------------------------------------------------------------------------------------- */

typedef struct finding {
    tq_rag *store;
    tq_source *found;
    bool is_there;
} finding;

static toque_status take_source(void *arg, const tq_row *row, toque_error *err) {
    finding *f = arg;
    f->is_there = true;
    tq_arena_clear(&f->store->found);
    *f->found = (tq_source){.id = tq_row_number(row, 0),
                            .hash = tq_arena_strndup(&f->store->found, row->text[1], row->len[1]),
                            .size = tq_row_number(row, 2),
                            .mtime = tq_row_number(row, 3),
                            .root = tq_arena_strndup(&f->store->found, row->text[4], row->len[4])};
    return f->found->hash && f->found->root ? TOQUE_OK : TQ_NOMEM(err);
}

toque_status tq_rag_find(tq_rag *store, const char *uri, tq_source *found, bool *is_there, toque_error *err) {
    finding f = {.store = store, .found = found};
    toque_status status = tq_rag_run(store, "SELECT id, hash, size, mtime, root FROM documents WHERE uri = $1", &uri, 1,
                                     take_source, &f, err);
    *is_there = f.is_there;
    if (f.is_there) found->uri = uri;
    return status;
}

/* --- passages -------------------------------------------------------------------------------------------- */

typedef struct taking {
    tq_arena *arena;
    tq_passage_info *p;
    bool is_there;
} taking;

static toque_status take_passage(void *arg, const tq_row *row, toque_error *err) {
    taking *t = arg;
    tq_passage_info *p = t->p;
    const char **texts[5] = {&p->uri, &p->title, &p->language, &p->heading, &p->text};
    t->is_there = true;
    for (int i = 0; i < 5; i++) {
        int column = i < 4 ? i : 9;
        *texts[i] = tq_arena_strndup(t->arena, row->text[column], row->len[column]);
        if (!*texts[i]) return TQ_NOMEM(err);
    }
    p->start = tq_row_number(row, 4);
    p->end = tq_row_number(row, 5);
    p->context_start = tq_row_number(row, 6);
    p->context_end = tq_row_number(row, 7);
    p->page = (int)tq_row_number(row, 8);
    p->context = p->text;
    p->context_len = p->text_len = row->len[9];
    if (p->context_end - p->context_start != p->end - p->start) {
        p->context_len = row->len[10];
        p->context = tq_arena_strndup(t->arena, row->text[10], row->len[10]);
    }
    return p->context ? TOQUE_OK : TQ_NOMEM(err);
}

toque_status tq_rag_passage(tq_rag *store, int64_t chunk, tq_arena *arena, tq_passage_info *p, toque_error *err) {
    static const char sql[] =
        "SELECT d.uri, d.title, d.language, c.heading, c.start, c.\"end\", c.context_start, c.context_end, c.page,"
        " substr(d.text, c.start + 1, c.\"end\" - c.start),"
        " CASE WHEN c.context_end - c.context_start = c.\"end\" - c.start THEN NULL"
        " ELSE substr(d.text, c.context_start + 1, c.context_end - c.context_start) END"
        " FROM chunks c JOIN documents d ON d.id = c.document WHERE c.document = $1 AND c.ordinal = $2";
    const tq_number_text document = tq_number_param(tq_chunk_document(chunk)),
                         ordinal = tq_number_param(tq_chunk_ordinal(chunk));
    const char *const params[2] = {document.text, ordinal.text};
    taking t = {.arena = arena, .p = p};
    *p = (tq_passage_info){.chunk = chunk, .document = tq_chunk_document(chunk), .ordinal = tq_chunk_ordinal(chunk)};
    TQ_TRY(tq_rag_run(store, sql, params, 2, take_passage, &t, err));
    if (!t.is_there)
        return TQ_FAIL(err, EFORMAT,
                       "%s is damaged (chunk %lld of the index is missing), or was changed while it was read",
                       store->path, (long long)chunk);
    if ((int64_t)p->text_len != p->end - p->start || (int64_t)p->context_len != p->context_end - p->context_start)
        return TQ_FAIL(err, EFORMAT, "%s is damaged (a chunk lies outside its document)", store->path);
    return TOQUE_OK;
}

/* --- documents ------------------------------------------------------------------------------------------- */

static void put_number(tq_buf *out, uint64_t n) {
    for (; n > 127; n >>= 7) tq_buf_putc(out, (char)((n & 127) | 128));
    tq_buf_putc(out, (char)n);
}

void tq_blocks_write(tq_buf *out, const tq_doc *doc) {
    uint32_t at = 0;
    for (size_t i = 0; i < doc->n; i++) {
        const tq_block *b = &doc->blocks[i];
        tq_buf_putc(out, (char)((int)b->kind | (b->level < 63 ? b->level : 63) << 2));
        put_number(out, (uint64_t)b->page);
        put_number(out, b->start - at);
        put_number(out, b->end - b->start);
        at = b->end;
    }
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

typedef struct restoring {
    tq_rag *store;
    tq_doc *doc;
    bool is_there;
} restoring;

static toque_status take_document(void *arg, const tq_row *row, toque_error *err) {
    restoring *r = arg;
    r->is_there = true;
    tq_doc_title(r->doc, row->text[0], row->len[0]);
    tq_buf_put(&r->doc->text, row->text[2], row->len[2]);
    TQ_TRY(tq_doc_status(r->doc, err));
    return read_blocks(r->store, r->doc, (const uint8_t *)row->text[1], row->len[1], err);
}

static toque_status take_pair(void *arg, const tq_row *row, toque_error *err) {
    restoring *r = arg;
    (void)err;
    tq_doc_pair_add(r->doc, row->text[0], row->text[1], row->len[1]);
    return TOQUE_OK;
}

toque_status tq_rag_document(tq_rag *store, int64_t document, bool pairs, tq_doc *doc, toque_error *err) {
    const tq_number_text id = tq_number_param(document);
    const char *const params[1] = {id.text};
    restoring r = {.store = store, .doc = doc};
    TQ_TRY(tq_rag_run(store, "SELECT title, blocks, text FROM documents WHERE id = $1", params, 1, take_document, &r,
                      err));
    if (!r.is_there) return TQ_FAIL(err, ENOTFOUND, "%s has no document %lld", store->path, (long long)document);
    if (pairs)
        TQ_TRY(tq_rag_run(store, "SELECT key, value FROM metadata WHERE document = $1 ORDER BY key", params, 1,
                          take_pair, &r, err));
    return tq_doc_status(doc, err);
}

typedef struct lister {
    tq_list_fn *visit;
    void *arg;
} lister;

static toque_status take_listed(void *arg, const tq_row *row, toque_error *err) {
    const lister *l = arg;
    const tq_listed d = {tq_row_number(row, 0), tq_row_number(row, 1), tq_row_number(row, 2), tq_row_number(row, 3),
                         tq_row_number(row, 4), row->text[5],          row->text[6],          row->text[7],
                         row->text[8],          row->text[9]};
    return l->visit(l->arg, &d, err);
}

toque_status tq_rag_list(tq_rag *store, tq_list_fn *visit, void *arg, toque_error *err) {
    lister l = {visit, arg};
    return tq_rag_run(store,
                      "SELECT id, chunks, size, mtime, length(text), uri, title, format, language, root"
                      " FROM documents ORDER BY uri",
                      NULL, 0, take_listed, &l, err);
}

/* --- the same content at another time -------------------------------------------------------------------- */

static toque_status update(tq_rag *store, int64_t document, int64_t size, int64_t mtime, const tq_doc_pair *pairs,
                           size_t n_pairs, toque_error *err) {
    const tq_number_text numbers[3] = {tq_number_param(size), tq_number_param(mtime), tq_number_param(document)};
    const char *const params[3] = {numbers[0].text, numbers[1].text, numbers[2].text};
    TQ_TRY(tq_rag_run(store, "UPDATE documents SET size = $1, mtime = $2 WHERE id = $3", params, 3, NULL, NULL, err));
    for (size_t i = 0; i < n_pairs; i++) {
        const char *const pair[3] = {numbers[2].text, pairs[i].key, pairs[i].value};
        TQ_TRY(tq_rag_run(store,
                          "INSERT INTO metadata VALUES($1, $2, $3)"
                          " ON CONFLICT (document, key) DO UPDATE SET value = excluded.value",
                          pair, 3, NULL, NULL, err));
    }
    return TOQUE_OK;
}

toque_status tq_rag_touch(tq_rag *store, int64_t document, int64_t size, int64_t mtime, const tq_doc_pair *pairs,
                          size_t n_pairs, toque_error *err) {
    TQ_TRY(tq_rag_run(store, store->ops->begin, NULL, 0, NULL, NULL, err));
    toque_status status = update(store, document, size, mtime, pairs, n_pairs, err);
    if (status == TOQUE_OK) status = tq_rag_run(store, "COMMIT", NULL, 0, NULL, NULL, err);
    if (status != TOQUE_OK) tq_rag_roll_back(store);
    return status;
}
