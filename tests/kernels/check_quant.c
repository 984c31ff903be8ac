/* Storage types: conversion against bit-level definitions and the gguf package's results, decode rows against
 * double sums over dequantized values. */
#include "check.h"

#include "kernels/half.h"

static const tq_type types[] = {TQ_F32,  TQ_F16,  TQ_BF16, TQ_Q4_0, TQ_Q4_1, TQ_Q5_0,
                                TQ_Q5_1, TQ_Q8_0, TQ_Q4_K, TQ_Q5_K, TQ_Q6_K};
enum { N_TYPES = sizeof types / sizeof *types };

/* The value of a binary float format with `e` exponent and `m` mantissa bits. */
static double small_float(unsigned h, int e, int m) {
    unsigned bias = (1u << (e - 1)) - 1, ex = h >> m & ((1u << e) - 1), man = h & ((1u << m) - 1);
    double sign = h >> (e + m) & 1 ? -1 : 1;
    if (ex == (1u << e) - 1) return man ? NAN : sign * INFINITY;
    if (ex == 0) return sign * ldexp(man, 1 - (int)bias - m);
    return sign * ldexp((double)(man + (1u << m)), (int)ex - (int)bias - m);
}

static bool same(float a, double b) {
    return isnan(b) ? isnan(a) : (double)a == b && !signbit(a) == !signbit(b);
}

void check_halves(void **state) {
    (void)state;
    enum { N = 65536 };
    uint16_t *h = guard(2 * N, false), *back = guard(2 * N, false);
    float *x = guard(4 * N, false);
    for (int i = 0; i < N; i++) h[i] = (uint16_t)i;
    FOR_ROWS(k)
    for (int type = 0; type < 2; type++) {
        int e = type ? 8 : 5, m = type ? 7 : 10;
        tq_type t = type ? TQ_BF16 : TQ_F16;
        k->dequant_row[t](x, h, N);
        for (int i = 0; i < N; i++)
            if (!same(x[i], small_float((unsigned)i, e, m))) fail_msg("%s: %04x gives %g", k->isa, i, x[i]);
        k->quant_row[t](back, x, N);
        for (int i = 0; i < N; i++) assert_true(isnan(x[i]) || back[i] == h[i]);
        /* between two neighbours: the nearer one, in the middle the even one */
        for (int i = 0; i < 0x7c00; i++) {
            double lo = small_float((unsigned)i, e, m), hi = small_float((unsigned)i + 1, e, m);
            if (isinf(hi)) hi = ldexp(1, type ? 128 : 16);
            double mid = (lo + hi) / 2;
            float in[3] = {(float)mid, nextafterf((float)mid, 0), nextafterf((float)mid, INFINITY)};
            uint16_t out[3], want[3] = {(uint16_t)(i + (i & 1)), (uint16_t)i, (uint16_t)(i + 1)};
            if (type && i < 2) continue; /* their middle is no f32 */
            k->quant_row[t](out, in, 3);
            for (int j = 0; j < 3; j++)
                if (out[j] != want[j]) fail_msg("%s: %.9g gives %04x, not %04x", k->isa, in[j], out[j], want[j]);
        }
        for (int s = 0; s < check_n_sizes; s++) {
            int n = check_sizes[s];
            uint16_t *a = guard(2 * (size_t)n, false), *c = guard(2 * (size_t)n, true);
            float *b = guard(4 * (size_t)n, s % 2);
            for (int i = 0; i < n; i++) a[i] = (uint16_t)(0x3c00 + i);
            k->dequant_row[t](b, a, n);
            k->quant_row[t](c, b, n);
            for (int i = 0; i < n; i++) assert_int_equal(c[i], a[i]);
        }
    }
    guard_reset();
}

/* data/quants.bin, by tools/reference/kernels_quants.py: records of type, elements, kind (0: blocks and their
 * values; 1: values and the blocks they are quantized to), then bytes, then floats. */
