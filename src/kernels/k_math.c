/* Rows through exp and the norm: softmax numerators, RMSNorm, SwiGLU, forward and backward. */
#include "kernels/row.h"
#include "kernels/vexp.h"

/* The sums of runs of RUN elements are added in double: a vocabulary is long. */
enum { RUN = 32 * VW };

TQ_INLINE float exp_run(float *y, const float *x, float shift, int64_t n) {
    const vf vs = vf_set1(shift);
    vf s0 = vf_zero(), s1 = vf_zero();
    int64_t i = 0;
    for (; i + 2 * VW <= n; i += 2 * VW) {
        vf e0 = vf_exp(vf_sub(vf_load(x + i), vs)), e1 = vf_exp(vf_sub(vf_load(x + i + VW), vs));
        vf_store(y + i, e0);
        vf_store(y + i + VW, e1);
        s0 = vf_add(s0, e0);
        s1 = vf_add(s1, e1);
    }
    for (; i < n; i += VW) {
        int64_t left = n - i < VW ? n - i : VW;
        float t[VW]; /* the lanes past the end count as e^-inf */
        for (int j = 0; j < VW; j++) t[j] = j < left ? x[i + j] - shift : -INFINITY;
        vf e = vf_exp(vf_load(t));
        vf_store(t, e);
        memcpy(y + i, t, (size_t)left * sizeof *y);
        s0 = vf_add(s0, e);
    }
    return vf_sum(vf_add(s0, s1));
}

float TQ_FN(exp_sum)(float *y, const float *x, float shift, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i += RUN) sum += (double)exp_run(y + i, x + i, shift, n - i < RUN ? n - i : RUN);
    return (float)sum;
}

float TQ_FN(rms_norm)(float *y, const float *x, const float *w, float eps, int64_t n) {
    if (n == 0) return 0;
    float r = 1 / sqrtf(TQ_FN(dot)(x, x, n) / (float)n + eps);
    const vf vr = vf_set1(r);
    int64_t i = 0;
    for (; i + VW <= n; i += VW) vf_store(y + i, vf_mul(vf_load(w + i), vf_mul(vf_load(x + i), vr)));
    if (i < n) vf_store_n(y + i, vf_mul(vf_load_n(w + i, n - i), vf_mul(vf_load_n(x + i, n - i), vr)), n - i);
    return r;
}

/* With u = w dy: dx += r u - x r^3/n sum(u x). */
void TQ_FN(rms_norm_bwd)(float *dx, float *dw, const float *dy, const float *x, const float *w, float r, int64_t n) {
    vf sum = vf_zero();
    int64_t i = 0;
    for (; i + VW <= n; i += VW) sum = vf_fma(vf_mul(vf_load(w + i), vf_load(dy + i)), vf_load(x + i), sum);
    if (i < n) sum = vf_fma(vf_mul(vf_load_n(w + i, n - i), vf_load_n(dy + i, n - i)), vf_load_n(x + i, n - i), sum);
    const vf vr = vf_set1(r), back = vf_set1(n ? vf_sum(sum) * r * r * r / (float)n : 0);
    for (i = 0; i < n; i += VW) {
        bool whole = i + VW <= n;
        int64_t left = n - i;
        vf xi = whole ? vf_load(x + i) : vf_load_n(x + i, left);
        vf gi = vf_mul(vr, whole ? vf_load(dy + i) : vf_load_n(dy + i, left));
        vf wi = whole ? vf_load(w + i) : vf_load_n(w + i, left);
        vf di = whole ? vf_load(dx + i) : vf_load_n(dx + i, left);
        di = vf_add(di, vf_fnma(back, xi, vf_mul(wi, gi)));
        if (whole)
            vf_store(dx + i, di);
        else
            vf_store_n(dx + i, di, left);
        if (!dw) continue;
        vf dwi = whole ? vf_load(dw + i) : vf_load_n(dw + i, left);
        dwi = vf_fma(gi, xi, dwi);
        if (whole)
            vf_store(dw + i, dwi);
        else
            vf_store_n(dw + i, dwi, left);
    }
}

/* 1 / (1 + e^-g). */
TQ_INLINE vf sigmoid(vf g) {
    const vf one = vf_set1(1);
    return vf_div(one, vf_add(one, vf_exp(vf_sub(vf_zero(), g))));
}

void TQ_FN(silu_mul)(float *y, const float *g, const float *u, int64_t n) {
    int64_t i = 0;
    for (; i + VW <= n; i += VW) {
        vf gi = vf_load(g + i);
        vf_store(y + i, vf_mul(vf_mul(gi, sigmoid(gi)), vf_load(u + i)));
    }
    if (i < n) {
        vf gi = vf_load_n(g + i, n - i);
        vf_store_n(y + i, vf_mul(vf_mul(gi, sigmoid(gi)), vf_load_n(u + i, n - i)), n - i);
    }
}

/* silu'(g) = s (1 + g (1 - s)), s = sigmoid(g). */
void TQ_FN(silu_mul_bwd)(float *dg, float *du, const float *dy, const float *g, const float *u, int64_t n) {
    const vf one = vf_set1(1);
    for (int64_t i = 0; i < n; i += VW) {
        bool whole = i + VW <= n;
        int64_t left = n - i;
        vf gi = whole ? vf_load(g + i) : vf_load_n(g + i, left);
        vf ui = whole ? vf_load(u + i) : vf_load_n(u + i, left);
        vf di = whole ? vf_load(dy + i) : vf_load_n(dy + i, left);
        vf s = sigmoid(gi);
        vf dui = vf_mul(di, vf_mul(gi, s));
        vf dgi = vf_mul(vf_mul(di, ui), vf_mul(s, vf_fma(gi, vf_sub(one, s), one)));
        if (whole) {
            vf_store(du + i, dui);
            vf_store(dg + i, dgi);
        } else {
            vf_store_n(du + i, dui, left);
            vf_store_n(dg + i, dgi, left);
        }
    }
}
