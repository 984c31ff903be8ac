/* Q5_0: f16 scale d, 32 fifth bits, 32 4-bit parts as in Q4_0; w = d (q - 16). */
#include "kernels/q_common.h"

enum { BYTES = 22 };

TQ_INLINE b32 bytes_of(const uint8_t *p) {
    return b32_or(b32_nibbles(p + 6), b32_bits(u32_at(p + 2), 16));
}

TQ_INLINE void dequant_block(float *y, const uint8_t *p) {
    float d = half_at(p);
    put_signed(y, b32_sub(bytes_of(p), b32_set1(16)), d, d);
}
DEQUANT(q5_0, 32, BYTES)
ROWS_F32(q5_0, 32, BYTES)

TQ_INLINE float row_q8(const uint8_t *p, int64_t k, const tq_q8 *x) {
    return row_q8_unsigned(p, BYTES, true, 16, bytes_of, k, x);
}
ROWS_Q8(q5_0)
