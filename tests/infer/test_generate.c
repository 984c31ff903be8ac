/* Generation on the small model: ends, streaming, seeds, limits. */
#include "small.h"

#include "infer/generate.h"

enum { N = 30, CONTEXT = 120 };

typedef struct run {
    tq_session *session;
    tq_token prompt[N];
    tq_sampling sampling;
    tq_generate_options o;
    tq_generated g;
    tq_buf streamed;
    int calls, stop_after; /* on_text says no at its stop_after-th call */
} run;

static bool on_text(void *arg, const char *text, size_t n) {
    run *r = arg;
    assert_true(n > 0);
    return tq_buf_put(&r->streamed, text, n) && ++r->calls != r->stop_after;
}

static void begin(small *s, run *r) {
    memset(r, 0, sizeof *r);
    small_tokens(r->prompt, N, 1);
    r->sampling = tq_sampling_default();
    r->o = (tq_generate_options){.max_tokens = 50, .ignore_eos = true, .on_text = on_text, .arg = r};
    tq_generated_init(&r->g, &s->ctx->mem);
    tq_buf_init(&r->streamed, &s->ctx->mem, 10000);
    OK(s, tq_session_new(&r->session, s->model, CONTEXT, 0, &s->err));
}

static toque_status go(small *s, run *r) {
    tq_generated_clear(&r->g);
    tq_generated_init(&r->g, &s->ctx->mem);
    tq_buf_reset(&r->streamed);
    r->calls = 0;
    return tq_generate(r->session, r->prompt, N, NULL, &r->sampling, &r->o, &r->g, &s->err);
}

static void end(run *r) {
    tq_generated_clear(&r->g);
    tq_buf_clear(&r->streamed);
    tq_session_free(r->session);
}

static void greedy_takes_the_likeliest_token_every_time(void **state) {
    small *s = *state;
    run r;
    begin(s, &r);
    OK(s, go(s, &r));
    assert_int_equal(r.g.finish, TQ_FINISH_LENGTH);
    assert_int_equal(r.g.tokens.len, 50);
    assert_int_equal(r.g.prompt_tokens, N);
    assert_string_equal(r.streamed.data, r.g.text.data);
    tq_token all[N + 50];
    memcpy(all, r.prompt, sizeof r.prompt);
    memcpy(all + N, r.g.tokens.ids, 50 * sizeof *all);
    double logp = 0;
    for (int i = N; i < N + 50; i++) {
        OK(s, tq_session_sync(r.session, all, i, NULL, true, &s->err));
        const float *l = tq_session_logits(r.session);
        double sum = 0;
        for (int t = 0; t < SMALL_V; t++) {
            sum += exp((double)l[t]);
            if (!tq_tokenizer_is_end(s->model->tokenizer, t)) assert_true(l[t] <= l[all[i]] + 1e-4f);
        }
        logp += (double)l[all[i]] - log(sum);
    }
    assert_true(fabs(logp - r.g.logprob) < 1e-3);
    end(&r);
}

static void an_end_token_ends_and_is_counted_unless_ignored(void **state) {
    small *s = *state;
    run r;
    begin(s, &r);
    const tq_logit_bias wish = {SMALL_IM_END, 50};
    r.sampling.bias = &wish;
    r.sampling.n_bias = 1;
    r.o.ignore_eos = false;
    OK(s, go(s, &r));
    assert_int_equal(r.g.finish, TQ_FINISH_STOP);
    assert_int_equal(r.g.tokens.len, 1);
    assert_int_equal(r.g.text.len, 0);
    r.o.ignore_eos = true;
    OK(s, go(s, &r));
    assert_int_equal(r.g.finish, TQ_FINISH_LENGTH);
    assert_int_equal(r.g.tokens.len, 50);
    for (size_t i = 0; i < 50; i++) assert_false(tq_tokenizer_is_end(s->model->tokenizer, r.g.tokens.ids[i]));
    end(&r);
}

static void a_stop_string_ends_before_it(void **state) {
    small *s = *state;
    run r;
    begin(s, &r);
    /* letters only, so that the text is readable whatever the model says */
    tq_logit_bias only[SMALL_V];
    for (int t = 0; t < SMALL_V; t++) only[t] = (tq_logit_bias){t, t >= 'a' - 33 && t <= 'z' - 33 ? 0 : -INFINITY};
    r.sampling.bias = only;
    r.sampling.n_bias = SMALL_V;
    r.sampling.temperature = 1;
    r.sampling.seed = 3;
    OK(s, go(s, &r));
    char whole[64], cut[3];
    assert_true(r.g.text.len >= 50 && r.g.text.len < sizeof whole);
    strcpy(whole, r.g.text.data);
    snprintf(cut, sizeof cut, "%.2s", whole + 30);
    const char *strings[] = {cut};
    r.o.stop = strings;
    r.o.n_stop = 1;
    OK(s, go(s, &r));
    assert_int_equal(r.g.finish, TQ_FINISH_STOP);
    size_t expected = (size_t)(strstr(whole, cut) - whole);
    assert_int_equal(r.g.text.len, expected);
    assert_memory_equal(r.g.text.data, whole, expected);
    assert_string_equal(r.streamed.data, r.g.text.data);
    end(&r);
}

