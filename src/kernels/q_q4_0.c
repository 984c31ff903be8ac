/* Q4_0: f16 scale d, 32 4-bit q (low halves of 16 bytes, then high halves); w = d (q - 8). */
#include "kernels/q_common.h"

enum { BYTES = 18 };

TQ_INLINE b32 bytes_of(const uint8_t *p) {
    return b32_nibbles(p + 2);
}

TQ_INLINE void dequant_block(float *y, const uint8_t *p) {
    float d = half_at(p);
    put_signed(y, b32_sub(bytes_of(p), b32_set1(8)), d, d);
}
DEQUANT(q4_0, 32, BYTES)
ROWS_F32(q4_0, 32, BYTES)

TQ_INLINE float row_q8(const uint8_t *p, int64_t k, const tq_q8 *x) {
    return row_q8_unsigned(p, BYTES, true, 8, bytes_of, k, x);
}
ROWS_Q8(q4_0)

void TQ_FN(quant_q4_0)(void *y, const float *x, int64_t n) {
    uint8_t *p = y;
    for (int64_t i = 0; i < n; i += 32, x += 32, p += BYTES) {
        float most = 0, top = 0; /* top: the value of largest size, with its sign */
        for (int j = 0; j < 32; j++)
            if (fabsf(x[j]) > most) most = fabsf(x[j]), top = x[j];
        float d = top / -8, id = d != 0 ? 1 / d : 0;
        put_half(p, d);
        for (int j = 0; j < 16; j++)
            p[2 + j] = (uint8_t)(clamp_down(x[j] * id + 8.5f, 15) | clamp_down(x[j + 16] * id + 8.5f, 15) << 4);
    }
}
