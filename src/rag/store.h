/* The store: one SQLite file with documents (their extracted text included), chunks, vectors and the inverted index.
 * It remembers how it was made (embedder, chunking) and takes nothing that was made otherwise. A document is written
 * in one transaction: a crash leaves whole documents, and the next `rag add` goes on. Several processes may read while
 * one writes; a second writer waits. For one thread. Layout and versions: store_schema.c, docs/rag.md. */
#ifndef TQ_RAG_STORE_H
#define TQ_RAG_STORE_H

#include "kernels/context.h"
#include "rag/bm25.h"
#include "rag/chunk.h"
#include "rag/sql.h"
#include "rag/terms.h"

enum { TQ_RAG_VERSION = 1 }; /* of the layout; a higher one is refused */

/* What the store was made with, and what it learned. */
typedef struct tq_rag_facts {
    char *embedder, *hash, *pooling, *query_prefix, *passage_prefix;
    int64_t dim, max_tokens;
    tq_chunk_options chunk;
    bool calibrated; /* threshold holds */
    double threshold, auc;
    int64_t pairs; /* of headings and passages that the threshold was found with */
    /* How an evaluation found a model's written answers beside quotations; writer "" (never NULL): none did. */
    const char *writer; /* tq_writer_id */
    double quote_score, write_score, write_p;
    int64_t write_questions;
} tq_rag_facts;

typedef struct tq_rag {
    tq_ctx *ctx;
    tq_mem *mem;
    char *path;
    sqlite3 *db;
    tq_arena arena; /* the facts' strings */
    tq_rag_facts facts;
    tq_bm25 bm25;
    sqlite3_stmt *statements[24]; /* by number in store.c */
    struct {
        char language[8];
        tq_analyzer *analyzer;
    } analyzers[16];
    int n_analyzers;
} tq_rag;

/* Opens the store at path; ENOTFOUND if there is none. A file of a newer layout, and one that is no store, is refused.
 * write: adding is meant. */
toque_status tq_rag_open(tq_rag **store, tq_ctx *ctx, const char *path, bool write, toque_error *err) TQ_MUST;
/* Makes an empty store at path, where nothing may be: whole or not at all. When another process makes one at the same
 * moment, that one is opened, if its embedder is the same. */
toque_status tq_rag_create(tq_rag **store, tq_ctx *ctx, const char *path, const tq_rag_embedder *e,
                           const tq_chunk_options *chunk, toque_error *err) TQ_MUST;
void tq_rag_close(tq_rag *store);
/* EINVAL when the store was made with another embedder, with the command that makes it anew. */
toque_status tq_rag_check(const tq_rag *store, const tq_rag_embedder *e, toque_error *err) TQ_MUST;

/* ---- documents --------------------------------------------------------------------------------------------------- */

/* What the store keeps of a source beside its text. Times in nanoseconds since 1970, 0: unknown. */
typedef struct tq_source {
    int64_t id; /* of the document */
    const char *uri, *root, *hash, *format, *title, *language;
    int64_t size, mtime;
} tq_source;

/* The document with this uri: its id, hash, size, mtime and root (in the store's memory until the next call);
 * *found false when there is none. */
toque_status tq_rag_find(tq_rag *store, const char *uri, tq_source *found, bool *is_there, toque_error *err) TQ_MUST;
/* Puts a document in place of the one with its uri. vectors: f32 [chunks, dim], NULL in a store without. pairs: the
 * user's metadata, which override the document's own. source->id is ignored. One transaction. */
toque_status tq_rag_put(tq_rag *store, const tq_source *source, const tq_doc *doc, const tq_chunks *chunks,
                        const float *vectors, const tq_doc_pair *pairs, size_t n_pairs, toque_error *err) TQ_MUST;
toque_status tq_rag_remove(tq_rag *store, int64_t document, toque_error *err) TQ_MUST;
/* The same content at another time: remembers size and mtime; sets pairs, if any. */
toque_status tq_rag_touch(tq_rag *store, int64_t document, int64_t size, int64_t mtime, const tq_doc_pair *pairs,
                          size_t n_pairs, toque_error *err) TQ_MUST;
toque_status tq_rag_remember_threshold(tq_rag *store, double threshold, double auc, int64_t pairs,
                                       toque_error *err) TQ_MUST;
toque_status tq_rag_remember_writing(tq_rag *store, const char *writer, double quote, double write, double p,
                                     int64_t questions, toque_error *err) TQ_MUST;
toque_status tq_rag_forget_threshold(tq_rag *store, toque_error *err) TQ_MUST;

/* ---- reading ----------------------------------------------------------------------------------------------------- */

/* A chunk with its document. Strings belong to `arena`. */
typedef struct tq_passage_info {
    int64_t chunk, document, ordinal;
    const char *uri, *title, *heading, *language;
    int64_t start, end, context_start, context_end;
    int page;
    const char *text, *context; /* text[start, end) and [context_start, context_end) of the document */
    size_t text_len, context_len;
} tq_passage_info;
toque_status tq_rag_passage(tq_rag *store, int64_t chunk, tq_arena *arena, tq_passage_info *info,
                            toque_error *err) TQ_MUST;
/* A document's text and blocks, as the parser left them, into doc (initialized, empty); its title and, with `pairs`,
 * its metadata too. */
toque_status tq_rag_document(tq_rag *store, int64_t document, bool pairs, tq_doc *doc, toque_error *err) TQ_MUST;
/* How many chunks have the term (as tq_terms writes it). */
toque_status tq_rag_frequency(tq_rag *store, const char *term, size_t n, int64_t *chunks, toque_error *err) TQ_MUST;
/* The f16 copies of the vectors of n chunks, [n, dim]. */
toque_status tq_rag_halves(tq_rag *store, const tq_scored *chunks, size_t n, uint16_t *out, toque_error *err) TQ_MUST;
/* The analyzer of a language; the store's. */
toque_status tq_rag_analyzer(tq_rag *store, const char *language, tq_analyzer **a, toque_error *err) TQ_MUST;

/* One number: SELECT that gives an integer. */
toque_status tq_rag_number(tq_rag *store, const char *sql, int64_t *n, toque_error *err) TQ_MUST;

/* Documents in order of their uri. Strings until the next call of the visitor; stop by returning an error. */
typedef struct tq_listed {
    int64_t id, chunks, size, mtime, bytes; /* bytes: of the extracted text */
    const char *uri, *title, *format, *language, *root;
} tq_listed;
typedef toque_status tq_list_fn(void *arg, const tq_listed *document, toque_error *err);
toque_status tq_rag_list(tq_rag *store, tq_list_fn *visit, void *arg, toque_error *err) TQ_MUST;

/* ---- for store_schema.c and rebuild.c ------------------------------------------------------------------------------
 */
toque_status tq_schema_create(tq_rag *store, const tq_rag_embedder *e, const tq_chunk_options *chunk,
                              toque_error *err) TQ_MUST;
/* Checks application id and layout, migrates an older one, reads the facts. */
toque_status tq_schema_load(tq_rag *store, bool write, toque_error *err) TQ_MUST;

#endif
