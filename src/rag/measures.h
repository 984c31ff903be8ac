/* How good a ranking and an answer are. Rankings as trec_eval 9 measures them: recall at k is the share of all relevant
 * documents in the first k, the reciprocal rank looks at the whole list, and
 *     nDCG@k = DCG@k / ideal DCG@k,   DCG@k = sum over ranks r <= k of gain(r) / log2(r + 1).
 * Answers as SQuAD compares them (Rajpurkar et al. 2016): without case, punctuation and English articles. */
#ifndef TQ_RAG_MEASURES_H
#define TQ_RAG_MEASURES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/mem.h"

/* gains: [n], of the ranked documents, best rank first; 0: not relevant. relevant: how many documents are. */
double tq_recall_at(const double *gains, size_t n, size_t k, size_t relevant);
double tq_reciprocal_rank(const double *gains, size_t n);
/* ideal: [n_ideal], the gains of all relevant documents, largest first. 0 where there are none. */
double tq_ndcg_at(const double *gains, size_t n, const double *ideal, size_t n_ideal, size_t k);

typedef struct tq_overlap {
    bool exact; /* the same words */
    bool holds; /* the wanted words stand in the given answer, one behind the other */
    double f1;  /* of words, each counted as often as it stands in both */
} tq_overlap;
/* EINVAL when the wanted answer has no words. */
toque_status tq_answer_overlap(tq_mem *mem, const char *given, const char *wanted, tq_overlap *o,
                               toque_error *err) TQ_MUST;

/* Where `words` stand in text [n], whatever white space is between them in either: bytes [start, end). */
bool tq_find_words(const char *text, size_t n, const char *words, size_t *start, size_t *end);

/* The cut between high scores (own [n], ascending) and low ones (other [m], ascending; both at least 1) with the
 * largest sum of both rates of being right, and the area under the curve. */
double tq_best_cut(const double *own, size_t n, const double *other, size_t m, double *auc);
/* qsort's order of ascending doubles. */
int tq_ascending(const void *a, const void *b);

#endif
