/* Merging adapters into a base. See merge.h. Tensors are made one after the other in f32 and written as they are
 * finished, so the memory is that of the largest one. */
#include "model/merge.h"

#include <math.h>
#include <string.h>

#include "model/peft.h"

enum { CHUNK = 256 }; /* unit vectors at a time */

typedef struct merger {
    tq_model *model;
    const tq_hats *hats;
    const tq_adapter *own; /* that replaces tensors, or NULL */
    tq_type type;
    tq_gguf_writer *out;
    int max_rank;
    int64_t widest;
    float *x, *turned, *y;          /* [CHUNK + 1, widest]: unit vectors, as the base gets them, and their outputs */
    float *low, *wide, *hat_turned; /* what hooks need */
    float *merged, *bias;           /* [the largest tensor], [widest] */
    char *encoded;                  /* [the largest tensor] in its type */
} merger;

/* --- one linear map ---------------------------------------------------------------------------------------- */
typedef struct chunk_job {
    merger *m;
    int layer, role;
    const tq_weight *weight, *bias;
    int64_t first; /* unit vector of row 1; row 0 is zero */
    int n;
} chunk_job;

static void chunk_run(tq_worker *w, void *arg) {
    const chunk_job *j = arg;
    merger *m = j->m;
    const tq_kernels *k = m->model->ctx->k;
    const int64_t in = j->weight->cols, out = j->weight->rows;
    const int T = j->n + 1;
    tq_exec e = {.k = k,
                 .compute = TQ_COMPUTE_F32,
                 .T = T,
                 .layer = j->layer,
                 .weights = m->own ? m->own->weights[j->layer] : m->model->weights[j->layer],
                 .low = m->low,
                 .wide = m->wide,
                 .turned = m->hat_turned,
                 .max_rank = m->max_rank};
    if (w->id == 0) {
        memset(m->x, 0, (size_t)T * (size_t)in * sizeof(float));
        for (int i = 0; i < j->n; i++) m->x[(i + 1) * in + j->first + i] = 1;
        memcpy(m->turned, m->x, (size_t)T * (size_t)in * sizeof(float));
    }
    tq_barrier(w);
    for (int h = 0; h < m->hats->n; h++) {
        const tq_site *site = tq_hat_site(&e, &m->hats->items[h], j->role);
        if (site && site->before) site->before(&e, w, site, m->hats->items[h].scale, 0, T, m->turned);
    }
    tq_product(&e, w, j->weight, 0, T, m->turned, m->y, false, NULL);
    tq_barrier(w);
    if (j->bias && w->id == 0)
        for (int t = 0; t < T; t++) k->add(m->y + t * out, m->y + t * out, j->bias->data, out);
    tq_barrier(w);
    for (int h = 0; h < m->hats->n; h++) {
        const tq_site *site = tq_hat_site(&e, &m->hats->items[h], j->role);
        if (site && site->fwd) site->fwd(&e, w, site, m->hats->items[h].scale, 0, T, m->x, m->y);
    }
}

static bool has_site(const merger *m, int layer, int role) {
    const tq_exec e = {.layer = layer};
    for (int h = 0; h < m->hats->n; h++)
        if (tq_hat_site(&e, &m->hats->items[h], role)) return true;
    return false;
}

static void dequantize(const merger *m, const tq_weight *w, float *out) {
    for (int64_t r = 0; r < w->rows; r++)
        m->model->ctx->k->dequant_row[w->type](out + r * w->cols, (const char *)w->data + (size_t)r * w->row_bytes,
                                               w->cols);
}

/* merged = the weight of a linear map with its hats, m->bias its bias. */
static void merge_linear(merger *m, int layer, int role, const tq_weight *weight, const tq_weight *bias) {
    const int64_t in = weight->cols, out = weight->rows;
    for (int64_t first = 0; first < in; first += CHUNK) {
        chunk_job job = {.m = m, .layer = layer, .role = role, .weight = weight, .bias = bias, .first = first};
        job.n = (int)(in - first < CHUNK ? in - first : CHUNK);
        tq_pool_run(m->model->ctx->pool, chunk_run, &job);
        for (int64_t o = 0; o < out; o++)
            for (int i = 0; i < job.n; i++) m->merged[o * in + first + i] = m->y[(i + 1) * out + o] - m->y[o];
    }
    memcpy(m->bias, m->y, (size_t)out * sizeof(float));
}

/* --- files ------------------------------------------------------------------------------------------------- */
static tq_type type_of(const merger *m, const tq_weight *w) {
    return w->rows == 1 ? TQ_F32 : m->type;
}

static toque_status declare(merger *m, const char *name, const tq_weight *w, toque_error *err) {
    int64_t dims[2] = {w->cols, w->rows};
    return tq_gguf_put_tensor(m->out, name, type_of(m, w), w->rows == 1 ? 1 : 2, dims, err);
}

