/* Unigram (Kudo 2018), GGUF's `t5`: of all ways to cut a text into tokens the one with the highest sum of scores, found
 * by a Viterbi search from left to right. Text is first normalized by the table that SentencePiece compiled into the
 * model ("precompiled_charsmap"): a double-array trie (darts-clone) from byte strings to NUL-terminated replacements.
 * A character that no token covers becomes the unknown token, neighbours sharing one. */
#include "text/tok.h"

#include <float.h>
#include <string.h>

#include "text/unicode.h"

struct tok_unigram {
    const uint8_t *trie; /* units of 32 bits, little endian, unaligned */
    size_t n_units;
    const char *strings; /* replacements, each NUL-terminated; the last byte is NUL */
    size_t strings_len;
    double unknown_score;
};

typedef struct node { /* best way to reach a byte of the normalized text */
    double score;
    uint32_t from; /* where its last token begins */
    tq_token id;
} node;

/* How far below the worst token an unknown character is rated (SentencePiece's kUnkPenalty). */
static const double unknown_penalty = 10.0;

static uint32_t unit(const struct tok_unigram *u, size_t i) {
    uint32_t x;
    memcpy(&x, u->trie + 4 * i, 4);
    return x;
}

static size_t unit_offset(uint32_t x) {
    return (size_t)(x >> 10) << ((x & 1u << 9) >> 6);
}

/* The longest prefix of s that the table replaces: its length (0: none) and the replacement. */
static size_t replaced_prefix(const struct tok_unigram *u, const char *s, size_t n, const char **to) {
    size_t best = 0;
    if (!u->n_units) return 0;
    size_t at = unit_offset(unit(u, 0));
    for (size_t i = 0; i < n && s[i]; i++) {
        at ^= (uint8_t)s[i];
        if (at >= u->n_units) break;
        uint32_t x = unit(u, at);
        if ((x & (1u << 31 | 0xFF)) != (uint8_t)s[i]) break;
        at ^= unit_offset(x);
        if (at >= u->n_units) break;
        if (!(x >> 8 & 1)) continue; /* no value here */
        size_t string = unit(u, at) & 0x7FFFFFFF;
        if (string >= u->strings_len) break;
        *to = u->strings + string;
        best = i + 1;
    }
    return best;
}

static toque_status load_charsmap(struct tok_unigram *u, const tq_gguf *gguf, toque_error *err) {
    const tq_gguf_value *map;
    TQ_TRY(tq_tok_array(gguf, "tokenizer.ggml.precompiled_charsmap", false, UINT64_MAX, &map, err));
    if (!map || map->count == 0) return TOQUE_OK;
    uint32_t trie_bytes = 0;
    bool bytes = map->item == TQ_GGUF_U8 || map->item == TQ_GGUF_I8;
    if (bytes && map->count > 4) memcpy(&trie_bytes, map->data, 4);
    if (!bytes || trie_bytes == 0 || trie_bytes % 4 != 0 || trie_bytes >= map->count - 4 ||
        map->data[map->count - 1] != 0)
        return TQ_FAIL(err, EFORMAT,
                       "%s: tokenizer.ggml.precompiled_charsmap is damaged (%llu elements, a trie of %u "
                       "bytes)",
                       tq_gguf_path(gguf), (unsigned long long)map->count, trie_bytes);
    u->trie = map->data + 4;
    u->n_units = trie_bytes / 4;
    u->strings = (const char *)map->data + 4 + trie_bytes;
    u->strings_len = (size_t)map->count - 4 - trie_bytes;
    return TOQUE_OK;
}

static toque_status unigram_init(tq_tokenizer *tok, const tq_gguf *gguf, toque_error *err) {
    struct tok_unigram *u = tok->unigram = TQ_NEW(tok->mem, struct tok_unigram);
    if (!u) return TQ_NOMEM(err);
    if (!tok->scores || tok->unk == TQ_NO_TOKEN)
        return TQ_FAIL(err, EFORMAT,
                       "%s: a unigram tokenizer needs its scores (tokenizer.ggml.scores) and its unknown "
                       "token",
                       tq_gguf_path(gguf));
    double lowest = 0;
    for (tq_token id = 0; id < tok->n; id++)
        if (tok->kinds[id] == TQ_TOKEN_NORMAL && (double)tok->scores[id] < lowest) lowest = (double)tok->scores[id];
    u->unknown_score = lowest - unknown_penalty;
    tok->add_space_prefix = true; /* SentencePiece's default */
    return load_charsmap(u, gguf, err);
}

static void unigram_clear(tq_tokenizer *tok) {
    tq_free(tok->mem, tok->unigram);
}

/* Appends n bytes, all from the input's [start, end): the first covers it, the others nothing. */
static bool norm_add(tok_call *call, const char *s, size_t n, size_t start, size_t end) {
    if (!tq_tok_norm_reserve(call, call->norm_len + n)) return false;
    for (size_t i = 0; i < n; i++) {
        call->norm[call->norm_len] = s[i];
        call->norm_at[call->norm_len++] = (uint32_t)(i ? end : start);
    }
    return true;
}

/* What normalization does with spaces, across replacements. */
typedef struct space_state {
    bool in_word, begun;
    size_t since; /* outside a word: where its spaces begin; they are covered by the U+2581 that stands for them */
} space_state;

