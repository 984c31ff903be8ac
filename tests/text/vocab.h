/* Made-up vocabularies for the tokenizer tests: a GGUF file (version 3, no tensors) put together in memory. Test code;
 * a vocabulary that outgrows the buffer is the test's own mistake and aborts. */
#ifndef TEST_TEXT_VOCAB_H
#define TEST_TEXT_VOCAB_H

#include <stdlib.h>
#include <string.h>

#include "text/tokenizer.h"

typedef struct vocab {
    uint8_t data[1 << 14];
    size_t n;
    uint64_t values;
} vocab;

static inline void vocab_raw(vocab *v, const void *p, size_t n) {
    if (n > sizeof v->data - v->n) abort();
    if (n) memcpy(v->data + v->n, p, n);
    v->n += n;
}

static inline void vocab_text(vocab *v, const char *s) {
    uint64_t n = strlen(s);
    vocab_raw(v, &n, 8);
    vocab_raw(v, s, n);
}

/* Begins a value; its bytes follow. The header's count is kept current. */
static inline void vocab_key(vocab *v, const char *key, uint32_t type) {
    if (!v->n) {
        vocab_raw(v, "GGUF\3\0\0\0", 8);
        vocab_raw(v, (uint64_t[2]){0, 0}, 16);
    }
    v->values++;
    memcpy(v->data + 16, &v->values, 8);
    vocab_text(v, key);
    vocab_raw(v, &type, 4);
}

static inline void vocab_str(vocab *v, const char *key, const char *s) {
    vocab_key(v, key, TQ_GGUF_STRING);
    vocab_text(v, s);
}

static inline void vocab_u32(vocab *v, const char *key, uint32_t x) {
    vocab_key(v, key, TQ_GGUF_U32);
    vocab_raw(v, &x, 4);
}

static inline void vocab_bool(vocab *v, const char *key, bool x) {
    vocab_key(v, key, TQ_GGUF_BOOL);
    vocab_raw(v, &x, 1);
}

static inline void vocab_array(vocab *v, const char *key, uint32_t item, const void *p, size_t n, size_t size) {
    uint64_t count = n;
    vocab_key(v, key, TQ_GGUF_ARRAY);
    vocab_raw(v, &item, 4);
    vocab_raw(v, &count, 8);
    vocab_raw(v, p, n * size);
}

static inline void vocab_strs(vocab *v, const char *key, const char *const *s, size_t n) {
    vocab_array(v, key, TQ_GGUF_STRING, NULL, 0, 1);
    uint64_t count = n;
    memcpy(v->data + v->n - 8, &count, 8);
    for (size_t i = 0; i < n; i++) vocab_text(v, s[i]);
}

#define COUNT(a) (sizeof(a) / sizeof *(a))
#define vocab_i32s(v, key, a) vocab_array((v), (key), TQ_GGUF_I32, (a), COUNT(a), 4)
#define vocab_f32s(v, key, a) vocab_array((v), (key), TQ_GGUF_F32, (a), COUNT(a), 4)

/* Byte-level BPE over a few bytes; U+0120 is the space, "Ã©" the two bytes of é. */
enum {
    BPE_END,
    BPE_A,
    BPE_B,
    BPE_C,
    BPE_SPACE,
    BPE_AB,
    BPE_ABC,
    BPE_SPACE_A,
    BPE_SPACE_AB,
    BPE_USER,
    BPE_C3,
    BPE_A9,
    BPE_E_ACUTE,
    BPE_S,
    BPE_EMPTY,
    BPE_ONE,
    BPE_LESS,
    BPE_BAR,
    BPE_LOW_S,
    BPE_MORE,
    BPE_A_AGAIN
};
static inline void vocab_bpe_tokens(vocab *v) {
    static const char *const tokens[] = {"<|end|>", "a",  "b",     "c", "Ġ", "ab", "abc", "Ġa", "Ġab", "<u>", "Ã",
                                         "©",       "Ã©", "<|s|>", "",  "1", "<",  "|",   "s",  ">",   "a"};
    static const int32_t kinds[] = {3, 1, 1, 1, 1, 1, 1, 1, 1, 4, 1, 1, 1, 3, 1, 1, 1, 1, 1, 1, 1};
    vocab_str(v, "tokenizer.ggml.model", "gpt2");
    vocab_str(v, "tokenizer.ggml.pre", "gpt-2");
    vocab_strs(v, "tokenizer.ggml.tokens", tokens, COUNT(tokens));
    vocab_i32s(v, "tokenizer.ggml.token_type", kinds);
    vocab_u32(v, "tokenizer.ggml.bos_token_id", BPE_S);
    vocab_u32(v, "tokenizer.ggml.eos_token_id", BPE_END);
}

