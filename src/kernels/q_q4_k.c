/* Q4_K: 256 values in 8 sub-blocks of 32; f16 d and dmin, a 6-bit scale s and minimum m for each sub-block, 4-bit q
 * (each 32 bytes hold two sub-blocks: low halves, high halves); w = d s q - dmin m. */
#include "kernels/q_common.h"

enum { BYTES = 144 };

TQ_INLINE void dequant_block(float *y, const uint8_t *p) {
    float d = half_at(p), dmin = half_at(p + 2);
    for (int j = 0; j < 8; j += 2) {
        b32 q = b32_load(p + 16 + 16 * j);
        for (int e = 0; e < 2; e++) {
            int s, m;
            scale_and_min(p + 4, j + e, &s, &m);
            put_unsigned(y + 32 * (j + e), e ? b32_srl(q, 4) : b32_and(q, b32_set1(15)), d * (float)s,
                         -(dmin * (float)m));
        }
    }
}
DEQUANT(q4_k, 256, BYTES)
ROWS_F32(q4_k, 256, BYTES)

TQ_INLINE float row_q8(const uint8_t *p, int64_t k, const tq_q8 *x) {
    f8x acc[2] = {f8x_zero(), f8x_zero()}, min = f8x_zero();
    enum { STEP = sizeof *x / sizeof(float) };
    for (; k > 0; k -= 256, p += BYTES, x += 8) {
        uint8_t s[8], m[8];
        float scale[8];
        scales_and_mins(p + 4, s, m);
        f8x_store(scale, f8x_mul(f8x_of_u8(s), f8x_mul(f8x_set1(half_at(p)), f8x_strided(&x->d, STEP))));
        min = f8x_muladd(f8x_of_u8(m), f8x_mul(f8x_set1(half_at(p + 2)), f8x_strided(&x->sum, STEP)), min);
        for (int j = 0; j < 8; j += 2) {
            b32 q = b32_load(p + 16 + 16 * j);
            acc[0] = f8x_fma(scale[j], dot_us(b32_and(q, b32_set1(15)), b32_load(x[j].q)), acc[0]);
            acc[1] = f8x_fma(scale[j + 1], dot_us(b32_srl(q, 4), b32_load(x[j + 1].q)), acc[1]);
        }
    }
    return f8x_sum(f8x_add(acc[0], acc[1])) - f8x_sum(min);
}
ROWS_Q8(q4_k)
