/* Rotary positions and attention: in[0] q [T, H*D], in[1] k [T, G*D], in[2] v [T, G*D]; q and k are turned in place.
 * A segment with a cache appends its keys and values and attends to all of the cache; one without stands alone.
 * (Su et al. 2021, RoFormer; Dao et al. 2022, FlashAttention: tiles with an online softmax, no [T, T] storage) */
#include "ops/op.h"

/* Turns every head row of x [T, heads * D] by its row's position; sign -1 turns gradients back. */
static void rope(const tq_exec *e, tq_worker *w, float *x, int heads, float sign) {
    int64_t t0, t1;
    if (!e->rope_dim) return;
    tq_share(w, e->T, 1, &t0, &t1);
    for (int64_t t = t0; t < t1; t++)
        for (int h = 0; h < heads; h++)
            e->k->rope(x + (t * heads + h) * e->head_dim, e->rope + t * e->rope_dim, e->rope_dim / 2, sign);
}

/* Copies the new keys and values of this worker's rows to the ends of their caches, rounded to the cache's type. */
static void append(const tq_exec *e, tq_worker *w, const float *k, const float *v) {
    int64_t row = (int64_t)e->kv_heads * e->head_dim, t0, t1;
    tq_share(w, e->T, 1, &t0, &t1);
    for (int i = 0; i < e->n_segments; i++) {
        const tq_segment *seg = &e->segments[i];
        if (!seg->kv) continue;
        for (int64_t t = seg->row > t0 ? seg->row : t0; t < t1 && t < seg->row + seg->n; t++) {
            int pos = seg->kv->length + (int)t - seg->row;
            for (int g = 0; g < e->kv_heads; g++) {
                const int64_t at = t * row + (int64_t)g * e->head_dim;
                e->k->quant_row[seg->kv->type](tq_kv_at(seg->kv, e->layer, 0, g, pos), k + at, e->head_dim);
                e->k->quant_row[seg->kv->type](tq_kv_at(seg->kv, e->layer, 1, g, pos), v + at, e->head_dim);
            }
        }
    }
}

static tq_attn describe(const tq_exec *e, const tq_step *s, const tq_segment *seg) {
    int64_t q_row = (int64_t)e->heads * e->head_dim, kv_row = (int64_t)e->kv_heads * e->head_dim;
    tq_attn a = {.n = seg->n,
                 .heads = e->heads,
                 .kv_heads = e->kv_heads,
                 .head_dim = e->head_dim,
                 .window = e->window,
                 .causal = e->causal,
                 .decode = e->decode,
                 .scale = e->attn_scale,
                 .q = e->v[s->in[0]] + seg->row * q_row,
                 .q_row = q_row,
                 .k = e->v[s->in[1]] + seg->row * kv_row,
                 .v = e->v[s->in[2]] + seg->row * kv_row,
                 .kv_type = TQ_F32,
                 .kv_row = kv_row,
                 .kv_head = e->head_dim,
                 .o = e->v[s->out] + seg->row * q_row,
                 .o_row = q_row,
                 .lse = e->lse ? e->lse + (int64_t)e->heads * seg->row : NULL};
    if (seg->kv) {
        a.n_past = seg->kv->length;
        a.k = tq_kv_at(seg->kv, e->layer, 0, 0, 0);
        a.v = tq_kv_at(seg->kv, e->layer, 1, 0, 0);
        a.kv_row = e->head_dim;
        a.kv_head = (int64_t)seg->kv->capacity * e->head_dim;
        a.kv_type = seg->kv->type;
    }
    return a;
}

static void attention_fwd(tq_exec *e, tq_worker *w, const tq_step *s) {
    rope(e, w, e->v[s->in[0]], e->heads, 1);
    rope(e, w, e->v[s->in[1]], e->kv_heads, 1);
    append(e, w, e->v[s->in[1]], e->v[s->in[2]]);
    tq_barrier(w);
    /* Pieces (segment, head, tile of queries) go round the workers, the long ones mixed with the short. */
    int64_t piece = 0;
    for (int i = 0; i < e->n_segments; i++) {
        tq_attn a = describe(e, s, &e->segments[i]);
        for (int t = 0; t < a.n; t += TQ_ATTN_TILE)
            for (int h = 0; h < e->heads; h++)
                if (piece++ % w->count == w->id)
                    e->k->attn_fwd(w, &a, h, t, t + TQ_ATTN_TILE < a.n ? t + TQ_ATTN_TILE : a.n);
    }
    if (e->bare) return;
    tq_barrier(w);
    tq_prefix_fwd(e, w, s);
}

static void attention_bwd(tq_exec *e, tq_worker *w, const tq_step *s) {
    int64_t q_row = (int64_t)e->heads * e->head_dim, kv_row = (int64_t)e->kv_heads * e->head_dim;
    float *dq = e->g[s->in[0]], *dk = e->g[s->in[1]], *dv = e->g[s->in[2]];
    int64_t piece = 0;
    for (int i = 0; i < e->n_segments; i++) {
        const tq_segment *seg = &e->segments[i];
        tq_attn a = describe(e, s, seg);
        for (int g = 0; g < e->kv_heads; g++)
            if (piece++ % w->count == w->id)
                e->k->attn_bwd(w, &a, g, e->g[s->out] + seg->row * q_row, dq + seg->row * q_row, dk + seg->row * kv_row,
                               dv + seg->row * kv_row);
    }
    tq_barrier(w);
    tq_prefix_bwd(e, w, s);
    rope(e, w, dq, e->heads, -1);
    rope(e, w, dk, e->kv_heads, -1);
    tq_barrier(w);
}

const tq_op tq_op_attention = {"attention", attention_fwd, attention_bwd, 1u | 2u | 4u | 8u, .by_rows = false};
