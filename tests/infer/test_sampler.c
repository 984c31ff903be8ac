/* The sampler against distributions computed by hand, and draws against their distribution (chi-square). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "infer/sampler.h"

enum { V = 8 };
static const tq_kernels *kernels;
static tq_mem mem;

/* Probabilities 0.4, 0.3, 0.15, 0.08, 0.04, 0.02, 0.007, 0.003 in a mixed order of ids. */
static const double p_of[V] = {0.08, 0.3, 0.007, 0.4, 0.02, 0.15, 0.003, 0.04};

static void logits_of(float logits[V]) {
    for (int i = 0; i < V; i++) logits[i] = (float)(log(p_of[i]) + 3.5); /* a shift changes nothing */
}

static tq_sampler *make(const tq_sampling *o) {
    tq_sampler *s;
    toque_error err;
    if (tq_sampler_new(&s, &mem, kernels, o, V, &err) != TOQUE_OK) fail_msg("%s", err.message);
    return s;
}

/* Checks that the candidates are exactly those of ids[n] (in any order) with the given weights, normalized. */
static void expect(const tq_sampling *o, const tq_token *past, size_t n_past, const double weight[V]) {
    float logits[V];
    logits_of(logits);
    tq_sampler *s = make(o);
    int32_t n, wanted = 0;
    const tq_candidate *c = tq_sampler_candidates(s, logits, past, n_past, &n);
    double sum = 0;
    for (int i = 0; i < V; i++) sum += weight[i], wanted += weight[i] > 0;
    assert_non_null(c);
    assert_int_equal(n, wanted);
    for (int i = 0; i < n; i++) {
        assert_true(weight[c[i].id] > 0);
        if (fabs((double)c[i].p - weight[c[i].id] / sum) > 2e-6)
            fail_msg("token %d: p %g, expected %g", c[i].id, (double)c[i].p, weight[c[i].id] / sum);
    }
    tq_sampler_free(s);
    assert_int_equal(mem.used, 0);
}

static tq_sampling at_temperature(double t) {
    tq_sampling o = tq_sampling_default();
    o.temperature = t;
    return o;
}

static void plain_sampling_is_softmax(void **state) {
    (void)state;
    tq_sampling o = at_temperature(1);
    expect(&o, NULL, 0, p_of);
}

static void temperature_raises_to_a_power(void **state) {
    (void)state;
    double w[V];
    for (int i = 0; i < V; i++) w[i] = p_of[i] * p_of[i];
    tq_sampling o = at_temperature(0.5);
    expect(&o, NULL, 0, w);
    for (int i = 0; i < V; i++) w[i] = sqrt(p_of[i]);
    o = at_temperature(2);
    expect(&o, NULL, 0, w);
}

static void top_k_keeps_the_likeliest(void **state) {
    (void)state;
    tq_sampling o = at_temperature(1);
    o.top_k = 3;
    expect(&o, NULL, 0, (double[V]){[3] = 0.4, [1] = 0.3, [5] = 0.15});
    o.top_k = 100;
    expect(&o, NULL, 0, p_of);
}

static void top_p_keeps_the_token_that_reaches_the_sum(void **state) {
    (void)state;
    tq_sampling o = at_temperature(1);
    o.top_p = 0.8;
    expect(&o, NULL, 0, (double[V]){[3] = 0.4, [1] = 0.3, [5] = 0.15});
    o.top_p = 0.65;
    expect(&o, NULL, 0, (double[V]){[3] = 0.4, [1] = 0.3});
    o.top_p = 0;
    expect(&o, NULL, 0, (double[V]){[3] = 1});
}

static void top_p_looks_at_the_distribution_before_temperature(void **state) {
    (void)state;
    tq_sampling o = at_temperature(100);
    o.top_p = 0.65;
    expect(&o, NULL, 0, (double[V]){[3] = pow(0.4, 0.01), [1] = pow(0.3, 0.01)});
}

