/* Q8_0: f16 scale d, 32 signed bytes q; w = d q. */
#include "kernels/q_common.h"

enum { BYTES = 34 };

TQ_INLINE void dequant_block(float *y, const uint8_t *p) {
    float d = half_at(p);
    put_signed(y, b32_load(p + 2), d, d);
}
DEQUANT(q8_0, 32, BYTES)
ROWS_F32(q8_0, 32, BYTES)

TQ_INLINE float row_q8(const uint8_t *p, int64_t k, const tq_q8 *x) {
    f8x acc = f8x_zero(), acc2 = f8x_zero();
    for (; k > 32; k -= 64, p += 2 * BYTES, x += 2) {
        acc = f8x_fma(half_at(p) * x[0].d, dot_ss(b32_load(p + 2), b32_load(x[0].q)), acc);
        acc2 = f8x_fma(half_at(p + BYTES) * x[1].d, dot_ss(b32_load(p + BYTES + 2), b32_load(x[1].q)), acc2);
    }
    if (k > 0) acc = f8x_fma(half_at(p) * x->d, dot_ss(b32_load(p + 2), b32_load(x->q)), acc);
    return f8x_sum(f8x_add(acc, acc2));
}
ROWS_Q8(q8_0)

void TQ_FN(quant_q8_0)(void *y, const float *x, int64_t n) {
    uint8_t *p = y;
    for (int64_t i = 0; i < n; i += 32, x += 32, p += BYTES) {
        float most = 0;
        for (int j = 0; j < 32; j++) most = fabsf(x[j]) > most ? fabsf(x[j]) : most;
        float d = most / 127, id = d != 0 ? 1 / d : 0;
        put_half(p, d);
        for (int j = 0; j < 32; j++) { /* halves are rounded away from 0 */
            uint8_t size = clamp_down(fabsf(x[j] * id) + 0.5f, 127);
            p[2 + j] = (uint8_t)(x[j] < 0 ? -size : size);
        }
    }
}

/* Activations for decode. The largest is found among bit patterns, where infinity and NaN stand above all numbers:
 * they become the scale and so reach the result. */
void TQ_FN(quant_q8)(tq_q8 *y, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i += 32, x += 32, y++) {
        vi most = vi_set1(0);
        for (int j = 0; j < 32; j += VW) most = vi_max(most, vi_and(vi_of_vf(vf_load(x + j)), vi_set1(0x7fffffff)));
        int32_t t[VW], top = 0;
        vi_store(t, most);
        for (int j = 0; j < VW; j++) top = t[j] > top ? t[j] : top;
        y->d = tq_float_of_bits((uint32_t)top) / 127;
        float id = y->d != 0 ? 1 / y->d : 0;
        int sum = 0;
        if (id > 3e38f) id = 0, y->d = 0; /* subnormal inputs: their products are below anything that matters */
        for (int j = 0; j < 32; j += VW) vf_store_i8(y->q + j, vf_mul(vf_load(x + j), vf_set1(id)));
        for (int j = 0; j < 32; j++) sum += y->q[j];
        y->sum = y->d * (float)sum;
    }
}
