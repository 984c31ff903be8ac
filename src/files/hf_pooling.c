/* sentence-transformers' files (modules.json, 1_Pooling/config.json, sentence_bert_config.json) as metadata: how the
 * rows of a text become one vector. The pooling key and its numbers are GGUF's: 1 mean, 2 CLS, 3 last. */
#include <stdio.h>
#include <string.h>

#include "files/hf_impl.h"

enum { MAX_FILE = 1 << 20 };

static toque_status put_mode(hf_folder *h, const char *name, const json_t *o, toque_error *err) {
    static const struct {
        const char *key, *mode;
        uint32_t number;
    } modes[] = {{"pooling_mode_mean_tokens", "mean", 1},
                 {"pooling_mode_cls_token", "cls", 2},
                 {"pooling_mode_lasttoken", "lasttoken", 3}};
    enum { N = sizeof modes / sizeof modes[0] };
    char full[160];
    const char *key, *named = json_string_value(json_object_get(o, "pooling_mode"));
    json_t *v;
    uint32_t mode = 0;
    for (size_t i = 0; i < N; i++)
        if (json_is_true(json_object_get(o, modes[i].key)) || (named && strcmp(named, modes[i].mode) == 0))
            mode = mode ? 99 : modes[i].number;
    json_object_foreach((json_t *)(uintptr_t)o, key, v) {
        bool known = false;
        for (size_t i = 0; i < N; i++) known = known || strcmp(key, modes[i].key) == 0;
        if (!known && strncmp(key, "pooling_mode_", 13) == 0 && json_is_true(v)) mode = 99;
    }
    if (mode < 1 || mode > N)
        return TQ_FAIL(err, EUNSUPPORTED, "%s/%s: expected one way of pooling, mean, cls or last tokens", h->dir, name);
    snprintf(full, sizeof full, "%s.pooling_type", h->arch);
    return tq_gguf_put_u32(h->w, full, mode, err);
}

static toque_status put_module(hf_folder *h, const json_t *module, toque_error *err) {
    const char *type = json_string_value(json_object_get(module, "type"));
    const char *path = json_string_value(json_object_get(module, "path"));
    const char *dot = type ? strrchr(type, '.') : NULL;
    const char *name = dot ? dot + 1 : type ? type : "(none)";
    if (strcmp(name, "Transformer") == 0) return TOQUE_OK;
    if (strcmp(name, "Normalize") == 0) return tq_gguf_put_bool(h->w, "toque.embed.normalize", true, err);
    if (strcmp(name, "Pooling") != 0 || !path || strstr(path, "..") || path[0] == '/')
        return TQ_FAIL(err, EUNSUPPORTED, "%s/modules.json: a module '%.100s' is not supported", h->dir, name);
    char file[300];
    snprintf(file, sizeof file, "%.250s/config.json", path);
    json_t *o;
    TQ_TRY(tq_hf_read(h, file, MAX_FILE, false, &o, err));
    toque_status status = o ? put_mode(h, file, o, err)
                            : TQ_FAIL(err, EFORMAT, "%s/%s is named in modules.json, but missing", h->dir, file);
    json_decref(o);
    return status;
}

toque_status tq_hf_pooling(hf_folder *h, toque_error *err) {
    json_t *modules, *limits;
    size_t i;
    const json_t *module;
    TQ_TRY(tq_hf_read(h, "modules.json", MAX_FILE, true, &modules, err));
    toque_status status = TOQUE_OK;
    if (modules) json_array_foreach(modules, i, module) if (status == TOQUE_OK) status = put_module(h, module, err);
    json_decref(modules);
    if (status != TOQUE_OK) return status;
    TQ_TRY(tq_hf_read(h, "sentence_bert_config.json", MAX_FILE, false, &limits, err));
    const json_t *most = json_object_get(limits, "max_seq_length");
    uint32_t n;
    if (tq_hf_whole(most, INT32_MAX, &n))
        status = tq_gguf_put_u32(h->w, "toque.embed.max_tokens", n, err);
    else if (!tq_hf_empty(most))
        status = TQ_FAIL(err, EFORMAT, "%s/sentence_bert_config.json: max_seq_length is no whole number", h->dir);
    if (status == TOQUE_OK && json_is_true(json_object_get(limits, "do_lower_case")))
        status = TQ_FAIL(err, EUNSUPPORTED, "%s/sentence_bert_config.json: do_lower_case is not supported", h->dir);
    json_decref(limits);
    return status;
}