static void top_p_follows_top_k(void **state) {
    (void)state;
    tq_sampling o = at_temperature(1); /* of the three, renormalized: 0.47, 0.35, 0.18 */
    o.top_k = 3;
    o.top_p = 0.81;
    expect(&o, NULL, 0, (double[V]){[3] = 0.4, [1] = 0.3});
}

static void min_p_is_relative_to_the_best(void **state) {
    (void)state;
    tq_sampling o = at_temperature(1);
    o.min_p = 0.19; /* bound 0.076 */
    expect(&o, NULL, 0, (double[V]){[3] = 0.4, [1] = 0.3, [5] = 0.15, [0] = 0.08});
    o.min_p = 1;
    expect(&o, NULL, 0, (double[V]){[3] = 0.4});
}

static void typical_keeps_what_is_near_the_entropy(void **state) {
    (void)state;
    /* H = 1.5044 nats; |-ln p - H|: 0.3 -> 0.300, 0.15 -> 0.393, 0.4 -> 0.588, 0.08 -> 1.021 */
    tq_sampling o = at_temperature(1);
    o.typical = 0.4;
    expect(&o, NULL, 0, (double[V]){[1] = 0.3, [5] = 0.15});
    o.typical = 0.46;
    expect(&o, NULL, 0, (double[V]){[1] = 0.3, [5] = 0.15, [3] = 0.4});
}

static void penalties_touch_the_window_only(void **state) {
    (void)state;
    const tq_token past[] = {3, 1, 1, 5, 1};
    tq_sampling o = at_temperature(1);
    o.penalty_window = 4;
    o.frequency_penalty = 0.5;
    o.presence_penalty = 0.25;
    double w[V];
    memcpy(w, p_of, sizeof w);
    w[1] *= exp(-3 * 0.5 - 0.25);
    w[5] *= exp(-0.5 - 0.25);
    expect(&o, past, 5, w);
    o.penalty_window = -1;
    w[3] *= exp(-0.5 - 0.25);
    expect(&o, past, 5, w);
    o.penalty_window = 0;
    expect(&o, past, 5, p_of);
}

static void repeat_penalty_divides_positive_and_multiplies_negative_logits(void **state) {
    (void)state;
    const tq_token past[] = {3, 6, 3};
    tq_sampling o = at_temperature(1);
    o.repeat_penalty = 2;
    double w[V];
    memcpy(w, p_of, sizeof w);
    double l3 = log(p_of[3]) + 3.5, l6 = log(p_of[6]) + 3.5;
    assert_true(l3 > 0 && l6 < 0);
    w[3] *= exp(l3 / 2 - l3);
    w[6] *= exp(l6 * 2 - l6);
    expect(&o, past, 3, w);
}

static void bias_adds_and_bans(void **state) {
    (void)state;
    const tq_logit_bias bias[] = {{6, 2.0f}, {3, -INFINITY}};
    tq_sampling o = at_temperature(1);
    o.bias = bias;
    o.n_bias = 2;
    double w[V];
    memcpy(w, p_of, sizeof w);
    w[6] *= exp(2.0);
    w[3] = 0;
    expect(&o, NULL, 0, w);
    o.temperature = 0;
    expect(&o, NULL, 0, (double[V]){[1] = 1});
}

static void greedy_breaks_ties_to_the_lowest_id(void **state) {
    (void)state;
    const float logits[V] = {0, 2, 1, 2, 2, -5, 0, 1};
    tq_sampling o = tq_sampling_default();
    tq_sampler *s = make(&o);
    assert_int_equal(tq_sampler_draw(s, logits, NULL, 0, 0, 0, NULL), 1);
    tq_sampler_free(s);
    const tq_logit_bias bias = {0, 2.0f};
    o.bias = &bias;
    o.n_bias = 1;
    s = make(&o);
    assert_int_equal(tq_sampler_draw(s, logits, NULL, 0, 0, 0, NULL), 0);
    tq_sampler_free(s);
}

