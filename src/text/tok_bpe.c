/* Byte-pair encoding by a list of merges (Sennrich et al. 2016): GPT-2's over bytes, with words split by a named
 * pre-tokenizer or by a file's own expressions, and over characters with U+2581 for spaces (gemma4's, whole lines at a
 * time, and Hugging Face's form of SentencePiece vocabularies, which has no pre-tokenizer). Merges are hashed by the
 * pair of token ids. Most words are one token: a byte per token remembers whether its own text merges into it, so that
 * a second meeting costs one look-up. That memory is the only thing that changes after loading; it is written
 * atomically and its content does not depend on the order of writes. */
#include "text/tok.h"

#include <string.h>

#include "text/unicode.h"

typedef struct merge_slot {
    tq_token left, right; /* left TQ_NO_TOKEN: empty */
    uint32_t rank;
    tq_token merged;
} merge_slot;

enum memory { UNSEEN, MERGES, DIFFERS };

struct tok_bpe {
    tq_pretok *pre;
    bool whole_words; /* a word that is a token needs no merges */
    bool newlines;    /* nor does a word of newlines */
    merge_slot *slots;
    size_t mask;
    _Atomic uint8_t *memory; /* [n] enum memory */
};

static inline size_t merge_hash(tq_token left, tq_token right) {
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u;
    return (size_t)(h >> 29);
}

static void pair_by_ids(const tok_call *call, const char *text, tok_sym *left, const tok_sym *right) {
    (void)text;
    const struct tok_bpe *bpe = call->tok->bpe;
    left->order = TOK_NO_MERGE;
    if (left->id == TQ_NO_TOKEN || right->id == TQ_NO_TOKEN) return;
    for (size_t i = merge_hash(left->id, right->id) & bpe->mask;; i = (i + 1) & bpe->mask) {
        const merge_slot *slot = &bpe->slots[i];
        if (slot->left == TQ_NO_TOKEN) return;
        if (slot->left != left->id || slot->right != right->id) continue;
        left->order = slot->rank;
        left->merged = slot->merged;
        return;
    }
}

/* Loading is bound by cache misses, so merges are resolved in batches whose look-ups are prefetched together. */
enum { BATCH = 32, MAX_MERGE_BYTES = 2 * TQ_MAX_TOKEN_BYTES + 1 };

typedef struct merge_text {
    tq_string stored;  /* "left right" */
    const char *raw;   /* both sides' bytes; NULL: they are not of the vocabulary's alphabet */
    size_t left, both; /* their lengths */
    uint64_t left_hash, right_hash;
} merge_text;

typedef struct merge_batch {
    merge_text texts[BATCH];
    char raw[BATCH * 64 + MAX_MERGE_BYTES]; /* a batch ends early when its merges are long */
    size_t n, used;
    uint32_t first; /* rank of texts[0] */
    tq_token guess; /* the next merge's token if, as usual, tokens stand in the order of their merges */
} merge_batch;

static bool side_raw(const tq_tokenizer *tok, const char *s, size_t n, char *out, size_t *len) {
    if (tok->storage == TQ_TOK_BYTES) return tq_tok_bytes_decode(s, n, out, len);
    memcpy(out, s, n);
    *len = n;
    return true;
}

static void batch_add(merge_batch *b, const tq_tokenizer *tok, tq_string s) {
    merge_text *m = &b->texts[b->n++];
    *m = (merge_text){.stored = s};
    const char *space = s.len > 1 && s.len <= MAX_MERGE_BYTES ? memchr(s.data + 1, ' ', s.len - 1) : NULL;
    if (!space) return;
    char *raw = b->raw + b->used;
    size_t left_len = (size_t)(space - s.data), right;
    if (!side_raw(tok, s.data, left_len, raw, &m->left)) return;
    if (!side_raw(tok, space + 1, s.len - left_len - 1, raw + m->left, &right)) return;
    m->raw = raw;
    m->both = m->left + right;
    m->left_hash = tq_tok_hash(tok, raw, m->left);
    m->right_hash = tq_tok_hash(tok, raw + m->left, right);
    tok_prefetch_slot(tok, m->left_hash);
    tok_prefetch_slot(tok, m->right_hash);
    b->used += m->both;
}

