/* The prior of labels: a model that answers by likelihood favours some labels whatever it is asked. On rows with known
 * answers, apart from those that are measured, its mean share of every label is set beside how often the label is
 * right; what it then says of another row is divided by the one and multiplied with the other (Bayes' rule; Saerens et
 * al. 2002).
 */
#ifndef TQ_EVAL_PRIOR_H
#define TQ_EVAL_PRIOR_H

#include "base/error.h"
#include "base/mem.h"

typedef struct tq_prior {
    tq_mem *mem;
    size_t n, rows;
    double *said, *true_rows; /* [n] sum of the model's shares; rows of which the label is the answer */
} tq_prior;
toque_status tq_prior_init(tq_prior *prior, tq_mem *mem, size_t n_labels, toque_error *err) TQ_MUST;
void tq_prior_clear(tq_prior *prior);
/* logp [n]: of each label as the answer to a row whose answer is label number `truth`. */
void tq_prior_add(tq_prior *prior, const double *logp, size_t truth);
/* Changes logp [n] of another row. Half a row is added to both counts of every label, so that one that never came up
 * stays finite; without rows nothing changes. */
void tq_prior_correct(const tq_prior *prior, double *logp);

#endif
