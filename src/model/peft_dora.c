/* DoRA (Liu et al. 2024, "DoRA: Weight-Decomposed Low-Rank Adaptation"): direction by LoRA, magnitude by a vector:
 *   y = f (W x + s B A x) + bias,  f_o = m_o / n_o,  n_o = |W_o + s B_o A|  (a constant in backward, as in the paper).
 * With |W_o|^2 kept, n_o^2 = |W_o|^2 + 2 s B_o (A W_o) + s^2 B_o (A A^T) B_o^T costs a product of R rows a step.
 * Backward: dm_o = sum_t dy (W x + s B A x)_o / n_o, the base gets dy f, LoRA gets dy f. Dropout is LoRA's, on its
 * input only. */
#include "model/peft.h"

#include <math.h>
#include <string.h>

/* Derived: |W_o|^2, n_o, f_o (out each), then A W^T [R, out], A A^T [R, R]. */
static float *norms_of(const tq_site_state *s) {
    return s->derived + s->weight->rows;
}

static const float *factors_of(const tq_site_state *s) {
    return s->derived + 2 * s->weight->rows;
}

static size_t dora_n_derived(const tq_site_state *s) {
    return (size_t)s->weight->rows * (3 + (size_t)s->rank) + (size_t)s->rank * (size_t)s->rank;
}

static void dora_shape(const tq_site_state *s, int i, int *rows, int *cols) {
    if (i < 2) {
        tq_lora_shape(s, i, rows, cols);
        return;
    }
    *rows = 1;
    *cols = (int)s->weight->rows;
}

static void dora_derive_base(tq_worker *w, tq_site_state *s) {
    const tq_kernels *k = s->adapter->model->ctx->k;
    const tq_weight *W = s->weight;
    float *row = w->scratch;
    for (int64_t o = 0; o < W->rows; o++) {
        k->dequant_row[W->type](row, (const char *)W->data + (size_t)o * W->row_bytes, W->cols);
        s->derived[o] = k->sum_squares(row, W->cols);
    }
}

static void product(tq_worker *w, const tq_site_state *s, int64_t n, const void *b, tq_type type, size_t stride,
                    float *c) {
    const tq_kernels *k = s->adapter->model->ctx->k;
    int64_t in = s->weight->cols;
    tq_gemm g = {.m = s->rank,
                 .n = n,
                 .k = in,
                 .a = s->value[0],
                 .a_row = in,
                 .a_col = 1,
                 .b = b,
                 .b_type = type,
                 .b_trans = true,
                 .b_stride = stride,
                 .c = c,
                 .c_row = n,
                 .alpha = 1,
                 .compute = TQ_COMPUTE_F32};
    k->gemm(w, k, &g);
}

static void dora_derive(tq_worker *w, tq_site_state *s) {
    int64_t out = s->weight->rows, R = s->rank;
    float *squares = s->derived, *n = norms_of(s), *f = n + out, *aw = f + out, *aa = aw + R * out;
    product(w, s, out, s->weight->data, s->weight->type, s->weight->row_bytes, aw);
    product(w, s, R, s->value[0], TQ_F32, sizeof(float) * (size_t)s->weight->cols, aa);
    for (int64_t o = 0; o < out; o++) {
        const float *b = s->value[1] + o * R;
        double cross = 0, square = 0;
        for (int64_t i = 0; i < R; i++) {
            cross += (double)b[i] * (double)aw[i * out + o];
            for (int64_t j = 0; j < R; j++) square += (double)b[i] * (double)b[j] * (double)aa[i * R + j];
        }
        double scaling = (double)s->scaling, sum = (double)squares[o] + scaling * (2 * cross + scaling * square);
        n[o] = (float)sqrt(sum > 1e-30 ? sum : 1e-30);
        f[o] = s->value[2][o] / n[o];
    }
}

static void dora_init(tq_site_state *s, uint64_t seed, uint32_t site) {
    tq_peft_lora.init(s, seed, site);
    for (int64_t o = 0; o < s->weight->rows; o++) s->value[2][o] = sqrtf(s->derived[o]);
}

/* Whether rows from t0 on wear one hat only: y then holds W x + bias. */
static bool worn_alone(const tq_exec *e, int t0) {
    for (int i = 0; i < e->n_segments; i++)
        if (e->segments[i].row == t0) return e->segments[i].hats->n == 1;
    return false;
}

