/* Rows of f32 against double loops. */
#include "check.h"

static void vec_case(const tq_kernels *k, int64_t n, bool front) {
    float *x = guard_floats(n, front), *y = guard_floats(n, front);
    double dot = 0, squares = 0, size = 0, max = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        dot += (double)x[i] * y[i];
        size += fabs((double)x[i] * y[i]);
        squares += (double)x[i] * x[i];
        max = x[i] > max ? x[i] : max;
    }
    near(k, "dot", n, k->dot(x, y, n), dot, 1e-6, size);
    near(k, "sum_squares", n, k->sum_squares(x, n), squares, 1e-6, squares);
    assert_true(k->max(x, n) == (float)max);

    float *z = guard(sizeof(float) * (size_t)n, front), *w = guard_copy(y, n, front), *v = guard_copy(y, n, front);
    k->add(z, x, y, n);
    k->scale(w, 1.5f, n);
    k->axpy(v, -0.75f, x, n);
    for (int64_t i = 0; i < n; i++) {
        assert_true(z[i] == x[i] + y[i]);
        assert_true(w[i] == y[i] * 1.5f);
        near(k, "axpy", i, v[i], y[i] - 0.75 * x[i], 1.2e-7, 2);
    }
    k->add(z, z, z, n);
    for (int64_t i = 0; i < n; i++) assert_true(z[i] == 2 * (x[i] + y[i]));

    /* rope: n is half a head */
    float *cs = guard(sizeof(float) * 2 * (size_t)n, front), *h = guard_floats(2 * n, front);
    float *turned = guard_copy(h, 2 * n, front);
    for (int64_t i = 0; i < n; i++) {
        cs[i] = cosf((float)i);
        cs[n + i] = sinf((float)i);
    }
    k->rope(turned, cs, (int)n, 1);
    for (int64_t i = 0; i < n; i++) {
        near(k, "rope", i, turned[i], (double)h[i] * cs[i] - (double)h[n + i] * cs[n + i], 2e-7, 1);
        near(k, "rope", n + i, turned[n + i], (double)h[n + i] * cs[i] + (double)h[i] * cs[n + i], 2e-7, 1);
    }
    k->rope(turned, cs, (int)n, -1);
    for (int64_t i = 0; i < 2 * n; i++) near(k, "rope back", i, turned[i], h[i], 5e-7, 1);
}

void check_vec(void **state) {
    (void)state;
    FOR_ROWS(k)
    for (int s = 0; s < check_n_sizes; s++)
        for (int front = 0; front < 2; front++) {
            vec_case(k, check_sizes[s], front);
            guard_reset();
        }
}

void check_exp(void **state) {
    (void)state;
    enum { N = 40000 };
    static float x[N], y[N];
    FOR_ROWS(k) {
        for (int i = 0; i < N; i++) x[i] = (float)(-87.3 + (87.3 + 88.7) * i / (N - 1));
        double sum = 0, worst = 0;
        k->exp_sum(y, x, 0, N);
        for (int i = 0; i < N; i++) {
            double want = exp((double)x[i]), error = fabs(y[i] - want) / want;
            worst = error > worst ? error : worst;
        }
        if (worst >= 2e-7) fail_msg("%s: exp's relative error is %g", k->isa, worst);
        /* results below the normal range are subnormal, not flushed */
        for (int i = 0; i < N; i++) x[i] = (float)(-87.3 - 20.0 * i / (N - 1));
        k->exp_sum(y, x, 0, N);
        for (int i = 0; i < N; i++) near(k, "exp", i, y[i], exp((double)x[i]), 1.5e-45, 1 + 1e-7 * y[i]);

        const float special[] = {-INFINITY, INFINITY, NAN, 0, -0.0f, 89, 88.72f, 200, -104, -1e30f, 1e30f, -3e38f};
        float out[12];
        k->exp_sum(out, special, 0, 12);
        assert_true(out[0] == 0 && out[1] == INFINITY && isnan(out[2]) && out[3] == 1 && out[4] == 1);
        assert_true(out[5] == INFINITY && isfinite(out[6]) && out[7] == INFINITY && out[8] == 0 && out[9] == 0);
        assert_true(out[10] == INFINITY && out[11] == 0);
        for (int i = 0; i < N; i++) x[i] = (float)(20 * uniform() - 10);
        float got = k->exp_sum(y, x, 3, N);
        for (int i = 0; i < N; i++) sum += exp((double)x[i] - 3);
        near(k, "exp_sum", 0, got, sum, 1e-6, sum);
    }
}

