/* A prompt of virtual tokens worn at inference: sessions, scoring, continuations and rows of other hats in one pass all
 * give what a sequence of the same rows gives, whatever was in the cache before. */
#include "small.h"

#include "infer/choices.h"
#include "infer/score.h"
#include "infer/session.h"
#include "model/adapter.h"

enum { N = 5, LONG = 700 };

static tq_adapter *make(small *s, const char *text) {
    tq_adapter *a;
    tq_adapter_options o = {.kind = "prompt", .virtual_tokens = N, .prompt_init_text = text, .seed = 3};
    OK(s, tq_adapter_new(&a, s->model, &o, &s->err));
    return a;
}

static double log_prob(const float *l, tq_token token) {
    double sum = 0;
    for (int t = 0; t < SMALL_V; t++) sum += exp((double)l[t]);
    return (double)l[token] - log(sum);
}

/* A prompt that begins as the tokens of a text is these tokens. */
static void a_prompt_is_the_text_that_it_begins_as(void **state) {
    small *s = *state;
    tq_adapter *a = make(s, "hat");
    tq_hat hat = tq_adapter_hat(a, 1);
    tq_hats hats = {&hat, 1};
    tq_tokens text = {.mem = &s->ctx->mem};
    OK(s, tq_tokenize(s->model->tokenizer, "hat", 3, false, false, &text, &s->err));
    tq_token tokens[N + 30], *own = tokens + N;
    for (int i = 0; i < N; i++) tokens[i] = text.ids[(size_t)i % text.len];
    small_tokens(own, 30, 1);
    tq_session *with, *without;
    OK(s, tq_session_new(&with, s->model, 30, 1, &s->err));
    OK(s, tq_session_new(&without, s->model, 60, 1, &s->err));
    OK(s, tq_session_sync(with, own, 20, &hats, true, &s->err));
    OK(s, tq_session_sync(without, tokens, N + 20, NULL, true, &s->err));
    assert_int_equal(tq_session_length(with), 20);
    assert_memory_equal(tq_session_logits(with), tq_session_logits(without), SMALL_V * sizeof(float));
    for (int i = 20; i < 30; i++) { /* to the end of what fits */
        OK(s, tq_session_decode(with, own[i], &s->err));
        OK(s, tq_session_decode(without, own[i], &s->err));
        assert_memory_equal(tq_session_logits(with), tq_session_logits(without), SMALL_V * sizeof(float));
    }
    assert_memory_equal(tq_session_tokens(with), own, 30 * sizeof *own);
    assert_int_equal(tq_session_decode(with, own[0], &s->err), TOQUE_ELIMIT);
    assert_int_equal(tq_session_sync(with, own, 31, &hats, true, &s->err), TOQUE_ELIMIT);
    tq_session_free(with);
    tq_session_free(without);
    tq_tokens_clear(&text);
    tq_adapter_free(a);
}

static void sessions_scores_and_choices_agree(void **state) {
    small *s = *state;
    tq_adapter *a = make(s, NULL);
    tq_hat hat = tq_adapter_hat(a, 1);
    tq_hats hats = {&hat, 1};
    static tq_token tokens[LONG];
    static float logp[LONG], alone[LONG];
    uint8_t target[40] = {0};
    tq_session *session;
    tq_scorer *scorer;
    tq_chooser *chooser;
    small_tokens(tokens, LONG, 2);
    int most = s->model->config.context < LONG ? s->model->config.context - N : LONG;
    OK(s, tq_session_new(&session, s->model, 0, 1, &s->err));
    OK(s, tq_scorer_new(&scorer, s->model, 1, &s->err));
    OK(s, tq_chooser_new(&chooser, s->model, 1, &s->err));
    tq_score_item items[] = {{.tokens = tokens, .n = 40},
                             {.tokens = tokens, .n = 40, .hats = &hats, .logp = alone},
                             {.tokens = tokens, .n = most, .hats = &hats, .logp = logp}};
    OK(s, tq_score(scorer, items, 3, &s->err));
    assert_true(fabs(items[0].sum - items[1].sum) > 1e-3);
    for (int i = 1; i < 40; i += 6) {
        OK(s, tq_session_sync(session, tokens, i, &hats, true, &s->err));
        assert_true(tq_session_reused(session) == (i > 1 ? i - 6 : 0));
        double p = log_prob(tq_session_logits(session), tokens[i]);
        assert_true(fabs(p - (double)alone[i]) < 1e-4 && fabs(p - (double)logp[i]) < 1e-4);
    }
    OK(s, tq_session_sync(session, tokens, most - 1, &hats, true, &s->err));
    assert_true(fabs(log_prob(tq_session_logits(session), tokens[most - 1]) - (double)logp[most - 1]) < 1e-4);
    for (int i = 30; i < 40; i++) target[i] = 1;
    tq_score_item choices[] = {{.tokens = tokens, .target = target, .n = 40, .hats = &hats},
                               {.tokens = tokens, .target = target, .n = 36, .hats = &hats}};
    for (int again = 0; again < 2; again++) {
        OK(s, tq_choose(chooser, choices, 2, &s->err));
        for (int k = 0; k < 2; k++) {
            double sum = 0;
            for (int i = 30; i < choices[k].n; i++) sum += (double)alone[i];
            assert_true(fabs(choices[k].sum - sum) < 1e-4);
        }
    }
    tq_chooser_free(chooser);
    tq_scorer_free(scorer);
    tq_session_free(session);
    tq_adapter_free(a);
}

