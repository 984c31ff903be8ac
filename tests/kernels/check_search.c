/* Scans of byte vectors against integer sums: exact but for the scale's one rounding, whatever the row's company. */
#include "check.h"

static void scan_case(const tq_kernels *k, int64_t n, int64_t width, bool front) {
    int8_t *rows = guard((size_t)(n * width), front), *x = guard((size_t)width, front);
    float *scale = guard_floats(n, front), *y = guard(sizeof(float) * (size_t)n, front);
    random_bytes(rows, (size_t)(n * width));
    random_bytes(x, (size_t)width);
    for (int64_t i = 0; i < n * width; i++) rows[i] = rows[i] == -128 ? 127 : rows[i]; /* -128 is never stored */
    for (int64_t i = 0; i < width; i++) x[i] = x[i] == -128 ? -127 : x[i];
    if (n > 1) memset(rows + width, 127, (size_t)width); /* the largest sums there are */
    k->scan_i8(y, rows, scale, n, width, x);
    for (int64_t i = 0; i < n; i++) {
        int64_t sum = 0;
        for (int64_t j = 0; j < width; j++) sum += rows[i * width + j] * x[j];
        if (y[i] != scale[i] * (float)sum) fail_msg("%s: row %d of %d: %g", k->isa, (int)i, (int)n, (double)y[i]);
    }
}

void check_scan(void **state) {
    (void)state;
    FOR_ROWS(k)
    for (int64_t n = 0; n < 11; n++)
        for (int64_t width = 32; width <= 384; width += 32)
            for (int front = 0; front < 2; front++) {
                scan_case(k, n, width, front);
                guard_reset();
            }
}
