/* GGUF reading. See gguf.h. The file is walked once at open: header, metadata, tensor table; nothing is unpacked,
 * values and tensors keep pointers into the map. After open every pointer and length handed out is known to lie
 * inside the file, so the accessors below cannot fail on account of the file's bytes.
 *
 *   magic "GGUF", u32 version, u64 tensors, u64 values
 *   value:  string key, u32 type, payload         string: u64 length, bytes
 *   tensor: string name, u32 n_dims, u64 dims[n_dims], u32 type, u64 offset
 *   padding to `general.alignment`, then the tensors' data at data_start + offset */
#include "files/gguf.h"
#include "files/names.h"
#include "files/safetensors.h"

#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are used in place: little-endian hosts only");

/* Real files have below 100 values and some thousand tensors. The limits bound what collisions can cost. */
enum { MAX_VALUES = 1 << 14, MAX_TENSORS = 1 << 15, MAX_KEY = 65535, MAX_NAME = 1023, ALIGNMENT = 32 };

struct tq_gguf {
    tq_mem *mem;
    char *path;
    tq_map map; /* owned when `mapped` */
    bool mapped;
    tq_gguf_value *values;
    tq_tensor *tensors;
    size_t n_values, n_tensors;
    tq_names value_names, tensor_names;
    tq_arena arena;     /* tensor names */
    uint8_t *block;     /* a folder's metadata */
    tq_safetensors *st; /* a folder's tensors */
    bool folder;
};

/* A string for "%.*s": the beginning is enough to know it by. */
#define SHOWN(s) ((s).len < 100 ? (int)(s).len : 100), (s).data

/* A position in the bytes; `what` says in messages what is being read. */
typedef struct cursor {
    const uint8_t *data;
    size_t size, at;
    const char *what;
} cursor;

static size_t left(const cursor *c) {
    return c->size - c->at;
}

static toque_status fail_short(const cursor *c, uint64_t need, toque_error *err) {
    return TQ_FAIL(err, EFORMAT,
                   "%s at byte %zu needs %llu bytes, the file has %zu left: it is cut short or damaged; get it again",
                   c->what, c->at, (unsigned long long)need, left(c));
}

static toque_status take(cursor *c, void *out, size_t n, toque_error *err) {
    if (n > left(c)) return fail_short(c, n, err);
    memcpy(out, c->data + c->at, n);
    c->at += n;
    return TOQUE_OK;
}

static toque_status skip(cursor *c, uint64_t n, toque_error *err) {
    if (n > left(c)) return fail_short(c, n, err);
    c->at += (size_t)n;
    return TOQUE_OK;
}

static toque_status take_string(cursor *c, tq_string *s, toque_error *err) {
    uint64_t n;
    TQ_TRY(take(c, &n, sizeof n, err));
    const uint8_t *p = c->data + c->at;
    TQ_TRY(skip(c, n, err));
    *s = (tq_string){.data = (const char *)p, .len = (size_t)n};
    return TOQUE_OK;
}

/* ---- metadata ---------------------------------------------------------------------------------------------- */

static toque_status parse_payload(cursor *c, tq_gguf_value *v, toque_error *err) {
    uint32_t type;
    TQ_TRY(take(c, &type, sizeof type, err));
    v->type = v->item = (tq_gguf_type)type;
    v->count = 1;
    if (type == TQ_GGUF_ARRAY) {
        TQ_TRY(take(c, &type, sizeof type, err));
        TQ_TRY(take(c, &v->count, sizeof v->count, err));
        v->item = (tq_gguf_type)type;
        if (type == TQ_GGUF_ARRAY)
            return TQ_FAIL(err, EUNSUPPORTED, "the value of %.*s is an array of arrays; only flat arrays are read",
                           SHOWN(v->key));
    }
    if (type > TQ_GGUF_F64)
        return TQ_FAIL(err, EFORMAT, "the value of %.*s has type %u, known are 0 to %d", SHOWN(v->key), type,
                       TQ_GGUF_F64);
    v->data = c->data + c->at;
    size_t size = tq_gguf_type_size(v->item), start = c->at;
    if (size) {
        uint64_t bytes;
        if (__builtin_mul_overflow(v->count, size, &bytes)) bytes = UINT64_MAX;
        TQ_TRY(skip(c, bytes, err));
    } else {
        /* A string takes 8 bytes at least, so a false count ends at the file's end, not after 2^64 rounds. */
        tq_string s;
        for (uint64_t i = 0; i < v->count; i++) TQ_TRY(take_string(c, &s, err));
    }
    v->bytes = c->at - start;
    return TOQUE_OK;
}

