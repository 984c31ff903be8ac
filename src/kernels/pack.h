/* Operands of a product in the form that tile.h multiplies: as they are, rounded to bf16 but still floats (where the
 * hardware has no bf16), or rounded and stored in pairs, elements 2p and 2p + 1 of k in the place of one float.
 *
 *   A along k (rows):  [row][stride], read by ROWS tiles
 *   A across k (cols): [k][TILE_M], read by COLS tiles
 *   B:                 panels of NR columns, [k][NR] each, B's storage type dequantized on the way
 */
#ifndef TQ_KERNELS_PACK_H
#define TQ_KERNELS_PACK_H

#include "kernels/row.h"
#include "kernels/tile.h"

enum { NR = TILE_V * VW };

typedef enum form { FORM_F32, FORM_ROUNDED, FORM_PAIRS } form;

/* Floats that k elements take. */
static inline int64_t form_floats(form f, int64_t k) {
    return f == FORM_PAIRS ? (k + 1) / 2 : k;
}

TQ_INLINE vf load_some(const float *p, int64_t n) {
    return n >= VW ? vf_load(p) : n > 0 ? vf_load_n(p, n) : vf_zero();
}

TQ_INLINE vf round_bf16(vf x) {
    vi bits = vi_of_vf(x), size = vi_and(bits, vi_set1(0x7fffffff));
    vi up = vi_add(vi_add(bits, vi_set1(0x7fff)), vi_and(vi_srl(bits, 16), vi_set1(1)));
    up = vi_if_gt(size, vi_set1(0x7f800000), vi_or(bits, vi_set1(0x400000)), up);
    return vf_of_vi(vi_and(up, vi_set1((int32_t)0xffff0000u)));
}

/* --- A ------------------------------------------------------------------------------------------- */

/* n elements of a row that lies along k. */
TQ_INLINE void put_row(form f, float *to, const float *x, int64_t n) {
#if SIMD_HAS_BF16
    if (f == FORM_PAIRS) {
        for (; n >= 2 * VW; n -= 2 * VW, x += 2 * VW, to += VW) vf_store(to, vf_pack_bf16(vf_load(x), vf_load(x + VW)));
        if (n > 0) vf_store_n(to, vf_pack_bf16(load_some(x, n), load_some(x + VW, n - VW)), (n + 1) / 2);
        return;
    }
#endif
    for (; n > 0; n -= VW, x += VW, to += VW) {
        vf v = load_some(x, n);
        if (f == FORM_ROUNDED) v = round_bf16(v);
        if (n >= VW)
            vf_store(to, v);
        else
            vf_store_n(to, v, n);
    }
}

/* m <= TILE_M neighbouring rows of k elements that lie across (`col` floats from one element of k to the next). A store
 * is a whole vector: what it puts behind its TILE_M floats is overwritten by the next one, or stands in the VW floats
 * that follow the last panel. */
TQ_INLINE void put_cols(form f, float *to, const float *a, int64_t col, int64_t m, int64_t k) {
#if SIMD_HAS_BF16
    if (f == FORM_PAIRS) {
        for (int64_t q = 0; q < k; q += 2, to += TILE_M) {
            vf odd = q + 1 < k ? vf_load_n(a + (q + 1) * col, m) : vf_zero();
            vf_store(to, vf_pair_bf16(vf_load_n(a + q * col, m), odd));
        }
        return;
    }
#endif
    for (int64_t q = 0; q < k; q++, to += TILE_M) {
        vf v = load_some(a + q * col, m);
        vf_store(to, f == FORM_ROUNDED ? round_bf16(v) : v);
    }
}

/* --- B ------------------------------------------------------------------------------------------- */

#if SIMD_HAS_BF16
/* One panel of pairs from NR columns of kc elements (a multiple of 2 VW) that are stored as bf16. */
TQ_INLINE void put_bf16_columns(float *panel, const uint16_t *const rows[NR], int64_t kc) {
    for (int64_t p = 0; p < kc; p += 2 * VW) TQ_UNROLL for (int v = 0; v < TILE_V; v++) {
            vf t[VW];
            for (int j = 0; j < VW; j++) {
                const uint16_t *x = rows[v * VW + j];
                t[j] = x ? vf_load((const float *)(const void *)(x + p)) : vf_zero();
                if (x) __builtin_prefetch(x + p + 4 * VW, 0, 2);
            }
            vf_transpose(t);
            float *to = panel + p / 2 * NR + v * VW;
            for (int64_t i = 0; i < VW; i++) vf_store(to + i * NR, t[i]);
        }
}
#endif

/* One panel from NR columns of kc elements each; columns that do not exist are NULL and give 0. */
TQ_INLINE void put_columns(form f, float *panel, const float *const rows[NR], int64_t kc) {
    const int64_t step = f == FORM_PAIRS ? 2 * VW : VW;
    for (int64_t p = 0; p < kc; p += step) {
        int64_t left = kc - p, n = form_floats(f, left < step ? left : step);
        TQ_UNROLL for (int v = 0; v < TILE_V; v++) {
            vf t[VW];
            for (int j = 0; j < VW; j++) {
                const float *x = rows[v * VW + j];
                t[j] = vf_zero();
                if (!x) continue;
                for (int64_t ahead = step; ahead < 2 * step; ahead += VW) __builtin_prefetch(x + p + ahead, 0, 2);
#if SIMD_HAS_BF16
                if (f == FORM_PAIRS) {
                    t[j] = vf_pack_bf16(load_some(x + p, left), load_some(x + p + VW, left - VW));
                    continue;
                }
#endif
                t[j] = load_some(x + p, left);
                if (f == FORM_ROUNDED) t[j] = round_bf16(t[j]);
            }
            vf_transpose(t);
            float *to = panel + form_floats(f, p) * NR + v * VW;
            for (int64_t i = 0; i < n; i++) vf_store(to + i * NR, t[i]);
        }
    }
}

/* One stored row of B (or two, for pairs; the second may be NULL), nc elements, into nc / NR panels that are `panel`
 * floats apart. The last panel's missing columns become 0. */
TQ_INLINE void put_across(form f, float *to, int64_t panel, const float *x, const float *x2, int64_t nc) {
    for (int64_t j = 0; j < nc; j += NR, to += panel) TQ_UNROLL for (int v = 0; v < TILE_V; v++) {
            const int64_t at = j + v * VW, n = nc - at;
            vf t = load_some(x + at, n);
#if SIMD_HAS_BF16
            if (f == FORM_PAIRS) t = vf_pair_bf16(t, x2 ? load_some(x2 + at, n) : vf_zero());
#endif
            if (f == FORM_ROUNDED) t = round_bf16(t);
            vf_store(to + v * VW, t);
        }
    (void)x2;
}

#if SIMD_HAS_BF16
/* The same of two rows that are stored as bf16; nc a multiple of NR. */
TQ_INLINE void put_bf16_across(float *to, int64_t panel, const uint16_t *x, const uint16_t *x2, int64_t nc) {
    for (int64_t j = 0; j < nc; j += NR, to += panel)
        for (int v = 0; v < NR; v += VW)
            vf_store(to + v, vf_of_vi(vi_or(vi_load_u16(x + j + v), vi_sll(vi_load_u16(x2 + j + v), 16))));
}
#endif

#endif
