/* Matrix products: values in every orientation and type, and the promise that an element's bits depend on its row and
 * column alone. */
#include "check.h"

#include "kernels/half.h"

enum { PAD = 5 };

typedef struct problem {
    int64_t m, n, k;
    bool a_trans, b_trans, accumulate;
    tq_type type;
    float alpha;
    tq_compute compute;
    /* made */
    float *a, *b32, *c0;
    void *b;
    int64_t a_row, a_col, c_row;
    size_t b_stride;
} problem;

/* Operands end right before a guard page; C's rows have padding that must stay as it is. */
static void make(problem *p, bool front) {
    int64_t rows = p->b_trans ? p->n : p->k, width = p->b_trans ? p->k : p->n;
    size_t bytes = tq_type_row_bytes(p->type, width);
    p->a_row = p->a_trans ? 1 : p->k + 3;
    p->a_col = p->a_trans ? p->m + 3 : 1;
    int64_t a_rows = p->a_trans ? p->k : p->m, a_width = p->a_trans ? p->m : p->k;
    p->a = guard_floats(a_rows && a_width ? (a_rows - 1) * (a_width + 3) + a_width : 0, front);
    p->b_stride = bytes + (tq_type_get(p->type)->block == 1 ? 4 : 3);
    p->b = guard(rows && width ? (size_t)(rows - 1) * p->b_stride + bytes : 0, front);
    p->b32 = guard((size_t)(rows * width) * 4, false);
    for (int64_t j = 0; j < rows && width; j++) {
        void *r = random_weights(p->type, width, false);
        memcpy((char *)p->b + (size_t)j * p->b_stride, r, bytes);
        check_rows[0].k->dequant_row[p->type](p->b32 + j * width, r, width);
    }
    p->c_row = p->n + PAD;
    p->c0 = guard_floats(p->m && p->n ? (p->m - 1) * p->c_row + p->n : 0, front);
}

static float rounded(const problem *p, float x) {
    return p->compute == TQ_COMPUTE_BF16 ? tq_bf16_to_float(tq_float_to_bf16(x)) : x;
}

static tq_gemm gemm_of(const problem *p, float *c) {
    return (tq_gemm){.m = p->m,
                     .n = p->n,
                     .k = p->k,
                     .a = p->a,
                     .a_row = p->a_row,
                     .a_col = p->a_col,
                     .b = p->b,
                     .b_type = p->type,
                     .b_trans = p->b_trans,
                     .b_stride = p->b_stride,
                     .c = c,
                     .c_row = p->c_row,
                     .alpha = p->alpha,
                     .accumulate = p->accumulate,
                     .compute = p->compute};
}

static int64_t c_size(const problem *p) {
    return p->m && p->n ? (p->m - 1) * p->c_row + p->n : 0;
}

static void run(const tq_kernels *k, const tq_gemm *g, int workers) {
    for (int i = 0; i < workers; i++) k->gemm(check_worker(i, workers), k, g);
}

static void values(const tq_kernels *k, problem p, bool front) {
    make(&p, front);
    float *c = guard_copy(p.c0, c_size(&p), front);
    tq_gemm g = gemm_of(&p, c);
    run(k, &g, 1);
    for (int64_t i = 0; i < p.m; i++) {
        for (int64_t j = 0; j < p.n; j++) {
            double sum = 0, size = 1e-6, c0 = p.accumulate ? p.c0[i * p.c_row + j] : 0;
            for (int64_t q = 0; q < p.k; q++) {
                double v = (double)rounded(&p, p.a[i * p.a_row + q * p.a_col]) *
                           rounded(&p, p.b32[p.b_trans ? j * p.k + q : q * p.n + j]);
                sum += v;
                size += fabs(v);
            }
            near(k, "gemm", i * p.n + j, c[i * p.c_row + j], p.alpha * sum + c0, 1.5e-6, size + fabs(c0));
        }
        if (p.n && i + 1 < p.m) assert_memory_equal(c + i * p.c_row + p.n, p.c0 + i * p.c_row + p.n, PAD * sizeof *c);
    }
    guard_reset();
}

void check_gemm_values(void **state) {
    (void)state;
    const int64_t sizes[][3] = {{0, 5, 3},   {4, 0, 3},    {3, 5, 0},      {1, 1, 1},     {1, 17, 33},
                                {7, 15, 64}, {15, 16, 17}, {16, 31, 255},  {17, 33, 257}, {31, 65, 63},
                                {63, 8, 7},  {65, 7, 31},  {13, 129, 600}, {2, 1100, 9},  {130, 40, 20}};
    FOR_ROWS(k)
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int o = 0; o < 8; o++)
            values(k,
                   (problem){.m = sizes[s][0],
                             .n = sizes[s][1],
                             .k = sizes[s][2],
                             .a_trans = o & 1,
                             .b_trans = o & 2,
                             .accumulate = o & 4,
                             .alpha = o & 2 ? 1 : 0.5f,
                             .type = TQ_F32},
                   (o + (int)s) % 2);
}

void check_gemm_types(void **state) {
    (void)state;
    const tq_type types[] = {TQ_F16, TQ_BF16, TQ_Q4_0, TQ_Q4_1, TQ_Q5_0, TQ_Q5_1, TQ_Q8_0, TQ_Q4_K, TQ_Q5_K, TQ_Q6_K};
    FOR_ROWS(k)
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (int o = 0; o < 4; o++) {
            int64_t wide = (int64_t)tq_type_get(types[t])->block * (tq_type_get(types[t])->block > 32 ? 2 : 3);
            values(k,
                   (problem){.m = 7,
                             .n = o & 2 ? 37 : wide,
                             .k = o & 2 ? wide : 37,
                             .a_trans = o & 1,
                             .b_trans = o & 2,
                             .alpha = 1,
                             .type = types[t]},
                   o == 1);
        }
}

