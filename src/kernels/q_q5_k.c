/* Q5_K: as Q4_K, with a fifth bit: bit j of byte i of 32 belongs to value i of sub-block j. */
#include "kernels/q_common.h"

enum { BYTES = 176 };

/* The 32 values of sub-block j. */
TQ_INLINE b32 bytes_of(const uint8_t *p, int j) {
    b32 q = b32_load(p + 48 + 32 * (j / 2));
    q = j % 2 ? b32_srl(q, 4) : b32_and(q, b32_set1(15));
    b32 h = b32_and(b32_srl(b32_load(p + 16), j), b32_set1(1));
    return b32_or(q, b32_sll(h, 4));
}

TQ_INLINE void dequant_block(float *y, const uint8_t *p) {
    float d = half_at(p), dmin = half_at(p + 2);
    TQ_UNROLL for (int j = 0; j < 8; j++) {
        int s, m;
        scale_and_min(p + 4, j, &s, &m);
        put_unsigned(y + 32 * j, bytes_of(p, j), d * (float)s, -(dmin * (float)m));
    }
}
DEQUANT(q5_k, 256, BYTES)
ROWS_F32(q5_k, 256, BYTES)

TQ_INLINE float row_q8(const uint8_t *p, int64_t k, const tq_q8 *x) {
    f8x acc[2] = {f8x_zero(), f8x_zero()}, min = f8x_zero();
    enum { STEP = sizeof *x / sizeof(float) };
    for (; k > 0; k -= 256, p += BYTES, x += 8) {
        uint8_t s[8], m[8];
        float scale[8];
        scales_and_mins(p + 4, s, m);
        f8x_store(scale, f8x_mul(f8x_of_u8(s), f8x_mul(f8x_set1(half_at(p)), f8x_strided(&x->d, STEP))));
        min = f8x_muladd(f8x_of_u8(m), f8x_mul(f8x_set1(half_at(p + 2)), f8x_strided(&x->sum, STEP)), min);
        TQ_UNROLL for (int j = 0; j < 8; j++) acc[j % 2] =
            f8x_fma(scale[j], dot_us(bytes_of(p, j), b32_load(x[j].q)), acc[j % 2]);
    }
    return f8x_sum(f8x_add(acc[0], acc[1])) - f8x_sum(min);
}
ROWS_Q8(q5_k)
