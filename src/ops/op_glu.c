/* The gated unit of the feed-forward block: out = f(in[0]) * in[1] with f SiLU, or GELU in its form with tanh where the
 * model has it. (Shazeer 2020, "GLU variants") */
#include "ops/op.h"

static void glu_fwd(tq_exec *e, tq_worker *w, const tq_step *s) {
    int64_t b, end;
    tq_share(w, (int64_t)e->T * e->width[s->out], 64, &b, &end);
    (e->glu_gelu ? e->k->gelu_mul : e->k->silu_mul)(e->v[s->out] + b, e->v[s->in[0]] + b, e->v[s->in[1]] + b, end - b);
    tq_barrier(w);
}

/* gate and up are read by nobody else, so their gradients are set. */
static void glu_bwd(tq_exec *e, tq_worker *w, const tq_step *s) {
    int64_t b, end;
    tq_share(w, (int64_t)e->T * e->width[s->out], 64, &b, &end);
    (e->glu_gelu ? e->k->gelu_mul_bwd : e->k->silu_mul_bwd)(e->g[s->in[0]] + b, e->g[s->in[1]] + b, e->g[s->out] + b,
                                                            e->v[s->in[0]] + b, e->v[s->in[1]] + b, end - b);
    tq_barrier(w);
}

const tq_op tq_op_glu = {"glu", glu_fwd, glu_bwd, 1u | 2u};
