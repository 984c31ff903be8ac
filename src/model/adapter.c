/* Adapters: targets, layout, creation. See adapter.h; files are read in adapter_load.c and written in adapter_save.c.
 */
#include "model/peft.h"

#include <stdio.h>
#include <string.h>

static const tq_peft *const kinds[] = {
#define X(name) &tq_peft_##name,
#include "model/peft.def"
#undef X
};

const tq_peft *tq_peft_find(const char *name) {
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(kinds[i]->name, name) == 0 || strcmp(kinds[i]->peft_type, name) == 0) return kinds[i];
    return NULL;
}

static bool is_linear(int role) {
    return role == TQ_ROLE_Q || role == TQ_ROLE_K || role == TQ_ROLE_V || role == TQ_ROLE_O || role == TQ_ROLE_GATE ||
           role == TQ_ROLE_UP || role == TQ_ROLE_DOWN;
}

/* "self_attn.q_proj" is called q_proj; "attn_q.weight" is called attn_q. */
static bool role_is_called(int role, const char *name, size_t n) {
    const char *hf = tq_role_hf((tq_role)role), *gguf = tq_role_gguf((tq_role)role), *dot = strchr(hf, '.');
    size_t stem = (size_t)(strchr(gguf, '.') - gguf);
    return (strlen(dot + 1) == n && memcmp(dot + 1, name, n) == 0) || (strlen(hf) == n && memcmp(hf, name, n) == 0) ||
           (stem == n && memcmp(gguf, name, n) == 0);
}

toque_status tq_adapter_targets(const char *list, uint32_t *targets, toque_error *err) {
    for (const char *p = list; *p;) {
        size_t n = strcspn(p, ", ");
        bool all = (n == 10 && memcmp(p, "all-linear", 10) == 0) || (n == 3 && memcmp(p, "all", 3) == 0),
             found = n == 0;
        for (int role = 0; n && role < TQ_ROLE_COUNT; role++)
            if (is_linear(role) && (all || role_is_called(role, p, n))) {
                *targets |= 1u << role;
                found = true;
            }
        if (!found)
            return TQ_FAIL(err, EINVAL,
                           "target '%.*s' matches nothing in this model: there are q_proj, k_proj, v_proj, o_proj, "
                           "gate_proj, up_proj, down_proj and all-linear",
                           (int)n, p);
        p += n + (p[n] != 0);
    }
    if (!*targets) return TQ_FAIL(err, EINVAL, "no targets: name some, or all-linear");
    return TOQUE_OK;
}

toque_status tq_adapter_blank(tq_adapter **result, tq_model *model, const char *name, toque_error *err) {
    *result = NULL;
    TQ_TRY(tq_model_need_head(model, "an adapter", err));
    tq_adapter *a = TQ_NEW(&model->ctx->mem, tq_adapter);
    if (!a) return TQ_NOMEM(err);
    a->model = model;
    a->name = tq_strdup(&model->ctx->mem, name);
    if (!a->name) {
        tq_free(&model->ctx->mem, a);
        return TQ_NOMEM(err);
    }
    *result = a;
    return TOQUE_OK;
}

/* Fills the next ranges for one site; returns the position behind them. */
static size_t lay_site(tq_adapter *a, int layer, int role, size_t at, size_t *n_ranges) {
    const tq_weight *w = &a->model->weights[layer][role];
    for (int i = 0; i < a->kind->n_parts; i++) {
        tq_range *r = &a->ranges[(*n_ranges)++];
        a->kind->shape(a, w, i, &r->rows, &r->cols);
        snprintf(r->name, sizeof r->name, "base_model.model.model.layers.%d.%s.%s.weight", layer,
                 tq_role_hf((tq_role)role), a->kind->part[i]);
        r->start = at;
        r->layer = layer;
        r->role = role;
        at += (size_t)r->rows * (size_t)r->cols;
    }
    return at;
}

static void connect(tq_adapter *a) {
    tq_site_state *states = a->states;
    for (size_t i = 0, s = 0; i < a->n_ranges; i += (size_t)a->kind->n_parts, s++) {
        const tq_range *r = &a->ranges[i];
        states[s] = (tq_site_state){.adapter = a, .weight = &a->model->weights[r->layer][r->role], .grads = &a->grads};
        for (int p = 0; p < a->kind->n_parts; p++) {
            states[s].start[p] = r[p].start;
            states[s].value[p] = a->values + r[p].start;
        }
        a->sites[r->layer * TQ_ROLE_COUNT + r->role] = (tq_site){
            .fwd = a->kind->fwd, .bwd = a->kind->bwd, .state = &states[s], .role = r->role, .layer = r->layer};
    }
}

