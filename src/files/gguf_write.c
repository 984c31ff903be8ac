/* GGUF writing, version 3. See gguf.h. Metadata and tensor table are encoded into two buffers while they are
 * declared; the first data call writes them behind the header, whose counts are known only then. Every tensor's
 * data is padded to the alignment, the last one too, as llama.cpp expects. */
#include "files/gguf.h"
#include "files/names.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum { ALIGNMENT = 32, MAX_META = 1 << 30 };

/* A name taken, so that a second one of its kind is refused before a file exists that no reader takes. */
typedef struct entry {
    char *name;
    uint64_t hash, bytes;
} entry;

typedef struct entries {
    entry *items;
    size_t len, cap;
} entries;

struct tq_gguf_writer {
    tq_mem *mem;
    tq_out *out;
    tq_arena arena;
    tq_buf values, table;
    entries keys, tensors;
    uint64_t data_size; /* of the tensors declared so far, padded */
    size_t next;        /* the tensor whose data comes next */
    bool begun;         /* the header is written */
    bool failed;        /* a write failed: the file cannot be completed */
};

static uint64_t padded(uint64_t n) {
    return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static void writer_free(tq_gguf_writer *w) {
    tq_buf_clear(&w->values);
    tq_buf_clear(&w->table);
    tq_arena_clear(&w->arena);
    tq_free(w->mem, w->keys.items);
    tq_free(w->mem, w->tensors.items);
    tq_free(w->mem, w);
}

toque_status tq_gguf_writer_new(tq_gguf_writer **result, tq_mem *mem, const char *path, toque_error *err) {
    *result = NULL;
    tq_gguf_writer *w = TQ_NEW(mem, tq_gguf_writer);
    if (!w) return TQ_NOMEM(err);
    w->mem = mem;
    tq_buf_init(&w->values, mem, MAX_META);
    tq_buf_init(&w->table, mem, MAX_META);
    tq_arena_init(&w->arena, mem, 1 << 12);
    toque_status status = path ? tq_out_open(&w->out, mem, path, err) : TOQUE_OK;
    if (status != TOQUE_OK) {
        writer_free(w);
        return status;
    }
    *result = w;
    return TOQUE_OK;
}

void tq_gguf_writer_abort(tq_gguf_writer *w) {
    if (!w) return;
    tq_out_abort(w->out);
    writer_free(w);
}

/* Declares a name of len bytes among the entries. */
static toque_status declare(tq_gguf_writer *w, entries *list, const char *name, size_t len, const char *kind,
                            toque_error *err) {
    if (w->begun) return TQ_FAIL(err, EINVAL, "%s %.*s was declared after the data began", kind, (int)len, name);
    if (!tq_name_ok(name, len) || len > 1023)
        return TQ_FAIL(err, EINVAL, "a %s has a name that is empty, longer than 1023 bytes or holds control characters",
                       kind);
    uint64_t hash = tq_name_hash(name, len);
    for (size_t i = 0; i < list->len; i++)
        if (list->items[i].hash == hash && strlen(list->items[i].name) == len &&
            memcmp(list->items[i].name, name, len) == 0)
            return TQ_FAIL(err, EINVAL, "%s %.*s was declared twice", kind, (int)len, name);
    if (!TQ_GROW(w->mem, list->items, list->len, list->cap)) return TQ_NOMEM(err);
    char *copy = tq_arena_strndup(&w->arena, name, len);
    if (!copy) return TQ_NOMEM(err);
    list->items[list->len++] = (entry){.name = copy, .hash = hash};
    return TOQUE_OK;
}

static void put_u32(tq_buf *b, uint32_t v) {
    tq_buf_put(b, &v, sizeof v);
}

static void put_u64(tq_buf *b, uint64_t v) {
    tq_buf_put(b, &v, sizeof v);
}

static void put_string(tq_buf *b, const char *s, size_t n) {
    put_u64(b, n);
    tq_buf_put(b, s, n);
}

/* Opens a value: key and type; the payload follows. */
static toque_status begin_value(tq_gguf_writer *w, const char *key, size_t n, tq_gguf_type type, toque_error *err) {
    if (n == 17 && memcmp(key, "general.alignment", 17) == 0)
        return TQ_FAIL(err, EINVAL, "general.alignment is the writer's own (%d)", ALIGNMENT);
    TQ_TRY(declare(w, &w->keys, key, n, "metadata key", err));
    put_string(&w->values, key, n);
    put_u32(&w->values, type);
    return TOQUE_OK;
}

static toque_status end_value(const tq_gguf_writer *w, toque_error *err) {
    return tq_buf_status(&w->values, "the metadata", err);
}

static toque_status put_plain(tq_gguf_writer *w, const char *key, tq_gguf_type type, const void *data, size_t n,
                              toque_error *err) {
    TQ_TRY(begin_value(w, key, strlen(key), type, err));
    tq_buf_put(&w->values, data, n);
    return end_value(w, err);
}

toque_status tq_gguf_put_u32(tq_gguf_writer *w, const char *key, uint32_t v, toque_error *err) {
    return put_plain(w, key, TQ_GGUF_U32, &v, sizeof v, err);
}

toque_status tq_gguf_put_f32(tq_gguf_writer *w, const char *key, float v, toque_error *err) {
    return put_plain(w, key, TQ_GGUF_F32, &v, sizeof v, err);
}

toque_status tq_gguf_put_bool(tq_gguf_writer *w, const char *key, bool v, toque_error *err) {
    uint8_t byte = v;
    return put_plain(w, key, TQ_GGUF_BOOL, &byte, 1, err);
}

toque_status tq_gguf_put_str(tq_gguf_writer *w, const char *key, const char *s, size_t n, toque_error *err) {
    TQ_TRY(begin_value(w, key, strlen(key), TQ_GGUF_STRING, err));
    put_string(&w->values, s, n);
    return end_value(w, err);
}

/* An array's head; the items follow. */
static toque_status begin_array(tq_gguf_writer *w, const char *key, size_t len, tq_gguf_type item, uint64_t n,
                                toque_error *err) {
    TQ_TRY(begin_value(w, key, len, TQ_GGUF_ARRAY, err));
    put_u32(&w->values, item);
    put_u64(&w->values, n);
    return TOQUE_OK;
}

toque_status tq_gguf_put_strings(tq_gguf_writer *w, const char *key, const tq_string *s, size_t n, toque_error *err) {
    TQ_TRY(begin_array(w, key, strlen(key), TQ_GGUF_STRING, n, err));
    for (size_t i = 0; i < n; i++) put_string(&w->values, s[i].data, s[i].len);
    return end_value(w, err);
}

toque_status tq_gguf_put_numbers(tq_gguf_writer *w, const char *key, tq_gguf_type item, const void *data, size_t n,
                                 toque_error *err) {
    size_t size = tq_gguf_type_size(item), bytes;
    if (!size) return TQ_FAIL(err, EINVAL, "%s: an array of numbers cannot have items of type %d", key, item);
    if (__builtin_mul_overflow(n, size, &bytes)) return TQ_FAIL(err, ELIMIT, "%s: %zu numbers are too many", key, n);
    TQ_TRY(begin_array(w, key, strlen(key), item, n, err));
    tq_buf_put(&w->values, data, bytes);
    return end_value(w, err);
}

toque_status tq_gguf_put_value(tq_gguf_writer *w, const tq_gguf_value *v, toque_error *err) {
    if (v->key.len == 17 && memcmp(v->key.data, "general.alignment", 17) == 0) return TOQUE_OK;
    if (v->type == TQ_GGUF_ARRAY)
        TQ_TRY(begin_array(w, v->key.data, v->key.len, v->item, v->count, err));
    else
        TQ_TRY(begin_value(w, v->key.data, v->key.len, v->type, err));
    tq_buf_put(&w->values, v->data, (size_t)v->bytes);
    return end_value(w, err);
}

toque_status tq_gguf_put_tensor(tq_gguf_writer *w, const char *name, tq_type type, int n_dims, const int64_t *dims,
                                toque_error *err) {
    const tq_type_info *info = tq_type_get(type);
    if (!info) return TQ_FAIL(err, EINVAL, "tensor %s: type %d is unknown", name, (int)type);
    if (n_dims < 1 || n_dims > TQ_MAX_DIMS)
        return TQ_FAIL(err, EINVAL, "tensor %s: %d dimensions, expected 1 to %d", name, n_dims, TQ_MAX_DIMS);
    int64_t all = 1;
    for (int i = 0; i < n_dims; i++)
        if (dims[i] <= 0 || __builtin_mul_overflow(all, dims[i], &all) || all > INT64_MAX / 64)
            return TQ_FAIL(err, EINVAL, "tensor %s: dimension %lld is not possible", name, (long long)dims[i]);
    if (dims[0] % info->block)
        return TQ_FAIL(err, EINVAL, "tensor %s: rows of %lld elements, %s needs a multiple of %d", name,
                       (long long)dims[0], info->name, info->block);
    uint64_t bytes = (uint64_t)(all / info->block) * (uint64_t)info->bytes;
    uint64_t total;
    if (__builtin_add_overflow(w->data_size, padded(bytes), &total) || total > INT64_MAX)
        return TQ_FAIL(err, ELIMIT, "tensor %s: the file would be over 2^63 bytes", name);
    TQ_TRY(declare(w, &w->tensors, name, strlen(name), "tensor", err));
    w->tensors.items[w->tensors.len - 1].bytes = bytes;
    put_string(&w->table, name, strlen(name));
    put_u32(&w->table, (uint32_t)n_dims);
    tq_buf_put(&w->table, dims, (size_t)n_dims * sizeof dims[0]);
    put_u32(&w->table, (uint32_t)type);
    put_u64(&w->table, w->data_size);
    w->data_size = total;
    return tq_buf_status(&w->table, "the tensor table", err);
}

static toque_status emit(tq_gguf_writer *w, const void *data, size_t n, toque_error *err) {
    toque_status status = tq_out_write(w->out, data, n, err);
    if (status != TOQUE_OK) w->failed = true;
    return status;
}

static toque_status pad(tq_gguf_writer *w, toque_error *err) {
    static const char zeros[ALIGNMENT];
    uint64_t at = tq_out_offset(w->out);
    return emit(w, zeros, (size_t)(padded(at) - at), err);
}

typedef struct file_head {
    char magic[4];
    uint32_t version;
    uint64_t n_tensors, n_values;
} file_head;
_Static_assert(sizeof(file_head) == 24, "no padding");

static file_head head_of(const tq_gguf_writer *w) {
    return (file_head){{'G', 'G', 'U', 'F'}, 3, w->tensors.len, w->keys.len};
}

/* A declaration that ran out of memory left half a record behind: the buffers' sticky failure stops it here. */
static toque_status begin_data(tq_gguf_writer *w, toque_error *err) {
    if (w->begun) return TOQUE_OK;
    TQ_TRY(tq_buf_status(&w->values, "the metadata", err));
    TQ_TRY(tq_buf_status(&w->table, "the tensor table", err));
    file_head head = head_of(w);
    w->begun = true;
    TQ_TRY(emit(w, &head, sizeof head, err));
    TQ_TRY(emit(w, w->values.data, w->values.len, err));
    TQ_TRY(emit(w, w->table.data, w->table.len, err));
    return pad(w, err);
}

toque_status tq_gguf_write_data(tq_gguf_writer *w, const void *data, size_t n, toque_error *err) {
    if (w->next >= w->tensors.len) return TQ_FAIL(err, EINVAL, "data for a tensor that was not declared");
    const entry *t = &w->tensors.items[w->next];
    if (n != t->bytes)
        return TQ_FAIL(err, EINVAL, "tensor %s: %zu bytes of data, expected %llu", t->name, n,
                       (unsigned long long)t->bytes);
    TQ_TRY(begin_data(w, err));
    TQ_TRY(emit(w, data, n, err));
    w->next++;
    return pad(w, err);
}

toque_status tq_gguf_writer_commit(tq_gguf_writer *w, toque_error *err) {
    toque_status status = w->failed ? TQ_FAIL(err, EIO, "an earlier write to this file failed") : begin_data(w, err);
    if (status == TOQUE_OK && w->next < w->tensors.len)
        status = TQ_FAIL(err, EINVAL, "tensor %s was declared but has no data", w->tensors.items[w->next].name);
    if (status == TOQUE_OK)
        status = tq_out_commit(w->out, err);
    else
        tq_out_abort(w->out);
    writer_free(w);
    return status;
}

toque_status tq_gguf_writer_take(tq_gguf_writer *w, uint8_t **data, size_t *size, toque_error *err) {
    *data = NULL;
    *size = 0;
    toque_status status = tq_buf_status(&w->values, "the metadata", err);
    if (status == TOQUE_OK && w->tensors.len)
        status = TQ_FAIL(err, EINVAL, "a writer in memory takes metadata, not tensors");
    uint8_t *block = status == TOQUE_OK ? tq_alloc(w->mem, sizeof(file_head) + w->values.len, 1) : NULL;
    if (block) {
        file_head head = head_of(w);
        memcpy(block, &head, sizeof head);
        memcpy(block + sizeof head, w->values.data, w->values.len);
        *data = block;
        *size = sizeof head + w->values.len;
    } else if (status == TOQUE_OK) {
        status = TQ_NOMEM(err);
    }
    tq_gguf_writer_abort(w);
    return status;
}
