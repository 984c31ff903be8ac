/* Linear probes against scikit-learn (tools/reference/probe.py), and what they do with few or broken rows. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "eval/metrics.h"
#include "eval/probe.h"

static json_t *reference;
static tq_mem mem;

static void near(double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance)) fail_msg("got %.9g, expected %.9g", got, want);
}

static const json_t *get(const char *key) {
    const json_t *value = json_object_get(reference, key);
    if (!value) fail_msg("probe.json has no %s", key);
    return value;
}

static double number(const json_t *array, size_t i) {
    return json_number_value(json_array_get(array, i));
}

static size_t texts_of(const char *key, tq_string *out) {
    const json_t *array = get(key);
    size_t n = json_array_size(array);
    for (size_t i = 0; i < n; i++) {
        const json_t *s = json_array_get(array, i);
        out[i] = (tq_string){json_string_value(s), json_string_length(s)};
    }
    return n;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Columns have another order than scikit-learn's: the values of a row are compared sorted. */
static void same_values(const tq_sparse *x, const json_t *rows) {
    assert_int_equal(x->rows, json_array_size(rows));
    for (size_t i = 0; i < x->rows; i++) {
        const json_t *want = json_array_get(rows, i);
        size_t n = x->start[i + 1] - x->start[i];
        assert_int_equal(n, json_array_size(want));
        double *got = calloc(n + 1, sizeof *got);
        memcpy(got, x->value + x->start[i], n * sizeof *got);
        qsort(got, n, sizeof *got, by_value);
        for (size_t k = 0; k < n; k++) near(got[k], number(want, k), 1e-6);
        free(got);
    }
}

static void tfidf_and_probabilities_are_those_of_scikit_learn(void **state) {
    (void)state;
    tq_string train[64], test[64];
    uint32_t label[64];
    size_t n = texts_of("train", train), n_test = texts_of("test", test);
    const char *names[] = {"animal", "food", "place"};
    for (size_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < 3; k++)
            if (strcmp(names[k], json_string_value(json_array_get(get("labels"), i))) == 0) label[i] = k;
    tq_tfidf *t;
    tq_sparse a, b;
    assert_int_equal(tq_tfidf_new(&t, &mem, train, n, 1, NULL), TOQUE_OK);
    assert_int_equal(tq_tfidf_terms(t), json_integer_value(get("terms")));
    assert_int_equal(tq_tfidf_features(t, train, n, &a, NULL), TOQUE_OK);
    assert_int_equal(tq_tfidf_features(t, test, n_test, &b, NULL), TOQUE_OK);
    same_values(&a, get("train_values"));
    same_values(&b, get("test_values"));
    tq_logreg m;
    assert_int_equal(tq_logreg_init(&m, &mem, a.cols, 3, NULL), TOQUE_OK);
    assert_int_equal(tq_logreg_fit(&m, &a, label, json_number_value(get("c")), 1e-8, NULL, NULL), TOQUE_OK);
    assert_true(m.converged);
    for (size_t i = 0; i < n_test; i++) {
        double logp[3];
        tq_logreg_logp(&m, &b, i, logp);
        for (size_t k = 0; k < 3; k++) near(exp(logp[k]), number(json_array_get(get("probabilities"), i), k), 1e-4);
    }
    tq_logreg_clear(&m);
    tq_sparse_clear(&a);
    tq_sparse_clear(&b);
    tq_tfidf_free(t);
}

static void coefficients_are_those_of_scikit_learn(void **state) {
    (void)state;
    const json_t *rows = get("dense");
    uint32_t label[64];
    tq_sparse x;
    assert_int_equal(tq_sparse_init(&x, &mem, json_array_size(rows), 4, NULL), TOQUE_OK);
    for (size_t i = 0; i < x.rows; i++) {
        label[i] = (uint32_t)number(get("classes"), i);
        for (uint32_t k = 0; k < 4; k++)
            assert_int_equal(tq_sparse_put(&x, k, number(json_array_get(rows, i), k), NULL), TOQUE_OK);
        x.start[i + 1] = x.n;
    }
    tq_logreg m;
    assert_int_equal(tq_logreg_init(&m, &mem, 4, 3, NULL), TOQUE_OK);
    assert_int_equal(tq_logreg_fit(&m, &x, label, json_number_value(get("dense_c")), 1e-8, NULL, NULL), TOQUE_OK);
    for (size_t k = 0; k < 3; k++) {
        near(m.weight[4 * 3 + k], number(get("intercepts"), k), 1e-4);
        for (size_t d = 0; d < 4; d++)
            near(m.weight[d * 3 + k], number(json_array_get(get("coefficients"), k), d), 1e-4);
    }
    tq_logreg_clear(&m);
    tq_sparse_clear(&x);
}