void check_vectors_of_gguf(void **state) {
    (void)state;
    FILE *f = fopen(CHECK_DATA "/quants.bin", "rb");
    assert_non_null(f);
    uint32_t head[3];
    int records = 0;
    while (fread(head, sizeof head, 1, f) == 1) {
        int64_t n = head[1];
        size_t bytes = tq_type_row_bytes((tq_type)head[0], n);
        uint8_t *blocks = guard(bytes, false), *made = guard(bytes, false);
        float *x = guard((size_t)n * 4, false), *y = guard((size_t)n * 4, false);
        assert_int_equal(fread(blocks, 1, bytes, f), bytes);
        assert_int_equal(fread(x, 4, (size_t)n, f), n);
        FOR_ROWS(k) {
            if (head[2] == 0) {
                k->dequant_row[head[0]](y, blocks, n);
                for (int64_t i = 0; i < n; i++)
                    if (memcmp(&x[i], &y[i], 4))
                        fail_msg("%s: %s[%d] is %.9g, not %.9g", k->isa, tq_type_get(head[0])->name, (int)i, y[i],
                                 x[i]);
            } else {
                k->quant_row[head[0]](made, x, n);
                for (size_t i = 0; i < bytes; i++)
                    if (made[i] != blocks[i])
                        fail_msg("%s: %s byte %d is %d, not %d", k->isa, tq_type_get(head[0])->name, (int)i, made[i],
                                 blocks[i]);
            }
        }
        records++;
        guard_reset();
    }
    fclose(f);
    assert_int_equal(records, 13);
}

/* Bounds, and the same bits on all rows of the table. */
void check_dequant(void **state) {
    (void)state;
    for (int t = 0; t < N_TYPES; t++)
        for (int blocks = 0; blocks < 4; blocks++) {
            const tq_type_info *info = tq_type_get(types[t]);
            int64_t n = (int64_t)blocks * info->block;
            for (int front = 0; front < 2; front++) {
                void *w = random_weights(types[t], n, front);
                float *want = guard((size_t)n * 4, front), *y = guard((size_t)n * 4, front);
                check_rows[0].k->dequant_row[types[t]](want, w, n);
                FOR_ROWS(k) {
                    k->dequant_row[types[t]](y, w, n);
                    if (memcmp(y, want, (size_t)n * 4)) fail_msg("%s: %s differs from ref", k->isa, info->name);
                }
            }
            guard_reset();
        }
}

void check_rows_f32(void **state) {
    (void)state;
    FOR_ROWS(k)
    for (int t = 0; t < N_TYPES; t++)
        for (int s = 0; s < 6; s++) {
            const tq_type_info *info = tq_type_get(types[t]);
            int64_t width = info->block == 1 ? check_sizes[3 * s + 1] : (int64_t)info->block * s, n = s + 1;
            size_t bytes = tq_type_row_bytes(types[t], width), stride = bytes + (info->block > 1 ? 7 : 4);
            uint8_t *w = guard(stride * (size_t)(n - 1) + bytes, false);
            float *x = guard_floats(width, s % 2), *y = guard((size_t)n * 4, s % 2);
            float *row = guard((size_t)width * 4, false);
            for (int64_t j = 0; j < n; j++) {
                void *r = random_weights(types[t], width, false);
                if (bytes) memcpy(w + (size_t)j * stride, r, bytes);
            }
            k->rows_f32[types[t]](y, w, stride, n, width, x);
            for (int64_t j = 0; j < n; j++) {
                double sum = 0, size = 1e-9;
                if (width)
                    k->dequant_row[types[t]](row, memcpy(guard(bytes, false), w + (size_t)j * stride, bytes), width);
                for (int64_t i = 0; i < width; i++) sum += (double)row[i] * x[i], size += fabs((double)row[i] * x[i]);
                near(k, info->name, j, y[j], sum, 1e-6, size);
            }
            guard_reset();
        }
}

