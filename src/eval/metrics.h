/* Metrics of answers to rows of known labels. */
#ifndef TQ_EVAL_METRICS_H
#define TQ_EVAL_METRICS_H

#include "base/error.h"
#include "base/mem.h"

/* Macro-F1: the mean of F1 = 2 tp / (2 tp + fp + fn) over the labels below n_labels that are a truth or an answer, as
 * scikit-learn's f1_score(average="macro") takes it. truth and answer [n]; numbers from n_labels on count as labels of
 * nobody: such an answer is wrong, such a truth is missed. NAN without rows. */
toque_status tq_macro_f1(tq_mem *mem, const uint32_t *truth, const uint32_t *answer, size_t n, size_t n_labels,
                         double *f1, toque_error *err) TQ_MUST;

#endif
