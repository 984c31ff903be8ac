/* The plain types F32, F16 and BF16. */
#include "kernels/q_common.h"

void TQ_FN(dequant_f32)(float *y, const void *x, int64_t n) {
    memcpy(y, x, (size_t)n * sizeof *y);
}

void TQ_FN(quant_f32)(void *y, const float *x, int64_t n) {
    memcpy(y, x, (size_t)n * sizeof *x);
}

TQ_INLINE vf load_f32(const void *p) {
    return vf_load(p);
}
TQ_INLINE vf load_f16(const void *p) {
    return vf_load_f16(p);
}
TQ_INLINE vf load_bf16(const void *p) {
    return vf_of_vi(vi_sll(vi_load_u16(p), 16));
}

void TQ_FN(dequant_f16)(float *y, const void *x, int64_t n) {
    const uint16_t *h = x;
    int64_t i = 0;
    for (; i + VW <= n; i += VW) vf_store(y + i, vf_load_f16(h + i));
    for (; i < n; i++) y[i] = tq_half_to_float(h[i]);
}

void TQ_FN(quant_f16)(void *y, const float *x, int64_t n) {
    uint16_t *h = y;
    int64_t i = 0;
    for (; i + VW <= n; i += VW) vf_store_f16(h + i, vf_load(x + i));
    for (; i < n; i++) h[i] = tq_float_to_half(x[i]);
}

void TQ_FN(dequant_bf16)(float *y, const void *x, int64_t n) {
    const uint16_t *h = x;
    int64_t i = 0;
    for (; i + VW <= n; i += VW) vf_store(y + i, load_bf16(h + i));
    for (; i < n; i++) y[i] = tq_bf16_to_float(h[i]);
}

void TQ_FN(quant_bf16)(void *y, const float *x, int64_t n) {
    uint16_t *h = y;
    for (int64_t i = 0; i < n; i++) h[i] = tq_float_to_bf16(x[i]);
}

/* A row of any length; what is left of the last vector is zero on both sides. */
TQ_INLINE float dot_row(vf (*load)(const void *), int bytes, const uint8_t *w, int64_t k, const float *x) {
    vf acc[4] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()};
    int64_t i = 0;
    for (; i + 4 * VW <= k; i += 4 * VW)
        for (int j = 0; j < 4; j++) acc[j] = vf_fma(load(w + (i + j * VW) * bytes), vf_load(x + i + j * VW), acc[j]);
    for (; i + VW <= k; i += VW) acc[0] = vf_fma(load(w + i * bytes), vf_load(x + i), acc[0]);
    if (i < k) {
        uint8_t t[4 * VW] = {0};
        memcpy(t, w + i * bytes, (size_t)((k - i) * bytes));
        acc[1] = vf_fma(load(t), vf_load_n(x + i, k - i), acc[1]);
    }
    return vf_sum(vf_add(vf_add(acc[0], acc[1]), vf_add(acc[2], acc[3])));
}

#define ROWS(name, bytes)                                                                                              \
    void TQ_FN(rows_f32_##name)(float *y, const void *w, size_t row_bytes, int64_t n, int64_t k, const float *x) {     \
        for (int64_t j = 0; j < n; j++)                                                                                \
            y[j] = dot_row(load_##name, bytes, (const uint8_t *)w + (size_t)j * row_bytes, k, x);                      \
    }
ROWS(f32, 4)
ROWS(f16, 2)
ROWS(bf16, 2)
