/* The context: what every handle hangs on instead of global state: memory, threads, kernels, log. */
#ifndef TQ_KERNELS_CONTEXT_H
#define TQ_KERNELS_CONTEXT_H

#include "base/mem.h"
#include "base/pool.h"
#include "kernels/kernels.h"

typedef enum tq_level { TQ_INFO, TQ_WARNING } tq_level;
typedef void tq_log_fn(void *arg, tq_level level, const char *line);

struct toque_ctx {
    tq_mem mem;
    tq_pool *pool;
    const tq_kernels *k;
    tq_compute compute;   /* products of prefill, scoring and training */
    bool int8;            /* decode may use int8 activations */
    atomic_bool canceled; /* set by a signal handler; long work looks at it between steps */
    tq_log_fn *log;
    void *log_arg;
};
typedef struct toque_ctx tq_ctx;

/* threads 0 = default; memory_limit 0 = none; compute "auto", "f32", "bf16" or "int8" (DESIGN: Numbers). */
toque_status tq_ctx_new(tq_ctx **ctx, int threads, size_t memory_limit, const char *compute, toque_error *err) TQ_MUST;
void tq_ctx_free(tq_ctx *ctx);
void tq_log(tq_ctx *ctx, tq_level level, const char *format, ...) TQ_PRINTF(3, 4);

#endif
