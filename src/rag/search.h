/* Searching a store: vectors, BM25 or both, fused by reciprocal ranks,
 *     score(c) = sum over stages s of w_s / (rrf_k + rank_s(c)), ranks from 1 (Cormack, Clarke & Buettcher 2009),
 * or by weights over scores that are put in [0, 1] within each list; then, if asked for, diversified by maximal
 * marginal relevance (Carbonell & Goldstein 1998): the next result is the one with the largest lambda rel(c) - (1 -
 * lambda) max over chosen d of cos(c, d), rel in [0, 1] within the list.
 *
 * A model may help (helper.h). Questions in other words are further stages of the fusion, which is then by reciprocal
 * ranks even for one kind of search; the vector of a passage that it made up is averaged with the question's. Reranked
 * passages stand in front of all others, by what the model says. */
#ifndef TQ_RAG_SEARCH_H
#define TQ_RAG_SEARCH_H

#include "rag/helper.h"
#include "rag/vectors.h"

typedef enum tq_search_mode { TQ_SEARCH_VECTOR, TQ_SEARCH_BM25, TQ_SEARCH_HYBRID } tq_search_mode;
typedef enum tq_fusion { TQ_FUSION_RRF, TQ_FUSION_WEIGHTS } tq_fusion;

typedef struct tq_search_options {
    tq_search_mode mode;
    size_t k;     /* results */
    size_t depth; /* of each stage's list; 0: the larger of 100 and 4 k */
    tq_fusion fusion;
    double rrf_k;         /* 60 */
    double vector_weight; /* 0 to 1; BM25 has the rest. 0.5 */
    double mmr;           /* lambda; 1: no diversification */
    double k1, b;         /* BM25: 1.2 and 0.75 */
    const char *language; /* of the text, or NULL: as its stop words tell, else as the documents are */
    /* "KEY=VALUE", "KEY!=VALUE", "KEY~GLOB", "KEY<VALUE", "KEY<=VALUE", "KEY>VALUE", "KEY>=VALUE", all of which must
     * hold. KEY: document, title, format, language, or one of the metadata. Numbers compare as numbers. */
    const char *const *filters;
    size_t n_filters;
    tq_expansion expand;
    bool rerank;
    size_t rerank_depth; /* so many of the best are put in order anew; 10 */
} tq_search_options;

/* The defaults above: hybrid, 5 results. */
tq_search_options tq_search_defaults(void);

typedef struct tq_hit {
    tq_passage_info passage;
    double score;
    size_t vector_rank, bm25_rank; /* from 1; 0: not in that stage's list */
    double vector_score, bm25_score;
    /* with a helper: the best rank for the question in other words, the rank and score before reranking, and the
     * reranker's, which is then `score`; 0: none */
    size_t other_rank, fused_rank, rerank_rank;
    double fused_score;
} tq_hit;

typedef struct tq_hits {
    tq_arena arena; /* owns everything */
    tq_hit *items;
    size_t n;
    tq_search_mode mode;                  /* what was done: hybrid in a store without vectors is BM25 */
    const char *expanded[TQ_EXPAND_MOST]; /* what a helper wrote */
    size_t n_expanded;
} tq_hits;

typedef struct tq_searcher {
    tq_rag *store;
    const tq_rag_embedder *embedder; /* NULL: BM25 only */
    tq_vectors vectors;              /* loaded at the first search that needs them */
    tq_search_helper *helper;        /* borrowed; NULL: expanding and reranking are refused */
} tq_searcher;

/* embedder may be NULL; it is checked against the store, and both must outlive the searcher. */
toque_status tq_searcher_init(tq_searcher *s, tq_rag *store, const tq_rag_embedder *embedder, toque_error *err) TQ_MUST;
void tq_searcher_clear(tq_searcher *s);
/* EINVAL for an option out of range, a filter on a key that no document has, or vectors where there are none. */
toque_status tq_search(tq_searcher *s, tq_hits *hits, const char *text, const tq_search_options *options,
                       toque_error *err) TQ_MUST;
void tq_hits_clear(tq_hits *hits);

/* The query's vector, [dim]. ELIMIT when the text is longer than the embedder takes. */
toque_status tq_embed_query(const tq_searcher *s, const char *text, float *out, toque_error *err) TQ_MUST;
/* The terms that a text is asked by: of its language, or of every language of the store. Appended to out. */
toque_status tq_query_terms(tq_rag *store, const char *text, const char *language, tq_buf *out,
                            toque_error *err) TQ_MUST;

/* filter.c: the documents for which all filters hold. The words are the caller's to free (tq_free). */
toque_status tq_filter(tq_rag *store, const char *const *filters, size_t n, tq_bitmap *allowed,
                       toque_error *err) TQ_MUST;

#endif
