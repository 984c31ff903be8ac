/* Q5_1: f16 scale d and minimum m, 32 fifth bits, 32 4-bit parts as in Q4_1; w = d q + m. */
#include "kernels/q_common.h"

enum { BYTES = 24 };

TQ_INLINE b32 bytes_of(const uint8_t *p) {
    return b32_or(b32_nibbles(p + 8), b32_bits(u32_at(p + 4), 16));
}

TQ_INLINE void dequant_block(float *y, const uint8_t *p) {
    put_unsigned(y, bytes_of(p), half_at(p), half_at(p + 2));
}
DEQUANT(q5_1, 32, BYTES)
ROWS_F32(q5_1, 32, BYTES)

TQ_INLINE float row_q8(const uint8_t *p, int64_t k, const tq_q8 *x) {
    return row_q8_unsigned(p, BYTES, false, 0, bytes_of, k, x);
}
ROWS_Q8(q5_1)
