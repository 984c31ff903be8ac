/* Philox 4x32-10 against the known answers that its authors publish with Random123 (kat_vectors). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/rng.h"

static void philox_gives_the_published_answers(void **state) {
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], answer[4];
    } cases[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t out[4];
        tq_philox(out, cases[i].counter, cases[i].key);
        assert_memory_equal(out, cases[i].answer, sizeof out);
    }
}

static void names_of_sequences_are_independent(void **state) {
    (void)state;
    tq_rng r[5];
    tq_rng_init(&r[0], 42, TQ_RNG_INIT, 0, 0);
    tq_rng_init(&r[1], 43, TQ_RNG_INIT, 0, 0);
    tq_rng_init(&r[2], 42, TQ_RNG_SHUFFLE, 0, 0);
    tq_rng_init(&r[3], 42, TQ_RNG_INIT, 1, 0);
    tq_rng_init(&r[4], 42 + ((uint64_t)1 << 32), TQ_RNG_INIT, 0, 0);
    uint32_t first[5];
    for (int i = 0; i < 5; i++) first[i] = tq_rng_u32(&r[i]);
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < i; j++) assert_int_not_equal(first[i], first[j]);
    tq_rng again;
    tq_rng_init(&again, 42, TQ_RNG_INIT, 0, 0);
    assert_int_equal(tq_rng_u32(&again), first[0]);
}

/* The k-th block of a sequence is the block of counter word 0 = k. */
static void draws_walk_the_counter(void **state) {
    (void)state;
    tq_rng r;
    tq_rng_init(&r, 7, TQ_RNG_SAMPLE, 3, 9);
    for (uint32_t block = 0; block < 5; block++) {
        const uint32_t counter[4] = {block, TQ_RNG_SAMPLE, 3, 9}, key[2] = {7, 0};
        uint32_t out[4];
        tq_philox(out, counter, key);
        for (int i = 0; i < 4; i++) assert_int_equal(tq_rng_u32(&r), out[i]);
    }
}

static void moments_are_those_of_the_distributions(void **state) {
    (void)state;
    enum { N = 200000 };
    tq_rng r;
    tq_rng_init(&r, 1, TQ_RNG_INIT, 0, 0);
    double sum = 0, squares = 0, normal = 0, normal_squares = 0;
    long long counts[6] = {0};
    for (int i = 0; i < N; i++) {
        double u = tq_rng_uniform(&r), z = tq_rng_normal(&r);
        assert_true(u >= 0 && u < 1);
        sum += u, squares += u * u, normal += z, normal_squares += z * z;
        uint32_t k = tq_rng_below(&r, 6);
        assert_true(k < 6);
        counts[k]++;
    }
    assert_true(fabs(sum / N - 0.5) < 0.004); /* six standard errors */
    assert_true(fabs(squares / N - 1.0 / 3) < 0.004);
    assert_true(fabs(normal / N) < 0.014);
    assert_true(fabs(normal_squares / N - 1) < 0.02);
    for (int k = 0; k < 6; k++) assert_true(llabs(counts[k] - N / 6) < 1000);
    assert_int_equal(tq_rng_below(&r, 1), 0);
    for (int i = 0; i < 100; i++) assert_true(tq_rng_below(&r, 0x80000001u) <= 0x80000000u);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_published_answers),
        cmocka_unit_test(names_of_sequences_are_independent),
        cmocka_unit_test(draws_walk_the_counter),
        cmocka_unit_test(moments_are_those_of_the_distributions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
