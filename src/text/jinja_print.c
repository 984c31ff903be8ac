/* Values as text: str() and repr() of Python, and json.dumps as the filter tojson of transformers calls it. Bytes of
 * strings keep their marks through escaping; punctuation and numbers carry the origin of the value they print. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "text/jinja.h"

/* The shortest digits that read back as f; fixed notation for exponents -4 .. 15. */
size_t tq_j_format_float(double f, char out[TQ_J_NUMBER]) {
    if (isnan(f)) return (size_t)snprintf(out, TQ_J_NUMBER, "nan");
    if (isinf(f)) return (size_t)snprintf(out, TQ_J_NUMBER, f < 0 ? "-inf" : "inf");
    char digits[TQ_J_NUMBER];
    int precision = 0;
    do snprintf(digits, sizeof digits, "%.*e", precision, f);
    while (strtod(digits, NULL) != f && ++precision < 17);
    int exponent = (int)strtol(strchr(digits, 'e') + 1, NULL, 10);
    if (exponent >= -4 && exponent < 16) {
        int decimals = precision - exponent > 1 ? precision - exponent : 1;
        return (size_t)snprintf(out, TQ_J_NUMBER, "%.*f", decimals, f);
    }
    return (size_t)snprintf(out, TQ_J_NUMBER, "%s", digits); /* C, too, writes two digits of exponent or more */
}

static bool printable(int32_t cp) {
    if (cp == ' ') return true;
    switch (utf8proc_category(cp)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS: return false;
    default: return true;
    }
}

static tq_origin quote_origin(const tq_jval *v) {
    size_t end;
    return v->s->len ? tq_jstr_origin(v->s, 0, &end) : tq_j_origin(v);
}

/* How a code point is written inside quotes: in `to`, or as it is when 0 is returned. */
typedef size_t escaper(int32_t cp, int32_t quote, char to[16]);

static size_t repr_escape(int32_t cp, int32_t quote, char to[16]) {
    static const char from[] = "\n\r\t\\", into[] = "nrt\\";
    const char *hit = cp && cp < 128 ? strchr(from, (char)cp) : NULL;
    if (hit) return (size_t)snprintf(to, 16, "\\%c", into[hit - from]);
    if (cp == quote) return (size_t)snprintf(to, 16, "\\%c", (char)cp);
    if (printable(cp)) return 0;
    return (size_t)snprintf(to, 16, cp < 256 ? "\\x%02x" : cp < 65536 ? "\\u%04x" : "\\U%08x", (unsigned)cp);
}

static size_t json_escape(int32_t cp, int32_t ascii, char to[16]) {
    static const char from[] = "\n\r\t\\\"\b\f", into[] = "nrt\\\"bf";
    const char *hit = cp && cp < 128 ? strchr(from, (char)cp) : NULL;
    if (hit) return (size_t)snprintf(to, 16, "\\%c", into[hit - from]);
    if (cp < 32 || (ascii && cp > 126 && cp < 65536))
        return cp == 127 ? 0 : (size_t)snprintf(to, 16, "\\u%04x", (unsigned)cp);
    if (!ascii || cp < 128) return 0;
    unsigned high = 0xD800 + (((unsigned)cp - 0x10000) >> 10), low = 0xDC00 + (((unsigned)cp - 0x10000) & 0x3FF);
    return (size_t)snprintf(to, 16, "\\u%04x\\u%04x", high, low);
}

