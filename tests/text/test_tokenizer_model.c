/* The tokenizer of the real model (SmolLM2-135M-Instruct, path in TOQUE_TEST_MODEL): equal to Hugging Face's on random
 * Unicode (data/smollm2_unicode.txt, made by tools/reference/tokenizer.py), reversible, exact in its offsets, and not
 * slow on text made to be slow. Without the model every test fails: none may pass by being skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "text/tokenizer.h"

typedef struct fixture {
    tq_mem mem;
    tq_gguf *gguf;
    tq_tokenizer *tok;
} fixture;

static int setup(void **state) {
    const char *path = getenv("TOQUE_TEST_MODEL");
    if (!path || !*path) {
        print_error("TOQUE_TEST_MODEL is not set: it must name SmolLM2-135M-Instruct.Q4_1.gguf\n");
        return -1;
    }
    fixture *f = calloc(1, sizeof *f);
    if (!f) return -1;
    toque_error err;
    if (tq_gguf_open(&f->gguf, &f->mem, path, &err) != TOQUE_OK ||
        tq_tokenizer_from_gguf(&f->tok, &f->mem, f->gguf, &err) != TOQUE_OK) {
        print_error("TOQUE_TEST_MODEL: %s\n", err.message);
        return -1;
    }
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    if (!f) return 0;
    tq_tokenizer_free(f->tok);
    tq_gguf_close(f->gguf);
    size_t used = atomic_load(&f->mem.used);
    free(f);
    return used == 0 ? 0 : -1;
}

static size_t unhex(const char *s, size_t n, char *out) {
    for (size_t i = 0; i < n; i += 2) {
        char two[3] = {s[i], s[i + 1], 0};
        out[i / 2] = (char)strtoul(two, NULL, 16);
    }
    return n / 2;
}

static void check_line(fixture *f, char *line) {
    static char text[4096];
    toque_error err;
    tq_tokens list = {.mem = &f->mem, .want_offsets = true};
    bool special = line[0] == 'S';
    size_t hex = strcspn(line + 2, " \n");
    size_t n = unhex(line + 2, hex, text);
    assert_int_equal(tq_tokenize(f->tok, text, n, false, special, &list, &err), TOQUE_OK);
    char *at = line + 2 + hex;
    for (size_t i = 0; i < list.len; i++) {
        long want = strtol(at, &at, 10);
        if (want != list.ids[i]) fail_msg("token %zu is %d, expected %ld: %s", i, list.ids[i], want, line);
    }
    assert_int_equal(strspn(at, " \n"), strlen(at)); /* no ids left over */
    for (size_t i = 1; i < list.len; i++) assert_true(list.start[i] >= list.end[i - 1]);
    tq_tokens_clear(&list);
}

static void random_unicode_equals_hugging_face(void **state) {
    FILE *file = fopen(TEST_DATA "/smollm2_unicode.txt", "r");
    assert_non_null(file);
    static char line[16384];
    int lines = 0;
    while (fgets(line, sizeof line, file)) {
        check_line(*state, line);
        lines++;
    }
    fclose(file);
    assert_int_equal(lines, 360);
}

static void decode_all(fixture *f, const tq_tokens *list, bool show_special, tq_buf *out) {
    tq_detok d;
    tq_detok_init(&d, f->tok, &f->mem, show_special);
    for (size_t i = 0; i < list->len; i++) assert_true(tq_detok_feed(&d, list->ids[i], out));
    assert_true(tq_detok_finish(&d, out));
    tq_detok_clear(&d);
}

static void text_survives_the_round_trip(void **state) {
    fixture *f = *state;
    static const char text[] = "<|im_start|>user\nZażółć gęślą jaźń \xF0\x9F\xA6\x99\t  x<|im_end|>\n";
    for (int special = 0; special < 2; special++) {
        toque_error err;
        tq_tokens list = {.mem = &f->mem};
        tq_buf out;
        tq_buf_init(&out, &f->mem, 1 << 20);
        assert_int_equal(tq_tokenize(f->tok, text, strlen(text), false, special, &list, &err), TOQUE_OK);
        assert_int_equal(list.ids[0] == 1, special);
        decode_all(f, &list, true, &out);
        assert_string_equal(out.data, text);
        tq_buf_reset(&out);
        decode_all(f, &list, false, &out);
        assert_int_equal(strstr(out.data, "im_end") == NULL, special);
        tq_buf_clear(&out);
        tq_tokens_clear(&list);
    }
}

static void the_model_says_what_is_special(void **state) {
    const tq_tokenizer *tok = ((fixture *)*state)->tok;
    assert_int_equal(tq_tokenizer_size(tok), 49152);
    assert_int_equal(tq_tokenizer_bos(tok), 1);
    assert_int_equal(tq_tokenizer_eos(tok), 2);
    assert_false(tq_tokenizer_add_bos(tok));
    assert_true(tq_tokenizer_is_end(tok, 0) && tq_tokenizer_is_end(tok, 2));
    assert_false(tq_tokenizer_is_end(tok, 1));
    assert_int_equal(tq_tokenizer_kind(tok, 2), TQ_TOKEN_CONTROL);
    assert_int_equal(tq_tokenizer_find(tok, "<|im_end|>", 10), 2);
    for (tq_token id = 0; id < 49152; id++) {
        tq_string s = tq_tokenizer_text(tok, id);
        assert_int_equal(tq_tokenizer_find(tok, s.data, s.len), id);
    }
}

/* A megabyte without a word's end costs n log n, not n squared: seconds would tell. */
static void long_words_are_not_quadratic(void **state) {
    fixture *f = *state;
    enum { N = 1 << 20 };
    static const char *const units[] = {"a", "ab", " ", "=", "\n", "é", "\xFF", "'s", "a1", "1", "日本"};
    char *text = malloc(N);
    assert_non_null(text);
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        size_t len = strlen(units[u]);
        for (size_t i = 0; i < N; i++) text[i] = units[u][i % len];
        toque_error err;
        tq_tokens list = {.mem = &f->mem};
        double start = tq_now();
        assert_int_equal(tq_tokenize(f->tok, text, N, false, true, &list, &err), TOQUE_OK);
        double took = tq_now() - start;
        if (took > 10) fail_msg("1 MiB of '%s' took %.1f s", units[u], took);
        tq_tokens_clear(&list);
    }
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_unicode_equals_hugging_face),
        cmocka_unit_test(text_survives_the_round_trip),
        cmocka_unit_test(the_model_says_what_is_special),
        cmocka_unit_test(long_words_are_not_quadratic),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
