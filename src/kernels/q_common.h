/* What the formats share: reading fields of a block (which has no alignment), writing 32 values, and decode rows on
 * top of a format's dequantization. */
#ifndef TQ_KERNELS_Q_COMMON_H
#define TQ_KERNELS_Q_COMMON_H

#include "kernels/row.h"

TQ_INLINE float half_at(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return simd_half(h);
}

TQ_INLINE uint32_t u32_at(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

TQ_INLINE void put_half(uint8_t *p, float x) {
    uint16_t h = tq_float_to_half(x);
    memcpy(p, &h, sizeof h);
}

/* y = lo * q for 16 signed bytes, hi * q for the other 16. */
TQ_INLINE void put_signed(float *y, b32 q, float lo, float hi) {
    int8_t t[32];
    b32_store(t, q);
    for (int i = 0; i < 32; i += VW) vf_store(y + i, vf_mul(vf_set1(i < 16 ? lo : hi), vf_cvt(vi_load_i8(t + i))));
}

/* y = d * q + m for 32 unsigned bytes; two roundings, as the format's reference does. */
TQ_INLINE void put_unsigned(float *y, b32 q, float d, float m) {
    uint8_t t[32];
    b32_store(t, q);
    for (int i = 0; i < 32; i += VW) vf_store(y + i, vf_add(vf_mul(vf_set1(d), vf_cvt(vi_load_u8(t + i))), vf_set1(m)));
}

/* The scale and minimum of sub-block j of Q4_K and Q5_K: eight 6-bit pairs in 12 bytes. */
TQ_INLINE void scale_and_min(const uint8_t *p, int j, int *scale, int *min) {
    if (j < 4) {
        *scale = p[j] & 63;
        *min = p[j + 4] & 63;
    } else {
        *scale = (p[j + 4] & 15) | (p[j - 4] >> 6 << 4);
        *min = p[j + 4] >> 4 | (p[j] >> 6 << 4);
    }
}

/* The eight scales and minima at once, as bytes. */
TQ_INLINE void scales_and_mins(const uint8_t *p, uint8_t scales[8], uint8_t mins[8]) {
    uint32_t a = u32_at(p), b = u32_at(p + 4), c = u32_at(p + 8);
    uint32_t s[2] = {a & 0x3f3f3f3f, (c & 0x0f0f0f0f) | (a >> 2 & 0x30303030)};
    uint32_t m[2] = {b & 0x3f3f3f3f, (c >> 4 & 0x0f0f0f0f) | (b >> 2 & 0x30303030)};
    memcpy(scales, s, 8);
    memcpy(mins, m, 8);
}

/* Rounds to [0, top]; NaN gives 0. */
TQ_INLINE uint8_t clamp_down(float v, int top) {
    return (uint8_t)(v >= 0 ? v < (float)top ? (int)v : top : 0);
}

enum { LANES = 32 / VW };

/* <x, w> of `n` elements (a multiple of 32) added to LANES vectors. */
TQ_INLINE void dot_into(vf acc[LANES], const float *x, const float *w, int64_t n) {
    for (int64_t i = 0; i < n; i += 32)
        for (int j = 0; j < LANES; j++) acc[j] = vf_fma(vf_load(x + i + j * VW), vf_load(w + i + j * VW), acc[j]);
}

TQ_INLINE float lanes_sum(vf acc[LANES]) {
    for (int n = LANES / 2; n > 0; n /= 2)
        for (int j = 0; j < n; j++) acc[j] = vf_add(acc[j], acc[j + n]);
    return vf_sum(acc[0]);
}

/* rows_f32 of a format: a block at a time is dequantized and multiplied. */
#define ROWS_F32(name, block, bytes)                                                                                   \
    void TQ_FN(rows_f32_##name)(float *y, const void *w, size_t row_bytes, int64_t n, int64_t k, const float *x) {     \
        for (int64_t j = 0; j < n; j++) {                                                                              \
            const uint8_t *row = (const uint8_t *)w + (size_t)j * row_bytes;                                           \
            float t[block];                                                                                            \
            vf acc[LANES];                                                                                             \
            for (int i = 0; i < LANES; i++) acc[i] = vf_zero();                                                        \
            for (int64_t i = 0; i < k; i += block, row += bytes) {                                                     \
                dequant_block(t, row);                                                                                 \
                dot_into(acc, x + i, t, block);                                                                        \
            }                                                                                                          \
            y[j] = lanes_sum(acc);                                                                                     \
        }                                                                                                              \
    }
#define DEQUANT(name, block, bytes)                                                                                    \
    void TQ_FN(dequant_##name)(float *y, const void *x, int64_t n) {                                                   \
        const uint8_t *p = x;                                                                                          \
        for (int64_t i = 0; i < n; i += block, p += bytes) dequant_block(y + i, p);                                    \
    }
/* rows_q8 of a format whose row_q8(row, k, x) is the product of one row. */
#define ROWS_Q8(name)                                                                                                  \
    void TQ_FN(rows_q8_##name)(float *y, int64_t y_row, const void *w, size_t row_bytes, int64_t n, int64_t k,         \
                               const tq_q8 *x, int T) {                                                                \
        for (int64_t j = 0; j < n; j++)                                                                                \
            for (int t = 0; t < T; t++)                                                                                \
                y[t * y_row + j] = row_q8((const uint8_t *)w + (size_t)j * row_bytes, k, x + t * (k / 32));            \
    }

/* Product of one row of blocks of 32 whose values are unsigned bytes(block): w = d q + m, or, without a stored minimum
 * (`one`), d (q - zero). The minima need no bytes: m sum(x) comes along with the scales. */
TQ_INLINE float row_q8_unsigned(const uint8_t *p, int bytes, bool one, float zero, b32 (*bytes_of)(const uint8_t *),
                                int64_t k, const tq_q8 *x) {
    f8x acc[4] = {f8x_zero(), f8x_zero(), f8x_zero(), f8x_zero()}, mins = f8x_zero();
    float h[8], rest = 0;
    for (; k >= 128; k -= 128, p += 4 * bytes, x += 4) {
        f8x heads = f8x_heads(p, bytes, one, x);
        f8x_store(h, heads);
        mins = f8x_add(mins, heads);
        TQ_UNROLL for (int i = 0; i < 4; i++) acc[i] =
            f8x_fma(h[2 * i], dot_us(bytes_of(p + i * bytes), b32_load(x[i].q)), acc[i]);
    }
    for (; k > 0; k -= 32, p += bytes, x++) {
        float d = half_at(p);
        acc[0] = f8x_fma(d * x->d, dot_us(bytes_of(p), b32_load(x->q)), acc[0]);
        rest += (one ? d : half_at(p + 2)) * x->sum;
    }
    f8x_store(h, mins);
    float m = (h[1] + h[5]) + (h[3] + h[7]) + rest;
    float sum = f8x_sum(f8x_add(f8x_add(acc[0], acc[1]), f8x_add(acc[2], acc[3])));
    return one ? sum - zero * m : sum + m;
}

#endif