static void log_probability_is_of_the_unchanged_logits(void **state) {
    (void)state;
    float logits[V];
    logits_of(logits);
    tq_sampling o = at_temperature(0.3);
    o.top_k = 2;
    tq_sampler *s = make(&o);
    for (uint32_t i = 0; i < 20; i++) {
        double logp;
        tq_token t = tq_sampler_draw(s, logits, NULL, 0, 0, i, &logp);
        assert_true(t == 3 || t == 1);
        assert_true(fabs(logp - log(p_of[t])) < 1e-5);
    }
    tq_sampler_free(s);
}

static void impossible_logits_give_no_token(void **state) {
    (void)state;
    float logits[V];
    for (int temperature = 0; temperature < 2; temperature++) {
        tq_sampling o = at_temperature(temperature);
        tq_sampler *s = make(&o);
        for (int broken = 0; broken < 3; broken++) {
            logits_of(logits);
            logits[4] = broken == 0 ? NAN : INFINITY;
            for (int i = 0; broken == 2 && i < V; i++) logits[i] = -INFINITY;
            assert_int_equal(tq_sampler_draw(s, logits, NULL, 0, 0, 0, NULL), TQ_NO_TOKEN);
        }
        tq_sampler_free(s);
    }
}

/* 7 degrees of freedom: chi-square is above 24.3 with probability 0.001; seeds are fixed, so this is no lottery. */
static void draws_follow_the_distribution(void **state) {
    (void)state;
    enum { N = 100000 };
    float logits[V];
    logits_of(logits);
    for (uint64_t seed = 1; seed <= 3; seed++) {
        tq_sampling o = at_temperature(1);
        o.seed = seed;
        tq_sampler *s = make(&o);
        double seen[V] = {0}, chi = 0;
        for (uint32_t i = 0; i < N; i++) seen[tq_sampler_draw(s, logits, NULL, 0, 0, i, NULL)]++;
        for (int i = 0; i < V; i++) chi += pow(seen[i] - N * p_of[i], 2) / (N * p_of[i]);
        assert_true(chi < 24.3);
        tq_sampler_free(s);
    }
}

static void a_draw_depends_on_seed_stream_and_position_alone(void **state) {
    (void)state;
    enum { N = 200 };
    float logits[V];
    logits_of(logits);
    tq_sampling o = at_temperature(1);
    o.seed = 5;
    tq_sampler *a = make(&o), *b = make(&o);
    o.seed = 6;
    tq_sampler *c = make(&o);
    tq_token forwards[N];
    for (uint32_t i = 0; i < N; i++) forwards[i] = tq_sampler_draw(a, logits, NULL, 0, 3, i, NULL);
    int other_seed = 0, other_stream = 0;
    for (uint32_t i = N; i-- > 0;) {
        assert_int_equal(tq_sampler_draw(b, logits, NULL, 0, 3, i, NULL), forwards[i]);
        other_stream += tq_sampler_draw(b, logits, NULL, 0, 4, i, NULL) != forwards[i];
        other_seed += tq_sampler_draw(c, logits, NULL, 0, 3, i, NULL) != forwards[i];
    }
    assert_true(other_seed > N / 2 && other_stream > N / 2);
    tq_sampler_free(a);
    tq_sampler_free(b);
    tq_sampler_free(c);
}

/* The heap's head of the order against a plain sort, on a row with many ties. */
static void the_head_of_the_order_is_exact(void **state) {
    (void)state;
    enum { MANY = 1000 };
    float logits[MANY];
    uint32_t x = 1;
    for (int i = 0; i < MANY; i++) logits[i] = (float)((x = x * 1664525u + 1013904223u) >> 27);
    tq_sampling o = at_temperature(1);
    for (int k = 1; k < MANY; k = k * 3 + 1) {
        o.top_k = k;
        tq_sampler *s;
        assert_int_equal(tq_sampler_new(&s, &mem, kernels, &o, MANY, NULL), TOQUE_OK);
        int32_t n;
        const tq_candidate *c = tq_sampler_candidates(s, logits, NULL, 0, &n);
        assert_int_equal(n, k);
        for (int i = 0; i < n; i++) {
            int rank = 0; /* how many stand before it */
            for (int j = 0; j < MANY; j++)
                rank += logits[j] > logits[c[i].id] || (logits[j] == logits[c[i].id] && j < c[i].id);
            assert_int_equal(rank, i);
        }
        tq_sampler_free(s);
    }
}

