/* One matrix product C = op(A) op(B) from plain row-major operands to a plain f32 result, packing included, by one of
 * three engines: toque's gemm, and oneDNN and OpenBLAS where they were there to build with. In bf16, weights (B of y
 * and dx) are stored as bf16 for both; activations and gradients are f32 for toque, which rounds them while it packs,
 * and bf16 for oneDNN. `engines` lists what is built in. Shapes are those of a weight [F, C] and T rows: y (X W^T), dx
 * (dY W), dw (dY^T X). Usage: bench_gemm engines | bench_gemm toque|onednn|openblas f32|bf16 y|dx|dw T C F [THREADS] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "kernels/kernels.h"
#ifdef BENCH_ONEDNN
#include <dnnl.h>
#endif
#ifdef BENCH_OPENBLAS
#include <cblas.h>
void openblas_set_num_threads(int n);
#endif

typedef struct product {
    int64_t m, n, k;
    bool a_trans, b_trans; /* the operand is stored the other way round */
    bool bf16;
    float *a, *b, *c;
    int threads;
} product;

typedef struct engine {
    const char *name;
    bool f32, bf16;
    /* Gets ready; false with a message when it cannot. Then run may be called again and again. */
    bool (*start)(const product *p);
    void (*run)(const product *p);
} engine;

static tq_mem mem;
static tq_pool *pool;
static const tq_kernels *kernels;

static bool toque_start(const product *p) {
    toque_error err;
    if (tq_kernels_select(&kernels, NULL, &err) == TOQUE_OK && tq_pool_new(&pool, &mem, p->threads, &err) == TOQUE_OK)
        return true;
    fprintf(stderr, "bench_gemm: %s\n", err.message);
    return false;
}

static void toque_job(tq_worker *w, void *arg) {
    const product *p = arg;
    const bool weight = p->bf16 && !p->a_trans;
    tq_gemm g = {.m = p->m,
                 .n = p->n,
                 .k = p->k,
                 .a = p->a,
                 .a_row = p->a_trans ? 1 : p->k,
                 .a_col = p->a_trans ? p->m : 1,
                 .b = p->b,
                 .b_type = weight ? TQ_BF16 : TQ_F32,
                 .b_trans = p->b_trans,
                 .b_stride = (size_t)(p->b_trans ? p->k : p->n) * (weight ? 2 : sizeof(float)),
                 .c = p->c,
                 .c_row = p->n,
                 .alpha = 1,
                 .compute = p->bf16 ? TQ_COMPUTE_BF16 : TQ_COMPUTE_F32};
    kernels->gemm(w, kernels, &g);
}

static void toque_run(const product *p) {
    tq_pool_run(pool, toque_job, (void *)(uintptr_t)p);
}

#ifdef BENCH_ONEDNN
static dnnl_primitive_t matmul;
static dnnl_stream_t stream;
static dnnl_memory_t operands[3];

static bool onednn_memory(int i, dnnl_engine_t cpu, int64_t rows, int64_t cols, bool trans, bool bf16, float *data,
                          dnnl_memory_desc_t *desc) {
    dnnl_dims_t dims = {rows, cols};
    dnnl_data_type_t type = bf16 ? dnnl_bf16 : dnnl_f32;
    return dnnl_memory_desc_init_by_tag(desc, 2, dims, type, trans ? dnnl_ba : dnnl_ab) == dnnl_success &&
           dnnl_memory_create(&operands[i], desc, cpu, data) == dnnl_success;
}

/* The operands' bits are read as bf16: half of the memory is used, and its numbers are ordinary ones too. */
static bool onednn_start(const product *p) {
    dnnl_engine_t cpu;
    dnnl_memory_desc_t a, b, c;
    dnnl_matmul_desc_t desc;
    dnnl_primitive_desc_t primitive;
    bool ok = dnnl_engine_create(&cpu, dnnl_cpu, 0) == dnnl_success &&
              dnnl_stream_create(&stream, cpu, dnnl_stream_default_flags) == dnnl_success &&
              onednn_memory(0, cpu, p->m, p->k, p->a_trans, p->bf16, p->a, &a) &&
              onednn_memory(1, cpu, p->k, p->n, p->b_trans, p->bf16, p->b, &b) &&
              onednn_memory(2, cpu, p->m, p->n, false, false, p->c, &c) &&
              dnnl_matmul_desc_init(&desc, &a, &b, NULL, &c) == dnnl_success &&
              dnnl_primitive_desc_create(&primitive, &desc, NULL, cpu, NULL) == dnnl_success &&
              dnnl_primitive_create(&matmul, primitive) == dnnl_success;
    if (!ok) fprintf(stderr, "bench_gemm: oneDNN has no such product here\n");
    return ok;
}

