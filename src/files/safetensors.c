/* safetensors reading. See safetensors.h.
 *
 *   u64 n, n bytes of JSON, data
 *   {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ..., "__metadata__": {"key": "text"}}
 *
 * Offsets count from the data's start. The ranges must cover the data without holes or overlaps, so that a file
 * has one meaning only. The JSON is parsed by jansson and dropped, but for __metadata__. */
#include "files/safetensors.h"
#include "files/names.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_HEADER = 100 * 1000 * 1000, MAX_NAME = 1023, MAX_TENSORS = 1 << 17, MAX_SHAPE = 64 };

struct tq_safetensors {
    tq_mem *mem;
    tq_map map; /* owned when `mapped` */
    bool mapped;
    tq_tensor *tensors; /* by begin of data */
    size_t n;
    tq_names names;
    tq_arena arena;
    json_t *metadata; /* or NULL */
};

typedef struct dtype {
    const char *name;
    tq_type type; /* TQ_TYPE_END: not computed with */
    unsigned bits;
} dtype;
static const dtype dtypes[] = {
    {"F32", TQ_F32, 32},         {"F16", TQ_F16, 16},         {"BF16", TQ_BF16, 16},       {"F64", TQ_TYPE_END, 64},
    {"I64", TQ_TYPE_END, 64},    {"U64", TQ_TYPE_END, 64},    {"I32", TQ_TYPE_END, 32},    {"U32", TQ_TYPE_END, 32},
    {"I16", TQ_TYPE_END, 16},    {"U16", TQ_TYPE_END, 16},    {"I8", TQ_TYPE_END, 8},      {"U8", TQ_TYPE_END, 8},
    {"BOOL", TQ_TYPE_END, 8},    {"F8_E4M3", TQ_TYPE_END, 8}, {"F8_E5M2", TQ_TYPE_END, 8}, {"F8_E8M0", TQ_TYPE_END, 8},
    {"F6_E2M3", TQ_TYPE_END, 6}, {"F6_E3M2", TQ_TYPE_END, 6}, {"F4", TQ_TYPE_END, 4},      {"C64", TQ_TYPE_END, 64},
};

/* A tensor before its place in the order of the data is known. */
typedef struct found {
    tq_tensor tensor;
    uint64_t begin, end;
} found;

/* A member that must be an integer >= 0. */
static bool natural(const json_t *j, uint64_t *out) {
    if (!json_is_integer(j) || json_integer_value(j) < 0) return false;
    *out = (uint64_t)json_integer_value(j);
    return true;
}

/* Shapes longer than TQ_MAX_DIMS are folded into it from the front: nothing computes with them, but their size
 * and last dimension stay right. */
static toque_status take_shape(const json_t *shape, tq_tensor *t, uint64_t *elements, toque_error *err) {
    size_t n = json_array_size(shape);
    if (!json_is_array(shape) || n > MAX_SHAPE)
        return TQ_FAIL(err, EFORMAT, "tensor %s: \"shape\" must be an array of at most %d integers", t->name,
                       MAX_SHAPE);
    size_t fold = n > TQ_MAX_DIMS ? n - TQ_MAX_DIMS : 0;
    int64_t all = 1, rows = 1;
    for (size_t i = 0; i < n; i++) {
        uint64_t dim;
        if (!natural(json_array_get(shape, i), &dim) || __builtin_mul_overflow(all, (int64_t)dim, &all))
            return TQ_FAIL(err, EFORMAT,
                           "tensor %s: \"shape\" holds what is no integer >= 0, or its product passes 2^63", t->name);
        if (i <= fold)
            t->dims[0] = all;
        else
            t->dims[i - fold] = (int64_t)dim;
        if (i + 2 == n) rows = all;
    }
    t->n_dims = (int)(n - fold);
    t->rows = rows;
    t->cols = n ? t->dims[t->n_dims - 1] : 1;
    *elements = (uint64_t)all;
    return TOQUE_OK;
}

static toque_status take_dtype(const json_t *j, const char *name, const dtype **out, toque_error *err) {
    const char *s = json_string_value(j);
    if (!s) return TQ_FAIL(err, EFORMAT, "tensor %s: \"dtype\" must be a string", name);
    *out = NULL;
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (strcmp(s, dtypes[i].name) == 0) *out = &dtypes[i];
    return TOQUE_OK;
}

