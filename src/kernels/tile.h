/* The one micro-kernel of products: a tile of C, at most TILE_M rows by TILE_V vectors, kept in registers over the
 * whole of k. Every element of it is one chain of FMAs over p = 0, 1, ..., so its value depends neither on the tile's
 * size nor on where in the tile it stands. Callers cut rows into tiles of TILE_M and then of falling powers of
 * two, so nothing outside of A's rows is read. */
#ifndef TQ_KERNELS_TILE_H
#define TQ_KERNELS_TILE_H

#include "kernels/row.h"

/* A's element (i, p) is a[i*as + p] (ROWS) or a[i + p*as] (COLS). B's row p is the nv vectors at b + p*bs.
 * PAIRS is COLS with pairs of bf16 in the place of floats: elements 2p and 2p + 1. */
typedef enum tile_kind { TILE_ROWS, TILE_COLS, TILE_PAIRS } tile_kind;
typedef struct tile_in {
    int64_t k;
    const float *a;
    int64_t as;
    const float *b;
    int64_t bs;
} tile_in;
/* C's row i is at c + i*cs, `cols` of its elements are stored: alpha * product (+ C). */
typedef struct tile_out {
    float *c;
    int64_t cs;
    int cols;
    float alpha;
    bool accumulate;
} tile_out;

TQ_INLINE void tile_store(int mr, int nv, vf acc[TILE_M][TILE_V], const tile_out *o) {
    const vf alpha = vf_set1(o->alpha);
    if (o->cols == nv * VW) {
        TQ_UNROLL for (int i = 0; i < mr; i++) {
            TQ_UNROLL for (int j = 0; j < nv; j++) {
                float *c = o->c + i * o->cs + j * VW;
                vf_store(c, o->accumulate ? vf_fma(alpha, acc[i][j], vf_load(c)) : vf_mul(alpha, acc[i][j]));
            }
        }
        return;
    }
    TQ_UNROLL for (int i = 0; i < mr; i++) {
        TQ_UNROLL for (int j = 0; j < nv; j++) {
            float *c = o->c + i * o->cs + j * VW;
            int64_t n = o->cols - j * VW < VW ? o->cols - j * VW : VW;
            if (n <= 0) break;
            vf_store_n(c, o->accumulate ? vf_fma(alpha, acc[i][j], vf_load_n(c, n)) : vf_mul(alpha, acc[i][j]), n);
        }
    }
}

TQ_INLINE vf tile_mul(tile_kind kind, vf a, vf b, vf acc) {
#if SIMD_HAS_BF16
    if (kind == TILE_PAIRS) return vf_dot_bf16(acc, vi_of_vf(a), vi_of_vf(b));
#endif
    (void)kind;
    return vf_fma(a, b, acc);
}

TQ_INLINE void tile(int mr, int nv, tile_kind kind, const tile_in *in, const tile_out *out) {
    vf acc[TILE_M][TILE_V];
    TQ_UNROLL for (int i = 0; i < mr; i++) {
        TQ_UNROLL for (int j = 0; j < nv; j++) acc[i][j] = vf_zero();
    }
    const float *a = in->a, *b = in->b;
    const int64_t as = in->as, bs = in->bs;
    for (int64_t p = 0; p < in->k; p++, b += bs, a += kind == TILE_ROWS ? 1 : as) {
        vf bv[TILE_V];
        TQ_UNROLL for (int j = 0; j < nv; j++) bv[j] = vf_load(b + j * VW);
        TQ_UNROLL for (int i = 0; i < mr; i++) {
            vf av = vf_set1(kind == TILE_ROWS ? a[i * as] : a[i]);
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

/* All rows of one column panel (nv vectors wide). */
TQ_INLINE void tile_panel(int64_t rows, int nv, tile_kind kind, const tile_in *in, const tile_out *out) {
    tile_in i = *in;
    tile_out o = *out;
    while (rows > 0) {
        int64_t done = tile_step(rows, nv, kind, &i, &o);
        i.a += kind == TILE_ROWS ? done * i.as : done;
        o.c += done * o.cs;
        rows -= done;
    }
}

#endif
