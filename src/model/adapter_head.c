/* The heads of an adapter: making, exchanging and finding them. See head.h and adapter.h. */
#include "model/peft.h"

#include <string.h>

static toque_status copy_labels(tq_adapter *a, tq_head *h, const tq_head *from, toque_error *err) {
    tq_mem *mem = &a->model->ctx->mem;
    if (!from->labels) return TOQUE_OK;
    h->labels = TQ_NEW_ARRAY(mem, char *, from->n);
    if (!h->labels) return TQ_NOMEM(err);
    for (int i = 0; i < from->n; i++)
        if (!(h->labels[i] = tq_strdup(mem, from->labels[i]))) return TQ_NOMEM(err);
    return TOQUE_OK;
}

toque_status tq_adapter_set_heads(tq_adapter *a, const tq_head *heads, int n_heads, toque_error *err) {
    if (n_heads > TQ_MAX_HEADS) return TQ_FAIL(err, EINVAL, "%d heads; at most %d are possible", n_heads, TQ_MAX_HEADS);
    for (int i = 0; i < n_heads; i++) {
        const tq_head *from = &heads[i];
        if (from->n < 1 || from->n > TQ_MAX_HEAD_OUTPUTS)
            return TQ_FAIL(err, EINVAL, "a head of %d outputs; 1 to %d are possible", from->n, TQ_MAX_HEAD_OUTPUTS);
        if (from->read == TQ_READ_POOLER && !a->model->pooler.data)
            return TQ_FAIL(err, EINVAL, "%s has no pooler (an encoder's folder may have): pooling first or mean",
                           tq_gguf_path(a->model->gguf));
        a->heads[a->n_heads++] = (tq_head){
            .kind = from->kind, .read = from->read, .n = from->n, .mean = from->mean, .deviation = from->deviation};
        TQ_TRY(copy_labels(a, &a->heads[a->n_heads - 1], from, err));
    }
    return TOQUE_OK;
}

void tq_adapter_clear_heads(tq_adapter *a) {
    tq_mem *mem = &a->model->ctx->mem;
    for (int i = 0; i < a->n_heads; i++) {
        for (int o = 0; a->heads[i].labels && o < a->heads[i].n; o++) tq_free(mem, a->heads[i].labels[o]);
        tq_free(mem, a->heads[i].labels);
    }
    a->n_heads = 0;
}

/* As transformers starts them: weights normal with deviation 0.02, biases 0. */
void tq_adapter_init_heads(tq_adapter *a, uint64_t seed) {
    tq_rng rng;
    for (int i = 0; i < a->n_heads; i++) {
        const tq_head *h = &a->heads[i];
        tq_rng_init(&rng, seed, TQ_RNG_INIT, (uint32_t)i, 3);
        for (size_t j = 0; j < (size_t)h->n * (size_t)a->model->config.C; j++)
            h->weight[j] = 0.02f * (float)tq_rng_normal(&rng);
        if (h->bias) memset(h->bias, 0, (size_t)h->n * sizeof *h->bias);
    }
}

const tq_head *tq_adapter_head(const tq_adapter *a, tq_head_kind kind) {
    for (int i = 0; i < a->n_heads; i++)
        if (a->heads[i].kind == kind) return &a->heads[i];
    return NULL;
}

static toque_status copy_shape(tq_adapter *a, const tq_adapter *old, toque_error *err) {
    tq_mem *mem = &a->model->ctx->mem;
    const char *own = old->kind->own ? old->kind->own : old->own; /* names of a file's own may have had no prefix */
    char **texts[] = {&a->rank_pattern, &a->alpha_pattern, &a->own};
    const char *from[] = {old->rank_pattern, old->alpha_pattern, own};
    for (int i = 0; i < 3; i++)
        if (from[i] && !(*texts[i] = tq_strdup(mem, from[i]))) return TQ_NOMEM(err);
    a->kind = old->kind;
    a->rank = old->rank;
    a->alpha = old->alpha;
    a->dropout = old->dropout;
    a->rslora = old->rslora;
    a->projection_key = old->projection_key;
    a->table.n = old->table.n;
    memcpy(a->targets, old->targets, (size_t)a->model->config.L * sizeof *a->targets);
    memcpy(a->base_hash, old->base_hash, sizeof a->base_hash);
    return TOQUE_OK;
}

static void copy_body(tq_adapter *a, const tq_adapter *old) {
    for (int i = 0; i < 2; i++) {
        const tq_shared *s = &a->shared[i];
        if (s->values) memcpy(s->values, old->shared[i].values, (size_t)s->rows * (size_t)s->cols * sizeof *s->values);
    }
    for (size_t i = 0; i < a->n_body_ranges; i++)
        for (size_t k = 0; k < old->n_body_ranges; k++) {
            const tq_range *r = &a->ranges[i], *o = &old->ranges[k];
            if (r->layer == o->layer && r->role == o->role && r->part == o->part && r->rows == o->rows &&
                r->cols == o->cols)
                memcpy(a->values + r->start, old->values + o->start,
                       (size_t)r->rows * (size_t)r->cols * sizeof *a->values);
        }
}

static void copy_head(const tq_adapter *a, const tq_head *h, const tq_head *old) {
    size_t C = (size_t)a->model->config.C;
    for (int i = 0; i < h->n; i++) {
        int from = h->labels ? tq_head_label(old, h->labels[i]) : i < old->n ? i : -1;
        if (from < 0) continue;
        memcpy(h->weight + (size_t)i * C, old->weight + (size_t)from * C, C * sizeof(float));
        if (h->bias && old->bias) h->bias[i] = old->bias[from];
    }
}

toque_status tq_adapter_with_heads(tq_adapter **result, const tq_adapter *old, const tq_head *heads, int n_heads,
                                   uint64_t seed, toque_error *err) {
    tq_adapter *a;
    *result = NULL;
    TQ_TRY(tq_adapter_blank(&a, old->model, old->name, err));
    toque_status status = copy_shape(a, old, err);
    if (status == TOQUE_OK) status = tq_adapter_set_heads(a, heads, n_heads, err);
    if (status == TOQUE_OK) status = tq_adapter_layout(a, err);
    if (status != TOQUE_OK) {
        tq_adapter_free(a);
        return status;
    }
    tq_adapter_init_heads(a, seed);
    copy_body(a, old);
    for (int i = 0; i < n_heads; i++) {
        const tq_head *before = tq_adapter_head(old, a->heads[i].kind);
        if (before) copy_head(a, &a->heads[i], before);
    }
    tq_adapter_ready(a);
    tq_adapter_changed(a);
    *result = a;
    return TOQUE_OK;
}
