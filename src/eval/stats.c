/* Statistics of counts. See stats.h. */
#include "eval/stats.h"

#include <math.h>

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