static void values_out_of_range_are_named(void **state) {
    (void)state;
    static const tq_logit_bias outside = {V, 1}, nan_bias = {0, NAN};
    struct {
        tq_sampling o;
        const char *says;
    } cases[] = {
        {at_temperature(-1), "temperature"}, {at_temperature(NAN), "temperature"},
        {at_temperature(1), "top_p"},        {at_temperature(1), "min_p"},
        {at_temperature(1), "top_k"},        {at_temperature(1), "repeat_penalty"},
        {at_temperature(1), "token 8"},      {at_temperature(1), "nan"},
    };
    cases[2].o.top_p = 1.5;
    cases[3].o.min_p = -0.1;
    cases[4].o.top_k = -1;
    cases[5].o.repeat_penalty = 0;
    cases[6].o.bias = &outside, cases[6].o.n_bias = 1;
    cases[7].o.bias = &nan_bias, cases[7].o.n_bias = 1;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        toque_error err = {0};
        tq_sampler *s;
        assert_int_equal(tq_sampler_new(&s, &mem, kernels, &cases[i].o, V, &err), TOQUE_EINVAL);
        assert_null(s);
        assert_non_null(strstr(err.message, cases[i].says));
    }
    assert_int_equal(mem.used, 0);
}

static void no_memory_is_returned(void **state) {
    (void)state;
    const tq_logit_bias bias = {1, 1};
    tq_sampling o = at_temperature(1);
    o.bias = &bias;
    o.n_bias = 1;
    tq_sampler *s = NULL;
    int failures = 0;
    for (mem.fail_at = 1;; mem.fail_at++) {
        atomic_store(&mem.calls, 0);
        if (tq_sampler_new(&s, &mem, kernels, &o, V, NULL) == TOQUE_OK) break;
        failures++;
        assert_int_equal(mem.used, 0);
    }
    mem.fail_at = 0;
    assert_true(failures >= 5);
    tq_sampler_free(s);
    assert_int_equal(mem.used, 0);
}

int main(void) {
    tq_mem_init(&mem, 0);
    if (tq_kernels_select(&kernels, NULL, NULL) != TOQUE_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_sampling_is_softmax),
        cmocka_unit_test(temperature_raises_to_a_power),
        cmocka_unit_test(top_k_keeps_the_likeliest),
        cmocka_unit_test(top_p_keeps_the_token_that_reaches_the_sum),
        cmocka_unit_test(top_p_looks_at_the_distribution_before_temperature),
        cmocka_unit_test(top_p_follows_top_k),
        cmocka_unit_test(min_p_is_relative_to_the_best),
        cmocka_unit_test(typical_keeps_what_is_near_the_entropy),
        cmocka_unit_test(penalties_touch_the_window_only),
        cmocka_unit_test(repeat_penalty_divides_positive_and_multiplies_negative_logits),
        cmocka_unit_test(bias_adds_and_bans),
        cmocka_unit_test(greedy_breaks_ties_to_the_lowest_id),
        cmocka_unit_test(log_probability_is_of_the_unchanged_logits),
        cmocka_unit_test(impossible_logits_give_no_token),
        cmocka_unit_test(draws_follow_the_distribution),
        cmocka_unit_test(a_draw_depends_on_seed_stream_and_position_alone),
        cmocka_unit_test(the_head_of_the_order_is_exact),
        cmocka_unit_test(values_out_of_range_are_named),
        cmocka_unit_test(no_memory_is_returned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
