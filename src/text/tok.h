/* Inside the tokenizers: the vocabulary and its hash, a call's state, and the operations of a kind. Private to the
 * tok_*.c files and tokenizer.c; everybody else includes tokenizer.h. */
#ifndef TQ_TEXT_TOK_H
#define TQ_TEXT_TOK_H

#include <stdatomic.h>

#include "text/pretokenize.h"
#include "text/tokenizer.h"

#define TQ_SPACE "\xE2\x96\x81" /* U+2581, which stands for a space in SentencePiece vocabularies */
enum { TQ_SPACE_LEN = 3 };

enum tq_tok_storage { TQ_TOK_BYTES, TQ_TOK_ESCAPED };

/* A token longer than this is an error: real ones have at most some hundred bytes, and the searches for the longest
 * token at a place take time proportional to it. */
enum { TQ_MAX_TOKEN_BYTES = 4096 };

/* Bits of kinds, for look-ups. PLAIN are the tokens that ordinary text may become. */
#define TQ_KIND(k) (1u << (k))
enum {
    TQ_KINDS_PLAIN = TQ_KIND(TQ_TOKEN_NORMAL) | TQ_KIND(TQ_TOKEN_USER_DEFINED) | TQ_KIND(TQ_TOKEN_UNUSED),
    TQ_KINDS_HIDDEN = TQ_KIND(TQ_TOKEN_CONTROL) | TQ_KIND(TQ_TOKEN_UNKNOWN), /* recognized in templates only */
    TQ_KINDS_SPECIAL = TQ_KINDS_HIDDEN | TQ_KIND(TQ_TOKEN_USER_DEFINED),
    TQ_KINDS_ALL = 0x7F
};

typedef struct tok_word {
    const char *text; /* as stored, in the file's map */
    const char *raw;  /* what it matches: decoded from the byte alphabet where the kind uses it, otherwise text */
    uint32_t text_len, raw_len;
} tok_word;

typedef struct tok_slot {
    uint32_t tag; /* upper half of the hash */
    tq_token id;  /* TQ_NO_TOKEN: empty */
} tok_slot;

typedef struct tok_call tok_call;

typedef struct tok_ops {
    /* Prepares what the kind needs beyond the vocabulary. */
    toque_status (*init)(tq_tokenizer *tok, const tq_gguf *gguf, toque_error *err);
    /* Appends the tokens of text[start, end), a stretch without special tokens: it begins the text or follows one. */
    toque_status (*encode)(tok_call *call, size_t start, size_t end, toque_error *err);
    void (*clear)(tq_tokenizer *tok);
} tok_ops;
extern const tok_ops tq_tok_bpe_ops, tq_tok_spm_ops, tq_tok_unigram_ops, tq_tok_wordpiece_ops;

struct tq_tokenizer {
    tq_mem *mem;
    const tok_ops *ops;
    enum tq_tok_storage storage;
    int32_t n;
    tok_word *words; /* [n] */
    uint8_t *kinds;  /* [n] tq_token_kind */
    bool *ends;      /* [n] ends an answer */
    float *scores;   /* [n], NULL when the file has none */
    char *decoded;   /* the raw bytes of TQ_TOK_BYTES vocabularies */
    tok_slot *slots; /* open addressing over raw, linear probes; plain tokens stand before special ones */
    size_t mask;
    uint64_t seed;  /* unknown to whoever wrote the vocabulary, so that it cannot be built to collide */
    size_t max_len; /* longest raw of a plain token */
    tq_token bos, eos, unk, sep;
    tq_token byte_ids[256];
    bool add_bos, add_eos, add_space_prefix, merge_spaces;
    bool prefix_once, prefix_missing; /* the space in front: only of the whole text; only where none is */
    bool nfc;                         /* byte-level BPE: text is composed (Unicode NFC) first */
    bool spaces_start_words;          /* no token has a U+2581 after another character: words are independent */
    /* Special tokens by first byte: their distinct lengths, ascending. */
    uint16_t *special_lens;
    uint32_t special_at[257];
    struct tok_bpe *bpe;
    struct tok_unigram *unigram;
    bool lower, strip_accents; /* WordPiece */
};

