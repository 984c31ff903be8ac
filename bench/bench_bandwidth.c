/* How fast this machine's memory can be read by all threads: the limit that decode rates are held against. A block
 * much larger than any cache is read by the kernels' plainest row (a maximum). Prints one JSON object.
 * Usage: bench_bandwidth [THREADS] */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "kernels/context.h"

static const int64_t FLOATS = 1 << 27, RUN = 1 << 16;

typedef struct job {
    const tq_kernels *k;
    float *block;
    bool fill;
    float found[64];
} job;

static void read_share(tq_worker *w, void *arg) {
    job *j = arg;
    int64_t begin, end;
    tq_share(w, FLOATS, RUN, &begin, &end);
    if (j->fill)
        for (int64_t i = begin; i < end; i++) j->block[i] = (float)(i & 255);
    float most = 0;
    for (int64_t i = begin; i < end && !j->fill; i += RUN) {
        float x = j->k->max(j->block + i, RUN);
        most = x > most ? x : most;
    }
    if (w->id < 64) j->found[w->id] = most;
}

int main(int argc, char **argv) {
    toque_error err;
    tq_ctx *ctx = NULL;
    if (tq_ctx_new(&ctx, argc > 1 ? atoi(argv[1]) : 0, 0, "auto", &err) != TOQUE_OK) {
        fprintf(stderr, "bench_bandwidth: %s\n", err.message);
        return 1;
    }
    job j = {.k = ctx->k, .block = tq_alloc(&ctx->mem, (size_t)FLOATS, sizeof(float)), .fill = true};
    if (!j.block) {
        fprintf(stderr, "bench_bandwidth: out of memory\n");
        tq_ctx_free(ctx);
        return 1;
    }
    tq_pool_run(ctx->pool, read_share, &j);
    j.fill = false;
    double least = 1e30;
    for (int i = 0; i < 8; i++) {
        double start = tq_now();
        tq_pool_run(ctx->pool, read_share, &j);
        double seconds = tq_now() - start;
        least = seconds < least ? seconds : least;
    }
    bool right = j.found[0] == 255.0f;
    if (right)
        printf("{\"gb_per_second\": %.3f, \"threads\": %d}\n", 4e-9 * (double)FLOATS / least,
               tq_pool_threads(ctx->pool));
    else
        fprintf(stderr, "bench_bandwidth: the maximum read is %g, not 255\n", (double)j.found[0]);
    tq_free(&ctx->mem, j.block);
    tq_ctx_free(ctx);
    return !right;
}
