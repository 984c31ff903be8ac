/* Intervals and paired tests against values worked out by hand or by R. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "eval/stats.h"

static void near(double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance)) fail_msg("got %.9g, expected %.9g", got, want);
}

static void wilson_intervals_are_those_of_the_formula(void **state) {
    (void)state;
    double low, high;
    tq_wilson(0, 10, &low, &high);
    near(low, 0, 0);
    near(high, 0.2775, 1e-4); /* z^2 / (n + z^2) */
    tq_wilson(10, 10, &low, &high);
    near(low, 0.7225, 1e-4);
    near(high, 1, 0);
    tq_wilson(50, 100, &low, &high);
    near(low, 0.4038, 1e-4); /* prop.test(50, 100, correct = FALSE) */
    near(high, 0.5962, 1e-4);
    tq_wilson(0, 0, &low, &high);
    near(low, 0, 0);
    near(high, 1, 0);
}

static void mcnemar_is_the_exact_two_sided_binomial_test(void **state) {
    (void)state;
    near(tq_mcnemar(0, 0), 1, 1e-12);
    near(tq_mcnemar(5, 5), 1, 1e-12);
    near(tq_mcnemar(0, 5), 2 * pow(0.5, 5), 1e-12);
    near(tq_mcnemar(1, 9), 2 * 11 * pow(0.5, 10), 1e-12);
    near(tq_mcnemar(9, 1), tq_mcnemar(1, 9), 1e-15);
}

static void randomization_tells_a_difference_from_none(void **state) {
    (void)state;
    double a[10], b[10];
    for (int i = 0; i < 10; i++) a[i] = i, b[i] = i;
    near(tq_randomization(a, b, 10, 1), 1, 0);
    near(tq_randomization(a, b, 0, 1), 1, 0);
    for (int i = 0; i < 10; i++) a[i] = b[i] + 1;
    near(tq_randomization(a, b, 10, 1), 2 * pow(0.5, 10), 1.5e-3); /* only all signs alike are as large */
    near(tq_randomization(b, a, 10, 1), tq_randomization(a, b, 10, 1), 0);
    for (int i = 0; i < 10; i++) a[i] = b[i] + (i < 7 ? 1 : -1);
    near(tq_randomization(a, b, 10, 1), 352.0 / 1024, 0.02); /* P(|S| >= 4) of ten fair signs */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wilson_intervals_are_those_of_the_formula),
        cmocka_unit_test(mcnemar_is_the_exact_two_sided_binomial_test),
        cmocka_unit_test(randomization_tells_a_difference_from_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
