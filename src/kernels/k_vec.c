/* Rows of f32: sums and elementwise updates. A sum runs in four vector accumulators, so its order depends on n and
 * the vector width alone. */
#include "kernels/row.h"

float TQ_FN(dot)(const float *x, const float *y, int64_t n) {
    vf s[4] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()};
    int64_t i = 0;
    for (; i + 4 * VW <= n; i += 4 * VW)
        for (int j = 0; j < 4; j++) s[j] = vf_fma(vf_load(x + i + j * VW), vf_load(y + i + j * VW), s[j]);
    for (; i + VW <= n; i += VW) s[0] = vf_fma(vf_load(x + i), vf_load(y + i), s[0]);
    if (i < n) s[1] = vf_fma(vf_load_n(x + i, n - i), vf_load_n(y + i, n - i), s[1]);
    return vf_sum(vf_add(vf_add(s[0], s[1]), vf_add(s[2], s[3])));
}

float TQ_FN(sum_squares)(const float *x, int64_t n) {
    return TQ_FN(dot)(x, x, n);
}

float TQ_FN(max)(const float *x, int64_t n) {
    const vf none = vf_set1(-INFINITY);
    vf m = none;
    int64_t i = 0;
    for (; i + VW <= n; i += VW) m = vf_max(m, vf_load(x + i));
    float r = vf_hmax(m);
    for (; i < n; i++) r = r > x[i] ? r : x[i];
    return r;
}

void TQ_FN(add)(float *z, const float *x, const float *y, int64_t n) {
    int64_t i = 0;
    for (; i + VW <= n; i += VW) vf_store(z + i, vf_add(vf_load(x + i), vf_load(y + i)));
    if (i < n) vf_store_n(z + i, vf_add(vf_load_n(x + i, n - i), vf_load_n(y + i, n - i)), n - i);
}

void TQ_FN(scale)(float *y, float a, int64_t n) {
    const vf va = vf_set1(a);
    int64_t i = 0;
    for (; i + VW <= n; i += VW) vf_store(y + i, vf_mul(va, vf_load(y + i)));
    if (i < n) vf_store_n(y + i, vf_mul(va, vf_load_n(y + i, n - i)), n - i);
}

void TQ_FN(axpy)(float *y, float a, const float *x, int64_t n) {
    const vf va = vf_set1(a);
    int64_t i = 0;
    for (; i + VW <= n; i += VW) vf_store(y + i, vf_fma(va, vf_load(x + i), vf_load(y + i)));
    if (i < n) vf_store_n(y + i, vf_fma(va, vf_load_n(x + i, n - i), vf_load_n(y + i, n - i)), n - i);
}

/* The turn by an angle: (a, b) becomes (a cos - b sin, b cos + a sin). */
void TQ_FN(rope)(float *x, const float *cs, int half, float sign) {
    const vf vsign = vf_set1(sign);
    for (int i = 0; i < half; i += VW) {
        bool whole = i + VW <= half;
        int64_t n = half - i;
        vf a = whole ? vf_load(x + i) : vf_load_n(x + i, n);
        vf b = whole ? vf_load(x + half + i) : vf_load_n(x + half + i, n);
        vf c = whole ? vf_load(cs + i) : vf_load_n(cs + i, n);
        vf s = vf_mul(vsign, whole ? vf_load(cs + half + i) : vf_load_n(cs + half + i, n));
        vf p = vf_fnma(b, s, vf_mul(a, c)), q = vf_fma(a, s, vf_mul(b, c));
        if (whole) {
            vf_store(x + i, p);
            vf_store(x + half + i, q);
        } else {
            vf_store_n(x + i, p, n);
            vf_store_n(x + half + i, q, n);
        }
    }
}

/* p -= lr * (decay * p + m c1 / (sqrt(v c2) + eps)) with the moments m, v of the clipped gradient. */
void TQ_FN(adamw)(float *p, const float *g, float *m, float *v, int64_t n, float clip, float lr, float b1, float b2,
                  float eps, float decay, float c1, float c2) {
    const vf vclip = vf_set1(clip), vb1 = vf_set1(b1), va1 = vf_set1(1 - b1), vb2 = vf_set1(b2), va2 = vf_set1(1 - b2);
    const vf vc1 = vf_set1(c1), vc2 = vf_set1(c2), veps = vf_set1(eps), vlr = vf_set1(lr),
             keep = vf_set1(1 - lr * decay);
    for (int64_t i = 0; i < n; i += VW) {
        bool whole = i + VW <= n;
        int64_t left = n - i;
        vf gi = vf_mul(vclip, whole ? vf_load(g + i) : vf_load_n(g + i, left));
        vf mi = whole ? vf_load(m + i) : vf_load_n(m + i, left);
        vf vv = whole ? vf_load(v + i) : vf_load_n(v + i, left);
        vf pi = whole ? vf_load(p + i) : vf_load_n(p + i, left);
        mi = vf_fma(va1, gi, vf_mul(vb1, mi));
        vv = vf_fma(vf_mul(va2, gi), gi, vf_mul(vb2, vv));
        vf step = vf_div(vf_mul(mi, vc1), vf_add(vf_sqrt(vf_mul(vv, vc2)), veps));
        pi = vf_fnma(vlr, step, vf_mul(pi, keep));
        if (whole) {
            vf_store(m + i, mi);
            vf_store(v + i, vv);
            vf_store(p + i, pi);
        } else {
            vf_store_n(m + i, mi, left);
            vf_store_n(v + i, vv, left);
            vf_store_n(p + i, pi, left);
        }
    }
}
