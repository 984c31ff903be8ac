/* The store: opening, documents in and out. See store.h. */
#include "rag/store.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "kernels/half.h"

enum { BUSY_MS = 20000 };

/* Statements that are prepared once. */
enum {
    FIND,
    INSERT_DOCUMENT,
    INSERT_PAIR,
    INSERT_CHUNK,
    INSERT_VECTORS,
    INSERT_TERMS,
    DELETE_TERMS,
    DELETE_DOCUMENT,
    TOUCH,
    CHUNKS_OF,
    TEXT_OF,
    PASSAGE,
    DOCUMENT,
    PAIRS_OF,
    FREQUENCY,
    STATEMENTS
};
static const char *const texts[STATEMENTS] = {
    [FIND] = "SELECT id, hash, size, mtime, root FROM documents WHERE uri = ?",
    [INSERT_DOCUMENT] =
        "INSERT INTO documents(uri, root, hash, size, mtime, format, title, language, chunks, blocks, text)"
        " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [INSERT_PAIR] = "INSERT OR REPLACE INTO metadata VALUES(?, ?, ?)",
    [INSERT_CHUNK] = "INSERT INTO chunks VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
    [INSERT_VECTORS] = "INSERT INTO vectors VALUES(?, ?, ?, ?)",
    [INSERT_TERMS] = "INSERT INTO terms(rowid, passage) VALUES(?, ?)",
    [DELETE_TERMS] = "INSERT INTO terms(terms, rowid, passage) VALUES('delete', ?, ?)",
    [DELETE_DOCUMENT] = "DELETE FROM documents WHERE id = ?",
    [TOUCH] = "UPDATE documents SET size = ?, mtime = ? WHERE id = ?",
    [CHUNKS_OF] = "SELECT ordinal, start, end, heading FROM chunks WHERE document = ?",
    [TEXT_OF] = "SELECT language, text FROM documents WHERE id = ?",
    [DOCUMENT] = "SELECT title, blocks, text FROM documents WHERE id = ?",
    [PAIRS_OF] = "SELECT key, value FROM metadata WHERE document = ?",
    [FREQUENCY] = "SELECT doc FROM temp.vocabulary WHERE term = ?",
    [PASSAGE] = "SELECT d.uri, d.title, d.language, c.heading, c.start, c.end, c.context_start, c.context_end, c.page,"
                " substr(d.text, c.start + 1, c.end - c.start),"
                " CASE WHEN c.context_end - c.context_start = c.end - c.start THEN NULL"
                " ELSE substr(d.text, c.context_start + 1, c.context_end - c.context_start) END"
                " FROM chunks c JOIN documents d ON d.id = c.document WHERE c.document = ? AND c.ordinal = ?",
};

static toque_status statement(tq_rag *store, int which, sqlite3_stmt **s, toque_error *err) {
    if (!store->statements[which]) TQ_TRY(tq_sql_prepare(store->db, &store->statements[which], texts[which], err));
    *s = store->statements[which];
    sqlite3_reset(*s);
    return TOQUE_OK;
}

/* ---- opening
 * --------------------------------------------------------------------------------------------------------- */

