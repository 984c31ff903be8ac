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
    tq_worker lone = {.count = 1};
    memcpy(p, start, sizeof start);
    for (int t = 0; t < STEPS; t++) {
        double norm = 0;
        for (int i = 0; i < N; i++) norm += (double)grads[t][i] * (double)grads[t][i];
        tq_update u = {.k = k,
                       .values = p,
                       .grads = grads[t],
                       .state = {states[0], states[1]},
                       .rows = 1,
                       .cols = N,
                       .lr = lr,
                       .decay = decay,
                       .t = t + 1,
                       .scale = (float)tq_clip_scale(sqrt(norm), clip)};
        if (opt->begin) opt->begin(&u);
        opt->update(&lone, &u);
    }
}

/* Four steps on the reference's formula values; norm and probe of the result. */
static void run_formula(const char *name, int rows, int cols, double want_norm, double want_probe, double tolerance) {
    enum { MOST = 64 * 70 };
    static float p[MOST], g[MOST], states[2][2 * MOST], scratch[4 * MOST], room[1 << 20];
    const tq_optimizer *opt;
    const tq_kernels *k;
    tq_worker lone = {.count = 1, .scratch = room};
    assert_int_equal(tq_kernels_select(&k, NULL, NULL), TOQUE_OK);
    assert_int_equal(tq_optimizer_find(&opt, name, NULL), TOQUE_OK);
    int n = rows * cols;
    assert_true(n <= MOST);
    for (int i = 0; i < opt->n_states; i++) assert_true(tq_optimizer_floats(opt, rows, cols, rows > 1, i) <= 2 * MOST);
    if (opt->n_scratch) assert_true(opt->n_scratch(rows, cols, rows > 1) <= 4 * MOST);
    memset(states, 0, sizeof states);
    for (int i = 0; i < n; i++) p[i] = (float)(0.5 * sin(0.7 * i + 1));
    for (int t = 1; t <= 4; t++) {
        for (int i = 0; i < n; i++) g[i] = (float)sin(3.0 * t + 0.37 * i * i);
        tq_update u = {.k = k,
                       .values = p,
                       .grads = g,
                       .state = {states[0], states[1]},
                       .scratch = scratch,
                       .rows = rows,
                       .cols = cols,
                       .matrix = rows > 1,
                       .lr = 0.01f,
                       .decay = 0.1f,
                       .t = t,
                       .scale = 1};
        if (opt->begin) opt->begin(&u);
        opt->update(&lone, &u);
    }
    double norm = 0, probe = 0;
    for (int i = 0; i < n; i++) {
        norm += (double)p[i] * (double)p[i];
        probe += (double)p[i] * cos(0.3 * i + 1);
    }
    near(sqrt(norm), want_norm, tolerance);
    near(probe, want_probe, 10 * tolerance);
}

static void lion_equals_its_paper(void **state) {
    (void)state;
    run_formula("lion", 12, 20, 5.47100849988, 0.923938558574, 1e-5);
}

static void adafactor_equals_transformers(void **state) {
    (void)state;
    run_formula("adafactor", 12, 20, 5.47144375031, 0.921333319662, 1e-5);
    run_formula("adafactor", 1, 240, 5.47060545119, 0.971634114294, 1e-5);
}

static void muon_equals_its_paper(void **state) {
    (void)state;
    run_formula("muon", 12, 20, 5.47258059456, 0.889085663689, 1e-5);
    run_formula("muon", 20, 12, 5.47250216312, 0.887198888833, 1e-5);
}

static void states_of_eight_bits_equal_the_paper_and_take_a_quarter(void **state) {
    (void)state;
    run_formula("adamw8bit", 64, 70, 23.5646857631, 0.432565108483, 1e-5);
    const tq_optimizer *opt;
    assert_int_equal(tq_optimizer_find(&opt, "adamw_8bit", NULL), TOQUE_OK);
    assert_int_equal(tq_optimizer_floats(opt, 64, 256, true, 0), 64 * 256 / 4 + 64);
    assert_int_equal(tq_optimizer_floats(opt, 16, 255, true, 1), 16 * 255); /* small ones stay f32 */
    /* There it is AdamW. */
    float a[N], b[N];
    run(&tq_optimizer_adamw, 1, 0.01f, 0.1f, a);
    run(opt, 1, 0.01f, 0.1f, b);
    assert_memory_equal(a, b, sizeof a);
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
        cmocka_unit_test(lion_equals_its_paper),
        cmocka_unit_test(adafactor_equals_transformers),
        cmocka_unit_test(muon_equals_its_paper),
        cmocka_unit_test(states_of_eight_bits_equal_the_paper_and_take_a_quarter),
        cmocka_unit_test(clipping_only_shrinks),
        cmocka_unit_test(an_unknown_name_is_refused_with_the_nearest),
        cmocka_unit_test(coefficients_are_the_derivative),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
