/* head.json: what the tensors of heads do not say. Its keys num_labels, problem_type, id2label and label2id are
 * transformers', of the first head, to be handed to AutoModelForSequenceClassification as they are.
 * A folder without it (PEFT's own) gets labels LABEL_0 ... from the shape of its score or classifier. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files/safetensors.h"
#include "model/peft.h"

enum { VERSION = 1 };

/* --- reading ----------------------------------------------------------------------------------------------- */
static toque_status read_labels(const json_t *list, tq_head *h, const char *path, toque_error *err) {
    h->n = (int)json_array_size(list);
    if (h->n < 1 || h->n > TQ_MAX_HEAD_OUTPUTS)
        return TQ_FAIL(err, EFORMAT, "%s: \"labels\" must be a list of names", path);
    for (int i = 0; i < h->n; i++) {
        const char *name = json_string_value(json_array_get(list, (size_t)i));
        if (!name) return TQ_FAIL(err, EFORMAT, "%s: label %d is not a string", path, i);
        h->labels[i] = (char *)(uintptr_t)name;
    }
    for (int i = 0; i < h->n; i++)
        for (int k = 0; k < i; k++)
            if (strcmp(h->labels[i], h->labels[k]) == 0)
                return TQ_FAIL(err, EFORMAT, "%s: the label \"%.80s\" stands twice", path, h->labels[i]);
    return TOQUE_OK;
}

static toque_status read_head(tq_adapter *a, const json_t *o, const char *path, toque_error *err) {
    tq_mem *mem = &a->model->ctx->mem;
    const char *kind = json_string_value(json_object_get(o, "kind")),
               *reads = json_string_value(json_object_get(o, "reads"));
    int k = kind ? tq_head_kind_find(kind) : -1, r = reads ? tq_read_find(reads) : -1;
    if (k < 0 || r < 0 || (k == TQ_HEAD_TAGS) != (r == TQ_READ_EACH))
        return TQ_FAIL(err, EUNSUPPORTED, "%s: a head of kind '%.40s' that reads '%.40s' is not known", path,
                       kind ? kind : "(none)", reads ? reads : "(none)");
    const json_t *labels = json_object_get(o, "labels");
    tq_head h = {.kind = (tq_head_kind)k, .read = (tq_read)r, .n = 1};
    if (k == TQ_HEAD_VALUE) {
        h.mean = json_number_value(json_object_get(o, "mean"));
        h.deviation = json_number_value(json_object_get(o, "deviation"));
        if (!isfinite(h.mean) || !(h.deviation > 0) || !isfinite(h.deviation))
            return TQ_FAIL(err, EFORMAT, "%s: mean must be a number and deviation one above 0", path);
        return tq_adapter_set_heads(a, &h, 1, err);
    }
    h.labels = TQ_NEW_ARRAY(mem, char *, json_array_size(labels) + 1);
    if (!h.labels) return TQ_NOMEM(err);
    toque_status status = read_labels(labels, &h, path, err);
    if (status == TOQUE_OK) status = tq_adapter_set_heads(a, &h, 1, err);
    tq_free(mem, h.labels);
    return status;
}

static toque_status read_json(tq_adapter *a, const char *path, toque_error *err) {
    char *text;
    size_t n, i;
    TQ_TRY(tq_read_file(&text, &n, &a->model->ctx->mem, path, 1 << 26, err));
    json_error_t where;
    json_t *o = json_loadb(text, n, JSON_REJECT_DUPLICATES, &where), *head;
    tq_free(&a->model->ctx->mem, text);
    toque_status status = TOQUE_OK;
    const json_t *heads = json_object_get(o, "heads");
    if (!o)
        status = TQ_FAIL(err, EFORMAT, "%s: line %d: %s", path, where.line, where.text);
    else if (json_integer_value(json_object_get(o, "version")) > VERSION)
        status = TQ_FAIL(err, EUNSUPPORTED, "%s was written by a newer toque", path);
    else if (!json_array_size(heads))
        status = TQ_FAIL(err, EFORMAT, "%s: \"heads\" must be a list", path);
    json_array_foreach(heads, i, head) if (status == TOQUE_OK) status = read_head(a, head, path, err);
    json_decref(o);
    return status;
}

