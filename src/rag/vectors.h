/* A store's vectors in memory, and their exact search: all bytes are scanned, and the best candidates are scored again
 * in f32 from the f16 copies in the file. 390 bytes a chunk at 384 dimensions. */
#ifndef TQ_RAG_VECTORS_H
#define TQ_RAG_VECTORS_H

#include "rag/store.h"

typedef struct tq_vectors {
    tq_rag *store;
    int64_t dim, width; /* width: dim up to a multiple of 32, filled with 0 */
    size_t n;           /* vectors */
    int8_t *bytes;      /* [n, width] */
    float *scales;      /* [n] */
    size_t documents;   /* that have vectors */
    int64_t *ids;       /* [documents], ascending */
    size_t *first;      /* [documents + 1] number of a document's first vector */
} tq_vectors;

/* Reads them all; v stays valid as long as the store is not written. */
toque_status tq_vectors_load(tq_vectors *v, tq_rag *store, toque_error *err) TQ_MUST;
void tq_vectors_clear(tq_vectors *v);
/* The chunks nearest to query (f32 [dim], length 1) by cosine, of documents in `allowed` (NULL: all), best first into
 * top, whose items are to be scored exactly. At most top->k. */
toque_status tq_vectors_search(const tq_vectors *v, const float *query, const tq_bitmap *allowed, tq_top *top,
                               toque_error *err) TQ_MUST;

#endif
