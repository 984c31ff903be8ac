/* Writing an adapter as PEFT writes it: adapter_model.safetensors and adapter_config.json. What only toque knows (the
 * base's hash) stands in the safetensors metadata, where PEFT ignores it. */
#include "files/safetensors.h"
#include "model/peft.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static json_t *target_names(const tq_adapter *a) {
    json_t *list = json_array();
    for (int role = 0; list && role < TQ_ROLE_COUNT; role++)
        if (a->targets >> role & 1)
            json_array_append_new(list, json_string(strchr(tq_role_hf((tq_role)role), '.') + 1));
    return list;
}

static toque_status save_config(const tq_adapter *a, const char *path, toque_error *err) {
    tq_mem *mem = &a->model->ctx->mem;
    json_t *o = json_pack(
        "{s:n, s:s, s:s, s:n, s:b, s:b, s:i, s:f, s:f, s:s, s:b, s:o, s:n, s:n, s:{}, s:{}, s:b, s:b}", "auto_mapping",
        "peft_type", a->kind->peft_type, "task_type", "CAUSAL_LM", "base_model_name_or_path", "inference_mode", 1,
        "fan_in_fan_out", 0, "r", a->rank, "lora_alpha", (double)a->alpha, "lora_dropout", (double)a->dropout, "bias",
        "none", "init_lora_weights", 1, "target_modules", target_names(a), "layers_to_transform", "modules_to_save",
        "rank_pattern", "alpha_pattern", "use_rslora", a->rslora, "use_dora", 0);
    char *text = o ? json_dumps(o, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(o);
    if (!text) return TQ_NOMEM(err);
    toque_status status = tq_write_file(mem, path, text, strlen(text), err);
    free(text); /* jansson's own memory */
    return status;
}

static toque_status save_tensors(const tq_adapter *a, const char *path, const float *values, toque_error *err) {
    tq_mem *mem = &a->model->ctx->mem;
    tq_save_tensor *t = TQ_NEW_ARRAY(mem, tq_save_tensor, a->n_ranges);
    if (!t) return TQ_NOMEM(err);
    for (size_t i = 0; i < a->n_ranges; i++) {
        const tq_range *r = &a->ranges[i];
        t[i] = (tq_save_tensor){
            .name = r->name, .type = TQ_F32, .n_dims = 2, .dims = {r->rows, r->cols}, .data = values + r->start};
    }
    const char *metadata[] = {"format", "pt", "toque.base_hash", a->base_hash};
    toque_status status = tq_safetensors_save(mem, path, t, a->n_ranges, metadata, 2, err);
    tq_free(mem, t);
    return status;
}

toque_status tq_adapter_save(const tq_adapter *a, const char *dir, const float *values, toque_error *err) {
    tq_mem *mem = &a->model->ctx->mem;
    char *config = tq_path_join(mem, dir, "adapter_config.json");
    char *tensors = tq_path_join(mem, dir, "adapter_model.safetensors");
    toque_status status = config && tensors ? TOQUE_OK : TQ_NOMEM(err);
    if (status == TOQUE_OK) status = save_tensors(a, tensors, values ? values : a->values, err);
    if (status == TOQUE_OK) status = save_config(a, config, err);
    tq_free(mem, config);
    tq_free(mem, tensors);
    return status;
}
