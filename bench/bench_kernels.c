/* Rates of the kernels that matter, on each usable row of the table (or the one named): products in GFLOP/s on one
 * thread and on all, decode rows in GB/s, attention. Run it on an otherwise idle machine; the best of some runs is
 * printed. Usage: bench_kernels [ISA] [THREADS] */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "kernels/kernels.h"

typedef struct job {
    const tq_kernels *k;
    tq_gemm g;
    tq_attn a;
    const tq_q8 *x8;
    const float *x;
    const char *w;
    size_t row_bytes;
    int64_t n, width;
    tq_type type;
    float *y, *d_o, *dq, *dk, *dv;
    int what, T;
} job;

static void gemm_job(tq_worker *w, void *arg) {
    job *j = arg;
    j->k->gemm(w, j->k, &j->g);
}

static void rows_job(tq_worker *w, void *arg) {
    job *j = arg;
    int64_t b, e;
    tq_share(w, j->n, 16, &b, &e);
    const char *rows = j->w + (size_t)b * j->row_bytes;
    if (j->x8)
        j->k->rows_q8[j->type](j->y + b, j->n, rows, j->row_bytes, e - b, j->width, j->x8, j->T ? j->T : 1);
    else
        j->k->rows_f32[j->type](j->y + b, rows, j->row_bytes, e - b, j->width, j->x);
}

static void attn_job(tq_worker *w, void *arg) {
    job *j = arg;
    int tiles = (j->a.n + 63) / 64;
    if (j->what) {
        for (int g = w->id; g < j->a.kv_heads; g += w->count) j->k->attn_bwd(w, &j->a, g, j->d_o, j->dq, j->dk, j->dv);
        return;
    }
    for (int i = w->id; i < j->a.heads * tiles; i += w->count) {
        int t = i % tiles * 64;
        j->k->attn_fwd(w, &j->a, i / tiles, t, t + 64 < j->a.n ? t + 64 : j->a.n);
    }
}

/* Seconds of the best run. */
static double best(tq_pool *pool, tq_job *run, job *j) {
    double least = 1e30, start = tq_now();
    for (int i = 0; i < 3 || (tq_now() - start < 0.25 && i < 1000); i++) {
        double t = tq_now();
        tq_pool_run(pool, run, j);
        t = tq_now() - t;
        least = t < least ? t : least;
    }
    return least;
}

static void *filled(tq_mem *mem, size_t bytes) {
    uint32_t *p = tq_alloc(mem, bytes / 4 + 1, 4);
    if (!p) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    uint32_t s = 12345;
    for (size_t i = 0; i < bytes / 4 + 1; i++) { /* small numbers as f32 and as f16 */
        s = s * 1664525 + 1013904223;
        p[i] = (s & 0x80ff83ff) | 0x3c002000;
    }
    return p;
}

static void bench_gemm(const tq_kernels *k, tq_pool *pool, tq_mem *mem) {
    static const struct {
        const char *name;
        int64_t m, n, k;
        bool a_trans, b_trans;
        tq_type type;
    } list[] = {
        {"Y=XW' q,o", 512, 576, 576, 0, 1, TQ_F32},      {"Y=XW' q,o", 512, 576, 576, 0, 1, TQ_Q4_1},
        {"Y=XW' k,v", 512, 192, 576, 0, 1, TQ_Q4_1},     {"Y=XW' gate", 512, 1536, 576, 0, 1, TQ_Q4_1},
        {"Y=XW' down", 512, 576, 1536, 0, 1, TQ_Q4_1},   {"Y=XW' gate", 64, 1536, 576, 0, 1, TQ_Q4_1},
        {"Y=XW' gate", 2048, 1536, 576, 0, 1, TQ_Q8_0},  {"head", 64, 49152, 576, 0, 1, TQ_Q8_0},
        {"head", 256, 49152, 576, 0, 1, TQ_Q8_0},        {"dX=dYW gate", 512, 576, 1536, 0, 0, TQ_Q4_1},
        {"dX=dYW down", 512, 1536, 576, 0, 0, TQ_Q4_1},  {"dX=dYW head", 64, 576, 49152, 0, 0, TQ_Q8_0},
        {"dW=dY'X gate", 1536, 576, 1024, 1, 0, TQ_F32}, {"dW=dY'X down", 576, 1536, 1024, 1, 0, TQ_F32},
        {"lora XA' r8", 1024, 8, 576, 0, 1, TQ_F32},     {"lora hB' r8", 1024, 576, 8, 0, 1, TQ_F32},
        {"lora XA' r64", 1024, 64, 576, 0, 1, TQ_F32},   {"lora dA r8", 8, 576, 1024, 1, 0, TQ_F32},
        {"lora dB r8", 576, 8, 1024, 1, 0, TQ_F32},      {"lora dh r16", 1024, 16, 1536, 0, 0, TQ_F32},
        {"cube", 1024, 1024, 1024, 0, 0, TQ_F32},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        int64_t m = list[i].m, n = list[i].n, kk = list[i].k, width = list[i].b_trans ? kk : n;
        job j = {.k = k,
                 .g = {.m = m,
                       .n = n,
                       .k = kk,
                       .a_row = list[i].a_trans ? 1 : kk,
                       .a_col = list[i].a_trans ? m : 1,
                       .b_type = list[i].type,
                       .b_trans = list[i].b_trans,
                       .c_row = n,
                       .alpha = 1,
                       .b_stride = tq_type_row_bytes(list[i].type, width)}};
        float *a = filled(mem, (size_t)(m * kk) * 4), *c = filled(mem, (size_t)(m * n) * 4);
        void *b = filled(mem, j.g.b_stride * (size_t)(list[i].b_trans ? n : kk));
        j.g.a = a;
        j.g.b = b;
        j.g.c = c;
        double s = best(pool, gemm_job, &j);
        printf("  %-13s %5lld x %5lld x %5lld %-4s %8.1f GFLOP/s", list[i].name, (long long)m, (long long)n,
               (long long)kk, tq_type_get(list[i].type)->name, 2e-9 * (double)(m * n * kk) / s);
        if (k->has_bf16) {
            j.g.compute = TQ_COMPUTE_BF16;
            s = best(pool, gemm_job, &j);
            printf("   bf16 %8.1f", 2e-9 * (double)(m * n * kk) / s);
        }
        printf("\n");
        tq_free(mem, a);
        tq_free(mem, b);
        tq_free(mem, c);
    }
}