/* Several rows of x at once give each the bits that it has alone. */
static void together(const tq_kernels *k, tq_type type, int64_t width, int64_t n) {
    enum { T = 7 };
    size_t bytes = tq_type_row_bytes(type, width);
    uint8_t *w = guard(bytes * (size_t)n, false);
    for (int64_t j = 0; j < n; j++) memcpy(w + (size_t)j * bytes, random_weights(type, width, false), bytes);
    tq_q8 *q = guard((size_t)(T * width / 32) * sizeof *q, false);
    float *y = guard((size_t)(T * n) * 4, false), *alone = guard((size_t)n * 4, false);
    for (int t = 0; t < T; t++) k->quant_q8(q + t * width / 32, guard_floats(width, false), width);
    k->rows_q8[type](y, n, w, bytes, n, width, q, T);
    for (int t = 0; t < T; t++) {
        k->rows_q8[type](alone, n, w, bytes, n, width, q + t * width / 32, 1);
        assert_memory_equal(alone, y + t * n, (size_t)n * 4);
    }
    guard_reset();
}

void check_rows_q8_together(void **state) {
    (void)state;
    FOR_ROWS(k)
    for (int t = 0; t < N_TYPES; t++) {
        if (!k->rows_q8[types[t]]) continue;
        for (int blocks = 1; blocks <= 9; blocks += 4)
            together(k, types[t], (int64_t)tq_type_get(types[t])->block * blocks, 3);
        together(k, types[t], 5120 + 256, 2); /* longer than what is rearranged at a time */
    }
}

void check_rows_q8(void **state) {
    (void)state;
    FOR_ROWS(k)
    for (int t = 0; t < N_TYPES; t++) {
        assert_true((k->rows_q8[types[t]] == NULL) ==
                    (types[t] == TQ_F32 || types[t] == TQ_F16 || types[t] == TQ_BF16));
        if (!k->rows_q8[types[t]]) continue;
        for (int s = 0; s < 6; s++) {
            const tq_type_info *info = tq_type_get(types[t]);
            int64_t width = (int64_t)info->block * s, n = s + 1;
            size_t bytes = tq_type_row_bytes(types[t], width), stride = bytes + 3;
            uint8_t *w = guard(stride * (size_t)(n - 1) + bytes, false);
            float *x = guard_floats(width, false), *y = guard((size_t)n * 4, s % 2);
            float *row = guard((size_t)width * 4, false);
            tq_q8 *q = guard((size_t)(width / 32) * sizeof *q, false);
            k->quant_q8(q, x, width);
            if (s == 5) /* extremes of both sides */
                for (int64_t i = 0; i < width; i++) q[i / 32].q[i % 32] = i / 32 % 2 ? 127 : -127;
            for (int64_t b = 0; b < width / 32; b++) {
                int total = 0;
                for (int i = 0; i < 32; i++) total += q[b].q[i];
                q[b].sum = q[b].d * (float)total;
            }
            for (int64_t j = 0; j < n; j++) {
                void *r = random_weights(types[t], width, false);
                if (types[t] == TQ_Q8_0 && s == 5)
                    for (size_t i = 0; i < bytes; i++)
                        if (i % 34 >= 2) ((uint8_t *)r)[i] = j % 2 ? 0x80 : 0x7f;
                if (bytes) memcpy(w + (size_t)j * stride, r, bytes);
            }
            k->rows_q8[types[t]](y, n, w, stride, n, width, q, 1);
            for (int64_t j = 0; j < n; j++) {
                double sum = 0, size = 1e-9;
                if (width)
                    k->dequant_row[types[t]](row, memcpy(guard(bytes, false), w + (size_t)j * stride, bytes), width);
                for (int64_t i = 0; i < width; i++) {
                    double v = (double)row[i] * q[i / 32].q[i % 32] * q[i / 32].d;
                    sum += v;
                    size += fabs(v) + fabs(32 * v * 0.1);
                }
                near(k, info->name, j, y[j], sum, 2e-6, size);
            }
            guard_reset();
        }
    }
}

