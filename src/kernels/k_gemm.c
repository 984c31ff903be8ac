/* Matrix products. B is packed into panels of NR columns (dequantized on the way), A is packed into panels of TILE_M
 * rows where that pays and read in place where not, and tile.h multiplies panels. The loops are those of Goto & van
 * de Geijn 2008 ("Anatomy of high-performance matrix multiplication"): a panel of B stays in the first cache while
 * A's block streams past it.
 *
 * k is cut at multiples of KC, whatever the shape, and each cut adds to C once, so an element of C has one order of
 * summation. KC is a multiple of every block of the quantized formats. */
#include "kernels/row.h"
#include "kernels/tile.h"

enum {
    NR = TILE_V * VW,
    KC = 256,
    MC = 20 * TILE_M,
    NC = 512,
    /* scratch of a worker, in floats */
    SCRATCH_B = 0,
    SCRATCH_A = SCRATCH_B + KC * NC,
    SCRATCH_ROWS = SCRATCH_A + KC * MC + VW,
    SCRATCH_END = SCRATCH_ROWS + (KC * NR > 2 * NC ? KC * NR : 2 * NC)
};
_Static_assert(TILE_M <= VW, "pack_a_rows");
_Static_assert((size_t)SCRATCH_END * sizeof(float) <= TQ_SCRATCH_BYTES, "scratch");

typedef struct part {
    const tq_gemm *g;
    void (*dequant)(float *y, const void *x, int64_t n);
    bool round; /* operands are rounded to bf16 */
    bool pairs; /* and stored in pairs for the hardware's dot products */
    float *b, *a, *rows;
} part;

TQ_INLINE vf round_bf16(vf x) {
    vi bits = vi_of_vf(x), size = vi_and(bits, vi_set1(0x7fffffff));
    vi up = vi_add(vi_add(bits, vi_set1(0x7fff)), vi_and(vi_srl(bits, 16), vi_set1(1)));
    up = vi_if_gt(size, vi_set1(0x7f800000), vi_or(bits, vi_set1(0x400000)), up);
    return vf_of_vi(vi_and(up, vi_set1((int32_t)0xffff0000u)));
}

/* Two rounded vectors as one of pairs. */
TQ_INLINE vf pair_bf16(vf even, vf odd) {
    return vf_of_vi(vi_or(vi_srl(vi_of_vf(even), 16), vi_of_vf(odd)));
}

static inline const void *row_of_b(const tq_gemm *g, int64_t row, int64_t first) {
    return (const char *)g->b + (size_t)row * g->b_stride + tq_type_row_bytes(g->b_type, first);
}

/* --- packing B: panel [p][NR], or [p/2][NR] of pairs ---------------------------------------------- */

/* rows[j] (j < NR) holds kc elements of column j; rows past the columns that exist are NULL and give 0. */
static void pack_columns(const part *s, float *panel, const float *const rows[NR], int64_t kc) {
    for (int64_t p = 0; p < kc; p += VW) {
        int64_t n = kc - p < VW ? kc - p : VW;
        for (int v = 0; v < TILE_V; v++) {
            vf t[VW];
            for (int j = 0; j < VW; j++) {
                const float *x = rows[v * VW + j];
                t[j] = !x ? vf_zero() : n == VW ? vf_load(x + p) : vf_load_n(x + p, n);
            }
            vf_transpose(t);
            if (s->round)
                for (int i = 0; i < VW; i++) t[i] = round_bf16(t[i]);
            float *to = panel + v * VW;
            if (s->pairs)
                for (int i = 0; i < n; i += 2) vf_store(to + (p + i) / 2 * NR, pair_bf16(t[i], t[i + 1]));
            else
                for (int i = 0; i < n; i++) vf_store(to + (p + i) * NR, t[i]);
        }
    }
}

/* Columns [j, j + nc) of B whose stored rows are columns. */
static void pack_b_trans(const part *s, int64_t p, int64_t kc, int64_t j, int64_t nc) {
    const tq_gemm *g = s->g;
    for (int64_t jp = 0; jp < nc; jp += NR) {
        const float *rows[NR];
        for (int i = 0; i < NR; i++) {
            rows[i] = NULL;
            if (jp + i >= nc) continue;
            const void *row = row_of_b(g, j + jp + i, p);
            rows[i] = g->b_type == TQ_F32 ? row : s->rows + i * KC;
            if (g->b_type != TQ_F32) s->dequant(s->rows + i * KC, row, kc);
        }
        pack_columns(s, s->b + jp * KC, rows, kc);
    }
}

