/* adapter_config.json: PEFT's settings of an adapter, read and written. Every setting that changes what an adapter
 * computes is either used or refused. */
#include "model/peft.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- reading ---------------------------------------------------------------------------------------------- */
static bool is_empty(const json_t *v) {
    return !v || json_is_null(v) || json_is_false(v) || (json_is_object(v) && json_object_size(v) == 0) ||
           (json_is_array(v) && json_array_size(v) == 0);
}

static toque_status refuse_others(const json_t *o, const char *path, toque_error *err) {
    static const char *const off[] = {"fan_in_fan_out",          "use_qalora",        "lora_bias",
                                      "layers_to_transform",     "layer_replication", "exclude_modules",
                                      "trainable_token_indices", "target_parameters", "alora_invocation_tokens"};
    for (size_t i = 0; i < sizeof off / sizeof off[0]; i++)
        if (!is_empty(json_object_get(o, off[i])))
            return TQ_FAIL(err, EUNSUPPORTED, "%s: '%s' is set, which is not supported", path, off[i]);
    const char *bias = json_string_value(json_object_get(o, "bias"));
    if (bias && strcmp(bias, "none") != 0)
        return TQ_FAIL(err, EUNSUPPORTED, "%s: bias '%s' is not supported", path, bias);
    /* These starts change the base; what was saved without conversion does not fit the plain one. */
    static const char *const starts[] = {"pissa", "olora", "corda", "loftq", "lora_ga"};
    const char *init = json_string_value(json_object_get(o, "init_lora_weights"));
    for (size_t i = 0; init && i < sizeof starts / sizeof starts[0]; i++)
        if (strncmp(init, starts[i], strlen(starts[i])) == 0)
            return TQ_FAIL(err, EUNSUPPORTED,
                           "%s: init_lora_weights '%s' changes the base model, so this adapter does not fit the plain "
                           "one: save it with path_initial_model_for_weight_conversion",
                           path, init);
    return TOQUE_OK;
}

static toque_status read_targets(tq_adapter *a, const json_t *v, const char *path, toque_error *err) {
    toque_status status = TOQUE_OK;
    if (json_is_string(v)) {
        status = tq_adapter_target(a, json_string_value(v), err);
        return status == TOQUE_OK ? status : tq_error_prefix(err, status, "%s", path);
    }
    if (!json_is_array(v)) return TQ_FAIL(err, EFORMAT, "%s: target_modules must be a list of names", path);
    for (size_t i = 0; i < json_array_size(v); i++) {
        const char *name = json_string_value(json_array_get(v, i));
        if (!name) return TQ_FAIL(err, EFORMAT, "%s: target_modules must be a list of names", path);
        status = tq_adapter_target(a, name, err);
        if (status != TOQUE_OK) return tq_error_prefix(err, status, "%s", path);
    }
    return TOQUE_OK;
}

/* {"q_proj": 8} as "q_proj=8". */
static toque_status read_pattern(tq_adapter *a, const json_t *v, char **text, const char *path, toque_error *err) {
    if (is_empty(v)) return TOQUE_OK;
    if (!json_is_object(v)) return TQ_FAIL(err, EFORMAT, "%s: rank_pattern and alpha_pattern must be objects", path);
    tq_buf out;
    tq_buf_init(&out, &a->model->ctx->mem, 1 << 16);
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)v, name, value) {
        if (!json_is_number(value) || strpbrk(name, ",=")) {
            tq_buf_clear(&out);
            return TQ_FAIL(err, EUNSUPPORTED, "%s: the pattern '%s' must be a name without , and =, with a number",
                           path, name);
        }
        tq_buf_printf(&out, "%s%s=%g", out.len ? "," : "", name, json_number_value(value));
    }
    toque_status status = tq_buf_status(&out, "a pattern", err);
    if (status == TOQUE_OK && !(*text = tq_buf_take(&out))) status = TQ_NOMEM(err);
    tq_buf_clear(&out);
    return status;
}

/* PEFT names both wherever it classifies; a second head of ours is called after its kind. */
static bool is_head(const char *name) {
    return strncmp(name, "score", 5) == 0 || strncmp(name, "classifier", 10) == 0;
}

/* Modules that are saved whole become patterns of own tensors: "embed_tokens" as "*embed_tokens.*"; "norm" must not
 * match input_layernorm, so the name begins at a dot or is the whole. */
