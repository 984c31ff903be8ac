/* Sessions: what is reused, what is not, and that reuse never changes a result. */
#include "small.h"

#include "infer/session.h"
#include "model/adapter.h"

enum { N = 60 };

static tq_session *make(small *s, int context) {
    tq_session *session;
    OK(s, tq_session_new(&session, s->model, context, 4, &s->err));
    return session;
}

static void sync(small *s, tq_session *session, const tq_token *tokens, int n, const tq_hats *hats, bool prefill_only,
                 int reused) {
    OK(s, tq_session_sync(session, tokens, n, hats, prefill_only, &s->err));
    assert_int_equal(tq_session_length(session), n);
    assert_int_equal(tq_session_reused(session), reused);
    assert_memory_equal(tq_session_tokens(session), tokens, (size_t)n * sizeof *tokens);
}

/* Logits of a session that has seen nothing else. */
static void fresh(small *s, const tq_token *tokens, int n, const tq_hats *hats, float *logits) {
    tq_session *session = make(s, 100);
    sync(s, session, tokens, n, hats, true, 0);
    memcpy(logits, tq_session_logits(session), SMALL_V * sizeof *logits);
    tq_session_free(session);
}

static void a_common_prefix_is_reused_and_changes_no_bit(void **state) {
    small *s = *state;
    tq_token tokens[N], other[N];
    float expected[SMALL_V];
    small_tokens(tokens, N, 1);
    memcpy(other, tokens, sizeof other);
    other[40] ^= 1;
    tq_session *session = make(s, 100);
    sync(s, session, tokens, N, NULL, true, 0);
    sync(s, session, tokens, N, NULL, true, N - 1); /* the last one runs again: its logits are wanted */
    sync(s, session, tokens, 20, NULL, true, 19);
    sync(s, session, tokens, N, NULL, true, 20);
    sync(s, session, other, N, NULL, true, 40);
    fresh(s, other, N, NULL, expected);
    assert_memory_equal(tq_session_logits(session), expected, sizeof expected);
    tq_session_free(session);
}

static void decode_continues_what_prefill_began(void **state) {
    small *s = *state;
    tq_token tokens[N];
    float expected[SMALL_V];
    small_tokens(tokens, N, 2);
    tq_session *session = make(s, 100);
    sync(s, session, tokens, N - 10, NULL, false, 0);
    for (int i = N - 10; i < N; i++) OK(s, tq_session_decode(session, tokens[i], &s->err));
    fresh(s, tokens, N, NULL, expected);
    for (int i = 0; i < SMALL_V; i++) assert_true(fabsf(tq_session_logits(session)[i] - expected[i]) < 1e-4f);
    tq_session_free(session);
}

static void entries_of_decode_are_reused_only_when_allowed(void **state) {
    small *s = *state;
    tq_token tokens[N];
    float expected[SMALL_V];
    small_tokens(tokens, N, 3);
    tq_session *session = make(s, 100);
    for (int allowed = 1; allowed >= 0; allowed--) {
        tq_session_reset(session);
        sync(s, session, tokens, 30, NULL, false, 0);
        for (int i = 30; i < 50; i++) OK(s, tq_session_decode(session, tokens[i], &s->err));
        sync(s, session, tokens, N, NULL, !allowed, allowed ? 50 : 30);
    }
    fresh(s, tokens, N, NULL, expected);
    assert_memory_equal(tq_session_logits(session), expected, sizeof expected);
    sync(s, session, tokens, N, NULL, true, N - 1); /* prefill made them by now */
    tq_session_free(session);
}

static void other_hats_reuse_nothing(void **state) {
    small *s = *state;
    tq_token tokens[N];
    float base[SMALL_V], worn[SMALL_V];
    small_tokens(tokens, N, 4);
    tq_adapter *a;
    OK(s,
       tq_adapter_new(&a, s->model,
                      &(tq_adapter_options){.kind = "lora", .rank = 4, .alpha = 8, .targets = "all-linear"}, &s->err));
    for (size_t i = 0; i < a->n; i++) a->values[i] = 0.05f * (float)(i % 7) - 0.15f;
    tq_hat one = tq_adapter_hat(a, 1), half = tq_adapter_hat(a, 0.5f);
    const tq_hats at_one = {&one, 1}, at_half = {&half, 1}, none = {NULL, 0};
    tq_session *session = make(s, 100);
    fresh(s, tokens, N, NULL, base);
    fresh(s, tokens, N, &at_one, worn);
    assert_memory_not_equal(base, worn, sizeof base);
    sync(s, session, tokens, N, NULL, true, 0);
    sync(s, session, tokens, N, &none, true, N - 1);
    sync(s, session, tokens, N, &at_one, true, 0);
    assert_memory_equal(tq_session_logits(session), worn, sizeof worn);
    const tq_hat copy = one; /* the same hat from another array */
    sync(s, session, tokens, N, &(tq_hats){&copy, 1}, true, N - 1);
    sync(s, session, tokens, N, &at_half, true, 0);
    sync(s, session, tokens, N, NULL, true, 0);
    assert_memory_equal(tq_session_logits(session), base, sizeof base);
    tq_session_free(session);
    tq_adapter_free(a);
}

