/* config.json as GGUF metadata: a table of keys, and the few settings that need more than a new name. Every key is
 * either translated, known to change nothing that is computed here, or refused by name. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "files/hf_impl.h"

enum { MAX_LAYERS = 4096 };

static toque_status fail_key(const hf_folder *h, const char *key, const char *expected, toque_error *err) {
    return TQ_FAIL(err, EFORMAT, "%s/config.json: %s is missing or not %s", h->dir, key, expected);
}

static const char *full_key(const hf_folder *h, const char *key, char full[160]) {
    snprintf(full, 160, "%s.%s", h->arch, key);
    return full;
}

/* --- plain settings ---------------------------------------------------------------------------------------- */
enum kind { COUNT, NUMBER };
static const struct setting {
    const char *hf, *gguf;
    enum kind kind;
    bool required;
} settings[] = {
    {"hidden_size", "embedding_length", COUNT, true},
    {"num_hidden_layers", "block_count", COUNT, true},
    {"intermediate_size", "feed_forward_length", COUNT, true},
    {"num_attention_heads", "attention.head_count", COUNT, true},
    {"num_key_value_heads", "attention.head_count_kv", COUNT, false},
    {"head_dim", "attention.key_length", COUNT, false},
    {"head_dim", "attention.value_length", COUNT, false},
    {"max_position_embeddings", "context_length", COUNT, true},
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon", NUMBER, false},
    {"layer_norm_eps", "attention.layer_norm_epsilon", NUMBER, false},
    {"type_vocab_size", "token_type_count", COUNT, false},
};

static toque_status put_settings(hf_folder *h, toque_error *err) {
    char full[160];
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        const struct setting *s = &settings[i];
        const json_t *v = json_object_get(h->config, s->hf);
        if ((!v || json_is_null(v)) && !s->required) continue;
        uint32_t n;
        if (s->kind == NUMBER ? !json_is_number(v) : !tq_hf_whole(v, INT32_MAX, &n))
            return fail_key(h, s->hf, s->kind == NUMBER ? "a number" : "a whole number", err);
        if (s->kind == NUMBER)
            TQ_TRY(tq_gguf_put_f32(h->w, full_key(h, s->gguf, full), (float)json_number_value(v), err));
        else
            TQ_TRY(tq_gguf_put_u32(h->w, full_key(h, s->gguf, full), n, err));
    }
    return TOQUE_OK;
}

/* --- rotary positions -------------------------------------------------------------------------------------- */
static double number_of(const json_t *o, const char *key, double fallback) {
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : fallback;
}

/* Llama 3.1's scaling: low frequencies are divided by the factor, high ones kept, those between blended. */
static toque_status put_llama3(hf_folder *h, const json_t *scaling, double base, toque_error *err) {
    uint32_t heads = 1, width = 0, dim = 0;
    (void)tq_hf_whole(json_object_get(h->config, "num_attention_heads"), INT32_MAX, &heads);
    (void)tq_hf_whole(json_object_get(h->config, "hidden_size"), INT32_MAX, &width);
    if (!tq_hf_whole(json_object_get(h->config, "head_dim"), 4096, &dim)) dim = heads ? width / heads : 0;
    double factor = number_of(scaling, "factor", 0), low = number_of(scaling, "low_freq_factor", 0),
           high = number_of(scaling, "high_freq_factor", 0),
           context = number_of(scaling, "original_max_position_embeddings", 0);
    if (!(factor > 0) || !(low > 0) || !(high > low) || !(context > 0) || dim < 2 || dim > 4096)
        return TQ_FAIL(err, EFORMAT,
                       "%s/config.json: rope scaling 'llama3' needs factor, low_freq_factor < high_freq_factor and "
                       "original_max_position_embeddings, all positive",
                       h->dir);
    float divisors[2048];
    for (uint32_t i = 0; i < dim / 2; i++) {
        double freq = pow(base, -2.0 * i / dim), wave = 2 * 3.14159265358979323846 / freq;
        double part = (context / wave - low) / (high - low); /* 0: a low frequency, 1: a high one */
        part = part < 0 ? 0 : part > 1 ? 1 : part;
        divisors[i] = (float)(1 / ((1 - part) / factor + part));
    }
    return tq_gguf_put_numbers(h->w, "toque.rope_freqs", TQ_GGUF_F32, divisors, dim / 2, err);
}

static toque_status put_scaling(hf_folder *h, const json_t *scaling, double base, toque_error *err) {
    const char *type = json_string_value(json_object_get(scaling, "rope_type"));
    char full[160];
    if (!type) type = json_string_value(json_object_get(scaling, "type"));
    if (!type || strcmp(type, "default") == 0) return TOQUE_OK;
    if (strcmp(type, "llama3") == 0) return put_llama3(h, scaling, base, err);
    if (strcmp(type, "linear") != 0)
        return TQ_FAIL(err, EUNSUPPORTED,
                       "%s/config.json: rope scaling '%.60s' is not supported (default, linear and llama3 are)", h->dir,
                       type);
    TQ_TRY(tq_gguf_put_str(h->w, full_key(h, "rope.scaling.type", full), "linear", 6, err));
    return tq_gguf_put_f32(h->w, full_key(h, "rope.scaling.factor", full), (float)number_of(scaling, "factor", 0), err);
}