static toque_status quoted(tq_jrun *j, tq_jbytes *b, const tq_jval *v, char quote, escaper *esc, int32_t arg) {
    const tq_jstr *s = v->s;
    const char *p = tq_jstr_data(s);
    tq_origin o = quote_origin(v);
    size_t done = 0;
    TQ_J_STEP(j, s->len / 16);
    TQ_TRY(tq_j_put(j, b, &quote, 1, o));
    for (size_t i = 0, n; i < s->len; i += n) {
        int32_t cp;
        char to[16];
        size_t end;
        n = tq_j_decode(p + i, s->len - i, &cp);
        size_t m = esc(cp, arg, to);
        if (!m) continue;
        TQ_TRY(tq_j_put_part(j, b, s, done, i - done));
        TQ_TRY(tq_j_put(j, b, to, m, tq_jstr_origin(s, i, &end)));
        done = i + n;
    }
    TQ_TRY(tq_j_put_part(j, b, s, done, s->len - done));
    if (s->len) {
        size_t end;
        o = tq_jstr_origin(s, s->len - 1, &end);
    }
    return tq_j_put(j, b, &quote, 1, o);
}

static toque_status repr_string(tq_jrun *j, tq_jbytes *b, const tq_jval *v) {
    const char *p = tq_jstr_data(v->s);
    bool single = v->s->len && memchr(p, '\'', v->s->len), both = single && memchr(p, '"', v->s->len);
    char quote = single && !both ? '"' : '\'';
    if (!v->safe) return quoted(j, b, v, quote, repr_escape, quote);
    TQ_TRY(tq_j_puts(j, b, "Markup(", tq_j_template_origin));
    TQ_TRY(quoted(j, b, v, quote, repr_escape, quote));
    return tq_j_puts(j, b, ")", tq_j_template_origin);
}

static toque_status repr_list(tq_jrun *j, tq_jbytes *b, const tq_jval *list, const char *open, const char *close) {
    tq_origin o = tq_j_origin(list);
    const tq_jlist *items;
    TQ_TRY(tq_j_items(j, list, &items));
    TQ_TRY(tq_j_puts(j, b, open, o));
    for (size_t i = 0; i < items->len; i++) {
        if (i) TQ_TRY(tq_j_puts(j, b, ", ", o));
        TQ_TRY(tq_j_put_repr(j, b, &tq_jlist_items(items)[i]));
    }
    if (list->type == TQ_J_TUPLE && items->len == 1) TQ_TRY(tq_j_puts(j, b, ",", o));
    return tq_j_puts(j, b, close, o);
}

static toque_status repr_dict(tq_jrun *j, tq_jbytes *b, const tq_jval *v) {
    tq_origin o = tq_j_origin(v);
    bool ns = v->type == TQ_J_NAMESPACE;
    TQ_TRY(tq_j_puts(j, b, ns ? "<Namespace {" : "{", o));
    for (size_t i = 0; i < v->dict->len; i++) {
        if (i) TQ_TRY(tq_j_puts(j, b, ", ", o));
        TQ_TRY(tq_j_put_repr(j, b, &v->dict->keys[i]));
        TQ_TRY(tq_j_puts(j, b, ": ", o));
        TQ_TRY(tq_j_put_repr(j, b, &v->dict->values[i]));
    }
    return tq_j_puts(j, b, ns ? "}>" : "}", o);
}

static toque_status put_number(tq_jrun *j, tq_jbytes *b, const tq_jval *v) {
    char text[TQ_J_NUMBER];
    size_t n = v->type == TQ_J_FLOAT ? tq_j_format_float(v->f, text)
                                     : (size_t)snprintf(text, sizeof text, "%lld", (long long)v->i);
    return tq_j_put(j, b, text, n, tq_j_origin(v));
}

static toque_status put_object(tq_jrun *j, tq_jbytes *b, const tq_jval *v) {
    char text[100];
    if (v->type == TQ_J_RANGE) {
        const tq_jrange *r = v->range;
        long long stop = r->start + (int64_t)r->len * r->step;
        if (r->step == 1)
            snprintf(text, sizeof text, "range(%lld, %lld)", (long long)r->start, stop);
        else
            snprintf(text, sizeof text, "range(%lld, %lld, %lld)", (long long)r->start, stop, (long long)r->step);
    } else if (v->type == TQ_J_MACRO) {
        const tq_jstr *name = v->macro->node->value.s;
        snprintf(text, sizeof text, "<Macro '%.*s'>", (int)(name->len < 80 ? name->len : 80), tq_jstr_data(name));
    } else if (v->type == TQ_J_LOOP) {
        snprintf(text, sizeof text, "<LoopContext %zu/%zu>", v->loop->index0 + 1, v->loop->items->len);
    } else {
        snprintf(text, sizeof text, "<%s>", tq_j_type_name(v));
    }
    return tq_j_puts(j, b, text, tq_j_template_origin);
}