static toque_status read_modules(tq_adapter *a, const json_t *v, const char *path, toque_error *err) {
    if (is_empty(v)) return TOQUE_OK;
    if (!json_is_array(v)) return TQ_FAIL(err, EFORMAT, "%s: a list of module names was expected", path);
    tq_buf out;
    tq_buf_init(&out, &a->model->ctx->mem, 1 << 16);
    for (size_t i = 0; i < json_array_size(v); i++) {
        const char *name = json_string_value(json_array_get(v, i));
        if (name && !is_head(name)) tq_buf_printf(&out, "%s%s.weight,*.%s.weight", out.len ? "," : "", name, name);
    }
    toque_status status = tq_buf_status(&out, "the list of modules", err);
    tq_free(&a->model->ctx->mem, a->own);
    a->own = NULL;
    if (status == TOQUE_OK && out.len && !(a->own = tq_buf_take(&out))) status = TQ_NOMEM(err);
    tq_buf_clear(&out);
    return status;
}

static toque_status read_low_rank(tq_adapter *a, const json_t *o, const char *path, toque_error *err) {
    const json_t *r = json_object_get(o, "r"), *alpha = json_object_get(o, "lora_alpha");
    if (!json_is_integer(r) || json_integer_value(r) < 1 || json_integer_value(r) > 1 << 16 || !json_is_number(alpha))
        return TQ_FAIL(err, EFORMAT, "%s: r and lora_alpha must be numbers, r from 1 to 65536", path);
    a->rank = (int)json_integer_value(r);
    a->alpha = (float)json_number_value(alpha);
    a->dropout = (float)json_number_value(json_object_get(o, "lora_dropout"));
    a->rslora = json_is_true(json_object_get(o, "use_rslora"));
    TQ_TRY(read_pattern(a, json_object_get(o, "rank_pattern"), &a->rank_pattern, path, err));
    return read_pattern(a, json_object_get(o, "alpha_pattern"), &a->alpha_pattern, path, err);
}

static toque_status read_vera(tq_adapter *a, const json_t *o, const char *path, toque_error *err) {
    const json_t *r = json_object_get(o, "r"), *key = json_object_get(o, "projection_prng_key");
    if (!json_is_integer(r) || json_integer_value(r) < 1 || json_integer_value(r) > 1 << 16)
        return TQ_FAIL(err, EFORMAT, "%s: r must be a number from 1 to 65536", path);
    if (key && (!json_is_integer(key) || json_integer_value(key) < 0 || json_integer_value(key) > UINT32_MAX))
        return TQ_FAIL(err, EFORMAT, "%s: projection_prng_key must be a number from 0 to %u", path, UINT32_MAX);
    a->rank = (int)json_integer_value(r);
    a->dropout = (float)json_number_value(json_object_get(o, "vera_dropout"));
    a->projection_key = (uint32_t)json_integer_value(key);
    return TOQUE_OK;
}

/* IA3 multiplies inputs of feed-forward modules: here those are the down projections among the targets. */
static toque_status check_feedforward(const tq_adapter *a, const json_t *v, const char *path, toque_error *err) {
    bool down = false, others = false;
    for (int l = 0; l < a->model->config.L; l++) down |= a->targets[l] >> TQ_ROLE_DOWN & 1;
    bool named = false;
    for (size_t i = 0; i < json_array_size(v); i++) {
        const char *name = json_string_value(json_array_get(v, i));
        bool is_down = name && tq_is_down(a, name);
        named |= is_down;
        others |= !is_down;
    }
    if (down == named && !others) return TOQUE_OK;
    return TQ_FAIL(err, EUNSUPPORTED,
                   "%s: feedforward_modules must be [\"down_proj\"] where it is a target, and empty otherwise", path);
}

static toque_status read_table(tq_adapter *a, const json_t *o, const char *path, toque_error *err) {
    json_int_t n = json_integer_value(json_object_get(o, "num_virtual_tokens"));
    if (n < 1 || n >= a->model->config.context / 2)
        return TQ_FAIL(err, EFORMAT, "%s: num_virtual_tokens must be from 1 to half of the model's context", path);
    if (json_is_true(json_object_get(o, "prefix_projection")))
        return TQ_FAIL(err, EUNSUPPORTED, "%s: prefix_projection is not supported", path);
    a->table.n = (int)n;
    return TOQUE_OK;
}

static toque_status read_object(tq_adapter *a, const json_t *o, const char *path, toque_error *err) {
    const char *type = json_string_value(json_object_get(o, "peft_type"));
    a->kind = type ? tq_peft_find_type(type) : NULL;
    if (!a->kind)
        return TQ_FAIL(err, EUNSUPPORTED, "%s: peft_type '%s' is not supported", path, type ? type : "(none)");
    const char *task = json_string_value(json_object_get(o, "task_type"));
    snprintf(a->task, sizeof a->task, "%s", task ? task : "");
    TQ_TRY(refuse_others(o, path, err));
    if (a->kind->table_cols) return read_table(a, o, path, err);
    if (a->kind == &tq_peft_norms) return read_modules(a, json_object_get(o, "target_modules"), path, err);
    if (a->kind == &tq_peft_lora) {
        TQ_TRY(read_low_rank(a, o, path, err));
        if (json_is_true(json_object_get(o, "use_dora"))) a->kind = &tq_peft_dora;
    }
    if (a->kind == &tq_peft_vera) TQ_TRY(read_vera(a, o, path, err));
    TQ_TRY(read_modules(a, json_object_get(o, "modules_to_save"), path, err));
    TQ_TRY(read_targets(a, json_object_get(o, "target_modules"), path, err));
    if (a->kind == &tq_peft_ia3) return check_feedforward(a, json_object_get(o, "feedforward_modules"), path, err);
    return TOQUE_OK;
}

