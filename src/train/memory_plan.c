/* The memory of a training. See memory_plan.h. */
#include "train/memory_plan.h"

#include "model/peft.h"

static double mb(size_t bytes) {
    return (double)bytes / 1e6;
}

size_t tq_memory_plan_total(const tq_memory_plan *p) {
    return p->model_file + p->in_use + p->gradients + p->optimizer + p->best + p->activations;
}

toque_status tq_memory_plan_make(tq_memory_plan *p, const tq_adapter *a, const tq_optimizer *optimizer, bool ema,
                                 bool keep_best, size_t *activations, toque_error *err) {
    tq_ctx *ctx = a->model->ctx;
    size_t array = a->n * sizeof(float);
    /* What is trained whole has copies of its own: the file is not read again. */
    bool whole = a->kind == &tq_peft_full;
    *p = (tq_memory_plan){.model_file = whole ? 0 : (size_t)tq_gguf_file_bytes(a->model->gguf),
                          .in_use = atomic_load(&ctx->mem.used),
                          .gradients = array,
                          .optimizer = tq_trainer_state_bytes(a, optimizer) + (ema ? array : 0),
                          .best = keep_best ? array : 0,
                          .layers = a->model->config.L,
                          .limit = ctx->mem.limit};
    *activations = 0;
    size_t total = tq_memory_plan_total(p);
    if (!p->limit) return TOQUE_OK;
    if (total >= p->limit)
        return TQ_FAIL(
            err, ELIMIT,
            "%.0f MB are allowed, but this training needs %.0f MB before any activation (model file %.0f, "
            "in use %.0f, gradients %.0f, optimizer %.0f, best values %.0f): raise --max-memory or lower rank",
            mb(p->limit), mb(total), mb(p->model_file), mb(p->in_use), mb(p->gradients), mb(p->optimizer), mb(p->best));
    *activations = p->limit - total;
    return TOQUE_OK;
}

bool tq_memory_plan_print(const tq_memory_plan *p, tq_buf *out) {
    tq_buf_printf(out, "memory: %.0f MB", mb(tq_memory_plan_total(p)));
    if (p->limit) tq_buf_printf(out, " of %.0f allowed", mb(p->limit));
    tq_buf_printf(out, ": model file %.0f, activations %.0f (", mb(p->model_file), mb(p->activations));
    if (p->kept_layers == p->layers)
        tq_buf_printf(out, "all %d layers kept", p->layers);
    else
        tq_buf_printf(out, "%d of %d layers kept, the others computed again", p->kept_layers, p->layers);
    tq_buf_printf(out, "), gradients %.0f, optimizer %.0f, ", mb(p->gradients), mb(p->optimizer));
    if (p->best) tq_buf_printf(out, "best values %.0f, ", mb(p->best));
    return tq_buf_printf(out, "data, vocabulary and adapter %.0f", mb(p->in_use));
}
