/* The four kinds of tokenizer on made-up vocabularies: ids, offsets, special tokens and spans, and the way back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vocab.h"

typedef struct fixture {
    vocab v;
    tq_mem mem;
    tq_gguf *gguf;
    tq_tokenizer *tok;
} fixture;

static fixture *open_vocab(void (*make)(vocab *)) {
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    toque_error err;
    make(&f->v);
    if (vocab_open(&f->v, &f->mem, &f->gguf, &f->tok, &err) != TOQUE_OK) fail_msg("%s", err.message);
    return f;
}

static void close_vocab(fixture *f) {
    tq_tokenizer_free(f->tok);
    tq_gguf_close(f->gguf);
    assert_int_equal(atomic_load(&f->mem.used), 0);
    free(f);
}

typedef struct expected {
    tq_token id;
    uint32_t start, end;
} expected;

static void check(fixture *f, const char *text, bool add, bool special, const expected *want, size_t n) {
    toque_error err;
    tq_tokens list = {.mem = &f->mem, .want_offsets = true};
    assert_int_equal(tq_tokenize(f->tok, text, strlen(text), add, special, &list, &err), TOQUE_OK);
    for (size_t i = 0; i < list.len && i < n; i++)
        if (list.ids[i] != want[i].id || list.start[i] != want[i].start || list.end[i] != want[i].end)
            fail_msg("'%s' token %zu: %d [%u, %u), expected %d [%u, %u)", text, i, list.ids[i], list.start[i],
                     list.end[i], want[i].id, want[i].start, want[i].end);
    if (list.len != n) fail_msg("'%s': %zu tokens, expected %zu", text, list.len, n);
    tq_tokens_clear(&list);
}
#define CHECK(f, text, add, special, ...)                                                                              \
    check((f), (text), (add), (special), (expected[]){__VA_ARGS__}, COUNT(((expected[]){__VA_ARGS__})))

static void bpe_merges_by_rank_within_words(void **state) {
    (void)state;
    fixture *f = open_vocab(vocab_bpe);
    for (int again = 0; again < 2; again++) { /* the second time from the memory of whole words */
        CHECK(f, "abc", false, false, {BPE_ABC, 0, 3});
        CHECK(f, "abc abc", false, false, {BPE_ABC, 0, 3}, {BPE_SPACE, 3, 4}, {BPE_ABC, 4, 7});
        CHECK(f, "ab ab a", false, false, {BPE_AB, 0, 2}, {BPE_SPACE_AB, 2, 5}, {BPE_SPACE_A, 5, 7});
        CHECK(f, "bac", false, false, {BPE_B, 0, 1}, {BPE_A, 1, 2}, {BPE_C, 2, 3});
        CHECK(f, "11", false, false, {BPE_ONE, 0, 1}, {BPE_ONE, 1, 2});
    }
    close_vocab(f);
}

static void bpe_covers_bytes(void **state) {
    (void)state;
    fixture *f = open_vocab(vocab_bpe);
    CHECK(f, "aéb", false, false, {BPE_A, 0, 1}, {BPE_E_ACUTE, 1, 3}, {BPE_B, 3, 4});
    CHECK(f,
          "a\xC3"
          "b",
          false, false, {BPE_A, 0, 1}, {BPE_C3, 1, 2}, {BPE_B, 2, 3}); /* not UTF-8 */
    CHECK(f, "\xA9\xC3", false, false, {BPE_A9, 0, 1}, {BPE_C3, 1, 2});
    /* A byte that the vocabulary lacks vanishes and its neighbours merge; x, y and z belong to the word's tokens. */
    CHECK(f, "xaybz", false, false, {BPE_AB, 0, 5});
    check(f, "xyz", false, false, NULL, 0);
    check(f, "", false, true, NULL, 0);
    close_vocab(f);
}

