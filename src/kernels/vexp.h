/* exp and log without libm, so that a value depends on the row of the table only. */
#ifndef TQ_KERNELS_VEXP_H
#define TQ_KERNELS_VEXP_H

#include "kernels/row.h"

/* e^x = 2^n e^r with n = round(x / ln 2) and |r| <= ln(2)/2; ln 2 is split in two so that x - n ln 2 keeps its bits
 * (Cody & Waite 1980), e^r is a polynomial of degree 6 fitted for the smallest relative error (3e-9, so
 * rounding dominates), and 2^n is applied in two halves, which makes results near 0 subnormal and large ones
 * infinite as they should be. -inf gives 0, NaN stays. */
TQ_INLINE vf vf_exp(vf x) {
    const vf magic = vf_set1(0x1.8p23f); /* adding it rounds to an integer in the low bits */
    x = vf_min(vf_set1(89.0f), vf_max(vf_set1(-110.0f), x));
    vf t = vf_fma(x, vf_set1(0x1.715476p+0f), magic);
    vf n = vf_sub(t, magic);
    vf r = vf_fnma(n, vf_set1(0x1.62e4p-1f), x);
    r = vf_fnma(n, vf_set1(0x1.7f7d1cp-20f), r);
    vf p = vf_set1(0x1.6a2256p-10f);
    p = vf_fma(p, r, vf_set1(0x1.123b04p-7f));
    p = vf_fma(p, r, vf_set1(0x1.5558f8p-5f));
    p = vf_fma(p, r, vf_set1(0x1.55549p-3f));
    p = vf_fma(p, r, vf_set1(0x1.fffffcp-2f));
    p = vf_fma(vf_mul(r, r), p, r);
    p = vf_add(p, vf_set1(1.0f));
    vi e = vi_sub(vi_of_vf(t), vi_of_vf(magic)), half = vi_sra(e, 1);
    vf lo = vf_of_vi(vi_sll(vi_add(half, vi_set1(127)), 23));
    vf hi = vf_of_vi(vi_sll(vi_add(vi_sub(e, half), vi_set1(127)), 23));
    return vf_mul(vf_mul(p, lo), hi);
}

/* ln x for finite x > 0 (0 gives -inf, NaN and +inf stay), by ln x = e ln 2 + 2 atanh((m-1)/(m+1)), in double:
 * correct to the last float bit but for rare ties. */
TQ_INLINE float tq_scalar_log(float x) {
    if (!(x > 0)) return x == 0 ? -INFINITY : NAN;
    if (x > 3.4e38f && x * 0.5f == x) return x;
    double d = x;
    uint64_t bits;
    memcpy(&bits, &d, 8);
    int e = (int)(bits >> 52) - 1023;
    bits = (bits & 0xfffffffffffffu) | 0x3ff0000000000000u;
    double m;
    memcpy(&m, &bits, 8);
    if (m > 1.4142135623730951) m *= 0.5, e++;
    double s = (m - 1) / (m + 1), z = s * s, sum = 0;
    for (int i = 21; i >= 1; i -= 2) sum = sum * z + 1.0 / i;
    return (float)(e * 0.69314718055994530942 + 2 * s * sum);
}

#endif
