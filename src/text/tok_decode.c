/* Tokens to text: one token's bytes, and a stream that gives whole characters. Ill-formed bytes become one U+FFFD for
 * each maximal subpart (Unicode 15, section 3.9), as Python's and Rust's lossy decoders do. */
#include "text/tok.h"

#include <string.h>

#include "text/unicode.h"

/* Stored text with U+2581 as spaces, less a leading one at the start of a text that got it from the tokenizer. */
static bool put_unescaped(const tq_tokenizer *tok, const tok_word *w, bool first, tq_buf *out) {
    size_t i = 0;
    if (first && tok->add_space_prefix && w->text_len >= TQ_SPACE_LEN && memcmp(w->text, TQ_SPACE, TQ_SPACE_LEN) == 0)
        i = TQ_SPACE_LEN;
    while (i < w->text_len) {
        const char *rest = w->text + i;
        size_t left = w->text_len - i;
        const char *space = memmem(rest, left, TQ_SPACE, TQ_SPACE_LEN);
        size_t plain = space ? (size_t)(space - rest) : left;
        if (!tq_buf_put(out, rest, plain)) return false;
        i += plain;
        if (!space) break;
        if (!tq_buf_putc(out, ' ')) return false;
        i += TQ_SPACE_LEN;
    }
    return true;
}

bool tq_detokenize(const tq_tokenizer *tok, tq_token token, bool first, bool show_special, tq_buf *out) {
    if (token < 0 || token >= tok->n) return true;
    const tok_word *w = &tok->words[token];
    unsigned kind = TQ_KIND(tok->kinds[token]);
    if (kind & TQ_KINDS_HIDDEN) return !show_special || tq_buf_put(out, w->text, w->text_len);
    if (kind & TQ_KINDS_SPECIAL || tok->storage == TQ_TOK_BYTES) return tq_buf_put(out, w->raw, w->raw_len);
    int byte = kind == TQ_KIND(TQ_TOKEN_BYTE) ? tq_tok_hex_byte(w->text, w->text_len) : -1;
    return byte >= 0 ? tq_buf_putc(out, (char)byte) : put_unescaped(tok, w, first, out);
}

void tq_detok_init(tq_detok *d, const tq_tokenizer *tok, tq_mem *mem, bool show_special) {
    *d = (tq_detok){.tok = tok, .first = true, .show_special = show_special};
    tq_buf_init(&d->pending, mem, SIZE_MAX / 4);
}

void tq_detok_clear(tq_detok *d) {
    tq_buf_clear(&d->pending);
}

/* Moves pending to out as well-formed UTF-8; at the end of the text also what is cut. */
static bool flush(tq_buf *pending, bool end, tq_buf *out) {
    size_t i = 0;
    bool ok = !pending->failed;
    while (ok && i < pending->len) {
        const char *s = pending->data + i;
        size_t left = pending->len - i;
        size_t good = tq_utf8_valid_prefix(s, left);
        ok = tq_buf_put(out, s, good);
        i += good;
        if (good == left) break;
        uint32_t cp;
        size_t bad = tq_utf8_next(s + good, left - good, &cp);
        if (cp == TQ_UTF8_CUT && !end) break;
        ok = ok && tq_buf_puts(out, TQ_REPLACEMENT);
        i += bad;
    }
    if (!ok) return false;
    pending->len -= i;
    if (i) memmove(pending->data, pending->data + i, pending->len + 1);
    return true;
}

bool tq_detok_feed(tq_detok *d, tq_token token, tq_buf *out) {
    size_t before = d->pending.len;
    if (!tq_detokenize(d->tok, token, d->first, d->show_special, &d->pending)) return false;
    /* A hidden token leaves the text's beginning where it was. */
    if (d->first && token >= 0 && token < d->tok->n)
        d->first = d->pending.len == before && TQ_KIND(d->tok->kinds[token]) & TQ_KINDS_HIDDEN;
    return flush(&d->pending, false, out);
}

bool tq_detok_finish(tq_detok *d, tq_buf *out) {
    return flush(&d->pending, true, out);
}
