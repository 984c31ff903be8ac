/* WordPiece as BERT has it (Devlin et al. 2019, BasicTokenizer and WordpieceTokenizer): text is cleaned, split at
 * spaces, punctuation and CJK characters, its accents are stripped and its letters lowered as the file says, and each
 * word becomes the longest tokens from the left, or the unknown token. GGUF stores a word's beginning with U+2581 in
 * front and its continuation without BERT's "##". */
#include "text/tok.h"

#include <string.h>

#include "text/unicode.h"

enum {
    MAX_WORD_CHARS = 100, /* of the normalized word; a longer one is unknown, as in BERT */
    MAX_WORD_BYTES = TQ_SPACE_LEN + 4 * MAX_WORD_CHARS
};

typedef struct word {
    char text[MAX_WORD_BYTES];                         /* U+2581, then the normalized characters */
    uint32_t from[MAX_WORD_BYTES], to[MAX_WORD_BYTES]; /* bytes of the input behind each byte */
    size_t len, chars;
    uint32_t start, end; /* of the whole word */
    bool too_long;
} word;

static void word_reset(word *w) {
    memcpy(w->text, TQ_SPACE, TQ_SPACE_LEN);
    w->len = TQ_SPACE_LEN;
    w->chars = 0;
    w->too_long = false;
}

static void word_add(word *w, uint32_t cp, size_t start, size_t end) {
    if (w->chars == 0) w->start = (uint32_t)start;
    w->end = (uint32_t)end;
    if (w->chars++ >= MAX_WORD_CHARS) {
        w->too_long = true;
        return;
    }
    size_t n = tq_utf8_put(cp, w->text + w->len);
    for (size_t i = 0; i < n; i++) {
        w->from[w->len + i] = (uint32_t)start;
        w->to[w->len + i] = (uint32_t)end;
    }
    w->len += n;
}

/* The longest token that begins at byte `at` of the word; its length, or 0. */
static size_t longest(const tq_tokenizer *tok, const word *w, size_t at, tq_token *id) {
    /* The word's beginning must hold a character besides the U+2581. */
    size_t least = at == 0 ? TQ_SPACE_LEN : 0, best = 0;
    uint64_t h = tq_tok_hash_start(tok);
    for (size_t n = 1; at + n <= w->len && n <= tok->max_len; n++) {
        h = tok_hash_byte(h, w->text[at + n - 1]);
        bool at_boundary = at + n == w->len || ((uint8_t)w->text[at + n] & 0xC0) != 0x80;
        if (n <= least || !at_boundary) continue;
        tq_token found = tq_tok_lookup_hashed(tok, w->text + at, n, h, TQ_KINDS_PLAIN);
        if (found == TQ_NO_TOKEN) continue;
        *id = found;
        best = n;
    }
    return best;
}

static bool word_finish(tok_call *call, word *w) {
    const tq_tokenizer *tok = call->tok;
    size_t before = call->list->len, at = 0;
    bool ok = true;
    if (w->chars == 0) return true;
    while (ok && !w->too_long && at < w->len) {
        tq_token id;
        size_t n = longest(tok, w, at, &id);
        if (n == 0) break;
        ok = tok_emit(call, id, at ? w->from[at] : w->start, w->to[at + n - 1]);
        at += n;
    }
    if (ok && at < w->len) { /* one part that is no token makes the whole word unknown */
        call->list->len = before;
        if (tok->unk != TQ_NO_TOKEN) ok = tok_emit(call, tok->unk, w->start, w->end);
    }
    word_reset(w);
    return ok;
}

/* The blocks that BERT sets apart as words of their own ("Chinese characters", with the gap that its widely used
 * implementation has before U+2B920). */
static bool is_cjk(uint32_t cp) {
    return (cp >= 0x4E00 && cp <= 0x9FFF) || (cp >= 0x3400 && cp <= 0x4DBF) || (cp >= 0x20000 && cp <= 0x2A6DF) ||
           (cp >= 0x2A700 && cp <= 0x2B73F) || (cp >= 0x2B740 && cp <= 0x2B81F) || (cp >= 0x2B920 && cp <= 0x2CEAF) ||
           (cp >= 0xF900 && cp <= 0xFAFF) || (cp >= 0x2F800 && cp <= 0x2FA1F);
}

static bool is_split(uint32_t cp) {
    bool ascii = (cp >= 0x21 && cp <= 0x2F) || (cp >= 0x3A && cp <= 0x40) || (cp >= 0x5B && cp <= 0x60) ||
                 (cp >= 0x7B && cp <= 0x7E);
    return ascii || (cp >= 0x80 && tq_unicode_is_punctuation(cp));
}

/* One character of the input, at text[start, end). */
static bool add_char(tok_call *call, word *w, uint32_t cp, size_t start, size_t end) {
    const tq_tokenizer *tok = call->tok;
    bool blank = cp == '\t' || cp == '\n' || cp == '\r';
    if (!blank && (cp == 0 || cp == 0xFFFD || cp >= TQ_UTF8_CUT || tq_unicode_is_control(cp))) return true;
    if (blank || tq_unicode_is_space(cp)) return word_finish(call, w);
    bool alone = is_cjk(cp);
    if (alone && !word_finish(call, w)) return false;
    uint32_t parts[TQ_UNICODE_NFD_MAX] = {cp};
    size_t n = tok->strip_accents ? tq_unicode_nfd(cp, parts) : 1;
    for (size_t i = 0; i < n; i++) {
        if (tok->strip_accents && tq_unicode_is_mark(parts[i])) continue;
        uint32_t c = tok->lower ? tq_unicode_lower(parts[i]) : parts[i];
        bool split = is_split(c);
        if (split && !word_finish(call, w)) return false;
        word_add(w, c, start, end);
        if (split && !word_finish(call, w)) return false;
    }
    return !alone || word_finish(call, w);
}

static toque_status wordpiece_encode(tok_call *call, size_t start, size_t end, toque_error *err) {
    word w;
    word_reset(&w);
    for (size_t i = start; i < end;) {
        uint32_t cp;
        size_t n = tq_utf8_next(call->text + i, end - i, &cp);
        if (!add_char(call, &w, cp, i, i + n)) return TQ_NOMEM(err);
        i += n;
    }
    return word_finish(call, &w) ? TOQUE_OK : TQ_NOMEM(err);
}

static toque_status wordpiece_init(tq_tokenizer *tok, const tq_gguf *gguf, toque_error *err) {
    if (tok->unk == TQ_NO_TOKEN)
        return TQ_FAIL(err, EFORMAT,
                       "%s: a WordPiece tokenizer needs its unknown token "
                       "(tokenizer.ggml.unknown_token_id)",
                       tq_gguf_path(gguf));
    return TOQUE_OK;
}

static void wordpiece_clear(tq_tokenizer *tok) {
    (void)tok;
}

const tok_ops tq_tok_wordpiece_ops = {.init = wordpiece_init, .encode = wordpiece_encode, .clear = wordpiece_clear};
