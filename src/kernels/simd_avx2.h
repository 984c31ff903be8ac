/* The vocabulary in AVX2, FMA and F16C. Names as in simd_ref.h. */
#ifndef TQ_KERNELS_SIMD_H
#define TQ_KERNELS_SIMD_H

#include "kernels/simd_x86.h"

#define SIMD_HAS_BF16 0
#define SIMD_HAS_INT8 1
#define SIMD_BYTE_ZERO 0

enum { VW = 8, TILE_M = 6, TILE_V = 2 };

typedef __m256 vf;
typedef __m256i vi;

static inline vf vf_zero(void) {
    return _mm256_setzero_ps();
}
static inline vf vf_set1(float x) {
    return _mm256_set1_ps(x);
}
static inline vf vf_load(const float *p) {
    return _mm256_loadu_ps(p);
}
static inline void vf_store(float *p, vf v) {
    _mm256_storeu_ps(p, v);
}
static inline __m256i simd_mask(int64_t n) {
    static const int32_t ones[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_loadu_si256((const __m256i *)(const void *)(ones + 8 - n));
}
static inline vf vf_load_n(const float *p, int64_t n) {
    return _mm256_maskload_ps(p, simd_mask(n));
}
static inline void vf_store_n(float *p, vf v, int64_t n) {
    _mm256_maskstore_ps(p, simd_mask(n), v);
}
static inline vf vf_add(vf a, vf b) {
    return _mm256_add_ps(a, b);
}
static inline vf vf_sub(vf a, vf b) {
    return _mm256_sub_ps(a, b);
}
static inline vf vf_mul(vf a, vf b) {
    return _mm256_mul_ps(a, b);
}
static inline vf vf_div(vf a, vf b) {
    return _mm256_div_ps(a, b);
}
static inline vf vf_fma(vf a, vf b, vf c) {
    return _mm256_fmadd_ps(a, b, c);
}
static inline vf vf_fnma(vf a, vf b, vf c) {
    return _mm256_fnmadd_ps(a, b, c);
}
static inline vf vf_sqrt(vf a) {
    return _mm256_sqrt_ps(a);
}
static inline vf vf_min(vf a, vf b) {
    return _mm256_min_ps(a, b);
}
static inline vf vf_max(vf a, vf b) {
    return _mm256_max_ps(a, b);
}

static inline vi vi_set1(int32_t x) {
    return _mm256_set1_epi32(x);
}
static inline vi vi_add(vi a, vi b) {
    return _mm256_add_epi32(a, b);
}
static inline vi vi_sub(vi a, vi b) {
    return _mm256_sub_epi32(a, b);
}
static inline vi vi_and(vi a, vi b) {
    return _mm256_and_si256(a, b);
}
static inline vi vi_or(vi a, vi b) {
    return _mm256_or_si256(a, b);
}
static inline vi vi_sll(vi a, int k) {
    return _mm256_slli_epi32(a, k);
}
static inline vi vi_srl(vi a, int k) {
    return _mm256_srli_epi32(a, k);
}
static inline vi vi_sra(vi a, int k) {
    return _mm256_srai_epi32(a, k);
}
static inline vi vi_if_gt(vi a, vi b, vi x, vi y) {
    return _mm256_blendv_epi8(y, x, _mm256_cmpgt_epi32(a, b));
}
static inline vi vi_max(vi a, vi b) {
    return _mm256_max_epi32(a, b);
}
static inline vi vi_of_vf(vf a) {
    return _mm256_castps_si256(a);
}
static inline vf vf_of_vi(vi a) {
    return _mm256_castsi256_ps(a);
}
static inline vf vf_cvt(vi a) {
    return _mm256_cvtepi32_ps(a);
}

static inline float vf_sum(vf a) {
    return simd_sum8(a);
}
static inline float vf_hmax(vf a) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

static inline vi vi_load(const int32_t *p) {
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}
static inline void vi_store(int32_t *p, vi v) {
    _mm256_storeu_si256((__m256i *)(void *)p, v);
}
static inline __m128i simd_load8(const void *p) {
    return _mm_loadl_epi64((const __m128i *)p);
}
static inline vi vi_load_u8(const uint8_t *p) {
    return _mm256_cvtepu8_epi32(simd_load8(p));
}
static inline vi vi_load_i8(const int8_t *p) {
    return _mm256_cvtepi8_epi32(simd_load8(p));
}
static inline vi vi_load_u16(const uint16_t *p) {
    return _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
}
static inline vf vf_load_f16(const uint16_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
static inline void vf_store_f16(uint16_t *p, vf v) {
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
static inline void vf_store_i8(int8_t *p, vf v) {
    __m256i q = _mm256_cvtps_epi32(v);
    __m128i w = _mm_packs_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
    _mm_storel_epi64((__m128i *)(void *)p, _mm_packs_epi16(w, w));
}

static inline void vf_transpose(vf r[VW]) {
    vf t[8], u[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        u[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        u[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        u[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        u[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
    }
}
static inline vf vf_sums(vf r[VW]) {
    return simd_sums8(r);
}

static inline vi vi_dot_us(vi acc, vi u, vi s) {
    return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), _mm256_set1_epi16(1)));
}
static inline vi vi_dot_byte(vi acc, vi b, vi s) {
    return vi_dot_us(acc, _mm256_abs_epi8(b), _mm256_sign_epi8(s, b));
}

#endif
