/* The dynamic tree of a byte (Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization"): 256 values in
 * [-1, 1] or [0, 1]. Decade d = 0 .. 6, up to 10^(d-6), has n = 2^d steps of each sign, or 2^(d+1) without signs; a
 * step stands for its middle. Beside them there are 0 and 1.
 *
 * With m = n + j for step j of a decade, every decade is a line: value = slope m + start. So both ways choose a decade
 * by comparisons and take its line; m is 0 (or 1 without signs) for the value 0, and twice the last n for the value 1.
 */
#include "kernels/row.h"

enum { DECADES = 7, LINES = DECADES + 1 };

/* Line i: decade i, or the value 1; below the first: the value 0. */
typedef struct lines {
    float first_m[LINES];             /* the least m of the line */
    float above[LINES];               /* what is greater than this is nearer to the line than to the one before */
    float slope[LINES], start[LINES]; /* m to value */
    float inverse[LINES], offset[LINES], last[LINES]; /* value to m, which is at most last */
    float zero;                                       /* m of the value 0 */
} lines;

/* n steps in the decade that ends at p. */
#define FIRST(p, n) ((p) * (0.1 + 0.45 / (n)))
#define LAST(p, n) ((p) * (1 - 0.45 / (n)))
#define EACH(of, s)                                                                                                    \
    of(1e-6, s), of(1e-5, 2 * s), of(1e-4, 4 * s), of(1e-3, 8 * s), of(1e-2, 16 * s), of(1e-1, 32 * s), of(1.0, 64 * s)
#define FIRST_M(p, n) (n)
#define ABOVE(p, n) (float)((((p) > 2e-6 ? LAST((p) / 10, (n) / 2.0) : 0) + FIRST(p, n)) / 2)
#define SLOPE(p, n) (float)((p)*0.9 / (n))
#define START(p, n) (float)((p) * (-0.8 + 0.45 / (n)))
#define INVERSE(p, n) (float)((n) / ((p)*0.9))
#define OFFSET(p, n) (float)((n) * (0.8 - 0.45 / (n)) / 0.9)
#define LAST_M(p, n) (2 * (n)-1)
#define TABLE(s)                                                                                                       \
    {                                                                                                                  \
        .first_m = {EACH(FIRST_M, s), 128 * (s)}, .above = {EACH(ABOVE, s), (float)((LAST(1.0, 64 * (s)) + 1) / 2)},   \
        .slope = {EACH(SLOPE, s), 0}, .start = {EACH(START, s), 1}, .inverse = {EACH(INVERSE, s), 0},                  \
        .offset = {EACH(OFFSET, s), 128 * (s)}, .last = {EACH(LAST_M, s), 128 * (s)}, .zero = (s)-1                    \
    }

static const lines unsigned_lines = TABLE(2), signed_lines = TABLE(1);

TQ_INLINE vf choose(vf a, float above, float x, vf y) {
    return vf_of_vi(vi_if_gt(vi_of_vf(a), vi_of_vf(vf_set1(above)), vi_of_vf(vf_set1(x)), vi_of_vf(y)));
}

/* |x|, and its sign bit. */
TQ_INLINE vf magnitude(vf x) {
    return vf_of_vi(vi_and(vi_of_vf(x), vi_set1(0x7fffffff)));
}
TQ_INLINE vf signed_as(vf x, vf sign) {
    return vf_of_vi(vi_or(vi_of_vf(x), vi_and(vi_of_vf(sign), vi_set1(INT32_MIN))));
}

TQ_INLINE vf read_codes(const lines *t, bool is_signed, vf scale, vi codes) {
    vf c = vf_sub(vf_cvt(codes), vf_set1(is_signed ? 127 : -1)), m = magnitude(c);
    vf slope = vf_zero(), start = vf_zero();
    TQ_UNROLL for (int i = 0; i < LINES; i++) {
        slope = choose(m, t->first_m[i] - 0.5f, t->slope[i], slope);
        start = choose(m, t->first_m[i] - 0.5f, t->start[i], start);
    }
    vf value = vf_mul(vf_fma(slope, m, start), scale);
    return is_signed ? signed_as(value, c) : value;
}

void TQ_FN(read_dynamic8)(float *y, const uint8_t *codes, float scale, bool is_signed, int64_t n) {
    const vf s = vf_set1(scale);
    for (int64_t i = 0; i < n; i += VW) {
        const int64_t left = n - i;
        uint8_t padded[VW] = {0};
        if (left < VW) memcpy(padded, codes + i, (size_t)left);
        vi c = vi_load_u8(left < VW ? padded : codes + i);
        vf v = is_signed ? read_codes(&signed_lines, true, s, c) : read_codes(&unsigned_lines, false, s, c);
        if (left < VW)
            vf_store_n(y + i, v, left);
        else
            vf_store(y + i, v);
    }
}

/* The codes as floats; those above 127 less 256, as vf_store_i8 wants them. */
TQ_INLINE vf codes_of(const lines *t, bool is_signed, vf x) {
    vf a = magnitude(x), inverse = vf_zero(), offset = vf_set1(t->zero), last = offset;
    TQ_UNROLL for (int i = 0; i < LINES; i++) {
        inverse = choose(a, t->above[i], t->inverse[i], inverse);
        offset = choose(a, t->above[i], t->offset[i], offset);
        last = choose(a, t->above[i], t->last[i], last);
    }
    const vf whole = vf_set1(12582912); /* 1.5 * 2^23: the sum has no room for a fraction */
    vf m = vf_min(vf_sub(vf_add(vf_fma(a, inverse, offset), whole), whole), last);
    vf below = vf_min(m, vf_set1(127)); /* -1 has no code */
    vf c = vf_sub(m, vf_set1(1));
    if (is_signed)
        c = vf_add(vf_set1(127),
                   vf_of_vi(vi_if_gt(vi_set1(0), vi_of_vf(x), vi_of_vf(vf_sub(vf_zero(), below)), vi_of_vf(m))));
    return vf_sub(c, choose(c, 127, 256, vf_zero()));
}

float TQ_FN(write_dynamic8)(uint8_t *codes, const float *x, bool is_signed, int64_t n) {
    vf most = vf_zero();
    for (int64_t i = 0; i < n; i += VW)
        most = vf_max(magnitude(n - i < VW ? vf_load_n(x + i, n - i) : vf_load(x + i)), most);
    const float scale = vf_hmax(most);
    const vf inverse = vf_set1(scale > 0 ? 1 / scale : 0);
    for (int64_t i = 0; i < n; i += VW) {
        const int64_t left = n - i;
        vf v = vf_mul(left < VW ? vf_load_n(x + i, left) : vf_load(x + i), inverse);
        vf c = is_signed ? codes_of(&signed_lines, true, v) : codes_of(&unsigned_lines, false, v);
        int8_t padded[VW];
        vf_store_i8(left < VW ? padded : (int8_t *)codes + i, c);
        if (left < VW) memcpy(codes + i, padded, (size_t)left);
    }
    return scale;
}
