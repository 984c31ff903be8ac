/* GELU in both forms and the layer norm against libm in double, and their derivatives against differences. */
#include "check.h"

static double gelu_of(double x) {
    return 0.5 * x * erfc(-x * 0.70710678118654752440);
}

static double gelu_tanh_of(double x) {
    return 0.5 * x * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
}

static double slope_of(double (*f)(double), double x) {
    const double h = 1e-5;
    return (f(x + h) - f(x - h)) / (2 * h);
}

void check_gelu(void **state) {
    (void)state;
    FOR_ROWS(k)
    for (int s = 0; s < check_n_sizes; s++) {
        int n = check_sizes[s];
        float *x = guard_floats(n, s % 2), *u = guard_floats(n, s % 2), *dy = guard_floats(n, s % 2);
        float *y = guard_floats(n, s % 2), *dx = guard_floats(n, s % 2), *du = guard_floats(n, s % 2);
        for (int i = 0; i < n; i++) x[i] *= i % 3 ? 2 : 12;
        k->gelu(y, x, n);
        k->gelu_bwd(dx, dy, x, n);
        for (int i = 0; i < n; i++) {
            near(k, "gelu", i, y[i], gelu_of(x[i]), 3e-7, 1 + fabsf(x[i]));
            near(k, "gelu dx", i, dx[i], dy[i] * slope_of(gelu_of, x[i]), 1e-6, 1);
        }
        k->gelu_mul(y, x, u, n);
        k->gelu_mul_bwd(dx, du, dy, x, u, n);
        for (int i = 0; i < n; i++) {
            near(k, "gelu_mul", i, y[i], u[i] * gelu_tanh_of(x[i]), 1e-6, 1 + fabsf(x[i]));
            near(k, "gelu_mul dg", i, dx[i], dy[i] * u[i] * slope_of(gelu_tanh_of, x[i]), 3e-6, 1);
            near(k, "gelu_mul du", i, du[i], dy[i] * gelu_tanh_of(x[i]), 1e-6, 1 + fabsf(x[i]));
        }
        const float far[] = {-200, -90, 90, 200};
        float one[] = {1, 1, 1, 1}, a[4], b[4];
        k->gelu_bwd(a, one, far, 4);
        for (int i = 0; i < 4; i++) near(k, "gelu far", i, a[i], i >= 2, 1e-6, 1);
        k->gelu_mul_bwd(a, b, one, far, one, 4);
        for (int i = 0; i < 4; i++) near(k, "gelu_mul far", i, a[i], i >= 2, 1e-6, 1);
        guard_reset();
    }
}

enum { MAX = 65 };

static double moments_of(const double *x, int n, double *mean) {
    double v = 0;
    *mean = 0;
    for (int i = 0; i < n; i++) *mean += x[i] / n;
    for (int i = 0; i < n; i++) v += (x[i] - *mean) * (x[i] - *mean) / n;
    return 1 / sqrt(v + 1e-5);
}

static double norm_loss(const double *x, const float *w, const float *dy, int n) {
    double mean, r = moments_of(x, n, &mean), loss = 0;
    for (int i = 0; i < n; i++) loss += (double)dy[i] * (double)w[i] * (x[i] - mean) * r;
    return loss;
}

void check_layer_norm(void **state) {
    (void)state;
    FOR_ROWS(k)
    for (int s = 0; s < check_n_sizes && check_sizes[s] <= MAX; s++) {
        int n = check_sizes[s];
        float *x = guard_floats(n, s % 2), *w = guard_floats(n, s % 2), *b = guard_floats(n, s % 2);
        float *dy = guard_floats(n, s % 2), *dx = guard_floats(n, s % 2), *y = guard_floats(n, s % 2), dx0[MAX];
        double xd[MAX], mean, h = 1e-5;
        memcpy(dx0, dx, sizeof *dx * (size_t)n);
        for (int i = 0; i < n; i++) x[i] += 3, xd[i] = x[i];
        double r = n ? moments_of(xd, n, &mean) : 0;
        k->layer_norm(y, x, w, b, 1e-5f, n);
        for (int i = 0; i < n; i++) near(k, "layer_norm", i, y[i], w[i] * (xd[i] - mean) * r + b[i], 2e-6, 1 + r);
        k->layer_norm(y, x, NULL, NULL, 1e-5f, n);
        for (int i = 0; i < n; i++) near(k, "layer_norm plain", i, y[i], (xd[i] - mean) * r, 2e-6, 1 + r);
        k->layer_norm_bwd(dx, dy, x, w, 1e-5f, n);
        for (int i = 0; i < n; i++) {
            xd[i] = x[i] + h;
            double up = norm_loss(xd, w, dy, n);
            xd[i] = x[i] - h;
            double down = norm_loss(xd, w, dy, n);
            xd[i] = x[i];
            near(k, "layer_norm dx", i, dx[i], dx0[i] + (up - down) / (2 * h), 2e-5, r + 1);
        }
        guard_reset();
    }
}
