/* Opening a Hugging Face folder. See hf.h. */
#include "files/hf.h"

#include <stdio.h>
#include <string.h>

#include "files/hf_impl.h"
#include "files/safetensors.h"

enum { MAX_CONFIG = 16 << 20, MAX_TOKENIZER = 512 << 20, MAX_TEMPLATE = 16 << 20 };

toque_status tq_hf_read(const hf_folder *h, const char *name, size_t max, bool array, json_t **out, toque_error *err) {
    *out = NULL;
    char *path = tq_path_join(h->mem, h->dir, name), *text = NULL;
    size_t n;
    if (!path) return TQ_NOMEM(err);
    toque_status status = TOQUE_OK;
    if (!tq_path_exists(path)) goto done;
    TQ_GO(tq_read_file(&text, &n, h->mem, path, max, err));
    json_error_t where;
    /* Whole numbers too large for 64 bits stand in real files ("no limit"), so all are read as reals. */
    json_t *o = json_loadb(text, n, JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL, &where);
    if (!o)
        status = json_error_code(&where) == json_error_out_of_memory
                     ? TQ_NOMEM(err)
                     : TQ_FAIL(err, EFORMAT, "%s, line %d: %s", path, where.line, where.text);
    else if (array ? !json_is_array(o) : !json_is_object(o))
        status = TQ_FAIL(err, EFORMAT, "%s: expected a JSON %s", path, array ? "array" : "object");
    if (status == TOQUE_OK)
        *out = o;
    else
        json_decref(o);
done:
    tq_free(h->mem, text);
    tq_free(h->mem, path);
    return status;
}

static toque_status put_template_text(hf_folder *h, const char *s, size_t n, toque_error *err) {
    return tq_gguf_put_str(h->w, "tokenizer.chat_template", s, n, err);
}

/* chat_template.jinja, else tokenizer_config.json's "chat_template": a text, or a list of which "default" counts. */
static toque_status put_template(hf_folder *h, toque_error *err) {
    char *path = tq_path_join(h->mem, h->dir, "chat_template.jinja"), *text = NULL;
    size_t n;
    if (!path) return TQ_NOMEM(err);
    toque_status status = TOQUE_OK;
    if (tq_path_exists(path)) {
        status = tq_read_file(&text, &n, h->mem, path, MAX_TEMPLATE, err);
        if (status == TOQUE_OK) status = put_template_text(h, text, n, err);
        tq_free(h->mem, text);
        tq_free(h->mem, path);
        return status;
    }
    tq_free(h->mem, path);
    const json_t *t = json_object_get(h->tokenizer_config, "chat_template"), *item;
    size_t i;
    if (json_is_array(t)) json_array_foreach(t, i, item) {
            const char *name = json_string_value(json_object_get(item, "name"));
            if (!name || strcmp(name, "default") != 0) continue;
            t = json_object_get(item, "template");
            break;
        }
    if (tq_hf_empty(t)) return TOQUE_OK;
    if (!json_is_string(t))
        return TQ_FAIL(err, EFORMAT, "%s/tokenizer_config.json: chat_template has no text named 'default'", h->dir);
    return put_template_text(h, json_string_value(t), json_string_length(t), err);
}

static toque_status put_name(hf_folder *h, toque_error *err) {
    const char *name = json_string_value(json_object_get(h->config, "_name_or_path"));
    if (!name || !*name) name = h->dir;
    size_t n = strlen(name);
    while (n > 1 && name[n - 1] == '/') n--;
    size_t start = n;
    while (start > 0 && name[start - 1] != '/') start--;
    return tq_gguf_put_str(h->w, "general.name", name + start, n - start, err);
}

static toque_status translate(hf_folder *h, tq_model_part part, toque_error *err) {
    TQ_TRY(tq_hf_read(h, "config.json", MAX_CONFIG, false, &h->config, err));
    TQ_TRY(tq_hf_read(h, "generation_config.json", MAX_CONFIG, false, &h->generation, err));
    TQ_TRY(tq_hf_read(h, "tokenizer.json", MAX_TOKENIZER, false, &h->tokenizer, err));
    TQ_TRY(tq_hf_read(h, "tokenizer_config.json", MAX_CONFIG, false, &h->tokenizer_config, err));
    if (part == TQ_MODEL_WHOLE && !h->config)
        return TQ_FAIL(err, EFORMAT, "%s is no model: config.json is not there", h->dir);
    if (!h->tokenizer)
        return TQ_FAIL(err, EFORMAT,
                       "%s has no tokenizer.json; other forms of tokenizers are not read (save it with transformers' "
                       "fast tokenizer)",
                       h->dir);
    TQ_TRY(put_name(h, err));
    if (part == TQ_MODEL_WHOLE) TQ_TRY(tq_hf_config(h, err));
    if (part == TQ_MODEL_WHOLE) TQ_TRY(tq_hf_pooling(h, err));
    TQ_TRY(tq_hf_tokenizer(h, err));
    return put_template(h, err);
}

static toque_status open_tensors(const hf_folder *h, tq_safetensors **st, toque_error *err) {
    char *path = tq_path_join(h->mem, h->dir, "model.safetensors");
    char *index = tq_path_join(h->mem, h->dir, "model.safetensors.index.json");
    toque_status status = path && index ? TOQUE_OK : TQ_NOMEM(err);
    if (status == TOQUE_OK && !tq_path_exists(path))
        status =
            tq_path_exists(index)
                ? TQ_FAIL(err, EUNSUPPORTED, "%s: a model in several files is not supported; save it as one", h->dir)
                : TQ_FAIL(err, ENOTFOUND, "%s has no model.safetensors", h->dir);
    if (status == TOQUE_OK) status = tq_safetensors_open(st, h->mem, path, err);
    tq_free(h->mem, path);
    tq_free(h->mem, index);
    return status;
}

static toque_status open_folder(tq_gguf **gguf, tq_mem *mem, const char *dir, tq_model_part part, toque_error *err) {
    hf_folder h = {.mem = mem, .dir = dir};
    tq_safetensors *st = NULL;
    uint8_t *block;
    size_t size;
    toque_status status = tq_gguf_writer_new(&h.w, mem, NULL, err);
    if (status == TOQUE_OK) status = translate(&h, part, err);
    json_decref(h.config);
    json_decref(h.generation);
    json_decref(h.tokenizer);
    json_decref(h.tokenizer_config);
    if (status == TOQUE_OK && part == TQ_MODEL_WHOLE) status = open_tensors(&h, &st, err);
    if (status != TOQUE_OK) {
        tq_gguf_writer_abort(h.w);
        return status;
    }
    status = tq_gguf_writer_take(h.w, &block, &size, err);
    if (status != TOQUE_OK) {
        tq_safetensors_close(st);
        return status;
    }
    return tq_gguf_open_folder(gguf, mem, block, size, st, dir, err);
}

toque_status tq_model_file_open(tq_gguf **gguf, tq_mem *mem, const char *path, tq_model_part part, toque_error *err) {
    *gguf = NULL;
    return tq_path_is_dir(path) ? open_folder(gguf, mem, path, part, err) : tq_gguf_open(gguf, mem, path, err);
}
