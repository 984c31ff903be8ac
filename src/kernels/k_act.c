/* Activations and norms of families other than Llama's: GELU in its two forms, and the layer norm. */
#include "kernels/row.h"
#include "kernels/vexp.h"

/* Rows of whole vectors; a row's last part is loaded with zeros behind it and stored to its length. */
#define EACH(i, n) for (int64_t i = 0; i < (n); i += VW)
TQ_INLINE vf load(const float *p, int64_t i, int64_t n) {
    return i + VW <= n ? vf_load(p + i) : vf_load_n(p + i, n - i);
}
TQ_INLINE void store(float *p, int64_t i, int64_t n, vf v) {
    if (i + VW <= n)
        vf_store(p + i, v);
    else
        vf_store_n(p + i, v, n - i);
}

/* The normal distribution's P(X <= x), with *e = exp(-x^2 / 2). For x < 0 it is half of erfc(|x| / sqrt 2), by
 * Hastings' formula (Abramowitz & Stegun 7.1.26), whose error is below 1.5e-7. */
TQ_INLINE vf normal_below(vf x, vf *e) {
    const vf one = vf_set1(1);
    vf z = vf_of_vi(vi_and(vi_of_vf(x), vi_set1(0x7fffffff)));
    vf t = vf_div(one, vf_fma(z, vf_set1(0.3275911f * 0.70710678f), one));
    *e = vf_exp(vf_mul(vf_set1(-0.5f), vf_mul(x, x)));
    vf p = vf_set1(0.5f * 1.061405429f);
    p = vf_fma(p, t, vf_set1(0.5f * -1.453152027f));
    p = vf_fma(p, t, vf_set1(0.5f * 1.421413741f));
    p = vf_fma(p, t, vf_set1(0.5f * -0.284496736f));
    p = vf_fma(p, t, vf_set1(0.5f * 0.254829592f));
    vf tail = vf_mul(vf_mul(p, t), *e);
    return vf_of_vi(vi_if_gt(vi_set1(0), vi_of_vf(x), vi_of_vf(tail), vi_of_vf(vf_sub(one, tail))));
}

void TQ_FN(gelu)(float *y, const float *x, int64_t n) {
    EACH(i, n) {
        vf e, v = load(x, i, n);
        store(y, i, n, vf_mul(v, normal_below(v, &e)));
    }
}

/* gelu'(x) = P(X <= x) + x exp(-x^2 / 2) / sqrt(2 pi). */
void TQ_FN(gelu_bwd)(float *dx, const float *dy, const float *x, int64_t n) {
    EACH(i, n) {
        vf e, v = load(x, i, n), below = normal_below(v, &e);
        store(dx, i, n, vf_mul(load(dy, i, n), vf_fma(vf_mul(v, vf_set1(0.39894228f)), e, below)));
    }
}

/* 1 / (1 + e^-2u) with u = sqrt(2 / pi) (g + 0.044715 g^3), which is (1 + tanh u) / 2. */
TQ_INLINE vf tanh_gate(vf g) {
    const vf one = vf_set1(1);
    vf inner = vf_mul(g, vf_fma(vf_set1(0.044715f), vf_mul(g, g), one));
    return vf_div(one, vf_add(one, vf_exp(vf_mul(vf_set1(-1.5957691f), inner))));
}

void TQ_FN(gelu_mul)(float *y, const float *g, const float *u, int64_t n) {
    EACH(i, n) {
        vf v = load(g, i, n);
        store(y, i, n, vf_mul(vf_mul(v, tanh_gate(v)), load(u, i, n)));
    }
}

/* With s the gate: d(g s) = s + g s (1 - s) 2 u', u' = sqrt(2 / pi) (1 + 3 * 0.044715 g^2). */
void TQ_FN(gelu_mul_bwd)(float *dg, float *du, const float *dy, const float *g, const float *u, int64_t n) {
    const vf one = vf_set1(1);
    EACH(i, n) {
        vf v = load(g, i, n), d = load(dy, i, n), ui = load(u, i, n), s = tanh_gate(v);
        vf inner = vf_mul(vf_set1(1.5957691f), vf_fma(vf_set1(3 * 0.044715f), vf_mul(v, v), one));
        vf slope = vf_fma(vf_mul(v, inner), vf_mul(s, vf_sub(one, s)), s);
        store(du, i, n, vf_mul(d, vf_mul(v, s)));
        store(dg, i, n, vf_mul(vf_mul(d, ui), slope));
    }
}

/* Mean and 1 / sqrt(variance + eps), the variance from differences to the mean. */
static float moments(const float *x, float eps, int64_t n, float *mean) {
    vf s = vf_zero();
    EACH(i, n) s = vf_add(s, load(x, i, n));
    *mean = vf_sum(s) / (float)n;
    const vf m = vf_set1(*mean);
    vf q = vf_zero();
    int64_t i = 0;
    for (; i + VW <= n; i += VW) {
        vf d = vf_sub(vf_load(x + i), m);
        q = vf_fma(d, d, q);
    }
    float rest = 0;
    for (; i < n; i++) rest += (x[i] - *mean) * (x[i] - *mean);
    return 1 / sqrtf((vf_sum(q) + rest) / (float)n + eps);
}

void TQ_FN(layer_norm)(float *y, const float *x, const float *w, const float *b, float eps, int64_t n) {
    float mean, r;
    if (n == 0) return;
    r = moments(x, eps, n, &mean);
    const vf m = vf_set1(mean), vr = vf_set1(r);
    EACH(i, n) {
        vf v = vf_mul(vf_sub(load(x, i, n), m), vr);
        store(y, i, n, w ? vf_fma(load(w, i, n), v, load(b, i, n)) : v);
    }
}

/* With v the normalized row and u = w dy: dx += r (u - mean(u) - v mean(u v)). */
void TQ_FN(layer_norm_bwd)(float *dx, const float *dy, const float *x, const float *w, float eps, int64_t n) {
    float mean, r;
    if (n == 0) return;
    r = moments(x, eps, n, &mean);
    const vf m = vf_set1(mean), vr = vf_set1(r);
    vf su = vf_zero(), suv = vf_zero();
    EACH(i, n) {
        vf u = vf_mul(load(w, i, n), load(dy, i, n));
        su = vf_add(su, u);
        suv = vf_fma(u, vf_mul(vf_sub(load(x, i, n), m), vr), suv);
    }
    const vf mu = vf_set1(vf_sum(su) / (float)n), muv = vf_set1(vf_sum(suv) / (float)n);
    EACH(i, n) {
        vf v = vf_mul(vf_sub(load(x, i, n), m), vr), u = vf_mul(load(w, i, n), load(dy, i, n));
        vf d = vf_fnma(v, muv, vf_sub(u, mu));
        store(dx, i, n, vf_fma(vr, d, load(dx, i, n)));
    }
}
