/* (IA)^3 (Liu et al. 2022, "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning"):
 * a trained vector multiplies the outputs of k and v, y = l (W x + bias), and the input of the feed-forward block's
 * last map, y = W (l x) + bias. Worn at scale c the factor is 1 + c (l - 1). */
#include "model/peft.h"

void tq_scale_rows(const tq_exec *e, tq_worker *w, float *y, const float *x, const float *factor, float scale, int t0,
                   int t1, int64_t n) {
    int64_t b, end;
    (void)e;
    tq_share(w, t1 - t0, 1, &b, &end);
    for (int64_t t = t0 + b; t < t0 + end; t++)
        for (int64_t i = 0; i < n; i++) y[t * n + i] = x[t * n + i] * (1 + scale * (factor[i] - 1));
}

void tq_sum_columns(tq_worker *w, float *grad, const float *a, const float *b, const float *by, float scale, int t0,
                    int t1, int64_t n) {
    int64_t j0, j1;
    tq_share(w, n, 16, &j0, &j1);
    for (int64_t t = t0; t < t1; t++)
        for (int64_t j = j0; j < j1; j++) grad[j] += scale * (a[t * n + j] * b[t * n + j]) / (by ? by[j] : 1);
}

static bool on_input(const tq_site_state *s) {
    return s->role == TQ_ROLE_DOWN;
}

static void ia3_shape(const tq_site_state *s, int i, int *rows, int *cols) {
    (void)i;
    *rows = on_input(s) ? 1 : (int)s->weight->rows;
    *cols = on_input(s) ? (int)s->weight->cols : 1;
}

static void ia3_init(tq_site_state *s, uint64_t seed, uint32_t site) {
    (void)seed, (void)site;
    int64_t n = on_input(s) ? s->weight->cols : s->weight->rows;
    for (int64_t i = 0; i < n; i++) s->value[0][i] = 1;
}

static void ia3_fwd(tq_exec *e, tq_worker *w, const tq_site *site, float scale, int t0, int t1, const float *x,
                    float *y) {
    const tq_site_state *s = site->state;
    (void)x;
    tq_scale_rows(e, w, y, y, s->value[0], scale, t0, t1, s->weight->rows);
    tq_barrier(w);
}

/* Only base_dy's own rows are needed as room for W x + bias, before they get the gradient. */
static void ia3_turn(tq_exec *e, tq_worker *w, const tq_site *site, float scale, int t0, int t1, const float *x,
                     const float *dy, float *base_dy) {
    const tq_site_state *s = site->state;
    int64_t out = s->weight->rows, b, end;
    if (*s->grads) {
        tq_product(e, w, s->weight, t0, t1, x, base_dy, false, NULL);
        tq_barrier(w);
        tq_share(w, t1 - t0, 1, &b, &end);
        for (int64_t t = t0 + b; s->bias && t < t0 + end; t++)
            e->k->add(base_dy + t * out, base_dy + t * out, s->bias->data, out);
        tq_barrier(w);
        tq_sum_columns(w, *s->grads + s->start[0], dy, base_dy, NULL, scale, t0, t1, out);
        tq_barrier(w);
    }
    tq_scale_rows(e, w, base_dy, dy, s->value[0], scale, t0, t1, out);
    tq_barrier(w);
}

static void ia3_before(tq_exec *e, tq_worker *w, const tq_site *site, float scale, int t0, int t1, float *x) {
    const tq_site_state *s = site->state;
    tq_scale_rows(e, w, x, x, s->value[0], scale, t0, t1, s->weight->cols);
    tq_barrier(w);
}

static void ia3_before_bwd(tq_exec *e, tq_worker *w, const tq_site *site, float scale, int t0, int t1, const float *x,
                           float *dx) {
    const tq_site_state *s = site->state;
    if (*s->grads) {
        tq_sum_columns(w, *s->grads + s->start[0], dx, x, NULL, scale, t0, t1, s->weight->cols);
        tq_barrier(w);
    }
    tq_scale_rows(e, w, dx, dx, s->value[0], scale, t0, t1, s->weight->cols);
    tq_barrier(w);
}

static void ia3_connect(const tq_site_state *s, tq_site *site) {
    if (on_input(s)) {
        site->before = ia3_before;
        site->before_bwd = ia3_before_bwd;
        return;
    }
    site->fwd = ia3_fwd;
    site->turn = ia3_turn;
}

const tq_peft tq_peft_ia3 = {
    .name = "ia3",
    .peft_type = "IA3",
    .help = "vectors that multiply keys, values and the feed-forward block's inner width",
    .keys = "targets train_modules",
    .lr_small = 3e-3,
    .lr_large = 3e-3,
    .targets = "k_proj,v_proj,down_proj",
    .alone = true,
    .n_parts = 1,
    .part = {"ia3_l"},
    .shape = ia3_shape,
    .init = ia3_init,
    .connect = ia3_connect,
};
