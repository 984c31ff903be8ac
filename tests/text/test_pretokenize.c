/* Pre-tokenizers and UTF-8: every named one compiles and loses nothing, some cuts by hand, and decoding by the
 * Unicode standard's own examples. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "text/pretokenize.h"
#include "text/unicode.h"

typedef struct joined {
    char text[4096]; /* the pieces, with | between them */
    size_t len;
} joined;

static toque_status join(void *arg, const char *piece, size_t n, toque_error *err) {
    (void)err;
    joined *j = arg;
    assert_true(n > 0 && j->len + n + 2 < sizeof j->text);
    if (j->len) j->text[j->len++] = '|';
    memcpy(j->text + j->len, piece, n);
    j->len += n;
    j->text[j->len] = 0;
    return TOQUE_OK;
}

static void check(const char *name, const char *text, const char *pieces) {
    tq_mem mem = {0};
    tq_pretok *pre = NULL;
    toque_error err;
    joined j = {.len = 0};
    assert_int_equal(tq_pretok_new(&pre, &mem, name, strlen(name), &err), TOQUE_OK);
    tq_pretok_scratch *scratch = tq_pretok_scratch_new(pre);
    assert_non_null(scratch);
    assert_int_equal(tq_pretok_split(pre, scratch, text, strlen(text), join, &j, &err), TOQUE_OK);
    if (pieces) {
        assert_string_equal(j.text, pieces);
    } else { /* only that nothing is lost: the text has no | of its own */
        size_t kept = 0;
        for (size_t i = 0; i < j.len; i++)
            if (j.text[i] != '|') j.text[kept++] = j.text[i];
        j.text[kept] = 0;
        assert_string_equal(j.text, text);
    }
    tq_pretok_scratch_free(scratch);
    tq_pretok_free(pre);
    assert_int_equal(atomic_load(&mem.used), 0);
}

/* The names of pretokenizers.def; its expressions' macros are not needed for that. */
static const char *const names[] = {
#define X(name, ...) name,
#include "text/pretokenizers.def"
#undef X
};

static void every_name_compiles_and_loses_nothing(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        check(names[i], "I'll  pay 12345€ (now)\r\n\n  \tнещо 我想 ४५ e\xCC\x81 \xF0\x9F\x98\x80 'S x=1;//\n   ", NULL);
        check(names[i], "", "");
    }
}

static void words_are_cut_as_their_makers_cut(void **state) {
    (void)state;
    check("gpt-2", "I've  2345 x\t\ty  ", "I|'ve| | 2345| x|\t|\t|y|  ");
    check("smollm", "a  12 b\n\n3", "a|  |1|2| b|\n\n|3");
    check("llama-bpe", "I'VE 12345 (a)\n\n b", "I|'VE| |123|45| (|a|)\n\n| b");
    check("qwen2", "x 12\n  y", "x| |1|2|\n| | y");
    check("qwen35", "e\xCC\x81t", "e\xCC\x81t");
    check("gpt-4o", "HelloWorld's", "Hello|World's");
    check("deepseek-llm", "ab 12,我 \n", "ab| |12|,|我| |\n");
    check("falcon", "1234 a+b", "123|4| a|+|b");
    check("gpt-2",
          "a\xE1\xA0\x8E"
          "b",
          "a|\xE1\xA0\x8E|b"); /* U+180E is no space */
    check("gpt-2",
          "a\xC2\x85\xC2\x85"
          "b",
          "a|\xC2\x85|\xC2\x85|b");
}

static void unknown_names_are_refused(void **state) {
    (void)state;
    tq_mem mem = {0};
    tq_pretok *pre = NULL;
    toque_error err;
    assert_int_equal(tq_pretok_new(&pre, &mem, "gpt-2x", 6, &err), TOQUE_EUNSUPPORTED);
    assert_int_equal(tq_pretok_new(&pre, &mem, "gpt", 3, &err), TOQUE_EUNSUPPORTED);
    assert_null(pre);
}

static void utf8_is_decoded_by_the_standard(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t n, len;
        uint32_t cp;
    } cases[] = {
        {"a", 1, 1, 'a'},
        {"\xC2\x80", 2, 2, 0x80},
        {"\xDF\xBF", 2, 2, 0x7FF},
        {"\xE0\xA0\x80", 3, 3, 0x800},
        {"\xED\x9F\xBF", 3, 3, 0xD7FF},
        {"\xF4\x8F\xBF\xBF", 4, 4, 0x10FFFF},
        {"\xC0\x80", 2, 1, TQ_UTF8_BAD},
        {"\x80", 1, 1, TQ_UTF8_BAD},
        {"\xE0\x80\x80", 3, 1, TQ_UTF8_BAD},
        {"\xED\xA0\x80", 3, 1, TQ_UTF8_BAD},
        {"\xF4\x90\x80\x80", 4, 1, TQ_UTF8_BAD},
        {"\xF5\x80", 2, 1, TQ_UTF8_BAD},
        {"\xE1\x80\xE2", 3, 2, TQ_UTF8_BAD},
        {"\xF1\x80\x80\x41", 4, 3, TQ_UTF8_BAD},
        {"\xE1\x80", 2, 2, TQ_UTF8_CUT},
        {"\xF1", 1, 1, TQ_UTF8_CUT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t cp;
        assert_int_equal(tq_utf8_next(cases[i].text, cases[i].n, &cp), cases[i].len);
        assert_int_equal(cp, cases[i].cp);
        char out[4];
        if (cp < TQ_UTF8_CUT) {
            assert_int_equal(tq_utf8_put(cp, out), cases[i].len);
            assert_memory_equal(out, cases[i].text, cases[i].len);
        }
    }
    assert_int_equal(tq_utf8_valid_prefix("0123456789abc\xC3\xA9\xC3", 16), 15);
    assert_int_equal(tq_utf8_valid_prefix("01234567\xFF", 9), 8);
}

static void characters_have_their_properties(void **state) {
    (void)state;
    assert_true(tq_unicode_is_space(' ') && tq_unicode_is_space(0x85) && tq_unicode_is_space(0x3000));
    assert_false(tq_unicode_is_space(0x180E) || tq_unicode_is_space(0x200B));
    assert_true(tq_unicode_is_mark(0x301) && tq_unicode_is_punctuation(0x3001) && tq_unicode_is_control(0xAD));
    assert_int_equal(tq_unicode_lower(0x3A3), 0x3C3);
    uint32_t parts[TQ_UNICODE_NFD_MAX];
    assert_int_equal(tq_unicode_nfd(0x1EA4, parts), 3); /* Â with acute */
    assert_true(parts[0] == 'A' && parts[1] == 0x302 && parts[2] == 0x301);
    assert_int_equal(tq_unicode_nfd('x', parts), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_name_compiles_and_loses_nothing),
        cmocka_unit_test(words_are_cut_as_their_makers_cut),
        cmocka_unit_test(unknown_names_are_refused),
        cmocka_unit_test(utf8_is_decoded_by_the_standard),
        cmocka_unit_test(characters_have_their_properties),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