static void long_pieces_merge_like_short_ones(void **state) {
    (void)state;
    fixture *f = open_vocab(vocab_bpe);
    enum { N = 1000 };
    char text[3 * N];
    for (size_t i = 0; i < sizeof text; i++) text[i] = "abc"[i % 3];
    toque_error err;
    tq_tokens list = {.mem = &f->mem, .want_offsets = true};
    assert_int_equal(tq_tokenize(f->tok, text, sizeof text, false, false, &list, &err), TOQUE_OK);
    assert_int_equal(list.len, N);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(list.ids[i], BPE_ABC);
        assert_int_equal(list.start[i], 3 * i);
        assert_int_equal(list.end[i], 3 * i + 3);
    }
    tq_tokens_clear(&list);
    close_vocab(f);
}

static void control_tokens_only_where_allowed(void **state) {
    (void)state;
    fixture *f = open_vocab(vocab_bpe);
    CHECK(f, "a<|s|>b", false, true, {BPE_A, 0, 1}, {BPE_S, 1, 6}, {BPE_B, 6, 7});
    CHECK(f, "a<|s|>b", false, false, {BPE_A, 0, 1}, {BPE_LESS, 1, 2}, {BPE_BAR, 2, 3}, {BPE_LOW_S, 3, 4},
          {BPE_BAR, 4, 5}, {BPE_MORE, 5, 6}, {BPE_B, 6, 7});
    CHECK(f, "a<u>b", false, false, {BPE_A, 0, 1}, {BPE_USER, 1, 4}, {BPE_B, 4, 5}); /* user-defined: always */
    CHECK(f, "a", true, false, {BPE_S, 0, 0}, {BPE_A, 0, 1});                        /* BOS, no EOS */
    close_vocab(f);
}

static void check_spans(const char *text, const tq_text_span *spans, size_t n, int controls) {
    fixture *f = open_vocab(vocab_bpe);
    toque_error err;
    tq_tokens list = {.mem = &f->mem};
    assert_int_equal(tq_tokenize_spans(f->tok, text, strlen(text), spans, n, false, &list, &err), TOQUE_OK);
    for (size_t i = 0; i < list.len; i++) controls -= list.ids[i] == BPE_S;
    assert_int_equal(controls, 0);
    tq_tokens_clear(&list);
    close_vocab(f);
}

static void users_cannot_write_control_tokens(void **state) {
    (void)state;
    check_spans("<|s|><|s|>", (tq_text_span[]){{5, true}, {5, false}}, 2, 1);
    check_spans("<|s|><|s|>", (tq_text_span[]){{5, false}, {0, true}, {5, false}}, 3, 0);
    check_spans("<|s|>", (tq_text_span[]){{2, false}, {3, true}}, 2, 0); /* begun by the user, ended by the template */
    check_spans("<|s|>", (tq_text_span[]){{2, true}, {3, false}}, 2, 0);
    check_spans("<|s|>", (tq_text_span[]){{2, true}, {0, false}, {3, true}}, 3, 1); /* two parts of the template */
    check_spans("a<|s|>b<|s|>", (tq_text_span[]){{7, false}, {5, true}}, 2, 1);
}

static void spans_must_cover_the_text(void **state) {
    (void)state;
    fixture *f = open_vocab(vocab_bpe);
    toque_error err;
    tq_tokens list = {.mem = &f->mem};
    tq_text_span shorter = {2, true}, longer = {4, true}, wrap[] = {{2, true}, {SIZE_MAX, true}};
    assert_int_equal(tq_tokenize_spans(f->tok, "abc", 3, &shorter, 1, false, &list, &err), TOQUE_EINVAL);
    assert_int_equal(tq_tokenize_spans(f->tok, "abc", 3, &longer, 1, false, &list, &err), TOQUE_EINVAL);
    assert_int_equal(tq_tokenize_spans(f->tok, "abc", 3, wrap, 2, false, &list, &err), TOQUE_EINVAL);
    assert_int_equal(list.len, 0);
    close_vocab(f);
}

