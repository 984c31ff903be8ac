/* The trainer on a model of two layers: gradients do not depend on how rows are laid out, values not on threads or
 * memory, a step that fails changes nothing. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "small_model.h"
#include "train/trainer.h"

static char folder[64], model_path[128];

typedef struct bench { /* all that a trainer needs */
    tq_ctx *ctx;
    tq_model *model;
    tq_adapter *adapter;
    tq_dataset data;
    tq_trainer trainer;
} bench;

typedef struct setting {
    int threads, n_rows, longest, rows, rank;
    bool unpacked, file_order, dft, sgd;
    float dropout;
    double noise;
    double lr, weight_decay;
    size_t max_bytes;
    bool recompute;
    uint64_t seed;
} setting;

static void check(toque_status status, const toque_error *err) {
    if (status != TOQUE_OK) fail_msg("%s", err->message);
}

static toque_status start_trainer(bench *b, setting s, toque_error *err) {
    tq_trainer_options o = {.objective = s.dft ? &tq_objective_dft : &tq_objective_sft,
                            .optimizer = s.sgd ? &tq_optimizer_sgd : &tq_optimizer_adamw,
                            .schedule = {.kind = TQ_SCHEDULE_CONSTANT, .lr = s.lr ? s.lr : 1e-2, .total = 100},
                            .clip = 1,
                            .weight_decay = s.weight_decay,
                            .noise = s.noise,
                            .rows = s.rows ? s.rows : 8,
                            .packing = !s.unpacked,
                            .shuffle = !s.file_order,
                            .seed = s.seed ? s.seed : 42,
                            .recompute = s.recompute,
                            .max_bytes = s.max_bytes};
    return tq_trainer_init(&b->trainer, b->adapter, &b->data, NULL, &o, err);
}

static void open_model(bench *b, setting s) {
    toque_error err;
    *b = (bench){0};
    check(tq_ctx_new(&b->ctx, s.threads ? s.threads : 2, 0, "f32", &err), &err);
    check(tq_model_open(&b->model, b->ctx, model_path, &err), &err);
    tq_adapter_options a = {.kind = "lora",
                            .rank = s.rank ? s.rank : 4,
                            .alpha = 8,
                            .dropout = s.dropout,
                            .targets = "all-linear",
                            .seed = 42};
    check(tq_adapter_new(&b->adapter, b->model, &a, &err), &err);
    check(tq_adapter_train(b->adapter, &err), &err);
    /* With B = 0 half of the gradients vanish: start from values that reach everything. */
    tq_rng rng;
    tq_rng_init(&rng, 5, TQ_RNG_INIT, 99, 0);
    for (size_t i = 0; i < b->adapter->n; i++) b->adapter->values[i] += 0.02f * (float)tq_rng_normal(&rng);
    assert_int_equal(
        small_rows(&b->data, &b->ctx->mem, (size_t)(s.n_rows ? s.n_rows : 8), s.longest ? s.longest : 40, 3), TOQUE_OK);
}

static void open_bench(bench *b, setting s) {
    toque_error err;
    open_model(b, s);
    check(start_trainer(b, s, &err), &err);
}

static void close_bench(bench *b) {
    tq_trainer_clear(&b->trainer);
    tq_dataset_clear(&b->data);
    tq_adapter_free(b->adapter);
    tq_model_close(b->model);
    tq_ctx_free(b->ctx);
}

/* The gradient of the first step, copied out; its loss. */
static double gradient(setting s, float *out, size_t n, tq_step_result *result) {
    bench b;
    toque_error err;
    tq_step_result r;
    open_bench(&b, s);
    assert_int_equal(b.adapter->n, n);
    check(tq_trainer_gradient(&b.trainer, &r, &err), &err);
    memcpy(out, b.adapter->grads, n * sizeof *out);
    if (result) *result = r;
    close_bench(&b);
    return r.loss;
}

enum { N_VALUES = 2 * 4 * ((32 + 32) + (32 + 16) + (32 + 16) + (32 + 32) + 3 * (32 + 64)) };

static double distance(const float *a, const float *b) {
    double d = 0, n = 0;
    for (size_t i = 0; i < N_VALUES; i++) {
        d += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        n += (double)b[i] * (double)b[i];
    }
    assert_true(n > 0);
    return sqrt(d / n);
}

static float one[N_VALUES], two[N_VALUES];

