/* Strings of the template interpreter: windows on byte stores whose runs of bytes carry their origin. Appending,
 * slicing and rewriting keep the marks; nothing here ever loses where a byte came from. */
#include <string.h>
#include <utf8proc.h>

#include "text/jinja.h"

toque_status tq_j_step(tq_jrun *j, uint64_t n) {
    j->steps += n;
    if (j->steps <= j->max_steps) return TOQUE_OK;
    return TQ_FAIL(j->err, ELIMIT, "rendering takes more than %llu steps", (unsigned long long)j->max_steps);
}

toque_status tq_j_enter(tq_jrun *j) {
    if (j->depth >= TQ_J_MAX_DEPTH)
        return TQ_FAIL(j->err, ELIMIT, "evaluation is nested more than %d levels deep", TQ_J_MAX_DEPTH);
    j->depth++;
    return TOQUE_OK;
}

void *tq_j_alloc(tq_jrun *j, size_t n, size_t size) {
    size_t bytes;
    j->over = __builtin_mul_overflow(n, size, &bytes) || bytes > j->room;
    if (j->over) return NULL;
    j->room -= bytes + 16 < j->room ? bytes + 16 : j->room;
    return tq_arena_alloc(&j->arena, n, size);
}

void tq_j_tell_full(tq_jrun *j) {
    if (j->over)
        tq_fail(j->err, TOQUE_ELIMIT, "rendering needs more memory than %zu bytes of output may take", j->max_bytes);
    else
        (void)TQ_NOMEM(j->err);
}

tq_jbytes *tq_j_bytes(tq_jrun *j, size_t cap) {
    if (cap < 32) cap = 32;
    tq_jbytes *b = tq_j_alloc(j, 1, sizeof *b);
    if (!b) return NULL;
    b->data = tq_j_alloc(j, cap, 1);
    b->cap = cap;
    b->spans = &b->one;
    b->cap_spans = 1;
    return b->data ? b : NULL;
}

static toque_status reserve(tq_jrun *j, tq_jbytes *b, size_t n) {
    if (n > j->max_bytes || b->len > j->max_bytes - n)
        return TQ_FAIL(j->err, ELIMIT, "a text of more than %zu bytes", j->max_bytes);
    if (b->cap - b->len >= n) return TOQUE_OK;
    size_t cap = b->cap * 2 > b->len + n ? b->cap * 2 : b->len + n;
    char *data = tq_j_alloc(j, cap, 1);
    if (!data) return tq_j_full(j);
    memcpy(data, b->data, b->len);
    b->data = data; /* the old bytes stay valid for the run */
    b->cap = cap;
    return TOQUE_OK;
}

static bool same(tq_origin a, tq_origin b) {
    return a.message == b.message && a.field == b.field && a.generation == b.generation;
}

/* Marks everything up to the store's present length. */
static toque_status mark(tq_jrun *j, tq_jbytes *b, tq_origin o) {
    if (b->n_spans && same(b->spans[b->n_spans - 1].origin, o)) {
        b->spans[b->n_spans - 1].end = b->len;
        return TOQUE_OK;
    }
    if (b->n_spans == b->cap_spans) {
        size_t cap = b->cap_spans * 4;
        tq_jspan *spans = tq_j_alloc(j, cap, sizeof *spans);
        if (!spans) return tq_j_full(j);
        memcpy(spans, b->spans, b->n_spans * sizeof *spans);
        b->spans = spans;
        b->cap_spans = cap;
    }
    b->spans[b->n_spans++] = (tq_jspan){b->len, o};
    return TOQUE_OK;
}

toque_status tq_j_put(tq_jrun *j, tq_jbytes *b, const char *data, size_t n, tq_origin o) {
    if (!n) return TOQUE_OK;
    TQ_J_STEP(j, n / 64);
    TQ_TRY(reserve(j, b, n));
    memcpy(b->data + b->len, data, n);
    b->len += n;
    return mark(j, b, o);
}

toque_status tq_j_puts(tq_jrun *j, tq_jbytes *b, const char *s, tq_origin o) {
    return tq_j_put(j, b, s, strlen(s), o);
}

