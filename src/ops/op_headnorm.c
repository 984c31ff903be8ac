/* RMS norm of each head of a row, with one weight [D] for all: queries and keys before they are turned. (Dehghani et
 * al. 2023; Qwen3, Gemma 3) */
#include "ops/op.h"

#include <math.h>
#include <string.h>

static float inverse_rms(const tq_exec *e, const float *x) {
    return 1 / sqrtf(e->k->sum_squares(x, e->head_dim) / (float)e->head_dim + e->eps);
}

static void headnorm_fwd(tq_exec *e, tq_worker *w, const tq_step *s) {
    int64_t D = e->head_dim, heads = e->width[s->out] / D, b, end;
    tq_share(w, e->T * heads, 1, &b, &end);
    for (int64_t i = b; i < end; i++)
        e->k->rms_norm(e->v[s->out] + i * D, e->v[s->in[0]] + i * D, e->weights[s->role].data, e->eps, D);
    tq_barrier(w);
}

/* The weight's gradient is a sum over rows and heads: the first worker's, since a head is narrow. */
static void headnorm_bwd(tq_exec *e, tq_worker *w, const tq_step *s) {
    int64_t D = e->head_dim, heads = e->width[s->out] / D, b, end;
    const tq_weight *weight = &e->weights[s->role];
    const float *x = e->v[s->in[0]], *dy = e->g[s->out];
    float *dx = e->g[s->in[0]];
    for (int64_t i = 0; weight->grad && w->id == 0 && i < e->T * heads; i++) {
        float r = inverse_rms(e, x + i * D);
        for (int64_t c = 0; c < D; c++) weight->grad[c] += dy[i * D + c] * x[i * D + c] * r;
    }
    tq_share(w, e->T * heads, 1, &b, &end);
    for (int64_t i = b; i < end; i++) {
        if (s->first[0]) memset(dx + i * D, 0, sizeof(float) * (size_t)D);
        e->k->rms_norm_bwd(dx + i * D, NULL, dy + i * D, x + i * D, weight->data, inverse_rms(e, x + i * D), D);
    }
    tq_barrier(w);
}

const tq_op tq_op_headnorm = {"headnorm", headnorm_fwd, headnorm_bwd, 1u};
