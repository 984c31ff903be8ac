/* The vocabulary in AVX-512 F, BW, VL and DQ. The build defines TQ_SIMD_VNNI and TQ_SIMD_BF16 for the rows whose
 * CPUs have these too. Names as in simd_ref.h. */
#ifndef TQ_KERNELS_SIMD_H
#define TQ_KERNELS_SIMD_H

#include "kernels/simd_x86.h"

#ifdef TQ_SIMD_BF16
#define SIMD_HAS_BF16 1
#else
#define SIMD_HAS_BF16 0
#endif
#define SIMD_HAS_INT8 1
#ifdef TQ_SIMD_VNNI
#define SIMD_BYTE_ZERO 128
#else
#define SIMD_BYTE_ZERO 0
#endif

enum { VW = 16, TILE_M = 12, TILE_V = 2 };

typedef __m512 vf;
typedef __m512i vi;

static inline vf vf_zero(void) {
    return _mm512_setzero_ps();
}
static inline vf vf_set1(float x) {
    return _mm512_set1_ps(x);
}
static inline vf vf_load(const float *p) {
    return _mm512_loadu_ps(p);
}
static inline void vf_store(float *p, vf v) {
    _mm512_storeu_ps(p, v);
}
static inline __mmask16 simd_mask(int64_t n) {
    return (__mmask16)((1u << n) - 1);
}
static inline vf vf_load_n(const float *p, int64_t n) {
    return _mm512_maskz_loadu_ps(simd_mask(n), p);
}
static inline void vf_store_n(float *p, vf v, int64_t n) {
    _mm512_mask_storeu_ps(p, simd_mask(n), v);
}
static inline vf vf_add(vf a, vf b) {
    return _mm512_add_ps(a, b);
}
static inline vf vf_sub(vf a, vf b) {
    return _mm512_sub_ps(a, b);
}
static inline vf vf_mul(vf a, vf b) {
    return _mm512_mul_ps(a, b);
}
static inline vf vf_div(vf a, vf b) {
    return _mm512_div_ps(a, b);
}
static inline vf vf_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
static inline vf vf_fnma(vf a, vf b, vf c) {
    return _mm512_fnmadd_ps(a, b, c);
}
static inline vf vf_sqrt(vf a) {
    return _mm512_sqrt_ps(a);
}
static inline vf vf_min(vf a, vf b) {
    return _mm512_min_ps(a, b);
}
static inline vf vf_max(vf a, vf b) {
    return _mm512_max_ps(a, b);
}

static inline vi vi_set1(int32_t x) {
    return _mm512_set1_epi32(x);
}
static inline vi vi_add(vi a, vi b) {
    return _mm512_add_epi32(a, b);
}
static inline vi vi_sub(vi a, vi b) {
    return _mm512_sub_epi32(a, b);
}
static inline vi vi_and(vi a, vi b) {
    return _mm512_and_si512(a, b);
}
static inline vi vi_or(vi a, vi b) {
    return _mm512_or_si512(a, b);
}
static inline vi vi_sll(vi a, int k) {
    return _mm512_slli_epi32(a, (unsigned)k);
}
static inline vi vi_srl(vi a, int k) {
    return _mm512_srli_epi32(a, (unsigned)k);
}
static inline vi vi_sra(vi a, int k) {
    return _mm512_srai_epi32(a, (unsigned)k);
}
static inline vi vi_if_gt(vi a, vi b, vi x, vi y) {
    return _mm512_mask_blend_epi32(_mm512_cmpgt_epi32_mask(a, b), y, x);
}
static inline vi vi_max(vi a, vi b) {
    return _mm512_max_epi32(a, b);
}
static inline vi vi_of_vf(vf a) {
    return _mm512_castps_si512(a);
}
static inline vf vf_of_vi(vi a) {
    return _mm512_castsi512_ps(a);
}
static inline vf vf_cvt(vi a) {
    return _mm512_cvtepi32_ps(a);
}

