/* 16-bit floats in plain C: exact to f32, round-to-nearest-even back, as the F16C and AVX512_BF16 instructions do
 * (NaN becomes quiet and keeps its sign and upper bits). */
#ifndef TQ_KERNELS_HALF_H
#define TQ_KERNELS_HALF_H

#include <stdint.h>
#include <string.h>

static inline float tq_float_of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static inline uint32_t tq_bits_of_float(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

static inline float tq_half_to_float(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = (uint32_t)(h & 0x7fff) << 13;
    if (rest >= 0x0f800000u) { /* infinity and NaN: the exponent saturates, a NaN becomes quiet */
        uint32_t quiet = rest > 0x0f800000u ? 0x00400000u : 0;
        return tq_float_of_bits(sign | 0x7f800000u | (rest & 0x007fffffu) | quiet);
    }
    /* Multiplying by 2^112 moves the exponent's bias and normalizes subnormals, both exactly. */
    return tq_float_of_bits(sign | tq_bits_of_float(tq_float_of_bits(rest) * 0x1p112f));
}

static inline uint16_t tq_float_to_half(float x) {
    uint32_t bits = tq_bits_of_float(x), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffffu;
    if (rest > 0x7f800000u) return (uint16_t)(sign | 0x7e00 | (rest >> 13 & 0x3ff));
    if (rest >= 0x477ff000u) return (uint16_t)(sign | 0x7c00); /* 65520 and above round to infinity */
    if (rest < 0x38800000u) { /* subnormal result: adding 0.5 lets the adder round at 2^-24 */
        float r = tq_float_of_bits(rest) + 0.5f;
        return (uint16_t)(sign | (tq_bits_of_float(r) - 0x3f000000u));
    }
    return (uint16_t)(sign | ((rest - 0x38000000u + 0xfff + (rest >> 13 & 1)) >> 13));
}

static inline float tq_bf16_to_float(uint16_t b) {
    return tq_float_of_bits((uint32_t)b << 16);
}

static inline uint16_t tq_float_to_bf16(float x) {
    uint32_t bits = tq_bits_of_float(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

#endif
