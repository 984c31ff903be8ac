/* LoRA (Hu et al. 2021): y = W x + s B (A drop(x)), A [R, in], B [out, R], s = alpha / R (rsLoRA, Kalajdzievski 2023:
 * alpha / sqrt(R)). With h = s A x the backward is, for u = s dy B: dB = dy^T h, dA = u^T x, dx += u A. */
#include "model/peft.h"

#include <math.h>
#include <string.h>

void tq_lora_shape(const tq_site_state *s, int i, int *rows, int *cols) {
    *rows = i == 0 ? s->rank : (int)s->weight->rows;
    *cols = i == 0 ? (int)s->weight->cols : s->rank;
}

static void lora_init(tq_site_state *s, uint64_t seed, uint32_t site) {
    size_t n = (size_t)s->rank * (size_t)s->weight->cols;
    float bound = 1 / sqrtf((float)s->weight->cols);
    tq_rng rng;
    tq_rng_init(&rng, seed, TQ_RNG_INIT, site, 0);
    for (size_t i = 0; i < n; i++) s->value[0][i] = bound * (float)(2 * tq_rng_uniform(&rng) - 1);
}

/* Multiplies x [n] by its dropout mask (0 or 1 / (1 - p)); numbers are keyed by the row's identity, its use, the
 * position, layer and site, so neither packing nor recomputation changes them. */
static void mask_row(const tq_exec *e, const tq_segment *seg, int t, const tq_site *site, float p, const float *x,
                     float *y, int64_t n) {
    uint32_t keep = (uint32_t)((1 - (double)p) * 4294967295.0), word[4];
    uint32_t key[2] = {(uint32_t)e->seed ^ seg->use * 0x9E3779B9u, (uint32_t)(e->seed >> 32) ^ TQ_RNG_DROPOUT};
    uint32_t counter[4] = {0, seg->id, (uint32_t)(seg->pos + t), (uint32_t)(site->layer << 8 | site->role)};
    for (int64_t i = 0; i < n; i++) {
        if (i % 4 == 0) {
            counter[0] = (uint32_t)(i / 4);
            tq_philox(word, counter, key);
        }
        y[i] = word[i % 4] < keep ? x[i] / (1 - p) : 0;
    }
}

/* y = mask * x for rows [t0, t1) of width n; shared among the workers, ends with a barrier. */
static void mask_rows(const tq_exec *e, tq_worker *w, const tq_site *site, float p, int t0, int t1, const float *x,
                      float *y, int64_t n) {
    int64_t b, end;
    tq_share(w, t1 - t0, 1, &b, &end);
    for (int i = 0; i < e->n_segments; i++) {
        const tq_segment *seg = &e->segments[i];
        for (int t = seg->row; t < seg->row + seg->n; t++)
            if (t >= t0 + b && t < t0 + end) mask_row(e, seg, t - seg->row, site, p, x + t * n, y + t * n, n);
    }
    tq_barrier(w);
}

/* The four thin products (R rows or columns) are computed in f32 in every mode: in bf16 the rounding of their wide
 * operand would cost as much as the product. */
static void thin(tq_exec *e, tq_worker *w, tq_gemm g) {
    g.b_type = TQ_F32;
    g.compute = TQ_COMPUTE_F32;
    e->k->gemm(w, e->k, &g);
}

/* h [T, R] = s A x, and x as the adapter sees it (dropped out in `wide`) in *x. Ends with a barrier. */
static float *down(tq_exec *e, tq_worker *w, const tq_site *site, float scale, int t0, int t1, const float **x) {
    const tq_site_state *s = site->state;
    const tq_adapter *a = s->adapter;
    const int64_t in = s->weight->cols, R = s->rank;
    float *h = e->low + t0 * R;
    if (e->train && a->grads && a->dropout > 0) {
        mask_rows(e, w, site, a->dropout, t0, t1, *x, e->wide, in);
        *x = e->wide;
    }
    thin(e, w,
         (tq_gemm){.m = t1 - t0,
                   .n = R,
                   .k = in,
                   .a = *x + t0 * in,
                   .a_row = in,
                   .a_col = 1,
                   .b = s->value[0],
                   .b_trans = true,
                   .b_stride = (size_t)in * sizeof(float),
                   .c = h,
                   .c_row = R,
                   .alpha = scale * s->scaling});
    tq_barrier(w);
    return h;
}

/* y += h B^T. */
static void lora_join(tq_exec *e, tq_worker *w, const tq_site *site, float scale, int t0, int t1, const float *x,
                      tq_addend *add) {
    const tq_site_state *s = site->state;
    const int64_t R = s->rank;
    add->plain = NULL;
    add->product = (tq_gemm){.k = R,
                             .a = down(e, w, site, scale, t0, t1, &x),
                             .a_row = R,
                             .a_col = 1,
                             .b = s->value[1],
                             .b_type = TQ_F32,
                             .b_trans = true,
                             .b_stride = (size_t)R * sizeof(float),
                             .alpha = 1};
}