uint64_t tq_tok_hash_start(const tq_tokenizer *tok);
/* FNV-1a, one byte at a time so that prefixes come for free; tok_hash_end spreads it over the table. */
static inline uint64_t tok_hash_byte(uint64_t h, char c) {
    return (h ^ (uint8_t)c) * 0x100000001B3u;
}
static inline uint64_t tok_hash_end(uint64_t h) {
    h ^= h >> 32;
    h *= 0xD6E8FEB86659FD93u;
    return h ^ h >> 32;
}
uint64_t tq_tok_hash(const tq_tokenizer *tok, const char *s, size_t n);
/* Hints for look-ups to come: first the slot, some time later the token that it names. */
static inline void tok_prefetch_slot(const tq_tokenizer *tok, uint64_t h) {
    __builtin_prefetch(&tok->slots[tok_hash_end(h) & tok->mask]);
}
static inline void tok_prefetch_word(const tq_tokenizer *tok, uint64_t h) {
    tq_token id = tok->slots[tok_hash_end(h) & tok->mask].id;
    if (id != TQ_NO_TOKEN) __builtin_prefetch(&tok->words[id]);
}
/* The token of one of these kinds whose raw bytes are s; h is the hash state after s. */
tq_token tq_tok_lookup_hashed(const tq_tokenizer *tok, const char *s, size_t n, uint64_t h, unsigned kinds);
tq_token tq_tok_lookup(const tq_tokenizer *tok, const char *s, size_t n, unsigned kinds);
toque_status tq_tok_vocab_load(tq_tokenizer *tok, const tq_gguf *gguf, toque_error *err);
void tq_tok_vocab_clear(tq_tokenizer *tok);
/* Decodes GPT-2's byte alphabet; false if s has a character outside it. out has room for n bytes. */
bool tq_tok_bytes_decode(const char *s, size_t n, char *out, size_t *out_len);
/* The byte of a token stored as <0xHH>, or -1. */
int tq_tok_hex_byte(const char *s, size_t n);
/* An array of the file: NULL and OK if absent, EFORMAT if not an array of `count` (any count if UINT64_MAX). */
toque_status tq_tok_array(const tq_gguf *gguf, const char *key, bool strings, uint64_t count, const tq_gguf_value **out,
                          toque_error *err);

/* A symbol of a text whose pairs merge (tok_merge.c). */
typedef struct tok_sym {
    uint32_t start, len; /* bytes of the merged text */
    tq_token id;         /* TQ_NO_TOKEN: a character that is no token */
    uint32_t order;      /* of the merge with the next symbol: the lowest goes first; TOK_NO_MERGE */
    tq_token merged;     /* what that merge makes */
    uint32_t prev, next; /* used by the heap only */
} tok_sym;
#define TOK_NO_MERGE UINT32_MAX

typedef struct tok_heap_item {
    uint32_t order, at;
    tq_token merged;
} tok_heap_item;

/* One tq_tokenize call: where tokens go, and memory that is reused from word to word. */
struct tok_call {
    const tq_tokenizer *tok;
    tq_tokens *list;
    const char *text; /* the whole input */
    tq_pretok_scratch *split;
    tok_sym *syms;
    size_t syms_cap;
    tok_heap_item *heap;
    size_t heap_cap;
    char *norm;        /* a stretch after normalization */
    uint32_t *norm_at; /* [norm_len + 1] its bytes' places in text */
    size_t norm_cap, norm_len;
    void *lattice; /* unigram */
    size_t lattice_cap;
};

/* Sets order (TOK_NO_MERGE if there is none) and merged of *left for the pair (left, right). */
typedef void (*tok_pair_fn)(const tok_call *call, const char *text, tok_sym *left, const tok_sym *right);
/* Merges call->syms[0, n) in place until no pair has a merge; *n becomes the number of symbols left. */
toque_status tq_tok_merge(tok_call *call, const char *text, size_t *n, tok_pair_fn pair, toque_error *err);
bool tq_tok_syms_reserve(tok_call *call, size_t n);
bool tq_tok_norm_reserve(tok_call *call, size_t n);
/* text[start, end) into call->norm with spaces as U+2581, one in front as the tokenizer says; norm_at maps back. */
toque_status tq_tok_escape(tok_call *call, size_t start, size_t end, toque_error *err);
/* text[start, end) composed (NFC) into call->norm; ill-formed bytes stay as they are. */
toque_status tq_tok_compose(tok_call *call, size_t start, size_t end, toque_error *err);
/* The end of the word that begins at `at` in call->norm: up to the next U+2581 that follows another character. */
size_t tq_tok_word_end(const tok_call *call, size_t at);

bool tq_tok_list_grow(tq_tokens *list);
/* Appends a token that covers text[start, end); false: no memory. */
static inline bool tok_emit(tok_call *call, tq_token id, size_t start, size_t end) {
    tq_tokens *list = call->list;
    if (list->len == list->cap && !tq_tok_list_grow(list)) return false;
    list->ids[list->len] = id;
    if (list->want_offsets) {
        list->start[list->len] = (uint32_t)start;
        list->end[list->len] = (uint32_t)end;
    }
    list->len++;
    return true;
}
/* Appends the byte tokens of bytes [from, to) of `bytes`, each byte covering text[at[i], at[i + 1]) or, if at is NULL,
 * text[from + i]. A byte without a token becomes the unknown token, in byte-level vocabularies (where that token is
 * none of the tokenizer's own, but usually the end of a text) nothing. */
bool tq_tok_emit_bytes(tok_call *call, const char *bytes, size_t from, size_t to, const uint32_t *at);

#endif
