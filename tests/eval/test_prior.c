/* The prior's correction on numbers worked out by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "eval/labels.h"
#include "eval/prior.h"

static void near(double got, double want) {
    if (!(fabs(got - want) <= 1e-12)) fail_msg("got %.15g, expected %.15g", got, want);
}

static tq_prior make(tq_mem *mem, size_t n) {
    *mem = (tq_mem){0};
    tq_prior p;
    toque_error err = {0};
    assert_int_equal(tq_prior_init(&p, mem, n, &err), TOQUE_OK);
    return p;
}

static void what_the_model_says_gives_way_to_what_is_right(void **state) {
    (void)state;
    tq_mem mem;
    tq_prior p = make(&mem, 2);
    double said[2] = {log(0.75) - 700, log(0.25) - 700}; /* only the differences count */
    tq_prior_add(&p, said, 0);
    tq_prior_add(&p, said, 1);
    assert_int_equal(p.rows, 2);
    double logp[2] = {log(0.6), log(0.4)};
    tq_prior_correct(&p, logp); /* said 1.5 and 0.5 of 2 rows, right once each; half a row more everywhere */
    near(logp[0], log(0.6 * 1.5 / 2.0));
    near(logp[1], log(0.4 * 1.5 / 1.0));
    double share;
    assert_int_equal(tq_labels_best(logp, 2, &share), 1);
    near(share, 0.6 / (0.6 + 0.45));
    tq_prior_clear(&p);
}

static void labels_that_never_came_up_stay_finite(void **state) {
    (void)state;
    tq_mem mem;
    tq_prior p = make(&mem, 3);
    double said[3] = {0, -2000, -2000}, logp[3] = {-1, -1, -1};
    for (int i = 0; i < 10; i++) tq_prior_add(&p, said, 1);
    tq_prior_correct(&p, logp);
    near(logp[0], -1 + log(0.5 / 10.5));
    near(logp[1], -1 + log(10.5 / 0.5));
    near(logp[2], -1); /* neither said nor right: as it was */
    tq_prior_clear(&p);
}

static void without_rows_nothing_changes(void **state) {
    (void)state;
    tq_mem mem;
    tq_prior p = make(&mem, 2);
    double logp[2] = {-3, -4};
    tq_prior_correct(&p, logp);
    near(logp[0], -3);
    near(logp[1], -4);
    tq_prior_clear(&p);
    tq_prior_clear(&p); /* twice does no harm */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_model_says_gives_way_to_what_is_right),
        cmocka_unit_test(labels_that_never_came_up_stay_finite),
        cmocka_unit_test(without_rows_nothing_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