void check_math(void **state) {
    (void)state;
    FOR_ROWS(k)
    for (int s = 0; s < check_n_sizes; s++)
        for (int front = 0; front < 2; front++) {
            int64_t n = check_sizes[s];
            float *x = guard_floats(n, front), *w = guard_floats(n, front), *y = guard(sizeof *y * (size_t)n, front);
            double mean = 0, sum = 0;
            for (int64_t i = 0; i < n; i++) mean += (double)x[i] * x[i] / (double)n;
            double r = 1 / sqrt(mean + 1e-5);
            float got = k->rms_norm(y, x, w, 1e-5f, n);
            if (n) near(k, "rms_norm r", n, got, r, 1e-6, r);
            for (int64_t i = 0; i < n; i++) near(k, "rms_norm", i, y[i], w[i] * x[i] * r, 1e-6, r);
            for (int64_t i = 0; i < n; i++) x[i] *= 20;
            k->silu_mul(y, x, w, n);
            for (int64_t i = 0; i < n; i++)
                near(k, "silu_mul", i, y[i], w[i] * (x[i] / (1 + exp(-(double)x[i]))), 1e-6, 1 + fabsf(x[i]));
            got = k->exp_sum(y, x, 2, n);
            for (int64_t i = 0; i < n; i++) sum += exp((double)x[i] - 2);
            for (int64_t i = 0; i < n; i++) near(k, "exp", i, y[i], exp((double)x[i] - 2), 3e-6, exp((double)x[i] - 2));
            near(k, "exp_sum", n, got, sum, 3e-6, sum);
            guard_reset();
        }
}

static double norm_loss(const double *x, const double *w, const float *dy, int n) {
    double mean = 0, loss = 0;
    for (int i = 0; i < n; i++) mean += x[i] * x[i] / n;
    for (int i = 0; i < n; i++) loss += dy[i] * w[i] * x[i] / sqrt(mean + 1e-5);
    return loss;
}

void check_norm_backward(void **state) {
    (void)state;
    enum { MAX = 65 };
    FOR_ROWS(k)
    for (int s = 1; s < check_n_sizes && check_sizes[s] <= MAX; s++) {
        int n = check_sizes[s];
        float *x = guard_floats(n, s % 2), *w = guard_floats(n, s % 2), *dy = guard_floats(n, s % 2), y[MAX];
        float *dx = guard_floats(n, s % 2), *dw = guard_floats(n, s % 2), dx0[MAX], dw0[MAX];
        memcpy(dx0, dx, sizeof *dx * (size_t)n);
        memcpy(dw0, dw, sizeof *dw * (size_t)n);
        double xd[MAX], wd[MAX], h = 1e-5;
        for (int i = 0; i < n; i++) xd[i] = x[i], wd[i] = w[i];
        float r = k->rms_norm(y, x, w, 1e-5f, n);
        k->rms_norm_bwd(dx, dw, dy, x, w, r, n);
        for (int i = 0; i < n; i++) {
            xd[i] = x[i] + h;
            double up = norm_loss(xd, wd, dy, n);
            xd[i] = x[i] - h;
            double down = norm_loss(xd, wd, dy, n);
            xd[i] = x[i];
            near(k, "rms_norm dx", i, dx[i], dx0[i] + (up - down) / (2 * h), 2e-5, r + 1);
            wd[i] = w[i] + h;
            up = norm_loss(xd, wd, dy, n);
            wd[i] = w[i] - h;
            down = norm_loss(xd, wd, dy, n);
            wd[i] = w[i];
            near(k, "rms_norm dw", i, dw[i], dw0[i] + (up - down) / (2 * h), 2e-5, r + 1);
        }
        float *again = guard_copy(dx0, n, 0);
        k->rms_norm_bwd(again, NULL, dy, x, w, r, n);
        assert_memory_equal(again, dx, sizeof *dx * (size_t)n);
        guard_reset();
    }
}

static double silu_of(double g) {
    return g / (1 + exp(-g));
}

void check_silu_backward(void **state) {
    (void)state;
    FOR_ROWS(k)
    for (int s = 0; s < check_n_sizes; s++) {
        int n = check_sizes[s];
        float *g = guard_floats(n, s % 2), *u = guard_floats(n, s % 2), *dy = guard_floats(n, s % 2);
        float *dg = guard_floats(n, s % 2), *du = guard_floats(n, s % 2);
        for (int i = 0; i < n; i++) g[i] *= 8;
        k->silu_mul_bwd(dg, du, dy, g, u, n);
        for (int i = 0; i < n; i++) {
            double h = 1e-5, slope = (silu_of(g[i] + h) - silu_of(g[i] - h)) / (2 * h);
            near(k, "silu dg", i, dg[i], dy[i] * u[i] * slope, 3e-6, 1);
            near(k, "silu du", i, du[i], dy[i] * silu_of(g[i]), 1e-6, 8);
        }
        const float far[] = {-200, -90, 90, 200};
        float one[] = {1, 1, 1, 1}, a[4], b[4];
        k->silu_mul_bwd(a, b, one, far, one, 4);
        for (int i = 0; i < 4; i++) near(k, "silu far", i, a[i], i < 2 ? 0 : 1, 1e-6, 1);
        guard_reset();
    }
}

