/* The growing byte string: termination, its maximum, sticky failure. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/buf.h"

static void content_is_always_terminated(void **state) {
    (void)state;
    tq_mem mem = {0};
    tq_buf b;
    tq_buf_init(&b, &mem, 1000);
    assert_string_equal(b.data, "");
    assert_true(tq_buf_puts(&b, "one "));
    assert_true(tq_buf_printf(&b, "%d%s", 2, "!"));
    assert_true(tq_buf_putc(&b, '?'));
    assert_string_equal(b.data, "one 2!?");
    tq_buf_reset(&b);
    assert_string_equal(b.data, "");
    assert_true(tq_buf_put(&b, "a\0b", 3));
    assert_memory_equal(b.data, "a\0b", 4);
    tq_buf_clear(&b);
    tq_buf_clear(&b);
    assert_int_equal(mem.used, 0);
}

static void the_maximum_is_exact_and_failure_stays(void **state) {
    (void)state;
    tq_mem mem = {0};
    toque_error err;
    tq_buf b;
    tq_buf_init(&b, &mem, 10);
    assert_true(tq_buf_puts(&b, "0123456789"));
    assert_int_equal(tq_buf_status(&b, "it", &err), TOQUE_OK);
    assert_false(tq_buf_putc(&b, 'x'));
    assert_string_equal(b.data, "0123456789");
    assert_int_equal(tq_buf_status(&b, "the text", &err), TOQUE_ELIMIT);
    assert_non_null(strstr(err.message, "the text"));
    assert_false(tq_buf_puts(&b, ""));
    assert_null(tq_buf_take(&b));
    tq_buf_reset(&b);
    assert_true(tq_buf_puts(&b, "again"));
    assert_false(tq_buf_put(&b, "x", SIZE_MAX));
    tq_buf_clear(&b);
    assert_int_equal(mem.used, 0);
}

static void every_failing_allocation_is_reported(void **state) {
    (void)state;
    toque_error err;
    bool passed = false;
    for (unsigned n = 1; !passed; n++) {
        assert_true(n < 100);
        tq_mem mem = {.fail_at = n};
        tq_buf b;
        tq_buf_init(&b, &mem, 100000);
        for (int i = 0; i < 1000; i++) tq_buf_printf(&b, "%d,", i);
        passed = !b.failed;
        if (!passed) assert_int_equal(tq_buf_status(&b, "it", &err), TOQUE_ENOMEM);
        if (passed) assert_int_equal(b.len, 3890);
        tq_buf_clear(&b);
        assert_int_equal(mem.used, 0);
    }
}

static void taking_leaves_an_empty_buffer(void **state) {
    (void)state;
    tq_mem mem = {0};
    tq_buf b;
    tq_buf_init(&b, &mem, 100);
    char *nothing = tq_buf_take(&b);
    assert_string_equal(nothing, "");
    tq_buf_puts(&b, "text");
    char *p = tq_buf_take(&b);
    assert_string_equal(p, "text");
    assert_int_equal(b.len, 0);
    assert_string_equal(b.data, "");
    tq_buf_puts(&b, "more");
    assert_string_equal(p, "text");
    tq_free(&mem, p);
    tq_free(&mem, nothing);
    tq_buf_clear(&b);
    assert_int_equal(mem.used, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(content_is_always_terminated),
        cmocka_unit_test(the_maximum_is_exact_and_failure_stays),
        cmocka_unit_test(every_failing_allocation_is_reported),
        cmocka_unit_test(taking_leaves_an_empty_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