static void a_batch_is_overfitted(void **state) {
    (void)state;
    bench b;
    toque_error err;
    tq_step_result r;
    double first = 0;
    open_bench(&b, (setting){.n_rows = 4, .longest = 24, .rows = 4, .rank = 8, .lr = 2e-2});
    for (int i = 0; i < 150; i++) {
        check(tq_trainer_step(&b.trainer, &r, &err), &err);
        assert_int_equal(r.step, i + 1);
        assert_int_equal(r.epoch, i);
        if (i == 0) first = r.loss;
    }
    if (!(first > 2 && r.loss < 0.1 * first)) fail_msg("the loss went from %g to %g", first, r.loss);
    close_bench(&b);
}

/* The gradient of a step of 8 rows is the mean of the rows' own gradients weighted by their target tokens: the loss is
 * divided once, whatever the batches. */
static void a_step_is_the_token_weighted_mean_of_its_rows(void **state) {
    (void)state;
    bench b;
    toque_error err;
    tq_step_result r;
    double loss = gradient((setting){.file_order = true}, one, N_VALUES, &r), sum = 0;
    int64_t targets = 0;
    static double total[N_VALUES];
    memset(total, 0, sizeof total);
    open_bench(&b, (setting){.file_order = true, .rows = 1});
    for (int i = 0; i < 8; i++, b.trainer.step++) {
        tq_step_result single;
        check(tq_trainer_gradient(&b.trainer, &single, &err), &err);
        assert_int_equal(single.passes, 1);
        for (size_t j = 0; j < N_VALUES; j++) total[j] += (double)b.adapter->grads[j] * (double)single.targets;
        sum += single.loss * (double)single.targets;
        targets += single.targets;
    }
    assert_int_equal(targets, r.targets);
    assert_int_equal(targets, (int64_t)b.data.n_targets);
    assert_int_equal(r.tokens, (int64_t)b.data.n_tokens);
    for (size_t j = 0; j < N_VALUES; j++) two[j] = (float)(total[j] / (double)targets);
    assert_true(fabs(sum / (double)targets - loss) < 1e-6 * loss);
    double d = distance(one, two);
    if (!(d < 1e-5)) fail_msg("gradients differ by %g", d);
    close_bench(&b);
}

static void packing_changes_nothing(void **state) {
    (void)state;
    for (int dropout = 0; dropout < 2; dropout++) {
        tq_step_result packed, alone;
        setting s = {.n_rows = 24, .rows = 24, .dropout = dropout ? 0.3f : 0, .noise = dropout ? 5 : 0};
        double a = gradient(s, one, N_VALUES, &packed);
        s.unpacked = true;
        double b = gradient(s, two, N_VALUES, &alone);
        assert_int_equal(alone.passes, 24);
        assert_true(packed.passes > 0 && packed.passes < 3);
        assert_true(fabs(a - b) < 1e-6 * a);
        double d = distance(one, two);
        if (!(d < 1e-5)) fail_msg("gradients differ by %g", d);
    }
}

static void noise_is_of_training_alone(void **state) {
    (void)state;
    bench quiet, noisy;
    toque_error err;
    tq_step_result result;
    double quiet_loss, noisy_loss;
    double a = gradient((setting){0}, one, N_VALUES, NULL), b = gradient((setting){.noise = 5}, two, N_VALUES, &result);
    assert_true(isfinite(b) && distance(one, two) > 1e-3 && a > 0);
    open_bench(&quiet, (setting){0});
    open_bench(&noisy, (setting){.noise = 5});
    check(tq_trainer_evaluate(&quiet.trainer, &quiet.data, &quiet_loss, NULL, &err), &err);
    check(tq_trainer_evaluate(&noisy.trainer, &noisy.data, &noisy_loss, NULL, &err), &err);
    assert_true(quiet_loss == noisy_loss && result.loss != quiet_loss);
    close_bench(&quiet);
    close_bench(&noisy);
}

static void the_order_within_a_step_changes_nothing(void **state) {
    (void)state;
    double a = gradient((setting){.seed = 1}, one, N_VALUES, NULL),
           b = gradient((setting){.seed = 2}, two, N_VALUES, NULL);
    assert_true(fabs(a - b) < 1e-6 * a);
    double d = distance(one, two);
    if (!(d < 1e-5)) fail_msg("gradients differ by %g", d);
    assert_memory_not_equal(one, two, sizeof one); /* it was another order */
}

