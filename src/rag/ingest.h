/* Adding documents: files, folders, addresses, standard input and tables of SQLite. What has not changed (size and
 * time, else the hash of the content) costs nothing; what has changed takes the place of the old; what is gone from a
 * folder leaves the store. A source that cannot be read is reported, and the others go on; each document is its own
 * transaction, so that an interrupted run goes on where it stopped. */
#ifndef TQ_RAG_INGEST_H
#define TQ_RAG_INGEST_H

#include "rag/format.h"
#include "rag/store.h"

typedef enum tq_outcome {
    TQ_ADDED,
    TQ_CHANGED,
    TQ_UNCHANGED,
    TQ_REMOVED,
    TQ_SKIPPED, /* a file in a folder that is of no known format */
    TQ_FAILED,
    TQ_OUTCOMES
} tq_outcome;

typedef struct tq_ingest_counts {
    size_t documents[TQ_OUTCOMES];
    size_t chunks;      /* written */
    uint64_t bytes;     /* of sources that were read */
    size_t done, total; /* sources looked at, and known of so far */
} tq_ingest_counts;

typedef struct tq_ingest {
    tq_rag *store;
    const tq_rag_embedder *embedder;             /* that the store was made with */
    const char *const *include, *const *exclude; /* glob patterns over a file's path in its folder, or its name alone */
    size_t n_include, n_exclude;
    const tq_doc_pair *pairs; /* put to every document */
    size_t n_pairs;
    const char *language;    /* of all documents, or NULL: detected for each */
    const tq_format *format; /* or NULL: told by each file */
    /* Called for each document; message: what failed, else NULL. */
    void (*report)(void *arg, const char *uri, tq_outcome outcome, const char *message);
    /* Called often. */
    void (*progress)(void *arg, const tq_ingest_counts *counts);
    void *arg;
} tq_ingest;

/* A path, an http(s) address (libcurl must be initialized), or "-", whose document is called `name` (NULL:
 * "standard input"). ENOTFOUND when it is not there; ECANCELED when ctx->canceled was set: what was done is kept. */
toque_status tq_ingest_path(const tq_ingest *in, const char *path, const char *name, tq_ingest_counts *counts,
                            toque_error *err) TQ_MUST;
/* The rows of a SELECT over an SQLite file or a PostgreSQL database (postgresql://...), each a document "path#key": key
 * is the column that names a row (NULL: the first); a column `title` is the title, the others are text. */
toque_status tq_ingest_sql(const tq_ingest *in, const char *path, const char *sql, const char *key,
                           tq_ingest_counts *counts, toque_error *err) TQ_MUST;

/* The vectors of one document's chunks, f32 [chunks, dim]. */
toque_status tq_embed_chunks(const tq_ingest *in, const tq_doc *doc, const tq_chunks *chunks, float *out,
                             toque_error *err) TQ_MUST;

/* ---- between the files of ingest -----------------------------------------------------------------------------------
 */

typedef struct tq_pending tq_pending;
typedef struct tq_ingester {
    const tq_ingest *in;
    tq_ingest_counts *counts;
    toque_error *err;
    const char *root;
    char tag[64];        /* what the user says of format and language, behind each hash */
    tq_pending *waiting; /* parsed and cut, not embedded yet */
    size_t n_waiting, cap_waiting, waiting_chunks, waiting_bytes;
} tq_ingester;

toque_status tq_ingester_init(tq_ingester *g, const tq_ingest *in, const char *root, tq_ingest_counts *counts,
                              toque_error *err) TQ_MUST;
/* Embeds and writes what waits, then removes the root's documents that were not offered; frees in any case. */
toque_status tq_ingester_finish(tq_ingester *g, toque_status status) TQ_MUST;
/* True in *same when the store has uri with this size and time: nothing to do. */
toque_status tq_ingester_is_same(tq_ingester *g, const char *uri, int64_t size, int64_t mtime, bool *same) TQ_MUST;
/* A document as bytes. Failures of the source are reported, not returned. */
toque_status tq_ingester_offer(tq_ingester *g, const char *uri, const char *name, const char *data, size_t n,
                               int64_t size, int64_t mtime, bool skip_unknown) TQ_MUST;
/* A document that is parsed already; hash is of its content. doc is taken over. */
toque_status tq_ingester_take(tq_ingester *g, const char *uri, const char hash[65], const char *format, int64_t size,
                              int64_t mtime, tq_doc *doc) TQ_MUST;
/* *same: the store has uri with this hash. Its size and time are brought up to date. */
toque_status tq_ingester_has(tq_ingester *g, const char *uri, const char hash[65], int64_t size, int64_t mtime,
                             bool *same) TQ_MUST;
/* A row of a table as a document "path#key"; values: texts, NULL for SQL's. */
typedef struct tq_sql_row {
    const char *const *names, *const *values;
    int n;
} tq_sql_row;
toque_status tq_ingester_row(tq_ingester *g, const tq_sql_row *row, int key, const char *path,
                             const char *format) TQ_MUST;
/* The column of this name (NULL: the first), of n of which one at least is left for text. */
toque_status tq_sql_key(const char *const *names, int n, const char *key, int *column, toque_error *err) TQ_MUST;
toque_status tq_ingest_pg(const tq_ingest *in, const char *url, const char *sql, const char *key,
                          tq_ingest_counts *counts, toque_error *err) TQ_MUST;
void tq_ingester_failed(tq_ingester *g, const char *uri, tq_outcome outcome, const char *message);

#endif