toque_status tq_j_put_repr(tq_jrun *j, tq_jbytes *b, const tq_jval *v) {
    toque_status status;
    TQ_J_STEP(j, 1);
    TQ_TRY(tq_j_enter(j));
    switch ((tq_jtype)v->type) {
    case TQ_J_UNDEFINED: status = tq_j_puts(j, b, "Undefined", tq_j_origin(v)); break;
    case TQ_J_NONE: status = tq_j_puts(j, b, "None", tq_j_origin(v)); break;
    case TQ_J_BOOL: status = tq_j_puts(j, b, v->b ? "True" : "False", tq_j_origin(v)); break;
    case TQ_J_INT:
    case TQ_J_FLOAT: status = put_number(j, b, v); break;
    case TQ_J_STR: status = repr_string(j, b, v); break;
    case TQ_J_LIST: status = repr_list(j, b, v, "[", "]"); break;
    case TQ_J_TUPLE: status = repr_list(j, b, v, "(", ")"); break;
    case TQ_J_DICT:
    case TQ_J_NAMESPACE: status = repr_dict(j, b, v); break;
    case TQ_J_VIEW: {
        static const char *const open[] = {"dict_items([", "dict_keys([", "dict_values(["};
        status = repr_list(j, b, v, open[v->view->kind], "])");
        break;
    }
    default: status = put_object(j, b, v);
    }
    tq_j_leave(j);
    return status;
}

toque_status tq_j_put_value(tq_jrun *j, tq_jbytes *b, const tq_jval *v) {
    if (v->type == TQ_J_STR) return tq_j_put_str(j, b, v->s);
    if (v->type == TQ_J_UNDEFINED || v->type == TQ_J_MISSING) return TOQUE_OK;
    return tq_j_put_repr(j, b, v);
}

toque_status tq_j_str(tq_jrun *j, const tq_jval *v, tq_jval *out) {
    if (v->type == TQ_J_STR) {
        *out = *v;
        return TOQUE_OK;
    }
    tq_jbytes *b = tq_j_bytes(j, 32);
    if (!b) return tq_j_full(j);
    TQ_TRY(tq_j_put_value(j, b, v));
    return tq_j_finish(j, b, out);
}

/* ---- JSON ---- */

static toque_status newline(tq_jrun *j, tq_jbytes *b, const tq_jjson *how, size_t level, tq_origin o) {
    if (!how->pretty) return TOQUE_OK;
    TQ_TRY(tq_j_puts(j, b, "\n", o));
    for (size_t i = 0; i < level; i++) TQ_TRY(tq_j_put(j, b, tq_jstr_data(how->indent.s), how->indent.s->len, o));
    return TOQUE_OK;
}

/* A separator; its bytes belong to the value that it parts. */
static toque_status separator(tq_jrun *j, tq_jbytes *b, const tq_jval *text, tq_origin o) {
    return tq_j_put(j, b, tq_jstr_data(text->s), text->s->len, o);
}

static toque_status json_key(tq_jrun *j, tq_jbytes *b, const tq_jval *key, const tq_jjson *how) {
    tq_jval text = *key;
    switch ((tq_jtype)key->type) {
    case TQ_J_STR: break;
    case TQ_J_INT:
    case TQ_J_FLOAT: TQ_TRY(tq_j_str(j, key, &text)); break;
    case TQ_J_BOOL: TQ_TRY(tq_j_text(j, key->b ? "true" : "false", key->b ? 4 : 5, tq_j_origin(key), &text)); break;
    case TQ_J_NONE: TQ_TRY(tq_j_text(j, "null", 4, tq_j_origin(key), &text)); break;
    default: return TQ_J_FAIL(j, "a %s cannot be a key in JSON", tq_j_type_name(key));
    }
    return quoted(j, b, &text, '"', json_escape, how->ascii);
}