static void a_row_weight_counts_like_copies(void **state) {
    (void)state;
    bench b;
    toque_error err;
    tq_step_result r;
    open_model(&b, (setting){.n_rows = 2});
    b.data.examples[0].weight = 3;
    check(start_trainer(&b, (setting){.rows = 2, .file_order = true}, &err), &err);
    check(tq_trainer_gradient(&b.trainer, &r, &err), &err);
    double weighted = r.loss;
    memcpy(one, b.adapter->grads, sizeof one);
    tq_trainer_clear(&b.trainer);
    tq_example three[4] = {b.data.examples[0], b.data.examples[0], b.data.examples[0], b.data.examples[1]};
    for (int i = 0; i < 4; i++) three[i].weight = 1;
    tq_example *own = b.data.examples;
    b.data.examples = three;
    b.data.n = 4;
    check(start_trainer(&b, (setting){.rows = 4, .file_order = true}, &err), &err);
    check(tq_trainer_gradient(&b.trainer, &r, &err), &err);
    assert_true(fabs(weighted - r.loss) < 1e-6 * r.loss);
    assert_true(distance(one, b.adapter->grads) < 1e-5);
    b.data.examples = own;
    close_bench(&b);
}

/* Tokens of weight 1/2 and 2 in place of 1: the step's mean weighs them, and a row's weight multiplies all of its. */
static void token_weights_weigh_the_mean(void **state) {
    (void)state;
    bench b;
    toque_error err;
    tq_step_result r;
    double alone[2];
    int targets[2];
    open_model(&b, (setting){.n_rows = 2});
    tq_example *own = b.data.examples, rows[2] = {own[0], own[1]};
    float weight[512];
    for (int i = 0; i < 2; i++) { /* each row's own mean */
        b.data.examples = &rows[i];
        b.data.n = 1;
        check(start_trainer(&b, (setting){.rows = 1, .file_order = true}, &err), &err);
        check(tq_trainer_gradient(&b.trainer, &r, &err), &err);
        alone[i] = r.loss;
        targets[i] = (int)r.targets;
        tq_trainer_clear(&b.trainer);
    }
    assert_true(rows[0].n <= 512);
    for (int i = 0; i < rows[0].n; i++) weight[i] = 0.5f;
    rows[0].token_weight = weight;
    rows[0].weight = 3;
    b.data.examples = rows;
    b.data.n = 2;
    check(start_trainer(&b, (setting){.rows = 2, .file_order = true}, &err), &err);
    check(tq_trainer_gradient(&b.trainer, &r, &err), &err);
    const double first = 1.5 * targets[0], want = (first * alone[0] + targets[1] * alone[1]) / (first + targets[1]);
    assert_true(fabs(alone[0] - alone[1]) > 1e-3);
    if (!(fabs(r.loss - want) < 1e-6 * want)) fail_msg("loss %.9g, expected %.9g", r.loss, want);
    b.data.examples = own;
    close_bench(&b);
}

static void train_some(setting s, float *values, int *kept) {
    bench b;
    toque_error err;
    tq_step_result r;
    open_bench(&b, s);
    for (int i = 0; i < 6; i++) check(tq_trainer_step(&b.trainer, &r, &err), &err);
    memcpy(values, b.adapter->values, N_VALUES * sizeof *values);
    if (kept) *kept = b.trainer.plan.kept_layers;
    close_bench(&b);
}

static void any_number_of_threads_gives_the_same_bytes(void **state) {
    (void)state;
    setting s = {.n_rows = 20, .dropout = 0.1f, .threads = 1, .weight_decay = 0.01};
    train_some(s, one, NULL);
    for (s.threads = 2; s.threads <= 3; s.threads++) {
        train_some(s, two, NULL);
        assert_memory_equal(one, two, sizeof one);
    }
}

static void a_memory_limit_gives_the_same_bytes(void **state) {
    (void)state;
    setting s = {.n_rows = 20, .dropout = 0.1f};
    int all, none;
    train_some(s, one, &all);
    assert_int_equal(all, 2);
    bench b;
    toque_error err;
    open_bench(&b, s);
    size_t most = b.trainer.plan.bytes;
    close_bench(&b);
    for (s.max_bytes = most - 1; s.max_bytes > most / 16; s.max_bytes = s.max_bytes / 8 * 7) { /* until it cannot fit */
        open_model(&b, s);
        toque_status status = start_trainer(&b, s, &err);
        none = status == TOQUE_OK ? b.trainer.plan.kept_layers : -1;
        if (status == TOQUE_OK) assert_true(b.trainer.plan.bytes <= s.max_bytes);
        close_bench(&b);
        if (none == 0) break;
    }
    assert_int_equal(none, 0);
    train_some(s, two, &none);
    assert_int_equal(none, 0);
    assert_memory_equal(one, two, sizeof one);
    setting asked = {.n_rows = 20, .dropout = 0.1f, .recompute = true};
    train_some(asked, two, &none);
    assert_int_equal(none, 0);
    assert_memory_equal(one, two, sizeof one);
    s.max_bytes = 1000;
    open_model(&b, s);
    assert_int_equal(start_trainer(&b, s, &err), TOQUE_ELIMIT);
    close_bench(&b);
}

