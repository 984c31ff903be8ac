/* What the files of the store share. */
#ifndef TQ_RAG_STORE_IMPL_H
#define TQ_RAG_STORE_IMPL_H

#include "rag/store.h"

/* A store without a database yet, and its end. */
toque_status tq_store_new(tq_rag **store, tq_ctx *ctx, const char *path, const tq_store_ops *ops,
                          toque_error *err) TQ_MUST;
void tq_store_free(tq_rag *store);
toque_status tq_store_damaged(const tq_rag *store, const char *what, toque_error *err);

/* Facts, as rows of key and value: those of a new store; and those that are there into store->facts, checked. */
toque_status tq_facts_write(tq_rag *store, const tq_rag_embedder *e, const tq_chunk_options *chunk,
                            toque_error *err) TQ_MUST;
toque_status tq_facts_read(tq_rag *store, toque_error *err) TQ_MUST;

/* A document's blocks as store_schema.c describes them. */
void tq_blocks_write(tq_buf *out, const tq_doc *doc);

/* SQLite (store_sqlite.c, store_write.c). A statement, prepared at its first use and reset; the store's. */
toque_status tq_sqlite_statement(tq_rag *store, const char *sql, sqlite3_stmt **s, toque_error *err) TQ_MUST;
toque_status tq_sqlite_open(tq_rag **store, tq_ctx *ctx, const char *path, bool write, toque_error *err) TQ_MUST;
toque_status tq_sqlite_create(tq_rag **store, tq_ctx *ctx, const char *path, const tq_rag_embedder *e,
                              const tq_chunk_options *chunk, toque_error *err) TQ_MUST;
toque_status tq_sqlite_put(tq_rag *store, const tq_source *source, const tq_doc *doc, const tq_chunks *chunks,
                           const float *vectors, const tq_doc_pair *pairs, size_t n_pairs, toque_error *err) TQ_MUST;
toque_status tq_sqlite_remove(tq_rag *store, int64_t document, toque_error *err) TQ_MUST;

/* PostgreSQL (store_pg.c). */
bool tq_is_pg(const char *path); /* a URL of it */
toque_status tq_pg_open(tq_rag **store, tq_ctx *ctx, const char *url, toque_error *err) TQ_MUST;
toque_status tq_pg_create(tq_rag **store, tq_ctx *ctx, const char *url, const tq_rag_embedder *e,
                          const tq_chunk_options *chunk, toque_error *err) TQ_MUST;

#endif