/* The rows' plain product W x, without bias, into `to` [T, out]; with a barrier. */
static void base_product(tq_exec *e, tq_worker *w, const tq_site_state *s, int t0, int t1, const float *x, float *to) {
    tq_product(e, w, s->weight, t0, t1, x, to, false, NULL);
    tq_barrier(w);
}

/* Alone at full strength: y = bias + f (y - bias) after LoRA has added its part. */
static void turn_whole(tq_exec *e, tq_worker *w, const tq_site_state *s, int t0, int t1, float *y) {
    int64_t out = s->weight->rows, b, end;
    const float *f = factors_of(s), *bias = s->bias ? s->bias->data : NULL;
    tq_share(w, t1 - t0, 1, &b, &end);
    if (!bias) {
        tq_scale_rows(e, w, y, y, f, 1, t0, t1, out);
        return;
    }
    for (int64_t t = t0 + b; t < t0 + end; t++)
        for (int64_t o = 0; o < out; o++) y[t * out + o] = bias[o] + f[o] * (y[t * out + o] - bias[o]);
}

static void dora_fwd(tq_exec *e, tq_worker *w, const tq_site *site, float scale, int t0, int t1, const float *x,
                     float *y) {
    const tq_site_state *s = site->state;
    if (scale == 1 && worn_alone(e, t0)) {
        tq_lora_fwd(e, w, site, 1, t0, t1, x, y);
        turn_whole(e, w, s, t0, t1, y);
        tq_barrier(w);
        return;
    }
    /* y holds more than W x, or only a share is added: y += scale (f (W x + s B A x) - W x). */
    int64_t out = s->weight->rows, b, end;
    tq_share(w, t1 - t0, 1, &b, &end);
    base_product(e, w, s, t0, t1, x, e->turned);
    for (int64_t i = (t0 + b) * out; i < (t0 + end) * out; i++) y[i] -= scale * e->turned[i];
    tq_barrier(w);
    tq_lora_fwd(e, w, site, 1, t0, t1, x, e->turned);
    const float *f = factors_of(s);
    for (int64_t t = t0 + b; t < t0 + end; t++)
        for (int64_t o = 0; o < out; o++) y[t * out + o] += scale * f[o] * e->turned[t * out + o];
    tq_barrier(w);
}

static void dora_turn(tq_exec *e, tq_worker *w, const tq_site *site, float scale, int t0, int t1, const float *x,
                      const float *dy, float *base_dy) {
    const tq_site_state *s = site->state;
    int64_t out = s->weight->rows;
    if (*s->grads) {
        base_product(e, w, s, t0, t1, x, base_dy);
        tq_lora_fwd(e, w, site, 1, t0, t1, x, base_dy);
        tq_sum_columns(w, *s->grads + s->start[2], dy, base_dy, norms_of(s), scale, t0, t1, out);
        tq_barrier(w);
    }
    tq_scale_rows(e, w, base_dy, dy, factors_of(s), scale, t0, t1, out);
    tq_barrier(w);
}

static void dora_bwd(tq_exec *e, tq_worker *w, const tq_site *site, float scale, int t0, int t1, const float *x,
                     const float *dy, float *dx) {
    const tq_site_state *s = site->state;
    tq_scale_rows(e, w, e->turned, dy, factors_of(s), 1, t0, t1, s->weight->rows);
    tq_barrier(w);
    tq_lora_bwd(e, w, site, scale, t0, t1, x, e->turned, dx);
}

static void dora_connect(const tq_site_state *s, tq_site *site) {
    (void)s;
    site->fwd = dora_fwd;
    site->bwd = dora_bwd;
    site->turn = dora_turn;
}

const tq_peft tq_peft_dora = {
    .name = "dora",
    .peft_type = "LORA", /* with use_dora */
    .help = "LoRA for the direction of each weight row and a trained vector for its length",
    .keys = "rank alpha dropout rslora rank_pattern alpha_pattern targets loraplus_lr_ratio train_modules",
    .lr_small = 1e-3,
    .lr_large = 2e-4,
    .targets = "all-linear",
    .alone = true,
    .n_parts = 3,
    .part = {"lora_A.weight", "lora_B.weight", "lora_magnitude_vector"},
    .vector = {false, false, true},
    .shape = dora_shape,
    .init = dora_init,
    .connect = dora_connect,
    .n_derived = dora_n_derived,
    .derive_base = dora_derive_base,
    .derive = dora_derive,
};