static bool is_raw(const tq_tokenizer *tok, tq_token id, const char *s, size_t n) {
    return id < tok->n && tok->words[id].raw_len == n && memcmp(tok->words[id].raw, s, n) == 0 &&
           !(TQ_KIND(tok->kinds[id]) & TQ_KINDS_SPECIAL);
}

static bool resolve(merge_batch *b, const tq_tokenizer *tok, const merge_text *m, merge_slot *slot) {
    if (!m->raw) return false;
    slot->left = tq_tok_lookup_hashed(tok, m->raw, m->left, m->left_hash, TQ_KINDS_ALL);
    slot->right = tq_tok_lookup_hashed(tok, m->raw + m->left, m->both - m->left, m->right_hash, TQ_KINDS_ALL);
    slot->merged =
        is_raw(tok, b->guess, m->raw, m->both) ? b->guess : tq_tok_lookup(tok, m->raw, m->both, TQ_KINDS_ALL);
    b->guess = slot->merged + 1;
    return slot->left != TQ_NO_TOKEN && slot->right != TQ_NO_TOKEN && slot->merged != TQ_NO_TOKEN;
}

static void insert_merge(struct tok_bpe *bpe, const merge_slot *slot) {
    size_t i = merge_hash(slot->left, slot->right) & bpe->mask;
    for (; bpe->slots[i].left != TQ_NO_TOKEN; i = (i + 1) & bpe->mask)
        if (bpe->slots[i].left == slot->left && bpe->slots[i].right == slot->right) return; /* the first one counts */
    bpe->slots[i] = *slot;
}

static toque_status batch_flush(merge_batch *b, tq_tokenizer *tok, const tq_gguf *gguf, toque_error *err) {
    merge_slot slots[BATCH];
    struct tok_bpe *bpe = tok->bpe;
    for (size_t i = 0; i < b->n; i++) {
        tok_prefetch_word(tok, b->texts[i].left_hash);
        tok_prefetch_word(tok, b->texts[i].right_hash);
    }
    for (size_t i = 0; i < b->n; i++) {
        tq_string s = b->texts[i].stored;
        slots[i].rank = b->first + (uint32_t)i;
        if (!resolve(b, tok, &b->texts[i], &slots[i]))
            return TQ_FAIL(err, EFORMAT,
                           "%s: merge %u ('%.*s') does not join two tokens of the vocabulary into a third; the file's "
                           "tokenizer is damaged",
                           tq_gguf_path(gguf), slots[i].rank, (int)(s.len < 60 ? s.len : 60), s.data);
        __builtin_prefetch(&bpe->slots[merge_hash(slots[i].left, slots[i].right) & bpe->mask], 1);
    }
    for (size_t i = 0; i < b->n; i++) insert_merge(bpe, &slots[i]);
    b->first += (uint32_t)b->n;
    b->n = b->used = 0;
    return TOQUE_OK;
}

static toque_status load_merges(tq_tokenizer *tok, const tq_gguf *gguf, toque_error *err) {
    const tq_gguf_value *merges;
    TQ_TRY(tq_tok_array(gguf, "tokenizer.ggml.merges", true, UINT64_MAX, &merges, err));
    if (!merges || merges->count > INT32_MAX / 2)
        return TQ_FAIL(err, EFORMAT,
                       "%s: a BPE tokenizer needs its merges (tokenizer.ggml.merges); convert the model "
                       "again",
                       tq_gguf_path(gguf));
    size_t size = 16;
    while (size < merges->count * 2) size *= 2;
    struct tok_bpe *bpe = tok->bpe;
    bpe->slots = tq_alloc(tok->mem, size, sizeof *bpe->slots);
    if (!bpe->slots) return TQ_NOMEM(err);
    memset(bpe->slots, 0xFF, size * sizeof *bpe->slots);
    bpe->mask = size - 1;
    const uint8_t *at = merges->data;
    tq_string s;
    merge_batch b;
    b.n = b.used = b.first = 0;
    b.guess = 0;
    while (tq_gguf_next_string(merges, &at, &s)) {
        batch_add(&b, tok, s);
        if (b.n == BATCH || b.used >= BATCH * 64) TQ_TRY(batch_flush(&b, tok, gguf, err));
    }
    return batch_flush(&b, tok, gguf, err);
}