/* A hat put on and taken off again in the middle: nothing of the other's cache is left. */
static void swapping_prompts_leaves_nothing_behind(void **state) {
    small *s = *state;
    tq_adapter *a = make(s, NULL), *b = make(s, "other");
    tq_hat hat[2] = {tq_adapter_hat(a, 1), tq_adapter_hat(b, 1)};
    tq_hats hats[2] = {{&hat[0], 1}, {&hat[1], 1}};
    tq_token tokens[20];
    float first[3][SMALL_V];
    tq_session *session;
    small_tokens(tokens, 20, 4);
    OK(s, tq_session_new(&session, s->model, 20, 1, &s->err));
    for (int round = 0; round < 2; round++)
        for (int k = 0; k < 3; k++) {
            OK(s, tq_session_sync(session, tokens, 20, k < 2 ? &hats[k] : NULL, true, &s->err));
            if (round) assert_memory_equal(first[k], tq_session_logits(session), sizeof first[k]);
            memcpy(first[k], tq_session_logits(session), sizeof first[k]);
        }
    assert_true(memcmp(first[0], first[1], sizeof first[0]) && memcmp(first[0], first[2], sizeof first[0]));
    tq_session_free(session);
    tq_adapter_free(a);
    tq_adapter_free(b);
}

static void what_cannot_be_worn_is_refused(void **state) {
    small *s = *state;
    tq_adapter *a = make(s, NULL), *b = make(s, "b"), *prefix, *none;
    tq_adapter_options o = {.kind = "prefix", .virtual_tokens = N, .seed = 3};
    OK(s, tq_adapter_new(&prefix, s->model, &o, &s->err));
    tq_hat sets[][2] = {{tq_adapter_hat(a, 1), tq_adapter_hat(b, 1)},
                        {tq_adapter_hat(a, 1), tq_adapter_hat(prefix, 1)},
                        {tq_adapter_hat(a, 0.5f), {0}}};
    tq_token tokens[5];
    tq_session *session;
    small_tokens(tokens, 5, 4);
    OK(s, tq_session_new(&session, s->model, 20, 1, &s->err));
    for (int i = 0; i < 3; i++) {
        tq_hats hats = {sets[i], i < 2 ? 2 : 1};
        assert_int_equal(tq_session_sync(session, tokens, 5, &hats, true, &s->err), TOQUE_EINVAL);
        assert_non_null(strstr(s->err.message, "one such adapter"));
    }
    tq_session_free(session);
    o = (tq_adapter_options){.kind = "prompt", .virtual_tokens = 2, .prompt_init_text = "a long text"};
    assert_int_equal(tq_adapter_new(&none, s->model, &o, &s->err), TOQUE_EINVAL);
    assert_non_null(strstr(s->err.message, "leave virtual_tokens out"));
    o.prompt_init_text = "";
    assert_int_equal(tq_adapter_new(&none, s->model, &o, &s->err), TOQUE_EINVAL);
    tq_head head = {.kind = TQ_HEAD_VALUE, .n = 1};
    o = (tq_adapter_options){.kind = "prompt", .virtual_tokens = 2, .heads = &head, .n_heads = 1};
    assert_int_equal(tq_adapter_new(&none, s->model, &o, &s->err), TOQUE_EINVAL);
    assert_non_null(strstr(s->err.message, "without a head"));
    tq_adapter_free(a);
    tq_adapter_free(b);
    tq_adapter_free(prefix);
}

/* Rows with and without it share a pass: each has the bits that it has alone. */
static void company_changes_no_bit(void **state) {
    small *s = *state;
    tq_adapter *a = make(s, NULL);
    tq_hat hat = tq_adapter_hat(a, 1);
    tq_hats hats = {&hat, 1};
    tq_token tokens[30];
    float together[3][30], alone[30];
    tq_scorer *scorer;
    small_tokens(tokens, 30, 5);
    OK(s, tq_scorer_new(&scorer, s->model, 1, &s->err));
    tq_score_item items[3];
    for (int i = 0; i < 3; i++)
        items[i] = (tq_score_item){.tokens = tokens + i, .n = 25, .hats = i == 1 ? NULL : &hats, .logp = together[i]};
    OK(s, tq_score(scorer, items, 3, &s->err));
    for (int i = 0; i < 3; i++) {
        tq_score_item item = items[i];
        item.logp = alone;
        OK(s, tq_score(scorer, &item, 1, &s->err));
        assert_memory_equal(alone, together[i], 25 * sizeof *alone);
    }
    tq_scorer_free(scorer);
    tq_adapter_free(a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_is_the_text_that_it_begins_as),
        cmocka_unit_test(sessions_scores_and_choices_agree),
        cmocka_unit_test(swapping_prompts_leaves_nothing_behind),
        cmocka_unit_test(what_cannot_be_worn_is_refused),
        cmocka_unit_test(company_changes_no_bit),
    };
    return cmocka_run_group_tests(tests, small_open, small_close);
}