static toque_status take_tensor(const json_t *j, found *f, uint64_t data_size, toque_error *err) {
    tq_tensor *t = &f->tensor;
    const dtype *type;
    uint64_t elements, bits;
    if (!json_is_object(j)) return TQ_FAIL(err, EFORMAT, "tensor %s: its description must be a JSON object", t->name);
    TQ_TRY(take_dtype(json_object_get(j, "dtype"), t->name, &type, err));
    TQ_TRY(take_shape(json_object_get(j, "shape"), t, &elements, err));
    const json_t *offsets = json_object_get(j, "data_offsets");
    if (json_array_size(offsets) != 2 || !natural(json_array_get(offsets, 0), &f->begin) ||
        !natural(json_array_get(offsets, 1), &f->end) || f->begin > f->end)
        return TQ_FAIL(err, EFORMAT, "tensor %s: \"data_offsets\" must be [begin, end] with begin <= end", t->name);
    if (f->end > data_size)
        return TQ_FAIL(err, EFORMAT,
                       "tensor %s ends at byte %llu of the data, the file has %llu: it is cut short or damaged; get it "
                       "again",
                       t->name, (unsigned long long)f->end, (unsigned long long)data_size);
    t->bytes = (size_t)(f->end - f->begin);
    t->type = type && json_array_size(json_object_get(j, "shape")) <= TQ_MAX_DIMS ? type->type : TQ_TYPE_END;
    if (!type) return TOQUE_OK; /* a dtype of the future: its range is checked like all */
    if (__builtin_mul_overflow(elements, type->bits, &bits) || bits % 8 || bits / 8 != t->bytes)
        return TQ_FAIL(err, EFORMAT, "tensor %s: %llu elements of %s do not make the %zu bytes of \"data_offsets\"",
                       t->name, (unsigned long long)elements, type->name, t->bytes);
    return TOQUE_OK;
}

static toque_status take_metadata(tq_safetensors *st, json_t *j, toque_error *err) {
    const char *key;
    json_t *value;
    if (!json_is_object(j)) return TQ_FAIL(err, EFORMAT, "\"__metadata__\" must be a JSON object");
    json_object_foreach(j, key, value) if (!json_is_string(value)) return TQ_FAIL(
        err, EFORMAT, "\"__metadata__\": the value of %.100s must be a string", key);
    st->metadata = json_incref(j);
    return TOQUE_OK;
}

static int by_range(const void *a, const void *b) {
    const found *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return strcmp(x->tensor.name, y->tensor.name); /* empty tensors share a place */
}

/* Sorts by place, refuses holes and overlaps, and moves the tensors into st. */
static toque_status arrange(tq_safetensors *st, found *f, size_t n, const uint8_t *data, uint64_t data_size,
                            toque_error *err) {
    uint64_t at = 0;
    qsort(f, n, sizeof *f, by_range);
    for (size_t i = 0; i < n; i++) {
        if (f[i].begin != at)
            return TQ_FAIL(err, EFORMAT, "tensor %s begins at byte %llu of the data where %llu is due: %s",
                           f[i].tensor.name, (unsigned long long)f[i].begin, (unsigned long long)at,
                           f[i].begin < at ? "it overlaps another one" : "there is a hole before it");
        at = f[i].end;
        st->tensors[i] = f[i].tensor;
        st->tensors[i].data = data + f[i].begin;
        if (!tq_names_add(&st->names, f[i].tensor.name, strlen(f[i].tensor.name), i))
            return TQ_FAIL(err, EFORMAT, "tensor %s stands in the file twice", f[i].tensor.name);
    }
    if (at != data_size)
        return TQ_FAIL(err, EFORMAT, "the tensors end at byte %llu of the data, the file has %llu",
                       (unsigned long long)at, (unsigned long long)data_size);
    return TOQUE_OK;
}

static toque_status parse_header(tq_safetensors *st, json_t *root, const uint8_t *data, uint64_t data_size,
                                 toque_error *err) {
    const char *key;
    json_t *value;
    size_t n = json_object_size(root), at = 0;
    if (n > MAX_TENSORS) return TQ_FAIL(err, ELIMIT, "the header lists %zu tensors, the limit is %d", n, MAX_TENSORS);
    toque_status status = TOQUE_OK;
    found *f = TQ_NEW_ARRAY(st->mem, found, n);
    st->tensors = TQ_NEW_ARRAY(st->mem, tq_tensor, n);
    if (!f || !st->tensors || !tq_names_init(&st->names, st->mem, n)) {
        status = TQ_NOMEM(err);
        goto done;
    }
    json_object_foreach(root, key, value) {
        size_t len = strlen(key);
        if (strcmp(key, "__metadata__") == 0) {
            TQ_GO(take_metadata(st, value, err));
            continue;
        }
        if (len > MAX_NAME || !tq_name_ok(key, len)) {
            status = TQ_FAIL(err, EFORMAT, "a tensor's name is empty, longer than %d bytes or holds control characters",
                             MAX_NAME);
            goto done;
        }
        f[at].tensor.name = tq_arena_strndup(&st->arena, key, len);
        if (!f[at].tensor.name) {
            status = TQ_NOMEM(err);
            goto done;
        }
        TQ_GO(take_tensor(value, &f[at], data_size, err));
        at++;
    }
    TQ_GO(arrange(st, f, at, data, data_size, err));
    st->n = at;
done:
    tq_free(st->mem, f);
    return status;
}

