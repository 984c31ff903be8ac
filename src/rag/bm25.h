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

enum { TQ_BM25_MAX_TERMS = 64 }; /* different terms of a query; more are refused */

/* What the ranking function asks while a query runs; one for a connection. */
typedef struct tq_bm25 {
    double k1, b;
    const tq_bitmap *allowed; /* documents, or NULL: all */
    double times[TQ_BM25_MAX_TERMS];
    /* found out at a query's first row */
    bool ready;
    double idf[TQ_BM25_MAX_TERMS], mean_length;
} tq_bm25;

/* The different terms of a query (as tq_terms wrote them: each with a blank behind), into list (room for
 * TQ_BM25_MAX_TERMS), and how often each stands there into bm25->times. ELIMIT over as many different ones. */
typedef struct tq_bm25_term {
    const char *text; /* into the query */
    size_t len;
} tq_bm25_term;
toque_status tq_bm25_terms(tq_bm25 *bm25, const char *terms, tq_bm25_term *list, int *n, toque_error *err) TQ_MUST;
double tq_bm25_idf(double chunks, double with_term);

/* Makes SQL's tq_bm25(terms) known to the connection. bm25 must outlive db. */
toque_status tq_bm25_register(sqlite3 *db, tq_bm25 *bm25, toque_error *err) TQ_MUST;

/* The best chunks for terms into top. */
toque_status tq_bm25_search(sqlite3 *db, tq_bm25 *bm25, tq_mem *mem, const char *terms, tq_top *top,
                            toque_error *err) TQ_MUST;

#endif
