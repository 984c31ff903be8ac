/* Matrix products. B is packed into panels of NR columns (dequantized on the way); A is read in place where it can be
 * and else copied in the form of the product; tile.h multiplies panels. The loops are those of Goto & van de
 * Geijn 2008 ("Anatomy of high-performance matrix multiplication"): a panel of B stays in the nearest cache while A's
 * block streams past it.
 *
 * An element of C is one chain over all of k, in order: a cut of k goes on from what C holds. So neither cuts nor
 * blocks nor workers change its bits, and a tail (see tq_gemm) gives those of a second product that accumulates. */
#include "kernels/pack.h"

enum {
    KC = 384,    /* floats of k in one cut */
    NC = 512,    /* columns of a block */
    MC = 240,    /* rows of a block */
    ACROSS = 8,  /* elements of k that are copied at a time of rows that lie across */
    PIECE = 256, /* elements of a stored row that are dequantized at a time: whole blocks of every format */
    /* scratch of a worker, in floats; copied rows are KC + VW apart, so that they do not compete for the same sets */
    ROW = KC + VW,
    SCRATCH_B = 0,
    SCRATCH_ROWS = SCRATCH_B + KC * NC,
    SCRATCH_TAIL = SCRATCH_ROWS + (PIECE * NR > 2 * NC ? PIECE * NR : 2 * NC),
    SCRATCH_A = SCRATCH_TAIL + ROW * MC,
    SCRATCH_END = TQ_SCRATCH_BYTES / sizeof(float)
};
_Static_assert(TILE_M <= VW && MC % TILE_M == 0, "put_cols");
_Static_assert(SCRATCH_A + ROW * MC <= SCRATCH_END, "scratch");

/* One of the (at most two) products that a call adds up, and where its operands are packed. */
typedef struct part {
    const tq_gemm *g;
    float *c;
    int64_t c_row;
    void (*dequant)(float *y, const void *x, int64_t n);
    form form;
    int64_t cuts, cut; /* of k: how many, and the elements of each but the last */
    bool keep_a;       /* all of the rows' A is copied once and stays for every block of columns */
    float *b, *a, *rows;
} part;

static inline const void *row_of_b(const tq_gemm *g, int64_t row, int64_t first) {
    return (const char *)g->b + (size_t)row * g->b_stride + tq_type_row_bytes(g->b_type, first);
}

/* --- packing ------------------------------------------------------------------------------------- */

#if SIMD_HAS_BF16
/* Stored bf16 goes into pairs as it is. False where it does not come out even. */
static bool pack_b_bf16(const part *s, int64_t p, int64_t kc, int64_t j, int64_t nc) {
    const tq_gemm *g = s->g;
    if (s->form != FORM_PAIRS || g->b_type != TQ_BF16 || (g->b_trans ? kc % (2 * VW) : kc % 2 + nc % NR)) return false;
    for (int64_t i = 0; !g->b_trans && i < kc; i += 2)
        put_bf16_across(s->b + i / 2 * NR, NR * KC, row_of_b(g, p + i, j), row_of_b(g, p + i + 1, j), nc);
    for (int64_t jp = 0; g->b_trans && jp < nc; jp += NR) {
        const uint16_t *rows[NR];
        for (int i = 0; i < NR; i++) rows[i] = jp + i < nc ? row_of_b(g, j + jp + i, p) : NULL;
        put_bf16_columns(s->b + jp * KC, rows, kc);
    }
    return true;
}
#endif

TQ_INLINE void pack_b_trans(const part *s, form f, int64_t p, int64_t kc, int64_t j, int64_t nc) {
    const tq_gemm *g = s->g;
    for (int64_t jp = 0; jp < nc; jp += NR)
        for (int64_t q = 0; q < kc; q += PIECE) {
            const int64_t n = kc - q < PIECE ? kc - q : PIECE;
            const float *rows[NR];
            for (int i = 0; i < NR; i++) {
                rows[i] = NULL;
                if (jp + i >= nc) continue;
                const void *row = row_of_b(g, j + jp + i, p + q);
                rows[i] = g->b_type == TQ_F32 ? row : s->rows + i * PIECE;
                if (g->b_type != TQ_F32) s->dequant(s->rows + i * PIECE, row, n);
            }
            put_columns(f, s->b + jp * KC + form_floats(f, q) * NR, rows, n);
        }
}

