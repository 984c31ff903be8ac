/* Writing an adapter as PEFT writes it: adapter_model.safetensors and adapter_config.json; or, for methods that PEFT
 * lacks, the trained tensors as model.safetensors under Hugging Face's names. What only toque knows (the base's hash,
 * the method) stands in the safetensors metadata, where others ignore it. */
#include "files/safetensors.h"
#include "model/peft.h"

#include <string.h>

/* The values in the type that own tensors are stored in, for all ranges; NULL in f32. */
static toque_status convert(const tq_adapter *a, const float *values, char **out, toque_error *err) {
    *out = NULL;
    if (a->kind->peft_type || a->save_type == TQ_F32) return TOQUE_OK;
    *out = tq_alloc(&a->model->ctx->mem, a->n, 2);
    if (!*out) return TQ_NOMEM(err);
    for (size_t i = 0; i < a->n_ranges; i++) {
        const tq_range *r = &a->ranges[i];
        a->model->ctx->k->quant_row[a->save_type](*out + r->start * 2, values + r->start, (int64_t)r->rows * r->cols);
    }
    return TOQUE_OK;
}

/* PiSSA's ranges as those of a plain LoRA of twice the rank. */
static toque_status double_rank(const tq_adapter *a, const float *values, float **out, toque_error *err) {
    *out = NULL;
    if (!a->start) return TOQUE_OK;
    *out = tq_alloc(&a->model->ctx->mem, a->n, 2 * sizeof(float));
    if (!*out) return TQ_NOMEM(err);
    for (size_t i = 0; i < a->n_ranges; i++) tq_pissa_range(a, &a->ranges[i], values, *out + 2 * a->ranges[i].start);
    return TOQUE_OK;
}

static tq_save_tensor tensor_of(const tq_adapter *a, const tq_range *r, const float *values, const char *converted,
                                const float *doubled) {
    tq_save_tensor t = {
        .name = r->name, .type = TQ_F32, .n_dims = 2, .dims = {r->rows, r->cols}, .data = values + r->start};
    if (r->vector) t.n_dims = 1, t.dims[0] = (int64_t)r->rows * r->cols;
    if (converted) t.type = a->save_type, t.data = converted + r->start * 2;
    if (doubled) t.dims[r->part] *= 2, t.data = doubled + r->start * 2;
    return t;
}

static toque_status save_tensors(const tq_adapter *a, const char *path, const float *values, toque_error *err) {
    tq_mem *mem = &a->model->ctx->mem;
    tq_save_tensor *t = TQ_NEW_ARRAY(mem, tq_save_tensor, a->n_ranges + 2);
    size_t n = a->n_ranges;
    char *converted = NULL;
    float *doubled = NULL;
    toque_status status = t ? convert(a, values, &converted, err) : TQ_NOMEM(err);
    if (status == TOQUE_OK) status = double_rank(a, values, &doubled, err);
    for (size_t i = 0; status == TOQUE_OK && i < a->n_ranges; i++)
        t[i] = tensor_of(a, &a->ranges[i], values, converted, doubled);
    for (int i = 0; t && i < 2; i++) {
        const tq_shared *s = &a->shared[i];
        if (!s->values) continue;
        t[n++] = (tq_save_tensor){
            .name = s->name, .type = TQ_F32, .n_dims = 2, .dims = {s->rows, s->cols}, .data = s->values};
    }
    const char *metadata[] = {"format", "pt", "toque.base_hash", a->base_hash, "toque.method", a->kind->name};
    if (status == TOQUE_OK) status = tq_safetensors_save(mem, path, t, n, metadata, 3, err);
    tq_free(mem, converted);
    tq_free(mem, doubled);
    tq_free(mem, t);
    return status;
}

toque_status tq_adapter_save(const tq_adapter *a, const char *dir, const float *values, toque_error *err) {
    tq_mem *mem = &a->model->ctx->mem;
    bool peft = a->kind->peft_type != NULL;
    char *config = tq_path_join(mem, dir, "adapter_config.json");
    char *tensors = tq_path_join(mem, dir, peft ? "adapter_model.safetensors" : "model.safetensors");
    toque_status status = config && tensors ? TOQUE_OK : TQ_NOMEM(err);
    if (status == TOQUE_OK) status = save_tensors(a, tensors, values ? values : a->values, err);
    if (status == TOQUE_OK && peft) status = tq_adapter_write_config(a, config, err);
    if (status == TOQUE_OK && a->n_heads) status = tq_heads_write(a, dir, err);
    if (status == TOQUE_OK && a->embeds) status = tq_embedding_write(a, dir, err);
    tq_free(mem, config);
    tq_free(mem, tensors);
    return status;
}
