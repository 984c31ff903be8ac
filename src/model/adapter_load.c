/* Reading an adapter: a PEFT folder (adapter_config.json + adapter_model.safetensors) or a GGUF adapter. Every setting
 * and every tensor of the files is either used or refused: nothing is worn half. */
#include "files/safetensors.h"
#include "model/peft.h"

#include <stdio.h>
#include <string.h>

/* --- values ---------------------------------------------------------------------------------------------- */
static toque_status copy_tensor(const tq_adapter *a, float *values, const tq_range *r, const tq_tensor *t,
                                const char *path, toque_error *err) {
    const tq_kernels *k = a->model->ctx->k;
    if (t->type >= TQ_TYPE_END || !k->dequant_row[t->type])
        return TQ_FAIL(err, EUNSUPPORTED, "%s: tensor %s is not F32, F16 or BF16", path, t->name);
    bool same = r->vector ? t->rows * t->cols == (int64_t)r->rows * r->cols : t->rows == r->rows && t->cols == r->cols;
    if (!same)
        return TQ_FAIL(err, EFORMAT,
                       "%s: tensor %s is %lld x %lld, but this model and rank want %d x %d: the adapter was made "
                       "for another model",
                       path, t->name, (long long)t->rows, (long long)t->cols, r->rows, r->cols);
    k->dequant_row[t->type](values, t->data, t->rows * t->cols);
    if (!(k->sum_squares(values, t->rows * t->cols) <= 3e38f))
        return TQ_FAIL(err, ENONFINITE, "%s: tensor %s holds values that are not finite", path, t->name);
    return TOQUE_OK;
}

/* The pair that all sites share; a file that has neither is of an adapter whose pair is drawn by its key. */
static toque_status read_shared(tq_adapter *a, const tq_safetensors *st, size_t *n, const char *path,
                                toque_error *err) {
    for (int i = 0; i < 2; i++) {
        const tq_shared *s = &a->shared[i];
        const tq_tensor *t = s->values ? tq_safetensors_find(st, s->name) : NULL;
        const tq_range r = {.rows = s->rows, .cols = s->cols};
        if (i && s->values && !t != !*n)
            return TQ_FAIL(err, EFORMAT, "%s: there is one of vera_A and vera_B; both are needed, or none", path);
        if (!t) continue;
        ++*n;
        TQ_TRY(copy_tensor(a, s->values, &r, t, path, err));
    }
    return TOQUE_OK;
}

static toque_status read_values(tq_adapter *a, const char *path, toque_error *err) {
    tq_safetensors *st;
    TQ_TRY(tq_safetensors_open(&st, &a->model->ctx->mem, path, err));
    size_t n_shared = 0;
    toque_status status = read_shared(a, st, &n_shared, path, err);
    for (size_t i = 0; status == TOQUE_OK && i < a->n_ranges; i++) {
        const tq_tensor *t = tq_safetensors_find(st, a->ranges[i].name);
        status = t ? copy_tensor(a, a->values + a->ranges[i].start, &a->ranges[i], t, path, err)
                   : TQ_FAIL(err, EFORMAT,
                             "%s: tensor %s is missing: the adapter was made for another model or other targets", path,
                             a->ranges[i].name);
    }
    if (status == TOQUE_OK && tq_safetensors_count(st) != a->n_ranges + n_shared)
        status = TQ_FAIL(err, EUNSUPPORTED,
                         "%s holds %zu tensors, but its targets account for %zu: the others cannot be worn", path,
                         tq_safetensors_count(st), a->n_ranges + n_shared);
    const char *hash = tq_safetensors_metadata(st, "toque.base_hash");
    if (hash) snprintf(a->base_hash, sizeof a->base_hash, "%s", hash);
    tq_safetensors_close(st);
    return status;
}

/* A run of a method that PEFT lacks: model.safetensors holds the trained tensors under Hugging Face's names, and its
 * metadata says which method it was. */