/* Newer files have rope_parameters (for each type of layer, where these differ), older ones rope_theta, rope_scaling
 * and rope_local_base_freq. */
static toque_status put_rope(hf_folder *h, toque_error *err) {
    char full[160];
    const json_t *all = json_object_get(h->config, "rope_parameters"), *sliding = NULL;
    if (json_object_get(all, "full_attention")) {
        sliding = json_object_get(all, "sliding_attention");
        all = json_object_get(all, "full_attention");
    }
    double base = number_of(all, "rope_theta", number_of(h->config, "rope_theta", 0));
    double local = number_of(sliding, "rope_theta", number_of(h->config, "rope_local_base_freq", 0));
    const char *type = json_string_value(json_object_get(sliding, "rope_type"));
    if (type && strcmp(type, "default") != 0)
        return TQ_FAIL(err, EUNSUPPORTED, "%s/config.json: rope scaling '%.60s' of sliding layers is not supported",
                       h->dir, type);
    if (base > 0) TQ_TRY(tq_gguf_put_f32(h->w, full_key(h, "rope.freq_base", full), (float)base, err));
    if (local > 0) TQ_TRY(tq_gguf_put_f32(h->w, full_key(h, "rope.freq_base_swa", full), (float)local, err));
    if (number_of(all, "partial_rotary_factor", 1) < 1 || number_of(h->config, "partial_rotary_factor", 1) < 1)
        return TQ_FAIL(err, EUNSUPPORTED, "%s/config.json: partial_rotary_factor is not supported", h->dir);
    if (!json_is_object(all)) all = json_object_get(h->config, "rope_scaling");
    return put_scaling(h, all, base > 0 ? base : 10000, err);
}

/* --- windows ----------------------------------------------------------------------------------------------- */
static toque_status slides(const hf_folder *h, uint32_t l, uint8_t *out, toque_error *err) {
    const json_t *types = json_object_get(h->config, "layer_types"), *v;
    uint32_t n;
    if (json_is_array(types)) {
        const char *type = json_string_value(json_array_get(types, l));
        *out = type && strcmp(type, "sliding_attention") == 0;
        if (type && (*out || strcmp(type, "full_attention") == 0)) return TOQUE_OK;
        return TQ_FAIL(err, EUNSUPPORTED,
                       "%s/config.json: layer_types[%u] is '%.60s', expected full_attention or sliding_attention",
                       h->dir, l, type ? type : "missing");
    }
    *out = 1;
    v = json_object_get(h->config, "sliding_window_pattern");
    if (tq_hf_whole(v, INT32_MAX, &n) && n) *out = (l + 1) % n != 0;
    v = json_object_get(h->config, "max_window_layers");
    if (tq_hf_whole(v, INT32_MAX, &n)) *out = l >= n;
    return TOQUE_OK;
}

/* Which layers see only a window: none, the last ones (qwen2), all but each nth (gemma3), or as layer_types lists. */
static toque_status put_windows(hf_folder *h, toque_error *err) {
    const json_t *v = json_object_get(h->config, "sliding_window"), *types = json_object_get(h->config, "layer_types");
    bool windows = !tq_hf_empty(v) && !json_is_false(json_object_get(h->config, "use_sliding_window"));
    uint32_t window = 0, layers;
    char full[160];
    if (windows && !tq_hf_whole(v, INT32_MAX / 4, &window)) return fail_key(h, "sliding_window", "a whole number", err);
    if (!tq_hf_whole(json_object_get(h->config, "num_hidden_layers"), MAX_LAYERS, &layers))
        return fail_key(h, "num_hidden_layers", "a whole number", err);
    if (json_is_array(types) ? json_array_size(types) != layers : !windows)
        return windows || types ? TQ_FAIL(err, EFORMAT, "%s/config.json: layer_types does not name each of %u layers",
                                          h->dir, layers)
                                : TOQUE_OK;
    uint8_t pattern[MAX_LAYERS];
    bool any = false, all = true;
    for (uint32_t l = 0; l < layers; l++) {
        TQ_TRY(slides(h, l, &pattern[l], err));
        any = any || pattern[l];
        all = all && pattern[l];
    }
    if (!any) return TOQUE_OK;
    if (!windows) return fail_key(h, "sliding_window", "in use, which layer_types asks for", err);
    TQ_TRY(tq_gguf_put_u32(h->w, full_key(h, "attention.sliding_window", full), window, err));
    if (all) return TOQUE_OK;
    return tq_gguf_put_numbers(h->w, full_key(h, "attention.sliding_window_pattern", full), TQ_GGUF_BOOL, pattern,
                               layers, err);
}

