/* safetensors writing. See safetensors.h. The header is built as a JSON object (jansson escapes the names and
 * keeps the order), padded with spaces so that the data begin at a multiple of 8. */
#include "files/names.h"
#include "files/safetensors.h"

#include <jansson.h>
#include <string.h>

static const char *dtype_of(tq_type type, size_t *size) {
    *size = type == TQ_F32 ? 4 : 2;
    return type == TQ_F32 ? "F32" : type == TQ_F16 ? "F16" : type == TQ_BF16 ? "BF16" : NULL;
}

/* {"dtype", "shape", "data_offsets"} of a tensor that begins at *at; moves *at behind it. */
static toque_status describe(const tq_save_tensor *t, json_t *header, uint64_t *at, toque_error *err) {
    size_t size;
    const char *dtype = dtype_of(t->type, &size);
    if (!dtype) return TQ_FAIL(err, EINVAL, "tensor %s: type %d is not F32, F16 or BF16", t->name, (int)t->type);
    if (t->n_dims < 0 || t->n_dims > TQ_MAX_DIMS)
        return TQ_FAIL(err, EINVAL, "tensor %s: %d dimensions, expected 0 to %d", t->name, t->n_dims, TQ_MAX_DIMS);
    if (!tq_name_ok(t->name, strlen(t->name)) || strcmp(t->name, "__metadata__") == 0 ||
        json_object_get(header, t->name))
        return TQ_FAIL(err, EINVAL, "tensor name \"%s\" is reserved, empty, used twice or holds control characters",
                       t->name);
    json_t *shape = json_array();
    json_int_t bytes = (json_int_t)size, end;
    bool possible = true, ok = shape != NULL;
    for (int i = 0; i < t->n_dims && ok && possible; i++) {
        possible = t->dims[i] >= 0 && !__builtin_mul_overflow(bytes, t->dims[i], &bytes);
        ok = json_array_append_new(shape, json_integer(t->dims[i])) == 0;
    }
    if (__builtin_add_overflow((json_int_t)*at, bytes, &end)) possible = false;
    if (!possible) {
        json_decref(shape);
        return TQ_FAIL(err, EINVAL, "tensor %s: its shape is not possible", t->name);
    }
    /* json_pack and the setter take over their references, on failure too. */
    json_t *j =
        ok ? json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype, "shape", shape, "data_offsets", (json_int_t)*at, end)
           : NULL;
    if (!ok) json_decref(shape);
    *at = (uint64_t)end;
    if (!j || json_object_set_new(header, t->name, j) != 0)
        return TQ_FAIL(err, EINVAL, "tensor name \"%s\" is not UTF-8, or memory ran out", t->name);
    return TOQUE_OK;
}

static toque_status add_metadata(json_t *header, const char *const *pairs, size_t n, toque_error *err) {
    if (!n) return TOQUE_OK;
    json_t *meta = json_object();
    if (!meta || json_object_set_new(header, "__metadata__", meta) != 0) return TQ_NOMEM(err);
    for (size_t i = 0; i < n; i++) {
        if (json_object_get(meta, pairs[2 * i]))
            return TQ_FAIL(err, EINVAL, "metadata key \"%s\" is given twice", pairs[2 * i]);
        if (json_object_set_new(meta, pairs[2 * i], json_string(pairs[2 * i + 1])) != 0)
            return TQ_FAIL(err, EINVAL, "metadata \"%s\" is not UTF-8, or memory ran out", pairs[2 * i]);
    }
    return TOQUE_OK;
}

static int append(const char *text, size_t n, void *buf) {
    return tq_buf_put(buf, text, n) ? 0 : -1;
}

/* The first 8 + n bytes of the file. */
static toque_status make_head(tq_buf *head, const tq_save_tensor *tensors, size_t n, const char *const *metadata,
                              size_t n_meta, toque_error *err) {
    toque_status status = TOQUE_OK;
    uint64_t at = 0;
    json_t *header = json_object();
    if (!header) return TQ_NOMEM(err);
    TQ_GO(add_metadata(header, metadata, n_meta, err));
    for (size_t i = 0; i < n; i++) TQ_GO(describe(&tensors[i], header, &at, err));
    uint64_t padded = 0;
    tq_buf_put(head, &padded, sizeof padded); /* its value is known behind the text */
    if (json_dump_callback(header, append, head, JSON_COMPACT) != 0) {
        status = head->failed ? tq_buf_status(head, "the safetensors header", err) : TQ_NOMEM(err);
        goto done;
    }
    while (!head->failed && head->len % 8) tq_buf_putc(head, ' ');
    TQ_GO(tq_buf_status(head, "the safetensors header", err));
    padded = head->len - sizeof padded;
    memcpy(head->data, &padded, sizeof padded);
done:
    json_decref(header);
    return status;
}

static size_t bytes_of(const tq_save_tensor *t) {
    size_t bytes;
    (void)dtype_of(t->type, &bytes);
    for (int i = 0; i < t->n_dims; i++) bytes *= (size_t)t->dims[i];
    return bytes;
}

toque_status tq_safetensors_save(tq_mem *mem, const char *path, const tq_save_tensor *tensors, size_t n,
                                 const char *const *metadata, size_t n_meta, toque_error *err) {
    tq_out *out = NULL;
    tq_buf head;
    tq_buf_init(&head, mem, 100 * 1000 * 1000);
    toque_status status = make_head(&head, tensors, n, metadata, n_meta, err);
    if (status != TOQUE_OK) goto done;
    TQ_GO(tq_out_open(&out, mem, path, err));
    TQ_GO(tq_out_write(out, head.data, head.len, err));
    for (size_t i = 0; i < n; i++) TQ_GO(tq_out_write(out, tensors[i].data, bytes_of(&tensors[i]), err));
    status = tq_out_commit(out, err);
    out = NULL;
done:
    tq_out_abort(out);
    tq_buf_clear(&head);
    return status;
}