static void bench_rows(const tq_kernels *k, tq_pool *pool, tq_mem *mem) {
    static const tq_type types[] = {TQ_Q4_1, TQ_Q4_0, TQ_Q8_0, TQ_Q4_K, TQ_Q5_K, TQ_Q6_K,
                                    TQ_Q5_0, TQ_Q5_1, TQ_F16,  TQ_BF16, TQ_F32};
    const int64_t width = 1536, n = 65536;
    float *x = filled(mem, (size_t)width * 4), *y = filled(mem, 8 * (size_t)n * 4);
    tq_q8 *q = filled(mem, 8 * (size_t)width / 32 * sizeof *q);
    for (int t = 0; t < 8; t++) k->quant_q8(q + t * width / 32, x, width);
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        size_t bytes = tq_type_row_bytes(types[t], width);
        char *w = filled(mem, bytes * (size_t)n);
        job j = {.k = k, .x = x, .w = w, .row_bytes = bytes, .n = n, .width = width, .type = types[t], .y = y};
        double f32 = best(pool, rows_job, &j);
        printf("  rows %-5s f32 %6.2f GB/s", tq_type_get(types[t])->name, 1e-9 * (double)bytes * (double)n / f32);
        if (k->rows_q8[types[t]]) {
            j.x8 = q;
            printf("   q8 %6.2f GB/s", 1e-9 * (double)bytes * (double)n / best(pool, rows_job, &j));
            j.n = 1024;
            printf("   q8 from cache %6.2f GB/s", 1e-9 * (double)bytes * 1024 / best(pool, rows_job, &j));
            j.n = n;
            j.T = 8;
            printf("   8 rows %6.2f GB/s each", 8e-9 * (double)bytes * (double)n / best(pool, rows_job, &j));
        }
        printf("\n");
        tq_free(mem, w);
    }
    tq_free(mem, x);
    tq_free(mem, y);
    tq_free(mem, q);
}

static void bench_attn(const tq_kernels *k, tq_pool *pool, tq_mem *mem) {
    enum { N = 1024, H = 9, G = 3, D = 64 };
    size_t q = N * H * D * 4, kv = N * G * D * 4;
    job j = {.k = k,
             .a = {.n = N,
                   .heads = H,
                   .kv_heads = G,
                   .head_dim = D,
                   .causal = true,
                   .scale = 0.125f,
                   .q_row = H * D,
                   .kv_row = G * D,
                   .kv_head = D,
                   .o_row = H * D}};
    float *p[9];
    for (int i = 0; i < 9; i++) p[i] = filled(mem, i == 1 || i == 2 || i == 6 || i == 7 ? kv : q);
    j.a.q = p[0], j.a.k = p[1], j.a.v = p[2], j.a.o = p[3], j.a.lse = p[4], j.d_o = p[5], j.dk = p[6], j.dv = p[7],
    j.dq = p[8];
    double flop = 4e-9 * H * D * N * (N + 1) / 2;
    printf("  attention %d causal f32: forward %.1f GFLOP/s", N, flop / best(pool, attn_job, &j));
    j.what = 1;
    printf(", backward %.1f", 2.5 * flop / best(pool, attn_job, &j));
    j.what = 0;
    j.a.n = 1;
    j.a.decode = true;
    j.a.n_past = N - 1;
    printf(", decode %.1f us f32", 1e6 * best(pool, attn_job, &j));
    j.a.kv_type = TQ_F16;
    printf(", %.1f us f16\n", 1e6 * best(pool, attn_job, &j));
    for (int i = 0; i < 9; i++) tq_free(mem, p[i]);
}

int main(int argc, char **argv) {
    tq_mem mem;
    tq_mem_init(&mem, 0);
    toque_error err;
    const tq_kernels *only = NULL, *k;
    if (argc > 1 && tq_kernels_select(&only, argv[1], &err) != TOQUE_OK) {
        fprintf(stderr, "bench_kernels: %s\n", err.message);
        return 1;
    }
    bool usable;
    for (int threads = 1; threads <= 2; threads++) {
        tq_pool *pool;
        if (tq_pool_new(&pool, &mem, threads == 1 ? 1 : argc > 2 ? atoi(argv[2]) : 0, &err) != TOQUE_OK) return 1;
        for (int i = 0; (k = tq_kernels_row(i, &usable)); i++) {
            if (!usable || (only && k != only)) continue;
            printf("%s, %d thread%s\n", k->isa, tq_pool_threads(pool), tq_pool_threads(pool) > 1 ? "s" : "");
            bench_gemm(k, pool, &mem);
            bench_rows(k, pool, &mem);
            bench_attn(k, pool, &mem);
        }
        tq_pool_free(pool);
    }
    return 0;
}
