/* out = gelu(in[0]), in its exact form. (Hendrycks & Gimpel 2016) */
#include "ops/op.h"

static void gelu_fwd(tq_exec *e, tq_worker *w, const tq_step *s) {
    int64_t b, end;
    tq_share(w, (int64_t)e->T * e->width[s->out], 64, &b, &end);
    e->k->gelu(e->v[s->out] + b, e->v[s->in[0]] + b, end - b);
    tq_barrier(w);
}

/* The input is read by nobody else, so its gradient is set. */
static void gelu_bwd(tq_exec *e, tq_worker *w, const tq_step *s) {
    int64_t b, end;
    tq_share(w, (int64_t)e->T * e->width[s->out], 64, &b, &end);
    e->k->gelu_bwd(e->g[s->in[0]] + b, e->g[s->out] + b, e->v[s->in[0]] + b, end - b);
    tq_barrier(w);
}

const tq_op tq_op_gelu = {"gelu", gelu_fwd, gelu_bwd, 1u};
