/* The allocation gateway: limits, faults, counters, alignment, arenas. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"

static void blocks_are_aligned_and_counted(void **state) {
    (void)state;
    tq_mem mem;
    tq_mem_init(&mem, 0);
    char *p = tq_zalloc(&mem, 3, 7);
    assert_int_equal((uintptr_t)p % 64, 0);
    for (int i = 0; i < 21; i++) assert_int_equal(p[i], 0);
    assert_int_equal(mem.used, 21);
    char *big = tq_zalloc(&mem, 1 << 21, 1);
    assert_int_equal((uintptr_t)big % 64, 0);
    assert_int_equal(big[(1 << 21) - 1], 0);
    tq_free(&mem, big);
    assert_int_equal(mem.used, 21);
    assert_int_equal(mem.peak, (1 << 21) + 21);
    tq_free(&mem, p);
    tq_free(&mem, NULL);
    assert_int_equal(mem.used, 0);
}

static void overflowing_products_are_refused(void **state) {
    (void)state;
    tq_mem mem = {0};
    assert_null(tq_alloc(&mem, SIZE_MAX / 2, 3));
    assert_null(tq_alloc(&mem, SIZE_MAX, 1));
    assert_null(tq_zalloc(&mem, SIZE_MAX - 64, 1));
    assert_null(tq_strndup(&mem, "x", SIZE_MAX));
    assert_int_equal(mem.used, 0);
}

static void the_limit_holds_and_refused_calls_change_nothing(void **state) {
    (void)state;
    tq_mem mem;
    tq_mem_init(&mem, 100);
    char *p = tq_alloc(&mem, 60, 1);
    assert_non_null(p);
    assert_null(tq_alloc(&mem, 41, 1));
    assert_int_equal(mem.used, 60);
    memset(p, 'x', 60);
    assert_null(tq_realloc(&mem, p, 90, 1)); /* old and new live together for a moment */
    assert_int_equal(p[59], 'x');
    char *q = tq_alloc(&mem, 40, 1);
    assert_non_null(q);
    tq_free(&mem, p);
    tq_free(&mem, q);
    assert_int_equal(mem.used, 0);
}

static void the_chosen_call_fails(void **state) {
    (void)state;
    tq_mem mem = {.fail_at = 2};
    void *a = tq_alloc(&mem, 1, 1), *b = tq_alloc(&mem, 1, 1), *c = tq_alloc(&mem, 1, 1);
    assert_non_null(a);
    assert_null(b);
    assert_non_null(c);
    mem.fail_at = 4, mem.fail_after = true;
    assert_null(tq_alloc(&mem, 1, 1));
    assert_null(tq_alloc(&mem, 1, 1));
    tq_free(&mem, a);
    tq_free(&mem, c);
    assert_int_equal(mem.used, 0);
}

static void growing_keeps_the_content(void **state) {
    (void)state;
    tq_mem mem = {0};
    int *items = NULL;
    size_t cap = 0;
    for (size_t i = 0; i < 1000; i++) {
        assert_true(TQ_GROW(&mem, items, i, cap));
        items[i] = (int)i;
    }
    for (int i = 0; i < 1000; i++) assert_int_equal(items[i], i);
    items = tq_realloc(&mem, items, 10, sizeof *items);
    assert_int_equal(items[9], 9);
    assert_int_equal(mem.used, 10 * sizeof *items);
    tq_free(&mem, items);
}

static void an_arena_frees_all_at_once(void **state) {
    (void)state;
    tq_mem mem = {0};
    tq_arena arena;
    tq_arena_init(&arena, &mem, 256);
    char *first = tq_arena_strndup(&arena, "first", 5);
    for (int i = 0; i < 500; i++) {
        unsigned char *p = tq_arena_alloc(&arena, 1, (size_t)i);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        for (int k = 0; k < i; k++) assert_int_equal(p[k], 0);
        memset(p, 0xAB, (size_t)i);
    }
    assert_string_equal(first, "first");
    assert_null(tq_arena_alloc(&arena, SIZE_MAX, 2));
    tq_arena_clear(&arena);
    assert_int_equal(mem.used, 0);
    assert_non_null(tq_arena_alloc(&arena, 1, 1));
    mem.fail_at = mem.calls + 1;
    assert_null(tq_arena_alloc(&arena, 1, 1000));
    tq_arena_clear(&arena);
    assert_int_equal(mem.used, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_aligned_and_counted),
        cmocka_unit_test(overflowing_products_are_refused),
        cmocka_unit_test(the_limit_holds_and_refused_calls_change_nothing),
        cmocka_unit_test(the_chosen_call_fails),
        cmocka_unit_test(growing_keeps_the_content),
        cmocka_unit_test(an_arena_frees_all_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
