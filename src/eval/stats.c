/* Statistics of counts. See stats.h. */
#include "eval/stats.h"

#include <math.h>

#include "base/rng.h"

void tq_wilson(size_t k, size_t n, double *low, double *high) {
    const double z = 1.959963984540054;
    *low = 0, *high = 1;
    if (n == 0) return;
    double p = (double)k / (double)n, m = (double)n;
    double center = (p + z * z / (2 * m)) / (1 + z * z / m);
    double half = z / (1 + z * z / m) * sqrt(p * (1 - p) / m + z * z / (4 * m * m));
    *low = k == 0 ? 0 : center - half;
    *high = k == n ? 1 : center + half;
}

double tq_mcnemar(size_t a, size_t b) {
    size_t n = a + b, least = a < b ? a : b;
    double sum = 0;
    for (size_t i = 0; i <= least; i++)
        sum += exp(lgamma((double)n + 1) - lgamma((double)i + 1) - lgamma((double)(n - i) + 1) - (double)n * log(2));
    return 2 * sum < 1 ? 2 * sum : 1;
}

double tq_randomization(const double *a, const double *b, size_t n, uint64_t seed) {
    enum { ROUNDS = 10000 };
    tq_rng rng;
    double seen = 0;
    size_t as_large = 1;
    for (size_t i = 0; i < n; i++) seen += a[i] - b[i];
    seen = fabs(seen) * (1 - 1e-12); /* sums in another sign's order may round below */
    tq_rng_init(&rng, seed, TQ_RNG_SHUFFLE, 0, 0);
    for (int round = 1; round < ROUNDS; round++) {
        double sum = 0;
        uint32_t bits = 0;
        for (size_t i = 0; i < n; i++, bits >>= 1) {
            if (i % 32 == 0) bits = tq_rng_u32(&rng);
            sum += bits & 1 ? a[i] - b[i] : b[i] - a[i];
        }
        as_large += fabs(sum) >= seen;
    }
    return (double)as_large / ROUNDS;
}
