/* Measures of retrieval against trec_eval's definitions, worked out by hand, and of answers against SQuAD's. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "rag/measures.h"

static void near(double got, double want) {
    if (!(fabs(got - want) <= 1e-9)) fail_msg("got %.12g, expected %.12g", got, want);
}

static void rankings_are_measured_as_trec_eval_does(void **state) {
    (void)state;
    /* Relevant: four documents of gains 3, 2, 1, 1; found at ranks 2 (gain 2), 3 (3) and 6 (1). */
    const double gains[] = {0, 2, 3, 0, 0, 1}, ideal[] = {3, 2, 1, 1};
    near(tq_recall_at(gains, 6, 1, 4), 0);
    near(tq_recall_at(gains, 6, 5, 4), 0.5);
    near(tq_recall_at(gains, 6, 10, 4), 0.75);
    near(tq_reciprocal_rank(gains, 6), 0.5);
    /* (2/1.5849625 + 3/2 + 1/2.8073549) / (3 + 2/1.5849625 + 1/2 + 1/2.3219281) = 3.1180669 / 5.1925359 */
    near(tq_ndcg_at(gains, 6, ideal, 4, 10), (2 / log2(3) + 1.5 + 1 / log2(7)) / (3 + 2 / log2(3) + 0.5 + 1 / log2(5)));
    assert_true(fabs(tq_ndcg_at(gains, 6, ideal, 4, 10) - 0.6004902) < 1e-6);
    near(tq_ndcg_at(gains, 6, ideal, 4, 2), (2 / log2(3)) / (3 + 2 / log2(3))); /* the ideal is cut too */
    near(tq_ndcg_at(ideal, 4, ideal, 4, 10), 1);
    near(tq_ndcg_at(gains, 6, ideal, 0, 10), 0);
    near(tq_reciprocal_rank(gains, 1), 0);
    near(tq_recall_at(gains, 6, 5, 0), 0);
}

static tq_overlap overlap(const char *given, const char *wanted) {
    tq_mem mem = {0};
    tq_overlap o = {0};
    toque_error err;
    assert_int_equal(tq_answer_overlap(&mem, given, wanted, &o, &err), TOQUE_OK);
    return o;
}

static void answers_are_compared_as_squad_does(void **state) {
    (void)state;
    tq_overlap o = overlap("The apt-get command.", "apt-get  COMMAND");
    assert_true(o.exact && o.holds);
    near(o.f1, 1);
    o = overlap("It stands in /etc/apt/sources.list.", "/etc/apt/sources.list");
    assert_true(!o.exact && o.holds);
    near(o.f1, 2 * 1.0 / (4 + 1));
    o = overlap("two two three", "two two two");
    assert_true(!o.exact && !o.holds);
    near(o.f1, 2 * 2.0 / 6);
    assert_false(overlap("unstable", "stable").holds); /* whole words */
    o = overlap("", "stable");
    assert_true(!o.exact && !o.holds);
    near(o.f1, 0);
}

static void an_answer_without_words_is_refused(void **state) {
    (void)state;
    tq_mem mem = {0};
    tq_overlap o;
    toque_error err;
    assert_int_equal(tq_answer_overlap(&mem, "a", "The ...", &o, &err), TOQUE_EINVAL);
    assert_non_null(strstr(err.message, "no words"));
    for (unsigned long long n = 1;; n++) {
        tq_mem faulty = {.fail_at = n};
        toque_status status = tq_answer_overlap(&faulty, "some words", "more words", &o, &err);
        if (status == TOQUE_OK) break;
        assert_int_equal(status, TOQUE_ENOMEM);
        assert_true(n < 10);
    }
}

static void the_cut_parts_best_and_ties_count_half(void **state) {
    (void)state;
    const double own[] = {0.4, 0.6, 0.8}, other[] = {0.1, 0.2, 0.5};
    double auc;
    double cut = tq_best_cut(own, 3, other, 3, &auc);
    near(auc, 8.0 / 9);
    near(cut, 0.3); /* rates 2/3 + 1; 0.55 would give 1 + 2/3 too, and the first is kept */
    tq_best_cut(own, 3, own, 3, &auc);
    near(auc, 0.5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rankings_are_measured_as_trec_eval_does),
        cmocka_unit_test(answers_are_compared_as_squad_does),
        cmocka_unit_test(an_answer_without_words_is_refused),
        cmocka_unit_test(the_cut_parts_best_and_ties_count_half),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
