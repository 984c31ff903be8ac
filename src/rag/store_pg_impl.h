/* What the files of the PostgreSQL store share. */
#ifndef TQ_RAG_STORE_PG_IMPL_H
#define TQ_RAG_STORE_PG_IMPL_H

#include "rag/pg.h"
#include "rag/store_impl.h"

/* store_pg_write.c */
toque_status tq_pg_put(tq_rag *store, const tq_source *source, const tq_doc *doc, const tq_chunks *chunks,
                       const float *vectors, const tq_doc_pair *pairs, size_t n_pairs, toque_error *err) TQ_MUST;
toque_status tq_pg_remove(tq_rag *store, int64_t document, toque_error *err) TQ_MUST;

/* store_pg_search.c */
toque_status tq_pg_words(tq_rag *store, const char *terms, tq_top *top, toque_error *err) TQ_MUST;
toque_status tq_pg_nearest(tq_rag *store, const float *query, const tq_bitmap *allowed, tq_top *top,
                           toque_error *err) TQ_MUST;
toque_status tq_pg_halves(tq_rag *store, const tq_scored *chunks, size_t n, uint16_t *out, toque_error *err) TQ_MUST;
toque_status tq_pg_settle(tq_rag *store, toque_error *err) TQ_MUST;
/* A halfvec in the server's binary form. */
void tq_pg_put_halfvec(tq_buf *out, const float *x, int64_t dim);

#endif