/* One row of B (or two, for pairs; the second may be NULL) into its place in nc/NR panels. */
static void pack_row(const part *s, float *to, const float *x, const float *x2, int64_t nc) {
    for (int64_t j = 0; j < nc; j += VW) {
        int64_t n = nc - j < VW ? nc - j : VW;
        vf v = n == VW ? vf_load(x + j) : vf_load_n(x + j, n);
        if (s->round) v = round_bf16(v);
        if (s->pairs) {
            vf v2 = !x2 ? vf_zero() : n == VW ? vf_load(x2 + j) : vf_load_n(x2 + j, n);
            v = pair_bf16(v, round_bf16(v2));
        }
        vf_store(to + j / NR * NR * KC + j % NR, v);
    }
    /* The tile is whole vectors wide; the last panel's missing ones are 0. */
    for (int64_t j = (nc + VW - 1) / VW * VW; j % NR; j += VW) vf_store(to + j / NR * NR * KC + j % NR, vf_zero());
}

static void pack_b_rows(const part *s, int64_t p, int64_t kc, int64_t j, int64_t nc) {
    const tq_gemm *g = s->g;
    int64_t step = s->pairs ? 2 : 1;
    for (int64_t i = 0; i < kc; i += step) {
        const float *x[2] = {NULL, NULL};
        for (int64_t e = 0; e < step && i + e < kc; e++) {
            const void *row = row_of_b(g, p + i + e, j);
            x[e] = g->b_type == TQ_F32 ? row : s->rows + e * NC;
            if (g->b_type != TQ_F32) s->dequant(s->rows + e * NC, row, nc);
        }
        pack_row(s, s->b + i / step * NR, x[0], x[1], nc);
    }
}

/* --- packing A: panel [p][TILE_M] or [p/2][TILE_M] of pairs --------------------------------------- */

static inline float pair_of(const float *a, int64_t col, bool two) {
    uint32_t lo = tq_float_to_bf16(a[0]), hi = two ? tq_float_to_bf16(a[col]) : 0u;
    return tq_float_of_bits(hi << 16 | lo);
}

/* m <= TILE_M rows that lie along k. A store is a whole vector: what it puts behind its TILE_M floats is overwritten by
 * the next one, or stands in the VW floats that follow the last panel. */
static void pack_a_rows(float *to, const float *a, int64_t row, int64_t m, int64_t kc) {
    for (int64_t q = 0; q < kc; q += VW) {
        int64_t n = kc - q < VW ? kc - q : VW;
        vf t[VW];
        for (int e = 0; e < VW; e++)
            t[e] = e >= m ? vf_zero() : n == VW ? vf_load(a + e * row + q) : vf_load_n(a + e * row + q, n);
        vf_transpose(t);
        for (int64_t i = 0; i < n; i++) vf_store(to + (q + i) * TILE_M, t[i]);
    }
}

static void pack_a(const part *s, int64_t i, int64_t mc, int64_t p, int64_t kc) {
    const tq_gemm *g = s->g;
    const int64_t col = g->a_col, row = g->a_row;
    for (int64_t ip = 0; ip < mc; ip += TILE_M) {
        const float *a = g->a + (i + ip) * row + p * col;
        float *to = s->a + ip * KC;
        int64_t m = mc - ip < TILE_M ? mc - ip : TILE_M;
        if (s->pairs) {
            for (int64_t q = 0; q < kc; q += 2, to += TILE_M)
                for (int64_t e = 0; e < m; e++) to[e] = pair_of(a + e * row + q * col, col, q + 1 < kc);
        } else if (s->round) {
            for (int64_t q = 0; q < kc; q++, to += TILE_M)
                for (int64_t e = 0; e < m; e++) to[e] = tq_bf16_to_float(tq_float_to_bf16(a[e * row + q * col]));
        } else if (row == 1 && m == TILE_M) {
            for (int64_t q = 0; q < kc; q++, to += TILE_M) memcpy(to, a + q * col, TILE_M * sizeof *to);
        } else if (col == 1) {
            pack_a_rows(to, a, row, m, kc);
        } else {
            for (int64_t e = 0; e < m; e++)
                for (int64_t q = 0; q < kc; q++) to[q * TILE_M + e] = a[e * row + q * col];
        }
    }
}

/* --- the loops ------------------------------------------------------------------------------------ */

#define PANEL(name, nv, kind)                                                                                          \
    static void name(int64_t rows, const tile_in *in, const tile_out *out) {                                           \
        tile_panel(rows, nv, kind, in, out);                                                                           \
    }
PANEL(rows_wide, TILE_V, TILE_ROWS)
PANEL(rows_narrow, 1, TILE_ROWS)
PANEL(cols_wide, TILE_V, TILE_COLS)
PANEL(cols_narrow, 1, TILE_COLS)
#if SIMD_HAS_BF16
PANEL(pairs_wide, TILE_V, TILE_PAIRS)
PANEL(pairs_narrow, 1, TILE_PAIRS)
#endif