static void a_full_context_is_an_error_with_the_numbers(void **state) {
    small *s = *state;
    tq_token tokens[N];
    small_tokens(tokens, N, 5);
    tq_session *session = make(s, 40);
    assert_int_equal(tq_session_sync(session, tokens, 41, NULL, false, &s->err), TOQUE_ELIMIT);
    assert_non_null(strstr(s->err.message, "41"));
    assert_non_null(strstr(s->err.message, "40"));
    sync(s, session, tokens, 40, NULL, false, 0);
    assert_int_equal(tq_session_decode(session, 1, &s->err), TOQUE_ELIMIT);
    assert_non_null(strstr(s->err.message, "40"));
    assert_int_equal(tq_session_length(session), 40);
    tq_session_free(session);
    assert_int_equal(tq_session_new(&session, s->model, 257, 0, &s->err), TOQUE_ELIMIT);
    assert_non_null(strstr(s->err.message, "257"));
}

static void wrong_tokens_are_refused_and_harm_nothing(void **state) {
    small *s = *state;
    tq_token tokens[N], wrong[N];
    small_tokens(tokens, N, 6);
    memcpy(wrong, tokens, sizeof wrong);
    wrong[50] = SMALL_V;
    tq_session *session = make(s, 100);
    sync(s, session, tokens, N, NULL, true, 0);
    assert_int_equal(tq_session_sync(session, wrong, N, NULL, true, &s->err), TOQUE_EINVAL);
    assert_int_equal(tq_session_sync(session, wrong, 0, NULL, true, &s->err), TOQUE_EINVAL);
    assert_int_equal(tq_session_decode(session, -1, &s->err), TOQUE_EINVAL);
    assert_int_equal(tq_session_decode(session, SMALL_V, &s->err), TOQUE_EINVAL);
    sync(s, session, tokens, N, NULL, true, N - 1);
    tq_session_free(session);
}

static void a_canceled_prompt_can_be_taken_up_again(void **state) {
    small *s = *state;
    tq_token tokens[N];
    float expected[SMALL_V];
    small_tokens(tokens, N, 7);
    tq_session *session = make(s, 100);
    atomic_store(&s->ctx->canceled, true);
    assert_int_equal(tq_session_sync(session, tokens, N, NULL, true, &s->err), TOQUE_ECANCELED);
    atomic_store(&s->ctx->canceled, false);
    sync(s, session, tokens, N, NULL, true, 0);
    fresh(s, tokens, N, NULL, expected);
    assert_memory_equal(tq_session_logits(session), expected, sizeof expected);
    tq_session_free(session);
}

static void no_memory_is_returned(void **state) {
    small *s = *state;
    tq_mem *mem = &s->ctx->mem;
    size_t before = mem->used;
    int failures = 0;
    for (mem->fail_at = 1;; mem->fail_at++) {
        tq_session *session;
        atomic_store(&mem->calls, 0);
        if (tq_session_new(&session, s->model, 64, 4, &s->err) == TOQUE_OK) {
            mem->fail_at = 0;
            tq_session_free(session);
            break;
        }
        failures++;
        assert_int_equal(s->err.code, TOQUE_ENOMEM);
        assert_int_equal(mem->used, before);
    }
    assert_true(failures >= 5);
    assert_int_equal(mem->used, before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_common_prefix_is_reused_and_changes_no_bit),
        cmocka_unit_test(decode_continues_what_prefill_began),
        cmocka_unit_test(entries_of_decode_are_reused_only_when_allowed),
        cmocka_unit_test(other_hats_reuse_nothing),
        cmocka_unit_test(a_full_context_is_an_error_with_the_numbers),
        cmocka_unit_test(wrong_tokens_are_refused_and_harm_nothing),
        cmocka_unit_test(a_canceled_prompt_can_be_taken_up_again),
        cmocka_unit_test(no_memory_is_returned),
    };
    return cmocka_run_group_tests(tests, small_open, small_close);
}