void check_adamw(void **state) {
    (void)state;
    const double lr = 1e-2, b1 = 0.9, b2 = 0.999, eps = 1e-8, decay = 0.1, clip = 0.5, c1 = 1 / (1 - 0.81), c2 = 500.25;
    FOR_ROWS(k)
    for (int s = 0; s < check_n_sizes; s++) {
        int n = check_sizes[s];
        float *p = guard_floats(n, s % 2), *g = guard_floats(n, s % 2), *m = guard_floats(n, s % 2);
        float *v = guard_floats(n, s % 2);
        for (int i = 0; i < n; i++) v[i] = fabsf(v[i]) * 0.01f;
        float *p0 = guard_copy(p, n, 0), *m0 = guard_copy(m, n, 0), *v0 = guard_copy(v, n, 0);
        k->adamw(p, g, m, v, n, (float)clip, (float)lr, (float)b1, (float)b2, (float)eps, (float)decay, (float)c1,
                 (float)c2);
        for (int i = 0; i < n; i++) {
            double gi = clip * g[i], mi = b1 * m0[i] + (1 - b1) * gi, vi = b2 * v0[i] + (1 - b2) * gi * gi;
            double step = mi * c1 / (sqrt(vi * c2) + eps);
            near(k, "adamw m", i, m[i], mi, 1e-6, 1);
            near(k, "adamw v", i, v[i], vi, 1e-6, 1);
            near(k, "adamw p", i, p[i], p0[i] - lr * (decay * p0[i] + step), 1e-6, 1 + fabs(step));
        }
        guard_reset();
    }
}

/* The 256 values in rising order, as the paper gives them. */
static void tree(double code[256], bool is_signed) {
    int zero = is_signed ? 127 : 0;
    double power = 1e-6;
    code[zero] = 0;
    code[255] = 1;
    for (int d = 0; d < 7; d++, power *= 10) {
        int n = is_signed ? 1 << d : 2 << d, start = zero + (is_signed ? n : n - 1);
        for (int j = 0; j < n; j++) {
            code[start + j] = power * (0.1 + 0.9 * (j + 0.5) / n);
            if (is_signed) code[2 * zero - start - j] = -code[start + j];
        }
    }
}

void check_dynamic8(void **state) {
    (void)state;
    FOR_ROWS(k)
    for (int is_signed = 0; is_signed < 2; is_signed++) {
        double code[256];
        tree(code, is_signed);
        uint8_t all[256];
        float y[256];
        for (int i = 0; i < 256; i++) all[i] = (uint8_t)i;
        k->read_dynamic8(y, all, 3, is_signed, 256);
        for (int i = 0; i < 256; i++) near(k, "dynamic8 value", i, y[i], 3 * code[i], 1e-6, 3 * fabs(code[i]));
        for (int s = 0; s < check_n_sizes; s++) {
            int n = check_sizes[s];
            float *x = guard_floats(n, s % 2), *z = guard_floats(n, s % 2), most = 0;
            uint8_t *c = guard((size_t)n, s % 2);
            for (int i = 0; i < n; i++) {
                x[i] = (float)(x[i] * pow(10, -8 * uniform()));
                if (!is_signed) x[i] = fabsf(x[i]);
                most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
            }
            assert_float_equal(k->write_dynamic8(c, x, is_signed, n), most, 0);
            k->read_dynamic8(z, c, most, is_signed, n);
            for (int i = 0; i < n; i++) {
                double nearest = HUGE_VAL, v = x[i] / (double)most, got = fabs(z[i] / (double)most - v);
                for (int j = 0; j < 256; j++) nearest = fmin(nearest, fabs(code[j] - v));
                near(k, "dynamic8 distance", i, got, nearest, 3e-6, fabs(v) + 1e-7);
            }
            guard_reset();
        }
        float zeros[5] = {0}, back[5] = {1, 1, 1, 1, 1};
        assert_float_equal(k->write_dynamic8(all, zeros, is_signed, 5), 0, 0);
        k->read_dynamic8(back, all, 0, is_signed, 5);
        for (int i = 0; i < 5; i++) assert_float_equal(back[i], 0, 0);
        guard_reset();
    }
}