static toque_status parse_values(tq_gguf *g, cursor *c, toque_error *err) {
    for (size_t i = 0; i < g->n_values; i++) {
        tq_gguf_value *v = &g->values[i];
        c->what = "the metadata";
        TQ_TRY(take_string(c, &v->key, err));
        if (v->key.len > MAX_KEY || !tq_name_ok(v->key.data, v->key.len))
            return TQ_FAIL(err, EFORMAT, "metadata key number %zu is empty, too long or holds control characters", i);
        TQ_TRY(parse_payload(c, v, err));
        if (!tq_names_add(&g->value_names, v->key.data, v->key.len, i))
            return TQ_FAIL(err, EFORMAT, "metadata key %.*s stands in the file twice", SHOWN(v->key));
    }
    return TOQUE_OK;
}

/* ---- tensors ----------------------------------------------------------------------------------------------- */

/* rows, cols and bytes from dims and type; bytes stays 0 for an unknown type. */
static toque_status measure(tq_tensor *t, uint32_t type, toque_error *err) {
    int64_t all = 1;
    for (int d = 0; d < t->n_dims; d++)
        if (t->dims[d] <= 0 || __builtin_mul_overflow(all, t->dims[d], &all))
            return TQ_FAIL(err, EFORMAT,
                           "tensor %s has dimension %lld: dimensions must be positive and their product "
                           "below 2^63",
                           t->name, (long long)t->dims[d]);
    t->cols = t->n_dims ? t->dims[0] : 1;
    t->rows = all / t->cols;
    const tq_type_info *info = tq_type_get(type);
    if (!info) return TOQUE_OK;
    if (t->cols % info->block)
        return TQ_FAIL(err, EFORMAT, "tensor %s has rows of %lld elements, %s needs a multiple of %d", t->name,
                       (long long)t->cols, info->name, info->block);
    if (__builtin_mul_overflow((uint64_t)(all / info->block), (uint64_t)info->bytes, &t->bytes))
        return TQ_FAIL(err, EFORMAT, "tensor %s has %lld elements, more than memory can hold", t->name, (long long)all);
    return TOQUE_OK;
}

static toque_status parse_tensor(tq_gguf *g, cursor *c, tq_tensor *t, uint64_t *offset, toque_error *err) {
    tq_string name;
    uint32_t n_dims, type;
    TQ_TRY(take_string(c, &name, err));
    if (name.len > MAX_NAME || !tq_name_ok(name.data, name.len))
        return TQ_FAIL(err, EFORMAT,
                       "the tensor table at byte %zu has a name that is empty, longer than %d bytes or "
                       "holds control characters",
                       c->at, MAX_NAME);
    t->name = tq_arena_strndup(&g->arena, name.data, name.len);
    if (!t->name) return TQ_NOMEM(err);
    if (!tq_names_add(&g->tensor_names, t->name, name.len, (size_t)(t - g->tensors)))
        return TQ_FAIL(err, EFORMAT, "tensor %s stands in the file twice", t->name);
    TQ_TRY(take(c, &n_dims, sizeof n_dims, err));
    if (n_dims > TQ_MAX_DIMS)
        return TQ_FAIL(err, EUNSUPPORTED, "tensor %s has %u dimensions, at most %d are read", t->name, n_dims,
                       TQ_MAX_DIMS);
    t->n_dims = (int)n_dims;
    TQ_TRY(take(c, t->dims, n_dims * sizeof t->dims[0], err));
    TQ_TRY(take(c, &type, sizeof type, err));
    TQ_TRY(take(c, offset, sizeof *offset, err));
    t->type = (tq_type)type;
    return measure(t, type, err);
}

typedef struct range {
    uint64_t begin, end;
    const tq_tensor *tensor;
} range;

