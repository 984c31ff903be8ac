/* RMS norm over the width of a row: y = w * x / sqrt(mean(x^2) + eps). (Zhang & Sennrich 2019) */
#include "ops/op.h"

#include <math.h>
#include <string.h>

static void norm_fwd(tq_exec *e, tq_worker *w, const tq_step *s) {
    int C = e->width[s->out];
    const float *x = e->v[s->in[0]], *weight = e->weights[s->role].data;
    float *y = e->v[s->out];
    int64_t t0, t1;
    tq_share(w, e->T, 1, &t0, &t1);
    for (int64_t t = t0; t < t1; t++) e->k->rms_norm(y + t * C, x + t * C, weight, e->eps, C);
}

/* The weight's gradient is a sum over rows: workers share its columns. */
static void weight_bwd(tq_exec *e, tq_worker *w, const tq_step *s, float *dw) {
    int C = e->width[s->out];
    const float *x = e->v[s->in[0]], *dy = e->g[s->out];
    int64_t c0, c1;
    tq_share(w, C, 16, &c0, &c1);
    for (int64_t t = 0; t < e->T; t++) {
        const float *xt = x + t * C, *dyt = dy + t * C;
        float r = 1 / sqrtf(e->k->sum_squares(xt, C) / (float)C + e->eps);
        for (int64_t c = c0; c < c1; c++) dw[c] += dyt[c] * xt[c] * r;
    }
}

static void norm_bwd(tq_exec *e, tq_worker *w, const tq_step *s) {
    int C = e->width[s->out];
    const float *x = e->v[s->in[0]], *dy = e->g[s->out];
    const tq_weight *weight = &e->weights[s->role];
    float *dx = e->g[s->in[0]];
    if (weight->grad) weight_bwd(e, w, s, weight->grad);
    int64_t t0, t1;
    tq_share(w, e->T, 1, &t0, &t1);
    for (int64_t t = t0; dx && t < t1; t++) {
        float r = 1 / sqrtf(e->k->sum_squares(x + t * C, C) / (float)C + e->eps);
        if (s->first[0]) memset(dx + t * C, 0, sizeof(float) * (size_t)C);
        e->k->rms_norm_bwd(dx + t * C, NULL, dy + t * C, x + t * C, weight->data, r, C);
    }
    tq_barrier(w);
}

const tq_op tq_op_norm = {"norm", norm_fwd, norm_bwd, 1u, .by_rows = true};