static void sentencepiece_merges_by_score(void **state) {
    (void)state;
    fixture *f = open_vocab(vocab_spm);
    CHECK(f, "ab", false, false, {SPM_SPACE_AB, 0, 2});
    CHECK(f, "ab ba", false, false, {SPM_SPACE_AB, 0, 2}, {SPM_SPACE, 2, 3}, {SPM_B, 3, 4}, {SPM_A, 4, 5});
    CHECK(f, "a", true, false, {SPM_BOS, 0, 0}, {SPM_SPACE_A, 0, 1});
    /* The space in front covers nothing; what is no token becomes bytes, and the unknown token without those. */
    CHECK(f, "€", false, false, {SPM_SPACE, 0, 0}, {SPM_E2, 0, 1}, {SPM_82, 1, 2}, {SPM_AC, 2, 3});
    CHECK(f, "é", false, false, {SPM_SPACE, 0, 0}, {SPM_UNK, 0, 1}, {SPM_UNK, 1, 2});
    CHECK(f, "a</s>a", false, true, {SPM_SPACE_A, 0, 1}, {SPM_EOS, 1, 5}, {SPM_SPACE_A, 5, 6});
    close_vocab(f);
}

static void unigram_takes_the_best_sum(void **state) {
    (void)state;
    fixture *f = open_vocab(vocab_unigram);
    CHECK(f, "ab", false, false, {UNI_SPACE_A, 0, 1}, {UNI_B, 1, 2}); /* -2.7, against -3.1 for a space and "ab" */
    CHECK(f, "bab", false, false, {UNI_SPACE, 0, 0}, {UNI_B, 0, 1}, {UNI_AB, 1, 3});
    CHECK(f, "  A  b ", false, false, {UNI_SPACE_A, 0, 3}, {UNI_SPACE, 3, 5}, {UNI_B, 5, 6});
    CHECK(f, "aéé", true, false, {UNI_SPACE_A, 0, 1}, {UNI_UNK, 1, 5}, {UNI_EOS, 5, 5});
    close_vocab(f);
}

static void wordpiece_takes_the_longest(void **state) {
    (void)state;
    fixture *f = open_vocab(vocab_wordpiece);
    CHECK(f, "unaffable", false, false, {WP_UN, 0, 2}, {WP_AFF, 2, 5}, {WP_ABLE, 5, 9});
    CHECK(f, "Hello,\t\xC3\x89", true, false, {WP_CLS, 0, 0}, {WP_HELLO, 0, 5}, {WP_COMMA, 5, 6}, {WP_E, 7, 9},
          {WP_SEP, 9, 9});
    CHECK(f, "unxyz un", false, false, {WP_UNK, 0, 5}, {WP_UN, 6, 8});
    CHECK(f, "un我un", false, false, {WP_UN, 0, 2}, {WP_HAN, 2, 5}, {WP_UN, 5, 7});
    CHECK(f, "aff", false, false, {WP_UNK, 0, 3}); /* continues words, begins none */
    close_vocab(f);
}

static void wordpiece_gives_up_on_long_words(void **state) {
    (void)state;
    fixture *f = open_vocab(vocab_wordpiece);
    char text[302] = "un";
    for (int i = 0; i < 33; i++) memcpy(text + 2 + 3 * i, "aff", 4);
    toque_error err;
    tq_tokens list = {.mem = &f->mem};
    assert_int_equal(tq_tokenize(f->tok, text + 2, 99, false, false, &list, &err), TOQUE_OK);
    assert_int_equal(tq_tokenize(f->tok, text, 101, false, false, &list, &err), TOQUE_OK);
    assert_int_equal(list.len, 2);
    assert_int_equal(list.ids[1], WP_UNK);
    tq_tokens_clear(&list);
    assert_int_equal(tq_tokenize(f->tok, text, 2 + 3 * 32, false, false, &list, &err), TOQUE_OK);
    assert_int_equal(list.len, 33);
    tq_tokens_clear(&list);
    close_vocab(f);
}

/* Feeds the tokens and compares what has come out after each, then what the end brings. */
static void check_stream(void (*make)(vocab *), bool show, const tq_token *ids, const char *const *after, size_t n) {
    fixture *f = open_vocab(make);
    tq_detok d;
    tq_buf out;
    tq_buf_init(&out, &f->mem, 1000);
    tq_detok_init(&d, f->tok, &f->mem, show);
    for (size_t i = 0; i < n; i++) {
        assert_true(tq_detok_feed(&d, ids[i], &out));
        assert_string_equal(out.data, after[i]);
    }
    assert_true(tq_detok_finish(&d, &out));
    assert_string_equal(out.data, after[n]);
    tq_detok_clear(&d);
    tq_buf_clear(&out);
    close_vocab(f);
}