static toque_status json_dict(tq_jrun *j, tq_jbytes *b, const tq_jval *v, const tq_jjson *how, size_t level) {
    tq_origin o = tq_j_origin(v);
    size_t n = v->dict->len;
    tq_jval *keys = v->dict->keys, *values = v->dict->values;
    if (!n) return tq_j_puts(j, b, "{}", o);
    if (how->sort) {
        keys = tq_j_alloc(j, n, sizeof *keys);
        values = keys ? tq_j_alloc(j, n, sizeof *values) : NULL;
        if (!values) return tq_j_full(j);
        memcpy(keys, v->dict->keys, n * sizeof *keys);
        memcpy(values, v->dict->values, n * sizeof *values);
        TQ_TRY(tq_j_sort(j, values, keys, n, false));
    }
    TQ_TRY(tq_j_puts(j, b, "{", o));
    for (size_t i = 0; i < n; i++) {
        if (i) TQ_TRY(separator(j, b, &how->comma, o));
        TQ_TRY(newline(j, b, how, level + 1, o));
        TQ_TRY(json_key(j, b, &keys[i], how));
        TQ_TRY(separator(j, b, &how->colon, o));
        TQ_TRY(tq_j_put_json(j, b, &values[i], how, level + 1));
    }
    TQ_TRY(newline(j, b, how, level, o));
    return tq_j_puts(j, b, "}", o);
}

static toque_status json_list(tq_jrun *j, tq_jbytes *b, const tq_jval *v, const tq_jjson *how, size_t level) {
    tq_origin o = tq_j_origin(v);
    if (!v->list->len) return tq_j_puts(j, b, "[]", o);
    TQ_TRY(tq_j_puts(j, b, "[", o));
    for (size_t i = 0; i < v->list->len; i++) {
        if (i) TQ_TRY(separator(j, b, &how->comma, o));
        TQ_TRY(newline(j, b, how, level + 1, o));
        TQ_TRY(tq_j_put_json(j, b, &tq_jlist_items(v->list)[i], how, level + 1));
    }
    TQ_TRY(newline(j, b, how, level, o));
    return tq_j_puts(j, b, "]", o);
}

toque_status tq_j_put_json(tq_jrun *j, tq_jbytes *b, const tq_jval *v, const tq_jjson *how, size_t level) {
    toque_status status;
    tq_origin o = tq_j_origin(v);
    TQ_J_STEP(j, 1);
    TQ_TRY(tq_j_enter(j));
    switch ((tq_jtype)v->type) {
    case TQ_J_NONE: status = tq_j_puts(j, b, "null", o); break;
    case TQ_J_BOOL: status = tq_j_puts(j, b, v->b ? "true" : "false", o); break;
    case TQ_J_FLOAT:
        if (isfinite(v->f))
            status = put_number(j, b, v);
        else
            status = tq_j_puts(j, b, isnan(v->f) ? "NaN" : v->f < 0 ? "-Infinity" : "Infinity", o);
        break;
    case TQ_J_INT: status = put_number(j, b, v); break;
    case TQ_J_STR: status = quoted(j, b, v, '"', json_escape, how->ascii); break;
    case TQ_J_LIST:
    case TQ_J_TUPLE: status = json_list(j, b, v, how, level); break;
    case TQ_J_DICT: status = json_dict(j, b, v, how, level); break;
    default: status = TQ_J_FAIL(j, "a value of type %s cannot be written as JSON", tq_j_type_name(v));
    }
    tq_j_leave(j);
    return status;
}