static toque_status parse(tq_safetensors *st, toque_error *err) {
    const uint8_t *p = st->map.data;
    uint64_t size = st->map.size, n;
    if (size < 8) return TQ_FAIL(err, EFORMAT, "%llu bytes are no safetensors file", (unsigned long long)size);
    memcpy(&n, p, 8);
    if (n > MAX_HEADER || n > size - 8)
        return TQ_FAIL(
            err, EFORMAT,
            "no safetensors file, or cut short: it claims a header of %llu bytes, the file has %llu and %d is "
            "the limit",
            (unsigned long long)n, (unsigned long long)size, MAX_HEADER);
    if (n < 2 || p[8] != '{') return TQ_FAIL(err, EFORMAT, "no safetensors file: its header does not begin with \"{\"");
    json_error_t where;
    json_t *root = json_loadb((const char *)p + 8, (size_t)n, JSON_REJECT_DUPLICATES, &where);
    if (!root) {
        if (json_error_code(&where) == json_error_out_of_memory) return TQ_NOMEM(err);
        return TQ_FAIL(err, EFORMAT, "the header is no valid JSON at byte %d: %s", where.position, where.text);
    }
    toque_status status = parse_header(st, root, p + 8 + n, size - 8 - n, err);
    json_decref(root);
    return status;
}

static toque_status open_map(tq_safetensors **result, tq_mem *mem, tq_map map, bool mapped, const char *name,
                             toque_error *err) {
    *result = NULL;
    tq_safetensors *st = TQ_NEW(mem, tq_safetensors);
    if (!st) {
        if (mapped) tq_map_close(&map);
        return TQ_NOMEM(err);
    }
    st->mem = mem;
    st->map = map;
    st->mapped = mapped;
    tq_arena_init(&st->arena, mem, 1 << 14);
    toque_status status = parse(st, err);
    if (status != TOQUE_OK) {
        tq_safetensors_close(st);
        return tq_error_prefix(err, status, "%s", name);
    }
    *result = st;
    return TOQUE_OK;
}

toque_status tq_safetensors_open(tq_safetensors **st, tq_mem *mem, const char *path, toque_error *err) {
    *st = NULL;
    tq_map map;
    TQ_TRY(tq_map_open(&map, path, err));
    return open_map(st, mem, map, true, path, err);
}

toque_status tq_safetensors_open_memory(tq_safetensors **st, tq_mem *mem, const uint8_t *data, size_t size,
                                        const char *name, toque_error *err) {
    return open_map(st, mem, (tq_map){.data = data, .size = size}, false, name, err);
}

void tq_safetensors_close(tq_safetensors *st) {
    if (!st) return;
    if (st->mapped) tq_map_close(&st->map);
    json_decref(st->metadata);
    tq_names_clear(&st->names);
    tq_arena_clear(&st->arena);
    tq_free(st->mem, st->tensors);
    tq_free(st->mem, st);
}

uint64_t tq_safetensors_file_bytes(const tq_safetensors *st) {
    return st->map.size;
}

void tq_safetensors_forget(const tq_safetensors *st) {
    if (st->mapped) tq_map_forget(&st->map);
}

size_t tq_safetensors_count(const tq_safetensors *st) {
    return st->n;
}

const tq_tensor *tq_safetensors_at(const tq_safetensors *st, size_t i) {
    return i < st->n ? &st->tensors[i] : NULL;
}

const tq_tensor *tq_safetensors_find(const tq_safetensors *st, const char *name) {
    size_t i;
    return tq_names_find(&st->names, name, strlen(name), &i) ? &st->tensors[i] : NULL;
}

const char *tq_safetensors_metadata(const tq_safetensors *st, const char *key) {
    return json_string_value(json_object_get(st->metadata, key));
}
