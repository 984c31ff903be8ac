/* The residual sum: out = in[0] + in[1]. Its gradient goes to both. */
#include "ops/op.h"

#include <string.h>

static void add_fwd(tq_exec *e, tq_worker *w, const tq_step *s) {
    int64_t t0, t1, n = e->width[s->out];
    tq_share(w, e->T, 1, &t0, &t1);
    e->k->add(e->v[s->out] + t0 * n, e->v[s->in[0]] + t0 * n, e->v[s->in[1]] + t0 * n, (t1 - t0) * n);
}

static void add_bwd(tq_exec *e, tq_worker *w, const tq_step *s) {
    int64_t b, end;
    tq_share(w, (int64_t)e->T * e->width[s->out], 64, &b, &end);
    const float *dy = e->g[s->out] + b;
    for (int i = 0; i < 2; i++) {
        float *dx = e->g[s->in[i]];
        if (!dx) continue;
        if (s->first[i])
            memcpy(dx + b, dy, sizeof(float) * (size_t)(end - b));
        else
            e->k->add(dx + b, dx + b, dy, end - b);
    }
    tq_barrier(w);
}

const tq_op tq_op_add = {"add", add_fwd, add_bwd, 0, .by_rows = true};