static void dft_weights_tokens_by_their_probability(void **state) {
    (void)state;
    tq_step_result sft, dft;
    double a = gradient((setting){0}, one, N_VALUES, &sft), b = gradient((setting){.dft = true}, two, N_VALUES, &dft);
    assert_true(a == b); /* the same forward pass, the same `loss` */
    assert_true(sft.objective == sft.loss && dft.objective > 0 && dft.objective < dft.loss);
    double norm_one = 0, norm_two = 0;
    for (size_t i = 0; i < N_VALUES; i++) norm_one += fabs((double)one[i]), norm_two += fabs((double)two[i]);
    assert_true(norm_two > 0 && norm_two < norm_one);
}

static void evaluation_is_the_loss_without_an_update(void **state) {
    (void)state;
    bench b;
    toque_error err;
    tq_step_result r;
    double loss;
    int64_t targets;
    open_bench(&b, (setting){.n_rows = 19, .rows = 19});
    check(tq_trainer_evaluate(&b.trainer, &b.data, &loss, &targets, &err), &err);
    check(tq_trainer_gradient(&b.trainer, &r, &err), &err);
    assert_int_equal(targets, r.targets);
    if (!(fabs(loss - r.loss) < 1e-6 * loss)) fail_msg("%g and %g", loss, r.loss);
    close_bench(&b);
}

static void every_data_set_gets_the_loss_of_its_own_rows(void **state) {
    (void)state;
    bench b;
    toque_error err;
    open_bench(&b, (setting){.n_rows = 19, .rows = 19});
    tq_set_loss by_set[3];
    double whole, alone, sum = 0, weight = 0;
    for (size_t i = 0; i < b.data.n; i++) {
        b.data.examples[i].file = (uint16_t)(i % 2 * 2); /* the second has no rows */
        b.data.examples[i].weight = i % 3 ? 1 : 2.5f;
    }
    b.trainer.by_set = by_set;
    b.trainer.n_by_set = 3;
    check(tq_trainer_evaluate(&b.trainer, &b.data, &whole, NULL, &err), &err);
    tq_set_loss first[3];
    memcpy(first, by_set, sizeof first);
    assert_true(first[1].weight == 0 && first[1].sum == 0);
    for (int s = 0; s < 3; s++) sum += first[s].sum, weight += first[s].weight;
    assert_true(fabs(sum / weight - whole) < 1e-9 * whole);
    tq_example own[19];
    tq_dataset part = b.data;
    part.examples = own;
    for (int s = 0; s < 3; s += 2) {
        part.n = 0;
        for (size_t i = 0; i < b.data.n; i++)
            if (b.data.examples[i].file == s) own[part.n++] = b.data.examples[i];
        check(tq_trainer_evaluate(&b.trainer, &part, &alone, NULL, &err), &err);
        assert_true(fabs(first[s].sum / first[s].weight - alone) < 1e-6 * alone);
    }
    close_bench(&b);
}

static void what_is_not_finite_stops_before_the_update_and_is_named(void **state) {
    (void)state;
    bench b;
    toque_error err;
    tq_step_result r;
    open_bench(&b, (setting){0});
    check(tq_trainer_step(&b.trainer, &r, &err), &err);
    const tq_range *range = &b.adapter->ranges[b.adapter->n_ranges - 1];
    float old = b.adapter->values[range->start];
    b.adapter->values[range->start] = NAN;
    memcpy(one, b.adapter->values, sizeof one);
    assert_int_equal(tq_trainer_step(&b.trainer, &r, &err), TOQUE_ENONFINITE);
    assert_non_null(strstr(err.message, "step 2"));
    assert_non_null(strstr(err.message, range->name));
    assert_non_null(strstr(err.message, "layer 1"));
    assert_int_equal(b.trainer.step, 1);
    assert_memory_equal(one, b.adapter->values, sizeof one);
    b.adapter->values[range->start] = old;
    check(tq_trainer_step(&b.trainer, &r, &err), &err); /* nothing is left behind */
    close_bench(&b);
}

static void a_canceled_step_leaves_no_trace(void **state) {
    (void)state;
    bench b;
    toque_error err;
    tq_step_result r;
    train_some((setting){.n_rows = 20}, two, NULL);
    open_bench(&b, (setting){.n_rows = 20});
    for (int i = 0; i < 6; i++) {
        atomic_store(&b.ctx->canceled, true);
        assert_int_equal(tq_trainer_step(&b.trainer, &r, &err), TOQUE_ECANCELED);
        assert_int_equal(b.trainer.step, i);
        atomic_store(&b.ctx->canceled, false);
        check(tq_trainer_step(&b.trainer, &r, &err), &err);
    }
    assert_memory_equal(two, b.adapter->values, sizeof two);
    close_bench(&b);
}

