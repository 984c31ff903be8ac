/* AVX-512 by way of SIMDe, for tests on CPUs without it: 256-bit and smaller intrinsics stay the CPU's own. What the
 * packaged SIMDe (0.7) lacks is written out below, element by element. */
#ifndef TQ_TESTS_SIMDE_AVX512_H
#define TQ_TESTS_SIMDE_AVX512_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "kernels/half.h"

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

#define __m512 simde__m512
#define __m512i simde__m512i
#define __m512bh simde__m512bh
#define __mmask16 uint16_t

#undef _mm512_cvtps_ph
#undef _mm512_shuffle_f32x4
#undef _mm512_srai_epi32
#define _mm512_maskz_loadu_ps emu_maskz_loadu_ps
#define _mm512_mask_storeu_ps emu_mask_storeu_ps
#define _mm512_cvtepi32_ps emu_cvtepi32_ps
#define _mm512_cvtps_epi32 emu_cvtps_epi32
#define _mm512_cvtepu8_epi32 emu_cvtepu8_epi32
#define _mm512_cvtepi8_epi32 emu_cvtepi8_epi32
#define _mm512_cvtepu16_epi32 emu_cvtepu16_epi32
#define _mm512_cvtph_ps emu_cvtph_ps
#define _mm512_cvtps_ph emu_cvtps_ph
#define _mm512_shuffle_f32x4 emu_shuffle_f32x4
#define _mm512_srai_epi32 emu_srai_epi32
#define _mm512_cvtne2ps_pbh emu_cvtne2ps_pbh

static inline __m512 emu_maskz_loadu_ps(__mmask16 m, const float *p) {
    float t[16];
    for (int i = 0; i < 16; i++) t[i] = m >> i & 1 ? p[i] : 0;
    return simde_mm512_loadu_ps(t);
}
static inline void emu_mask_storeu_ps(float *p, __mmask16 m, __m512 v) {
    float t[16];
    simde_mm512_storeu_ps(t, v);
    for (int i = 0; i < 16; i++)
        if (m >> i & 1) p[i] = t[i];
}
/* Two 256-bit halves, which the CPU itself converts. */
static inline __m512 emu_ps(__m256 lo, __m256 hi) {
    float t[16];
    _mm256_storeu_ps(t, lo);
    _mm256_storeu_ps(t + 8, hi);
    return simde_mm512_loadu_ps(t);
}
static inline __m512i emu_epi32(__m256i lo, __m256i hi) {
    int32_t t[16];
    _mm256_storeu_si256((__m256i *)(void *)t, lo);
    _mm256_storeu_si256((__m256i *)(void *)(t + 8), hi);
    return simde_mm512_loadu_si512(t);
}
static inline __m256 emu_part_ps(__m512 v, int i) {
    float t[16];
    simde_mm512_storeu_ps(t, v);
    return _mm256_loadu_ps(t + 8 * i);
}
static inline __m256i emu_part_epi32(__m512i v, int i) {
    int32_t t[16];
    simde_mm512_storeu_si512(t, v);
    return _mm256_loadu_si256((const __m256i *)(const void *)(t + 8 * i));
}
static inline __m512 emu_cvtepi32_ps(__m512i v) {
    return emu_ps(_mm256_cvtepi32_ps(emu_part_epi32(v, 0)), _mm256_cvtepi32_ps(emu_part_epi32(v, 1)));
}
static inline __m512i emu_cvtps_epi32(__m512 v) {
    return emu_epi32(_mm256_cvtps_epi32(emu_part_ps(v, 0)), _mm256_cvtps_epi32(emu_part_ps(v, 1)));
}
static inline __m512i emu_cvtepu8_epi32(__m128i v) {
    return emu_epi32(_mm256_cvtepu8_epi32(v), _mm256_cvtepu8_epi32(_mm_srli_si128(v, 8)));
}
static inline __m512i emu_cvtepi8_epi32(__m128i v) {
    return emu_epi32(_mm256_cvtepi8_epi32(v), _mm256_cvtepi8_epi32(_mm_srli_si128(v, 8)));
}
static inline __m512i emu_cvtepu16_epi32(__m256i v) {
    return emu_epi32(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(v)),
                     _mm256_cvtepu16_epi32(_mm256_extracti128_si256(v, 1)));
}
static inline __m512 emu_cvtph_ps(__m256i v) {
    return emu_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(v)), _mm256_cvtph_ps(_mm256_extracti128_si256(v, 1)));
}
static inline __m256i emu_cvtps_ph(__m512 v, int rounding) {
    (void)rounding; /* always to nearest here */
    return _mm256_set_m128i(_mm256_cvtps_ph(emu_part_ps(v, 1), 0), _mm256_cvtps_ph(emu_part_ps(v, 0), 0));
}
static inline __m512 emu_shuffle_f32x4(__m512 a, __m512 b, int select) {
    float x[16], y[16], t[16];
    simde_mm512_storeu_ps(x, a);
    simde_mm512_storeu_ps(y, b);
    for (int i = 0; i < 4; i++) memcpy(t + 4 * i, (i < 2 ? x : y) + 4 * (select >> (2 * i) & 3), 16);
    return simde_mm512_loadu_ps(t);
}
static inline __m512i emu_srai_epi32(__m512i a, unsigned k) {
    return emu_epi32(_mm256_srai_epi32(emu_part_epi32(a, 0), (int)k), _mm256_srai_epi32(emu_part_epi32(a, 1), (int)k));
}
static inline __m512bh emu_cvtne2ps_pbh(__m512 hi, __m512 lo) {
    float t[32];
    uint16_t h[32];
    __m512bh v;
    simde_mm512_storeu_ps(t, lo);
    simde_mm512_storeu_ps(t + 16, hi);
    for (int i = 0; i < 32; i++) h[i] = tq_float_to_bf16(t[i]);
    memcpy(&v, h, sizeof v);
    return v;
}

#endif
