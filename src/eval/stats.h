/* Statistics of counts: how sure a measured share is, and whether two answers to the same rows differ. */
#ifndef TQ_EVAL_STATS_H
#define TQ_EVAL_STATS_H

#include <stddef.h>
#include <stdint.h>

/* The 95 % interval of a share k / n (Wilson 1927). n = 0: 0 to 1. */
void tq_wilson(size_t k, size_t n, double *low, double *high);
/* Two answers to the same rows, of which `a` are right only in the first and `b` only in the second: the two-sided
 * probability of a split at least as uneven when both are equally good (McNemar's test, exact binomial). */
double tq_mcnemar(size_t a, size_t b);
/* Two measures of the same n rows: the two-sided probability that the means differ at least so much when the two
 * columns of each row could as well be swapped (Fisher's randomization test; 10,000 swaps drawn from seed, of which the
 * given order counts as one). n = 0, or no difference: 1. */
double tq_randomization(const double *a, const double *b, size_t n, uint64_t seed);

#endif