toque_status tq_adapter_read_config(tq_adapter *a, const char *path, toque_error *err) {
    tq_mem *mem = &a->model->ctx->mem;
    char *text;
    size_t n;
    TQ_TRY(tq_read_file(&text, &n, mem, path, 1 << 22, err));
    json_error_t je;
    json_t *o = json_loadb(text, n, 0, &je);
    tq_free(mem, text);
    toque_status status =
        json_is_object(o) ? read_object(a, o, path, err)
                          : TQ_FAIL(err, EFORMAT, "%s: line %d: %s", path, je.line, o ? "expected an object" : je.text);
    json_decref(o);
    return status;
}

/* --- writing ---------------------------------------------------------------------------------------------- */
/* Whether the end of this role's path is that of no other's: BERT's output.dense also ends attention.output.dense. */
static bool has_short_name(const tq_adapter *a, int role) {
    return !(a->model->config.arch->flags & TQ_ARCH_ENCODER) || role != TQ_ROLE_DOWN;
}

/* "q_proj", "query", "attention.output.dense". */
static void short_name(const tq_adapter *a, int role, char out[100]) {
    char path[100];
    tq_module_path(path, a, 0, role);
    const char *last = strrchr(path, '.');
    snprintf(out, 100, "%s", strcmp(last, ".dense") == 0 ? strstr(path, ".0.") + 3 : last + 1);
}

/* The whole path but for "bert.", which only models with a head have. */
static void single_name(const tq_adapter *a, int layer, int role, char out[100]) {
    char path[100];
    tq_module_path(path, a, layer, role);
    snprintf(out, 100, "%s", path + (strncmp(path, "bert.", 5) == 0 ? 5 : 0));
}

/* Roles that every layer has as a target by their short names, single modules by their paths. */
static json_t *target_names(const tq_adapter *a) {
    json_t *list = json_array();
    int L = a->model->config.L;
    for (int role = 0; list && role < TQ_ROLE_COUNT; role++) {
        int n = 0;
        for (int l = 0; l < L; l++) n += a->targets[l] >> role & 1;
        char path[100];
        bool shortly = n == L && has_short_name(a, role);
        if (shortly) {
            short_name(a, role, path);
            json_array_append_new(list, json_string(path));
        }
        for (int l = 0; !shortly && l < L; l++) {
            if (!(a->targets[l] >> role & 1)) continue;
            single_name(a, l, role, path);
            json_array_append_new(list, json_string(path));
        }
    }
    return list;
}

static json_t *pattern_object(const char *text) {
    json_t *object = json_object();
    for (const char *p = text; object && p && *p;) {
        size_t n = strcspn(p, ","), name = strcspn(p, "=");
        char key[300];
        if (name < n && name < sizeof key) {
            memcpy(key, p, name);
            key[name] = 0;
            double value = strtod(p + name + 1, NULL);
            json_object_set_new(
                object, key, value == (double)(json_int_t)value ? json_integer((json_int_t)value) : json_real(value));
        }
        p += n + (p[n] != 0);
    }
    return object;
}

/* The modules of own tensors, "model.embed_tokens", and of heads, each once. */
static json_t *own_modules(const tq_adapter *a) {
    if (a->n_ranges == a->n_site_ranges) return json_null();
    json_t *list = json_array();
    for (size_t i = a->n_site_ranges; list && i < a->n_body_ranges; i++) {
        char name[100];
        tq_module_path(name, a, a->ranges[i].layer, a->ranges[i].role);
        json_array_append_new(list, json_string(name));
    }
    for (int i = 0; list && i < a->n_heads; i++) json_array_append_new(list, json_string(a->heads[i].module));
    return list;
}

static const char *task_type(const tq_adapter *a) {
    if (a->n_heads) return a->heads[0].kind == TQ_HEAD_TAGS ? "TOKEN_CLS" : "SEQ_CLS";
    return a->model->config.arch->flags & TQ_ARCH_ENCODER ? "FEATURE_EXTRACTION" : "CAUSAL_LM";
}

static int put(json_t *o, const char *key, json_t *value) {
    return value ? json_object_set_new(o, key, value) : -1;
}

