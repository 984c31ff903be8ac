/* Making a store anew. See rebuild.h. Documents keep root, hash, size and time, so that a later `rag add` finds them
 * unchanged. */
#include "rag/rebuild.h"

typedef struct copying {
    const tq_ingest *in;
    tq_rag *old;
    tq_ingest_counts *counts;
} copying;

/* One document's source row goes with it. */
static toque_status copy_document(void *arg, const tq_row *row, toque_error *err) {
    const copying *c = arg;
    const tq_ingest *in = c->in;
    tq_ingest_counts *counts = c->counts;
    tq_rag *store = in->store;
    tq_doc doc;
    tq_chunks chunks = {0};
    float *vectors = NULL;
    size_t dim = (size_t)in->embedder->dim;
    tq_doc_init(&doc, store->mem);
    toque_status status = tq_rag_document(c->old, tq_row_number(row, 0), true, &doc, err);
    if (status == TOQUE_OK) status = tq_chunks_make(&chunks, store->mem, &doc, in->embedder, &store->facts.chunk, err);
    if (status == TOQUE_OK && dim && !(vectors = tq_alloc(store->mem, chunks.n * dim + 1, sizeof *vectors)))
        status = TQ_NOMEM(err);
    if (status == TOQUE_OK && dim) status = tq_embed_chunks(in, &doc, &chunks, vectors, err);
    const tq_source source = {.uri = row->text[1],
                              .root = row->text[2],
                              .hash = row->text[3],
                              .format = row->text[4],
                              .language = row->text[5],
                              .title = row->text[6],
                              .size = tq_row_number(row, 7),
                              .mtime = tq_row_number(row, 8)};
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
    if (status == TOQUE_OK && in->progress) in->progress(in->arg, counts);
    if (status == TOQUE_OK && store->ctx->canceled) status = TQ_FAIL(err, ECANCELED, "stopped; the store is as it was");
    return status;
}

static toque_status copy_all(const tq_ingest *in, tq_rag *old, tq_ingest_counts *counts, toque_error *err) {
    int64_t n;
    copying c = {in, old, counts};
    TQ_TRY(tq_rag_number(old, "SELECT count(*) FROM documents", &n, err));
    counts->total = (size_t)n;
    return tq_rag_run(old,
                      "SELECT id, uri, root, hash, format, language, title, size, mtime FROM documents ORDER BY id",
                      NULL, 0, copy_document, &c, err);
}

toque_status tq_rag_rebuild(tq_ctx *ctx, const char *path, const tq_rag_embedder *e, const tq_chunk_options *chunk,
                            void (*progress)(void *arg, const tq_ingest_counts *counts), void *arg,
                            tq_ingest_counts *counts, toque_error *err) {
    tq_rag *old, *fresh;
    *counts = (tq_ingest_counts){0};
    TQ_TRY(tq_rag_open(&old, ctx, path, true, err));
    toque_status status = tq_rag_create_beside(&fresh, old, e, chunk, err);
    const tq_ingest in = {.store = fresh, .embedder = e, .progress = progress, .arg = arg};
    if (status == TOQUE_OK) status = copy_all(&in, old, counts, err);
    if (status == TOQUE_OK) status = tq_rag_settle(fresh, err);
    if (status == TOQUE_OK) return tq_rag_replace(old, fresh, err);
    tq_rag_give_up(old, fresh);
    return status;
}