static void a_seed_gives_the_same_answer_from_a_cold_and_a_warm_cache(void **state) {
    small *s = *state;
    run r;
    begin(s, &r);
    r.sampling.temperature = 1;
    r.sampling.seed = 11;
    r.o.prefill_only = true;
    OK(s, go(s, &r));
    tq_token first[50];
    memcpy(first, r.g.tokens.ids, sizeof first);
    assert_int_equal(r.g.reused, 0);
    OK(s, go(s, &r));
    assert_int_equal(r.g.reused, N - 1);
    assert_memory_equal(r.g.tokens.ids, first, sizeof first);
    r.sampling.seed = 12;
    OK(s, go(s, &r));
    assert_memory_not_equal(r.g.tokens.ids, first, sizeof first);
    r.sampling.seed = 11;
    r.o.stream = 1;
    OK(s, go(s, &r));
    assert_memory_not_equal(r.g.tokens.ids, first, sizeof first);
    end(&r);
}

static void a_resumed_answer_continues_as_it_would_have(void **state) {
    small *s = *state;
    run r;
    begin(s, &r);
    r.sampling.temperature = 1;
    r.sampling.seed = 4;
    OK(s, go(s, &r));
    tq_token whole[50], longer[N + 20];
    memcpy(whole, r.g.tokens.ids, sizeof whole);
    memcpy(longer, r.prompt, sizeof r.prompt);
    memcpy(longer + N, whole, 20 * sizeof *whole);
    r.o.max_tokens = 30;
    tq_generated_clear(&r.g);
    tq_generated_init(&r.g, &s->ctx->mem);
    OK(s, tq_generate(r.session, longer, N + 20, NULL, &r.sampling, &r.o, &r.g, &s->err));
    assert_memory_equal(r.g.tokens.ids, whole + 20, 30 * sizeof *whole);
    end(&r);
}

static void the_caller_and_the_context_can_cancel(void **state) {
    small *s = *state;
    run r;
    begin(s, &r);
    r.stop_after = 3;
    OK(s, go(s, &r));
    assert_int_equal(r.g.finish, TQ_FINISH_CANCELED);
    assert_int_equal(r.calls, 3);
    r.stop_after = 0;
    atomic_store(&s->ctx->canceled, true);
    OK(s, go(s, &r));
    atomic_store(&s->ctx->canceled, false);
    assert_int_equal(r.g.finish, TQ_FINISH_CANCELED);
    assert_int_equal(r.g.tokens.len, 0);
    end(&r);
}

static void the_context_bounds_the_answer(void **state) {
    small *s = *state;
    run r;
    begin(s, &r);
    r.o.max_tokens = 0;
    OK(s, go(s, &r));
    assert_int_equal(r.g.finish, TQ_FINISH_LENGTH);
    assert_int_equal(r.g.tokens.len, CONTEXT - N + 1); /* the last one needs no place */
    r.o.max_tokens = CONTEXT - N + 1;
    OK(s, go(s, &r));
    r.o.max_tokens++;
    assert_int_equal(go(s, &r), TOQUE_ELIMIT);
    assert_non_null(strstr(s->err.message, "120"));
    end(&r);
}

static void nothing_to_draw_is_an_error(void **state) {
    small *s = *state;
    run r;
    begin(s, &r);
    tq_logit_bias all[SMALL_V];
    for (int t = 0; t < SMALL_V; t++) all[t] = (tq_logit_bias){t, -INFINITY};
    r.sampling.bias = all;
    r.sampling.n_bias = SMALL_V;
    assert_int_equal(go(s, &r), TOQUE_ENONFINITE);
    end(&r);
}

static void no_memory_is_returned(void **state) {
    small *s = *state;
    tq_mem *mem = &s->ctx->mem;
    run r;
    begin(s, &r);
    static const char *const strings[] = {"a stop string"};
    r.o.stop = strings;
    r.o.n_stop = 1;
    tq_generated_clear(&r.g);
    tq_buf_clear(&r.streamed);
    r.o.on_text = NULL;
    size_t before = mem->used;
    int failures = 0;
    for (unsigned long long nth = 1;; nth++) {
        tq_generated_init(&r.g, mem);
        atomic_store(&mem->calls, 0);
        mem->fail_at = nth;
        toque_status status = tq_generate(r.session, r.prompt, N, NULL, &r.sampling, &r.o, &r.g, &s->err);
        mem->fail_at = 0;
        tq_generated_clear(&r.g);
        assert_int_equal(mem->used, before);
        if (status == TOQUE_OK) break;
        assert_int_equal(status, TOQUE_ENOMEM);
        failures++;
    }
    assert_true(failures >= 6);
    end(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_likeliest_token_every_time),
        cmocka_unit_test(an_end_token_ends_and_is_counted_unless_ignored),
        cmocka_unit_test(a_stop_string_ends_before_it),
        cmocka_unit_test(a_seed_gives_the_same_answer_from_a_cold_and_a_warm_cache),
        cmocka_unit_test(a_resumed_answer_continues_as_it_would_have),
        cmocka_unit_test(the_caller_and_the_context_can_cancel),
        cmocka_unit_test(the_context_bounds_the_answer),
        cmocka_unit_test(nothing_to_draw_is_an_error),
        cmocka_unit_test(no_memory_is_returned),
    };
    return cmocka_run_group_tests(tests, small_open, small_close);
}
