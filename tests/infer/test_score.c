/* Scoring on the small model: company changes no bit, masks, windows of perplexity. */
#include "small.h"

#include "infer/score.h"
#include "infer/session.h"

enum { ITEMS = 20, LONGEST = 150 };

static tq_scorer *make(small *s) {
    tq_scorer *scorer;
    OK(s, tq_scorer_new(&scorer, s->model, 0, &s->err));
    return scorer;
}

/* ln p by whole rows of logits. */
static double log_prob(small *s, const tq_token *tokens, int i) {
    tq_session *session;
    OK(s, tq_session_new(&session, s->model, LONGEST, 0, &s->err));
    OK(s, tq_session_sync(session, tokens, i, NULL, true, &s->err));
    const float *l = tq_session_logits(session);
    double sum = 0;
    for (int t = 0; t < SMALL_V; t++) sum += exp((double)l[t]);
    double p = (double)l[tokens[i]] - log(sum);
    tq_session_free(session);
    return p;
}

static void scores_are_the_log_softmax_of_logits(void **state) {
    small *s = *state;
    tq_token tokens[40];
    float logp[40];
    small_tokens(tokens, 40, 1);
    tq_scorer *scorer = make(s);
    tq_score_item item = {.tokens = tokens, .n = 40, .logp = logp};
    OK(s, tq_score(scorer, &item, 1, &s->err));
    assert_int_equal(item.n_targets, 39);
    assert_true(logp[0] == 0);
    double sum = 0;
    for (int i = 1; i < 40; i++) {
        sum += (double)logp[i];
        assert_true(fabs((double)logp[i] - log_prob(s, tokens, i)) < 1e-4);
    }
    assert_true(fabs(sum - item.sum) < 1e-9);
    tq_scorer_free(scorer);
}

static void company_changes_no_bit(void **state) {
    small *s = *state;
    static tq_token tokens[ITEMS][LONGEST];
    static float together[ITEMS][LONGEST], alone[LONGEST];
    tq_score_item items[ITEMS];
    for (int i = 0; i < ITEMS; i++) {
        small_tokens(tokens[i], LONGEST, (uint64_t)i);
        items[i] = (tq_score_item){.tokens = tokens[i], .n = 1 + (i * 37) % LONGEST, .logp = together[i]};
    }
    tq_scorer *scorer = make(s);
    OK(s, tq_score(scorer, items, ITEMS, &s->err));
    for (int i = 0; i < ITEMS; i++) {
        tq_score_item one = items[i];
        one.logp = alone;
        OK(s, tq_score(scorer, &one, 1, &s->err));
        assert_memory_equal(alone, together[i], (size_t)one.n * sizeof *alone);
        assert_int_equal(one.n_targets, items[i].n_targets);
        assert_true(one.sum == items[i].sum);
    }
    tq_scorer_free(scorer);
}

static void a_mask_selects_and_leaves_the_rest_zero(void **state) {
    small *s = *state;
    tq_token tokens[30];
    float all[30], some[30];
    uint8_t target[30] = {[0] = 1, [5] = 1, [6] = 1, [20] = 1}, none[30] = {1};
    small_tokens(tokens, 30, 2);
    tq_score_item items[] = {{.tokens = tokens, .n = 30, .logp = all},
                             {.tokens = tokens, .n = 30, .target = target, .logp = some},
                             {.tokens = tokens, .n = 30, .target = none},
                             {.tokens = tokens, .n = 1},
                             {.n = 0}};
    tq_scorer *scorer = make(s);
    OK(s, tq_score(scorer, items, 5, &s->err));
    assert_int_equal(items[1].n_targets, 3); /* nothing stands before token 0 */
    for (int i = 0; i < 30; i++) assert_true(some[i] == (i > 0 && target[i] ? all[i] : 0));
    for (int i = 2; i < 5; i++) assert_true(items[i].sum == 0 && items[i].n_targets == 0);
    tq_scorer_free(scorer);
}

