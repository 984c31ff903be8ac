/* How well vectors find: each query against all passages that there are, by cosine. The rank of a query's own passage
 * is one more than the number of other passages that are nearer; passages that are the same count once. */
#ifndef TQ_RUNS_RANKING_H
#define TQ_RUNS_RANKING_H

#include <jansson.h>

#include "base/buf.h"
#include "kernels/context.h"

typedef struct tq_ranking {
    size_t n, candidates; /* queries, and different passages */
    size_t first, ten;    /* queries whose own passage has rank 1, and at most 10 */
    double reciprocal;    /* the sum of 1 / rank */
} tq_ranking;

/* v [n, C] of length 1; part [n]: 0 a query, 1 its passage, which follows it, then others; id [n] equal for equal
 * texts.
 */
toque_status tq_ranking_make(tq_ranking *r, tq_ctx *ctx, int C, size_t n, const float *v, const int *part,
                             const uint64_t *id, toque_error *err) TQ_MUST;
/* recall_at_1, recall_at_10, mrr; NULL without memory. */
json_t *tq_ranking_json(const tq_ranking *r);
void tq_ranking_print(const tq_ranking *r, tq_buf *out); /* one line */

#endif
