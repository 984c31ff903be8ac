/* The machine on the real model (TOQUE_TEST_MODEL): log-probabilities against transformers, and the properties that
 * everything later relies on: packing, thread counts, chunked prompts, caches, recomputation, adapters, gradients. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "model/adapter.h"
#include "model/machine.h"

enum { N = 100, COPIES = 3 };
static const char *reference_path;
static int32_t ids[N];
static float expected[N];

typedef struct engine {
    tq_ctx *ctx;
    tq_model *model;
    toque_error err;
} engine;

#define OK(e, call)                                                                                                    \
    do {                                                                                                               \
        if ((call) != TOQUE_OK) fail_msg("%s", (e)->err.message);                                                      \
    } while (0)

static void open_engine(engine *e, int threads, const char *compute) {
    memset(e, 0, sizeof *e);
    const char *path = getenv("TOQUE_TEST_MODEL");
    if (!path) fail_msg("TOQUE_TEST_MODEL must name the real model's GGUF file");
    OK(e, tq_ctx_new(&e->ctx, threads, 0, compute, &e->err));
    OK(e, tq_model_open(&e->model, e->ctx, path, &e->err));
}

static void close_engine(engine *e) {
    tq_model_close(e->model);
    tq_ctx_free(e->ctx);
}

static int read_reference(void **state) {
    (void)state;
    FILE *f = fopen(reference_path, "r");
    if (!f) return -1;
    int n = 0;
    while (n < N && fscanf(f, "%d %f", &ids[n], &expected[n]) == 2) n++;
    fclose(f);
    return n == N ? 0 : -1;
}

/* Targets of one copy of the tokens whose first row is `row`. */
static void targets_of(tq_target *t, int row) {
    for (int i = 0; i < N - 1; i++) t[i] = (tq_target){row + i, ids[i + 1]};
}

static void score_alone(engine *e, const tq_hats *hats, float *logp) {
    tq_machine *m;
    tq_plan plan = {.max_rows = N, .max_rank = 8};
    OK(e, tq_machine_new(&m, e->model, &plan, &e->err));
    tq_segment seg = {.n = N, .hats = hats};
    tq_pass pass = {.kind = TQ_PASS_PREFILL, .tokens = ids, .T = N, .segments = &seg, .n_segments = 1};
    tq_target t[N - 1];
    targets_of(t, 0);
    OK(e, tq_machine_forward(m, &pass, &e->err));
    tq_machine_logp(m, t, N - 1, NULL, logp);
    tq_machine_free(m);
}

static void log_probs_agree_with_transformers_in_f32(void **state) {
    (void)state;
    engine e;
    open_engine(&e, 0, "f32");
    float logp[N - 1];
    score_alone(&e, NULL, logp);
    double worst = 0;
    for (int i = 0; i < N - 1; i++) worst = fmax(worst, fabs((double)logp[i] - (double)expected[i + 1]));
    print_message("largest difference of a log-probability: %.2g\n", worst);
    assert_true(worst < 1e-3);
    close_engine(&e);
}

static void packing_and_threads_change_no_bit(void **state) {
    (void)state;
    float alone[N - 1];
    engine e;
    open_engine(&e, 1, "f32");
    score_alone(&e, NULL, alone);
    close_engine(&e);
    for (int threads = 2; threads <= 3; threads++) {
        open_engine(&e, threads, "f32");
        tq_machine *m;
        tq_plan plan = {.max_rows = N * COPIES, .head_rows = 17};
        OK(&e, tq_machine_new(&m, e.model, &plan, &e.err));
        int32_t tokens[N * COPIES];
        tq_segment seg[COPIES];
        tq_target t[(N - 1) * COPIES];
        for (int c = 0; c < COPIES; c++) {
            memcpy(tokens + c * N, ids, sizeof ids);
            seg[c] = (tq_segment){.row = c * N, .n = N};
            targets_of(t + c * (N - 1), c * N);
        }
        tq_pass pass = {
            .kind = TQ_PASS_PREFILL, .tokens = tokens, .T = N * COPIES, .segments = seg, .n_segments = COPIES};
        float logp[(N - 1) * COPIES];
        OK(&e, tq_machine_forward(m, &pass, &e.err));
        tq_machine_logp(m, t, (N - 1) * COPIES, NULL, logp);
        for (int c = 0; c < COPIES; c++) assert_memory_equal(logp + c * (N - 1), alone, sizeof alone);
        tq_machine_free(m);
        close_engine(&e);
    }
}

