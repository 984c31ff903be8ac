/* A sequence's keys and values. */
#include "model/model.h"

toque_status tq_kv_new(tq_kv **result, tq_model *model, int capacity, toque_error *err) {
    *result = NULL;
    const tq_config *c = &model->config;
    TQ_TRY(tq_model_need_head(model, "a cache of a conversation", err));
    if (capacity < 1 || capacity > c->context)
        return TQ_FAIL(err, ELIMIT, "a context of %d tokens was asked for; this model's is %d at most", capacity,
                       c->context);
    tq_kv *kv = TQ_NEW(&model->ctx->mem, tq_kv);
    if (!kv) return TQ_NOMEM(err);
    *kv = (tq_kv){.type = model->ctx->compute == TQ_COMPUTE_F32 && !model->ctx->int8 ? TQ_F32 : TQ_F16,
                  .capacity = capacity,
                  .heads = c->G,
                  .width = c->D,
                  .n_layers = c->L};
    size_t tokens = (size_t)c->L * 2 * (size_t)capacity;
    kv->data = tq_zalloc(&model->ctx->mem, tokens, (size_t)c->G * (size_t)c->D * (kv->type == TQ_F16 ? 2 : 4));
    if (!kv->data) {
        tq_free(&model->ctx->mem, kv);
        return tq_fail(err, TOQUE_ENOMEM, "no memory for a context of %d tokens (use a smaller --context)", capacity);
    }
    *result = kv;
    return TOQUE_OK;
}

void tq_kv_free(tq_model *model, tq_kv *kv) {
    if (!kv) return;
    tq_free(&model->ctx->mem, kv->data);
    tq_free(&model->ctx->mem, kv);
}
