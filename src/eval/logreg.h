/* Multinomial logistic regression, the honest baseline under a tuned model: with scores z = W x + b of the labels,
 *
 *     minimize over W, b:   sum_i -log softmax(W x_i + b)[label_i]  +  |W|^2 / (2 C)
 *
 * which is scikit-learn's LogisticRegression for three labels or more (its form for two has one vector of weights
 * instead of two: its C is twice this one). The solver is L-BFGS (Nocedal 1980) with a line search that keeps the weak
 * Wolfe conditions, in f64, on one thread, from sums in the order of the rows: the same bits on every run.
 */
#ifndef TQ_EVAL_LOGREG_H
#define TQ_EVAL_LOGREG_H

#include <stdatomic.h>

#include "eval/sparse.h"

typedef struct tq_logreg {
    tq_mem *mem;
    size_t cols, labels;
    double *weight; /* [cols + 1, labels], the biases last */
    int iterations; /* of the last fit */
    bool converged; /* its gradient fell below the tolerance */
} tq_logreg;
/* All weights zero. */
toque_status tq_logreg_init(tq_logreg *m, tq_mem *mem, size_t cols, size_t labels, toque_error *err) TQ_MUST;
void tq_logreg_clear(tq_logreg *m); /* accepts a zeroed one */

enum { TQ_LOGREG_ITERATIONS = 1000 }; /* the most that a fit takes */
/* Goes on from the weights there are, until no entry of the gradient of the mean over rows is above `tolerance`. label
 * [x->rows] is below m->labels. canceled may be NULL; ECANCELED between two iterations. */
toque_status tq_logreg_fit(tq_logreg *m, const tq_sparse *x, const uint32_t *label, double c, double tolerance,
                           const atomic_bool *canceled, toque_error *err) TQ_MUST;
/* logp [labels] of one row. */
void tq_logreg_logp(const tq_logreg *m, const tq_sparse *x, size_t row, double *logp);

#endif
