/* Adapters that were tuned to embed texts: embedding.json beside their tensors says how rows become a vector, which
 * neither PEFT's files nor the base's need say. Vectors have length 1. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "model/peft.h"

enum { VERSION = 1 };
static const char *const names[TQ_POOLINGS] = {"none", "mean", "cls", "last"};

tq_read tq_pooling_read(tq_pooling pooling) {
    return pooling == TQ_POOLING_CLS ? TQ_READ_FIRST : pooling == TQ_POOLING_LAST ? TQ_READ_LAST : TQ_READ_MEAN;
}

toque_status tq_embedding_read(tq_adapter *a, const char *dir, toque_error *err) {
    tq_mem *mem = &a->model->ctx->mem;
    char *path = tq_path_join(mem, dir, "embedding.json"), *text = NULL;
    size_t n;
    json_error_t where;
    json_t *o = NULL;
    toque_status status = path ? TOQUE_OK : TQ_NOMEM(err);
    if (status != TOQUE_OK || !tq_path_exists(path)) goto done;
    TQ_GO(tq_read_file(&text, &n, mem, path, 1 << 20, err));
    o = json_loadb(text, n, JSON_REJECT_DUPLICATES, &where);
    if (!o) TQ_GO(TQ_FAIL(err, EFORMAT, "%s: line %d: %s", path, where.line, where.text));
    if (json_integer_value(json_object_get(o, "version")) > VERSION)
        TQ_GO(TQ_FAIL(err, EUNSUPPORTED, "%s was written by a newer toque", path));
    const char *pooling = json_string_value(json_object_get(o, "pooling"));
    for (int i = 1; pooling && i < TQ_POOLINGS; i++)
        if (strcmp(pooling, names[i]) == 0) a->embeds = (tq_pooling)i;
    if (!a->embeds) status = TQ_FAIL(err, EFORMAT, "%s: \"pooling\" must be mean, cls or last", path);
done:
    json_decref(o);
    tq_free(mem, text);
    tq_free(mem, path);
    return status;
}

toque_status tq_embedding_write(const tq_adapter *a, const char *dir, toque_error *err) {
    tq_mem *mem = &a->model->ctx->mem;
    char *path = tq_path_join(mem, dir, "embedding.json");
    json_t *o = json_pack("{s:s, s:i, s:s, s:b}", "format", "toque.embedding", "version", VERSION, "pooling",
                          names[a->embeds], "normalize", 1);
    char *text = path && o ? json_dumps(o, JSON_INDENT(2)) : NULL;
    json_decref(o);
    toque_status status = text ? tq_write_file(mem, path, text, strlen(text), err) : TQ_NOMEM(err);
    free(text); /* jansson's own memory */
    tq_free(mem, path);
    return status;
}