static inline __m256 simd_lower(vf a) {
    return _mm512_castps512_ps256(a);
}
static inline __m256 simd_upper(vf a) {
    return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a), 1));
}
static inline float vf_sum(vf a) {
    return simd_sum8(_mm256_add_ps(simd_lower(a), simd_upper(a)));
}
static inline float vf_hmax(vf a) {
    __m256 h = _mm256_max_ps(simd_lower(a), simd_upper(a));
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

static inline vi vi_load(const int32_t *p) {
    return _mm512_loadu_si512(p);
}
static inline void vi_store(int32_t *p, vi v) {
    _mm512_storeu_si512(p, v);
}
static inline vi vi_load_u8(const uint8_t *p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
}
static inline vi vi_load_i8(const int8_t *p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
}
static inline vi vi_load_u16(const uint16_t *p) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
static inline vf vf_load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
static inline void vf_store_f16(uint16_t *p, vf v) {
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
static inline void vf_store_i8(int8_t *p, vf v) {
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(v)));
}

static inline void vf_transpose(vf r[VW]) {
    vf t[16], u[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) { /* u[i + c]: rows i..i+3 of columns c, c+4, c+8, c+12, one per 128 bits */
        u[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
        u[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
        u[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        u[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int c = 0; c < 4; c++) {
        vf a = _mm512_shuffle_f32x4(u[c], u[c + 4], 0x88), b = _mm512_shuffle_f32x4(u[c + 8], u[c + 12], 0x88);
        vf d = _mm512_shuffle_f32x4(u[c], u[c + 4], 0xdd), e = _mm512_shuffle_f32x4(u[c + 8], u[c + 12], 0xdd);
        r[c] = _mm512_shuffle_f32x4(a, b, 0x88);
        r[c + 8] = _mm512_shuffle_f32x4(a, b, 0xdd);
        r[c + 4] = _mm512_shuffle_f32x4(d, e, 0x88);
        r[c + 12] = _mm512_shuffle_f32x4(d, e, 0xdd);
    }
}
static inline vf vf_sums(vf r[VW]) {
    __m256 h[16];
    for (int i = 0; i < 16; i++) h[i] = _mm256_add_ps(simd_lower(r[i]), simd_upper(r[i]));
    __m256d lo = _mm256_castps_pd(simd_sums8(h)), hi = _mm256_castps_pd(simd_sums8(h + 8));
    return _mm512_castpd_ps(_mm512_insertf64x4(_mm512_castpd256_pd512(lo), hi, 1));
}

#ifdef TQ_SIMD_VNNI
static inline vi vi_dot_us(vi acc, vi u, vi s) {
    return _mm512_dpbusd_epi32(acc, u, s);
}
static inline vi vi_dot_byte(vi acc, vi b, vi s) {
    return _mm512_dpbusd_epi32(acc, b, s);
}
#else
static inline vi vi_dot_us(vi acc, vi u, vi s) {
    return _mm512_add_epi32(acc, _mm512_madd_epi16(_mm512_maddubs_epi16(u, s), _mm512_set1_epi16(1)));
}
static inline vi vi_dot_byte(vi acc, vi b, vi s) {
    vi turned = _mm512_mask_sub_epi8(s, _mm512_movepi8_mask(b), _mm512_setzero_si512(), s);
    return vi_dot_us(acc, _mm512_abs_epi8(b), turned);
}
#endif

#ifdef TQ_SIMD_BF16
/* Rounded to bf16: the elements of lo, then those of hi, as pairs of neighbours; and lane i as the pair (even[i],
 * odd[i]). */
static inline vf vf_pack_bf16(vf lo, vf hi) {
    __m512bh h = _mm512_cvtne2ps_pbh(hi, lo);
    vf v;
    memcpy(&v, &h, sizeof v);
    return v;
}
static inline vf vf_pair_bf16(vf even, vf odd) {
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return vf_of_vi(_mm512_permutexvar_epi16(order, vi_of_vf(vf_pack_bf16(even, odd))));
}
/* acc + a[0] b[0] + a[1] b[1] in every lane of bf16 pairs. */
static inline vf vf_dot_bf16(vf acc, vi a, vi b) {
    __m512bh x, y;
    memcpy(&x, &a, sizeof x);
    memcpy(&y, &b, sizeof y);
    return _mm512_dpbf16_ps(acc, x, y);
}
#endif

#endif
