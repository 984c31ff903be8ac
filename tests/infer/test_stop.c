/* Stop strings: found across pieces, never shown, and text is held back no longer than needed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "infer/stop.h"

static tq_mem mem;

typedef struct stream {
    tq_stop stop;
    tq_buf out;
} stream;

static void open_stream(stream *s, const char *const *strings, size_t n) {
    tq_stop_init(&s->stop, &mem, strings, n);
    tq_buf_init(&s->out, &mem, 1000);
}

static void close_stream(stream *s) {
    tq_stop_clear(&s->stop);
    tq_buf_clear(&s->out);
    assert_int_equal(mem.used, 0);
}

static void feed(stream *s, const char *text, const char *shown) {
    assert_true(tq_stop_feed(&s->stop, text, strlen(text), &s->out));
    assert_string_equal(s->out.data, shown);
}

static void without_stop_strings_everything_passes(void **state) {
    (void)state;
    stream s;
    open_stream(&s, NULL, 0);
    feed(&s, "abc", "abc");
    feed(&s, "", "abc");
    feed(&s, "d", "abcd");
    assert_true(tq_stop_finish(&s.stop, &s.out));
    assert_string_equal(s.out.data, "abcd");
    close_stream(&s);
}

static void a_match_across_pieces_is_found_and_never_shown(void **state) {
    (void)state;
    static const char *const strings[] = {"STOP"};
    stream s;
    open_stream(&s, strings, 1);
    feed(&s, "one S", "one ");
    feed(&s, "T", "one ");
    feed(&s, "O", "one ");
    assert_false(s.stop.met);
    feed(&s, "P two", "one ");
    assert_true(s.stop.met);
    feed(&s, " three", "one ");
    assert_true(tq_stop_finish(&s.stop, &s.out));
    assert_string_equal(s.out.data, "one ");
    close_stream(&s);
}

static void text_is_released_when_it_cannot_match_any_more(void **state) {
    (void)state;
    static const char *const strings[] = {"aab"};
    stream s;
    open_stream(&s, strings, 1);
    feed(&s, "a", "");
    feed(&s, "a", "");
    feed(&s, "a", "a"); /* the last two may still begin it */
    feed(&s, "c", "aaac");
    feed(&s, "aa", "aaac");
    assert_true(tq_stop_finish(&s.stop, &s.out));
    assert_string_equal(s.out.data, "aaacaa");
    assert_false(s.stop.met);
    close_stream(&s);
}

static void the_first_of_several_wins(void **state) {
    (void)state;
    static const char *const strings[] = {"yz", "", "xy", "\n\n"};
    stream s;
    open_stream(&s, strings, 4);
    feed(&s, "wxyz", "w");
    assert_true(s.stop.met);
    close_stream(&s);
    open_stream(&s, strings, 4);
    feed(&s, "wx\n", "wx");
    feed(&s, "\ny", "wx");
    assert_true(s.stop.met);
    close_stream(&s);
}

/* Any way of cutting a text into pieces gives the same. */
static void cutting_changes_nothing(void **state) {
    (void)state;
    static const char *const strings[] = {"abcab", "cabd"};
    const char *text = "abcabdabcabc";
    size_t n = strlen(text);
    for (unsigned cuts = 0; cuts < 1u << (n - 1); cuts++) {
        stream s;
        open_stream(&s, strings, 2);
        for (size_t begin = 0, end; begin < n; begin = end) {
            for (end = begin + 1; end < n && !(cuts >> (end - 1) & 1);) end++;
            assert_true(tq_stop_feed(&s.stop, text + begin, end - begin, &s.out));
            if (s.stop.met) break;
        }
        assert_true(tq_stop_finish(&s.stop, &s.out));
        assert_true(s.stop.met);
        assert_string_equal(s.out.data, "");
        close_stream(&s);
    }
}

static void no_memory_is_returned(void **state) {
    (void)state;
    static const char *const strings[] = {"xx"};
    int failures = 0;
    for (mem.fail_at = 1;; mem.fail_at++) {
        stream s;
        atomic_store(&mem.calls, 0);
        open_stream(&s, strings, 1);
        bool ok = tq_stop_feed(&s.stop, "abc", 3, &s.out) && tq_stop_finish(&s.stop, &s.out);
        close_stream(&s);
        if (ok) break;
        failures++;
    }
    mem.fail_at = 0;
    assert_true(failures >= 2);
}

int main(void) {
    tq_mem_init(&mem, 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_stop_strings_everything_passes),
        cmocka_unit_test(a_match_across_pieces_is_found_and_never_shown),
        cmocka_unit_test(text_is_released_when_it_cannot_match_any_more),
        cmocka_unit_test(the_first_of_several_wins),
        cmocka_unit_test(cutting_changes_nothing),
        cmocka_unit_test(no_memory_is_returned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
