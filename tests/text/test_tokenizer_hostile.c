/* Vocabularies that are wrong, memory that ends: an error that names what is wrong, and nothing leaks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vocab.h"

static void refuse(vocab *v, toque_status want, const char *word) {
    tq_mem mem = {0};
    tq_gguf *gguf = NULL;
    tq_tokenizer *tok = NULL;
    toque_error err = {0};
    assert_int_equal(tq_gguf_open_memory(&gguf, &mem, v->data, v->n, "test", &err), TOQUE_OK);
    assert_int_equal(tq_tokenizer_from_gguf(&tok, &mem, gguf, &err), want);
    assert_null(tok);
    if (!strstr(err.message, word)) fail_msg("'%s' does not say '%s'", err.message, word);
    tq_gguf_close(gguf);
    assert_int_equal(atomic_load(&mem.used), 0);
}

static void no_or_unknown_tokenizers_are_refused(void **state) {
    (void)state;
    vocab none = {0}, unknown = {0}, number = {0}, pre = {0};
    vocab_str(&none, "general.name", "x");
    refuse(&none, TOQUE_EFORMAT, "tokenizer.ggml.model");
    vocab_str(&unknown, "tokenizer.ggml.model", "rwkv");
    refuse(&unknown, TOQUE_EUNSUPPORTED, "rwkv");
    vocab_u32(&number, "tokenizer.ggml.model", 3);
    refuse(&number, TOQUE_EFORMAT, "tokenizer.ggml.model");
    vocab_str(&pre, "tokenizer.ggml.model", "gpt2");
    vocab_str(&pre, "tokenizer.ggml.pre", "no-such-words");
    vocab_strs(&pre, "tokenizer.ggml.tokens", (const char *[]){"a"}, 1);
    refuse(&pre, TOQUE_EUNSUPPORTED, "no-such-words");
}

static void broken_token_lists_are_refused(void **state) {
    (void)state;
    static char huge[5000];
    memset(huge, 'x', sizeof huge - 1);
    vocab missing = {0}, empty = {0}, numbers = {0}, scalar = {0}, longest = {0};
    vocab_str(&missing, "tokenizer.ggml.model", "llama");
    refuse(&missing, TOQUE_EFORMAT, "0 tokens");
    vocab_str(&empty, "tokenizer.ggml.model", "llama");
    vocab_strs(&empty, "tokenizer.ggml.tokens", NULL, 0);
    refuse(&empty, TOQUE_EFORMAT, "0 tokens");
    vocab_str(&numbers, "tokenizer.ggml.model", "llama");
    vocab_i32s(&numbers, "tokenizer.ggml.tokens", ((int32_t[]){1, 2}));
    refuse(&numbers, TOQUE_EFORMAT, "array of strings");
    vocab_str(&scalar, "tokenizer.ggml.model", "llama");
    vocab_u32(&scalar, "tokenizer.ggml.tokens", 3);
    refuse(&scalar, TOQUE_EFORMAT, "array of strings");
    vocab_str(&longest, "tokenizer.ggml.model", "llama");
    vocab_strs(&longest, "tokenizer.ggml.tokens", (const char *[]){"a", huge}, 2);
    refuse(&longest, TOQUE_EFORMAT, "token 1");
}

static void llama(vocab *v) {
    vocab_str(v, "tokenizer.ggml.model", "llama");
    vocab_strs(v, "tokenizer.ggml.tokens", (const char *[]){"<unk>", "a", "b"}, 3);
}

static void tables_of_another_length_or_type_are_refused(void **state) {
    (void)state;
    vocab kinds = {0}, kind = {0}, strings = {0}, scores = {0}, nan = {0}, without = {0};
    llama(&kinds);
    vocab_i32s(&kinds, "tokenizer.ggml.token_type", ((int32_t[]){1, 1}));
    refuse(&kinds, TOQUE_EFORMAT, "2 elements");
    llama(&kind);
    vocab_i32s(&kind, "tokenizer.ggml.token_type", ((int32_t[]){1, 7, 1}));
    refuse(&kind, TOQUE_EFORMAT, "type 7");
    llama(&strings);
    vocab_strs(&strings, "tokenizer.ggml.token_type", (const char *[]){"1", "1", "1"}, 3);
    refuse(&strings, TOQUE_EFORMAT, "array of numbers");
    llama(&scores);
    vocab_f32s(&scores, "tokenizer.ggml.scores", ((float[]){1, 2, 3, 4}));
    refuse(&scores, TOQUE_EFORMAT, "4 elements");
    llama(&nan);
    vocab_f32s(&nan, "tokenizer.ggml.scores", ((float[]){1, __builtin_nanf(""), 3}));
    refuse(&nan, TOQUE_EFORMAT, "finite");
    llama(&without);
    refuse(&without, TOQUE_EFORMAT, "scores");
}

static void special_ids_must_exist(void **state) {
    (void)state;
    static const char *const keys[] = {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
                                       "tokenizer.ggml.unknown_token_id", "tokenizer.ggml.eot_token_id"};
    for (size_t i = 0; i < COUNT(keys); i++) {
        vocab v = {0};
        vocab_spm(&v);
        vocab_u32(&v, keys[i], 12);
        refuse(&v, TOQUE_EFORMAT, keys[i]);
    }
}

static void merges_must_join_tokens(void **state) {
    (void)state;
    static const char *const bad[] = {"a z", "ab", "b c", " ", "", "€ a", "a b c", "a "};
    vocab none = {0};
    vocab_bpe_tokens(&none);
    refuse(&none, TOQUE_EFORMAT, "merges");
    for (size_t i = 0; i < COUNT(bad); i++) {
        vocab v = {0};
        vocab_bpe_tokens(&v);
        vocab_strs(&v, "tokenizer.ggml.merges", (const char *[]){"a b", bad[i]}, 2);
        refuse(&v, TOQUE_EFORMAT, "merge 1");
    }
}

static void charsmaps_are_checked(void **state) {
    (void)state;
    static const uint8_t cut[] = {8, 0, 0, 0, 1, 2}, odd[] = {3, 0, 0, 0, 1, 2, 3, 'a', 0},
                         open_end[] = {4, 0, 0, 0, 1, 2, 3, 4, 'a', 'b'};
    const struct {
        const uint8_t *data;
        size_t n;
    } maps[] = {{cut, sizeof cut}, {odd, sizeof odd}, {open_end, sizeof open_end}, {cut, 3}};
    for (size_t i = 0; i < COUNT(maps); i++) {
        vocab v = {0};
        vocab_str(&v, "tokenizer.ggml.model", "t5");
        vocab_strs(&v, "tokenizer.ggml.tokens", (const char *[]){"<pad>", "</s>", "<unk>"}, 3);
        vocab_f32s(&v, "tokenizer.ggml.scores", ((float[]){0, 0, 0}));
        vocab_array(&v, "tokenizer.ggml.precompiled_charsmap", TQ_GGUF_U8, maps[i].data, maps[i].n, 1);
        refuse(&v, TOQUE_EFORMAT, "charsmap");
    }
}

static const char sample[] =
    "ab abc <|s|> A é€ \xFF unaffable hello, ababababababababababababababababababababababababababab";

/* Loads, tokenizes and decodes; OK only if all of it went through. */
static toque_status whole_path(const vocab *v, tq_mem *mem) {
    tq_gguf *gguf = NULL;
    tq_tokenizer *tok = NULL;
    toque_error err;
    tq_tokens list = {.mem = mem, .want_offsets = true};
    tq_buf out;
    tq_buf_init(&out, mem, 1 << 16);
    toque_status status = vocab_open(v, mem, &gguf, &tok, &err);
    if (status == TOQUE_OK) {
        status = tq_tokenize(tok, sample, sizeof sample - 1, true, true, &list, &err);
        if (status != TOQUE_OK) assert_int_equal(list.len, 0);
        tq_detok d;
        tq_detok_init(&d, tok, mem, true);
        bool ok = true;
        for (size_t i = 0; i < list.len && ok; i++) ok = tq_detok_feed(&d, list.ids[i], &out);
        if (!(ok && tq_detok_finish(&d, &out)) && status == TOQUE_OK) status = TOQUE_ENOMEM;
        tq_detok_clear(&d);
    }
    tq_buf_clear(&out);
    tq_tokens_clear(&list);
    tq_tokenizer_free(tok);
    tq_gguf_close(gguf);
    return status;
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    void (*const kinds[])(vocab *) = {vocab_bpe, vocab_spm, vocab_unigram, vocab_wordpiece};
    for (size_t k = 0; k < COUNT(kinds); k++) {
        vocab v = {0};
        kinds[k](&v);
        unsigned long long at = 1;
        for (;; at++) {
            tq_mem mem = {.fail_at = at};
            toque_status status = whole_path(&v, &mem);
            assert_int_equal(atomic_load(&mem.used), 0);
            bool reached = atomic_load(&mem.calls) >= at;
            if (!reached) {
                assert_int_equal(status, TOQUE_OK);
                break;
            }
            /* The just-in-time compiler's memory may be missing: the expressions are then interpreted. */
            assert_true(status == TOQUE_ENOMEM || status == TOQUE_OK);
        }
        assert_true(at > 10);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_or_unknown_tokenizers_are_refused),
        cmocka_unit_test(broken_token_lists_are_refused),
        cmocka_unit_test(tables_of_another_length_or_type_are_refused),
        cmocka_unit_test(special_ids_must_exist),
        cmocka_unit_test(merges_must_join_tokens),
        cmocka_unit_test(charsmaps_are_checked),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
