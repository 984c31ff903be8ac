/* The vocabulary in plain C with the compiler's vector types: four floats, no instruction set assumed. It is the
 * meaning of every name; the other headers give the same values (vf_fma rounds twice here, once there).
 *
 * vf: VW floats, vi: VW int32. b32: 32 bytes, i8x: 8 int32, f8x: 8 floats, for products of int8 blocks.
 * A name ending in _n touches only the first n < VW elements in memory; the rest of the vector is 0.
 * vf_min and vf_max return their second operand where either is NaN. */
#ifndef TQ_KERNELS_SIMD_H
#define TQ_KERNELS_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels/half.h"
#include "kernels/kernels.h"

#define SIMD_HAS_BF16 0
#define SIMD_HAS_INT8 0
#define SIMD_BYTE_ZERO 0 /* vi_dot_byte's bytes: of a signed q, q + this */

enum { VW = 4, TILE_M = 4, TILE_V = 2 }; /* a product's tile is TILE_M rows of TILE_V vectors */

typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
typedef uint32_t simd_u4 __attribute__((vector_size(16)));

static inline vf vf_zero(void) {
    return (vf){0, 0, 0, 0};
}
static inline vf vf_set1(float x) {
    return (vf){x, x, x, x};
}
static inline vf vf_load(const float *p) {
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void vf_store(float *p, vf v) {
    memcpy(p, &v, sizeof v);
}
static inline vf vf_load_n(const float *p, int64_t n) {
    vf v = vf_zero();
    for (int64_t i = 0; i < n; i++) v[i] = p[i];
    return v;
}
static inline void vf_store_n(float *p, vf v, int64_t n) {
    for (int64_t i = 0; i < n; i++) p[i] = v[i];
}
static inline vf vf_add(vf a, vf b) {
    return a + b;
}
static inline vf vf_sub(vf a, vf b) {
    return a - b;
}
static inline vf vf_mul(vf a, vf b) {
    return a * b;
}
static inline vf vf_div(vf a, vf b) {
    return a / b;
}
static inline vf vf_fma(vf a, vf b, vf c) {
    return a * b + c;
} /* ab + c */
static inline vf vf_fnma(vf a, vf b, vf c) {
    return c - a * b;
} /* c - ab */
static inline vf vf_sqrt(vf a) {
    return (vf){sqrtf(a[0]), sqrtf(a[1]), sqrtf(a[2]), sqrtf(a[3])};
}

static inline vi vi_set1(int32_t x) {
    return (vi){x, x, x, x};
}
static inline vi vi_add(vi a, vi b) {
    return (vi)((simd_u4)a + (simd_u4)b);
}
static inline vi vi_sub(vi a, vi b) {
    return (vi)((simd_u4)a - (simd_u4)b);
}
static inline vi vi_and(vi a, vi b) {
    return a & b;
}
static inline vi vi_or(vi a, vi b) {
    return a | b;
}
static inline vi vi_sll(vi a, int k) {
    return (vi)((simd_u4)a << k);
}
static inline vi vi_srl(vi a, int k) {
    return (vi)((simd_u4)a >> k);
}
static inline vi vi_sra(vi a, int k) {
    return a >> k;
}
/* x where a > b, else y. */
static inline vi vi_if_gt(vi a, vi b, vi x, vi y) {
    vi m = a > b;
    return (x & m) | (y & ~m);
}
static inline vi vi_max(vi a, vi b) {
    return vi_if_gt(a, b, a, b);
}
static inline vi vi_of_vf(vf a) {
    vi v;
    memcpy(&v, &a, sizeof v);
    return v;
} /* the bits */
static inline vf vf_of_vi(vi a) {
    vf v;
    memcpy(&v, &a, sizeof v);
    return v;
}
static inline vf vf_cvt(vi a) {
    return __builtin_convertvector(a, vf);
} /* the values */

static inline vf vf_min(vf a, vf b) {
    vi m = a < b;
    return vf_of_vi((vi_of_vf(a) & m) | (vi_of_vf(b) & ~m));
}
static inline vf vf_max(vf a, vf b) {
    vi m = a > b;
    return vf_of_vi((vi_of_vf(a) & m) | (vi_of_vf(b) & ~m));
}

static inline float vf_sum(vf a) {
    return (a[0] + a[2]) + (a[1] + a[3]);
}
static inline float vf_hmax(vf a) {
    float m = a[0];
    for (int i = 1; i < VW; i++) m = m > a[i] ? m : a[i];
    return m;
}

static inline vi vi_load(const int32_t *p) {
    vi v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void vi_store(int32_t *p, vi v) {
    memcpy(p, &v, sizeof v);
}
/* VW bytes or 16-bit words, widened. */
static inline vi vi_load_u8(const uint8_t *p) {
    return (vi){p[0], p[1], p[2], p[3]};
}
static inline vi vi_load_i8(const int8_t *p) {
    return (vi){p[0], p[1], p[2], p[3]};
}
static inline vi vi_load_u16(const uint16_t *p) {
    uint16_t h[4];
    memcpy(h, p, 8);
    return (vi){h[0], h[1], h[2], h[3]};
}
/* acc + the four products of a lane's bytes with those of s, which are signed: u unsigned and at most 15; b as
 * SIMD_BYTE_ZERO says. */
static inline vi vi_dot_us(vi acc, vi u, vi s) {
    for (int i = 0; i < VW; i++)
        for (int j = 0; j < 32; j += 8)
            acc[i] += (uint8_t)((uint32_t)u[i] >> j) * (int8_t)(uint8_t)((uint32_t)s[i] >> j);
    return acc;
}
static inline vi vi_dot_byte(vi acc, vi b, vi s) {
    for (int i = 0; i < VW; i++)
        for (int j = 0; j < 32; j += 8)
            acc[i] += (int8_t)(uint8_t)((uint32_t)b[i] >> j) * (int8_t)(uint8_t)((uint32_t)s[i] >> j);
    return acc;
}
static inline float simd_half(uint16_t h) {
    return tq_half_to_float(h);
}
static inline vf vf_load_f16(const uint16_t *p) {
    uint16_t h[4];
    memcpy(h, p, sizeof h);
    return (vf){tq_half_to_float(h[0]), tq_half_to_float(h[1]), tq_half_to_float(h[2]), tq_half_to_float(h[3])};
}
static inline void vf_store_f16(uint16_t *p, vf v) {
    uint16_t h[4];
    for (int i = 0; i < 4; i++) h[i] = tq_float_to_half(v[i]);
    memcpy(p, h, sizeof h);
}
/* Rounds to the nearest integer (-128 to 127, else unspecified) and stores VW bytes. */
static inline void vf_store_i8(int8_t *p, vf v) {
    vi q = vi_of_vf(v + vf_set1(0x1.8p23f));
    for (int i = 0; i < 4; i++) p[i] = (int8_t)(uint8_t)((uint32_t)q[i] & 0xff);
}

/* Rows become columns. */
static inline void vf_transpose(vf r[VW]) {
    vf a = {r[0][0], r[1][0], r[2][0], r[3][0]}, b = {r[0][1], r[1][1], r[2][1], r[3][1]};
    vf c = {r[0][2], r[1][2], r[2][2], r[3][2]}, d = {r[0][3], r[1][3], r[2][3], r[3][3]};
    r[0] = a, r[1] = b, r[2] = c, r[3] = d;
}
/* Lane i is the sum of r[i], every one summed in the same order. */
static inline vf vf_sums(vf r[VW]) {
    vf_transpose(r);
    return (r[0] + r[1]) + (r[2] + r[3]);
}

typedef uint8_t b32 __attribute__((vector_size(32)));
typedef int32_t i8x __attribute__((vector_size(32)));
typedef float f8x __attribute__((vector_size(32)));

static inline b32 b32_load(const void *p) {
    b32 v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void b32_store(void *p, b32 v) {
    memcpy(p, &v, sizeof v);
}
static inline b32 b32_set1(uint8_t x) {
    b32 v;
    memset(&v, x, sizeof v);
    return v;
}
static inline b32 b32_and(b32 a, b32 b) {
    return a & b;
}
static inline b32 b32_or(b32 a, b32 b) {
    return a | b;
}
static inline b32 b32_sub(b32 a, b32 b) {
    return a - b;
}
static inline b32 b32_sll(b32 a, int k) {
    return a << k;
} /* each byte */
static inline b32 b32_srl(b32 a, int k) {
    return a >> k;
}
/* 16 bytes: their low halves, then their high halves. */
static inline b32 b32_nibbles(const void *p) {
    const uint8_t *q = p;
    b32 v;
    for (int i = 0; i < 16; i++) v[i] = q[i] & 15, v[16 + i] = q[i] >> 4;
    return v;
}
/* Byte i is value where bit i is set, else 0. */
static inline b32 b32_bits(uint32_t bits, uint8_t value) {
    b32 v;
    for (int i = 0; i < 32; i++) v[i] = bits >> i & 1 ? value : 0;
    return v;
}
/* Lane i: the sum of the four products of bytes 4i .. 4i+3, u unsigned (at most 128), s signed; and both signed. */
static inline i8x dot_us(b32 u, b32 s) {
    i8x v;
    for (int i = 0; i < 8; i++) {
        v[i] = 0;
        for (int j = 4 * i; j < 4 * i + 4; j++) v[i] += u[j] * (int8_t)s[j];
    }
    return v;
}
static inline i8x dot_ss(b32 a, b32 b) {
    i8x v;
    for (int i = 0; i < 8; i++) {
        v[i] = 0;
        for (int j = 4 * i; j < 4 * i + 4; j++) v[i] += (int8_t)a[j] * (int8_t)b[j];
    }
    return v;
}
static inline f8x f8x_zero(void) {
    return (f8x){0};
}
static inline f8x f8x_add(f8x a, f8x b) {
    return a + b;
}
/* acc + scale * v; and with one scale for the lower four lanes and one for the upper. */
static inline f8x f8x_fma(float scale, i8x v, f8x acc) {
    return acc + scale * __builtin_convertvector(v, f8x);
}
static inline f8x f8x_fma2(float lo, float hi, i8x v, f8x acc) {
    return acc + (f8x){lo, lo, lo, lo, hi, hi, hi, hi} * __builtin_convertvector(v, f8x);
}
/* The heads of four blocks that are `bytes` apart, each an f16 d and m (with `one`, d stands for both), times the scale
 * and the sum of four blocks of x: lanes 2i hold d * x.d, lanes 2i + 1 m * x.sum. */
static inline f8x f8x_heads(const uint8_t *p, int bytes, bool one, const tq_q8 *x) {
    f8x v;
    for (int i = 0; i < 4; i++, p += bytes) {
        uint16_t h[2];
        memcpy(h, p, sizeof h);
        v[2 * i] = tq_half_to_float(h[0]) * x[i].d;
        v[2 * i + 1] = tq_half_to_float(h[one ? 0 : 1]) * x[i].sum;
    }
    return v;
}
static inline void f8x_store(float *p, f8x v) {
    memcpy(p, &v, sizeof v);
}
static inline f8x f8x_set1(float x) {
    return (f8x){x, x, x, x, x, x, x, x};
}
static inline f8x f8x_mul(f8x a, f8x b) {
    return a * b;
}
static inline f8x f8x_muladd(f8x a, f8x b, f8x c) {
    return a * b + c;
}
/* Eight floats, `floats` apart; eight unsigned or signed bytes as floats. */
static inline f8x f8x_strided(const float *p, int floats) {
    f8x v;
    for (int i = 0; i < 8; i++) v[i] = p[i * floats];
    return v;
}
static inline f8x f8x_of_u8(const uint8_t *p) {
    f8x v;
    for (int i = 0; i < 8; i++) v[i] = p[i];
    return v;
}
static inline float f8x_sum(f8x a) {
    float t[4];
    for (int i = 0; i < 4; i++) t[i] = a[i] + a[i + 4];
    return (t[0] + t[2]) + (t[1] + t[3]);
}

#endif