/* The span that holds offset `at` of the store. */
static size_t span_at(const tq_jbytes *b, size_t at) {
    size_t low = 0, high = b->n_spans;
    while (low + 1 < high) {
        size_t mid = (low + high) / 2;
        if (b->spans[mid - 1].end <= at)
            low = mid;
        else
            high = mid;
    }
    return low;
}

tq_origin tq_jstr_origin(const tq_jstr *s, size_t at, size_t *end) {
    const tq_jspan *span = &s->bytes->spans[span_at(s->bytes, s->start + at)];
    *end = span->end - s->start < s->len ? span->end - s->start : s->len;
    return span->origin;
}

toque_status tq_j_put_part(tq_jrun *j, tq_jbytes *b, const tq_jstr *s, size_t start, size_t len) {
    for (size_t at = start, end; at < start + len; at = end) {
        tq_origin o = tq_jstr_origin(s, at, &end);
        if (end > start + len) end = start + len;
        TQ_TRY(tq_j_put(j, b, tq_jstr_data(s) + at, end - at, o));
    }
    return TOQUE_OK;
}

toque_status tq_j_put_str(tq_jrun *j, tq_jbytes *b, const tq_jstr *s) {
    return tq_j_put_part(j, b, s, 0, s->len);
}

static toque_status window(tq_jrun *j, tq_jbytes *b, size_t start, size_t len, tq_jval *out) {
    tq_jstr *s = tq_j_alloc(j, 1, sizeof *s);
    if (!s) return tq_j_full(j);
    *s = (tq_jstr){.bytes = b, .start = start, .len = len, .chars = SIZE_MAX};
    *out = (tq_jval){.type = TQ_J_STR, .message = -1, .s = s};
    return TOQUE_OK;
}

toque_status tq_j_finish(tq_jrun *j, tq_jbytes *b, tq_jval *out) {
    return window(j, b, 0, b->len, out);
}

toque_status tq_j_text(tq_jrun *j, const char *s, size_t n, tq_origin o, tq_jval *out) {
    tq_jbytes *b = tq_j_alloc(j, 1, sizeof *b);
    if (!b) return tq_j_full(j);
    *b = (tq_jbytes){.data = (char *)(uintptr_t)s, .len = n, .n_spans = 1, .one = {n, o}};
    b->spans = &b->one;
    return window(j, b, 0, n, out);
}

toque_status tq_j_text_copy(tq_jrun *j, const char *s, size_t n, tq_origin o, tq_jval *out) {
    tq_jbytes *b = tq_j_bytes(j, n);
    if (!b) return tq_j_full(j);
    TQ_TRY(tq_j_put(j, b, s, n, o));
    return tq_j_finish(j, b, out);
}

toque_status tq_j_sub(tq_jrun *j, const tq_jstr *s, size_t start, size_t len, tq_jval *out) {
    return window(j, s->bytes, s->start + start, len, out);
}

toque_status tq_j_cat(tq_jrun *j, const tq_jstr *a, const tq_jstr *b, tq_jval *out) {
    tq_jbytes *store = a->bytes;
    size_t start = a->start;
    if (!a->len || !b->len)
        return a->len ? window(j, a->bytes, a->start, a->len, out) : window(j, b->bytes, b->start, b->len, out);
    if (!store->cap || a->start + a->len != store->len) {
        if (a->len > j->max_bytes || b->len > j->max_bytes - a->len)
            return TQ_FAIL(j->err, ELIMIT, "a text of more than %zu bytes", j->max_bytes);
        store = tq_j_bytes(j, a->len + b->len);
        if (!store) return tq_j_full(j);
        TQ_TRY(tq_j_put_str(j, store, a));
        start = 0;
    }
    TQ_TRY(tq_j_put_str(j, store, b));
    return window(j, store, start, a->len + b->len, out);
}

/* ---- code points ---- */

