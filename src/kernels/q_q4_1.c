/* Q4_1: f16 scale d and minimum m, 32 4-bit q (low halves of 16 bytes, then high halves); w = d q + m. */
#include "kernels/q_common.h"

enum { BYTES = 20 };

TQ_INLINE b32 bytes_of(const uint8_t *p) {
    return b32_nibbles(p + 4);
}

TQ_INLINE void dequant_block(float *y, const uint8_t *p) {
    put_unsigned(y, bytes_of(p), half_at(p), half_at(p + 2));
}
DEQUANT(q4_1, 32, BYTES)
ROWS_F32(q4_1, 32, BYTES)

TQ_INLINE float row_q8(const uint8_t *p, int64_t k, const tq_q8 *x) {
    return row_q8_unsigned(p, BYTES, false, 0, bytes_of, k, x);
}
ROWS_Q8(q4_1)

void TQ_FN(quant_q4_1)(void *y, const float *x, int64_t n) {
    uint8_t *p = y;
    for (int64_t i = 0; i < n; i += 32, x += 32, p += BYTES) {
        float lo = x[0], hi = x[0];
        for (int j = 1; j < 32; j++) {
            lo = x[j] < lo ? x[j] : lo;
            hi = x[j] > hi ? x[j] : hi;
        }
        float d = (hi - lo) / 15, id = d != 0 ? 1 / d : 0;
        put_half(p, d);
        put_half(p + 2, lo);
        for (int j = 0; j < 16; j++) {
            p[4 + j] =
                (uint8_t)(clamp_down((x[j] - lo) * id + 0.5f, 15) | clamp_down((x[j + 16] - lo) * id + 0.5f, 15) << 4);
        }
    }
}
