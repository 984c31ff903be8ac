/* The one micro-kernel of products: a tile of C, at most TILE_M rows by TILE_V vectors, kept in registers over the
 * whole of k. Every element of it is one chain of FMAs over p = 0, 1, ..., so its value depends neither on the tile's
 * size nor on where in the tile it stands. Callers cut rows into tiles of TILE_M and then of falling powers of
 * two, so nothing outside of A's rows is read. */
#ifndef TQ_KERNELS_TILE_H
#define TQ_KERNELS_TILE_H

#include "kernels/row.h"

/* A's element (i, p) is a[i*as + p] (ROWS) or a[i + p*as] (COLS). B's row p is the nv vectors at b + p*bs.
 * PAIRS: pairs of bf16 stand in the place of floats, elements 2p and 2p + 1. */
typedef enum tile_kind { TILE_ROWS, TILE_COLS, TILE_ROW_PAIRS, TILE_COL_PAIRS } tile_kind;
#define TILE_BY_ROW(kind) ((kind) == TILE_ROWS || (kind) == TILE_ROW_PAIRS)
typedef struct tile_in {
    int64_t k;
    const float *a;
    int64_t as;
    const float *b;
    int64_t bs;
} tile_in;
/* C's row i is at c + i*cs, `cols` of its elements become alpha times their chains, which, with `accumulate`, begin
 * with what C holds; with `add`, alpha times the chains is added to C instead. */
typedef struct tile_out {
    float *c;
    int64_t cs;
    int cols;
    float alpha;
    bool accumulate, add;
} tile_out;

/* Columns of the tile's vector j that exist. */
TQ_INLINE int64_t tile_cols(const tile_out *o, int j) {
    return o->cols - j * VW < VW ? o->cols - j * VW : VW;
}

TQ_INLINE void tile_load(int mr, int nv, vf acc[TILE_M][TILE_V], const tile_out *o) {
    TQ_UNROLL for (int i = 0; i < mr; i++) {
        TQ_UNROLL for (int j = 0; j < nv; j++) {
            const float *c = o->c + i * o->cs + j * VW;
            const int64_t n = tile_cols(o, j);
            acc[i][j] = !o->accumulate || n <= 0 ? vf_zero() : n == VW ? vf_load(c) : vf_load_n(c, n);
        }
    }
}

TQ_INLINE void tile_store(int mr, int nv, vf acc[TILE_M][TILE_V], const tile_out *o) {
    const vf alpha = vf_set1(o->alpha);
    TQ_UNROLL for (int i = 0; i < mr; i++) {
        TQ_UNROLL for (int j = 0; j < nv; j++) {
            float *c = o->c + i * o->cs + j * VW;
            const int64_t n = tile_cols(o, j);
            if (n == VW)
                vf_store(c, o->add ? vf_fma(alpha, acc[i][j], vf_load(c)) : vf_mul(alpha, acc[i][j]));
            else if (n > 0)
                vf_store_n(c, o->add ? vf_fma(alpha, acc[i][j], vf_load_n(c, n)) : vf_mul(alpha, acc[i][j]), n);
        }
    }
}

TQ_INLINE vf tile_mul(tile_kind kind, vf a, vf b, vf acc) {
#if SIMD_HAS_BF16
    if (kind == TILE_ROW_PAIRS || kind == TILE_COL_PAIRS) return vf_dot_bf16(acc, vi_of_vf(a), vi_of_vf(b));
#endif
    (void)kind;
    return vf_fma(a, b, acc);
}

TQ_INLINE void tile(int mr, int nv, tile_kind kind, const tile_in *in, const tile_out *out) {
    vf acc[TILE_M][TILE_V];
    tile_load(mr, nv, acc, out);
    const float *a = in->a, *b = in->b;
    const int64_t as = in->as, bs = in->bs;
    for (int64_t p = 0; p < in->k; p++, b += bs, a += TILE_BY_ROW(kind) ? 1 : as) {
        vf bv[TILE_V];
        TQ_UNROLL for (int j = 0; j < nv; j++) bv[j] = vf_load(b + j * VW);
        TQ_UNROLL for (int i = 0; i < mr; i++) {
            vf av = vf_set1(TILE_BY_ROW(kind) ? a[i * as] : a[i]);
            TQ_UNROLL for (int j = 0; j < nv; j++) acc[i][j] = tile_mul(kind, av, bv[j], acc[i][j]);
        }
    }
    tile_store(mr, nv, acc, out);
}

/* One tile of the largest size <= rows; returns its rows. */
#define TILE_CASE(mr)                                                                                                  \
    if (mr <= TILE_M && rows >= mr) {                                                                                  \
        tile(mr <= TILE_M ? mr : 1, nv, kind, in, out);                                                                \
        return mr;                                                                                                     \
    }
TQ_INLINE int64_t tile_step(int64_t rows, int nv, tile_kind kind, const tile_in *in, const tile_out *out) {
    TILE_CASE(TILE_M)
    TILE_CASE(8)
    TILE_CASE(4)
    TILE_CASE(2)
    tile(1, nv, kind, in, out);
    return 1;
}

/* Asks for the next tile's part of C, so that its chains need not wait for what they go on from. */
TQ_INLINE void tile_prefetch(int64_t rows, int nv, const float *c, int64_t cs) {
    for (int64_t i = 0; i < rows && i < TILE_M; i++)
        for (int j = 0; j < nv; j++) __builtin_prefetch(c + i * cs + j * VW, 1, 2);
}

/* All rows of one column panel (nv vectors wide). */
TQ_INLINE void tile_panel(int64_t rows, int nv, tile_kind kind, const tile_in *in, const tile_out *out) {
    tile_in i = *in;
    tile_out o = *out;
    while (rows > 0) {
        if (o.accumulate || o.add) tile_prefetch(rows - TILE_M, nv, o.c + TILE_M * o.cs, o.cs);
        int64_t done = tile_step(rows, nv, kind, &i, &o);
        i.a += TILE_BY_ROW(kind) ? done * i.as : done;
        o.c += done * o.cs;
        rows -= done;
    }
}

#endif
