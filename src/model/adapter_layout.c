/* Laying out an adapter: which ranges it has, where they lie, and the hooks and weights that point at them. */
#include "model/peft.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* --- sites ------------------------------------------------------------------------------------------------- */
/* The bias that the program adds after this role's product, or NULL. */
static const tq_weight *bias_of(const tq_model *m, int layer, int role) {
    for (int i = 0; i < m->layer.n_steps; i++) {
        const tq_step *s = &m->layer.steps[i];
        if (s->op == &tq_op_linear && s->role == role && s->bias != TQ_ROLE_NONE) return &m->weights[layer][s->bias];
    }
    return NULL;
}

static toque_status make_state(tq_adapter *a, tq_site_state *s, int layer, int role, toque_error *err) {
    const tq_weight *w = &a->model->weights[layer][role];
    double rank, alpha;
    TQ_TRY(tq_pattern_value(a, a->rank_pattern, layer, role, a->rank, &rank, err));
    TQ_TRY(tq_pattern_value(a, a->alpha_pattern, layer, role, (double)a->alpha, &alpha, err));
    int64_t least = w->rows < w->cols ? w->rows : w->cols;
    if (rank != floor(rank) || rank < 1 || (rank > (double)least && tq_peft_uses(a->kind, "rslora")))
        return TQ_FAIL(err, EINVAL, "rank %g is not possible for %s, which is %lld x %lld: use 1 to %lld", rank,
                       tq_role_hf((tq_role)role), (long long)w->rows, (long long)w->cols, (long long)least);
    *s = (tq_site_state){.adapter = a,
                         .weight = w,
                         .bias = bias_of(a->model, layer, role),
                         .layer = layer,
                         .role = role,
                         .rank = (int)rank,
                         .scaling = (float)(a->rslora ? alpha / sqrt(rank) : alpha / rank),
                         .grads = &a->grads};
    return TOQUE_OK;
}

static void lay_site(tq_adapter *a, tq_site_state *s) {
    char path[100];
    tq_module_path(path, a, s->layer, s->role);
    for (int i = 0; i < a->kind->n_parts; i++) {
        tq_range *r = &a->ranges[a->n_ranges++];
        *r = (tq_range){.start = a->n,
                        .layer = s->layer,
                        .role = s->role,
                        .part = i,
                        .vector = a->kind->vector[i],
                        .decays = true,
                        .lr = 1};
        a->kind->shape(s, i, &r->rows, &r->cols);
        snprintf(r->name, sizeof r->name, "base_model.model.%s.%s", path, a->kind->part[i]);
        s->start[i] = a->n;
        a->n += (size_t)r->rows * (size_t)r->cols;
    }
}

static toque_status lay_sites(tq_adapter *a, toque_error *err) {
    const tq_config *c = &a->model->config;
    tq_site_state *states = a->states;
    int most = 1;
    for (int l = 0; l < c->L; l++)
        for (int role = 0; role < TQ_ROLE_COUNT; role++) {
            if (!(a->targets[l] >> role & 1)) continue;
            tq_site_state *s = &states[a->n_sites++];
            TQ_TRY(make_state(a, s, l, role, err));
            lay_site(a, s);
            if (s->rank > most) most = s->rank;
        }
    a->n_site_ranges = a->n_ranges;
    a->max_rank = most;
    return TOQUE_OK;
}

static toque_status connect_sites(tq_adapter *a, toque_error *err) {
    tq_site_state *states = a->states;
    size_t n = 0;
    for (size_t i = 0; a->kind->n_derived && i < a->n_sites; i++) n += a->kind->n_derived(&states[i]);
    if (n) a->derived = TQ_NEW_ARRAY(&a->model->ctx->mem, float, n);
    if (n && !a->derived) return TQ_NOMEM(err);
    n = 0;
    for (size_t i = 0; i < a->n_sites; i++) {
        tq_site_state *s = &states[i];
        for (int p = 0; p < a->kind->n_parts; p++) s->value[p] = a->values + s->start[p];
        if (a->kind->n_derived) {
            s->derived = a->derived + n;
            n += a->kind->n_derived(s);
        }
        tq_site *site = &a->sites[s->layer * TQ_ROLE_COUNT + s->role];
        *site = (tq_site){.state = s, .role = s->role, .layer = s->layer};
        a->kind->connect(s, site);
    }
    return TOQUE_OK;
}

