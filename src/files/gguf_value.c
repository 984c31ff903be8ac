/* GGUF metadata as C values. See gguf.h. The encoded bytes were checked when the file was opened; what can still
 * be wrong here is a type or a number that does not fit. */
#include "files/gguf.h"

#include <math.h>
#include <string.h>

static const char *const type_names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                         "bool", "string", "array", "u64", "i64", "f64"};

static toque_status fail_type(const tq_gguf *g, const tq_gguf_value *v, const char *want, toque_error *err) {
    return TQ_FAIL(err, EFORMAT, "%s: the value of %.*s has type %s, expected %s", tq_gguf_path(g), (int)v->key.len,
                   v->key.data, type_names[v->type], want);
}

size_t tq_gguf_type_size(tq_gguf_type type) {
    switch (type) {
    case TQ_GGUF_U8:
    case TQ_GGUF_I8:
    case TQ_GGUF_BOOL: return 1;
    case TQ_GGUF_U16:
    case TQ_GGUF_I16: return 2;
    case TQ_GGUF_U32:
    case TQ_GGUF_I32:
    case TQ_GGUF_F32: return 4;
    case TQ_GGUF_U64:
    case TQ_GGUF_I64:
    case TQ_GGUF_F64: return 8;
    case TQ_GGUF_STRING:
    case TQ_GGUF_ARRAY: break;
    }
    return 0;
}

/* n <= 8 little-endian bytes, unaligned. */
static uint64_t load(const uint8_t *p, size_t n) {
    uint64_t x = 0;
    memcpy(&x, p, n);
    return x;
}

/* The same in two's complement. */
static int64_t load_signed(const uint8_t *p, size_t n) {
    size_t shift = 64 - 8 * n;
    return (int64_t)(load(p, n) << shift) >> shift;
}

static float load_f32(const uint8_t *p) {
    float x;
    memcpy(&x, p, sizeof x);
    return x;
}

static double load_f64(const uint8_t *p) {
    double x;
    memcpy(&x, p, sizeof x);
    return x;
}

/* An integer or bool as magnitude and sign; false for other types. */
static bool integer(tq_gguf_type type, const uint8_t *p, uint64_t *value, bool *negative) {
    int64_t i;
    *negative = false;
    switch (type) {
    case TQ_GGUF_U8: *value = *p; return true;
    case TQ_GGUF_BOOL: *value = *p != 0; return true;
    case TQ_GGUF_U16: *value = load(p, 2); return true;
    case TQ_GGUF_U32: *value = load(p, 4); return true;
    case TQ_GGUF_U64: *value = load(p, 8); return true;
    case TQ_GGUF_I8: i = load_signed(p, 1); break;
    case TQ_GGUF_I16: i = load_signed(p, 2); break;
    case TQ_GGUF_I32: i = load_signed(p, 4); break;
    case TQ_GGUF_I64: i = load_signed(p, 8); break;
    default: return false;
    }
    *negative = i < 0;
    *value = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    return true;
}

static double number(tq_gguf_type type, const uint8_t *p) {
    uint64_t value;
    bool negative;
    if (type == TQ_GGUF_F32) return (double)load_f32(p);
    if (type == TQ_GGUF_F64) return load_f64(p);
    if (!integer(type, p, &value, &negative)) return NAN;
    return negative ? -(double)value : (double)value;
}

toque_status tq_gguf_u32(const tq_gguf *g, const char *key, uint32_t *out, toque_error *err) {
    const tq_gguf_value *v = tq_gguf_find(g, key);
    if (!v) return TOQUE_OK;
    uint64_t value;
    bool negative;
    if (!integer(v->type, v->data, &value, &negative)) return fail_type(g, v, "an integer", err);
    if (negative || value > UINT32_MAX)
        return TQ_FAIL(err, EFORMAT, "%s: the value of %s is %s%llu, expected 0 to %u", tq_gguf_path(g), key,
                       negative ? "-" : "", (unsigned long long)value, UINT32_MAX);
    *out = (uint32_t)value;
    return TOQUE_OK;
}

toque_status tq_gguf_f32(const tq_gguf *g, const char *key, float *out, toque_error *err) {
    const tq_gguf_value *v = tq_gguf_find(g, key);
    if (!v) return TOQUE_OK;
    if (v->type != TQ_GGUF_F32 && v->type != TQ_GGUF_F64) return fail_type(g, v, "a floating-point number", err);
    double d = number(v->type, v->data);
    if (!isfinite((float)d))
        return TQ_FAIL(err, EFORMAT, "%s: the value of %s is %g, expected a finite f32", tq_gguf_path(g), key, d);
    *out = (float)d;
    return TOQUE_OK;
}

toque_status tq_gguf_bool(const tq_gguf *g, const char *key, bool *out, toque_error *err) {
    const tq_gguf_value *v = tq_gguf_find(g, key);
    if (!v) return TOQUE_OK;
    if (v->type != TQ_GGUF_BOOL) return fail_type(g, v, "bool", err);
    if (*v->data > 1)
        return TQ_FAIL(err, EFORMAT, "%s: the value of %s is %u, a bool is 0 or 1", tq_gguf_path(g), key, *v->data);
    *out = *v->data == 1;
    return TOQUE_OK;
}

toque_status tq_gguf_str(const tq_gguf *g, const char *key, tq_string *out, toque_error *err) {
    const tq_gguf_value *v = tq_gguf_find(g, key);
    if (!v) return TOQUE_OK;
    if (v->type != TQ_GGUF_STRING) return fail_type(g, v, "a string", err);
    *out = (tq_string){.data = (const char *)v->data + 8, .len = (size_t)(v->bytes - 8)};
    return TOQUE_OK;
}

bool tq_gguf_next_string(const tq_gguf_value *v, const uint8_t **at, tq_string *out) {
    if (v->item != TQ_GGUF_STRING || *at >= v->data + v->bytes) return false;
    uint64_t n = load(*at, 8);
    *out = (tq_string){.data = (const char *)*at + 8, .len = (size_t)n};
    *at += 8 + n;
    return true;
}

double tq_gguf_number_at(const tq_gguf_value *v, uint64_t i) {
    if (i >= v->count || v->item == TQ_GGUF_STRING || v->item == TQ_GGUF_ARRAY) return NAN;
    return number(v->item, v->data + i * (v->bytes / v->count));
}
