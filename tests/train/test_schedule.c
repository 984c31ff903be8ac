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
#include "train/source.h"

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

/* 12 rows in data sets of 2, 7 and 3, of which an epoch takes 5, 3 and 4. */
static void a_mix_takes_its_shares_and_uses_rows_equally_often(void **state) {
    (void)state;
    enum { N = 12, BATCH = 5, EPOCHS = 14 };
    static const uint16_t set_of[N] = {0, 1, 1, 2, 1, 1, 0, 2, 2, 1, 1, 1};
    static const size_t take[3] = {5, 3, 4};
    tq_mem mem;
    tq_mem_init(&mem, 0);
    tq_order o, again;
    const uint32_t *rows;
    size_t n;
    int hits[N] = {0};
    uint32_t last[2], first_of[2] = {99, 99};
    assert_int_equal(tq_order_init(&o, &mem, N, BATCH, true, 7, NULL), TOQUE_OK);
    assert_int_equal(tq_order_mix(&o, set_of, take, 3, NULL), TOQUE_OK);
    for (int epoch = 0; epoch < EPOCHS; epoch++) {
        size_t drawn[3] = {0};
        for (int s = 0; s < 3; s++) {
            assert_int_equal(tq_order_rows(&o, epoch * 3 + s, &rows, &n), epoch);
            for (size_t i = 0; i < n; i++) drawn[set_of[rows[i]]]++, hits[rows[i]]++;
            if (s == 0 && epoch < 2) first_of[epoch] = rows[0] * N * N + rows[1] * N + rows[2];
        }
        assert_memory_equal(drawn, take, sizeof drawn);
    }
    memcpy(last, rows, sizeof last); /* of the last step, which has 2 rows */
    assert_true(first_of[0] != first_of[1]);
    for (int i = 0; i < N; i++) { /* 70 draws of 2 rows, 42 of 7, 56 of 3 */
        int least = set_of[i] == 0 ? 35 : set_of[i] == 1 ? 6 : 18;
        assert_in_range(hits[i], least, least + (set_of[i] == 2));
    }
    assert_int_equal(tq_order_init(&again, &mem, N, BATCH, true, 7, NULL), TOQUE_OK); /* as after a resume */
    assert_int_equal(tq_order_mix(&again, set_of, take, 3, NULL), TOQUE_OK);
    tq_order_rows(&again, EPOCHS * 3 - 1, &rows, &n);
    assert_int_equal(n, 2);
    assert_memory_equal(rows, last, sizeof last);
    tq_order_clear(&o);
    tq_order_clear(&again);
    assert_int_equal(mem.used, 0);
}

static void check_mix(tq_mixing mixing, double temperature, const double *weight, size_t a, size_t b, size_t c) {
    tq_source items[3] = {{.name = "a", .weight = 1}, {.name = "b", .weight = 1}, {.name = "c", .weight = 1}};
    static const size_t rows[3] = {100, 900, 9000};
    for (int i = 0; weight && i < 3; i++) items[i].weight = weight[i];
    tq_sources s = {.items = items, .n = 3};
    size_t take[3];
    toque_error err;
    if (tq_sources_mix(&s, rows, mixing, temperature, take, &err) != TOQUE_OK) fail_msg("%s", err.message);
    if (take[0] != a || take[1] != b || take[2] != c)
        fail_msg("%zu, %zu, %zu; expected %zu, %zu, %zu", take[0], take[1], take[2], a, b, c);
}

static void shares_follow_rows_weights_and_temperature(void **state) {
    (void)state;
    check_mix(TQ_MIX_PROPORTIONAL, 2, NULL, 100, 900, 9000);
    check_mix(TQ_MIX_PROPORTIONAL, 2, (const double[]){10, 1, 1}, 917, 826, 8257); /* of 10900 */
    check_mix(TQ_MIX_EQUAL, 2, NULL, 3334, 3333, 3333);
    check_mix(TQ_MIX_EQUAL, 2, (const double[]){1, 1, 2}, 2500, 2500, 5000);
    check_mix(TQ_MIX_TEMPERATURE, 1, NULL, 100, 900, 9000);
    check_mix(TQ_MIX_TEMPERATURE, 2, NULL, 742, 2224, 7034); /* as 10 to 30 to 94.87 */
    toque_error err;
    tq_source items[2] = {{.name = "a", .weight = 1e-6}, {.name = "b", .weight = 1}};
    tq_sources s = {.items = items, .n = 2};
    size_t take[2];
    assert_int_equal(tq_sources_mix(&s, (const size_t[]){5, 5}, TQ_MIX_EQUAL, 2, take, &err), TOQUE_EINVAL);
    assert_non_null(strstr(err.message, "a would get none of the 10 rows"));
    assert_int_equal(tq_sources_mix(&s, (const size_t[]){5, 0}, TQ_MIX_EQUAL, 2, take, &err), TOQUE_EINVAL);
    assert_non_null(strstr(err.message, "b has no row"));
}