/* A folder's own expressions, or the named pre-tokenizer. */
static toque_status choose_words(tq_tokenizer *tok, const tq_gguf *gguf, toque_error *err) {
    struct tok_bpe *bpe = tok->bpe;
    const tq_gguf_value *own;
    TQ_TRY(tq_tok_array(gguf, "tokenizer.toque.words", true, UINT64_MAX, &own, err));
    if (own) {
        tq_string words[16];
        const uint8_t *at = own->data;
        size_t n = 0;
        while (n < 16 && tq_gguf_next_string(own, &at, &words[n])) n++;
        if (n != own->count) return TQ_FAIL(err, EUNSUPPORTED, "%s: more than 16 pre-tokenizers", tq_gguf_path(gguf));
        TQ_TRY(tq_gguf_bool(gguf, "tokenizer.toque.whole_words", &bpe->whole_words, err));
        toque_status status = tq_pretok_from_regexes(&bpe->pre, tok->mem, words, n, err);
        return status == TOQUE_OK ? status : tq_error_prefix(err, status, "%s", tq_gguf_path(gguf));
    }
    tq_string pre = {.data = "default", .len = 7};
    if (tok->storage == TQ_TOK_ESCAPED)
        pre = (tq_string){.data = "gemma4", .len = 6};
    else
        TQ_TRY(tq_gguf_str(gguf, "tokenizer.ggml.pre", &pre, err));
    TQ_TRY(tq_pretok_new(&bpe->pre, tok->mem, pre.data, pre.len, err));
    bpe->whole_words = tq_pretok_flags(bpe->pre) & TQ_PRETOK_WHOLE_WORDS;
    bpe->newlines = tok->storage == TQ_TOK_ESCAPED;
    if (tq_pretok_flags(bpe->pre) & TQ_PRETOK_ADD_BOS) tok->add_bos = true;
    return TOQUE_OK;
}

static toque_status bpe_init(tq_tokenizer *tok, const tq_gguf *gguf, toque_error *err) {
    struct tok_bpe *bpe = tok->bpe = TQ_NEW(tok->mem, struct tok_bpe);
    if (!bpe) return TQ_NOMEM(err);
    TQ_TRY(choose_words(tok, gguf, err));
    bpe->memory = tq_zalloc(tok->mem, (size_t)tok->n, sizeof *bpe->memory);
    if (!bpe->memory) return TQ_NOMEM(err);
    return load_merges(tok, gguf, err);
}

static void bpe_clear(tq_tokenizer *tok) {
    struct tok_bpe *bpe = tok->bpe;
    if (!bpe) return;
    tq_pretok_free(bpe->pre);
    tq_free(tok->mem, bpe->slots);
    tq_free(tok->mem, bpe->memory);
    tq_free(tok->mem, bpe);
}

/* The word's bytes as symbols. A byte that the vocabulary lacks vanishes, and its neighbours become neighbours, as in
 * Hugging Face's implementation without an unknown token; a symbol beside it covers its place in the text. */
static size_t byte_symbols(tok_call *call, const char *word, size_t n) {
    tok_sym *s = call->syms;
    size_t count = 0, start = 0;
    for (size_t i = 0; i < n; i++) {
        tq_token id = call->tok->byte_ids[(uint8_t)word[i]];
        if (id != TQ_NO_TOKEN) {
            s[count++] = (tok_sym){.start = (uint32_t)start, .len = (uint32_t)(i + 1 - start), .id = id};
            start = i + 1;
        } else if (count) {
            s[count - 1].len++;
            start = i + 1;
        }
    }
    return count;
}

static size_t char_symbols(tok_call *call, const char *word, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; count++) {
        uint32_t cp;
        size_t len = tq_utf8_next(word + i, n - i, &cp);
        tq_token id = tq_tok_lookup(call->tok, word + i, len, TQ_KINDS_PLAIN);
        call->syms[count] = (tok_sym){.start = (uint32_t)i, .len = (uint32_t)len, .id = id};
        i += len;
    }
    return count;
}

typedef struct word_place {
    tok_call *call;
    const char *base;   /* what the words point into: the input, or its normalized copy */
    const uint32_t *at; /* places of base's bytes in the input; NULL: base is the input */
} word_place;