/* --- what must have one value, what does not matter, and the rest ------------------------------------------- */
/* Used above or elsewhere in the folder reader. */
static const char *const used[] = {
    "architectures",
    "model_type",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "layer_types",
    "sliding_window",
    "use_sliding_window",
    "max_window_layers",
    "sliding_window_pattern",
    "hidden_act",
    "hidden_activation",
    "tie_word_embeddings",
    "bos_token_id",
    "eos_token_id",
    "vocab_size",
    "rope_local_base_freq",
    "query_pre_attn_scalar",
    "partial_rotary_factor",
    "position_embedding_type",
};
/* Training, generation and bookkeeping. */
static const char *const ignored[] = {
    "attention_dropout",
    "attention_probs_dropout_prob",
    "classifier_dropout",
    "gradient_checkpointing",
    "hidden_dropout_prob",
    "initializer_range",
    "pad_token_id",
    "pretraining_tp",
    "torch_dtype",
    "dtype",
    "transformers_version",
    "use_cache",
    "cache_implementation",
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "return_dict",
    "output_past",
    "max_length",
    "is_llama_config",
    "unk_token_id",
    "decoder_start_token_id",
    "tokenizer_class",
    "embedding_dropout",
    "sep_token_id",
    "cls_token_id",
    "mask_token_id",
    "torchscript",
    "finetuning_task",
    "auto_map",
    "license",
    "model_max_length",
    "hidden_dropout",
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
    "attn_implementation",
    "task_specific_params",
    "prefix",
    "chunk_size_feed_forward",
    "is_encoder_decoder",
};

static bool listed(const char *const *list, size_t n, const char *key) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i], key) == 0) return true;
    return false;
}
#define LISTED(list, key) listed(list, sizeof(list) / sizeof *(list), key)

static toque_status refuse_others(const hf_folder *h, toque_error *err) {
    const char *key;
    json_t *v;
    if (json_is_object(json_object_get(h->config, "text_config")))
        return TQ_FAIL(err, EUNSUPPORTED,
                       "%s/config.json: text_config: a model of several kinds of input is not supported", h->dir);
    json_object_foreach(h->config, key, v) {
        bool setting = false;
        for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
            setting = setting || strcmp(settings[i].hf, key) == 0;
        bool plain = key[0] == '_' || strncmp(key, "transformers", 12) == 0 || strncmp(key, "unsloth", 7) == 0;
        if (setting || plain || LISTED(used, key) || LISTED(ignored, key) || tq_hf_empty(v)) continue;
        return TQ_FAIL(err, EUNSUPPORTED,
                       "%s/config.json: '%.100s' is set and not known here; it may change what the model computes "
                       "(delete the key if it does not)",
                       h->dir, key);
    }
    const char *position = json_string_value(json_object_get(h->config, "position_embedding_type"));
    if (position && strcmp(position, "absolute") != 0)
        return TQ_FAIL(err, EUNSUPPORTED, "%s/config.json: position_embedding_type '%.60s' is not supported", h->dir,
                       position);
    return TOQUE_OK;
}

static toque_status put_rest(hf_folder *h, toque_error *err) {
    char full[160];
    const json_t *tied = json_object_get(h->config, "tie_word_embeddings");
    if (json_is_boolean(tied)) TQ_TRY(tq_gguf_put_bool(h->w, "toque.tied", json_is_true(tied), err));
    const json_t *act = json_object_get(h->config, "hidden_activation");
    if (!json_is_string(act)) act = json_object_get(h->config, "hidden_act");
    if (json_is_string(act))
        TQ_TRY(tq_gguf_put_str(h->w, full_key(h, "feed_forward.activation", full), json_string_value(act),
                               json_string_length(act), err));
    double scalar = number_of(h->config, "query_pre_attn_scalar", 0);
    if (scalar > 0) TQ_TRY(tq_gguf_put_f32(h->w, full_key(h, "attention.scale", full), (float)(1 / sqrt(scalar)), err));
    return TOQUE_OK;
}

toque_status tq_hf_config(hf_folder *h, toque_error *err) {
    const char *type = json_string_value(json_object_get(h->config, "model_type"));
    if (!type || strlen(type) >= sizeof h->arch) return fail_key(h, "model_type", "a name", err);
    snprintf(h->arch, sizeof h->arch, "%s", type);
    TQ_TRY(tq_gguf_put_str(h->w, "general.architecture", type, strlen(type), err));
    TQ_TRY(refuse_others(h, err));
    TQ_TRY(put_settings(h, err));
    TQ_TRY(put_rope(h, err));
    TQ_TRY(put_windows(h, err));
    return put_rest(h, err);
}
