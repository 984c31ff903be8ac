/* Panels: quantized weights laid out anew for decode. A panel holds VW rows of a weight, and a lane of a vector is a
 * row: dword j of every row stands side by side, and each row's scale of a block does too. So a product needs no sum
 * across lanes, a block's scales are applied once for VW rows, and several rows of x share what is unpacked.
 *
 *   block of 32:  q  dword 0 of VW rows, dword 1 ...    f16 d [VW]    f16 m [VW] (Q4_1)
 *   Q4_K, 256:    q  dwords of 128 bytes                f16 d, dmin [VW]    u8 scale [8][VW], min [8][VW]
 *
 * y[j] is one chain over the blocks of its row, the same for any number of rows of x. */
#include "kernels/q_common.h"

enum { TOGETHER = VW == 16 ? 8 : 4 }; /* rows of x that registers hold */

/* What a format's panels are made of; constant where the kernels are compiled. */
typedef struct panel_format {
    int block, bytes, head; /* elements and bytes of a row's block; bytes before q */
    bool nibbles, min;      /* 4-bit q; a minimum is stored */
    float zero;             /* q's value of 0 where none is */
} panel_format;

static const panel_format Q4_0 = {32, 18, 2, true, false, 8}, Q4_1 = {32, 20, 4, true, true, 0},
                          Q8_0 = {32, 34, 2, false, false, SIMD_BYTE_ZERO};

/* Lane r of vector j is dword j of row r's bytes; flip: 0x80 in every byte that is to be unsigned. */
TQ_INLINE void turn_dwords(uint8_t *to, const uint8_t *from, size_t row_bytes, int n, uint32_t flip) {
    for (int j = 0; j < n; j++)
        for (int r = 0; r < VW; r++) {
            const uint32_t v = u32_at(from + (size_t)r * row_bytes + 4 * j) ^ flip;
            memcpy(to + 4 * (j * VW + r), &v, 4);
        }
}

TQ_INLINE void make_blocks(const panel_format *f, uint8_t *to, const uint8_t *from, size_t row_bytes, int64_t k) {
    const int dwords = (f->bytes - f->head) / 4;
    const uint32_t flip = f->nibbles ? 0 : SIMD_BYTE_ZERO * 0x01010101u;
    for (; k > 0; k -= f->block, from += f->bytes, to += f->bytes * VW) {
        turn_dwords(to, from + f->head, row_bytes, dwords, flip);
        for (int r = 0; r < VW; r++)
            for (int h = 0; h < f->head / 2; h++)
                memcpy(to + 4 * dwords * VW + 2 * (h * VW + r), from + (size_t)r * row_bytes + 2 * h, 2);
    }
}

/* Adds a block's products with T rows of x, `stride` blocks apart, to acc; dot: those of the integers.
 * w = d q + m. */
TQ_INLINE void add_block(int T, vf *acc, const tq_q8 *x, int64_t stride, const vi *dot, vf d, vf m, bool min) {
    TQ_UNROLL for (int t = 0; t < T; t++) {
        const tq_q8 *xt = x + t * stride;
        if (min) acc[t] = vf_fma(m, vf_set1(xt->sum), acc[t]);
        acc[t] = vf_fma(vf_mul(d, vf_set1(xt->d)), vf_cvt(dot[t]), acc[t]);
    }
}

TQ_INLINE vi dword_of(const tq_q8 *x, int j) {
    int32_t v;
    memcpy(&v, x->q + 4 * j, 4);
    return vi_set1(v);
}

TQ_INLINE vi vi_at(const uint8_t *p, int j) {
    return vi_load((const int32_t *)(const void *)(p + 4 * j * VW));
}

TQ_INLINE void panel_blocks(const panel_format *f, int T, float *y, int64_t y_row, const uint8_t *p, int64_t k,
                            const tq_q8 *x) {
    const int dwords = (f->bytes - f->head) / 4;
    const int64_t stride = k / 32;
    vf acc[TOGETHER];
    TQ_UNROLL for (int t = 0; t < T; t++) acc[t] = vf_zero();
    for (; k > 0; k -= 32, p += f->bytes * VW, x++) {
        vi dot[TOGETHER];
        TQ_UNROLL for (int t = 0; t < T; t++) dot[t] = vi_set1(0);
        TQ_UNROLL for (int j = 0; j < dwords; j++) {
            const vi q = vi_at(p, j), low = vi_set1(0x0f0f0f0f);
            TQ_UNROLL for (int t = 0; t < T; t++) {
                const tq_q8 *xt = x + t * stride;
                if (f->nibbles) {
                    dot[t] = vi_dot_us(dot[t], vi_and(q, low), dword_of(xt, j));
                    dot[t] = vi_dot_us(dot[t], vi_and(vi_srl(q, 4), low), dword_of(xt, j + 4));
                } else
                    dot[t] = vi_dot_byte(dot[t], q, dword_of(xt, j));
            }
        }
        const uint16_t *head = (const uint16_t *)(const void *)(p + 4 * dwords * VW);
        const vf d = vf_load_f16(head), m = f->min ? vf_load_f16(head + VW) : vf_mul(vf_set1(-f->zero), d);
        add_block(T, acc, x, stride, dot, d, m, f->min || f->zero != 0);
    }
    TQ_UNROLL for (int t = 0; t < T; t++) vf_store(y + t * y_row, acc[t]);
}

