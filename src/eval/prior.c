/* The prior of labels. See prior.h. */
#include "eval/prior.h"

#include <math.h>

#include "eval/labels.h"

toque_status tq_prior_init(tq_prior *prior, tq_mem *mem, size_t n_labels, toque_error *err) {
    *prior = (tq_prior){.mem = mem, .n = n_labels};
    prior->said = TQ_NEW_ARRAY(mem, double, n_labels);
    prior->true_rows = TQ_NEW_ARRAY(mem, double, n_labels);
    if (prior->said && prior->true_rows) return TOQUE_OK;
    tq_prior_clear(prior);
    return TQ_NOMEM(err);
}

void tq_prior_clear(tq_prior *prior) {
    if (!prior->mem) return;
    tq_free(prior->mem, prior->said);
    tq_free(prior->mem, prior->true_rows);
    *prior = (tq_prior){0};
}

void tq_prior_add(tq_prior *prior, const double *logp, size_t truth) {
    double share;
    size_t best = tq_labels_best(logp, prior->n, &share);
    for (size_t i = 0; i < prior->n; i++) prior->said[i] += share * exp(logp[i] - logp[best]);
    prior->true_rows[truth] += 1;
    prior->rows++;
}

void tq_prior_correct(const tq_prior *prior, double *logp) {
    for (size_t i = 0; i < prior->n; i++) logp[i] += log(prior->true_rows[i] + 0.5) - log(prior->said[i] + 0.5);
}