/* Panels give what rows_q8 gives, but for the order of sums, and each row of x the bits that it has alone. */
static void panels(const tq_kernels *k, tq_type type, int64_t width, int64_t n) {
    enum { T = 15 };
    const struct tq_panels *p = &k->panels[type];
    const size_t bytes = tq_type_row_bytes(type, width), stride = bytes + 3;
    const size_t panel = (size_t)(width / p->block * p->bytes * k->panel_rows);
    uint8_t *w = guard(stride * (size_t)n, false), *made = guard(panel * (size_t)(n / k->panel_rows), false);
    for (int64_t j = 0; j < n; j++) {
        uint8_t *row = random_weights(type, width, false);
        for (size_t i = 0; type == TQ_Q8_0 && j < 2 && i < bytes; i++)
            if (i % 34 >= 2) row[i] = j ? 0x80 : 0x7f; /* extremes of both sides */
        memcpy(w + (size_t)j * stride, row, bytes);
    }
    for (int64_t j = 0; j < n; j += k->panel_rows)
        p->make(made + panel * (size_t)(j / k->panel_rows), w + (size_t)j * stride, stride, width);
    tq_q8 *q = guard((size_t)(T * width / 32) * sizeof *q, false);
    float *y = guard((size_t)(T * n) * 4, true), *alone = guard((size_t)n * 4, false),
          *want = guard((size_t)n * 4, false);
    for (int t = 0; t < T; t++) k->quant_q8(q + t * width / 32, guard_floats(width, false), width);
    for (int64_t i = 0; i < width; i++) q[i / 32].q[i % 32] = i / 32 % 2 ? 127 : -127;
    for (int64_t b = 0; b < width / 32; b++) q[b].sum = q[b].d * (b % 2 ? 32 * 127.0f : 32 * -127.0f);
    p->q8(y, n, made, n, width, q, T);
    for (int t = 0; t < T; t++) {
        const tq_q8 *xt = q + t * width / 32;
        p->q8(alone, n, made, n, width, xt, 1);
        assert_memory_equal(alone, y + t * n, (size_t)n * 4);
        k->rows_q8[type](want, n, w, stride, n, width, xt, 1);
        for (int64_t j = 0; j < n; j++) {
            double size = 1e-9;
            float *row = guard((size_t)width * 4, false);
            k->dequant_row[type](row, w + (size_t)j * stride, width);
            for (int64_t i = 0; i < width; i++)
                size += fabs((double)row[i] * xt[i / 32].q[i % 32] * xt[i / 32].d) + fabs(4 * (double)xt[i / 32].d);
            near(k, tq_type_get(type)->name, j, alone[j], want[j], 2e-6, size);
        }
        if (t > 2) t += 4;
    }
    guard_reset();
}

void check_panels(void **state) {
    (void)state;
    FOR_ROWS(k) {
        int forms = 0;
        for (int t = 0; t < N_TYPES; t++) {
            if (!k->panels[types[t]].make) continue;
            forms++;
            for (int blocks = 1; blocks <= 5; blocks += 2)
                panels(k, types[t], (int64_t)tq_type_get(types[t])->block * blocks, 2 * k->panel_rows);
        }
        assert_int_equal(forms, 4);
    }
}

void check_quant_q8(void **state) {
    (void)state;
    FOR_ROWS(k)
    for (int64_t n = 0; n <= 160; n += 32) {
        float *x = guard_floats(n, false);
        tq_q8 *q = guard((size_t)(n / 32) * sizeof *q, n % 64 == 0);
        for (int64_t i = 0; i < n && i < 32; i++) x[i] = n == 64 ? 0 : x[i];
        k->quant_q8(q, x, n);
        for (int64_t b = 0; b < n / 32; b++) {
            double most = 0;
            int total = 0;
            for (int i = 0; i < 32; i++) {
                most = fmax(most, fabs(x[32 * b + i]));
                total += q[b].q[i];
            }
            near(k, "quant_q8 d", b, q[b].d, most / 127, 1e-6, most);
            near(k, "quant_q8 sum", b, q[b].sum, q[b].d * total, 1e-6, 1);
            for (int i = 0; i < 32; i++) near(k, "quant_q8", i, q[b].d * q[b].q[i], x[32 * b + i], 0.5001, q[b].d);
        }
        guard_reset();
    }
    FOR_ROWS(k) { /* what is not a number is not hidden */
        float x[32] = {1, 2, NAN, 3};
        tq_q8 q;
        k->quant_q8(&q, x, 32);
        assert_true(isnan(q.d));
        x[2] = -INFINITY;
        k->quant_q8(&q, x, 32);
        assert_true(isinf(q.d));
    }
}