static void onednn_run(const product *p) {
    (void)p;
    dnnl_exec_arg_t args[] = {
        {DNNL_ARG_SRC, operands[0]}, {DNNL_ARG_WEIGHTS, operands[1]}, {DNNL_ARG_DST, operands[2]}};
    dnnl_primitive_execute(matmul, stream, 3, args);
    dnnl_stream_wait(stream);
}
#endif

#ifdef BENCH_OPENBLAS
static bool openblas_start(const product *p) {
    openblas_set_num_threads(p->threads);
    return true;
}

static void openblas_run(const product *p) {
    cblas_sgemm(CblasRowMajor, p->a_trans ? CblasTrans : CblasNoTrans, p->b_trans ? CblasTrans : CblasNoTrans,
                (int)p->m, (int)p->n, (int)p->k, 1, p->a, (int)(p->a_trans ? p->m : p->k), p->b,
                (int)(p->b_trans ? p->k : p->n), 0, p->c, (int)p->n);
}
#endif

static const engine engines[] = {
    {"toque", true, true, toque_start, toque_run},
#ifdef BENCH_ONEDNN
    {"onednn", true, true, onednn_start, onednn_run},
#endif
#ifdef BENCH_OPENBLAS
    {"openblas", true, false, openblas_start, openblas_run},
#endif
};
enum { ENGINES = sizeof engines / sizeof *engines };

/* Numbers of about 1/2 .. 1 as f32 and, of either half, as bf16. */
static float *filled(int64_t n) {
    float *x = tq_alloc(&mem, (size_t)n, sizeof *x);
    uint32_t s = 12345;
    for (int64_t i = 0; x && i < n; i++) {
        s = s * 1664525 + 1013904223;
        uint32_t bits = (s & 0x803f803f) | 0x3f003f00;
        memcpy(x + i, &bits, sizeof bits);
    }
    return x;
}

static double best(const engine *e, const product *p) {
    double least = 1e30, begin = tq_now();
    for (int i = 0; i < 3 || (tq_now() - begin < 0.4 && i < 2000); i++) {
        double start = tq_now();
        e->run(p);
        double seconds = tq_now() - start;
        least = seconds < least ? seconds : least;
    }
    return least;
}

static bool shape_of(product *p, const char *work, int64_t T, int64_t C, int64_t F) {
    if (strcmp(work, "y") == 0) {
        p->m = T, p->n = F, p->k = C, p->b_trans = true;
    } else if (strcmp(work, "dx") == 0) {
        p->m = T, p->n = C, p->k = F;
    } else if (strcmp(work, "dw") == 0) {
        p->m = F, p->n = C, p->k = T, p->a_trans = true;
    } else {
        return false;
    }
    return true;
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "engines") == 0) {
        for (int i = 0; i < ENGINES; i++) puts(engines[i].name);
        return 0;
    }
    const engine *e = NULL;
    product p = {0};
    for (int i = 0; argc > 6 && i < ENGINES; i++)
        if (strcmp(engines[i].name, argv[1]) == 0) e = &engines[i];
    p.bf16 = argc > 6 && strcmp(argv[2], "bf16") == 0;
    if (!e || !(p.bf16 ? e->bf16 : e->f32) || !shape_of(&p, argv[3], atol(argv[4]), atol(argv[5]), atol(argv[6]))) {
        fputs("usage: bench_gemm engines | bench_gemm ENGINE f32|bf16 y|dx|dw T C F [THREADS]\n", stderr);
        return 2;
    }
    tq_mem_init(&mem, 0);
    p.threads = argc > 7 ? atoi(argv[7]) : tq_pool_default_threads();
    p.a = filled(p.m * p.k);
    p.b = filled(p.k * p.n);
    p.c = filled(p.m * p.n);
    if (!p.a || !p.b || !p.c) {
        fprintf(stderr, "bench_gemm: out of memory\n");
        return 1;
    }
    if (!e->start(&p)) return 1;
    double seconds = best(e, &p);
    printf("{\"gflop_per_second\": %.2f, \"m\": %lld, \"n\": %lld, \"k\": %lld}\n",
           2e-9 * (double)p.m * (double)p.n * (double)p.k / seconds, (long long)p.m, (long long)p.n, (long long)p.k);
    tq_pool_free(pool);
    tq_free(&mem, p.a);
    tq_free(&mem, p.b);
    tq_free(&mem, p.c);
    return 0;
}
