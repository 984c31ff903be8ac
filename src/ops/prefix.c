/* Prefixes of attention: keys and values that stand before a segment's own in every layer and are no cache's. The
 * segment attends to itself first (o, lse); the prefix is then weighed in:
 *   s_j = scale q k_j     lse' = log(exp(lse) + sum_j exp(s_j))     o' = exp(lse - lse') o + sum_j exp(s_j - lse') v_j
 * Backward runs on o' and lse', so the segment's own part needs nothing of this; the prefix gets
 *   dv_j = sum p_j do     ds_j = p_j (do v_j - do o')     dk_j = scale sum ds_j q     dq += scale sum_j ds_j k_j. */
#include <math.h>

#include "ops/op.h"

const tq_virtual *tq_segment_prefix(const tq_segment *seg) {
    for (int h = 0; seg->hats && h < seg->hats->n; h++)
        if (seg->hats->items[h].prefix) return seg->hats->items[h].prefix;
    return NULL;
}

/* Where entry j of kv head g stands in the bound layer. */
static int64_t place(const tq_exec *e, const tq_virtual *p, int is_v, int j, int g) {
    return j * p->row + ((int64_t)(2 * e->layer + is_v) * e->kv_heads + g) * e->head_dim;
}

/* Scores of a query row at position pos against the prefix; those behind the window are out. Returns the first. */
static int scores(const tq_exec *e, const tq_virtual *p, const float *q, int pos, int g, float *out) {
    int first = e->window && pos - e->window + 1 > 0 ? pos - e->window + 1 : 0;
    for (int j = first; j < p->n; j++)
        out[j] = e->attn_scale * e->k->dot(q, p->values + place(e, p, 0, j, g), e->head_dim);
    return first < p->n ? first : p->n;
}

static void weigh_in(const tq_exec *e, const tq_virtual *p, const float *q, int pos, int g, float *o, float *lse,
                     float *s) {
    int first = scores(e, p, q, pos, g, s + 1) + 1; /* s[j + 1]: entry j; one before the first: the segment */
    if (first > p->n) return;
    s[first - 1] = *lse;
    int n = p->n + 2 - first;
    float *x = s + first - 1, max = e->k->max(x, n), sum = e->k->exp_sum(x, x, max, n);
    e->k->scale(o, x[0] / sum, e->head_dim);
    for (int j = first; j <= p->n; j++) e->k->axpy(o, s[j] / sum, p->values + place(e, p, 1, j - 1, g), e->head_dim);
    *lse = max + logf(sum);
}

void tq_prefix_fwd(tq_exec *e, tq_worker *w, const tq_step *s) {
    int64_t q_row = (int64_t)e->heads * e->head_dim;
    for (int i = 0; i < e->n_segments; i++) {
        const tq_segment *seg = &e->segments[i];
        const tq_virtual *p = tq_segment_prefix(seg);
        int64_t b, end;
        if (!p) continue;
        tq_share(w, seg->n, 1, &b, &end);
        for (int64_t t = b; t < end; t++)
            for (int h = 0; h < e->heads; h++) {
                int64_t at = (seg->row + t) * q_row + (int64_t)h * e->head_dim;
                weigh_in(e, p, e->v[s->in[0]] + at, p->n + seg->pos + (int)t, h / (e->heads / e->kv_heads),
                         e->v[s->out] + at, e->lse + (int64_t)e->heads * seg->row + (int64_t)h * seg->n + t,
                         w->scratch);
            }
    }
}

/* One query row and head: adds to dq and, where the prefix is trained, to its gradients. */
static void row_bwd(const tq_exec *e, const tq_virtual *p, const float *q, int pos, int g, const float *o, float lse,
                    const float *d_o, float *dq, float *s) {
    int D = e->head_dim, first = scores(e, p, q, pos, g, s);
    float own = e->k->dot(d_o, o, D), *grads = *p->grads;
    e->k->exp_sum(s + first, s + first, lse, p->n - first);
    for (int j = first; j < p->n; j++) {
        int64_t key = place(e, p, 0, j, g), value = place(e, p, 1, j, g);
        float ds = s[j] * (e->k->dot(d_o, p->values + value, D) - own) * e->attn_scale;
        e->k->axpy(dq, ds, p->values + key, D);
        if (!grads) continue;
        e->k->axpy(grads + key, ds, q, D);
        e->k->axpy(grads + value, s[j], d_o, D);
    }
}

/* Workers share the kv heads: a gradient is one worker's, added up in the order of rows. */
void tq_prefix_bwd(tq_exec *e, tq_worker *w, const tq_step *s) {
    int64_t q_row = (int64_t)e->heads * e->head_dim;
    int group = e->heads / e->kv_heads;
    bool any = false;
    for (int i = 0; i < e->n_segments; i++) {
        const tq_segment *seg = &e->segments[i];
        const tq_virtual *p = tq_segment_prefix(seg);
        if (!p) continue;
        any = true;
        for (int h = 0; h < e->heads; h++)
            for (int t = 0; t < seg->n && h / group % w->count == w->id; t++) {
                int64_t at = (seg->row + t) * q_row + (int64_t)h * e->head_dim;
                row_bwd(e, p, e->v[s->in[0]] + at, p->n + seg->pos + t, h / group, e->v[s->out] + at,
                        e->lse[(int64_t)e->heads * seg->row + (int64_t)h * seg->n + t], e->g[s->out] + at,
                        e->g[s->in[0]] + at, w->scratch);
            }
    }
    if (any) tq_barrier(w);
}