static int by_begin(const void *a, const void *b) {
    const range *x = a, *y = b;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

static toque_status refuse_overlap(range *ranges, size_t n, toque_error *err) {
    qsort(ranges, n, sizeof *ranges, by_begin);
    for (size_t i = 1; i < n; i++)
        if (ranges[i].begin < ranges[i - 1].end)
            return TQ_FAIL(err, EFORMAT, "tensors %s and %s overlap at byte %llu of the data",
                           ranges[i - 1].tensor->name, ranges[i].tensor->name, (unsigned long long)ranges[i].begin);
    return TOQUE_OK;
}

static toque_status place(tq_tensor *t, uint64_t offset, uint64_t alignment, const uint8_t *data, size_t size,
                          toque_error *err) {
    if (offset % alignment)
        return TQ_FAIL(err, EFORMAT, "tensor %s starts at byte %llu of the data, which is no multiple of %llu", t->name,
                       (unsigned long long)offset, (unsigned long long)alignment);
    if (offset > size || t->bytes > size - offset)
        return TQ_FAIL(err, EFORMAT,
                       "tensor %s needs bytes %llu to %llu of the data, the file has %zu: it is cut short or damaged; "
                       "get it again",
                       t->name, (unsigned long long)offset, (unsigned long long)offset + t->bytes, size);
    t->data = data + offset;
    return TOQUE_OK;
}

static toque_status find_alignment(const tq_gguf *g, uint32_t *alignment, toque_error *err) {
    *alignment = ALIGNMENT;
    const tq_gguf_value *v = tq_gguf_find(g, "general.alignment");
    if (!v) return TOQUE_OK;
    if (v->type != TQ_GGUF_U32)
        return TQ_FAIL(err, EFORMAT, "general.alignment has type %d, expected %d (u32)", v->type, TQ_GGUF_U32);
    memcpy(alignment, v->data, sizeof *alignment);
    if (*alignment == 0 || (*alignment & (*alignment - 1)))
        return TQ_FAIL(err, EFORMAT, "general.alignment is %u, expected a power of two", *alignment);
    return TOQUE_OK;
}

static toque_status parse_tensors(tq_gguf *g, cursor *c, toque_error *err) {
    uint32_t alignment;
    TQ_TRY(find_alignment(g, &alignment, err));
    range *ranges = tq_alloc(g->mem, g->n_tensors, sizeof *ranges);
    if (!ranges) return TQ_NOMEM(err);
    toque_status status = TOQUE_OK;
    c->what = "the tensor table";
    for (size_t i = 0; i < g->n_tensors; i++) {
        TQ_GO(parse_tensor(g, c, &g->tensors[i], &ranges[i].begin, err));
        ranges[i].tensor = &g->tensors[i];
    }
    uint64_t start = ((uint64_t)c->at + alignment - 1) / alignment * alignment;
    if (start > c->size) start = c->size; /* no data at all: fine for a file without tensors */
    for (size_t i = 0; i < g->n_tensors; i++) {
        TQ_GO(place(&g->tensors[i], ranges[i].begin, alignment, c->data + start, c->size - start, err));
        ranges[i].end = ranges[i].begin + g->tensors[i].bytes;
    }
    TQ_GO(refuse_overlap(ranges, g->n_tensors, err));
done:
    tq_free(g->mem, ranges);
    return status;
}

/* ---- opening ----------------------------------------------------------------------------------------------- */

static toque_status check_head(cursor *c, uint64_t *n_tensors, uint64_t *n_values, toque_error *err) {
    char magic[4];
    uint32_t version;
    c->what = "the header";
    TQ_TRY(take(c, magic, sizeof magic, err));
    if (memcmp(magic, "GGUF", 4) != 0)
        return TQ_FAIL(err, EFORMAT, "not a GGUF file: it begins with %02x %02x %02x %02x, not with \"GGUF\"",
                       (uint8_t)magic[0], (uint8_t)magic[1], (uint8_t)magic[2], (uint8_t)magic[3]);
    TQ_TRY(take(c, &version, sizeof version, err));
    if (version && (version & 0xffff) == 0)
        return TQ_FAIL(err, EUNSUPPORTED, "a big-endian GGUF file; only little-endian ones are read");
    if (version != 2 && version != 3)
        return TQ_FAIL(err, EUNSUPPORTED, "GGUF version %u; versions 2 and 3 are read: convert the model again",
                       version);
    TQ_TRY(take(c, n_tensors, sizeof *n_tensors, err));
    TQ_TRY(take(c, n_values, sizeof *n_values, err));
    /* The smallest value is a key of 1 byte and a payload of 1; the smallest tensor has a name of 1 byte. */
    if (*n_values > MAX_VALUES || *n_values > left(c) / 14)
        return TQ_FAIL(err, EFORMAT,
                       "the header claims %llu metadata values; the file has %zu bytes and %d is the limit",
                       (unsigned long long)*n_values, c->size, MAX_VALUES);
    if (*n_tensors > MAX_TENSORS || *n_tensors > left(c) / 25)
        return TQ_FAIL(err, EFORMAT, "the header claims %llu tensors; the file has %zu bytes and %d is the limit",
                       (unsigned long long)*n_tensors, c->size, MAX_TENSORS);
    return TOQUE_OK;
}

static toque_status parse(tq_gguf *g, toque_error *err) {
    cursor c = {.data = g->map.data, .size = g->map.size};
    uint64_t n_tensors, n_values;
    TQ_TRY(check_head(&c, &n_tensors, &n_values, err));
    g->values = TQ_NEW_ARRAY(g->mem, tq_gguf_value, n_values);
    g->tensors = TQ_NEW_ARRAY(g->mem, tq_tensor, n_tensors);
    if (!g->values || !g->tensors || !tq_names_init(&g->value_names, g->mem, n_values) ||
        !tq_names_init(&g->tensor_names, g->mem, n_tensors))
        return TQ_NOMEM(err);
    g->n_values = n_values;
    g->n_tensors = n_tensors;
    TQ_TRY(parse_values(g, &c, err));
    return parse_tensors(g, &c, err);
}

static toque_status open_map(tq_gguf **result, tq_mem *mem, tq_map map, bool mapped, const char *name,
                             toque_error *err) {
    *result = NULL;
    tq_gguf *g = TQ_NEW(mem, tq_gguf);
    if (!g) {
        if (mapped) tq_map_close(&map);
        return TQ_NOMEM(err);
    }
    g->mem = mem;
    g->map = map;
    g->mapped = mapped;
    tq_arena_init(&g->arena, mem, 1 << 14);
    g->path = tq_strdup(mem, name);
    toque_status status = g->path ? parse(g, err) : TQ_NOMEM(err);
    if (status != TOQUE_OK) {
        tq_gguf_close(g);
        return tq_error_prefix(err, status, "%s", name);
    }
    *result = g;
    return TOQUE_OK;
}

toque_status tq_gguf_open(tq_gguf **gguf, tq_mem *mem, const char *path, toque_error *err) {
    *gguf = NULL;
    tq_map map;
    TQ_TRY(tq_map_open(&map, path, err));
    return open_map(gguf, mem, map, true, path, err);
}

toque_status tq_gguf_open_memory(tq_gguf **gguf, tq_mem *mem, const uint8_t *data, size_t size, const char *name,
                                 toque_error *err) {
    return open_map(gguf, mem, (tq_map){.data = data, .size = size}, false, name, err);
}

toque_status tq_gguf_open_folder(tq_gguf **result, tq_mem *mem, uint8_t *block, size_t size, tq_safetensors *st,
                                 const char *path, toque_error *err) {
    toque_status status = tq_gguf_open_memory(result, mem, block, size, path, err);
    if (status != TOQUE_OK) {
        tq_free(mem, block);
        tq_safetensors_close(st);
        return status;
    }
    (*result)->block = block;
    (*result)->st = st;
    (*result)->folder = true;
    return TOQUE_OK;
}

bool tq_gguf_is_folder(const tq_gguf *g) {
    return g->folder;
}

void tq_gguf_close(tq_gguf *g) {
    if (!g) return;
    tq_safetensors_close(g->st);
    tq_free(g->mem, g->block);
    if (g->mapped) tq_map_close(&g->map);
    tq_names_clear(&g->value_names);
    tq_names_clear(&g->tensor_names);
    tq_arena_clear(&g->arena);
    tq_free(g->mem, g->values);
    tq_free(g->mem, g->tensors);
    tq_free(g->mem, g->path);
    tq_free(g->mem, g);
}

const char *tq_gguf_path(const tq_gguf *g) {
    return g->path;
}

uint64_t tq_gguf_file_bytes(const tq_gguf *g) {
    return g->folder ? g->st ? tq_safetensors_file_bytes(g->st) : 0 : g->map.size;
}

void tq_gguf_forget(const tq_gguf *g) {
    if (g->st) tq_safetensors_forget(g->st);
    if (g->mapped) tq_map_forget(&g->map);
}

/* ---- look-ups ---------------------------------------------------------------------------------------------- */

size_t tq_gguf_n_values(const tq_gguf *g) {
    return g->n_values;
}

const tq_gguf_value *tq_gguf_value_at(const tq_gguf *g, size_t i) {
    return i < g->n_values ? &g->values[i] : NULL;
}

const tq_gguf_value *tq_gguf_find(const tq_gguf *g, const char *key) {
    size_t i;
    return tq_names_find(&g->value_names, key, strlen(key), &i) ? &g->values[i] : NULL;
}

size_t tq_gguf_n_tensors(const tq_gguf *g) {
    return g->st ? tq_safetensors_count(g->st) : g->n_tensors;
}

const tq_tensor *tq_gguf_tensor_at(const tq_gguf *g, size_t i) {
    if (g->st) return tq_safetensors_at(g->st, i);
    return i < g->n_tensors ? &g->tensors[i] : NULL;
}

const tq_tensor *tq_gguf_find_tensor(const tq_gguf *g, const char *name) {
    size_t i;
    if (g->st) return tq_safetensors_find(g->st, name);
    return tq_names_find(&g->tensor_names, name, strlen(name), &i) ? &g->tensors[i] : NULL;
}
