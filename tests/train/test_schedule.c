/* Learning rates against transformers' formulas, and the order of rows. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "train/order.h"
#include "train/schedule.h"

static void near(double got, double want) {
    if (!(fabs(got - want) <= 1e-12 + 1e-9 * fabs(want))) fail_msg("got %.17g, expected %.17g", got, want);
}

/* torch.optim + transformers.get_cosine_schedule_with_warmup(optimizer, 2, 10), lr 1: the lr of each step. */
static void cosine_equals_transformers(void **state) {
    (void)state;
    const double want[10] = {0.0,
                             0.5,
                             1.0,
                             0.9619397662556434,
                             0.8535533905932737,
                             0.6913417161825449,
                             0.5,
                             0.30865828381745514,
                             0.14644660940672627,
                             0.03806023374435663};
    tq_schedule s = {.kind = TQ_SCHEDULE_COSINE, .lr = 1, .warmup = 2, .total = 10};
    for (int i = 0; i < 10; i++) near(tq_schedule_at(&s, i), want[i]);
    near(tq_schedule_at(&s, 10), 0);
    near(tq_schedule_at(&s, 11), 0);
}

static void linear_and_constant_equal_transformers(void **state) {
    (void)state;
    tq_schedule s = {.kind = TQ_SCHEDULE_LINEAR, .lr = 2e-4, .warmup = 4, .total = 20};
    near(tq_schedule_at(&s, 0), 0);
    near(tq_schedule_at(&s, 3), 1.5e-4);
    near(tq_schedule_at(&s, 4), 2e-4);
    near(tq_schedule_at(&s, 12), 1e-4);
    near(tq_schedule_at(&s, 20), 0);
    s.kind = TQ_SCHEDULE_CONSTANT;
    near(tq_schedule_at(&s, 1), 5e-5);
    near(tq_schedule_at(&s, 1000), 2e-4);
    s.warmup = 0;
    near(tq_schedule_at(&s, 0), 2e-4);
    s = (tq_schedule){.kind = TQ_SCHEDULE_COSINE, .lr = 1, .warmup = 5, .total = 5}; /* nothing left to go down in */
    near(tq_schedule_at(&s, 4), 0.8);
    near(tq_schedule_at(&s, 5), 1);
}

/* get_cosine_with_hard_restarts_schedule_with_warmup(o, 2, 12, num_cycles=2), get_wsd_schedule(o, 2, 4,
 * num_training_steps=12): tools/reference/optimizer_steps.py. */
static void restarts_and_wsd_equal_transformers(void **state) {
    (void)state;
    const double restarts[13] = {0,
                                 0.5,
                                 1,
                                 0.90450849718747373,
                                 0.65450849718747373,
                                 0.34549150281252633,
                                 0.09549150281252633,
                                 1,
                                 0.90450849718747373,
                                 0.65450849718747384,
                                 0.34549150281252622,
                                 0.09549150281252633,
                                 0};
    const double wsd[13] = {0, 0.5, 1, 1, 1, 1, 1, 1, 1, 0.85355339059327373, 0.5, 0.14644660940672627, 0};
    tq_schedule s = {.kind = TQ_SCHEDULE_RESTARTS, .lr = 1, .warmup = 2, .total = 12, .cycles = 2};
    for (int i = 0; i < 13; i++) near(tq_schedule_at(&s, i), restarts[i]);
    s = (tq_schedule){.kind = TQ_SCHEDULE_WSD, .lr = 1, .warmup = 2, .total = 12, .decay = 4};
    for (int i = 0; i < 13; i++) near(tq_schedule_at(&s, i), wsd[i]);
    assert_int_equal(tq_schedule_choice(2), TQ_SCHEDULE_COSINE);
    assert_int_equal(tq_schedule_choice(6), TQ_SCHEDULE_RESTARTS); /* transformers' names stand behind ours */
}

static void a_sweep_goes_up_in_equal_ratios(void **state) {
    (void)state;
    tq_schedule s = {.kind = TQ_SCHEDULE_SWEEP, .low = 1e-6, .lr = 1, .total = 61};
    near(tq_schedule_at(&s, 0), 1e-6);
    near(tq_schedule_at(&s, 10), 1e-5);
    near(tq_schedule_at(&s, 60), 1);
}

static void warmup_is_a_share_below_one_and_steps_above(void **state) {
    (void)state;
    assert_int_equal(tq_schedule_steps(0, 100), 0);
    assert_int_equal(tq_schedule_steps(0.03, 100), 3);
    assert_int_equal(tq_schedule_steps(0.03, 10), 1); /* rounded up, as transformers does */
    assert_int_equal(tq_schedule_steps(1, 100), 1);
    assert_int_equal(tq_schedule_steps(25, 100), 25);
}

static void an_epoch_holds_every_row_once_and_a_step_finds_its_rows_alone(void **state) {
    (void)state;
    enum { N = 10, BATCH = 4 };
    tq_mem mem;
    tq_mem_init(&mem, 0);
    tq_order o, again;
    assert_int_equal(tq_order_init(&o, &mem, N, BATCH, true, 7, NULL), TOQUE_OK);
    assert_int_equal(o.steps, 3);
    uint32_t seen[6][BATCH];
    size_t counts[6];
    for (int epoch = 0; epoch < 2; epoch++) {
        int hits[N] = {0};
        for (int s = 0; s < 3; s++) {
            const uint32_t *rows;
            size_t n;
            assert_int_equal(tq_order_rows(&o, epoch * 3 + s, &rows, &n), epoch);
            assert_int_equal(n, s < 2 ? 4 : 2); /* the last batch of an epoch is a step of its own */
            counts[epoch * 3 + s] = n;
            memcpy(seen[epoch * 3 + s], rows, n * sizeof *rows);
            for (size_t i = 0; i < n; i++) hits[rows[i]]++;
        }
        for (int i = 0; i < N; i++) assert_int_equal(hits[i], 1);
    }
    assert_memory_not_equal(seen[0], seen[3], sizeof seen[0]); /* the second epoch has another order */
    assert_int_equal(tq_order_init(&again, &mem, N, BATCH, true, 7, NULL), TOQUE_OK);
    for (int s = 5; s >= 0; s -= 2) { /* out of turn, as after a resume */
        const uint32_t *rows;
        size_t n;
        tq_order_rows(&again, s, &rows, &n);
        assert_int_equal(n, counts[s]);
        assert_memory_equal(rows, seen[s], n * sizeof *rows);
    }
    tq_order_clear(&o);
    tq_order_clear(&again);
    assert_int_equal(tq_order_init(&o, &mem, 3, 8, false, 7, NULL), TOQUE_OK);
    const uint32_t *rows;
    size_t n;
    assert_int_equal(tq_order_rows(&o, 5, &rows, &n), 5);
    assert_int_equal(n, 3);
    for (uint32_t i = 0; i < 3; i++) assert_int_equal(rows[i], i); /* order file */
    tq_order_clear(&o);
    assert_int_equal(tq_order_init(&o, &mem, 0, 8, false, 7, NULL), TOQUE_EINVAL);
    tq_order_clear(&o);
    assert_int_equal(mem.used, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(restarts_and_wsd_equal_transformers),
        cmocka_unit_test(a_sweep_goes_up_in_equal_ratios),
        cmocka_unit_test(cosine_equals_transformers),
        cmocka_unit_test(linear_and_constant_equal_transformers),
        cmocka_unit_test(warmup_is_a_share_below_one_and_steps_above),
        cmocka_unit_test(an_epoch_holds_every_row_once_and_a_step_finds_its_rows_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