/* --- own tensors --------------------------------------------------------------------------------------------- */
static const tq_weight *weight_at(const tq_model *m, int layer, int role) {
    switch (role) {
    case TQ_ROLE_EMBEDDING: return &m->embedding;
    case TQ_ROLE_OUT_NORM: return &m->out_norm;
    case TQ_ROLE_HEAD: return &m->head;
    case TQ_ROLE_POOLER: return &m->pooler;
    case TQ_ROLE_POOLER_BIAS: return &m->pooler_bias;
    default: return layer < 0 ? &m->in_weights[role] : &m->weights[layer][role];
    }
}

tq_weight *tq_adapter_weight(tq_adapter *a, int layer, int role) {
    switch (role) {
    case TQ_ROLE_EMBEDDING: return &a->embedding;
    case TQ_ROLE_OUT_NORM: return &a->out_norm;
    case TQ_ROLE_HEAD: return &a->head;
    case TQ_ROLE_POOLER: return &a->pooler;
    case TQ_ROLE_POOLER_BIAS: return &a->pooler_bias;
    default: return layer < 0 ? &a->in_weights[role] : &a->weights[layer][role];
    }
}

/* Whether a loss can see this tensor: heads read no logits, and of them only some the pooler. */
static bool is_read(const tq_adapter *a, int role) {
    bool pooler = role == TQ_ROLE_POOLER || role == TQ_ROLE_POOLER_BIAS;
    for (int i = 0; pooler && i < a->n_heads; i++)
        if (a->heads[i].read == TQ_READ_POOLER) return true;
    return !pooler && !(a->n_heads && role == TQ_ROLE_HEAD);
}

/* One that replaces a tied embedding whole stays tied; beside sites, embedding and head are trained apart, as PEFT's
 * modules_to_save does. */
static bool keeps_tie(const tq_adapter *a) {
    return a->model->config.tied && a->kind->n_parts == 0;
}

static void lay_own(tq_adapter *a, int layer, int role) {
    char name[100];
    const tq_weight *w = weight_at(a->model, layer, role);
    if (!w->data || (role == TQ_ROLE_HEAD && keeps_tie(a)) || !is_read(a, role)) return;
    tq_parameter_name(name, a, layer, role);
    if (!tq_name_matches(a->own, name)) return;
    tq_range *r = &a->ranges[a->n_ranges++];
    *r = (tq_range){.start = a->n,
                    .rows = (int)w->rows,
                    .cols = (int)w->cols,
                    .vector = w->rows == 1,
                    .layer = layer,
                    .role = role,
                    .part = -1,
                    .decays = w->rows > 1,
                    .lr = 1};
    if (a->kind->peft_type && a->kind->n_parts == 0) {
        char *end = strrchr(name, '.');
        *end = 0;
        snprintf(r->name, sizeof r->name, "base_model.model.%s.ln_tuning_layers.%s", name, end + 1);
    } else {
        snprintf(r->name, sizeof r->name, "%s%s", a->kind->peft_type ? "base_model.model." : "", name);
    }
    a->n += (size_t)r->rows * (size_t)r->cols;
}

static void lay_all_own(tq_adapter *a) {
    int L = a->model->config.L;
    lay_own(a, -1, TQ_ROLE_EMBEDDING);
    for (int role = 0; role < TQ_ROLE_COUNT; role++) lay_own(a, -1, role);
    for (int l = 0; l < L; l++)
        for (int role = 0; role < TQ_ROLE_COUNT; role++) lay_own(a, l, role);
    lay_own(a, L, TQ_ROLE_OUT_NORM);
    lay_own(a, L, TQ_ROLE_HEAD);
    lay_own(a, L, TQ_ROLE_POOLER);
    lay_own(a, L, TQ_ROLE_POOLER_BIAS);
}