/* Rotated halves become neighbours: the inverse of what loading does to llama's q and k. */
static int64_t row_in_file(const tq_config *c, int role, int64_t row) {
    bool moves = c->arch->flags & TQ_ARCH_QK_INTERLEAVED && (role == TQ_ROLE_Q || role == TQ_ROLE_K);
    int64_t half = c->D / 2, head = row / c->D, i = row % c->D;
    return moves ? head * c->D + 2 * (i % half) + i / half : row;
}

static toque_status put(merger *m, const char *name, int role, const tq_weight *w, const float *values,
                        toque_error *err) {
    const tq_type type = type_of(m, w);
    const float most = type == TQ_F16 || type == TQ_Q8_0 ? 65504 : INFINITY;
    size_t row_bytes = tq_type_row_bytes(type, w->cols);
    for (int64_t i = 0; i < w->rows * w->cols; i++)
        if (!isfinite(values[i]) || fabsf(values[i]) > most)
            return TQ_FAIL(err, EINVAL,
                           "tensor %s holds %g after merging, which %s cannot hold: use --type f32 or bf16", name,
                           (double)values[i], tq_type_get(type)->name);
    for (int64_t r = 0; r < w->rows; r++)
        m->model->ctx->k->quant_row[type](m->encoded + (size_t)row_in_file(&m->model->config, role, r) * row_bytes,
                                          values + r * w->cols, w->cols);
    return tq_gguf_write_data(m->out, m->encoded, row_bytes * (size_t)w->rows, err);
}

/* Calls for every weight of a layer (or, outside of them, with role NONE) in one order: to declare and to write. */
typedef toque_status visit(merger *m, const char *name, int layer, int role, const tq_weight *w, toque_error *err);

static toque_status walk(merger *m, visit *each, toque_error *err) {
    const tq_model *model = m->model;
    const tq_weight *embedding = m->own ? &m->own->embedding : &model->embedding;
    const tq_weight *head = m->own ? &m->own->head : &model->head;
    TQ_TRY(each(m, "token_embd.weight", -1, TQ_ROLE_NONE, embedding, err));
    TQ_TRY(each(m, "output_norm.weight", -1, TQ_ROLE_NONE, m->own ? &m->own->out_norm : &model->out_norm, err));
    if (head->data != embedding->data) TQ_TRY(each(m, "output.weight", -1, TQ_ROLE_NONE, head, err));
    for (int l = 0; l < model->config.L; l++)
        for (int role = 0; role < TQ_ROLE_COUNT; role++) {
            const tq_weight *w = m->own ? &m->own->weights[l][role] : &model->weights[l][role];
            char name[TQ_WEIGHT_NAME];
            if (!w->data) continue;
            tq_weight_name(model->config.arch, l, (tq_role)role, false, name);
            TQ_TRY(each(m, name, l, role, w, err));
        }
    return TOQUE_OK;
}

static toque_status visit_declare(merger *m, const char *name, int layer, int role, const tq_weight *w,
                                  toque_error *err) {
    (void)layer, (void)role;
    return declare(m, name, w, err);
}

/* The linear map whose bias this role is, or NONE. */
static int owner_of_bias(const tq_model *model, int role) {
    for (int i = 0; i < model->layer.n_steps; i++)
        if (model->layer.steps[i].op == &tq_op_linear && model->layer.steps[i].bias == role)
            return model->layer.steps[i].role;
    return TQ_ROLE_NONE;
}

static const tq_weight *bias_of(const merger *m, int layer, int role) {
    const tq_model *model = m->model;
    for (int i = 0; i < model->layer.n_steps; i++) {
        const tq_step *s = &model->layer.steps[i];
        if (s->op == &tq_op_linear && s->role == role && s->bias != TQ_ROLE_NONE)
            return m->own ? &m->own->weights[layer][s->bias] : &model->weights[layer][s->bias];
    }
    return NULL;
}

static toque_status visit_write(merger *m, const char *name, int layer, int role, const tq_weight *w,
                                toque_error *err) {
    int linear = role == TQ_ROLE_NONE ? role : owner_of_bias(m->model, role);
    const float *values = m->merged;
    if (atomic_load(&m->model->ctx->canceled)) return TQ_FAIL(err, ECANCELED, "canceled: nothing was written");
    if (role != TQ_ROLE_NONE && has_site(m, layer, role)) {
        merge_linear(m, layer, role, w, bias_of(m, layer, role));
    } else if (linear != TQ_ROLE_NONE && has_site(m, layer, linear)) {
        const tq_weight *of = m->own ? &m->own->weights[layer][linear] : &m->model->weights[layer][linear];
        merge_linear(m, layer, linear, of, w);
        values = m->bias;
    } else {
        dequantize(m, w, m->merged);
    }
    return put(m, name, linear != TQ_ROLE_NONE ? linear : role, w, values, err);
}