static toque_status describe_own(tq_adapter *a, const char *path, toque_error *err) {
    tq_mem *mem = &a->model->ctx->mem;
    tq_safetensors *st;
    TQ_TRY(tq_safetensors_open(&st, mem, path, err));
    const char *method = tq_safetensors_metadata(st, "toque.method");
    a->kind = method ? tq_peft_find(method) : &tq_peft_full;
    tq_buf names;
    tq_buf_init(&names, mem, 1 << 24);
    for (size_t i = 0; i < tq_safetensors_count(st); i++)
        tq_buf_printf(&names, "%s%s", i ? "," : "", tq_safetensors_at(st, i)->name);
    toque_status status = tq_buf_status(&names, "the list of tensors", err);
    if (status == TOQUE_OK && (!a->kind || a->kind->peft_type))
        status =
            TQ_FAIL(err, EUNSUPPORTED, "%s was trained by method '%s', which this toque does not know", path, method);
    if (status == TOQUE_OK && a->kind != &tq_peft_head && !(a->own = tq_buf_take(&names))) status = TQ_NOMEM(err);
    tq_buf_clear(&names);
    tq_safetensors_close(st);
    return status;
}

static toque_status load_folder(tq_adapter *a, const char *dir, toque_error *err) {
    tq_mem *mem = &a->model->ctx->mem;
    char *config = tq_path_join(mem, dir, "adapter_config.json"), *own = tq_path_join(mem, dir, "model.safetensors");
    char *tensors = tq_path_join(mem, dir, "adapter_model.safetensors");
    toque_status status = config && tensors && own ? TOQUE_OK : TQ_NOMEM(err);
    if (status == TOQUE_OK) {
        if (tq_path_exists(config))
            status = tq_adapter_read_config(a, config, err);
        else if (tq_path_exists(own))
            status = describe_own(a, own, err);
        else
            status = TQ_FAIL(err, ENOTFOUND,
                             "%s is no adapter: neither adapter_config.json nor model.safetensors is there", dir);
    }
    if (status == TOQUE_OK) status = tq_heads_read(a, dir, a->kind->peft_type ? tensors : own, err);
    if (status == TOQUE_OK) status = tq_embedding_read(a, dir, err);
    if (status == TOQUE_OK) status = tq_adapter_layout(a, err);
    if (status == TOQUE_OK) status = read_values(a, a->kind->peft_type ? tensors : own, err);
    tq_free(mem, config);
    tq_free(mem, tensors);
    tq_free(mem, own);
    return status;
}

/* --- GGUF adapters --------------------------------------------------------------------------------------- */
/* llama.cpp names them <base tensor>.lora_a and .lora_b, A [R, in] and B [out, R]; B's rows of q and k stand in ggml's
 * order where the base's do. */
static void unmove_rows(float *b, float *copy, int heads, int D, int R) {
    memcpy(copy, b, sizeof(float) * (size_t)heads * (size_t)D * (size_t)R);
    for (int h = 0; h < heads; h++)
        for (int i = 0; i < D / 2; i++)
            for (int j = 0; j < 2; j++)
                memcpy(b + (size_t)(h * D + j * (D / 2) + i) * (size_t)R,
                       copy + (size_t)(h * D + 2 * i + j) * (size_t)R, sizeof(float) * (size_t)R);
}

static const tq_tensor *gguf_part(const tq_gguf *g, int layer, int role, const char *part) {
    char name[128];
    snprintf(name, sizeof name, "blk.%d.%s.%s", layer, tq_role_gguf((tq_role)role), part);
    return tq_gguf_find_tensor(g, name);
}

static toque_status gguf_values(tq_adapter *a, const tq_gguf *g, const char *path, toque_error *err) {
    const tq_config *c = &a->model->config;
    tq_mem *mem = &a->model->ctx->mem;
    for (size_t i = 0; i < a->n_ranges; i++) {
        const tq_range *r = &a->ranges[i];
        const tq_tensor *t = gguf_part(g, r->layer, r->role, i % 2 ? "lora_b" : "lora_a");
        if (!t)
            return TQ_FAIL(err, EFORMAT, "%s: layer %d has no %s adapter", path, r->layer,
                           tq_role_gguf((tq_role)r->role));
        TQ_TRY(copy_tensor(a, a->values + r->start, r, t, path, err));
        if (i % 2 == 0 || !(c->arch->flags & TQ_ARCH_QK_INTERLEAVED) || (r->role != TQ_ROLE_Q && r->role != TQ_ROLE_K))
            continue;
        float *copy = tq_alloc(mem, (size_t)r->rows * (size_t)r->cols, sizeof(float));
        if (!copy) return TQ_NOMEM(err);
        unmove_rows(a->values + r->start, copy, r->role == TQ_ROLE_Q ? c->H : c->G, c->D, a->rank);
        tq_free(mem, copy);
    }
    return TOQUE_OK;
}

