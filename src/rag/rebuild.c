/* Making a store anew. See rebuild.h. Documents keep root, hash, size and time, so that a later `rag add` finds them
 * unchanged. */
#include "rag/rebuild.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* One document's source row goes with it. */
static toque_status copy_document(tq_ingest *in, tq_rag *old, sqlite3_stmt *s, tq_ingest_counts *counts,
                                  toque_error *err) {
    tq_rag *store = in->store;
    tq_doc doc;
    tq_chunks chunks = {0};
    float *vectors = NULL;
    size_t dim = (size_t)in->embedder->dim;
    tq_doc_init(&doc, store->mem);
    toque_status status = tq_rag_document(old, sqlite3_column_int64(s, 0), true, &doc, err);
    if (status == TOQUE_OK) status = tq_chunks_make(&chunks, store->mem, &doc, in->embedder, &store->facts.chunk, err);
    if (status == TOQUE_OK && dim && !(vectors = tq_alloc(store->mem, chunks.n * dim + 1, sizeof *vectors)))
        status = TQ_NOMEM(err);
    if (status == TOQUE_OK && dim) status = tq_embed_chunks(in, &doc, &chunks, vectors, err);
    const tq_source source = {.uri = tq_sql_column(s, 1),
                              .root = tq_sql_column(s, 2),
                              .hash = tq_sql_column(s, 3),
                              .format = tq_sql_column(s, 4),
                              .language = tq_sql_column(s, 5),
                              .title = tq_sql_column(s, 6),
                              .size = sqlite3_column_int64(s, 7),
                              .mtime = sqlite3_column_int64(s, 8)};
    if (status == TOQUE_OK) status = tq_rag_put(store, &source, &doc, &chunks, vectors, NULL, 0, err);
    if (status == TOQUE_OK) {
        counts->chunks += chunks.n;
        counts->documents[TQ_CHANGED]++;
        counts->done++;
    } else {
        tq_error_prefix(err, status, "%s", source.uri);
    }
    tq_free(store->mem, vectors);
    tq_chunks_clear(&chunks);
    tq_doc_clear(&doc);
    return status;
}

static toque_status copy_all(tq_ingest *in, tq_rag *old, tq_ingest_counts *counts, toque_error *err) {
    sqlite3_stmt *s;
    int64_t n;
    TQ_TRY(tq_rag_number(old, "SELECT count(*) FROM documents", &n, err));
    counts->total = (size_t)n;
    TQ_TRY(tq_sql_prepare(old->db, &s,
                          "SELECT id, uri, root, hash, format, language, title, size, mtime FROM documents ORDER BY id",
                          err));
    toque_status status;
    for (bool row;;) {
        TQ_GO(tq_sql_step(s, &row, err));
        if (!row) break;
        TQ_GO(copy_document(in, old, s, counts, err));
        if (in->progress) in->progress(in->arg, counts);
        if (in->store->ctx->canceled) {
            status = TQ_FAIL(err, ECANCELED, "stopped; the store is as it was");
            break;
        }
    }
done:
    sqlite3_finalize(s);
    return status;
}

toque_status tq_rag_rebuild(tq_ctx *ctx, const char *path, const tq_rag_embedder *e, const tq_chunk_options *chunk,
                            void (*progress)(void *arg, const tq_ingest_counts *counts), void *arg,
                            tq_ingest_counts *counts, toque_error *err) {
    tq_rag *old = NULL, *fresh = NULL;
    tq_buf name;
    toque_status status;
    *counts = (tq_ingest_counts){0};
    tq_buf_init(&name, &ctx->mem, 1 << 16);
    tq_buf_printf(&name, "%s.new", path);
    TQ_GO(tq_buf_status(&name, "a name", err));
    TQ_GO(tq_rag_open(&old, ctx, path, true, err));
    /* Nobody may write the old one meanwhile. */
    TQ_GO(tq_sql_exec(old->db, "BEGIN IMMEDIATE", err));
    unlink(name.data);
    TQ_GO(tq_rag_create(&fresh, ctx, name.data, e, chunk, err));
    tq_ingest in = {.store = fresh, .embedder = e, .progress = progress, .arg = arg};
    status = copy_all(&in, old, counts, err);
    if (status == TOQUE_OK) status = tq_sql_exec(fresh->db, "PRAGMA wal_checkpoint(TRUNCATE)", err);
done:
    tq_rag_close(fresh);
    tq_rag_close(old); /* ends its transaction and takes its log away */
    if (status == TOQUE_OK && rename(name.data, path) != 0)
        status = TQ_FAIL(err, EIO, "cannot rename %s: %s", name.data, strerror(errno));
    if (status != TOQUE_OK && fresh) unlink(name.data);
    tq_buf_clear(&name);
    return status;
}
