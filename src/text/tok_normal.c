/* Normalized copies of a stretch of text, with the way back to its bytes: spaces as U+2581, canonical composition. */
#include "text/tok.h"

#include <string.h>

#include <utf8proc.h>

#include "text/unicode.h"

bool tq_tok_norm_reserve(tok_call *call, size_t n) {
    if (n < call->norm_cap) return true;
    size_t cap = n < call->norm_cap * 2 ? call->norm_cap * 2 : n + 64;
    tq_mem *mem = call->tok->mem;
    char *norm = tq_realloc(mem, call->norm, cap, 1);
    if (!norm) return false;
    call->norm = norm;
    uint32_t *at = tq_realloc(mem, call->norm_at, cap, sizeof *at);
    if (!at) return false;
    call->norm_at = at;
    call->norm_cap = cap;
    return true;
}

/* Whether the stretch text[start, end) gets a space in front. */
static bool wants_space(const tok_call *call, size_t start, size_t end) {
    const tq_tokenizer *tok = call->tok;
    const char *s = call->text + start;
    if (!tok->add_space_prefix || (tok->prefix_once && start > 0)) return false;
    if (!tok->prefix_missing || start == end) return true;
    return *s != ' ' && !(end - start >= TQ_SPACE_LEN && memcmp(s, TQ_SPACE, TQ_SPACE_LEN) == 0);
}

toque_status tq_tok_escape(tok_call *call, size_t start, size_t end, toque_error *err) {
    bool prefix = wants_space(call, start, end);
    size_t spaces = prefix;
    for (size_t i = start; i < end; i++) spaces += call->text[i] == ' ';
    call->norm_len = 0;
    if (!tq_tok_norm_reserve(call, end - start + spaces * TQ_SPACE_LEN)) return TQ_NOMEM(err);
    char *out = call->norm;
    uint32_t *at = call->norm_at;
    size_t len = 0;
    /* The space in front covers no byte of the text; of another space's three bytes the first covers it. */
    for (size_t i = 0; prefix && i < TQ_SPACE_LEN; i++) {
        out[len] = TQ_SPACE[i];
        at[len++] = (uint32_t)start;
    }
    for (size_t i = start; i < end; i++) {
        if (call->text[i] != ' ') {
            out[len] = call->text[i];
            at[len++] = (uint32_t)i;
            continue;
        }
        for (size_t k = 0; k < TQ_SPACE_LEN; k++) {
            out[len] = TQ_SPACE[k];
            at[len++] = (uint32_t)(k ? i + 1 : i);
        }
    }
    at[len] = (uint32_t)end;
    call->norm_len = len;
    return TOQUE_OK;
}

size_t tq_tok_word_end(const tok_call *call, size_t at) {
    bool in_word = false;
    for (size_t i = at; i < call->norm_len;) {
        bool space = call->norm_len - i >= TQ_SPACE_LEN && memcmp(call->norm + i, TQ_SPACE, TQ_SPACE_LEN) == 0;
        if (space && in_word) return i;
        in_word = in_word || !space;
        i += space ? TQ_SPACE_LEN : 1;
    }
    return call->norm_len;
}

/* Appends n bytes that stand for text[start, ...): each its own byte if `same`, otherwise all for the first. */
static bool put(tok_call *call, const char *bytes, size_t n, size_t start, bool same) {
    if (!tq_tok_norm_reserve(call, call->norm_len + n)) return false;
    memcpy(call->norm + call->norm_len, bytes, n);
    for (size_t i = 0; i < n; i++) call->norm_at[call->norm_len + i] = (uint32_t)(same ? start + i : start);
    call->norm_len += n;
    return true;
}

/* One chunk: nothing composes across its ends. */
static bool compose_chunk(tok_call *call, size_t start, size_t n) {
    const char *s = call->text + start;
    const utf8proc_uint8_t *bytes = (const utf8proc_uint8_t *)s;
    const utf8proc_option_t form = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    utf8proc_ssize_t len = utf8proc_decompose(bytes, (utf8proc_ssize_t)n, NULL, 0, form);
    if (len < 0) return false;
    utf8proc_int32_t *points = tq_alloc(call->tok->mem, (size_t)len + 1, sizeof *points);
    if (!points) return false;
    len = utf8proc_decompose(bytes, (utf8proc_ssize_t)n, points, len, form);
    len = utf8proc_reencode(points, len, form); /* UTF-8 in the same place */
    const char *out = (const char *)points;
    bool same = (size_t)len == n && memcmp(out, s, n) == 0, ok = put(call, out, (size_t)len, start, same);
    tq_free(call->tok->mem, points);
    return ok;
}

/* An ASCII character composes with nothing before it, so a chunk ends before each one that stands alone. */
static size_t chunk_end(const char *s, size_t at, size_t end) {
    size_t i = at + 1;
    while (i < end && (s[i] & 0x80)) i++;
    return i;
}

toque_status tq_tok_compose(tok_call *call, size_t start, size_t end, toque_error *err) {
    const char *s = call->text;
    bool ok = true;
    call->norm_len = 0;
    while (ok && start < end) {
        size_t good = tq_utf8_valid_prefix(s + start, end - start), stop = start + good;
        while (ok && start < stop) {
            size_t plain = start;
            while (plain < stop && !(s[plain] & 0x80)) plain++;
            if (plain < stop && plain > start) plain--; /* what follows may compose with it */
            ok = put(call, s + start, plain - start, start, true);
            start = plain;
            if (start == stop) break;
            size_t next = chunk_end(s, start, stop);
            ok = ok && compose_chunk(call, start, next - start);
            start = next;
        }
        if (!ok || start == end) break;
        uint32_t cp;
        size_t bad = tq_utf8_next(s + start, end - start, &cp);
        ok = put(call, s + start, bad, start, true);
        start += bad;
    }
    ok = ok && tq_tok_norm_reserve(call, call->norm_len + 1);
    if (!ok) return TQ_NOMEM(err);
    call->norm_at[call->norm_len] = (uint32_t)end;
    return TOQUE_OK;
}