/* dA += u^T x and dB += dy^T h. The second is computed as its transpose, which has few rows and needs no packing. Each
 * worker turns the columns that it computed, so no barrier stands between. */
static void lora_grads(tq_exec *e, tq_worker *w, const tq_site_state *s, int64_t n, const float *x, const float *dy,
                       const float *h, const float *u) {
    const int64_t in = s->weight->cols, out = s->weight->rows, R = s->rank;
    thin(e, w,
         (tq_gemm){.m = R,
                   .n = in,
                   .k = n,
                   .a = u,
                   .a_row = 1,
                   .a_col = R,
                   .b = x,
                   .b_stride = (size_t)in * sizeof(float),
                   .c = *s->grads + s->start[0],
                   .c_row = in,
                   .alpha = 1,
                   .accumulate = true});
    thin(e, w,
         (tq_gemm){.m = R,
                   .n = out,
                   .k = n,
                   .a = h,
                   .a_row = 1,
                   .a_col = R,
                   .b = dy,
                   .b_stride = (size_t)out * sizeof(float),
                   .c = e->outer,
                   .c_row = out,
                   .alpha = 1});
    tq_barrier(w);
    int64_t j0, j1;
    tq_share(w, out, 16, &j0, &j1);
    float *dB = *s->grads + s->start[1];
    for (int64_t j = j0; j < j1; j++)
        for (int64_t r = 0; r < R; r++) dB[j * R + r] += e->outer[r * out + j];
}

static void lora_join_bwd(tq_exec *e, tq_worker *w, const tq_site *site, float scale, int t0, int t1, const float *x,
                          const float *dy, tq_addend *add) {
    const tq_site_state *s = site->state;
    const tq_adapter *a = s->adapter;
    const int64_t in = s->weight->cols, out = s->weight->rows, R = s->rank, n = t1 - t0;
    float *u = e->low + (e->T + t0) * R;
    thin(e, w,
         (tq_gemm){.m = n,
                   .n = R,
                   .k = out,
                   .a = dy + t0 * out,
                   .a_row = out,
                   .a_col = 1,
                   .b = s->value[1],
                   .b_stride = (size_t)R * sizeof(float),
                   .c = u,
                   .c_row = R,
                   .alpha = scale * s->scaling});
    if (a->grads) {
        const float *h = down(e, w, site, scale, t0, t1, &x);
        lora_grads(e, w, s, n, x + t0 * in, dy + t0 * out, h, u);
    }
    tq_barrier(w);
    if (!add) return;
    add->plain = NULL;
    add->product = (tq_gemm){.k = R,
                             .a = u,
                             .a_row = R,
                             .a_col = 1,
                             .b = s->value[0],
                             .b_type = TQ_F32,
                             .b_stride = (size_t)in * sizeof(float),
                             .alpha = 1};
    if (!a->grads || a->dropout == 0) return;
    tq_gemm g = add->product;
    g.m = n;
    g.n = in;
    g.c = e->wide + t0 * in;
    g.c_row = in;
    g.compute = e->compute;
    e->k->gemm(w, e->k, &g);
    tq_barrier(w);
    mask_rows(e, w, site, a->dropout, t0, t1, e->wide, e->wide, in);
    add->product.k = 0;
    add->plain = e->wide + t0 * in;
}

void tq_lora_fwd(tq_exec *e, tq_worker *w, const tq_site *site, float scale, int t0, int t1, const float *x, float *y) {
    const int64_t out = ((const tq_site_state *)site->state)->weight->rows;
    tq_addend add;
    lora_join(e, w, site, scale, t0, t1, x, &add);
    tq_addend_take(e, w, t1 - t0, out, &add, false, y + t0 * out);
}

void tq_lora_bwd(tq_exec *e, tq_worker *w, const tq_site *site, float scale, int t0, int t1, const float *x,
                 const float *dy, float *dx) {
    const int64_t in = ((const tq_site_state *)site->state)->weight->cols;
    tq_addend add;
    lora_join_bwd(e, w, site, scale, t0, t1, x, dy, dx ? &add : NULL);
    if (dx) tq_addend_take(e, w, t1 - t0, in, &add, false, dx + t0 * in);
}

static void lora_connect(const tq_site_state *s, tq_site *site) {
    (void)s;
    site->fwd = tq_lora_fwd;
    site->bwd = tq_lora_bwd;
    site->join = lora_join;
    site->join_bwd = lora_join_bwd;
}

const tq_peft tq_peft_lora = {
    .name = "lora",
    .peft_type = "LORA",
    .help = "low-rank additions to the linear maps",
    .keys = "rank alpha dropout rslora rank_pattern alpha_pattern targets loraplus_lr_ratio train_modules init",
    .lr_small = 1e-3,
    .lr_large = 2e-4,
    .targets = "all-linear",
    .n_parts = 2,
    .part = {"lora_A.weight", "lora_B.weight"},
    .shape = tq_lora_shape,
    .init = lora_init,
    .connect = lora_connect,
};