/* Logits of the last token after the prompt went through a cache in chunks of these sizes. */
static void logits_in_chunks(engine *e, const int *chunks, tq_pass_kind last, float *logits) {
    tq_machine *m;
    tq_kv *kv;
    tq_plan plan = {.max_rows = N};
    OK(e, tq_machine_new(&m, e->model, &plan, &e->err));
    OK(e, tq_kv_new(&kv, e->model, N, &e->err));
    for (int at = 0, i = 0; at < N; at += chunks[i], i++) {
        tq_segment seg = {.n = chunks[i], .pos = at, .kv = kv};
        tq_pass pass = {.kind = at + chunks[i] == N ? last : TQ_PASS_PREFILL,
                        .tokens = ids + at,
                        .T = chunks[i],
                        .segments = &seg,
                        .n_segments = 1};
        OK(e, tq_machine_forward(m, &pass, &e->err));
        int row = chunks[i] - 1;
        tq_machine_logits(m, &row, 1, logits);
    }
    tq_kv_free(e->model, kv);
    tq_machine_free(m);
}

static void a_prompt_in_chunks_gives_the_same_bytes(void **state) {
    (void)state;
    engine e;
    open_engine(&e, 2, "f32");
    size_t V = (size_t)e.model->config.V;
    float *a = malloc(V * sizeof *a), *b = malloc(V * sizeof *b);
    logits_in_chunks(&e, (int[]){N}, TQ_PASS_PREFILL, a);
    logits_in_chunks(&e, (int[]){1, 33, 2, N - 36}, TQ_PASS_PREFILL, b);
    assert_memory_equal(a, b, V * sizeof *a);
    logits_in_chunks(&e, (int[]){N - 1, 1}, TQ_PASS_DECODE, b);
    for (size_t i = 0; i < V; i++) assert_true(fabsf(a[i] - b[i]) < 1e-3f * (1 + fabsf(a[i])));
    free(a);
    free(b);
    close_engine(&e);
}

typedef struct trained {
    tq_adapter *a;
    tq_machine *m;
    tq_hat hat;
    tq_hats hats;
} trained;

static void start(engine *e, trained *t, float dropout, size_t max_bytes) {
    tq_adapter_options o = {
        .kind = "lora", .rank = 8, .alpha = 16, .dropout = dropout, .targets = "all-linear", .seed = 7};
    OK(e, tq_adapter_new(&t->a, e->model, &o, &e->err));
    OK(e, tq_adapter_train(t->a, &e->err));
    tq_plan plan = {.max_rows = N, .max_rank = 8, .train = true, .max_bytes = max_bytes};
    OK(e, tq_machine_new(&t->m, e->model, &plan, &e->err));
    if (max_bytes) assert_true(plan.kept_layers < e->model->config.L);
    t->hat = tq_adapter_hat(t->a, 1);
    t->hats = (tq_hats){&t->hat, 1};
}

static void stop(trained *t) {
    tq_machine_free(t->m);
    tq_adapter_free(t->a);
}

/* Mean loss of the tokens; with `grad` the adapter's gradients are added to. */
static double loss_of(engine *e, trained *t, bool grad) {
    tq_segment seg = {.n = N, .hats = &t->hats, .id = 5};
    tq_pass pass = {.kind = TQ_PASS_TRAIN, .tokens = ids, .T = N, .segments = &seg, .n_segments = 1, .seed = 3};
    tq_target targets[N - 1];
    float logp[N - 1], coef[N - 1];
    targets_of(targets, 0);
    for (int i = 0; i < N - 1; i++) coef[i] = -1.0f / (N - 1);
    OK(e, tq_machine_forward(t->m, &pass, &e->err));
    tq_machine_logp(t->m, targets, N - 1, grad ? coef : NULL, logp);
    if (grad) tq_machine_backward(t->m);
    double loss = 0;
    for (int i = 0; i < N - 1; i++) loss -= (double)logp[i] / (N - 1);
    return loss;
}

static void an_adapter_with_zero_b_is_the_base(void **state) {
    (void)state;
    engine e;
    open_engine(&e, 2, "f32");
    trained t;
    start(&e, &t, 0, 0);
    float base[N - 1], worn[N - 1];
    score_alone(&e, NULL, base);
    score_alone(&e, &t.hats, worn);
    assert_memory_equal(base, worn, sizeof base);
    stop(&t);
    close_engine(&e);
}

