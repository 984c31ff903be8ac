/* Layer norm over the width of a row: y = w v + b, v = (x - mean) / sqrt(variance + eps). (Ba et al. 2016) */
#include "ops/op.h"

#include <string.h>

static void layernorm_fwd(tq_exec *e, tq_worker *w, const tq_step *s) {
    int C = e->width[s->out];
    const float *weight = e->weights[s->role].data, *bias = e->weights[s->bias].data;
    int64_t t0, t1;
    tq_share(w, e->T, 1, &t0, &t1);
    for (int64_t t = t0; t < t1; t++)
        e->k->layer_norm(e->v[s->out] + t * C, e->v[s->in[0]] + t * C, weight, bias, e->eps, C);
    tq_barrier(w);
}

/* dw += dy v and db += dy are sums over rows: workers share columns, and each has v in its scratch. */
static void weights_bwd(tq_exec *e, tq_worker *w, const tq_step *s, float *dw, float *db) {
    int C = e->width[s->out];
    float *v = w->scratch;
    int64_t c0, c1;
    tq_share(w, C, 16, &c0, &c1);
    for (int64_t t = 0; t < e->T; t++) {
        const float *dy = e->g[s->out] + t * C;
        if (dw) e->k->layer_norm(v, e->v[s->in[0]] + t * C, NULL, NULL, e->eps, C);
        for (int64_t c = c0; dw && c < c1; c++) dw[c] += dy[c] * v[c];
        if (db) e->k->add(db + c0, db + c0, dy + c0, c1 - c0);
    }
}

static void layernorm_bwd(tq_exec *e, tq_worker *w, const tq_step *s) {
    int C = e->width[s->out];
    const tq_weight *weight = &e->weights[s->role], *bias = &e->weights[s->bias];
    float *dx = e->g[s->in[0]];
    if (weight->grad || bias->grad) weights_bwd(e, w, s, weight->grad, bias->grad);
    int64_t t0, t1;
    tq_share(w, e->T, 1, &t0, &t1);
    for (int64_t t = t0; dx && t < t1; t++) {
        if (s->first[0]) memset(dx + t * C, 0, sizeof(float) * (size_t)C);
        e->k->layer_norm_bwd(dx + t * C, e->g[s->out] + t * C, e->v[s->in[0]] + t * C, weight->data, e->eps, C);
    }
    tq_barrier(w);
}

const tq_op tq_op_layernorm = {"layernorm", layernorm_fwd, layernorm_bwd, 1u};
