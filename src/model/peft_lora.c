/* LoRA (Hu et al. 2021): y = W x + s B (A drop(x)), A [R, in], B [out, R], s = alpha / R (rsLoRA, Kalajdzievski 2023:
 * alpha / sqrt(R)). Backward, with u = dy B: dB = s dy^T (A x), dA = s u^T x, dx += s u A. */
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

void tq_lora_fwd(tq_exec *e, tq_worker *w, const tq_site *site, float scale, int t0, int t1, const float *x, float *y) {
    const tq_site_state *s = site->state;
    const tq_adapter *a = s->adapter;
    int64_t in = s->weight->cols, out = s->weight->rows, R = s->rank, n = t1 - t0;
    float *h = e->low + t0 * R;
    if (e->train && a->grads && a->dropout > 0) {
        mask_rows(e, w, site, a->dropout, t0, t1, x, e->wide, in);
        x = e->wide;
    }
    tq_matmul(e, w, n, R, in, x + t0 * in, in, 1, s->value[0], true, in, h, R, 1, false);
    tq_barrier(w);
    tq_matmul(e, w, n, out, R, h, R, 1, s->value[1], true, R, y + t0 * out, out, scale * s->scaling, true);
    tq_barrier(w);
}

void tq_lora_bwd(tq_exec *e, tq_worker *w, const tq_site *site, float scale, int t0, int t1, const float *x,
                 const float *dy, float *dx) {
    const tq_site_state *s = site->state;
    const tq_adapter *a = s->adapter;
    int64_t in = s->weight->cols, out = s->weight->rows, R = s->rank, n = t1 - t0;
    float *h = e->low + t0 * R, *u = e->low + (e->T + t0) * R, factor = scale * s->scaling;
    bool drop = a->grads && a->dropout > 0;
    tq_matmul(e, w, n, R, out, dy + t0 * out, out, 1, s->value[1], false, R, u, R, 1, false);
    if (a->grads) {
        if (drop) {
            mask_rows(e, w, site, a->dropout, t0, t1, x, e->wide, in);
            x = e->wide;
        }
        tq_matmul(e, w, n, R, in, x + t0 * in, in, 1, s->value[0], true, in, h, R, 1, false);
        tq_barrier(w);
        tq_matmul(e, w, R, in, n, u, 1, R, x + t0 * in, false, in, a->grads + s->start[0], in, factor, true);
        tq_matmul(e, w, out, R, n, dy + t0 * out, 1, out, h, false, R, a->grads + s->start[1], R, factor, true);
    }
    tq_barrier(w);
    if (!dx) return;
    if (!drop) {
        tq_matmul(e, w, n, in, R, u, R, 1, s->value[0], false, in, dx + t0 * in, in, factor, true);
        tq_barrier(w);
        return;
    }
    tq_matmul(e, w, n, in, R, u, R, 1, s->value[0], false, in, e->wide + t0 * in, in, factor, false);
    tq_barrier(w);
    mask_rows(e, w, site, a->dropout, t0, t1, e->wide, e->wide, in);
    int64_t b, end;
    tq_share(w, n, 1, &b, &end);
    e->k->add(dx + (t0 + b) * in, dx + (t0 + b) * in, e->wide + (t0 + b) * in, (end - b) * in);
    tq_barrier(w);
}

static void lora_connect(const tq_site_state *s, tq_site *site) {
    (void)s;
    site->fwd = tq_lora_fwd;
    site->bwd = tq_lora_bwd;
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
