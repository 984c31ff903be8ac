/* The first step of a pass: out = scale E[token] (+ P[position] + Y[0]), with learned positions and token types where
 * the model has them; rows of a prompt's virtual tokens have its values instead (Lester et al. 2021), which are not
 * scaled. All rows are of token type 0: one text a segment. In training, NEFTune (Jain et al. 2023, arXiv
 * 2310.05914) adds to each value a number by chance between -a / sqrt(n C) and a / sqrt(n C), n the segment's tokens.
 */
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "ops/op.h"

/* Row i of a table of any type. */
static void row_of(const tq_exec *e, const tq_weight *table, int64_t i, float *out) {
    e->k->dequant_row[table->type](out, (const char *)table->data + (size_t)i * table->row_bytes, table->cols);
}

/* Calls for each row of [t0, t1): t and its position. */
#define EACH_ROW(e, t0, t1, t, pos)                                                                                    \
    for (int i_ = 0; i_ < (e)->n_segments; i_++)                                                                       \
        for (int64_t first_ = (e)->segments[i_].row, t = first_ > (t0) ? first_ : (t0),                                \
                     pos = (e)->segments[i_].pos + t - first_;                                                         \
             t < (t1) && t < first_ + (e)->segments[i_].n; t++, pos++)

/* Numbers are keyed by the row's identity, its use and the position, so packing and recomputation change none. */
static void add_noise(const tq_exec *e, const tq_segment *seg, int64_t pos, float *x, int64_t C) {
    int n = seg->n - tq_hats_before_tokens(seg->hats);
    double size = (double)e->noise / sqrt((double)n * (double)C);
    uint32_t key[2] = {(uint32_t)e->seed ^ seg->use * 0x9E3779B9u, (uint32_t)(e->seed >> 32) ^ TQ_RNG_NOISE}, word[4];
    uint32_t counter[4] = {0, seg->id, (uint32_t)pos, 0};
    for (int64_t i = 0; i < C; i++) {
        if (i % 4 == 0) {
            counter[0] = (uint32_t)(i / 4);
            tq_philox(word, counter, key);
        }
        x[i] += (float)(size * (2 * ((double)word[i % 4] + 0.5) / 4294967296.0 - 1));
    }
}

static void embed_fwd(tq_exec *e, tq_worker *w, const tq_step *s) {
    const tq_weight *positions = &e->weights[TQ_ROLE_POSITIONS], *types = &e->weights[TQ_ROLE_TYPES];
    int64_t C = e->width[s->out], t0, t1;
    float *more = w->scratch;
    tq_share(w, e->T, 1, &t0, &t1);
    EACH_ROW(e, t0, t1, t, pos) {
        float *x = e->v[s->out] + t * C;
        if (e->tokens[t] < 0) {
            const tq_virtual *prompt = tq_hats_prompt(e->segments[i_].hats);
            memcpy(x, prompt->values + (-1 - e->tokens[t]) * prompt->row, (size_t)C * sizeof *x);
            continue;
        }
        row_of(e, e->embedding, e->tokens[t], x);
        if (e->embedding_scale != 1) e->k->scale(x, e->embedding_scale, C);
        if (types->data) {
            row_of(e, types, 0, more);
            e->k->add(x, x, more, C);
        }
        if (positions->data) {
            row_of(e, positions, pos, more);
            e->k->add(x, x, more, C);
        }
        if (e->noise > 0) add_noise(e, &e->segments[i_], pos, x, C);
    }
}

/* Rows of a table may be met several times: workers share columns, so that sums run in the order of rows. */
static void embed_bwd(tq_exec *e, tq_worker *w, const tq_step *s) {
    float *tokens = e->embedding->grad, *positions = e->weights[TQ_ROLE_POSITIONS].grad,
          *types = e->weights[TQ_ROLE_TYPES].grad;
    int64_t C = e->width[s->out], c0, c1;
    tq_share(w, C, 16, &c0, &c1);
    EACH_ROW(e, 0, e->T, t, pos) {
        const float *dy = e->g[s->out] + t * C + c0;
        if (e->tokens[t] < 0) {
            const tq_virtual *prompt = tq_hats_prompt(e->segments[i_].hats);
            float *grad = *prompt->grads ? *prompt->grads + (-1 - e->tokens[t]) * prompt->row + c0 : NULL;
            if (grad) e->k->add(grad, grad, dy, c1 - c0);
            continue;
        }
        if (tokens) e->k->axpy(tokens + e->tokens[t] * C + c0, e->embedding_scale, dy, c1 - c0);
        if (positions) e->k->add(positions + pos * C + c0, positions + pos * C + c0, dy, c1 - c0);
        if (types) e->k->add(types + c0, types + c0, dy, c1 - c0);
    }
    tq_barrier(w);
}

const tq_op tq_op_embed = {"embed", embed_fwd, embed_bwd, 0, .by_rows = true};
