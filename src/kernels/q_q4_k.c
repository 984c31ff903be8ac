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
            put_unsigned(y + 32 * (j + e), e ? b32_srl(q, 4) : b32_and(q, b32_set1(15)), d * (float)s, -(dmin * (float)m));
        }
    }
}
DEQUANT(q4_k, 256, BYTES)
ROWS_F32(q4_k, 256, BYTES)

TQ_INLINE float row_q8(const uint8_t *p, int64_t k, const tq_q8 *x) {
    f8x acc[2] = {f8x_zero(), f8x_zero()};
    float min = 0;
    for (; k > 0; k -= 256, p += BYTES, x += 8) {
        float d = half_at(p), sum = 0;
        for (int j = 0; j < 8; j += 2) {
            b32 q = b32_load(p + 16 + 16 * j);
            for (int e = 0; e < 2; e++) {
                int s, m;
                scale_and_min(p + 4, j + e, &s, &m);
                b32 u = e ? b32_srl(q, 4) : b32_and(q, b32_set1(15));
                acc[e] = f8x_fma(d * (float)s * x[j + e].d, dot_us(u, b32_load(x[j + e].q)), acc[e]);
                sum += (float)m * x[j + e].sum;
            }
        }
        min += half_at(p + 2) * sum;
    }
    return f8x_sum(f8x_add(acc[0], acc[1])) - min;
}
ROWS_Q8(q4_k)