static toque_status put_metadata(merger *m, toque_error *err) {
    const tq_gguf *g = m->model->gguf;
    static const char KEY[] = "general.file_type";
    for (size_t i = 0; i < tq_gguf_n_values(g); i++) {
        const tq_gguf_value *v = tq_gguf_value_at(g, i);
        bool is_type = v->key.len == sizeof KEY - 1 && memcmp(v->key.data, KEY, v->key.len) == 0;
        if (!is_type) TQ_TRY(tq_gguf_put_value(m->out, v, err));
    }
    uint32_t number = m->type == TQ_F32 ? 0 : m->type == TQ_F16 ? 1 : m->type == TQ_Q8_0 ? 7 : 32; /* llama.cpp's */
    return tq_gguf_put_u32(m->out, KEY, number, err);
}

/* --- what can be merged -------------------------------------------------------------------------------------- */
static toque_status check_hats(merger *m, toque_error *err) {
    const char *base = tq_model_hash(m->model);
    if (!m->hats->n) return TQ_FAIL(err, EINVAL, "there is nothing to merge: name an adapter with -a");
    if (tq_gguf_is_folder(m->model->gguf))
        return TQ_FAIL(err, EUNSUPPORTED, "%s is a folder: merging needs a base in a GGUF file",
                       tq_gguf_path(m->model->gguf));
    for (int h = 0; h < m->hats->n; h++) {
        const tq_hat *hat = &m->hats->items[h];
        const tq_adapter *a = hat->adapter;
        if (a->table.n)
            return TQ_FAIL(
                err, EUNSUPPORTED,
                "%s (%s) is made of virtual tokens, which no weight of the model can hold: it cannot be merged",
                a->name, a->kind->name);
        if (*a->base_hash && strcmp(a->base_hash, base) != 0)
            return TQ_FAIL(err, EINVAL,
                           "%s was trained on another base (%.12s) than %s (%.12s): merge it into that one", a->name,
                           a->base_hash, tq_gguf_path(m->model->gguf), base);
        if (a->max_rank > m->max_rank) m->max_rank = a->max_rank;
        if (!a->weights) continue;
        if (m->own)
            return TQ_FAIL(err, EINVAL, "%s and %s both replace tensors of the model: merge one of them", m->own->name,
                           a->name);
        if (hat->scale != 1)
            return TQ_FAIL(err, EINVAL, "%s replaces tensors of the model: its scale must be 1, not %g", a->name,
                           (double)hat->scale);
        m->own = a;
    }
    return TOQUE_OK;
}

static toque_status make_room(merger *m, toque_error *err) {
    const tq_config *c = &m->model->config;
    tq_mem *mem = &m->model->ctx->mem;
    size_t largest = (size_t)c->V * (size_t)c->C;
    m->widest = c->C;
    for (int role = 0; role < TQ_ROLE_COUNT; role++) {
        const tq_weight *w = &m->model->weights[0][role];
        if (w->rows > m->widest) m->widest = w->rows;
        if (w->cols > m->widest) m->widest = w->cols;
        if ((size_t)w->rows * (size_t)w->cols > largest) largest = (size_t)w->rows * (size_t)w->cols;
    }
    size_t rows = (size_t)(CHUNK + 1) * (size_t)m->widest;
    float **blocks[] = {&m->x, &m->turned, &m->y, &m->wide, &m->hat_turned};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
        if (!(*blocks[i] = tq_alloc(mem, rows, sizeof(float)))) return TQ_NOMEM(err);
    m->low = tq_alloc(mem, 2 * (CHUNK + 1) * (size_t)m->max_rank, sizeof(float));
    m->bias = tq_alloc(mem, (size_t)m->widest, sizeof(float));
    m->merged = tq_alloc(mem, largest, sizeof(float));
    m->encoded = tq_alloc(mem, largest, sizeof(float));
    return m->low && m->bias && m->merged && m->encoded ? TOQUE_OK : TQ_NOMEM(err);
}

toque_status tq_merge(tq_model *model, const tq_hats *hats, tq_type type, const char *path, toque_error *err) {
    merger m = {.model = model, .hats = hats, .type = type, .max_rank = 1};
    tq_mem *mem = &model->ctx->mem;
    toque_status status = TOQUE_OK;
    const tq_tensor *freqs = tq_gguf_find_tensor(model->gguf, "rope_freqs.weight");
    TQ_GO(check_hats(&m, err));
    TQ_GO(make_room(&m, err));
    TQ_GO(tq_gguf_writer_new(&m.out, mem, path, err));
    TQ_GO(put_metadata(&m, err));
    if (freqs) TQ_GO(tq_gguf_put_tensor(m.out, freqs->name, freqs->type, freqs->n_dims, freqs->dims, err));
    TQ_GO(walk(&m, visit_declare, err));
    if (freqs) TQ_GO(tq_gguf_write_data(m.out, freqs->data, freqs->bytes, err));
    TQ_GO(walk(&m, visit_write, err));
    tq_gguf_writer *out = m.out;
    m.out = NULL;
    status = tq_gguf_writer_commit(out, err);
done:
    tq_gguf_writer_abort(m.out);
    void *blocks[] = {m.x, m.turned, m.y, m.wide, m.hat_turned, m.low, m.bias, m.merged, m.encoded};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) tq_free(mem, blocks[i]);
    return status;
}
