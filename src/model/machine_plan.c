/* The memory of a machine: one block, laid out before work starts. The same walk first adds up sizes and then hands
 * out addresses, so the two cannot differ. */
#include "model/machine_impl.h"

#include <string.h>

typedef struct layout {
    char *base; /* NULL: only add up */
    size_t at;
} layout;

static void *take(layout *l, size_t n, size_t size) {
    void *p = l->base ? l->base + l->at : NULL;
    l->at += (n * size + 63) / 64 * 64;
    return p;
}

static int widest(const tq_model *model) {
    int most = 0;
    for (int b = 0; b < model->layer.n_buffers; b++)
        if (model->layer.width[b] > most) most = model->layer.width[b];
    return most;
}

static void lay_streams(tq_machine *m, layout *a) {
    const tq_config *c = &m->model->config;
    size_t T = (size_t)m->plan.max_rows, row = (size_t)c->C;
    m->stream = take(a, (size_t)c->L + 1, sizeof *m->stream);
    for (int l = 0; l <= c->L; l++) {
        bool own = m->plan.train || l < 2;
        float *p = own ? take(a, T * row, sizeof(float)) : NULL;
        if (a->base) m->stream[l] = own ? p : m->stream[l - 2];
    }
    for (int i = 0; m->plan.train && i < 2; i++) m->stream_grad[i] = take(a, T * row, sizeof(float));
}

/* Buffers between the in program's steps. */
static void lay_in(tq_machine *m, layout *a) {
    const tq_program *p = &m->model->in;
    size_t T = (size_t)m->plan.max_rows;
    for (int b = 0; b < p->n_buffers; b++) {
        if (b == p->out) continue;
        m->in[b] = take(a, T * (size_t)p->width[b], sizeof(float));
        if (m->plan.train) m->in_grads[b] = take(a, T * (size_t)p->width[b], sizeof(float));
    }
}

static void lay_layers(tq_machine *m, layout *a) {
    const tq_config *c = &m->model->config;
    const tq_program *p = &m->model->layer;
    size_t T = (size_t)m->plan.max_rows;
    m->kept = take(a, (size_t)c->L * TQ_MAX_BUFFERS, sizeof *m->kept);
    m->kept_lse = take(a, (size_t)c->L, sizeof *m->kept_lse);
    for (int b = 1; b < p->n_buffers; b++) {
        if (b == p->out) continue;
        m->shared[b] = take(a, T * (size_t)p->width[b], sizeof(float));
        if (m->plan.train) m->grads[b] = take(a, T * (size_t)p->width[b], sizeof(float));
    }
    m->shared_lse = take(a, T * (size_t)c->H, sizeof(float));
    if (!m->plan.train) return;
    for (int l = 0; l < c->L; l++) {
        if (!tq_machine_keeps(m, l)) continue;
        for (int b = 1; b < p->n_buffers; b++) {
            if (b == p->out || !p->kept[b] || p->light[b]) continue;
            float *own = take(a, T * (size_t)p->width[b], sizeof(float));
            if (a->base) m->kept[l * TQ_MAX_BUFFERS + b] = own;
        }
        float *lse = take(a, T * (size_t)c->H, sizeof(float));
        if (a->base) m->kept_lse[l] = lse;
    }
}

static void lay_rest(tq_machine *m, layout *a) {
    const tq_config *c = &m->model->config;
    size_t T = (size_t)m->plan.max_rows, rows = (size_t)m->plan.head_rows, most = (size_t)widest(m->model);
    size_t decode = TQ_DECODE_ROWS;
    float *rope = take(a, T * (size_t)c->rope_dim * (c->local_base > 0 ? 2 : 1), sizeof(float));
    float *low = take(a, 2 * T * (size_t)m->plan.max_rank, sizeof(float));
    float *wide = m->plan.train && m->plan.max_rank ? take(a, T * most, sizeof(float)) : NULL;
    float *outer = m->plan.train ? take(a, (size_t)m->plan.max_rank * most, sizeof(float)) : NULL;
    float *turned = m->plan.max_rank ? take(a, T * most, sizeof(float)) : NULL;
    tq_q8 *xq = take(a, decode * (most / 32 + 1), sizeof(tq_q8));
    m->base.rope = rope;
    m->base.low = low;
    m->base.wide = wide;
    m->base.outer = outer;
    m->base.turned = turned;
    m->base.xq = xq;
    m->head_in = take(a, rows * (size_t)c->C, sizeof(float));
    m->head_grad = take(a, m->plan.train ? rows * (size_t)c->C : 0, sizeof(float));
    m->head_r = take(a, rows, sizeof(float));
    m->row_r = take(a, m->plan.train ? T : 0, sizeof(float));
    m->logits = take(a, m->model->head.data ? rows * (size_t)c->V : 0, sizeof(float));
    m->head_row = take(a, rows, sizeof(int));
    m->head_first = take(a, rows + 1, sizeof(int));
}