/* Points the table of weights at the trained copies, which begin as the model's. */
static toque_status connect_own(tq_adapter *a, toque_error *err) {
    const tq_model *m = a->model;
    if (a->n_body_ranges == a->n_site_ranges) return TOQUE_OK;
    a->weights = tq_alloc(&m->ctx->mem, (size_t)m->config.L, sizeof *a->weights);
    if (!a->weights) return TQ_NOMEM(err);
    memcpy(a->weights, m->weights, (size_t)m->config.L * sizeof *a->weights);
    a->embedding = m->embedding;
    a->out_norm = m->out_norm;
    a->head = m->head;
    a->pooler = m->pooler;
    a->pooler_bias = m->pooler_bias;
    memcpy(a->in_weights, m->in_weights, sizeof a->in_weights);
    for (size_t i = a->n_site_ranges; i < a->n_body_ranges; i++) {
        const tq_range *r = &a->ranges[i];
        const tq_weight *base = weight_at(m, r->layer, r->role);
        float *values = a->values + r->start;
        for (int row = 0; row < r->rows; row++)
            m->ctx->k->dequant_row[base->type](values + (size_t)row * (size_t)r->cols,
                                               (const char *)base->data + (size_t)row * base->row_bytes, r->cols);
        *tq_adapter_weight(a, r->layer, r->role) = (tq_weight){.data = values,
                                                               .type = TQ_F32,
                                                               .rows = r->rows,
                                                               .cols = r->cols,
                                                               .row_bytes = sizeof(float) * (size_t)r->cols};
        if (r->role == TQ_ROLE_EMBEDDING && keeps_tie(a)) a->head = a->embedding;
    }
    return TOQUE_OK;
}

/* --- tables of virtual tokens --------------------------------------------------------------------------------- */
static void lay_table(tq_adapter *a) {
    tq_range *r = &a->ranges[a->n_ranges++];
    *r = (tq_range){.name = "prompt_embeddings",
                    .rows = a->table.n,
                    .cols = (int)a->kind->table_cols(a->model),
                    .layer = a->kind->is_prompt ? -1 : 0,
                    .role = TQ_ROLE_TABLE,
                    .decays = true,
                    .lr = 1};
    a->n = (size_t)r->rows * (size_t)r->cols;
    a->n_site_ranges = a->n_ranges;
}

/* --- heads ---------------------------------------------------------------------------------------------------- */
static void lay_head_range(tq_adapter *a, int number, int rows, int cols, bool is_bias) {
    tq_range *r = &a->ranges[a->n_ranges++];
    *r = (tq_range){.start = a->n,
                    .rows = rows,
                    .cols = cols,
                    .vector = is_bias,
                    .layer = a->model->config.L,
                    .role = is_bias ? TQ_ROLE_SCORE_BIAS : TQ_ROLE_SCORE,
                    .part = number,
                    .decays = !is_bias,
                    .lr = 1};
    snprintf(r->name, sizeof r->name, "%s%s.%s", a->kind->peft_type ? "base_model.model." : "", a->heads[number].module,
             is_bias ? "bias" : "weight");
    a->n += (size_t)rows * (size_t)cols;
}

/* As transformers has them: `classifier` with a bias on encoders, `score` on decoders, with one only for tokens. Only
 * the first head can have that name. */
static void lay_heads(tq_adapter *a) {
    const tq_config *c = &a->model->config;
    bool encoder = c->arch->flags & TQ_ARCH_ENCODER;
    a->n_body_ranges = a->n_ranges;
    for (int i = 0; i < a->n_heads; i++) {
        tq_head *h = &a->heads[i];
        snprintf(h->module, sizeof h->module, "%s%s%s", encoder ? "classifier" : "score", i ? "_" : "",
                 i ? tq_head_kind_name(h->kind) : "");
        lay_head_range(a, i, h->n, c->C, false);
        if (encoder || h->kind == TQ_HEAD_TAGS) lay_head_range(a, i, 1, h->n, true);
    }
}

