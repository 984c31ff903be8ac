/* Inference on the real model (TOQUE_TEST_MODEL) against transformers in f32: greedy continuations, log-probabilities
 * and perplexity. data/cases.json comes from tools/reference/infer_cases.py; no case stands near a tie. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "infer/generate.h"
#include "infer/score.h"

static const char *cases_path, *text_path;

typedef struct engine {
    tq_ctx *ctx;
    tq_model *model;
    json_t *cases;
    toque_error err;
} engine;

#define OK(e, call)                                                                                                    \
    do {                                                                                                               \
        if ((call) != TOQUE_OK) fail_msg("%s", (e)->err.message);                                                      \
    } while (0)

static int open_engine(void **state) {
    static engine e;
    const char *path = getenv("TOQUE_TEST_MODEL");
    if (!path) {
        fprintf(stderr, "TOQUE_TEST_MODEL must name the real model's GGUF file\n");
        return -1;
    }
    e.cases = json_load_file(cases_path, 0, NULL);
    if (!e.cases || tq_ctx_new(&e.ctx, 1, 0, "f32", &e.err) != TOQUE_OK ||
        tq_model_open(&e.model, e.ctx, path, &e.err) != TOQUE_OK) {
        fprintf(stderr, "%s\n", e.cases ? e.err.message : cases_path);
        return -1;
    }
    *state = &e;
    return 0;
}

static int close_engine(void **state) {
    engine *e = *state;
    tq_model_close(e->model);
    tq_ctx_free(e->ctx);
    json_decref(e->cases);
    return 0;
}

static int read_tokens(const json_t *array, tq_token *out, int most) {
    int n = (int)json_array_size(array);
    assert_true(n > 0 && n <= most);
    for (int i = 0; i < n; i++) out[i] = (tq_token)json_integer_value(json_array_get(array, (size_t)i));
    return n;
}

static double number(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

/* The prompt as transformers' template and tokenizer make it, and 64 tokens behind it. */
static void greedy_answers_are_those_of_transformers(void **state) {
    engine *e = *state;
    const json_t *cases = json_object_get(e->cases, "greedy");
    assert_int_equal(json_array_size(cases), 5);
    tq_session *session;
    OK(e, tq_session_new(&session, e->model, 256, 0, &e->err));
    size_t i;
    json_t *c;
    json_array_foreach(cases, i, c) {
        tq_token prompt[256], expected[64];
        int n = read_tokens(json_object_get(c, "prompt_tokens"), prompt, 256);
        assert_int_equal(read_tokens(json_object_get(c, "tokens"), expected, 64), 64);
        tq_rendered rendered = {0};
        tq_tokens list = {.mem = &e->ctx->mem};
        json_t *messages = json_pack("[{s:s, s:O}]", "role", "user", "content", json_object_get(c, "prompt"));
        OK(e, tq_model_render(e->model, messages, NULL, NULL, true, &rendered, &e->err));
        OK(e, tq_model_tokenize_rendered(e->model, &rendered, &list, &e->err));
        assert_int_equal(list.len, n);
        assert_memory_equal(list.ids, prompt, (size_t)n * sizeof *prompt);

        tq_generated g;
        tq_generated_init(&g, &e->ctx->mem);
        tq_sampling greedy = tq_sampling_default();
        OK(e, tq_generate(session, prompt, n, NULL, &greedy,
                          &(tq_generate_options){.max_tokens = 64, .ignore_eos = true, .prefill_only = true}, &g,
                          &e->err));
        assert_int_equal(g.tokens.len, 64);
        assert_memory_equal(g.tokens.ids, expected, sizeof expected);
        tq_generated_clear(&g);
        tq_rendered_clear(&rendered);
        tq_tokens_clear(&list);
        json_decref(messages);
    }
    tq_session_free(session);
}