static void add(tq_probe_rows *rows, const char *text, const char *answer) {
    json_t *messages = json_pack("[{s:s, s:s}, {s:s, s:s}, {s:s, s:s}]", "role", "system", "content", "sort", "role",
                                 "user", "content", text, "role", "assistant", "content", answer);
    tq_row row = {.messages = messages, .answered = true, .line = 1};
    assert_int_equal(tq_probe_rows_add(rows, &row, NULL), TOQUE_OK);
    json_decref(messages);
}

static void fill(tq_probe_rows *rows, size_t n) {
    tq_probe_rows_init(rows, &mem);
    for (size_t i = 0; i < n; i++) {
        char text[40];
        snprintf(text, sizeof text, "%s number %zu", i % 2 ? "red apple" : "green pear", i);
        add(rows, text, i % 2 ? "apple" : "pear");
    }
}

static void a_probe_learns_what_words_tell_and_chooses_on_a_fifth(void **state) {
    (void)state;
    tq_probe_rows train, test;
    tq_probe p;
    uint32_t answer[3];
    fill(&train, 40);
    tq_probe_rows_init(&test, &mem);
    add(&test, "an apple", "apple");
    add(&test, "that pear", "pear");
    add(&test, "?", "plum");                             /* no term that is known, and no label */
    assert_string_equal(test.texts[0].data, "an apple"); /* system messages are left out */
    assert_int_equal(tq_probe_fit(&p, &train, &mem, NULL, NULL, NULL), TOQUE_OK);
    assert_int_equal(p.n_labels, 2);
    assert_int_equal(p.tried, 8);
    assert_int_equal(p.tried_right, 8);
    assert_int_equal(tq_probe_answer(&p, &test, answer, NULL), TOQUE_OK);
    for (int i = 0; i < 2; i++) assert_int_equal(answer[i], tq_probe_label(&p, test.answers[i]));
    assert_int_equal(tq_probe_label(&p, "plum"), 2);
    tq_probe_clear(&p);
    tq_probe_rows_clear(&test);
    tq_probe_rows_clear(&train);
}

static void few_rows_leave_c_at_one_and_one_label_is_an_error(void **state) {
    (void)state;
    tq_probe_rows train;
    tq_probe p;
    toque_error err;
    fill(&train, 4);
    assert_int_equal(tq_probe_fit(&p, &train, &mem, NULL, NULL, NULL), TOQUE_OK);
    assert_int_equal(p.tried, 0);
    assert_true(p.c == 1);
    tq_probe_clear(&p);
    tq_probe_rows_clear(&train);
    fill(&train, 1);
    assert_int_equal(tq_probe_fit(&p, &train, &mem, NULL, NULL, &err), TOQUE_EINVAL);
    assert_non_null(strstr(err.message, "at least two"));
    tq_probe_rows_clear(&train);
}

static void without_memory_a_probe_fails_and_leaves_nothing(void **state) {
    (void)state;
    tq_probe_rows train;
    fill(&train, 24);
    size_t used = atomic_load(&mem.used);
    for (unsigned long long n = 1;; n++) {
        tq_probe p;
        uint32_t answer[24];
        mem.fail_at = atomic_load(&mem.calls) + n;
        toque_status status = tq_probe_fit(&p, &train, &mem, NULL, NULL, NULL);
        if (status == TOQUE_OK) {
            status = tq_probe_answer(&p, &train, answer, NULL);
            tq_probe_clear(&p);
        }
        assert_int_equal(atomic_load(&mem.used), used);
        if (status == TOQUE_OK) break;
        assert_int_equal(status, TOQUE_ENOMEM);
    }
    mem.fail_at = 0;
    tq_probe_rows_clear(&train);
}

static void macro_f1_is_the_mean_over_labels_seen(void **state) {
    (void)state;
    uint32_t truth[] = {0, 0, 1, 1, 2, 4}, answer[] = {0, 1, 1, 1, 0, 0};
    double f1;
    assert_int_equal(tq_macro_f1(&mem, truth, answer, 6, 4, &f1, NULL), TOQUE_OK);
    near(f1, (2.0 / 5 + 4.0 / 5 + 0) / 3, 1e-12); /* label 3 is never seen, 4 is nobody's */
    assert_int_equal(tq_macro_f1(&mem, truth, answer, 0, 4, &f1, NULL), TOQUE_OK);
    assert_true(isnan(f1));
}

int main(int argc, char **argv) {
    json_error_t problem;
    reference = argc > 1 ? json_load_file(argv[1], 0, &problem) : NULL;
    if (!reference) return fprintf(stderr, "usage: test_probe probe.json\n"), 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tfidf_and_probabilities_are_those_of_scikit_learn),
        cmocka_unit_test(coefficients_are_those_of_scikit_learn),
        cmocka_unit_test(a_probe_learns_what_words_tell_and_chooses_on_a_fifth),
        cmocka_unit_test(few_rows_leave_c_at_one_and_one_label_is_an_error),
        cmocka_unit_test(without_memory_a_probe_fails_and_leaves_nothing),
        cmocka_unit_test(macro_f1_is_the_mean_over_labels_seen),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    json_decref(reference);
    return failed;
}
