/* tq_tokenize: cuts the text at special tokens (the longest that matches at the leftmost place), hands the stretches
 * between them to the kind's encoder and adds BOS and EOS. A control token is recognized only where all of its bytes
 * lie in spans that allow it, so text of a user's cannot become one; user-defined tokens are recognized everywhere. */
#include "text/tok.h"

#include <string.h>

#include "text/unicode.h"

void tq_tokens_clear(tq_tokens *list) {
    tq_free(list->mem, list->ids);
    tq_free(list->mem, list->start);
    tq_free(list->mem, list->end);
    *list = (tq_tokens){.mem = list->mem, .want_offsets = list->want_offsets};
}

bool tq_tok_list_grow(tq_tokens *list) {
    size_t cap = list->cap ? list->cap * 2 : 64;
    tq_token *ids = tq_realloc(list->mem, list->ids, cap, sizeof *ids);
    if (!ids) return false;
    list->ids = ids;
    if (list->want_offsets) {
        uint32_t *start = tq_realloc(list->mem, list->start, cap, sizeof *start);
        if (!start) return false;
        list->start = start;
        uint32_t *end = tq_realloc(list->mem, list->end, cap, sizeof *end);
        if (!end) return false;
        list->end = end;
    }
    list->cap = cap;
    return true;
}

bool tq_tok_emit_bytes(tok_call *call, const char *bytes, size_t from, size_t to, const uint32_t *at) {
    const tq_tokenizer *tok = call->tok;
    for (size_t i = from; i < to; i++) {
        tq_token id = tok->byte_ids[(uint8_t)bytes[i]];
        if (id == TQ_NO_TOKEN && tok->storage == TQ_TOK_ESCAPED) id = tok->unk;
        if (id == TQ_NO_TOKEN) continue;
        if (!tok_emit(call, id, at ? at[i] : i, at ? at[i + 1] : i + 1)) return false;
    }
    return true;
}

/* Where control tokens are recognized: walks the spans beside the text. */
typedef struct span_walk {
    const tq_text_span *spans;
    size_t n, next; /* next: the first span that begins after `until` */
    size_t until;   /* the current run of spans of one sort ends here */
    bool special;
} span_walk;

static void walk_to(span_walk *w, size_t at) {
    for (; w->next < w->n; w->next++) {
        const tq_text_span *span = &w->spans[w->next];
        if (!span->len) continue;
        if (at < w->until && span->special != w->special) break;
        w->special = span->special;
        w->until += span->len;
    }
}

/* The longest special token that begins at `at`, or TQ_NO_TOKEN. */
static tq_token special_here(const tq_tokenizer *tok, const char *text, size_t n, size_t at, span_walk *w) {
    uint8_t first = (uint8_t)text[at];
    tq_token best = TQ_NO_TOKEN;
    if (tok->special_at[first] == tok->special_at[first + 1]) return best;
    walk_to(w, at);
    uint64_t h = tq_tok_hash_start(tok);
    size_t hashed = 0;
    for (uint32_t i = tok->special_at[first]; i < tok->special_at[first + 1]; i++) {
        size_t len = tok->special_lens[i];
        if (len > n - at) break;
        while (hashed < len) h = tok_hash_byte(h, text[at + hashed++]);
        bool hidden = w->special && at + len <= w->until;
        tq_token id = tq_tok_lookup_hashed(tok, text + at, len, h,
                                           TQ_KIND(TQ_TOKEN_USER_DEFINED) | (hidden ? TQ_KINDS_HIDDEN : 0u));
        if (id != TQ_NO_TOKEN) best = id;
    }
    return best;
}

static toque_status encode_all(tok_call *call, size_t n, span_walk *w, toque_error *err) {
    const tq_tokenizer *tok = call->tok;
    size_t start = 0;
    for (size_t at = 0; at < n;) {
        tq_token id = special_here(tok, call->text, n, at, w);
        if (id == TQ_NO_TOKEN) {
            at++;
            continue;
        }
        if (at > start) TQ_TRY(tok->ops->encode(call, start, at, err));
        start = at + tok->words[id].raw_len;
        if (!tok_emit(call, id, at, start)) return TQ_NOMEM(err);
        at = start;
    }
    return n > start ? tok->ops->encode(call, start, n, err) : TOQUE_OK;
}

static void call_clear(tok_call *call) {
    tq_mem *mem = call->tok->mem;
    tq_pretok_scratch_free(call->split);
    tq_free(mem, call->syms);
    tq_free(mem, call->heap);
    tq_free(mem, call->norm);
    tq_free(mem, call->norm_at);
    tq_free(mem, call->lattice);
}

toque_status tq_tokenize_spans(const tq_tokenizer *tok, const char *text, size_t n, const tq_text_span *spans,
                               size_t n_spans, bool add_special, tq_tokens *list, toque_error *err) {
    if (n > UINT32_MAX / 8)
        return TQ_FAIL(err, ELIMIT, "a text of %zu bytes is too long for one call (at most %u); cut it into parts", n,
                       UINT32_MAX / 8);
    size_t sum = 0;
    for (size_t i = 0; i < n_spans; i++) {
        if (spans[i].len > n - sum) return TQ_FAIL(err, EINVAL, "the text's spans are longer than its %zu bytes", n);
        sum += spans[i].len;
    }
    if (sum != n) return TQ_FAIL(err, EINVAL, "the text's spans cover %zu of its %zu bytes", sum, n);
    size_t before = list->len;
    tok_call call = {.tok = tok, .list = list, .text = text};
    span_walk walk = {.spans = spans, .n = n_spans};
    toque_status status = TOQUE_OK;
    if (add_special && tok->add_bos && tok->bos != TQ_NO_TOKEN && !tok_emit(&call, tok->bos, 0, 0)) {
        status = TQ_NOMEM(err);
        goto done;
    }
    TQ_GO(encode_all(&call, n, &walk, err));
    if (add_special && tok->add_eos && tok->eos != TQ_NO_TOKEN && !tok_emit(&call, tok->eos, n, n))
        status = TQ_NOMEM(err);
done:
    if (status != TOQUE_OK) list->len = before;
    call_clear(&call);
    return status;
}

toque_status tq_tokenize(const tq_tokenizer *tok, const char *text, size_t n, bool add_special, bool parse_special,
                         tq_tokens *list, toque_error *err) {
    tq_text_span whole = {.len = n, .special = parse_special};
    return tq_tokenize_spans(tok, text, n, &whole, 1, add_special, list, err);
}