static void rows_that_teach_nothing_are_refused(void **state) {
    (void)state;
    bench b;
    toque_error err;
    open_model(&b, (setting){0});
    memset(b.data.examples[3].target, 0, (size_t)b.data.examples[3].n);
    assert_int_equal(start_trainer(&b, (setting){0}, &err), TOQUE_EINVAL);
    assert_non_null(strstr(err.message, "line 4"));
    b.data.examples[3].target[1] = 1;
    b.data.examples[5].weight = 0;
    assert_int_equal(start_trainer(&b, (setting){0}, &err), TOQUE_EINVAL);
    assert_non_null(strstr(err.message, "line 6"));
    close_bench(&b);
}

static void sgd_goes_down_the_gradient(void **state) {
    (void)state;
    bench b;
    toque_error err;
    tq_step_result r;
    gradient((setting){.sgd = true}, one, N_VALUES, NULL);
    open_bench(&b, (setting){.sgd = true, .lr = 0.5});
    memcpy(two, b.adapter->values, sizeof two);
    check(tq_trainer_step(&b.trainer, &r, &err), &err);
    double norm = 0, scale;
    for (size_t i = 0; i < N_VALUES; i++) norm += (double)one[i] * (double)one[i];
    norm = sqrt(norm);
    assert_true(fabs(norm - r.grad_norm) < 1e-6 * norm);
    scale = tq_clip_scale(norm, 1);
    for (size_t i = 0; i < N_VALUES; i++)
        assert_true(fabs((double)b.adapter->values[i] - ((double)two[i] - 0.5 * scale * (double)one[i])) < 1e-6);
    close_bench(&b);
}

static void every_failed_allocation_is_reported_and_nothing_leaks(void **state) {
    (void)state;
    bench b;
    toque_error err;
    open_model(&b, (setting){0});
    size_t before = b.ctx->mem.used;
    toque_status status = TOQUE_ENOMEM;
    int n = 0;
    for (; status != TOQUE_OK && n < 100; n++) {
        b.ctx->mem.fail_at = b.ctx->mem.calls + 1 + (unsigned)n;
        status = start_trainer(&b, (setting){0}, &err);
        if (status == TOQUE_OK) break;
        assert_int_equal(status, TOQUE_ENOMEM);
        assert_int_equal(b.ctx->mem.used, before);
    }
    assert_int_equal(status, TOQUE_OK);
    assert_true(n > 10);
    b.ctx->mem.fail_at = b.ctx->mem.calls + 1; /* a step does not allocate */
    tq_step_result r;
    check(tq_trainer_step(&b.trainer, &r, &err), &err);
    b.ctx->mem.fail_at = 0;
    close_bench(&b);
}

static int set_up(void **state) {
    (void)state;
    if (!small_folder(folder)) return 1;
    snprintf(model_path, sizeof model_path, "%s/model.gguf", folder);
    return small_model_write(model_path) ? 0 : 1;
}

static int tear_down(void **state) {
    (void)state;
    small_remove(folder);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_is_overfitted),
        cmocka_unit_test(a_step_is_the_token_weighted_mean_of_its_rows),
        cmocka_unit_test(packing_changes_nothing),
        cmocka_unit_test(noise_is_of_training_alone),
        cmocka_unit_test(the_order_within_a_step_changes_nothing),
        cmocka_unit_test(a_row_weight_counts_like_copies),
        cmocka_unit_test(token_weights_weigh_the_mean),
        cmocka_unit_test(any_number_of_threads_gives_the_same_bytes),
        cmocka_unit_test(a_memory_limit_gives_the_same_bytes),
        cmocka_unit_test(dft_weights_tokens_by_their_probability),
        cmocka_unit_test(evaluation_is_the_loss_without_an_update),
        cmocka_unit_test(every_data_set_gets_the_loss_of_its_own_rows),
        cmocka_unit_test(what_is_not_finite_stops_before_the_update_and_is_named),
        cmocka_unit_test(a_canceled_step_leaves_no_trace),
        cmocka_unit_test(rows_that_teach_nothing_are_refused),
        cmocka_unit_test(sgd_goes_down_the_gradient),
        cmocka_unit_test(every_failed_allocation_is_reported_and_nothing_leaks),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