static bool add_normalized(tok_call *call, space_state *st, const char *s, size_t n, size_t start, size_t end) {
    const tq_tokenizer *tok = call->tok;
    for (size_t i = 0; i < n; i++) {
        size_t from = i ? end : start; /* a replacement's first byte covers all that it replaces */
        if (s[i] == ' ') {
            if (st->in_word) st->since = from;
            st->in_word = false;
            if (!tok->merge_spaces && !norm_add(call, TQ_SPACE, TQ_SPACE_LEN, from, end)) return false;
            continue;
        }
        bool space = !st->in_word &&
                     (tok->merge_spaces ? st->begun || tok->add_space_prefix : !st->begun && tok->add_space_prefix);
        size_t since = tok->merge_spaces ? st->since : from;
        if (space && !norm_add(call, TQ_SPACE, TQ_SPACE_LEN, since, from)) return false;
        st->in_word = st->begun = true;
        if (!norm_add(call, s + i, 1, from, end)) return false;
    }
    return true;
}

/* text[start, end) into call->norm. */
static toque_status normalize(tok_call *call, size_t start, size_t end, toque_error *err) {
    const struct tok_unigram *u = call->tok->unigram;
    space_state st = {.since = start};
    call->norm_len = 0;
    for (size_t i = start; i < end;) {
        const char *s = call->text + i, *to = NULL;
        size_t n = replaced_prefix(u, s, end - i, &to), len;
        if (n) {
            len = strlen(to);
        } else {
            uint32_t cp;
            n = len = tq_utf8_next(s, end - i, &cp);
            to = cp < TQ_UTF8_CUT ? s : TQ_REPLACEMENT;
            if (cp >= TQ_UTF8_CUT) len = strlen(TQ_REPLACEMENT);
        }
        bool plain = to == s && n == len; /* keeps its bytes' own places */
        bool ok = true;
        for (size_t k = 0; plain && ok && k < n; k++) ok = add_normalized(call, &st, s + k, 1, i + k, i + k + 1);
        if (!plain) ok = add_normalized(call, &st, to, len, i, i + n);
        if (!ok) return TQ_NOMEM(err);
        i += n;
    }
    if (!tq_tok_norm_reserve(call, call->norm_len)) return TQ_NOMEM(err);
    bool dropped = call->tok->merge_spaces && !st.in_word; /* spaces at the end belong to no token */
    call->norm_at[call->norm_len] = (uint32_t)(dropped ? st.since : end);
    return TOQUE_OK;
}

static void improve(node *to, double score, size_t from, tq_token id) {
    if (score > to->score) *to = (node){.score = score, .from = (uint32_t)from, .id = id};
}

/* Fills best[1..n] for the word s: the tokens that begin at each character. */
static void search(const tq_tokenizer *tok, const char *s, size_t n, node *best) {
    best[0].score = 0;
    for (size_t i = 1; i <= n; i++) best[i].score = -DBL_MAX;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t character = tq_utf8_next(s + i, n - i, &cp);
        bool covered = false;
        uint64_t h = tq_tok_hash_start(tok);
        for (size_t len = 1; len <= tok->max_len && i + len <= n; len++) {
            h = tok_hash_byte(h, s[i + len - 1]);
            if (i + len < n && ((uint8_t)s[i + len] & 0xC0) == 0x80) continue; /* inside a character */
            tq_token id = tq_tok_lookup_hashed(tok, s + i, len, h, TQ_KINDS_PLAIN);
            if (id == TQ_NO_TOKEN) continue;
            covered = covered || len == character;
            improve(&best[i + len], best[i].score + (double)tok->scores[id], i, id);
        }
        if (!covered) improve(&best[i + character], best[i].score + tok->unigram->unknown_score, i, tok->unk);
        i += character;
    }
}

static toque_status encode_word(tok_call *call, size_t start, size_t end, toque_error *err) {
    const tq_tokenizer *tok = call->tok;
    size_t n = end - start;
    if (call->lattice_cap < n + 1) {
        node *bigger = tq_alloc(tok->mem, 2 * n + 64, sizeof *bigger);
        if (!bigger) return TQ_NOMEM(err);
        tq_free(tok->mem, call->lattice);
        call->lattice = bigger;
        call->lattice_cap = 2 * n + 64;
    }
    node *best = call->lattice;
    search(tok, call->norm + start, n, best);
    /* Turn the chain of last tokens around: `from` of a node becomes where the next token ends. */
    size_t next = n, at = n;
    while (at > 0) {
        size_t from = best[at].from;
        best[at].from = (uint32_t)next;
        next = at;
        at = from;
    }
    bool after_unknown = false;
    for (size_t i = 0, to = next; i < n; i = to, to = best[i].from) {
        tq_token id = best[to].id;
        size_t to_text = call->norm_at[start + to];
        if (id == tok->unk && after_unknown) {
            if (call->list->want_offsets) call->list->end[call->list->len - 1] = (uint32_t)to_text;
        } else if (!tok_emit(call, id, call->norm_at[start + i], to_text)) {
            return TQ_NOMEM(err);
        }
        after_unknown = id == tok->unk;
    }
    return TOQUE_OK;
}

static toque_status unigram_encode(tok_call *call, size_t start, size_t end, toque_error *err) {
    TQ_TRY(normalize(call, start, end, err));
    for (size_t at = 0; at < call->norm_len;) {
        size_t word_end = call->tok->spaces_start_words ? tq_tok_word_end(call, at) : call->norm_len;
        TQ_TRY(encode_word(call, at, word_end, err));
        at = word_end;
    }
    return TOQUE_OK;
}

const tok_ops tq_tok_unigram_ops = {.init = unigram_init, .encode = unigram_encode, .clear = unigram_clear};
