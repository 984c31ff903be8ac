/* What the AVX2 and AVX-512 vocabularies share: 8-float helpers and products of int8 blocks, which are 32 bytes
 * long in every format, so 256-bit registers fit them on both. Names as in simd_ref.h. */
#ifndef TQ_KERNELS_SIMD_X86_H
#define TQ_KERNELS_SIMD_X86_H

#include "kernels/kernels.h"
#include <stdint.h>
#include <string.h>

/* Tests put an emulation of AVX-512 here. */
#ifndef TQ_INTRINSICS_H
#define TQ_INTRINSICS_H <immintrin.h>
#endif
#include TQ_INTRINSICS_H

static inline float simd_half(uint16_t h) {
    return _cvtsh_ss(h);
}

static inline float simd_sum4(__m128 a) {
    a = _mm_add_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)));
}
static inline float simd_sum8(__m256 a) {
    return simd_sum4(_mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1)));
}
/* Lane i is the sum of r[i]. */
static inline __m256 simd_sums8(const __m256 r[8]) {
    __m256 a = _mm256_hadd_ps(_mm256_hadd_ps(r[0], r[1]), _mm256_hadd_ps(r[2], r[3]));
    __m256 b = _mm256_hadd_ps(_mm256_hadd_ps(r[4], r[5]), _mm256_hadd_ps(r[6], r[7]));
    return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}

typedef __m256i b32;
typedef __m256i i8x;
typedef __m256 f8x;

static inline b32 b32_load(const void *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}
static inline void b32_store(void *p, b32 v) {
    _mm256_storeu_si256((__m256i *)p, v);
}
static inline b32 b32_set1(uint8_t x) {
    return _mm256_set1_epi8((char)x);
}
static inline b32 b32_and(b32 a, b32 b) {
    return _mm256_and_si256(a, b);
}
static inline b32 b32_or(b32 a, b32 b) {
    return _mm256_or_si256(a, b);
}
static inline b32 b32_sub(b32 a, b32 b) {
    return _mm256_sub_epi8(a, b);
}
static inline b32 b32_sll(b32 a, int k) {
    return _mm256_and_si256(_mm256_slli_epi16(a, k), _mm256_set1_epi8((char)(0xff << k & 0xff)));
}
static inline b32 b32_srl(b32 a, int k) {
    return _mm256_and_si256(_mm256_srli_epi16(a, k), _mm256_set1_epi8((char)(0xff >> k)));
}
static inline b32 b32_nibbles(const void *p) {
    __m128i q = _mm_loadu_si128((const __m128i *)p);
    return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(q, 4), q), _mm256_set1_epi8(15));
}
static inline b32 b32_bits(uint32_t bits, uint8_t value) {
    /* Byte i takes byte i/8 of the word, keeps bit i%8 and compares. */
    const __m256i take = _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201u);
    __m256i v = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), take), bit);
    return _mm256_and_si256(_mm256_cmpeq_epi8(v, bit), _mm256_set1_epi8((char)value));
}
static inline i8x dot_us(b32 u, b32 s) {
#ifdef TQ_SIMD_VNNI
    return _mm256_dpbusd_epi32(_mm256_setzero_si256(), u, s);
#else
    return _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), _mm256_set1_epi16(1));
#endif
}
static inline i8x dot_ss(b32 a, b32 b) {
    return dot_us(_mm256_abs_epi8(a), _mm256_sign_epi8(b, a));
}
static inline f8x f8x_zero(void) {
    return _mm256_setzero_ps();
}
static inline f8x f8x_add(f8x a, f8x b) {
    return _mm256_add_ps(a, b);
}
static inline f8x f8x_fma(float scale, i8x v, f8x acc) {
    return _mm256_fmadd_ps(_mm256_set1_ps(scale), _mm256_cvtepi32_ps(v), acc);
}
static inline f8x f8x_fma2(float lo, float hi, i8x v, f8x acc) {
    return _mm256_fmadd_ps(_mm256_set_m128(_mm_set1_ps(hi), _mm_set1_ps(lo)), _mm256_cvtepi32_ps(v), acc);
}
/* The f16 heads of four blocks as floats. */
static inline f8x f8x_halves(const uint8_t *p, int bytes, bool one) {
    int32_t h[4];
    for (int i = 0; i < 4; i++) memcpy(&h[i], p + i * bytes, 4);
    __m128i v = _mm_unpacklo_epi64(_mm_unpacklo_epi32(_mm_cvtsi32_si128(h[0]), _mm_cvtsi32_si128(h[1])),
                                   _mm_unpacklo_epi32(_mm_cvtsi32_si128(h[2]), _mm_cvtsi32_si128(h[3])));
    if (one) v = _mm_shuffle_epi8(v, _mm_set_epi64x(0x0d0c0d0c09080908, 0x0504050401000100));
    return _mm256_cvtph_ps(v);
}
static inline f8x f8x_heads(const uint8_t *p, int bytes, bool one, const tq_q8 *x) {
    __m128 lo = _mm_loadl_pi(_mm_setzero_ps(), (const __m64 *)(const void *)&x[0].d);
    __m128 hi = _mm_loadl_pi(_mm_setzero_ps(), (const __m64 *)(const void *)&x[2].d);
    lo = _mm_loadh_pi(lo, (const __m64 *)(const void *)&x[1].d);
    hi = _mm_loadh_pi(hi, (const __m64 *)(const void *)&x[3].d);
    return _mm256_mul_ps(f8x_halves(p, bytes, one), _mm256_set_m128(hi, lo));
}
static inline void f8x_store(float *p, f8x v) {
    _mm256_storeu_ps(p, v);
}
static inline f8x f8x_set1(float x) {
    return _mm256_set1_ps(x);
}
static inline f8x f8x_mul(f8x a, f8x b) {
    return _mm256_mul_ps(a, b);
}
static inline f8x f8x_muladd(f8x a, f8x b, f8x c) {
    return _mm256_fmadd_ps(a, b, c);
}
static inline f8x f8x_strided(const float *p, int floats) {
    return _mm256_set_ps(p[7 * floats], p[6 * floats], p[5 * floats], p[4 * floats], p[3 * floats], p[2 * floats],
                         p[floats], p[0]);
}
static inline f8x f8x_of_u8(const uint8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
}
static inline float f8x_sum(f8x a) {
    return simd_sum8(a);
}

#endif