static void refuse_source(const char *key, const char *a, const char *b, const char *words) {
    tq_mem mem;
    tq_mem_init(&mem, 0);
    const char *items[] = {a, b};
    toque_error err = {.message = ""};
    tq_sources s;
    toque_status status = tq_sources_read(&s, &mem, key, &(tq_option_list){.items = items, .len = b ? 2 : 1}, &err);
    if (status != TOQUE_EINVAL || !strstr(err.message, words)) fail_msg("%d: %s", (int)status, err.message);
    assert_int_equal(mem.used, 0);
}

static void data_sets_are_paths_or_objects(void **state) {
    (void)state;
    tq_mem mem;
    tq_mem_init(&mem, 0);
    toque_error err;
    const char *items[] = {"x/rows.jsonl", "{\"path\": \"b.csv\", \"weight\": \"2.5\", \"system\": \"Be brief\"}",
                           "y/rows.jsonl", "{\"path\": \"c\", \"name\": \"c#2\", \"weight\": 3}"};
    tq_sources s;
    assert_int_equal(tq_sources_read(&s, &mem, "data", &(tq_option_list){.items = items, .len = 4}, &err), TOQUE_OK);
    assert_string_equal(s.items[0].name, "rows.jsonl");
    assert_string_equal(s.items[2].name, "rows.jsonl#2");
    assert_string_equal(s.items[1].system, "Be brief");
    assert_string_equal(s.paths[1], "b.csv");
    assert_true(s.weighted && s.items[0].weight == 1 && s.items[1].weight == 2.5 && s.items[3].weight == 3);
    tq_sources_clear(&s);
    for (int i = 1; i < 20; i++) { /* each allocation fails */
        mem.fail_at = mem.calls + (unsigned)i;
        if (tq_sources_read(&s, &mem, "data", &(tq_option_list){.items = items, .len = 4}, &err) == TOQUE_OK) break;
        assert_int_equal(mem.used, 0);
        assert_true(i < 19);
    }
    tq_sources_clear(&s);
    assert_int_equal(mem.used, 0);
    refuse_source("data", "{\"path\": \"a\", \"wieght\": 2}", NULL,
                  "data, item 1: unknown key wieght; did you mean weight?");
    refuse_source("data", "a", "{\"weight\": 2}", "data, item 2: path is missing");
    refuse_source("data", "{\"path\": \"a\", \"weight\": 0}", NULL, "weight must be a number above 0");
    refuse_source("data", "{\"path\": \"a\", \"weight\": \"much\"}", NULL, "weight must be a number above 0");
    refuse_source("data", "{\"path\": 3}", NULL, "path must be a text");
    refuse_source("data", "{\"path\": ", NULL, "not a path, nor an object");
    refuse_source("data", "{\"path\": \"a\", \"name\": \"x\"}", "{\"path\": \"b\", \"name\": \"x\"}",
                  "two data sets have the name \"x\"");
    refuse_source("eval_data", "{\"path\": \"a\", \"weight\": 2}", NULL, "held-out rows have no weight");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(restarts_and_wsd_equal_transformers),
        cmocka_unit_test(a_sweep_goes_up_in_equal_ratios),
        cmocka_unit_test(a_mix_takes_its_shares_and_uses_rows_equally_often),
        cmocka_unit_test(shares_follow_rows_weights_and_temperature),
        cmocka_unit_test(data_sets_are_paths_or_objects),
        cmocka_unit_test(cosine_equals_transformers),
        cmocka_unit_test(linear_and_constant_equal_transformers),
        cmocka_unit_test(warmup_is_a_share_below_one_and_steps_above),
        cmocka_unit_test(an_epoch_holds_every_row_once_and_a_step_finds_its_rows_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