TQ_INLINE void pack_b_rows(const part *s, form f, int64_t p, int64_t kc, int64_t j, int64_t nc) {
    const tq_gemm *g = s->g;
    const int64_t step = f == FORM_PAIRS ? 2 : 1;
    for (int64_t i = 0; i < kc; i += step) {
        const float *x[2] = {NULL, NULL};
        for (int64_t e = 0; e < step && i + e < kc; e++) {
            const void *row = row_of_b(g, p + i + e, j);
            x[e] = g->b_type == TQ_F32 ? row : s->rows + e * NC;
            if (g->b_type != TQ_F32) s->dequant(s->rows + e * NC, row, nc);
        }
        put_across(f, s->b + i / step * NR, NR * KC, x[0], x[1], nc);
    }
}

static void pack_b(const part *s, int64_t p, int64_t kc, int64_t j, int64_t nc) {
#if SIMD_HAS_BF16
    if (pack_b_bf16(s, p, kc, j, nc)) return;
#endif
#define WITH_FORM(f)                                                                                                   \
    if (s->form == (f)) {                                                                                              \
        if (s->g->b_trans)                                                                                             \
            pack_b_trans(s, f, p, kc, j, nc);                                                                          \
        else                                                                                                           \
            pack_b_rows(s, f, p, kc, j, nc);                                                                           \
    }
    WITH_FORM(FORM_F32)
    WITH_FORM(FORM_ROUNDED)
    WITH_FORM(FORM_PAIRS)
}