static void chosen_tokens_have_the_log_probabilities_of_transformers(void **state) {
    engine *e = *state;
    enum { ITEMS = 4, LONGEST = 100 };
    const json_t *cases = json_object_get(e->cases, "score");
    assert_int_equal(json_array_size(cases), ITEMS);
    tq_token tokens[ITEMS][LONGEST];
    uint8_t target[ITEMS][LONGEST];
    float logp[ITEMS][LONGEST];
    tq_score_item items[ITEMS];
    for (int i = 0; i < ITEMS; i++) {
        const json_t *c = json_array_get(cases, (size_t)i);
        int n = read_tokens(json_object_get(c, "tokens"), tokens[i], LONGEST);
        for (int t = 0; t < n; t++)
            target[i][t] = (uint8_t)json_integer_value(json_array_get(json_object_get(c, "target"), (size_t)t));
        items[i] = (tq_score_item){.tokens = tokens[i], .target = target[i], .n = n, .logp = logp[i]};
    }
    tq_scorer *scorer;
    OK(e, tq_scorer_new(&scorer, e->model, 0, &e->err));
    OK(e, tq_score(scorer, items, ITEMS, &e->err));
    double worst = 0;
    int compared = 0;
    for (int i = 0; i < ITEMS; i++)
        for (int t = 1; t < items[i].n; t++) {
            if (!target[i][t]) continue;
            double expected =
                json_number_value(json_array_get(json_object_get(json_array_get(cases, (size_t)i), "logp"), (size_t)t));
            worst = fmax(worst, fabs((double)logp[i][t] - expected));
            compared++;
        }
    print_message("%d log-probabilities, largest difference %.2g\n", compared, worst);
    assert_true(compared > 50);
    assert_true(worst < 1e-3);
    tq_scorer_free(scorer);
}

/* Longer than a pass: in chunks over a cache. */
static void a_sequence_of_several_passes_agrees_too(void **state) {
    engine *e = *state;
    const json_t *c = json_object_get(e->cases, "long"), *at = json_object_get(c, "at"),
                 *expected = json_object_get(c, "logp");
    static tq_token tokens[1000];
    static float logp[1000];
    tq_score_item item = {.tokens = tokens, .n = read_tokens(json_object_get(c, "tokens"), tokens, 1000), .logp = logp};
    tq_scorer *scorer;
    OK(e, tq_scorer_new(&scorer, e->model, 0, &e->err));
    OK(e, tq_score(scorer, &item, 1, &e->err));
    double worst = 0;
    for (size_t i = 0; i < json_array_size(at); i++)
        worst = fmax(worst, fabs((double)logp[json_integer_value(json_array_get(at, i))] -
                                 json_number_value(json_array_get(expected, i))));
    print_message("largest difference %.2g, of the sum %.2g\n", worst, fabs(item.sum - number(c, "sum")));
    assert_true(json_array_size(at) > 20);
    assert_true(worst < 1e-3);
    assert_true(fabs(item.sum - number(c, "sum")) < 0.01);
    tq_scorer_free(scorer);
}

static void perplexity_is_that_of_transformers(void **state) {
    engine *e = *state;
    char *text;
    size_t n, i;
    json_t *c;
    tq_tokens list = {.mem = &e->ctx->mem};
    OK(e, tq_read_file(&text, &n, &e->ctx->mem, text_path, 1 << 20, &e->err));
    OK(e, tq_tokenize(e->model->tokenizer, text, n, true, false, &list, &e->err));
    assert_int_equal(list.len, json_integer_value(json_object_get(e->cases, "text_tokens")));
    tq_scorer *scorer;
    OK(e, tq_scorer_new(&scorer, e->model, 0, &e->err));
    const json_t *cases = json_object_get(e->cases, "perplexity");
    assert_int_equal(json_array_size(cases), 3);
    json_array_foreach(cases, i, c) {
        tq_perplexity p;
        OK(e, tq_perplexity_run(scorer, list.ids, list.len, (int)number(c, "context"), (int)number(c, "stride"), NULL,
                                NULL, NULL, &p, &e->err));
        print_message("context %g: nll %.6f, expected %.6f\n", number(c, "context"), p.nll, number(c, "nll"));
        assert_int_equal(p.tokens, json_integer_value(json_object_get(c, "tokens")));
        assert_true(fabs(p.nll - number(c, "nll")) < 1e-3);
    }
    tq_scorer_free(scorer);
    tq_tokens_clear(&list);
    tq_free(&e->ctx->mem, text);
}

int main(int argc, char **argv) {
    if (argc != 3) return 1;
    cases_path = argv[1];
    text_path = argv[2];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_answers_are_those_of_transformers),
        cmocka_unit_test(chosen_tokens_have_the_log_probabilities_of_transformers),
        cmocka_unit_test(a_sequence_of_several_passes_agrees_too),
        cmocka_unit_test(perplexity_is_that_of_transformers),
    };
    return cmocka_run_group_tests(tests, open_engine, close_engine);
}