static void streams_give_whole_characters(void **state) {
    (void)state;
    check_stream(vocab_bpe, false, (tq_token[]){BPE_A, BPE_C3, BPE_A9, BPE_SPACE_A},
                 (const char *[]){"a", "a", "aé", "aé a", "aé a"}, 4);
    check_stream(vocab_bpe, false, (tq_token[]){BPE_C3, BPE_A, BPE_A9, BPE_C3},
                 (const char *[]){"",
                                  "\xEF\xBF\xBD"
                                  "a",
                                  "\xEF\xBF\xBD"
                                  "a\xEF\xBF\xBD",
                                  "\xEF\xBF\xBD"
                                  "a\xEF\xBF\xBD",
                                  "\xEF\xBF\xBD"
                                  "a\xEF\xBF\xBD\xEF\xBF\xBD"},
                 4);
    check_stream(vocab_bpe, false, (tq_token[]){BPE_S, BPE_USER, -1, 1000, BPE_EMPTY},
                 (const char *[]){"", "<u>", "<u>", "<u>", "<u>", "<u>"}, 5);
    check_stream(vocab_bpe, true, (tq_token[]){BPE_S}, (const char *[]){"<|s|>", "<|s|>"}, 1);
    check_stream(vocab_spm, false, (tq_token[]){SPM_BOS, SPM_SPACE_AB, SPM_SPACE_A, SPM_E2, SPM_82, SPM_AC},
                 (const char *[]){"", "ab", "ab a", "ab a", "ab a", "ab a€", "ab a€"}, 6);
    check_stream(vocab_spm, false, (tq_token[]){SPM_E2, SPM_82, SPM_A}, /* one maximal subpart of two bytes */
                 (const char *[]){"", "",
                                  "\xEF\xBF\xBD"
                                  "a",
                                  "\xEF\xBF\xBD"
                                  "a"},
                 3);
}

static void vocabulary_answers_questions(void **state) {
    (void)state;
    fixture *f = open_vocab(vocab_bpe);
    const tq_tokenizer *tok = f->tok;
    assert_int_equal(tq_tokenizer_size(tok), 21);
    assert_int_equal(tq_tokenizer_find(tok, "Ġab", strlen("Ġab")), BPE_SPACE_AB);
    assert_int_equal(tq_tokenizer_find(tok, " ab", 3), TQ_NO_TOKEN); /* stored text, not what it matches */
    assert_int_equal(tq_tokenizer_find(tok, "<|s|>", 5), BPE_S);
    assert_int_equal(tq_tokenizer_find(tok, "a", 1), BPE_A); /* the lower of two ids */
    assert_int_equal(tq_tokenizer_find(tok, "", 0), TQ_NO_TOKEN);
    assert_int_equal(tq_tokenizer_kind(tok, BPE_USER), TQ_TOKEN_USER_DEFINED);
    assert_true(tq_tokenizer_is_end(tok, BPE_END));
    assert_false(tq_tokenizer_is_end(tok, BPE_S) || tq_tokenizer_is_end(tok, -1) || tq_tokenizer_is_end(tok, 21));
    assert_true(tq_tokenizer_add_bos(tok));
    assert_false(tq_tokenizer_add_eos(tok));
    assert_int_equal(tq_tokenizer_unk(tok), TQ_NO_TOKEN);
    assert_int_equal(tq_tokenizer_text(tok, 99).len, 0);
    close_vocab(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bpe_merges_by_rank_within_words),   cmocka_unit_test(bpe_covers_bytes),
        cmocka_unit_test(long_pieces_merge_like_short_ones), cmocka_unit_test(control_tokens_only_where_allowed),
        cmocka_unit_test(users_cannot_write_control_tokens), cmocka_unit_test(spans_must_cover_the_text),
        cmocka_unit_test(sentencepiece_merges_by_score),     cmocka_unit_test(unigram_takes_the_best_sum),
        cmocka_unit_test(wordpiece_takes_the_longest),       cmocka_unit_test(wordpiece_gives_up_on_long_words),
        cmocka_unit_test(streams_give_whole_characters),     cmocka_unit_test(vocabulary_answers_questions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