static size_t lay(tq_machine *m, char *base) {
    layout a = {.base = base};
    lay_streams(m, &a);
    lay_in(m, &a);
    lay_layers(m, &a);
    lay_rest(m, &a);
    return a.at;
}

/* Keeps as many layers as fit: a kept layer is not computed again in backward. The bytes of results never change. */
static toque_status choose_kept(tq_machine *m, toque_error *err) {
    int L = m->model->config.L;
    m->plan.kept_layers = 0;
    if (!m->plan.train) return TOQUE_OK;
    size_t none = lay(m, NULL);
    m->plan.kept_layers = m->plan.recompute ? 0 : L;
    size_t all = lay(m, NULL);
    size_t limit = m->plan.max_bytes;
    if (!limit || all <= limit) return TOQUE_OK;
    if (none > limit)
        return TQ_FAIL(err, ELIMIT,
                       "a pass of %d tokens needs %zu MB even when everything is computed again, but only %zu MB "
                       "are allowed: shorten max_length or raise --max-memory",
                       m->plan.max_rows, none / 1000000, limit / 1000000);
    m->plan.kept_layers = (int)((limit - none) / ((all - none) / (size_t)L));
    while (m->plan.kept_layers > 0 && lay(m, NULL) > limit) m->plan.kept_layers--;
    return TOQUE_OK;
}

toque_status tq_machine_new(tq_machine **result, tq_model *model, tq_plan *plan, toque_error *err) {
    *result = NULL;
    tq_ctx *ctx = model->ctx;
    if (plan->max_rows < 1 || plan->max_rows > 1 << 20)
        return TQ_FAIL(err, EINVAL, "a pass of %d rows is not possible", plan->max_rows);
    tq_machine *m = TQ_NEW(&ctx->mem, tq_machine);
    if (!m) return TQ_NOMEM(err);
    m->model = model;
    m->plan = *plan;
    if (m->plan.head_rows <= 0) m->plan.head_rows = plan->max_rows < 256 ? plan->max_rows : 256;
    toque_status status = choose_kept(m, err);
    if (status == TOQUE_OK) {
        m->plan.bytes = lay(m, NULL);
        m->block = tq_zalloc(&ctx->mem, m->plan.bytes, 1);
        if (!m->block)
            status = tq_fail(err, TOQUE_ENOMEM, "no memory for a pass of %d tokens (%zu MB): raise --max-memory",
                             m->plan.max_rows, m->plan.bytes / 1000000);
    }
    if (status != TOQUE_OK) {
        tq_machine_free(m);
        return status;
    }
    lay(m, m->block);
    const tq_config *c = &model->config;
    tq_exec *e = &m->base;
    e->k = ctx->k;
    e->compute = ctx->compute;
    e->eps = c->eps;
    e->heads = c->H;
    e->kv_heads = c->G;
    e->head_dim = c->D;
    e->rope_dim = c->rope_dim;
    e->attn_scale = c->attn_scale;
    e->embedding = &model->embedding;
    e->embedding_scale = c->embedding_scale;
    e->causal = !(c->arch->flags & TQ_ARCH_ENCODER);
    e->glu_gelu = c->arch->flags & TQ_ARCH_GLU_GELU;
    e->max_rank = m->plan.max_rank;
    *plan = m->plan;
    *result = m;
    return TOQUE_OK;
}

void tq_machine_free(tq_machine *m) {
    if (!m) return;
    tq_mem *mem = &m->model->ctx->mem;
    tq_free(mem, m->block);
    tq_free(mem, m);
}
