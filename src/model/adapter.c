/* Adapters: the table of kinds, creation, life. See adapter.h; adapter_layout.c lays ranges out, files are read in
 * adapter_load.c and adapter_config.c and written in adapter_save.c. */
#include "model/peft.h"

#include <stdio.h>
#include <string.h>

static const tq_peft *const kinds[] = {
#define X(name) &tq_peft_##name,
#include "model/peft.def"
#undef X
};
enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

const tq_peft *tq_peft_row(size_t i) {
    return i < N_KINDS ? kinds[i] : NULL;
}

const tq_peft *tq_peft_find(const char *name) {
    for (size_t i = 0; i < N_KINDS; i++)
        if (strcmp(kinds[i]->name, name) == 0) return kinds[i];
    return NULL;
}

const tq_peft *tq_peft_find_type(const char *type) {
    for (size_t i = 0; i < N_KINDS; i++)
        if (kinds[i]->peft_type && strcmp(kinds[i]->peft_type, type) == 0) return kinds[i];
    return NULL;
}

bool tq_peft_uses(const tq_peft *kind, const char *key) {
    size_t n = strlen(key);
    for (const char *p = kind->keys; p && *p; p += strspn(p, " ")) {
        size_t m = strcspn(p, " ");
        if (m == n && memcmp(p, key, n) == 0) return true;
        p += m;
    }
    return false;
}

toque_status tq_adapter_blank(tq_adapter **result, tq_model *model, const char *name, toque_error *err) {
    *result = NULL;
    tq_mem *mem = &model->ctx->mem;
    tq_adapter *a = TQ_NEW(mem, tq_adapter);
    if (!a) return TQ_NOMEM(err);
    a->model = model;
    a->name = tq_strdup(mem, name);
    a->targets = TQ_NEW_ARRAY(mem, uint32_t, model->config.L);
    if (!a->name || !a->targets) {
        tq_adapter_free(a);
        return TQ_NOMEM(err);
    }
    *result = a;
    return TOQUE_OK;
}

static toque_status copy_text(tq_adapter *a, char **to, const char *text, toque_error *err) {
    if (text && !(*to = tq_strdup(&a->model->ctx->mem, text))) return TQ_NOMEM(err);
    return TOQUE_OK;
}

static toque_status set_up(tq_adapter *a, const tq_adapter_options *o, toque_error *err) {
    a->kind = tq_peft_find(o->kind);
    if (!a->kind) return TQ_FAIL(err, EINVAL, "there is no adapter kind '%s'", o->kind);
    if (!(o->dropout >= 0 && o->dropout < 1))
        return TQ_FAIL(err, EINVAL, "dropout is %g, expected 0 to below 1", (double)o->dropout);
    if (o->pissa && (a->kind != &tq_peft_lora || o->rank_pattern || o->alpha_pattern || o->own))
        return TQ_FAIL(err, EINVAL, "init pissa is for plain LoRA: without patterns and whole tensors");
    if (a->kind->table_cols && (o->virtual_tokens < 1 || o->virtual_tokens >= a->model->config.context / 2))
        return TQ_FAIL(err, EINVAL, "virtual_tokens is %d, expected 1 to half of the model's context of %d",
                       o->virtual_tokens, a->model->config.context);
    if (a->model->config.arch->flags & TQ_ARCH_ENCODER && a->kind->decoders)
        return TQ_FAIL(err, EUNSUPPORTED, "method %s is for language models; %s is an encoder", a->kind->name,
                       tq_gguf_path(a->model->gguf));
    if (a->kind->is_prompt && o->n_heads)
        return TQ_FAIL(err, EINVAL, "method %s is for objectives without a head", a->kind->name);
    if (o->pissa && o->n_heads) return TQ_FAIL(err, EINVAL, "init pissa is for objectives without a head");
    TQ_TRY(tq_adapter_set_heads(a, o->heads, o->n_heads, err));
    a->table.n = a->kind->table_cols ? o->virtual_tokens : 0;
    a->rank = o->rank;
    a->alpha = o->alpha;
    a->dropout = o->dropout;
    a->rslora = o->rslora;
    TQ_TRY(copy_text(a, &a->rank_pattern, o->rank_pattern, err));
    TQ_TRY(copy_text(a, &a->alpha_pattern, o->alpha_pattern, err));
    TQ_TRY(copy_text(a, &a->own, o->own ? o->own : a->kind->own, err));
    if (a->kind->n_parts) TQ_TRY(tq_adapter_target(a, o->targets ? o->targets : a->kind->targets, err));
    return tq_adapter_layout(a, err);
}

toque_status tq_adapter_new(tq_adapter **result, tq_model *model, const tq_adapter_options *o, toque_error *err) {
    *result = NULL;
    tq_adapter *a;
    TQ_TRY(tq_adapter_blank(&a, model, "new adapter", err));
    toque_status status = set_up(a, o, err);
    if (status != TOQUE_OK) {
        tq_adapter_free(a);
        return status;
    }
    snprintf(a->base_hash, sizeof a->base_hash, "%s", tq_model_hash(model));
    tq_adapter_ready(a);
    tq_site_state *states = a->states;
    if (a->kind->init_table) status = a->kind->init_table(a, o, err);
    for (size_t s = 0; s < a->n_sites; s++) a->kind->init(&states[s], o->seed, (uint32_t)s);
    tq_adapter_init_heads(a, o->seed);
    if (status == TOQUE_OK && o->pissa) status = tq_pissa_start(a, o->seed, err);
    if (status != TOQUE_OK) {
        tq_adapter_free(a);
        return status;
    }
    tq_adapter_changed(a);
    *result = a;
    return TOQUE_OK;
}

toque_status tq_adapter_train(tq_adapter *a, toque_error *err) {
    if (!a->grads) a->grads = TQ_NEW_ARRAY(&a->model->ctx->mem, float, a->n);
    if (!a->grads) return TQ_NOMEM(err);
    for (size_t i = a->n_site_ranges; i < a->n_body_ranges; i++) {
        const tq_range *r = &a->ranges[i];
        float *grad = a->grads + r->start;
        tq_adapter_weight(a, r->layer, r->role)->grad = grad;
        if (r->role == TQ_ROLE_EMBEDDING && a->head.data == a->embedding.data) a->head.grad = grad; /* tied */
    }
    for (size_t i = a->n_body_ranges; i < a->n_ranges; i++) {
        tq_head *h = &a->heads[a->ranges[i].part];
        *(a->ranges[i].role == TQ_ROLE_SCORE ? &h->dweight : &h->dbias) = a->grads + a->ranges[i].start;
    }
    return TOQUE_OK;
}

void tq_adapter_free(tq_adapter *a) {
    if (!a) return;
    tq_mem *mem = &a->model->ctx->mem;
    tq_adapter_clear_heads(a);
    void *blocks[] = {a->grads,   a->values,  a->states, a->sites,        a->ranges,        a->derived, a->start,
                      a->weights, a->targets, a->own,    a->rank_pattern, a->alpha_pattern, a->name};
    for (int i = 0; i < 2; i++) tq_free(mem, a->shared[i].values);
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) tq_free(mem, blocks[i]);
    tq_free(mem, a);
}

tq_hat tq_adapter_hat(const tq_adapter *a, float scale) {
    const tq_virtual *table = a->table.n ? &a->table : NULL;
    return (tq_hat){.adapter = a,
                    .sites = a->sites,
                    .prefix = a->kind->is_prompt ? NULL : table,
                    .prompt = a->kind->is_prompt ? table : NULL,
                    .scale = scale};
}
