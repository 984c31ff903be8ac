/* Documents into an SQLite store and out of it again. See store.h. */
#include <math.h>
#include <string.h>

#include "kernels/half.h"
#include "rag/store_impl.h"

static const char insert_document[] =
    "INSERT INTO documents(uri, root, hash, size, mtime, format, title, language, chunks, blocks, text)"
    " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
static const char insert_pair[] = "INSERT OR REPLACE INTO metadata VALUES(?, ?, ?)";
static const char insert_chunk[] = "INSERT INTO chunks VALUES(?, ?, ?, ?, ?, ?, ?, ?)";
static const char insert_vectors[] = "INSERT INTO vectors VALUES(?, ?, ?, ?)";
static const char insert_terms[] = "INSERT INTO terms(rowid, passage) VALUES(?, ?)";
static const char delete_terms[] = "INSERT INTO terms(terms, rowid, passage) VALUES('delete', ?, ?)";
static const char delete_document[] = "DELETE FROM documents WHERE id = ?";
static const char chunks_of[] = "SELECT ordinal, start, end, heading FROM chunks WHERE document = ?";
static const char text_of[] = "SELECT language, text FROM documents WHERE id = ?";

/* The index entries of a chunk's passage, put in or taken out. */
static toque_status index_passage(tq_rag *store, const char *sql, tq_analyzer *a, int64_t chunk, const char *heading,
                                  const char *text, size_t n, tq_buf *passage, tq_buf *terms, toque_error *err) {
    sqlite3_stmt *s;
    tq_buf_reset(passage);
    tq_buf_reset(terms);
    if (!tq_passage(passage, heading, text, n)) return tq_buf_status(passage, "a passage", err);
    TQ_TRY(tq_terms(a, passage->data, passage->len, terms, NULL, err));
    TQ_TRY(tq_sqlite_statement(store, sql, &s, err));
    sqlite3_bind_int64(s, 1, chunk);
    sqlite3_bind_text(s, 2, terms->data, (int)terms->len, SQLITE_STATIC);
    return tq_sql_run(s, err);
}

/* Takes a document out, inside a transaction. Its terms have to be told to the index as they were put in. */
static toque_status take_out(tq_rag *store, int64_t document, toque_error *err) {
    sqlite3_stmt *text = NULL, *chunks = NULL, *s;
    bool row;
    toque_status status;
    tq_buf passage, terms;
    tq_analyzer *a;
    tq_buf_init(&passage, store->mem, SIZE_MAX / 4);
    tq_buf_init(&terms, store->mem, SIZE_MAX / 4);
    TQ_GO(tq_sqlite_statement(store, text_of, &text, err));
    sqlite3_bind_int64(text, 1, document);
    TQ_GO(tq_sql_step(text, &row, err));
    if (!row) goto done;
    TQ_GO(tq_rag_analyzer(store, tq_sql_column(text, 0), &a, err));
    const char *data = sqlite3_column_blob(text, 1);
    int64_t size = sqlite3_column_bytes(text, 1);
    TQ_GO(tq_sqlite_statement(store, chunks_of, &chunks, err));
    sqlite3_bind_int64(chunks, 1, document);
    for (;;) {
        TQ_GO(tq_sql_step(chunks, &row, err));
        if (!row) break;
        int64_t from = sqlite3_column_int64(chunks, 1), to = sqlite3_column_int64(chunks, 2);
        if (from < 0 || to < from || to > size) {
            status = TQ_FAIL(err, EFORMAT, "%s is damaged (a chunk lies outside its document)", store->path);
            goto done;
        }
        TQ_GO(index_passage(store, delete_terms, a, tq_chunk_id(document, sqlite3_column_int64(chunks, 0)),
                            tq_sql_column(chunks, 3), data + from, (size_t)(to - from), &passage, &terms, err));
    }
    sqlite3_reset(text);
    TQ_GO(tq_sqlite_statement(store, delete_document, &s, err));
    sqlite3_bind_int64(s, 1, document);
    TQ_GO(tq_sql_run(s, err));
done:
    sqlite3_reset(text);
    sqlite3_reset(chunks);
    tq_buf_clear(&passage);
    tq_buf_clear(&terms);
    return status;
}

static toque_status put_pairs(tq_rag *store, int64_t document, const tq_doc_pair *pairs, size_t n, toque_error *err) {
    for (size_t i = 0; i < n; i++) {
        sqlite3_stmt *s;
        TQ_TRY(tq_sqlite_statement(store, insert_pair, &s, err));
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
    TQ_GO(tq_sqlite_statement(store, insert_vectors, &s, err));
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

static toque_status put_document(tq_rag *store, const tq_source *src, const tq_doc *doc, size_t n_chunks,
                                 toque_error *err) {
    tq_buf blocks;
    tq_buf_init(&blocks, store->mem, SIZE_MAX / 4);
    tq_blocks_write(&blocks, doc);
    sqlite3_stmt *s;
    toque_status status = tq_buf_status(&blocks, "blocks", err);
    if (status == TOQUE_OK) status = tq_sqlite_statement(store, insert_document, &s, err);
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
        TQ_GO(tq_sqlite_statement(store, insert_chunk, &s, err));
        const int64_t numbers[7] = {document, (int64_t)i, c->start, c->end, c->context_start, c->context_end, c->page};
        for (int j = 0; j < 7; j++) sqlite3_bind_int64(s, j + 1, numbers[j]);
        tq_sql_text(s, 8, heading);
        TQ_GO(tq_sql_run(s, err));
        TQ_GO(index_passage(store, insert_terms, a, id, heading, doc->text.data + c->start, c->end - c->start, &passage,
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

toque_status tq_sqlite_put(tq_rag *store, const tq_source *src, const tq_doc *doc, const tq_chunks *chunks,
                           const float *vectors, const tq_doc_pair *pairs, size_t n_pairs, toque_error *err) {
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

toque_status tq_sqlite_remove(tq_rag *store, int64_t document, toque_error *err) {
    TQ_TRY(tq_sql_exec(store->db, "BEGIN IMMEDIATE", err));
    return finish(store, take_out(store, document, err), err);
}