toque_status tq_adapter_layout(tq_adapter *a, toque_error *err) {
    tq_mem *mem = &a->model->ctx->mem;
    const tq_config *c = &a->model->config;
    int n_roles = 0;
    for (int role = 0; role < TQ_ROLE_COUNT; role++) {
        if (!(a->targets >> role & 1)) continue;
        const tq_weight *w = &a->model->weights[0][role];
        int64_t least = w->rows < w->cols ? w->rows : w->cols;
        if (a->rank < 1 || a->rank > least)
            return TQ_FAIL(err, EINVAL, "rank %d is not possible for %s, which is %lld x %lld: use 1 to %lld", a->rank,
                           tq_role_hf((tq_role)role), (long long)w->rows, (long long)w->cols, (long long)least);
        n_roles++;
    }
    size_t n_sites = (size_t)n_roles * (size_t)c->L;
    a->ranges = TQ_NEW_ARRAY(mem, tq_range, n_sites * (size_t)a->kind->n_parts);
    a->sites = TQ_NEW_ARRAY(mem, tq_site, (size_t)c->L * TQ_ROLE_COUNT);
    a->states = TQ_NEW_ARRAY(mem, tq_site_state, n_sites);
    if (!a->ranges || !a->sites || !a->states) return TQ_NOMEM(err);
    for (int l = 0; l < c->L; l++)
        for (int role = 0; role < TQ_ROLE_COUNT; role++)
            if (a->targets >> role & 1) a->n = lay_site(a, l, role, a->n, &a->n_ranges);
    a->values = TQ_NEW_ARRAY(mem, float, a->n);
    if (!a->values) return TQ_NOMEM(err);
    connect(a);
    return TOQUE_OK;
}

toque_status tq_adapter_new(tq_adapter **result, tq_model *model, const tq_adapter_options *o, toque_error *err) {
    *result = NULL;
    tq_adapter *a;
    TQ_TRY(tq_adapter_blank(&a, model, "new adapter", err));
    a->kind = tq_peft_find(o->kind);
    a->rank = o->rank;
    a->alpha = o->alpha;
    a->dropout = o->dropout;
    a->rslora = o->rslora;
    snprintf(a->base_hash, sizeof a->base_hash, "%s", tq_model_hash(model));
    toque_status status = TOQUE_OK;
    if (!a->kind) status = TQ_FAIL(err, EINVAL, "there is no adapter kind '%s'", o->kind);
    if (status == TOQUE_OK && !(o->dropout >= 0 && o->dropout < 1))
        status = TQ_FAIL(err, EINVAL, "dropout is %g, expected 0 to below 1", (double)o->dropout);
    if (status == TOQUE_OK) status = tq_adapter_targets(o->targets, &a->targets, err);
    if (status == TOQUE_OK) status = tq_adapter_layout(a, err);
    if (status != TOQUE_OK) {
        tq_adapter_free(a);
        return status;
    }
    tq_site_state *states = a->states;
    for (size_t s = 0; s < a->n_ranges / (size_t)a->kind->n_parts; s++)
        a->kind->init(a, &states[s], o->seed, (uint32_t)s);
    *result = a;
    return TOQUE_OK;
}

toque_status tq_adapter_train(tq_adapter *a, toque_error *err) {
    if (!a->grads) a->grads = TQ_NEW_ARRAY(&a->model->ctx->mem, float, a->n);
    return a->grads ? TOQUE_OK : TQ_NOMEM(err);
}

void tq_adapter_free(tq_adapter *a) {
    if (!a) return;
    tq_mem *mem = &a->model->ctx->mem;
    tq_free(mem, a->grads);
    tq_free(mem, a->values);
    tq_free(mem, a->states);
    tq_free(mem, a->sites);
    tq_free(mem, a->ranges);
    tq_free(mem, a->name);
    tq_free(mem, a);
}

tq_hat tq_adapter_hat(const tq_adapter *a, float scale) {
    return (tq_hat){.adapter = a, .sites = a->sites, .scale = scale};
}