void check_gemm_bf16(void **state) {
    (void)state;
    FOR_ROWS(k)
    for (int o = 0; o < 8; o++) {
        values(k,
               (problem){.m = 13,
                         .n = 41,
                         .k = o & 4 ? 31 : 290,
                         .a_trans = o & 1,
                         .b_trans = o & 2,
                         .alpha = o & 1 ? 1 : 2,
                         .accumulate = o & 1,
                         .type = TQ_F32,
                         .compute = TQ_COMPUTE_BF16},
               false);
        values(k,
               (problem){.m = 5,
                         .n = o & 2 ? 35 : 64,
                         .k = o & 2 ? 64 : 35,
                         .a_trans = o & 1,
                         .b_trans = o & 2,
                         .alpha = 1,
                         .type = TQ_Q4_1,
                         .compute = TQ_COMPUTE_BF16},
               false);
    }
}

/* Several blocks of columns, rows and k, A copied once for all columns: each row has the bits that it has alone. */
void check_gemm_blocks(void **state) {
    (void)state;
    FOR_ROWS(k)
    for (int o = 0; o < 4; o++) {
        problem p = {.m = 250,
                     .n = 1060,
                     .k = 802,
                     .a_trans = o & 1,
                     .b_trans = o & 2,
                     .alpha = o & 1 ? 1 : 0.5f,
                     .accumulate = o & 2,
                     .type = TQ_F32,
                     .compute = o % 3 ? TQ_COMPUTE_BF16 : TQ_COMPUTE_F32};
        make(&p, false);
        float *c = guard_copy(p.c0, c_size(&p), false);
        tq_gemm g = gemm_of(&p, c);
        run(k, &g, 1);
        for (int64_t i = 0; i < p.m; i += 13) {
            tq_gemm one = gemm_of(&p, guard_copy(p.c0 + i * p.c_row, p.n, false));
            one.m = 1;
            one.a += i * p.a_row;
            run(k, &one, 1);
            assert_memory_equal(one.c, c + i * p.c_row, (size_t)p.n * sizeof(float));
        }
        guard_reset();
    }
}

/* Stored bf16 gives the bits of the same numbers stored as f32, where pairs are taken as they are and where not. */
void check_gemm_stored_bf16(void **state) {
    (void)state;
    const int64_t sizes[][2] = {{96, 256}, {70, 256}, {64, 99}}; /* n, k */
    FOR_ROWS(k)
    for (int o = 0; o < 6; o++) {
        problem p = {.m = 29,
                     .n = sizes[o / 2][0],
                     .k = sizes[o / 2][1],
                     .b_trans = o & 1,
                     .alpha = 1,
                     .type = TQ_BF16,
                     .compute = TQ_COMPUTE_BF16};
        make(&p, false);
        float *want = guard_copy(p.c0, c_size(&p), false), *got = guard_copy(p.c0, c_size(&p), false);
        tq_gemm stored = gemm_of(&p, got), plain = stored;
        plain.b = p.b32, plain.b_type = TQ_F32, plain.c = want;
        plain.b_stride = (size_t)(p.b_trans ? p.k : p.n) * sizeof(float);
        run(k, &stored, 2);
        run(k, &plain, 1);
        assert_memory_equal(got, want, (size_t)c_size(&p) * sizeof(float));
        guard_reset();
    }
}

/* The same bytes from 1, 2, 3 and 4 workers, for a row alone, and for a column range alone. */
void check_gemm_bits(void **state) {
    (void)state;
    const tq_type types[] = {TQ_F32, TQ_Q4_1};
    FOR_ROWS(k)
    for (int o = 0; o < 16; o++) {
        problem p = {.m = 45,
                     .n = o & 2 ? 83 : 96,
                     .k = 576,
                     .a_trans = o & 1,
                     .b_trans = o & 2,
                     .alpha = o & 1 ? 1 : 0.5f,
                     .accumulate = o & 1,
                     .type = types[o >> 2 & 1],
                     .compute = o & 8 ? TQ_COMPUTE_BF16 : TQ_COMPUTE_F32};
        make(&p, false);
        size_t bytes = (size_t)c_size(&p) * sizeof(float);
        float *want = guard_copy(p.c0, c_size(&p), false);
        tq_gemm g = gemm_of(&p, want);
        run(k, &g, 1);
        for (int workers = 2; workers <= 4; workers++) {
            g.c = guard_copy(p.c0, c_size(&p), false);
            run(k, &g, workers);
            assert_memory_equal(g.c, want, bytes);
        }
        for (int64_t i = 0; i < p.m; i += 11) {
            tq_gemm one = gemm_of(&p, guard_copy(p.c0 + i * p.c_row, p.n, false));
            one.m = 1;
            one.a += i * p.a_row;
            run(k, &one, 1);
            assert_memory_equal(one.c, want + i * p.c_row, (size_t)p.n * sizeof(float));
        }
        if (p.b_trans) {
            tq_gemm some = gemm_of(&p, guard_copy(p.c0, c_size(&p), false));
            some.n = 5;
            some.b = (const char *)p.b + 50 * p.b_stride;
            some.c += 50;
            run(k, &some, 1);
            for (int64_t i = 0; i < p.m; i++)
                assert_memory_equal(some.c + i * p.c_row, want + i * p.c_row + 50, 5 * sizeof(float));
        }
        guard_reset();
    }
}