static void connect_heads(tq_adapter *a) {
    for (size_t i = a->n_body_ranges; i < a->n_ranges; i++) {
        tq_head *h = &a->heads[a->ranges[i].part];
        *(a->ranges[i].role == TQ_ROLE_SCORE ? &h->weight : &h->bias) = a->values + a->ranges[i].start;
    }
}

/* --- both ---------------------------------------------------------------------------------------------------- */
toque_status tq_adapter_layout(tq_adapter *a, toque_error *err) {
    tq_mem *mem = &a->model->ctx->mem;
    int L = a->model->config.L;
    size_t n_sites = 0, n_own = a->own ? (size_t)(L + 1) * TQ_ROLE_COUNT + 5 : 0;
    if (a->rank < 1) a->rank = 1;
    a->max_rank = 1;
    TQ_TRY(tq_pattern_check(a, a->rank_pattern, "rank_pattern", err));
    TQ_TRY(tq_pattern_check(a, a->alpha_pattern, "alpha_pattern", err));
    for (int l = 0; a->kind->n_parts && l < L; l++) n_sites += (size_t)__builtin_popcount(a->targets[l]);
    a->ranges = TQ_NEW_ARRAY(mem, tq_range, n_sites * (size_t)a->kind->n_parts + n_own + 2 * (size_t)a->n_heads + 1);
    if (!a->ranges) return TQ_NOMEM(err);
    if (n_sites) {
        a->sites = TQ_NEW_ARRAY(mem, tq_site, (size_t)L * TQ_ROLE_COUNT);
        a->states = TQ_NEW_ARRAY(mem, tq_site_state, n_sites);
        if (!a->sites || !a->states) return TQ_NOMEM(err);
        TQ_TRY(lay_sites(a, err));
        if (a->kind->prepare) TQ_TRY(a->kind->prepare(a, err));
    }
    if (a->kind->table_cols) lay_table(a);
    if (a->own) lay_all_own(a);
    lay_heads(a);
    if (!a->n_ranges && !a->own)
        return TQ_FAIL(err, EINVAL, "method %s trains a head: it goes with an objective that has one", a->kind->name);
    if (!a->n_body_ranges && a->own)
        return TQ_FAIL(err, EINVAL, "method %s: nothing in this model matches '%s', so nothing would be trained%s",
                       a->kind->name, a->own,
                       a->kind == &tq_peft_bitfit ? " (it has no biases: method norms trains its norms)"
                                                  : " (names are like model.layers.0.mlp.up_proj.weight)");
    a->values = TQ_NEW_ARRAY(mem, float, a->n);
    if (!a->values) return TQ_NOMEM(err);
    if (a->kind->table_cols)
        a->table =
            (tq_virtual){.n = a->ranges[0].rows, .row = a->ranges[0].cols, .values = a->values, .grads = &a->grads};
    connect_heads(a);
    TQ_TRY(connect_sites(a, err));
    return connect_own(a, err);
}

/* --- derived values -------------------------------------------------------------------------------------------- */
typedef struct derive_job {
    tq_adapter *a;
    void (*derive)(tq_worker *w, tq_site_state *s);
} derive_job;

/* One worker does a whole site, as if it were alone: no result depends on the number of workers. */
static void derive_sites(tq_worker *w, void *arg) {
    const derive_job *job = arg;
    tq_site_state *states = job->a->states;
    tq_worker lone = {.count = 1, .scratch = w->scratch};
    for (size_t i = (size_t)w->id; i < job->a->n_sites; i += (size_t)w->count) job->derive(&lone, &states[i]);
}

void tq_adapter_ready(tq_adapter *a) {
    derive_job job = {a, a->kind->derive_base};
    if (job.derive) tq_pool_run(a->model->ctx->pool, derive_sites, &job);
}

void tq_adapter_changed(tq_adapter *a) {
    derive_job job = {a, a->kind->derive};
    if (job.derive) tq_pool_run(a->model->ctx->pool, derive_sites, &job);
}
