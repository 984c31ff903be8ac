/* Optimizers against torch (tools/reference/optimizer_steps.py), clipping, and the objectives' loss and coefficients.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "train/objective.h"
#include "train/optimizer.h"

static void near(double got, double want, double relative) {
    if (!(fabs(got - want) <= relative * (fabs(want) + 1e-6))) fail_msg("got %.9g, expected %.9g", got, want);
}

enum { N = 5, STEPS = 3 };
static const float start[N] = {0.5f, -1.25f, 2.0f, 0.0f, -0.001f};
static const float grads[STEPS][N] = {
    {0.1f, -0.2f, 3.0f, 1e-5f, 0.0f}, {-0.3f, 0.25f, -1.0f, 2e-5f, 0.5f}, {0.05f, 0.0f, 0.5f, -1e-5f, 0.25f}};

static void run(const tq_optimizer *opt, double clip, float lr, float decay, float p[N]) {
    const tq_kernels *k;
    assert_int_equal(tq_kernels_select(&k, NULL, NULL), TOQUE_OK);
    float states[TQ_OPTIMIZER_STATES][N] = {{0}};
    memcpy(p, start, sizeof start);
    for (int t = 0; t < STEPS; t++) {
        double norm = 0;
        for (int i = 0; i < N; i++) norm += (double)grads[t][i] * (double)grads[t][i];
        tq_update u = {.k = k,
                       .values = p,
                       .grads = grads[t],
                       .state = {states[0], states[1]},
                       .n = N,
                       .lr = lr,
                       .decay = decay,
                       .scale = (float)tq_clip_scale(sqrt(norm), clip)};
        if (opt->begin) opt->begin(&u, t + 1);
        opt->update(&u);
    }
}

static void adamw_equals_torch(void **state) {
    (void)state;
    static const double want[N] = {0.49873037159, -1.24528644132, 1.98122083956, -0.0210606253307, -0.0166358813177};
    const tq_optimizer *opt;
    float p[N];
    assert_int_equal(tq_optimizer_find(&opt, "adamw_torch", NULL), TOQUE_OK);
    assert_string_equal(opt->name, "adamw");
    run(opt, 1, 0.01f, 0.1f, p);
    for (int i = 0; i < N; i++) near((double)p[i], want[i], 1e-6);
}

static void sgd_equals_torch(void **state) {
    (void)state;
    static const double want[N] = {0.500200419499, -1.24769914433, 1.98748915407, -1.01885774482e-07, -0.0077147807428};
    const tq_optimizer *opt;
    float p[N];
    assert_int_equal(tq_optimizer_find(&opt, "sgd", NULL), TOQUE_OK);
    assert_int_equal(opt->n_states, 0);
    run(opt, 1, 0.01f, 0.1f, p);
    for (int i = 0; i < N; i++) near((double)p[i], want[i], 1e-6);
}

static void clipping_only_shrinks(void **state) {
    (void)state;
    near(tq_clip_scale(4, 1), 1 / 4.000001, 1e-12);
    near(tq_clip_scale(0.5, 1), 1, 0);
    near(tq_clip_scale(100, 0), 1, 0); /* 0 switches it off */
    near(tq_clip_scale(0, 1), 1, 0);
}

static void an_unknown_name_is_refused_with_the_nearest(void **state) {
    (void)state;
    toque_error err;
    const tq_optimizer *opt;
    const tq_objective *objective;
    assert_int_equal(tq_optimizer_find(&opt, "adamv", &err), TOQUE_EINVAL);
    assert_non_null(strstr(err.message, "did you mean \"adamw\"?"));
    assert_int_equal(tq_optimizer_find(&opt, "", &err), TOQUE_EINVAL);
    assert_int_equal(tq_objective_find(&objective, "dpo", &err), TOQUE_EINVAL);
    assert_non_null(strstr(err.message, "there are: sft, dft"));
}

/* d(loss)/d(logp) by central differences; the weights p of dft are held, as its gradient holds them. */
static void coefficients_are_the_derivative(void **state) {
    (void)state;
    enum { M = 4 };
    const float logp[M] = {-0.1f, -2.5f, -0.7f, -9.0f}, weight[M] = {1, 1, 0.5f, 2};
    tq_readout r = {.n = M, .logp = logp, .weight = weight, .scale = 1 / 4.5};
    float coef[M];
    tq_objective_sft.coef(&(tq_readout){.n = M, .weight = weight, .scale = r.scale}, coef);
    double sum = 0, dft = 0;
    for (int i = 0; i < M; i++) {
        near((double)coef[i], -(double)weight[i] / 4.5, 1e-6);
        sum += (double)coef[i] * (double)logp[i];
    }
    near(tq_objective_sft.loss(&r), sum, 1e-6); /* linear in logp */
    near(tq_readout_nll(&r), (0.1 + 2.5 + 0.35 + 18) / 4.5, 1e-6);
    tq_objective_dft.coef(&r, coef);
    for (int i = 0; i < M; i++) {
        near((double)coef[i], -(double)weight[i] * exp((double)logp[i]) / 4.5, 1e-6);
        dft += (double)coef[i] * (double)logp[i];
    }
    near(tq_objective_dft.loss(&r), dft, 1e-6);
    assert_true(tq_objective_dft.reads_logp && !tq_objective_sft.reads_logp);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adamw_equals_torch),
        cmocka_unit_test(sgd_equals_torch),
        cmocka_unit_test(clipping_only_shrinks),
        cmocka_unit_test(an_unknown_name_is_refused_with_the_nearest),
        cmocka_unit_test(coefficients_are_the_derivative),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