/* All rows of x, some at a time; the panel stays in the first cache. */
#define PANELS(name, panel_bytes, rows_of_panel)                                                                       \
    void TQ_FN(panels_q8_##name)(float *y, int64_t y_row, const void *panels, int64_t n, int64_t k, const tq_q8 *x,    \
                                 int T) {                                                                              \
        const uint8_t *p = panels;                                                                                     \
        for (int64_t j = 0; j < n; j += VW, p += (panel_bytes))                                                        \
            for (int t = 0, some; t < T; t += some) {                                                                  \
                float *to = y + t * y_row + j;                                                                         \
                const tq_q8 *xt = x + t * (k / 32);                                                                    \
                some = T - t >= TOGETHER ? TOGETHER : T - t >= 4 ? 4 : T - t >= 2 ? 2 : 1;                             \
                if (some == TOGETHER)                                                                                  \
                    rows_of_panel(TOGETHER, to, y_row, p, k, xt);                                                      \
                else if (some == 4)                                                                                    \
                    rows_of_panel(4, to, y_row, p, k, xt);                                                             \
                else if (some == 2)                                                                                    \
                    rows_of_panel(2, to, y_row, p, k, xt);                                                             \
                else                                                                                                   \
                    rows_of_panel(1, to, y_row, p, k, xt);                                                             \
            }                                                                                                          \
    }
#define BLOCKS(name, format)                                                                                           \
    void TQ_FN(panel_##name)(void *panel, const void *w, size_t row_bytes, int64_t k) {                                \
        make_blocks(&format, panel, w, row_bytes, k);                                                                  \
    }                                                                                                                  \
    TQ_INLINE void rows_##name(int T, float *y, int64_t y_row, const uint8_t *p, int64_t k, const tq_q8 *x) {          \
        panel_blocks(&format, T, y, y_row, p, k, x);                                                                   \
    }                                                                                                                  \
    PANELS(name, k / 32 * format.bytes * VW, rows_##name)
BLOCKS(q4_0, Q4_0)
BLOCKS(q4_1, Q4_1)
BLOCKS(q8_0, Q8_0)

/* Q4_K's places in a panel's block. */
enum {
    K_BYTES = 144,
    K_HEADS = 128 * VW,
    K_SCALES = K_HEADS + 4 * VW,
    K_MINS = K_SCALES + 8 * VW,
    K_END = K_MINS + 8 * VW
};

void TQ_FN(panel_q4_k)(void *panel, const void *w, size_t row_bytes, int64_t k) {
    uint8_t *to = panel;
    const uint8_t *from = w;
    for (; k > 0; k -= 256, from += K_BYTES, to += K_END) {
        turn_dwords(to, from + 16, row_bytes, 32, 0);
        for (int r = 0; r < VW; r++) {
            const uint8_t *row = from + (size_t)r * row_bytes;
            uint8_t scales[8], mins[8];
            memcpy(to + K_HEADS + 2 * r, row, 2);
            memcpy(to + K_HEADS + 2 * (VW + r), row + 2, 2);
            scales_and_mins(row + 4, scales, mins);
            for (int j = 0; j < 8; j++) to[K_SCALES + j * VW + r] = scales[j], to[K_MINS + j * VW + r] = mins[j];
        }
    }
}

TQ_INLINE void rows_q4_k(int T, float *y, int64_t y_row, const uint8_t *p, int64_t k, const tq_q8 *x) {
    const int64_t stride = k / 32;
    const vi low = vi_set1(0x0f0f0f0f);
    vf acc[TOGETHER];
    TQ_UNROLL for (int t = 0; t < T; t++) acc[t] = vf_zero();
    for (; k > 0; k -= 256, p += K_END) {
        const uint16_t *head = (const uint16_t *)(const void *)(p + K_HEADS);
        const vf d = vf_load_f16(head), dmin = vf_mul(vf_set1(-1), vf_load_f16(head + VW));
        for (int b = 0; b < 8; b += 2, x += 2) { /* a byte holds a value of each of two sub-blocks */
            const uint8_t *q = p + b / 2 * 32 * VW, *scale = p + K_SCALES + b * VW, *min = p + K_MINS + b * VW;
            vi dot[2][TOGETHER];
            TQ_UNROLL for (int t = 0; t < T; t++) dot[0][t] = dot[1][t] = vi_set1(0);
            TQ_UNROLL for (int j = 0; j < 8; j++) {
                const vi both = vi_at(q, j), half[2] = {vi_and(both, low), vi_and(vi_srl(both, 4), low)};
                TQ_UNROLL for (int t = 0; t < T; t++) TQ_UNROLL for (int e = 0; e < 2; e++) dot[e][t] =
                    vi_dot_us(dot[e][t], half[e], dword_of(x + t * stride + e, j));
            }
            TQ_UNROLL for (int e = 0; e < 2; e++)
                add_block(T, acc, x + e, stride, dot[e], vf_mul(d, vf_cvt(vi_load_u8(scale + e * VW))),
                          vf_mul(dmin, vf_cvt(vi_load_u8(min + e * VW))), true);
        }
    }
    TQ_UNROLL for (int t = 0; t < T; t++) vf_store(y + t * y_row, acc[t]);
}
PANELS(q4_k, k / 256 * K_END, rows_q4_k)
