/* What a training of vectors does besides: how texts are pooled, and how well held-out queries find their passages. */
#include "train/tune_pairs.h"

#include "train/trainer_pairs.h"

toque_status tq_tune_choose_pooling(tq_tune *t, toque_error *err) {
    static const tq_pooling asked[] = {
        [TQ_READ_LAST] = TQ_POOLING_LAST, [TQ_READ_FIRST] = TQ_POOLING_CLS, [TQ_READ_MEAN] = TQ_POOLING_MEAN};
    const tq_config *c = &t->model->config;
    tq_recipe *r = t->recipe;
    const tq_pooling old = t->adapter ? t->adapter->embeds : TQ_POOLING_NONE;
    if (r->pooling - 1 == TQ_READ_POOLER)
        return TQ_FAIL(err, EINVAL, "pooling pooler is for heads: objective contrastive has mean, first and last");
    t->pooling = r->pooling ? asked[r->pooling - 1] : old ? old : c->pooling;
    if (old && t->pooling != old)
        return TQ_FAIL(err, EINVAL, "pooling is %s, but init_adapter %s has %s: leave pooling out",
                       tq_read_name(tq_pooling_read(t->pooling)), t->adapter->name, tq_read_name(tq_pooling_read(old)));
    if (r->pooling) return TOQUE_OK;
    const tq_read read = tq_pooling_read(t->pooling);
    r->pooling = (int)read + 1;
    tq_buf_printf(&t->notes, "pooling %s: %s\n", tq_read_name(read),
                  old         ? "that of init_adapter"
                  : c->embeds ? "as the model's files embed texts"
                              : "a text's last token has seen all of it");
    return TOQUE_OK;
}

/* Ranks of the held-out queries by the vectors of all held-out texts. */
static toque_status rank(tq_tune *t, size_t n, const float *vectors, toque_error *err) {
    tq_mem *mem = &t->ctx->mem;
    int *part = TQ_NEW_ARRAY(mem, int, n);
    uint64_t *id = TQ_NEW_ARRAY(mem, uint64_t, n);
    toque_status status = part && id ? TOQUE_OK : TQ_NOMEM(err);
    size_t at = 0;
    for (size_t i = 0; status == TOQUE_OK && i < t->held_out.n; i++) {
        const tq_example *e = &t->held_out.examples[i];
        const tq_token *tokens = e->tokens;
        for (int p = 0; p < e->n_parts; tokens += e->parts[p++], at++) {
            part[at] = p;
            id[at] = tq_tokens_id(tokens, e->parts[p]);
        }
    }
    if (status == TOQUE_OK)
        status = tq_ranking_make(&t->ranking, t->ctx, t->model->config.C, n, vectors, part, id, err);
    tq_free(mem, part);
    tq_free(mem, id);
    return status;
}

toque_status tq_tune_pairs_evaluate(tq_tune *t, double *loss, int64_t *targets, toque_error *err) {
    tq_mem *mem = &t->ctx->mem;
    size_t n = 0;
    for (size_t i = 0; i < t->held_out.n; i++) n += (size_t)t->held_out.examples[i].n_parts;
    float *vectors = tq_alloc(mem, n * (size_t)t->model->config.C, sizeof *vectors);
    if (!vectors) return TQ_NOMEM(err);
    toque_status status = tq_trainer_evaluate_pairs(&t->trainer, &t->held_out, loss, targets, vectors, err);
    if (status == TOQUE_OK) status = rank(t, n, vectors, err);
    tq_free(mem, vectors);
    return status;
}
