/* Scanning stored vectors of signed bytes: y[i] = scale[i] <x, row i>. Products of bytes are summed exactly: a lane
 * adds integers below 2^16, and what a lane of f32 holds of them stays below 2^24 for rows up to 2^13 long (longer ones
 * round). Rows are read once, so memory is what bounds the rate. */
#include "kernels/row.h"

enum { ROWS = 4 };

void TQ_FN(scan_i8)(float *y, const int8_t *rows, const float *scale, int64_t n, int64_t width, const int8_t *x) {
    int64_t i = 0;
    for (; i + ROWS <= n; i += ROWS) {
        const int8_t *r = rows + i * width;
        f8x acc[ROWS] = {f8x_zero(), f8x_zero(), f8x_zero(), f8x_zero()};
        for (int64_t j = 0; j < width; j += 32) {
            b32 q = b32_load(x + j);
            TQ_UNROLL for (int a = 0; a < ROWS; a++) acc[a] =
                f8x_fma(1, dot_ss(q, b32_load(r + a * width + j)), acc[a]);
        }
        for (int a = 0; a < ROWS; a++) y[i + a] = scale[i + a] * f8x_sum(acc[a]);
    }
    for (; i < n; i++) {
        const int8_t *r = rows + i * width;
        f8x acc = f8x_zero();
        for (int64_t j = 0; j < width; j += 32) acc = f8x_fma(1, dot_ss(b32_load(x + j), b32_load(r + j)), acc);
        y[i] = scale[i] * f8x_sum(acc);
    }
}
