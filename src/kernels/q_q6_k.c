/* Q6_K: 256 values; 4 low bits in 128 bytes, 2 high bits in 64, a signed scale s for every 16 values, f16 d;
 * w = d s (q - 32). Each half of 128 values: vector v (of 32) takes its low bits from bytes 32 (v % 2) .. of the
 * half's 64, low halves for v < 2, and its high bits from bits 2v, 2v + 1 of the half's 32 bytes. */
#include "kernels/q_common.h"

enum { BYTES = 210 };

/* The 32 values of vector v, 0 <= v < 8, signed. */
TQ_INLINE b32 bytes_of(const uint8_t *p, int v) {
    int half = v / 4, i = v % 4;
    b32 q = b32_load(p + 64 * half + 32 * (i % 2));
    q = i < 2 ? b32_and(q, b32_set1(15)) : b32_srl(q, 4);
    b32 h = b32_and(b32_srl(b32_load(p + 128 + 32 * half), 2 * i), b32_set1(3));
    return b32_sub(b32_or(q, b32_sll(h, 4)), b32_set1(32));
}

TQ_INLINE float scale_of(const uint8_t *p, int j) {
    return (float)(int8_t)p[192 + j];
}

TQ_INLINE void dequant_block(float *y, const uint8_t *p) {
    float d = half_at(p + 208);
    TQ_UNROLL for (int v = 0; v < 8; v++)
        put_signed(y + 32 * v, bytes_of(p, v), d * scale_of(p, 2 * v), d * scale_of(p, 2 * v + 1));
}
DEQUANT(q6_k, 256, BYTES)
ROWS_F32(q6_k, 256, BYTES)

TQ_INLINE float row_q8(const uint8_t *p, int64_t k, const tq_q8 *x) {
    f8x acc[2] = {f8x_zero(), f8x_zero()};
    for (; k > 0; k -= 256, p += BYTES, x += 8) {
        float d = half_at(p + 208);
        TQ_UNROLL for (int v = 0; v < 8; v++) {
            float dx = d * x[v].d;
            acc[v % 2] = f8x_fma2(dx * scale_of(p, 2 * v), dx * scale_of(p, 2 * v + 1),
                                  dot_ss(bytes_of(p, v), b32_load(x[v].q)), acc[v % 2]);
        }
    }
    return f8x_sum(f8x_add(acc[0], acc[1]));
}
ROWS_Q8(q6_k)
