/* BM25 over FTS5's postings, with Lucene's idf:
 *     score(q, d) = sum over terms t of q:  n_q(t) idf(t) tf / (tf + k1 (1 - b + b dl / avgdl)),
 *     idf(t) = ln(1 + (N - df + 1/2) / (df + 1/2))
 * N chunks, df of them with t, tf times in d, dl terms in d, avgdl their mean, n_q(t) times in the query. FTS5's own
 * ranking has fixed k1 and b and drops terms that stand in half of the rows. */
#ifndef TQ_RAG_BM25_H
#define TQ_RAG_BM25_H

#include "base/buf.h"
#include "rag/sql.h"
#include "rag/top.h"

/* What the ranking function asks while a query runs; one for a connection. */
typedef struct tq_bm25 {
    double k1, b;
    const tq_bitmap *allowed; /* documents, or NULL: all */
    /* of the query's n different terms, while it runs: [n] */
    double *times, *idf;
    int n;
    /* idf and this are found out at the query's first row */
    bool ready;
    double mean_length;
} tq_bm25;

/* Makes SQL's tq_bm25(terms) known to the connection. bm25 must outlive db. */
toque_status tq_bm25_register(sqlite3 *db, tq_bm25 *bm25, toque_error *err) TQ_MUST;

/* The best chunks for terms (as tq_terms wrote them: each with a blank behind), however many, into top. */
toque_status tq_bm25_search(sqlite3 *db, tq_bm25 *bm25, tq_mem *mem, const char *terms, tq_top *top,
                            toque_error *err) TQ_MUST;

#endif