/* PEFT's own folder: the kind from the task, the number of labels from the tensor. */
static toque_status from_shape(tq_adapter *a, const char *task, const tq_tensor *t, toque_error *err) {
    bool tags = task && strcmp(task, "TOKEN_CLS") == 0, encoder = a->model->config.arch->flags & TQ_ARCH_ENCODER;
    if (t->rows < 1 || t->rows > TQ_MAX_HEAD_OUTPUTS)
        return TQ_FAIL(err, EFORMAT, "tensor %s has %lld rows", t->name, (long long)t->rows);
    tq_head h = {.kind = tags           ? TQ_HEAD_TAGS
                         : t->rows == 1 ? TQ_HEAD_VALUE
                                        : TQ_HEAD_CLASS,
                 .read = tags      ? TQ_READ_EACH
                         : encoder ? TQ_READ_POOLER
                                   : TQ_READ_LAST,
                 .n = (int)t->rows,
                 .deviation = 1};
    tq_arena arena;
    tq_arena_init(&arena, &a->model->ctx->mem, 4096);
    if (h.kind != TQ_HEAD_VALUE) h.labels = tq_arena_alloc(&arena, (size_t)h.n, sizeof *h.labels);
    toque_status status = h.kind == TQ_HEAD_VALUE || h.labels ? TOQUE_OK : TQ_NOMEM(err);
    for (int i = 0; status == TOQUE_OK && h.labels && i < h.n; i++) {
        char name[32];
        snprintf(name, sizeof name, "LABEL_%d", i);
        if (!(h.labels[i] = tq_arena_strndup(&arena, name, strlen(name)))) status = TQ_NOMEM(err);
    }
    if (status == TOQUE_OK) status = tq_adapter_set_heads(a, &h, 1, err);
    tq_arena_clear(&arena);
    return status;
}

toque_status tq_heads_read(tq_adapter *a, const char *dir, const char *path, toque_error *err) {
    char *json = tq_path_join(&a->model->ctx->mem, dir, "head.json");
    if (!json) return TQ_NOMEM(err);
    toque_status status = TOQUE_OK;
    bool described = tq_path_exists(json);
    if (described) status = read_json(a, json, err);
    tq_free(&a->model->ctx->mem, json);
    if (status != TOQUE_OK || described || !tq_path_exists(path)) return status;
    tq_safetensors *st;
    TQ_TRY(tq_safetensors_open(&st, &a->model->ctx->mem, path, err));
    bool encoder = a->model->config.arch->flags & TQ_ARCH_ENCODER;
    const tq_tensor *t =
        tq_safetensors_find(st, encoder ? "base_model.model.classifier.weight" : "base_model.model.score.weight");
    if (t) status = from_shape(a, a->task, t, err);
    tq_safetensors_close(st);
    return status;
}

/* --- writing ----------------------------------------------------------------------------------------------- */
static json_t *describe(const tq_head *h) {
    json_t *o = json_pack("{s:s, s:s, s:s}", "kind", tq_head_kind_name(h->kind), "reads", tq_read_name(h->read),
                          "module", h->module),
           *labels;
    if (!h->labels) {
        json_object_set_new(o, "mean", json_real(h->mean));
        json_object_set_new(o, "deviation", json_real(h->deviation));
        return o;
    }
    labels = json_array();
    for (int i = 0; i < h->n; i++) json_array_append_new(labels, json_string(h->labels[i]));
    if (json_object_set_new(o, "labels", labels)) {
        json_decref(o);
        return NULL;
    }
    return o;
}

/* transformers' keys of a configuration. */
static int put_config(json_t *o, const tq_head *h) {
    static const char *const problems[] = {"single_label_classification", "multi_label_classification", "regression",
                                           NULL};
    json_t *names = json_object(), *numbers = json_object();
    int bad = json_object_set_new(o, "num_labels", json_integer(h->n)) |
              json_object_set_new(o, "problem_type", problems[h->kind] ? json_string(problems[h->kind]) : json_null());
    for (int i = 0; h->labels && i < h->n; i++) {
        char number[16];
        snprintf(number, sizeof number, "%d", i);
        bad |= json_object_set_new(names, number, json_string(h->labels[i])) |
               json_object_set_new(numbers, h->labels[i], json_integer(i));
    }
    if (!h->labels) {
        json_decref(names);
        json_decref(numbers);
        return bad;
    }
    return bad | json_object_set_new(o, "id2label", names) | json_object_set_new(o, "label2id", numbers);
}

toque_status tq_heads_write(const tq_adapter *a, const char *dir, toque_error *err) {
    tq_mem *mem = &a->model->ctx->mem;
    char *path = tq_path_join(mem, dir, "head.json");
    json_t *heads = json_array(), *o = json_pack("{s:s, s:i}", "format", "toque.head", "version", VERSION);
    int bad = !path || !o;
    for (int i = 0; i < a->n_heads; i++) bad |= json_array_append_new(heads, describe(&a->heads[i]));
    bad |= json_object_set_new(o, "heads", heads);
    bad |= put_config(o, &a->heads[0]);
    char *text = bad ? NULL : json_dumps(o, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    json_decref(o);
    toque_status status = text ? tq_write_file(mem, path, text, strlen(text), err) : TQ_NOMEM(err);
    free(text); /* jansson's own memory */
    tq_free(mem, path);
    return status;
}