static void multiply(const part *s, int64_t rows, bool narrow, bool by_row, const tile_in *in, const tile_out *out) {
#if SIMD_HAS_BF16
    if (s->pairs) {
        (narrow ? pairs_narrow : pairs_wide)(rows, in, out);
        return;
    }
#endif
    (void)s;
    if (by_row)
        (narrow ? rows_narrow : rows_wide)(rows, in, out);
    else
        (narrow ? cols_narrow : cols_wide)(rows, in, out);
}

/* C's rows [i, i + mc) += A's times the packed panels of columns [j, j + nc). */
static void block(const part *s, int64_t i, int64_t mc, int64_t p, int64_t kc, int64_t j, int64_t nc, bool packed) {
    const tq_gemm *g = s->g;
    bool by_row = !packed && g->a_col == 1;
    for (int64_t jp = 0; jp < nc; jp += NR) {
        int cols = (int)(nc - jp < NR ? nc - jp : NR);
        tile_in in = {.k = s->pairs ? (kc + 1) / 2 : kc, .b = s->b + jp * KC, .bs = NR};
        tile_out out = {.c = g->c + i * g->c_row + j + jp,
                        .cs = g->c_row,
                        .cols = cols,
                        .alpha = g->alpha,
                        .accumulate = g->accumulate || p > 0};
        bool narrow = cols <= VW;
        if (!packed) {
            in.a = g->a + i * g->a_row + p * g->a_col;
            in.as = by_row ? g->a_row : g->a_col;
            multiply(s, mc, narrow, by_row, &in, &out);
            continue;
        }
        in.as = TILE_M;
        for (int64_t ip = 0; ip < mc; ip += TILE_M, out.c += TILE_M * g->c_row) {
            in.a = s->a + ip * KC;
            multiply(s, mc - ip < TILE_M ? mc - ip : TILE_M, narrow, false, &in, &out);
        }
    }
}

/* Worker's share: a grid of row parts by column parts, the cheapest by a rough count of work: products, and packing
 * of both operands (an element packed costs about as much as a dozen products). Only speed depends on it. */
static void share(const tq_worker *w, const tq_gemm *g, int64_t grain, int64_t i[2], int64_t j[2]) {
    int best = 1;
    double least = INFINITY;
    for (int rows = 1; rows <= w->count; rows++) {
        if (w->count % rows) continue;
        int cols = w->count / rows;
        int64_t m = ((g->m + TILE_M - 1) / TILE_M + rows - 1) / rows * TILE_M;
        int64_t n = ((g->n + grain - 1) / grain + cols - 1) / cols * grain;
        double cost = (double)m * (double)n + 12.0 * (double)n + 6.0 * (double)m;
        if (cost < least) least = cost, best = rows;
    }
    tq_worker row = {.id = w->id % best, .count = best}, col = {.id = w->id / best, .count = w->count / best};
    tq_share(&row, g->m, TILE_M, &i[0], &i[1]);
    tq_share(&col, g->n, grain, &j[0], &j[1]);
}

void TQ_FN(gemm)(tq_worker *w, const tq_kernels *kernels, const tq_gemm *g) {
    float *scratch = w->scratch;
    part s = {.g = g,
              .dequant = kernels->dequant_row[g->b_type],
              .round = g->compute == TQ_COMPUTE_BF16,
              .pairs = g->compute == TQ_COMPUTE_BF16 && SIMD_HAS_BF16,
              .b = scratch + SCRATCH_B,
              .a = scratch + SCRATCH_A,
              .rows = scratch + SCRATCH_ROWS};
    /* A part of a stored row starts at a whole block. */
    int64_t unit = tq_type_get(g->b_type)->block, grain = !g->b_trans && unit > NR ? unit : NR, i[2], j[2];
    share(w, g, grain, i, j);
    if (g->k == 0 && !g->accumulate)
        for (int64_t r = i[0]; r < i[1]; r++)
            memset(g->c + r * g->c_row + j[0], 0, (size_t)(j[1] - j[0]) * sizeof *g->c);
    if (i[0] == i[1]) return;
    /* A is packed where it lies across, and where its rows would compete for the same sets of the first cache. */
    for (int64_t jc = j[0]; jc < j[1]; jc += NC) {
        int64_t nc = j[1] - jc < NC ? j[1] - jc : NC;
        bool packed = s.round || (nc > NR && (g->a_col != 1 || g->a_row % 512 == 0));
        for (int64_t p = 0; p < g->k; p += KC) {
            int64_t kc = g->k - p < KC ? g->k - p : KC;
            (g->b_trans ? pack_b_trans : pack_b_rows)(&s, p, kc, jc, nc);
            for (int64_t ic = i[0]; ic < i[1]; ic += MC) {
                int64_t mc = i[1] - ic < MC ? i[1] - ic : MC;
                if (packed) pack_a(&s, ic, mc, p, kc);
                block(&s, ic, mc, p, kc, jc, nc, packed);
            }
        }
    }
}