static void pack_a(const part *s, float *to, int64_t i, int64_t mc, int64_t p, int64_t kc) {
    const tq_gemm *g = s->g;
    const float *a = g->a + i * g->a_row + p * g->a_col;
    if (g->a_col == 1) {
        for (int64_t e = 0; e < mc; e++) put_row(s->form, to + e * ROW, a + e * g->a_row, kc);
        return;
    }
    /* A few elements of k for all rows, then the next: neighbouring rows share A's cache lines. */
    for (int64_t q = 0; q < kc; q += ACROSS)
        for (int64_t e = 0; e < mc; e += TILE_M)
            put_cols(s->form, to + e * ROW + form_floats(s->form, q) * TILE_M, a + q * g->a_col + e, g->a_col,
                     mc - e < TILE_M ? mc - e : TILE_M, kc - q < ACROSS ? kc - q : ACROSS);
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
PANEL(row_pairs_wide, TILE_V, TILE_ROW_PAIRS)
PANEL(row_pairs_narrow, 1, TILE_ROW_PAIRS)
PANEL(col_pairs_wide, TILE_V, TILE_COL_PAIRS)
PANEL(col_pairs_narrow, 1, TILE_COL_PAIRS)
#endif

static void multiply(form f, int64_t rows, bool narrow, bool by_row, const tile_in *in, const tile_out *out) {
#if SIMD_HAS_BF16
    if (f == FORM_PAIRS) {
        if (by_row)
            (narrow ? row_pairs_narrow : row_pairs_wide)(rows, in, out);
        else
            (narrow ? col_pairs_narrow : col_pairs_wide)(rows, in, out);
        return;
    }
#endif
    (void)f;
    if (by_row)
        (narrow ? rows_narrow : rows_wide)(rows, in, out);
    else
        (narrow ? cols_narrow : cols_wide)(rows, in, out);
}

typedef struct block {
    int64_t i, mc, p, kc, j, nc; /* rows, elements of k, columns */
    bool a_copied, b_packed, go_on, last, add;
    float *a; /* where these rows of A are copied to */
} block;

/* C's rows [i, i + mc), columns [j, j + nc) += A's [p, p + kc) times B's. */
static void run_block(const part *s, const block *b) {
    const tq_gemm *g = s->g;
    const bool by_row = g->a_col == 1;
    for (int64_t jp = 0; jp < b->nc; jp += NR) {
        int cols = (int)(b->nc - jp < NR ? b->nc - jp : NR);
        tile_in in = {.k = form_floats(s->form, b->kc), .b = s->b + jp * KC, .bs = NR};
        if (!b->b_packed) in.b = (const float *)row_of_b(g, b->p, b->j + jp), in.bs = (int64_t)(g->b_stride / 4);
        tile_out out = {.c = s->c + b->i * s->c_row + b->j + jp,
                        .cs = s->c_row,
                        .cols = cols,
                        .alpha = b->last || b->add ? g->alpha : 1,
                        .accumulate = b->go_on && !b->add,
                        .add = b->add};
        const bool narrow = cols <= VW;
        if (!b->a_copied || by_row) {
            in.a = b->a_copied ? b->a : g->a + b->i * g->a_row + b->p * g->a_col;
            in.as = b->a_copied ? ROW : by_row ? g->a_row : g->a_col;
            multiply(s->form, b->mc, narrow, by_row, &in, &out);
            continue;
        }
        in.as = TILE_M;
        for (int64_t ip = 0; ip < b->mc; ip += TILE_M, out.c += TILE_M * s->c_row) {
            in.a = b->a + ip * ROW;
            multiply(s->form, b->mc - ip < TILE_M ? b->mc - ip : TILE_M, narrow, false, &in, &out);
        }
    }
}

/* Columns [j, j + nc) of C's rows [i[0], i[1]); first: they are the first for these rows. */
static void run_columns(const part *s, const int64_t i[2], int64_t j, int64_t nc, bool go_on, bool first) {
    const tq_gemm *g = s->g;
    const int64_t rows = i[1] - i[0];
    block b = {.j = j, .nc = nc, .go_on = go_on, .add = go_on && g->alpha != 1};
    /* Few rows do not pay for packing B; whole panels can be read in place. */
    b.b_packed = s->form != FORM_F32 || g->b_trans || g->b_type != TQ_F32 || rows > 2 * TILE_M || nc % NR;
    /* In place, rows would compete for the same sets of the first cache when they are a power of two apart. */
    b.a_copied = s->form != FORM_F32 || (nc > NR && rows > 2 * TILE_M && (g->a_col == 1 ? g->a_row % 512 == 0 : true));
    b.a = s->a;
    for (; b.p < g->k; b.p += s->cut) {
        b.kc = g->k - b.p < s->cut ? g->k - b.p : s->cut;
        b.last = b.p + b.kc == g->k;
        if (b.b_packed) pack_b(s, b.p, b.kc, j, nc);
        for (b.i = i[0]; b.i < i[1]; b.i += MC) {
            b.mc = i[1] - b.i < MC ? i[1] - b.i : MC;
            if (b.a_copied && (first || !s->keep_a)) pack_a(s, b.a, b.i, b.mc, b.p, b.kc);
            run_block(s, &b);
            if (s->keep_a) b.a += MC * ROW;
        }
        b.go_on = true;
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

static part part_of(tq_worker *w, const tq_kernels *kernels, const tq_gemm *g, const tq_gemm *operands) {
    float *scratch = w->scratch;
    part s = {.g = operands,
              .c = g->c,
              .c_row = g->c_row,
              .dequant = kernels->dequant_row[operands->b_type],
              .form = g->compute != TQ_COMPUTE_BF16 ? FORM_F32
                      : SIMD_HAS_BF16               ? FORM_PAIRS
                                                    : FORM_ROUNDED,
              .b = scratch + SCRATCH_B,
              .a = scratch + (g == operands ? SCRATCH_A : SCRATCH_TAIL),
              .rows = scratch + SCRATCH_ROWS};
    /* k in equal cuts, at whole blocks of every format. */
    const int64_t most = s.form == FORM_PAIRS ? 2 * KC : KC;
    s.cuts = (operands->k + most - 1) / most;
    s.cut = s.cuts ? (operands->k + s.cuts - 1) / s.cuts : 1;
    s.cut = (s.cut + PIECE / 2 - 1) / (PIECE / 2) * (PIECE / 2);
    if (tq_type_get(operands->b_type)->block > PIECE / 2) s.cut = (s.cut + PIECE - 1) / PIECE * PIECE;
    if (s.cut > most) s.cut = most / PIECE * PIECE;
    if (s.cuts) s.cuts = (operands->k + s.cut - 1) / s.cut;
    return s;
}

void TQ_FN(gemm)(tq_worker *w, const tq_kernels *kernels, const tq_gemm *g) {
    part whole = part_of(w, kernels, g, g);
    /* A part of a stored row starts at a whole block. */
    const int64_t unit = tq_type_get(g->b_type)->block, grain = !g->b_trans && unit > NR ? unit : NR;
    int64_t i[2], j[2];
    share(w, g, grain, i, j);
    if (g->k == 0 && !g->accumulate)
        for (int64_t r = i[0]; r < i[1]; r++)
            memset(g->c + r * g->c_row + j[0], 0, (size_t)(j[1] - j[0]) * sizeof *g->c);
    if (i[0] == i[1]) return;
    whole.keep_a =
        j[1] - j[0] > NC && (i[1] - i[0] + MC - 1) / MC * whole.cuts <= (SCRATCH_END - SCRATCH_A) / (MC * ROW);
    for (int64_t jc = j[0]; jc < j[1]; jc += NC) {
        const int64_t nc = j[1] - jc < NC ? j[1] - jc : NC;
        run_columns(&whole, i, jc, nc, g->accumulate, jc == j[0]);
        if (!g->tail) continue;
        const part tail = part_of(w, kernels, g, g->tail);
        run_columns(&tail, i, jc, nc, true, true);
    }
}
