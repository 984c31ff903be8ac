/* Making a store anew from the texts that it keeps, with another embedder or other chunks. */
#ifndef TQ_RAG_REBUILD_H
#define TQ_RAG_REBUILD_H

#include "rag/ingest.h"

/* Writes the new store beside the old one and puts it in its place at the end: until then, and after a failure, the old
 * one stands as it was. progress may be NULL. The store must not be open. */
toque_status tq_rag_rebuild(tq_ctx *ctx, const char *path, const tq_rag_embedder *e, const tq_chunk_options *chunk,
                            void (*progress)(void *arg, const tq_ingest_counts *counts), void *arg,
                            tq_ingest_counts *counts, toque_error *err) TQ_MUST;

#endif
