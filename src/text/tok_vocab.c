/* The vocabulary of a tokenizer: texts and kinds as the file has them, the bytes that each token matches, and one
 * open-addressing hash over those bytes. Strings stay in the file's map; a byte-level vocabulary gets one block with
 * its decoded bytes. Nothing is allocated per token. Where two tokens match the same bytes a plain one comes before a
 * special one and a lower id before a higher one. */
#include "text/tok.h"

#include <string.h>
#include <time.h>

#include "text/unicode.h"

/* GPT-2's byte alphabet: printable Latin-1 characters stand for themselves, the other 68 bytes, in order, for
 * U+0100 and up (Radford et al. 2019, bytes_to_unicode). -1: not of the alphabet. */
static int alphabet_byte(uint32_t cp) {
    if ((cp >= 0x21 && cp <= 0x7E) || (cp >= 0xA1 && cp <= 0xAC) || (cp >= 0xAE && cp <= 0xFF)) return (int)cp;
    if (cp < 0x100 || cp >= 0x100 + 68) return -1;
    uint32_t k = cp - 0x100;
    return k < 33 ? (int)k : k < 67 ? (int)(0x7F + k - 33) : 0xAD;
}

bool tq_tok_bytes_decode(const char *s, size_t n, char *out, size_t *out_len) {
    size_t len = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp = (uint8_t)s[i];
        if (cp > 0x20 && cp < 0x7F) {
            out[len++] = s[i++];
            continue;
        }
        i += tq_utf8_next(s + i, n - i, &cp);
        int byte = alphabet_byte(cp);
        if (byte < 0) return false;
        out[len++] = (char)byte;
    }
    *out_len = len;
    return true;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int tq_tok_hex_byte(const char *s, size_t n) {
    if (n != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>') return -1;
    int high = hex_digit(s[3]), low = hex_digit(s[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

uint64_t tq_tok_hash_start(const tq_tokenizer *tok) {
    return tok->seed;
}

tq_token tq_tok_lookup_hashed(const tq_tokenizer *tok, const char *s, size_t n, uint64_t h, unsigned kinds) {
    h = tok_hash_end(h);
    for (size_t i = h & tok->mask;; i = (i + 1) & tok->mask) {
        const tok_slot *slot = &tok->slots[i];
        if (slot->id == TQ_NO_TOKEN) return TQ_NO_TOKEN;
        if (slot->tag != (uint32_t)(h >> 32)) continue;
        const tok_word *w = &tok->words[slot->id];
        if (w->raw_len == n && memcmp(w->raw, s, n) == 0 && TQ_KIND(tok->kinds[slot->id]) & kinds) return slot->id;
    }
}

uint64_t tq_tok_hash(const tq_tokenizer *tok, const char *s, size_t n) {
    uint64_t h = tq_tok_hash_start(tok);
    for (size_t i = 0; i < n; i++) h = tok_hash_byte(h, s[i]);
    return h;
}

tq_token tq_tok_lookup(const tq_tokenizer *tok, const char *s, size_t n, unsigned kinds) {
    return tq_tok_lookup_hashed(tok, s, n, tq_tok_hash(tok, s, n), kinds);
}

/* The token that matches `raw` and is stored as s; of duplicates the lowest id. */
static tq_token find_stored(const tq_tokenizer *tok, const char *raw, size_t raw_len, const char *s, size_t n) {
    uint64_t h = tok_hash_end(tq_tok_hash(tok, raw, raw_len));
    tq_token best = TQ_NO_TOKEN;
    for (size_t i = h & tok->mask; tok->slots[i].id != TQ_NO_TOKEN; i = (i + 1) & tok->mask) {
        tq_token id = tok->slots[i].id;
        const tok_word *w = &tok->words[id];
        bool same = w->raw_len == raw_len && memcmp(w->raw, raw, raw_len) == 0 && w->text_len == n &&
                    memcmp(w->text, s, n) == 0;
        if (same && (best == TQ_NO_TOKEN || id < best)) best = id;
    }
    return best;
}

tq_token tq_tokenizer_find(const tq_tokenizer *tok, const char *s, size_t n) {
    char raw[TQ_MAX_TOKEN_BYTES];
    size_t len;
    if (n == 0 || n > TQ_MAX_TOKEN_BYTES) return TQ_NO_TOKEN;
    tq_token id = TQ_NO_TOKEN;
    if (tok->storage == TQ_TOK_BYTES && tq_tok_bytes_decode(s, n, raw, &len)) id = find_stored(tok, raw, len, s, n);
    return id != TQ_NO_TOKEN ? id : find_stored(tok, s, n, s, n);
}

toque_status tq_tok_array(const tq_gguf *gguf, const char *key, bool strings, uint64_t count, const tq_gguf_value **out,
                          toque_error *err) {
    const tq_gguf_value *v = *out = tq_gguf_find(gguf, key);
    if (!v) return TOQUE_OK;
    bool fits = v->type == TQ_GGUF_ARRAY && v->item != TQ_GGUF_ARRAY && (v->item == TQ_GGUF_STRING) == strings;
    if (!fits)
        return TQ_FAIL(err, EFORMAT, "%s: %s must be an array of %s; the file is damaged or not a model",
                       tq_gguf_path(gguf), key, strings ? "strings" : "numbers");
    if (count != UINT64_MAX && v->count != count)
        return TQ_FAIL(err, EFORMAT, "%s: %s has %llu elements for a vocabulary of %llu tokens", tq_gguf_path(gguf),
                       key, (unsigned long long)v->count, (unsigned long long)count);
    return TOQUE_OK;
}

/* Texts, and for byte-level vocabularies their bytes. */
static toque_status read_words(tq_tokenizer *tok, const tq_gguf *gguf, const tq_gguf_value *tokens, toque_error *err) {
    char *decoded = NULL;
    if (tok->storage == TQ_TOK_BYTES) {
        /* Each text has 8 bytes of length before it in the file, so `bytes` is room enough for all. */
        decoded = tok->decoded = tq_alloc(tok->mem, (size_t)tokens->bytes, 1);
        if (!decoded) return TQ_NOMEM(err);
    }
    const uint8_t *at = tokens->data;
    for (int32_t id = 0; id < tok->n; id++) {
        tq_string s;
        if (!tq_gguf_next_string(tokens, &at, &s))
            return TQ_FAIL(err, EFORMAT, "%s: tokenizer.ggml.tokens ends after %d of %d tokens", tq_gguf_path(gguf), id,
                           tok->n);
        if (s.len > TQ_MAX_TOKEN_BYTES)
            return TQ_FAIL(err, EFORMAT, "%s: token %d has %zu bytes, more than the %d that a token may have",
                           tq_gguf_path(gguf), id, s.len, TQ_MAX_TOKEN_BYTES);
        tok_word *w = &tok->words[id];
        *w = (tok_word){.text = s.data, .raw = s.data, .text_len = (uint32_t)s.len, .raw_len = (uint32_t)s.len};
        size_t len;
        bool coded = decoded && !(TQ_KIND(tok->kinds[id]) & TQ_KINDS_SPECIAL);
        if (coded && tq_tok_bytes_decode(s.data, s.len, decoded, &len)) {
            w->raw = decoded;
            w->raw_len = (uint32_t)len;
            decoded += len;
        }
    }
    return TOQUE_OK;
}

static toque_status read_kinds(tq_tokenizer *tok, const tq_gguf *gguf, toque_error *err) {
    const tq_gguf_value *types;
    TQ_TRY(tq_tok_array(gguf, "tokenizer.ggml.token_type", false, (uint64_t)tok->n, &types, err));
    for (int32_t id = 0; id < tok->n; id++) {
        double kind = types ? tq_gguf_number_at(types, (uint64_t)id) : TQ_TOKEN_NORMAL;
        if (!(kind >= 0 && kind <= TQ_TOKEN_BYTE))
            return TQ_FAIL(err, EFORMAT, "%s: token %d has type %g, expected 0 to %d (tokenizer.ggml.token_type)",
                           tq_gguf_path(gguf), id, kind, TQ_TOKEN_BYTE);
        tok->kinds[id] = (uint8_t)(kind < TQ_TOKEN_NORMAL ? TQ_TOKEN_NORMAL : kind); /* 0: undefined */
    }
    return TOQUE_OK;
}

static toque_status read_scores(tq_tokenizer *tok, const tq_gguf *gguf, toque_error *err) {
    const tq_gguf_value *scores;
    TQ_TRY(tq_tok_array(gguf, "tokenizer.ggml.scores", false, (uint64_t)tok->n, &scores, err));
    if (!scores || tok->storage == TQ_TOK_BYTES) return TOQUE_OK; /* byte-level BPE goes by merges alone */
    tok->scores = TQ_NEW_ARRAY(tok->mem, float, tok->n);
    if (!tok->scores) return TQ_NOMEM(err);
    for (int32_t id = 0; id < tok->n; id++) {
        double score = tq_gguf_number_at(scores, (uint64_t)id);
        if (!(score >= -1e30 && score <= 1e30))
            return TQ_FAIL(err, EFORMAT, "%s: token %d has the score %g, expected a finite number", tq_gguf_path(gguf),
                           id, score);
        tok->scores[id] = (float)score;
    }
    return TOQUE_OK;
}

static void insert(tq_tokenizer *tok, tq_token id) {
    const tok_word *w = &tok->words[id];
    if (!w->raw_len) return; /* an empty token has an id but no text ever becomes it */
    uint64_t h = tok_hash_end(tq_tok_hash(tok, w->raw, w->raw_len));
    size_t i = h & tok->mask;
    while (tok->slots[i].id != TQ_NO_TOKEN) i = (i + 1) & tok->mask;
    tok->slots[i] = (tok_slot){.tag = (uint32_t)(h >> 32), .id = id};
}

static toque_status build_hash(tq_tokenizer *tok, toque_error *err) {
    size_t size = 16;
    while (size < (size_t)tok->n * 2) size *= 2;
    tok->slots = tq_alloc(tok->mem, size, sizeof *tok->slots);
    if (!tok->slots) return TQ_NOMEM(err);
    memset(tok->slots, 0xFF, size * sizeof *tok->slots);
    tok->mask = size - 1;
    struct timespec now = {0};
    clock_gettime(CLOCK_MONOTONIC, &now);
    tok->seed = tok_hash_end((uint64_t)(uintptr_t)tok->slots ^ (uint64_t)now.tv_nsec << 32);
    bool any_special = false;
    for (tq_token id = 0; id < tok->n; id++) {
        if (TQ_KIND(tok->kinds[id]) & TQ_KINDS_SPECIAL) {
            any_special = true;
        } else {
            insert(tok, id);
            if (tok->words[id].raw_len > tok->max_len) tok->max_len = tok->words[id].raw_len;
        }
    }
    for (tq_token id = 0; any_special && id < tok->n; id++)
        if (TQ_KIND(tok->kinds[id]) & TQ_KINDS_SPECIAL) insert(tok, id);
    return TOQUE_OK;
}

/* The special tokens' distinct lengths per first byte, ascending: at a place of the text only these are looked up. */
static toque_status index_specials(tq_tokenizer *tok, toque_error *err) {
    size_t len = 0, cap = 0;
    uint8_t *seen = tq_alloc(tok->mem, TQ_MAX_TOKEN_BYTES + 1, 1);
    if (!seen) return TQ_NOMEM(err);
    toque_status status = TOQUE_OK;
    bool used[256] = {false};
    for (tq_token id = 0; id < tok->n; id++)
        if (TQ_KIND(tok->kinds[id]) & TQ_KINDS_SPECIAL && tok->words[id].raw_len)
            used[(uint8_t)tok->words[id].raw[0]] = true;
    for (int first = 0; first < 256; first++) {
        tok->special_at[first] = (uint32_t)len;
        if (!used[first]) continue;
        memset(seen, 0, TQ_MAX_TOKEN_BYTES + 1);
        for (tq_token id = 0; id < tok->n; id++) {
            const tok_word *w = &tok->words[id];
            if (TQ_KIND(tok->kinds[id]) & TQ_KINDS_SPECIAL && w->raw_len && (uint8_t)w->raw[0] == first)
                seen[w->raw_len] = 1;
        }
        for (size_t n = 1; n <= TQ_MAX_TOKEN_BYTES; n++) {
            if (!seen[n]) continue;
            if (!TQ_GROW(tok->mem, tok->special_lens, len, cap)) {
                status = TQ_NOMEM(err);
                goto done;
            }
            tok->special_lens[len++] = (uint16_t)n;
        }
    }
done:
    tok->special_at[256] = (uint32_t)len;
    tq_free(tok->mem, seen);
    return status;
}

/* What ends an answer whatever the file says about it. */
static const char *const end_texts[] = {
    "<|im_end|>",
    "<|eot_id|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "</s>",
    "<|eom_id|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<end_of_utterance>",
    "<\xEF\xBD\x9C"
    "end" TQ_SPACE "of" TQ_SPACE "sentence\xEF\xBD\x9C>",
    "[e~[",
};

static tq_token find_text(const tq_tokenizer *tok, const char *s) {
    size_t n = strlen(s);
    for (tq_token id = 0; id < tok->n; id++)
        if (tok->words[id].text_len == n && memcmp(tok->words[id].text, s, n) == 0) return id;
    return TQ_NO_TOKEN;
}

/* Marks the tokens that end an answer by their text, and makes them control tokens, which they are even where a
 * converter forgot to say so (as llama.cpp does). Two families use one such text for something else. Runs before the
 * hash exists; candidates are told by their first character. */
static void mark_ends(tq_tokenizer *tok) {
    for (tq_token id = 0; id < tok->n; id++) {
        const tok_word *w = &tok->words[id];
        if (!w->text_len || (w->text[0] != '<' && w->text[0] != '_' && w->text[0] != '[')) continue;
        for (size_t i = 0; i < sizeof end_texts / sizeof *end_texts; i++) {
            if (w->text_len != strlen(end_texts[i]) || memcmp(w->text, end_texts[i], w->text_len) != 0) continue;
            tok->ends[id] = true;
            tok->kinds[id] = TQ_TOKEN_CONTROL;
            tok->words[id].raw = w->text;
            tok->words[id].raw_len = w->text_len;
        }
    }
}

static void unmark(tq_tokenizer *tok, const char *text, tq_token_kind kind) {
    tq_token id = find_text(tok, text);
    if (id == TQ_NO_TOKEN) return;
    tok->ends[id] = false;
    tok->kinds[id] = (uint8_t)kind;
}

static void mark_exceptions(tq_tokenizer *tok) {
    bool returns = find_text(tok, "<|return|>") != TQ_NO_TOKEN && find_text(tok, "<|call|>") != TQ_NO_TOKEN;
    bool flushes = find_text(tok, "<|flush|>") != TQ_NO_TOKEN && find_text(tok, "<|calls|>") != TQ_NO_TOKEN;
    if (returns || flushes) unmark(tok, "<|end|>", TQ_TOKEN_USER_DEFINED);
    if (find_text(tok, "<|tool_response>") != TQ_NO_TOKEN) unmark(tok, "</s>", TQ_TOKEN_NORMAL);
}

static toque_status load_words(tq_tokenizer *tok, const tq_gguf *gguf, const tq_gguf_value *tokens, toque_error *err) {
    tok->n = (int32_t)tokens->count;
    tok->words = tq_alloc(tok->mem, (size_t)tok->n, sizeof *tok->words);
    tok->kinds = tq_alloc(tok->mem, (size_t)tok->n, 1);
    tok->ends = TQ_NEW_ARRAY(tok->mem, bool, tok->n);
    if (!tok->words || !tok->kinds || !tok->ends) return TQ_NOMEM(err);
    TQ_TRY(read_kinds(tok, gguf, err));
    return read_words(tok, gguf, tokens, err);
}

toque_status tq_tok_vocab_load(tq_tokenizer *tok, const tq_gguf *gguf, toque_error *err) {
    const tq_gguf_value *tokens;
    TQ_TRY(tq_tok_array(gguf, "tokenizer.ggml.tokens", true, UINT64_MAX, &tokens, err));
    if (!tokens || tokens->count == 0 || tokens->count > INT32_MAX / 4)
        return TQ_FAIL(err, EFORMAT,
                       "%s: tokenizer.ggml.tokens has %llu tokens, expected 1 to %d; the file has no "
                       "usable vocabulary",
                       tq_gguf_path(gguf), tokens ? (unsigned long long)tokens->count : 0ULL, INT32_MAX / 4);
    TQ_TRY(load_words(tok, gguf, tokens, err));
    TQ_TRY(read_scores(tok, gguf, err));
    mark_ends(tok);
    mark_exceptions(tok);
    TQ_TRY(build_hash(tok, err));
    for (int b = 0; b < 256; b++) tok->byte_ids[b] = TQ_NO_TOKEN;
    for (tq_token id = tok->n - 1; id >= 0; id--) {
        if (tok->storage == TQ_TOK_BYTES) break;
        int byte = tok->kinds[id] == TQ_TOKEN_BYTE ? tq_tok_hex_byte(tok->words[id].text, tok->words[id].text_len) : -1;
        if (byte >= 0) tok->byte_ids[byte] = id;
    }
    for (int b = 0; b < 256 && tok->storage == TQ_TOK_BYTES; b++) {
        char c = (char)b;
        tok->byte_ids[b] = tq_tok_lookup(tok, &c, 1, TQ_KINDS_ALL & ~TQ_KINDS_SPECIAL);
    }
    return index_specials(tok, err);
}

void tq_tok_vocab_clear(tq_tokenizer *tok) {
    tq_free(tok->mem, tok->words);
    tq_free(tok->mem, tok->kinds);
    tq_free(tok->mem, tok->ends);
    tq_free(tok->mem, tok->scores);
    tq_free(tok->mem, tok->decoded);
    tq_free(tok->mem, tok->slots);
    tq_free(tok->mem, tok->special_lens);
}