static inline void vocab_bpe(vocab *v) {
    static const char *const merges[] = {"a b", "ab c", "Ġ a", "Ã ©", "Ġ ab", "a b"};
    vocab_bpe_tokens(v);
    vocab_strs(v, "tokenizer.ggml.merges", merges, COUNT(merges));
    vocab_bool(v, "tokenizer.ggml.add_bos_token", true);
}

enum { SPM_UNK, SPM_BOS, SPM_EOS, SPM_E2, SPM_82, SPM_AC, SPM_SPACE, SPM_A, SPM_B, SPM_SPACE_A, SPM_AB, SPM_SPACE_AB };
static inline void vocab_spm(vocab *v) {
    static const char *const tokens[] = {"<unk>", "<s>", "</s>", "<0xE2>", "<0x82>", "<0xAC>",
                                         "▁",     "a",   "b",    "▁a",     "ab",     "▁ab"};
    static const int32_t kinds[] = {2, 3, 3, 6, 6, 6, 1, 1, 1, 1, 1, 1};
    static const float scores[] = {0, 0, 0, 0, 0, 0, -4, -5, -6, -3, -2, -1};
    vocab_str(v, "tokenizer.ggml.model", "llama");
    vocab_strs(v, "tokenizer.ggml.tokens", tokens, COUNT(tokens));
    vocab_i32s(v, "tokenizer.ggml.token_type", kinds);
    vocab_f32s(v, "tokenizer.ggml.scores", scores);
}

/* With a charsmap that replaces "A" by "a": a double array of one edge from its root (units 0, 0x41, 0x40). */
enum { UNI_PAD, UNI_EOS, UNI_UNK, UNI_SPACE, UNI_SPACE_A, UNI_A, UNI_B, UNI_AB };
static inline void vocab_unigram(vocab *v) {
    static const char *const tokens[] = {"<pad>", "</s>", "<unk>", "▁", "▁a", "a", "b", "ab"};
    static const int32_t kinds[] = {3, 3, 2, 1, 1, 1, 1, 1};
    static const float scores[] = {0, 0, 0, -2, -1.5f, -1, -1.2f, -1.1f};
    uint32_t map[1 + 66 + 1] = {66 * 4};
    map[1 + 0x41] = 0x41 | 1u << 8 | 1u << 10; /* label, has a value, offset 1 */
    map[1 + 0x40] = 1u << 31;                  /* the replacement at byte 0 */
    map[1 + 66] = 'a';
    vocab_str(v, "tokenizer.ggml.model", "t5");
    vocab_strs(v, "tokenizer.ggml.tokens", tokens, COUNT(tokens));
    vocab_i32s(v, "tokenizer.ggml.token_type", kinds);
    vocab_f32s(v, "tokenizer.ggml.scores", scores);
    vocab_array(v, "tokenizer.ggml.precompiled_charsmap", TQ_GGUF_U8, map, sizeof map, 1);
    vocab_bool(v, "tokenizer.ggml.remove_extra_whitespaces", true);
}

enum { WP_PAD, WP_UNK, WP_CLS, WP_SEP, WP_UN, WP_AFF, WP_ABLE, WP_HELLO, WP_COMMA, WP_E, WP_HAN };
static inline void vocab_wordpiece(vocab *v) {
    static const char *const tokens[] = {"[PAD]", "[UNK]",  "[CLS]", "[SEP]", "▁un", "aff",
                                         "able",  "▁hello", "▁,",    "▁e",    "▁我"};
    static const int32_t kinds[] = {3, 3, 3, 3, 1, 1, 1, 1, 1, 1, 1};
    vocab_str(v, "tokenizer.ggml.model", "bert");
    vocab_strs(v, "tokenizer.ggml.tokens", tokens, COUNT(tokens));
    vocab_i32s(v, "tokenizer.ggml.token_type", kinds);
    vocab_u32(v, "tokenizer.ggml.unknown_token_id", WP_UNK);
    vocab_u32(v, "tokenizer.ggml.cls_token_id", WP_CLS);
    vocab_u32(v, "tokenizer.ggml.seperator_token_id", WP_SEP);
}

static inline toque_status vocab_open(const vocab *v, tq_mem *mem, tq_gguf **gguf, tq_tokenizer **tok,
                                      toque_error *err) {
    toque_status status = tq_gguf_open_memory(gguf, mem, v->data, v->n, "test", err);
    return status == TOQUE_OK ? tq_tokenizer_from_gguf(tok, mem, *gguf, err) : status;
}

#endif