size_t tq_j_decode(const char *s, size_t n, int32_t *cp) {
    unsigned char c = (unsigned char)s[0];
    if (c < 0x80) {
        *cp = c;
        return 1;
    }
    utf8proc_int32_t value;
    utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)(n < 4 ? n : 4), &value);
    if (used <= 0) {
        *cp = 0xFFFD;
        return 1;
    }
    *cp = value;
    return (size_t)used;
}

size_t tq_j_encode(int32_t cp, char out[4]) {
    return (size_t)utf8proc_encode_char(cp, (utf8proc_uint8_t *)out);
}

bool tq_j_is_space(int32_t c) {
    return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

size_t tq_jstr_chars(tq_jstr *s) {
    if (s->chars != SIZE_MAX) return s->chars;
    const char *p = tq_jstr_data(s);
    size_t n = 0;
    for (size_t i = 0; i < s->len; i++) n += ((unsigned char)p[i] & 0xC0) != 0x80;
    return s->chars = n;
}

size_t tq_jstr_offset(tq_jstr *s, size_t index) {
    if (tq_jstr_chars(s) == s->len) return index < s->len ? index : s->len;
    const char *p = tq_jstr_data(s);
    size_t i = 0;
    for (; i < s->len; i++)
        if (((unsigned char)p[i] & 0xC0) != 0x80 && index-- == 0) break;
    return i;
}

size_t tq_jstr_find(const tq_jstr *s, size_t from, const char *needle, size_t n) {
    if (from > s->len || n > s->len - from) return SIZE_MAX;
    if (!n) return from;
    const char *p = tq_jstr_data(s), *hit = memmem(p + from, s->len - from, needle, n);
    return hit ? (size_t)(hit - p) : SIZE_MAX;
}

bool tq_jstr_is(const tq_jval *v, const char *text) {
    size_t n = strlen(text);
    return v->type == TQ_J_STR && v->s->len == n && memcmp(tq_jstr_data(v->s), text, n) == 0;
}

bool tq_jstr_equal(const tq_jstr *a, const tq_jstr *b) {
    return a->len == b->len && (a->len == 0 || memcmp(tq_jstr_data(a), tq_jstr_data(b), a->len) == 0);
}

/* ---- rewriting ---- */

toque_status tq_j_map(tq_jrun *j, const tq_jstr *s, tq_j_mapping *map, tq_jval *out) {
    tq_jbytes *b = tq_j_bytes(j, s->len);
    if (!b) return tq_j_full(j);
    TQ_J_STEP(j, s->len / 16);
    const char *p = tq_jstr_data(s);
    tq_origin o = tq_j_template_origin;
    size_t end = 0;
    int32_t cp, before = -1;
    for (size_t i = 0, n; i < s->len; i += n, before = cp) {
        char to[4];
        if (i >= end) o = tq_jstr_origin(s, i, &end);
        n = tq_j_decode(p + i, s->len - i, &cp);
        int32_t mapped = map(cp, before);
        if (mapped < 0)
            TQ_TRY(tq_j_puts(j, b, mapped == TQ_J_SHARP_S_UPPER ? "SS" : "Ss", o));
        else
            TQ_TRY(tq_j_put(j, b, to, tq_j_encode(mapped, to), o));
    }
    return tq_j_finish(j, b, out);
}

static bool in_set(const tq_jstr *set, int32_t cp) {
    if (!set) return tq_j_is_space(cp);
    const char *p = tq_jstr_data(set);
    for (size_t i = 0; i < set->len;) {
        int32_t other;
        i += tq_j_decode(p + i, set->len - i, &other);
        if (other == cp) return true;
    }
    return false;
}

toque_status tq_j_strip(tq_jrun *j, const tq_jval *v, const tq_jstr *chars, int side, tq_jval *out) {
    const tq_jstr *s = v->s;
    const char *p = tq_jstr_data(s);
    size_t from = 0, to = s->len, weight = chars ? chars->len / 8 + 1 : 1;
    int32_t cp;
    while ((side & 1) && from < to) {
        size_t n = tq_j_decode(p + from, to - from, &cp);
        if (!in_set(chars, cp)) break;
        from += n;
    }
    while ((side & 2) && to > from) {
        size_t i = to - 1;
        while (i > from && ((unsigned char)p[i] & 0xC0) == 0x80) i--;
        tq_j_decode(p + i, to - i, &cp);
        if (!in_set(chars, cp)) break;
        to = i;
    }
    TQ_J_STEP(j, (s->len - (to - from)) / 16 * weight + 1);
    TQ_TRY(tq_j_sub(j, s, from, to - from, out));
    out->safe = v->safe;
    return TOQUE_OK;
}

toque_status tq_j_replace(tq_jrun *j, const tq_jstr *s, const tq_jstr *old, const tq_jstr *with, int64_t count,
                          tq_jval *out) {
    tq_jbytes *b = tq_j_bytes(j, s->len);
    if (!b) return tq_j_full(j);
    TQ_J_STEP(j, s->len / 16);
    const char *p = tq_jstr_data(s);
    size_t at = 0;
    while (count != 0) {
        size_t hit = tq_jstr_find(s, at, tq_jstr_data(old), old->len), keep = 0;
        if (hit == SIZE_MAX) break;
        TQ_J_STEP(j, 1);
        TQ_TRY(tq_j_put_part(j, b, s, at, hit - at));
        TQ_TRY(tq_j_put_str(j, b, with));
        if (!old->len) { /* between all code points, and at both ends */
            int32_t cp;
            if (hit == s->len) return tq_j_finish(j, b, out);
            keep = tq_j_decode(p + hit, s->len - hit, &cp);
            TQ_TRY(tq_j_put_part(j, b, s, hit, keep));
        }
        at = hit + old->len + keep;
        if (count > 0) count--;
    }
    TQ_TRY(tq_j_put_part(j, b, s, at, s->len - at));
    return tq_j_finish(j, b, out);
}

static bool line_end(int32_t c) {
    return (c >= 10 && c <= 13) || (c >= 28 && c <= 30) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

toque_status tq_j_splitlines(tq_jrun *j, const tq_jstr *s, bool keep_ends, tq_jval *out) {
    TQ_TRY(tq_j_list(j, 4, TQ_J_LIST, out));
    TQ_J_STEP(j, s->len / 16);
    const char *p = tq_jstr_data(s);
    size_t from = 0;
    for (size_t i = 0; i < s->len;) {
        int32_t cp;
        size_t n = tq_j_decode(p + i, s->len - i, &cp);
        if (!line_end(cp)) {
            i += n;
            continue;
        }
        if (cp == '\r' && i + 1 < s->len && p[i + 1] == '\n') n = 2;
        tq_jval line;
        TQ_TRY(tq_j_sub(j, s, from, i - from + (keep_ends ? n : 0), &line));
        TQ_TRY(tq_j_push(j, out, line));
        from = i += n;
    }
    if (from == s->len) return TOQUE_OK;
    tq_jval line;
    TQ_TRY(tq_j_sub(j, s, from, s->len - from, &line));
    return tq_j_push(j, out, line);
}

toque_status tq_j_escape(tq_jrun *j, const tq_jval *v, tq_jval *out) {
    tq_jval text;
    TQ_TRY(tq_j_str(j, v, &text));
    if (v->type == TQ_J_STR && v->safe) {
        *out = *v;
        return TOQUE_OK;
    }
    static const char from[] = "&<>'\"";
    static const char *const to[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    const tq_jstr *s = text.s;
    const char *p = tq_jstr_data(s);
    tq_jbytes *b = tq_j_bytes(j, s->len);
    if (!b) return tq_j_full(j);
    size_t done = 0;
    for (size_t i = 0; i < s->len; i++) {
        const char *hit = p[i] ? strchr(from, p[i]) : NULL;
        if (!hit) continue;
        size_t end;
        TQ_TRY(tq_j_put_part(j, b, s, done, i - done));
        TQ_TRY(tq_j_puts(j, b, to[hit - from], tq_jstr_origin(s, i, &end)));
        done = i + 1;
    }
    TQ_TRY(tq_j_put_part(j, b, s, done, s->len - done));
    TQ_TRY(tq_j_finish(j, b, out));
    out->safe = true;
    return TOQUE_OK;
}
