/* In place of PostgreSQL in a build without libpq. */
#include "rag/ingest.h"
#include "rag/store_impl.h"

static toque_status missing(toque_error *err) {
    return TQ_FAIL(err, EUNSUPPORTED,
                   "this toque was built without PostgreSQL: install libpq-dev and build it again, or use a store in a "
                   "file");
}

toque_status tq_pg_open(tq_rag **store, tq_ctx *ctx, const char *url, toque_error *err) {
    (void)ctx, (void)url;
    *store = NULL;
    return missing(err);
}

toque_status tq_pg_create(tq_rag **store, tq_ctx *ctx, const char *url, const tq_rag_embedder *e,
                          const tq_chunk_options *chunk, toque_error *err) {
    (void)ctx, (void)url, (void)e, (void)chunk;
    *store = NULL;
    return missing(err);
}

toque_status tq_ingest_pg(const tq_ingest *in, const char *url, const char *sql, const char *key,
                          tq_ingest_counts *counts, toque_error *err) {
    (void)in, (void)url, (void)sql, (void)key, (void)counts;
    return missing(err);
}
