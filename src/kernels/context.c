/* Making and freeing the context: kernels, threads, and what products are computed in. */
#include "kernels/context.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static toque_status resolve_compute(tq_ctx *ctx, const char *compute, toque_error *err) {
    if (!compute) compute = "auto";
    bool automatic = strcmp(compute, "auto") == 0, int8 = strcmp(compute, "int8") == 0;
    bool bf16 = strcmp(compute, "bf16") == 0;
    if (!automatic && !int8 && !bf16 && strcmp(compute, "f32") != 0)
        return TQ_FAIL(err, EINVAL, "compute must be auto, f32, bf16 or int8, not '%.40s'", compute);
    if (bf16 && !ctx->k->has_bf16) {
        return TQ_FAIL(
            err, EUNSUPPORTED,
            "compute bf16 needs a CPU with AVX512_BF16, and the instruction set in use is '%s'; use auto or f32",
            ctx->k->isa);
    }
    ctx->compute = bf16 || ((automatic || int8) && ctx->k->has_bf16) ? TQ_COMPUTE_BF16 : TQ_COMPUTE_F32;
    ctx->int8 = int8 || (automatic && ctx->k->has_int8);
    return TOQUE_OK;
}

toque_status tq_ctx_new(tq_ctx **result, int threads, size_t memory_limit, const char *compute, toque_error *err) {
    *result = NULL;
    /* The context holds the gateway, so it cannot itself come from it. */
    tq_mem mem;
    tq_mem_init(&mem, 0);
    tq_ctx *ctx = TQ_NEW(&mem, tq_ctx);
    if (!ctx) return TQ_NOMEM(err);
    tq_mem_init(&ctx->mem, memory_limit);
    toque_status status;
    TQ_GO(tq_kernels_select(&ctx->k, NULL, err));
    TQ_GO(resolve_compute(ctx, compute, err));
    TQ_GO(tq_pool_new(&ctx->pool, &ctx->mem, threads, err));
    *result = ctx;
    return TOQUE_OK;
done:
    tq_ctx_free(ctx);
    return status;
}

void tq_ctx_free(tq_ctx *ctx) {
    if (!ctx) return;
    tq_pool_free(ctx->pool);
    tq_mem mem;
    tq_mem_init(&mem, 0);
    tq_free(&mem, ctx);
}

void tq_log(tq_ctx *ctx, tq_level level, const char *format, ...) {
    if (!ctx->log) return;
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    ctx->log(ctx->log_arg, level, line);
}
