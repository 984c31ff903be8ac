/* SentencePiece's BPE (Kudo and Richardson 2018), GGUF's `llama`: characters merge into the token with the best score
 * first, the leftmost of equals; what is no token becomes bytes. Spaces are U+2581 and a text begins with one. In
 * usual vocabularies no token continues past the U+2581 that begins a word, so words are merged one by one. */
#include "text/tok.h"

#include <string.h>

#include "text/unicode.h"

/* A score as an unsigned number that is lower for better (higher) scores; never TOK_NO_MERGE. */
static uint32_t score_order(float score) {
    uint32_t bits;
    score += 0.0f; /* -0 and 0 are equal */
    memcpy(&bits, &score, sizeof bits);
    return bits & 0x80000000u ? bits : 0x7FFFFFFFu - bits;
}

static void pair_by_text(const tok_call *call, const char *text, tok_sym *left, const tok_sym *right) {
    const tq_tokenizer *tok = call->tok;
    size_t n = (size_t)left->len + right->len;
    left->order = TOK_NO_MERGE;
    if (n > tok->max_len) return;
    left->merged = tq_tok_lookup(tok, text + left->start, n, TQ_KINDS_PLAIN);
    if (left->merged != TQ_NO_TOKEN) left->order = score_order(tok->scores[left->merged]);
}

static toque_status spm_init(tq_tokenizer *tok, const tq_gguf *gguf, toque_error *err) {
    if (!tok->scores)
        return TQ_FAIL(err, EFORMAT,
                       "%s: a SentencePiece tokenizer needs its scores (tokenizer.ggml.scores); convert "
                       "the model again",
                       tq_gguf_path(gguf));
    return TOQUE_OK;
}

static toque_status encode_word(tok_call *call, size_t start, size_t end, toque_error *err) {
    const tq_tokenizer *tok = call->tok;
    if (!tq_tok_syms_reserve(call, end - start)) return TQ_NOMEM(err);
    size_t count = 0;
    for (size_t i = start; i < end; count++) {
        uint32_t cp;
        size_t len = tq_utf8_next(call->norm + i, end - i, &cp);
        tq_token id = cp < TQ_UTF8_CUT ? tq_tok_lookup(tok, call->norm + i, len, TQ_KINDS_PLAIN) : TQ_NO_TOKEN;
        call->syms[count] = (tok_sym){.start = (uint32_t)i, .len = (uint32_t)len, .id = id};
        i += len;
    }
    TQ_TRY(tq_tok_merge(call, call->norm, &count, pair_by_text, err));
    for (size_t i = 0; i < count; i++) {
        const tok_sym *s = &call->syms[i];
        size_t from = s->start, to = from + s->len;
        bool ok = s->id == TQ_NO_TOKEN ? tq_tok_emit_bytes(call, call->norm, from, to, call->norm_at)
                                       : tok_emit(call, s->id, call->norm_at[from], call->norm_at[to]);
        if (!ok) return TQ_NOMEM(err);
    }
    return TOQUE_OK;
}

static toque_status spm_encode(tok_call *call, size_t start, size_t end, toque_error *err) {
    const tq_tokenizer *tok = call->tok;
    TQ_TRY(tq_tok_escape(call, start, end, err));
    for (size_t at = 0; at < call->norm_len;) {
        size_t word_end = tok->spaces_start_words ? tq_tok_word_end(call, at) : call->norm_len;
        TQ_TRY(encode_word(call, at, word_end, err));
        at = word_end;
    }
    return TOQUE_OK;
}

static void spm_clear(tq_tokenizer *tok) {
    (void)tok;
}

const tok_ops tq_tok_spm_ops = {.init = spm_init, .encode = spm_encode, .clear = spm_clear};
