/* How far bf16 products and int8 activations move the real model's log-probabilities (TOQUE_TEST_MODEL) from
 * transformers' f32 ones. data/precision.json comes from tools/reference/precision.py; docs/precision.md says what
 * others reach. Where a CPU has no bf16 products, `auto` is f32 and must agree all the more. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "infer/score.h"
#include "infer/session.h"

enum { LONGEST = 160 };
static json_t *rows;

typedef struct row {
    tq_token tokens[LONGEST];
    int n, first; /* targets are tokens[first ..] */
    double expected[LONGEST];
} row;

typedef struct difference {
    int tokens;
    double absolute, worst_row; /* sum over tokens; largest |mean| of a row */
} difference;

/* A model opened to compute in one way. */
typedef struct engine {
    tq_ctx *ctx;
    tq_model *model;
    toque_error err;
} engine;

#define OK(e, call)                                                                                                    \
    do {                                                                                                               \
        if ((call) != TOQUE_OK) fail_msg("%s", (e)->err.message);                                                      \
    } while (0)

static void open_engine(engine *e, const char *compute) {
    const char *path = getenv("TOQUE_TEST_MODEL");
    if (!path) fail_msg("TOQUE_TEST_MODEL must name the real model's GGUF file");
    OK(e, tq_ctx_new(&e->ctx, 0, 0, compute, &e->err));
    OK(e, tq_model_open(&e->model, e->ctx, path, &e->err));
}

static void close_engine(engine *e) {
    tq_model_close(e->model);
    tq_ctx_free(e->ctx);
}

static void read_row(const json_t *from, row *r) {
    const json_t *tokens = json_object_get(from, "tokens"), *logp = json_object_get(from, "logp");
    r->n = (int)json_array_size(tokens);
    r->first = (int)json_integer_value(json_object_get(from, "first"));
    assert_true(r->n > 1 && r->n <= LONGEST && r->first > 0);
    assert_int_equal(json_array_size(logp), r->n - r->first);
    for (int i = 0; i < r->n; i++) {
        r->tokens[i] = (tq_token)json_integer_value(json_array_get(tokens, (size_t)i));
        if (i >= r->first) r->expected[i] = json_number_value(json_array_get(logp, (size_t)(i - r->first)));
    }
}

static void add_row(difference *d, const row *r, const float *logp) {
    double sum = 0;
    for (int i = r->first; i < r->n; i++) {
        double x = (double)logp[i] - r->expected[i];
        d->absolute += fabs(x);
        sum += x;
    }
    d->tokens += r->n - r->first;
    d->worst_row = fmax(d->worst_row, fabs(sum) / (r->n - r->first));
}

static double mean(const difference *d, const char *what) {
    double x = d->absolute / d->tokens;
    print_message("%s: %d tokens, mean |difference| %.5f, worst row mean %.5f\n", what, d->tokens, x, d->worst_row);
    assert_true(d->tokens > 400);
    return x;
}

static difference of_scoring(const char *compute) {
    engine e = {0};
    difference d = {0};
    open_engine(&e, compute);
    tq_scorer *scorer;
    OK(&e, tq_scorer_new(&scorer, e.model, 0, &e.err));
    size_t i;
    json_t *from;
    json_array_foreach(rows, i, from) {
        row r;
        float logp[LONGEST];
        read_row(from, &r);
        tq_score_item item = {.tokens = r.tokens, .n = r.n, .logp = logp};
        OK(&e, tq_score(scorer, &item, 1, &e.err));
        add_row(&d, &r, logp);
    }
    tq_scorer_free(scorer);
    close_engine(&e);
    return d;
}

static float log_prob(const float *logits, int n, tq_token token) {
    double most = (double)logits[0], sum = 0;
    for (int i = 1; i < n; i++) most = fmax(most, (double)logits[i]);
    for (int i = 0; i < n; i++) sum += exp((double)logits[i] - most);
    return (float)((double)logits[token] - most - log(sum));
}

/* Every token through the decode pass, as an answer's are; every third row, as this takes its time. */
static difference of_decoding(const char *compute) {
    engine e = {0};
    difference d = {0};
    open_engine(&e, compute);
    tq_session *session;
    OK(&e, tq_session_new(&session, e.model, LONGEST, 0, &e.err));
    size_t i;
    json_t *from;
    json_array_foreach(rows, i, from) {
        row r;
        float logp[LONGEST];
        if (i % 3) continue;
        read_row(from, &r);
        tq_session_reset(session);
        OK(&e, tq_session_sync(session, r.tokens, 1, NULL, false, &e.err));
        for (int t = 1; t < r.n; t++) {
            logp[t] = log_prob(tq_session_logits(session), e.model->config.V, r.tokens[t]);
            OK(&e, tq_session_decode(session, r.tokens[t], &e.err));
        }
        add_row(&d, &r, logp);
    }
    tq_session_free(session);
    close_engine(&e);
    return d;
}

static void f32_scores_are_those_of_the_reference(void **state) {
    (void)state;
    difference d = of_scoring("f32");
    assert_true(mean(&d, "f32 scoring") < 1e-4);
    assert_true(d.worst_row < 1e-4);
}

static void bf16_scores_stay_near(void **state) {
    (void)state;
    difference d = of_scoring("auto");
    assert_true(mean(&d, "auto scoring") <= 0.04);
    assert_true(d.worst_row <= 0.05);
}

static void int8_decoding_is_no_worse_than_that_of_others(void **state) {
    (void)state;
    difference d = of_decoding("int8"); /* on every instruction set; auto may choose f32 rows */
    assert_true(mean(&d, "int8 decoding") <= 0.085);
    assert_true(d.worst_row <= 0.1);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: test_precision precision.json\n");
        return 2;
    }
    rows = json_load_file(argv[1], 0, NULL);
    if (!rows) {
        fprintf(stderr, "%s cannot be read\n", argv[1]);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f32_scores_are_those_of_the_reference),
        cmocka_unit_test(bf16_scores_stay_near),
        cmocka_unit_test(int8_decoding_is_no_worse_than_that_of_others),
    };
    int status = cmocka_run_group_tests(tests, NULL, NULL);
    json_decref(rows);
    return status;
}