/* The loss along a random direction d of all of A and B changes as gradient . d says. */
static void gradient_agrees_with_differences(float dropout) {
    engine e;
    open_engine(&e, 2, "f32");
    trained t;
    start(&e, &t, dropout, 0);
    float *d = malloc(t.a->n * sizeof *d), *old = malloc(t.a->n * sizeof *old);
    tq_rng rng;
    tq_rng_init(&rng, 1, TQ_RNG_SAMPLE, 0, 0);
    for (size_t i = 0; i < t.a->n; i++) {
        t.a->values[i] += 0.01f * (float)tq_rng_normal(&rng); /* B away from zero, so that A has a gradient */
        d[i] = (float)tq_rng_normal(&rng);
    }
    memcpy(old, t.a->values, t.a->n * sizeof *old);
    loss_of(&e, &t, true);
    double slope = 0;
    for (size_t i = 0; i < t.a->n; i++) slope += (double)t.a->grads[i] * (double)d[i];
    const double h = 2e-4;
    double loss[2];
    for (int s = 0; s < 2; s++) {
        for (size_t i = 0; i < t.a->n; i++) t.a->values[i] = old[i] + (float)(s ? -h : h) * d[i];
        loss[s] = loss_of(&e, &t, false);
    }
    double difference = (loss[0] - loss[1]) / (2 * h);
    print_message("slope %.5f, by differences %.5f\n", slope, difference);
    assert_true(fabs(slope - difference) < 0.02 * fabs(difference) + 1e-3);
    free(d);
    free(old);
    stop(&t);
    close_engine(&e);
}

static void gradients_agree_with_differences(void **state) {
    (void)state;
    gradient_agrees_with_differences(0);
}

static void gradients_under_dropout_agree_with_differences(void **state) {
    (void)state;
    gradient_agrees_with_differences(0.2f);
}

static void recomputing_and_threads_change_no_bit_of_gradients(void **state) {
    (void)state;
    float *first = NULL;
    size_t n = 0;
    for (int i = 0; i < 3; i++) {
        engine e;
        open_engine(&e, i + 1, "f32");
        trained t;
        start(&e, &t, 0.1f, i == 1 ? 60000000 : 0);
        loss_of(&e, &t, true);
        if (i == 0) {
            n = t.a->n;
            first = malloc(n * sizeof *first);
            memcpy(first, t.a->grads, n * sizeof *first);
        } else {
            assert_memory_equal(first, t.a->grads, n * sizeof *first);
        }
        stop(&t);
        close_engine(&e);
    }
    free(first);
}

static void an_adapter_survives_its_files(void **state) {
    (void)state;
    engine e;
    open_engine(&e, 2, "f32");
    trained t;
    start(&e, &t, 0, 0);
    tq_rng rng;
    tq_rng_init(&rng, 1, TQ_RNG_SAMPLE, 0, 0);
    for (size_t i = 0; i < t.a->n; i++) t.a->values[i] += 0.01f * (float)tq_rng_normal(&rng);
    char dir[] = "/tmp/toque-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    OK(&e, tq_adapter_save(t.a, dir, NULL, &e.err));
    tq_adapter *b;
    OK(&e, tq_adapter_load(&b, e.model, dir, &e.err));
    assert_int_equal(b->n, t.a->n);
    assert_memory_equal(b->values, t.a->values, t.a->n * sizeof(float));
    assert_string_equal(b->base_hash, tq_model_hash(e.model));
    tq_adapter_free(b);
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
    stop(&t);
    close_engine(&e);
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    reference_path = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log_probs_agree_with_transformers_in_f32),
        cmocka_unit_test(packing_and_threads_change_no_bit),
        cmocka_unit_test(a_prompt_in_chunks_gives_the_same_bytes),
        cmocka_unit_test(an_adapter_with_zero_b_is_the_base),
        cmocka_unit_test(gradients_agree_with_differences),
        cmocka_unit_test(gradients_under_dropout_agree_with_differences),
        cmocka_unit_test(recomputing_and_threads_change_no_bit_of_gradients),
        cmocka_unit_test(an_adapter_survives_its_files),
    };
    return cmocka_run_group_tests(tests, read_reference, NULL);
}