/* What PiSSA trained is written as a LoRA of twice the rank at the same scaling. */
static int put_low_rank(json_t *o, const tq_adapter *a) {
    double alpha = (double)a->alpha * (!a->start ? 1 : a->rslora ? sqrt(2) : 2);
    return put(o, "r", json_integer(a->start ? 2 * a->rank : a->rank)) | put(o, "lora_alpha", json_real(alpha)) |
           put(o, "lora_dropout", json_real((double)a->dropout)) | put(o, "bias", json_string("none")) |
           put(o, "init_lora_weights", json_true()) | put(o, "layers_to_transform", json_null()) |
           put(o, "rank_pattern", pattern_object(a->rank_pattern)) |
           put(o, "alpha_pattern", pattern_object(a->alpha_pattern)) | put(o, "use_rslora", json_boolean(a->rslora)) |
           put(o, "use_dora", json_boolean(a->kind == &tq_peft_dora));
}

static int put_vera(json_t *o, const tq_adapter *a) {
    return put(o, "r", json_integer(a->rank)) | put(o, "projection_prng_key", json_integer(a->projection_key)) |
           put(o, "save_projection", json_true()) | put(o, "vera_dropout", json_real((double)a->dropout)) |
           put(o, "d_initial", json_real(0.1)) | put(o, "bias", json_string("none")) |
           put(o, "init_weights", json_true()) | put(o, "layers_to_transform", json_null());
}

static int put_ia3(json_t *o, const tq_adapter *a) {
    json_t *ff = json_array();
    const bool shortly = has_short_name(a, TQ_ROLE_DOWN);
    for (int l = 0; l < a->model->config.L; l++) {
        char path[100];
        if (!(a->targets[l] >> TQ_ROLE_DOWN & 1) || (shortly && json_array_size(ff))) continue;
        single_name(a, l, TQ_ROLE_DOWN, path);
        if (shortly) short_name(a, TQ_ROLE_DOWN, path);
        json_array_append_new(ff, json_string(path));
    }
    return put(o, "feedforward_modules", ff) | put(o, "init_ia3_weights", json_true());
}

static int put_prompt(json_t *o, const tq_adapter *a) {
    const tq_config *c = &a->model->config;
    return put(o, "num_virtual_tokens", json_integer(a->table.n)) | put(o, "num_layers", json_integer(c->L)) |
           put(o, "num_attention_heads", json_integer(c->H)) | put(o, "token_dim", json_integer(c->C)) |
           put(o, "num_transformer_submodules", json_integer(1)) |
           put(o, "prompt_tuning_init", json_string("RANDOM")); /* its start is behind it */
}

static int put_prefix(json_t *o, const tq_adapter *a) {
    const tq_config *c = &a->model->config;
    return put(o, "num_virtual_tokens", json_integer(a->table.n)) | put(o, "num_layers", json_integer(c->L)) |
           put(o, "num_attention_heads", json_integer(c->G)) | put(o, "token_dim", json_integer(c->G * c->D)) |
           put(o, "num_transformer_submodules", json_integer(1)) |
           put(o, "encoder_hidden_size", json_integer(c->G * c->D)) | put(o, "prefix_projection", json_false());
}

static json_t *describe(const tq_adapter *a) {
    json_t *o = json_pack("{s:n, s:s, s:s, s:n, s:b}", "auto_mapping", "peft_type", a->kind->peft_type, "task_type",
                          task_type(a), "base_model_name_or_path", "inference_mode", 1);
    if (!o) return NULL;
    int bad = 0;
    if (a->kind->table_cols) {
        bad = a->kind->is_prompt ? put_prompt(o, a) : put_prefix(o, a);
    } else if (a->kind == &tq_peft_norms) {
        bad = put(o, "target_modules", own_modules(a)) | put(o, "modules_to_save", json_null());
    } else {
        bad = put(o, "fan_in_fan_out", json_false()) | put(o, "target_modules", target_names(a)) |
              put(o, "modules_to_save", own_modules(a));
        if (a->kind == &tq_peft_lora || a->kind == &tq_peft_dora) bad |= put_low_rank(o, a);
        if (a->kind == &tq_peft_vera) bad |= put_vera(o, a);
        if (a->kind == &tq_peft_ia3) bad |= put_ia3(o, a);
    }
    if (!bad) return o;
    json_decref(o);
    return NULL;
}

toque_status tq_adapter_write_config(const tq_adapter *a, const char *path, toque_error *err) {
    json_t *o = describe(a);
    char *text = o ? json_dumps(o, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(o);
    if (!text) return TQ_NOMEM(err);
    toque_status status = tq_write_file(&a->model->ctx->mem, path, text, strlen(text), err);
    free(text); /* jansson's own memory */
    return status;
}