static toque_status load_gguf(tq_adapter *a, const char *path, toque_error *err) {
    tq_gguf *g;
    TQ_TRY(tq_gguf_open(&g, &a->model->ctx->mem, path, err));
    tq_string type = {0};
    float alpha = 0;
    toque_status status = tq_gguf_str(g, "adapter.type", &type, err);
    if (status == TOQUE_OK) status = tq_gguf_f32(g, "adapter.lora.alpha", &alpha, err);
    if (status == TOQUE_OK && !(type.len == 4 && memcmp(type.data, "lora", 4) == 0))
        status = TQ_FAIL(err, EFORMAT, "%s is no GGUF adapter: adapter.type is not 'lora'", path);
    for (int role = 0; status == TOQUE_OK && role < TQ_ROLE_COUNT; role++) {
        const tq_tensor *t = gguf_part(g, 0, role, "lora_a");
        if (!t) continue;
        for (int l = 0; l < a->model->config.L; l++) a->targets[l] |= 1u << role;
        a->rank = (int)t->rows;
    }
    if (status == TOQUE_OK && !a->targets[0])
        status = TQ_FAIL(err, EFORMAT, "%s: no layer has an adapter that can be worn", path);
    if (status == TOQUE_OK) {
        a->kind = tq_peft_find("lora");
        a->alpha = alpha > 0 ? alpha : (float)a->rank;
        status = tq_adapter_layout(a, err);
    }
    if (status == TOQUE_OK && tq_gguf_n_tensors(g) != a->n_ranges)
        status = TQ_FAIL(err, EUNSUPPORTED, "%s holds %zu tensors, but the layers' linear maps account for %zu", path,
                         tq_gguf_n_tensors(g), a->n_ranges);
    if (status == TOQUE_OK) status = gguf_values(a, g, path, err);
    tq_gguf_close(g);
    return status;
}

/* An adapter bends what another base of the same shapes says; what a head reads of another base means nothing to it. */
static toque_status check_base(tq_adapter *a, const char *path, toque_error *err) {
    tq_model *model = a->model;
    const char *hash = a->base_hash[0] ? tq_model_hash(model) : "";
    if (strcmp(a->base_hash, hash) == 0) return TOQUE_OK;
    if (a->n_heads)
        return TQ_FAIL(err, EINVAL,
                       "%s has a head that was trained on a base with hash %.12s, but %s is %.12s: a head reads the "
                       "states of its own base only, give that one or train the head again on this one",
                       path, a->base_hash, tq_gguf_path(model->gguf), hash);
    tq_log(model->ctx, TQ_WARNING,
           "%s was tuned on a base with hash %.12s; this model is %.12s (the same shapes: it is worn all the same)",
           path, a->base_hash, hash);
    return TOQUE_OK;
}

toque_status tq_adapter_load(tq_adapter **result, tq_model *model, const char *path, toque_error *err) {
    *result = NULL;
    tq_adapter *a;
    TQ_TRY(tq_adapter_blank(&a, model, path, err));
    toque_status status;
    if (!tq_path_exists(path))
        status = TQ_FAIL(err, ENOTFOUND, "there is no adapter %s", path);
    else
        status = tq_path_is_dir(path) ? load_folder(a, path, err) : load_gguf(a, path, err);
    if (status == TOQUE_OK) status = check_base(a, path, err);
    if (status != TOQUE_OK) {
        tq_adapter_free(a);
        return status;
    }
    tq_adapter_ready(a);
    tq_adapter_changed(a);
    *result = a;
    return TOQUE_OK;
}