static toque_status start(tq_rag **result, tq_ctx *ctx, const char *path, int flags, toque_error *err) {
    *result = NULL;
    tq_rag *store = TQ_NEW(&ctx->mem, tq_rag);
    if (!store) return TQ_NOMEM(err);
    store->ctx = ctx;
    store->mem = &ctx->mem;
    tq_arena_init(&store->arena, store->mem, 4096);
    store->path = tq_arena_strndup(&store->arena, path, strlen(path));
    toque_status status = store->path ? TOQUE_OK : TQ_NOMEM(err);
    if (status == TOQUE_OK && sqlite3_open_v2(path, &store->db, flags, NULL) != SQLITE_OK)
        status = store->db ? tq_sql_fail(store->db, err) : TQ_NOMEM(err);
    if (status == TOQUE_OK) {
        sqlite3_busy_timeout(store->db, BUSY_MS);
        sqlite3_extended_result_codes(store->db, 1);
        sqlite3_db_config(store->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        sqlite3_db_config(store->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
        status = tq_sql_exec(store->db,
                             "PRAGMA foreign_keys = ON; PRAGMA synchronous = NORMAL;"
                             "PRAGMA cache_size = -65536",
                             err);
    }
    if (status == TOQUE_OK) status = tq_bm25_register(store->db, &store->bm25, err);
    if (status == TOQUE_OK)
        *result = store;
    else
        tq_rag_close(store);
    return status;
}

toque_status tq_rag_open(tq_rag **result, tq_ctx *ctx, const char *path, bool write, toque_error *err) {
    *result = NULL;
    if (!tq_path_exists(path))
        return TQ_FAIL(err, ENOTFOUND, "there is no store %s: make one with toque rag add %s PATH...", path, path);
    if (tq_path_is_dir(path)) return TQ_FAIL(err, EINVAL, "%s is a folder; a store is a file", path);
    tq_rag *store;
    /* A reader of a WAL file writes to the file beside it; where it may not, the file is read as it stands. */
    bool may_write = access(path, W_OK) == 0;
    TQ_TRY(start(&store, ctx, path, write || may_write ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY, err));
    toque_status status = tq_schema_load(store, write, err);
    if (status == TOQUE_OK)
        *result = store;
    else
        tq_rag_close(store);
    return status;
}

/* An empty store in a file of its own, closed again. */
static toque_status make_file(tq_ctx *ctx, const char *path, const tq_rag_embedder *e, const tq_chunk_options *chunk,
                              toque_error *err) {
    tq_rag *store;
    unlink(path); /* of a process that had this number before */
    TQ_TRY(start(&store, ctx, path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, err));
    toque_status status = tq_schema_create(store, e, chunk, err);
    tq_rag_close(store);
    return status;
}

toque_status tq_rag_create(tq_rag **result, tq_ctx *ctx, const char *path, const tq_rag_embedder *e,
                           const tq_chunk_options *chunk, toque_error *err) {
    *result = NULL;
    if (tq_path_exists(path)) return TQ_FAIL(err, EINVAL, "%s is there already", path);
    if (chunk->budget < 16 || chunk->budget > e->max_tokens || chunk->overlap < 0 || chunk->overlap * 2 > chunk->budget)
        return TQ_FAIL(err, EINVAL,
                       "chunks of %d tokens that share %d are not possible: from 16 to %d (what the embedder "
                       "takes), and at most half of it shared",
                       chunk->budget, chunk->overlap, e->max_tokens);
    tq_buf made;
    tq_buf_init(&made, &ctx->mem, 1 << 16);
    tq_buf_printf(&made, "%s.made-%ld", path, (long)getpid());
    toque_status status = tq_buf_status(&made, "a name", err);
    if (status == TOQUE_OK) status = make_file(ctx, made.data, e, chunk, err);
    bool raced = false;
    if (status == TOQUE_OK && link(made.data, path) != 0) {
        raced = errno == EEXIST;
        /* Some file systems have no links. */
        if (!raced && rename(made.data, path) != 0)
            status = TQ_FAIL(err, EIO, "cannot make %s: %s", path, strerror(errno));
    }
    if (!made.failed) unlink(made.data);
    tq_buf_clear(&made);
    if (status == TOQUE_OK) status = tq_rag_open(result, ctx, path, true, err);
    if (status == TOQUE_OK && raced) status = tq_rag_check(*result, e, err);
    if (status == TOQUE_OK) return TOQUE_OK;
    tq_rag_close(*result);
    *result = NULL;
    return status;
}

void tq_rag_close(tq_rag *store) {
    if (!store) return;
    tq_mem *mem = store->mem;
    for (int i = 0; i < STATEMENTS; i++) sqlite3_finalize(store->statements[i]);
    for (int i = 0; i < store->n_analyzers; i++) tq_analyzer_free(store->analyzers[i].analyzer);
    sqlite3_close(store->db);
    tq_arena_clear(&store->arena);
    tq_free(mem, store);
}

toque_status tq_rag_check(const tq_rag *store, const tq_rag_embedder *e, toque_error *err) {
    const tq_rag_facts *f = &store->facts;
    const char *what = NULL;
    if (strcmp(f->hash, e->hash) != 0)
        what = "weights or vocabulary";
    else if (f->dim != e->dim)
        what = "dimension";
    else if (strcmp(f->pooling, e->pooling) != 0)
        what = "pooling";
    else if (strcmp(f->query_prefix, e->query_prefix) != 0 || strcmp(f->passage_prefix, e->passage_prefix) != 0)
        what = "prefixes";
    if (!what) return TOQUE_OK;
    return TQ_FAIL(err, EINVAL,
                   "%s was embedded with %s, and %s has other %s: embed it anew with toque rag add %s --reembed "
                   "--embedder %s",
                   store->path, f->embedder, e->name, what, store->path, e->name);
}

toque_status tq_rag_analyzer(tq_rag *store, const char *language, tq_analyzer **a, toque_error *err) {
    enum { MAX = sizeof store->analyzers / sizeof *store->analyzers };
    for (int i = 0; i < store->n_analyzers; i++)
        if (strcmp(store->analyzers[i].language, language) == 0) {
            *a = store->analyzers[i].analyzer;
            return TOQUE_OK;
        }
    if (store->n_analyzers == MAX) tq_analyzer_free(store->analyzers[--store->n_analyzers].analyzer);
    TQ_TRY(tq_analyzer_new(a, store->mem, language, err));
    snprintf(store->analyzers[store->n_analyzers].language, sizeof store->analyzers->language, "%s", language);
    store->analyzers[store->n_analyzers++].analyzer = *a;
    return TOQUE_OK;
}

toque_status tq_rag_number(tq_rag *store, const char *sql, int64_t *n, toque_error *err) {
    sqlite3_stmt *s;
    bool row;
    TQ_TRY(tq_sql_prepare(store->db, &s, sql, err));
    toque_status status = tq_sql_step(s, &row, err);
    if (status == TOQUE_OK) *n = row ? sqlite3_column_int64(s, 0) : 0;
    sqlite3_finalize(s);
    return status;
}

/* ---- writing
 * --------------------------------------------------------------------------------------------------------- */

/* The index entries of a chunk's passage, put in or taken out. */
static toque_status index_passage(tq_rag *store, int which, tq_analyzer *a, int64_t chunk, const char *heading,
                                  const char *text, size_t n, tq_buf *passage, tq_buf *terms, toque_error *err) {
    sqlite3_stmt *s;
    tq_buf_reset(passage);
    tq_buf_reset(terms);
    if (!tq_passage(passage, heading, text, n)) return tq_buf_status(passage, "a passage", err);
    TQ_TRY(tq_terms(a, passage->data, passage->len, terms, NULL, err));
    TQ_TRY(statement(store, which, &s, err));
    sqlite3_bind_int64(s, 1, chunk);
    sqlite3_bind_text(s, 2, terms->data, (int)terms->len, SQLITE_STATIC);
    return tq_sql_run(s, err);
}

/* Takes a document out, inside a transaction. Its terms have to be told to the index as they were put in. */
static toque_status take_out(tq_rag *store, int64_t document, toque_error *err) {
    sqlite3_stmt *text, *chunks, *s;
    bool row;
    toque_status status;
    tq_buf passage, terms;
    tq_analyzer *a;
    tq_buf_init(&passage, store->mem, SIZE_MAX / 4);
    tq_buf_init(&terms, store->mem, SIZE_MAX / 4);
    TQ_GO(statement(store, TEXT_OF, &text, err));
    sqlite3_bind_int64(text, 1, document);
    TQ_GO(tq_sql_step(text, &row, err));
    if (!row) goto done;
    TQ_GO(tq_rag_analyzer(store, tq_sql_column(text, 0), &a, err));
    const char *data = sqlite3_column_blob(text, 1);
    int64_t size = sqlite3_column_bytes(text, 1);
    TQ_GO(statement(store, CHUNKS_OF, &chunks, err));
    sqlite3_bind_int64(chunks, 1, document);
    for (;;) {
        TQ_GO(tq_sql_step(chunks, &row, err));
        if (!row) break;
        int64_t from = sqlite3_column_int64(chunks, 1), to = sqlite3_column_int64(chunks, 2);
        if (from < 0 || to < from || to > size) {
            status = TQ_FAIL(err, EFORMAT, "%s is damaged (a chunk lies outside its document)", store->path);
            goto done;
        }
        TQ_GO(index_passage(store, DELETE_TERMS, a, tq_chunk_id(document, sqlite3_column_int64(chunks, 0)),
                            tq_sql_column(chunks, 3), data + from, (size_t)(to - from), &passage, &terms, err));
    }
    sqlite3_reset(text);
    TQ_GO(statement(store, DELETE_DOCUMENT, &s, err));
    sqlite3_bind_int64(s, 1, document);
    TQ_GO(tq_sql_run(s, err));
done:
    if (store->statements[TEXT_OF]) sqlite3_reset(store->statements[TEXT_OF]);
    if (store->statements[CHUNKS_OF]) sqlite3_reset(store->statements[CHUNKS_OF]);
    tq_buf_clear(&passage);
    tq_buf_clear(&terms);
    return status;
}

static toque_status put_pairs(tq_rag *store, int64_t document, const tq_doc_pair *pairs, size_t n, toque_error *err) {
    for (size_t i = 0; i < n; i++) {
        sqlite3_stmt *s;
        TQ_TRY(statement(store, INSERT_PAIR, &s, err));
        sqlite3_bind_int64(s, 1, document);
        tq_sql_text(s, 2, pairs[i].key);
        tq_sql_text(s, 3, pairs[i].value);
        TQ_TRY(tq_sql_run(s, err));
    }
    return TOQUE_OK;
}

/* Bytes with the largest of a row at 127, and the scale that leads back. */
static float quantize(int8_t *q, const float *x, int64_t n) {
    float most = 0;
    for (int64_t i = 0; i < n; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    float up = most > 0 ? 127 / most : 0;
    for (int64_t i = 0; i < n; i++) q[i] = (int8_t)lrintf(x[i] * up);
    return most / 127;
}

static toque_status put_vectors(tq_rag *store, int64_t document, const float *v, size_t n, toque_error *err) {
    size_t dim = (size_t)store->facts.dim;
    float *scales = tq_alloc(store->mem, n, sizeof *scales);
    int8_t *bytes = tq_alloc(store->mem, n * dim, 1);
    uint16_t *halves = tq_alloc(store->mem, n * dim, sizeof *halves);
    toque_status status = scales && bytes && halves ? TOQUE_OK : TQ_NOMEM(err);
    sqlite3_stmt *s;
    if (status != TOQUE_OK) goto done;
    for (size_t i = 0; i < n * dim; i++)
        if (!isfinite(v[i])) {
            status = TQ_FAIL(err, ENONFINITE, "the embedder gave a vector that is not finite");
            goto done;
        }
    for (size_t i = 0; i < n; i++) scales[i] = quantize(bytes + i * dim, v + i * dim, (int64_t)dim);
    for (size_t i = 0; i < n * dim; i++) halves[i] = tq_float_to_half(v[i]);
    TQ_GO(statement(store, INSERT_VECTORS, &s, err));
    sqlite3_bind_int64(s, 1, document);
    sqlite3_bind_blob64(s, 2, scales, n * sizeof *scales, SQLITE_STATIC);
    sqlite3_bind_blob64(s, 3, bytes, n * dim, SQLITE_STATIC);
    sqlite3_bind_blob64(s, 4, halves, n * dim * sizeof *halves, SQLITE_STATIC);
    TQ_GO(tq_sql_run(s, err));
done:
    tq_free(store->mem, scales);
    tq_free(store->mem, bytes);
    tq_free(store->mem, halves);
    return status;
}

static void put_number(tq_buf *out, uint64_t n) {
    for (; n > 127; n >>= 7) tq_buf_putc(out, (char)((n & 127) | 128));
    tq_buf_putc(out, (char)n);
}

/* A document's blocks, as store_schema.c describes them. */
static void put_blocks(tq_buf *out, const tq_doc *doc) {
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

static toque_status put_document(tq_rag *store, const tq_source *src, const tq_doc *doc, size_t n_chunks,
                                 toque_error *err) {
    tq_buf blocks;
    tq_buf_init(&blocks, store->mem, SIZE_MAX / 4);
    put_blocks(&blocks, doc);
    sqlite3_stmt *s;
    toque_status status = tq_buf_status(&blocks, "blocks", err);
    if (status == TOQUE_OK) status = statement(store, INSERT_DOCUMENT, &s, err);
    if (status != TOQUE_OK) goto done;
    tq_sql_text(s, 1, src->uri);
    tq_sql_text(s, 2, src->root);
    tq_sql_text(s, 3, src->hash);
    sqlite3_bind_int64(s, 4, src->size);
    sqlite3_bind_int64(s, 5, src->mtime);
    tq_sql_text(s, 6, src->format);
    tq_sql_text(s, 7, src->title);
    tq_sql_text(s, 8, src->language);
    sqlite3_bind_int64(s, 9, (sqlite3_int64)n_chunks);
    sqlite3_bind_blob64(s, 10, blocks.data, blocks.len, SQLITE_STATIC);
    sqlite3_bind_blob64(s, 11, doc->text.data, doc->text.len, SQLITE_STATIC);
    TQ_GO(tq_sql_run(s, err));
done:
    tq_buf_clear(&blocks);
    return status;
}

static toque_status put_chunks(tq_rag *store, int64_t document, const tq_source *src, const tq_doc *doc,
                               const tq_chunks *chunks, toque_error *err) {
    tq_buf passage, terms;
    tq_analyzer *a;
    toque_status status;
    tq_buf_init(&passage, store->mem, SIZE_MAX / 4);
    tq_buf_init(&terms, store->mem, SIZE_MAX / 4);
    TQ_GO(tq_rag_analyzer(store, src->language, &a, err));
    for (size_t i = 0; i < chunks->n; i++) {
        const tq_chunk *c = &chunks->items[i];
        int64_t id = tq_chunk_id(document, (int64_t)i);
        const char *heading = chunks->headings.data + c->heading;
        sqlite3_stmt *s;
        TQ_GO(statement(store, INSERT_CHUNK, &s, err));
        const int64_t numbers[7] = {document, (int64_t)i, c->start, c->end, c->context_start, c->context_end, c->page};
        for (int j = 0; j < 7; j++) sqlite3_bind_int64(s, j + 1, numbers[j]);
        tq_sql_text(s, 8, heading);
        TQ_GO(tq_sql_run(s, err));
        TQ_GO(index_passage(store, INSERT_TERMS, a, id, heading, doc->text.data + c->start, c->end - c->start, &passage,
                            &terms, err));
    }
done:
    tq_buf_clear(&passage);
    tq_buf_clear(&terms);
    return status;
}

/* Ends a transaction with what came of it. */
static toque_status finish(tq_rag *store, toque_status status, toque_error *err) {
    if (status == TOQUE_OK) status = tq_sql_exec(store->db, "COMMIT", err);
    if (status != TOQUE_OK) sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

toque_status tq_rag_put(tq_rag *store, const tq_source *src, const tq_doc *doc, const tq_chunks *chunks,
                        const float *vectors, const tq_doc_pair *pairs, size_t n_pairs, toque_error *err) {
    if (chunks->n >= 1 << TQ_CHUNK_BITS)
        return TQ_FAIL(err, ELIMIT, "the document has %zu chunks, more than %d: split it", chunks->n,
                       1 << TQ_CHUNK_BITS);
    TQ_TRY(tq_sql_exec(store->db, "BEGIN IMMEDIATE", err));
    tq_source old;
    bool is_there;
    toque_status status;
    TQ_GO(tq_rag_find(store, src->uri, &old, &is_there, err));
    if (is_there) TQ_GO(take_out(store, old.id, err));
    TQ_GO(put_document(store, src, doc, chunks->n, err));
    int64_t document = sqlite3_last_insert_rowid(store->db);
    TQ_GO(put_pairs(store, document, doc->pairs, doc->n_pairs, err));
    TQ_GO(put_pairs(store, document, pairs, n_pairs, err));
    TQ_GO(put_chunks(store, document, src, doc, chunks, err));
    if (vectors && chunks->n) TQ_GO(put_vectors(store, document, vectors, chunks->n, err));
done:
    return finish(store, status, err);
}

toque_status tq_rag_remove(tq_rag *store, int64_t document, toque_error *err) {
    TQ_TRY(tq_sql_exec(store->db, "BEGIN IMMEDIATE", err));
    return finish(store, take_out(store, document, err), err);
}

toque_status tq_rag_touch(tq_rag *store, int64_t document, int64_t size, int64_t mtime, const tq_doc_pair *pairs,
                          size_t n_pairs, toque_error *err) {
    TQ_TRY(tq_sql_exec(store->db, "BEGIN IMMEDIATE", err));
    sqlite3_stmt *s;
    toque_status status = statement(store, TOUCH, &s, err);
    if (status == TOQUE_OK) {
        sqlite3_bind_int64(s, 1, size);
        sqlite3_bind_int64(s, 2, mtime);
        sqlite3_bind_int64(s, 3, document);
        status = tq_sql_run(s, err);
    }
    if (status == TOQUE_OK) status = put_pairs(store, document, pairs, n_pairs, err);
    return finish(store, status, err);
}

/* ---- reading
 * --------------------------------------------------------------------------------------------------------- */

toque_status tq_rag_find(tq_rag *store, const char *uri, tq_source *found, bool *is_there, toque_error *err) {
    sqlite3_stmt *s;
    TQ_TRY(statement(store, FIND, &s, err));
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
    TQ_TRY(statement(store, PASSAGE, &s, err));
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
    TQ_TRY(statement(store, DOCUMENT, &s, err));
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
    TQ_TRY(statement(store, PAIRS_OF, &s, err));
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
    if (!store->statements[FREQUENCY])
        TQ_TRY(tq_sql_exec(
            store->db, "CREATE VIRTUAL TABLE IF NOT EXISTS temp.vocabulary USING fts5vocab(main, terms, row)", err));
    TQ_TRY(statement(store, FREQUENCY, &s, err));
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