static bool emit_symbol(const word_place *p, const char *word, const tok_sym *s) {
    size_t from = (size_t)(word - p->base) + s->start, to = from + s->len;
    if (s->id == TQ_NO_TOKEN) return tq_tok_emit_bytes(p->call, p->base, from, to, p->at);
    return tok_emit(p->call, s->id, p->at ? p->at[from] : from, p->at ? p->at[to] : to);
}

static toque_status encode_word(void *arg, const char *word, size_t n, toque_error *err) {
    const word_place *p = arg;
    tok_call *call = p->call;
    const tq_tokenizer *tok = call->tok;
    struct tok_bpe *bpe = tok->bpe;
    tq_token whole = n <= tok->max_len ? tq_tok_lookup(tok, word, n, TQ_KINDS_PLAIN) : TQ_NO_TOKEN;
    tok_sym one = {.start = 0, .len = (uint32_t)n, .id = whole};
    if (whole != TQ_NO_TOKEN) {
        bool stands = bpe->whole_words || atomic_load_explicit(&bpe->memory[whole], memory_order_relaxed) == MERGES ||
                      (bpe->newlines && word[0] == '\n'); /* a run of newlines is never merged */
        if (stands) return emit_symbol(p, word, &one) ? TOQUE_OK : TQ_NOMEM(err);
    }
    if (!tq_tok_syms_reserve(call, n)) return TQ_NOMEM(err);
    size_t count = tok->storage == TQ_TOK_BYTES ? byte_symbols(call, word, n) : char_symbols(call, word, n);
    TQ_TRY(tq_tok_merge(call, word, &count, pair_by_ids, err));
    if (whole != TQ_NO_TOKEN)
        atomic_store_explicit(&bpe->memory[whole], count == 1 && call->syms[0].id == whole ? MERGES : DIFFERS,
                              memory_order_relaxed);
    for (size_t i = 0; i < count; i++)
        if (!emit_symbol(p, word, &call->syms[i])) return TQ_NOMEM(err);
    return TOQUE_OK;
}

/* Well-formed stretches go through the pre-tokenizer; bytes that are not UTF-8 become byte tokens. */
static toque_status encode_stretch(word_place *p, size_t start, size_t end, toque_error *err) {
    tok_call *call = p->call;
    const tq_pretok *pre = call->tok->bpe->pre;
    if (!call->split) call->split = tq_pretok_scratch_new(pre);
    if (!call->split) return TQ_NOMEM(err);
    while (start < end) {
        size_t good = tq_utf8_valid_prefix(p->base + start, end - start);
        if (good) TQ_TRY(tq_pretok_split(pre, call->split, p->base + start, good, encode_word, p, err));
        start += good;
        if (start == end) break;
        uint32_t cp;
        size_t bad = tq_utf8_next(p->base + start, end - start, &cp);
        if (!tq_tok_emit_bytes(call, p->base, start, start + bad, p->at)) return TQ_NOMEM(err);
        start += bad;
    }
    return TOQUE_OK;
}

/* Words of call->norm, or all of it where a token may hold the end of one word and the beginning of the next. */
static toque_status encode_escaped(tok_call *call, toque_error *err) {
    word_place p = {.call = call, .base = call->norm, .at = call->norm_at};
    bool words = call->tok->spaces_start_words && !call->tok->bpe->newlines;
    for (size_t at = 0; at < call->norm_len;) {
        size_t end = words ? tq_tok_word_end(call, at) : call->norm_len;
        TQ_TRY(encode_stretch(&p, at, end, err));
        at = end;
    }
    return TOQUE_OK;
}

static toque_status bpe_encode(tok_call *call, size_t start, size_t end, toque_error *err) {
    if (call->tok->storage == TQ_TOK_ESCAPED) {
        TQ_TRY(tq_tok_escape(call, start, end, err));
        return encode_escaped(call, err);
    }
    word_place p = {.call = call, .base = call->text};
    if (!call->tok->nfc) return encode_stretch(&p, start, end, err);
    TQ_TRY(tq_tok_compose(call, start, end, err));
    p = (word_place){.call = call, .base = call->norm, .at = call->norm_at};
    return encode_stretch(&p, 0, call->norm_len, err);
}

const tok_ops tq_tok_bpe_ops = {.init = bpe_init, .encode = bpe_encode, .clear = bpe_clear};