static void windows_score_every_token_once(void **state) {
    small *s = *state;
    enum { TEXT = 101 };
    tq_token tokens[TEXT];
    small_tokens(tokens, TEXT, 3);
    tq_scorer *scorer = make(s);
    /* context, stride, tokens: a window's first is never scored, so without overlap every window loses one */
    const int cases[][3] = {{20, 20, 95}, {20, 7, 100}, {20, 19, 100}, {256, 256, 100},
                            {2, 1, 100},  {2, 2, 50},   {100, 100, 99}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        int context = cases[c][0], stride = cases[c][1];
        tq_perplexity p;
        OK(s, tq_perplexity_run(scorer, tokens, TEXT, context, stride, NULL, NULL, NULL, &p, &s->err));
        assert_int_equal(p.tokens, cases[c][2]);
        /* the definition, token by token: the first window in which it is not the first */
        double nll = 0;
        for (int i = 1; i < TEXT; i++) {
            int begin = 0;
            while (begin + context <= i) begin += stride;
            if (begin == i) continue;
            float logp[256];
            int n = TEXT - begin < context ? TEXT - begin : context;
            tq_score_item window = {.tokens = tokens + begin, .n = n, .logp = logp};
            OK(s, tq_score(scorer, &window, 1, &s->err));
            nll -= (double)logp[i - begin];
        }
        assert_true(fabs(p.nll - nll / p.tokens) < 1e-9);
        assert_true(fabs(p.value - exp(p.nll)) < 1e-9 * p.value);
    }
    tq_scorer_free(scorer);
}

static void wrong_input_is_refused(void **state) {
    small *s = *state;
    static tq_token tokens[300];
    small_tokens(tokens, 300, 4);
    tq_scorer *scorer = make(s);
    tq_perplexity p;
    tq_score_item item = {.tokens = tokens, .n = 257};
    assert_int_equal(tq_score(scorer, &item, 1, &s->err), TOQUE_ELIMIT);
    assert_non_null(strstr(s->err.message, "257"));
    const int bad[][3] = {{300, 257, 257}, {300, 1, 1}, {300, 20, 0}, {300, 20, 21}, {1, 20, 20}, {0, 20, 20}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(
            tq_perplexity_run(scorer, tokens, (size_t)bad[i][0], bad[i][1], bad[i][2], NULL, NULL, NULL, &p, &s->err),
            TOQUE_EINVAL);
    tokens[3] = SMALL_V;
    item.n = 20;
    assert_int_equal(tq_score(scorer, &item, 1, &s->err), TOQUE_EINVAL);
    tokens[3] = 0;
    atomic_store(&s->ctx->canceled, true);
    assert_int_equal(tq_score(scorer, &item, 1, &s->err), TOQUE_ECANCELED);
    atomic_store(&s->ctx->canceled, false);
    OK(s, tq_score(scorer, &item, 1, &s->err)); /* nothing is left over from the failures */
    assert_int_equal(item.n_targets, 19);
    tq_scorer_free(scorer);
}

static void no_memory_is_returned(void **state) {
    small *s = *state;
    tq_mem *mem = &s->ctx->mem;
    size_t before = mem->used;
    tq_token tokens[30];
    small_tokens(tokens, 30, 5);
    int failures = 0;
    for (unsigned long long nth = 1;; nth++) {
        tq_scorer *scorer = NULL;
        tq_perplexity p;
        atomic_store(&mem->calls, 0);
        mem->fail_at = nth;
        toque_status status = tq_scorer_new(&scorer, s->model, 0, &s->err);
        if (status == TOQUE_OK) status = tq_perplexity_run(scorer, tokens, 30, 8, 8, NULL, NULL, NULL, &p, &s->err);
        mem->fail_at = 0;
        tq_scorer_free(scorer);
        assert_int_equal(mem->used, before);
        if (status == TOQUE_OK) break;
        assert_int_equal(status, TOQUE_ENOMEM);
        failures++;
    }
    assert_true(failures >= 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_are_the_log_softmax_of_logits),
        cmocka_unit_test(company_changes_no_bit),
        cmocka_unit_test(a_mask_selects_and_leaves_the_rest_zero),
        cmocka_unit_test(windows_score_every_token_once),
        cmocka_unit_test(wrong_input_is_refused),
        cmocka_unit_test(no_memory_is_returned),
    };
    return cmocka_run_group_tests(tests, small_open, small_close);
}
