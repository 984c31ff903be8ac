/* Embedding by packed passes: see embed.h. */
#include "infer/embed.h"

#include <math.h>
#include <string.h>

#include "model/adapter.h"
#include "text/unicode.h"

enum { PASS_ROWS = 1024, PASS_SEGMENTS = 256 };

struct tq_embedder {
    tq_model *model;
    tq_machine *machine;
    int max_rows;
    tq_tokens list;                     /* of one text */
    tq_segment segments[PASS_SEGMENTS]; /* of the pass that is being filled */
    float *target[PASS_SEGMENTS];       /* where each one's vector goes */
    int n_segments, rows;
    tq_token *tokens; /* [max_rows] */
    float *vectors;   /* [PASS_SEGMENTS, C] of a pass */
    const tq_hats *hats;
    tq_read read;
    bool normalize;
};

/* How vectors are made: as a hat that was tuned to embed says, else as the model's files do. */
static toque_status choose(tq_embedder *e, const tq_hats *hats, toque_error *err) {
    const tq_config *c = &e->model->config;
    tq_pooling pooling = c->embeds ? c->pooling : TQ_POOLING_NONE;
    e->hats = hats;
    e->normalize = c->normalize;
    for (int i = 0; hats && i < hats->n; i++) {
        const tq_adapter *a = hats->items[i].adapter;
        if (!a->embeds) continue;
        pooling = a->embeds;
        e->normalize = true;
    }
    e->read = tq_pooling_read(pooling);
    if (pooling) return TOQUE_OK;
    return TQ_FAIL(err, EUNSUPPORTED,
                   "%s is a %s model that was not made to embed texts: take an encoder (architecture bert, as "
                   "all-MiniLM-L6-v2), or an adapter that was tuned with objective contrastive",
                   tq_gguf_path(e->model->gguf), c->arch->name);
}

toque_status tq_embedder_new(tq_embedder **result, tq_model *model, const tq_hats *hats, toque_error *err) {
    *result = NULL;
    const tq_config *c = &model->config;
    tq_mem *mem = &model->ctx->mem;
    tq_embedder *e = TQ_NEW(mem, tq_embedder);
    if (!e) return TQ_NOMEM(err);
    e->model = model;
    e->list.mem = mem;
    e->max_rows = c->embed_max > PASS_ROWS ? c->embed_max : PASS_ROWS;
    e->tokens = TQ_NEW_ARRAY(mem, tq_token, e->max_rows);
    e->vectors = tq_alloc(mem, (size_t)PASS_SEGMENTS * (size_t)c->C, sizeof *e->vectors);
    tq_plan plan = {.max_rows = e->max_rows};
    for (int i = 0; hats && i < hats->n; i++)
        if (hats->items[i].adapter->max_rank > plan.max_rank) plan.max_rank = hats->items[i].adapter->max_rank;
    toque_status status = e->tokens && e->vectors ? choose(e, hats, err) : TQ_NOMEM(err);
    if (status == TOQUE_OK) status = tq_machine_new(&e->machine, model, &plan, err);
    if (status != TOQUE_OK) {
        tq_embedder_free(e);
        return status;
    }
    *result = e;
    return TOQUE_OK;
}

void tq_embedder_free(tq_embedder *e) {
    if (!e) return;
    tq_mem *mem = &e->model->ctx->mem;
    tq_machine_free(e->machine);
    tq_tokens_clear(&e->list);
    tq_free(mem, e->tokens);
    tq_free(mem, e->vectors);
    tq_free(mem, e);
}

int tq_embedder_dim(const tq_embedder *e) {
    return e->model->config.C;
}

int tq_embedder_max_tokens(const tq_embedder *e) {
    return e->model->config.embed_max;
}

static toque_status hand_out(const tq_embedder *e, const float *vector, float *out, toque_error *err) {
    const int C = e->model->config.C;
    const tq_kernels *k = e->model->ctx->k;
    memcpy(out, vector, (size_t)C * sizeof *out);
    float squares = k->sum_squares(out, C);
    if (!isfinite(squares)) return TQ_FAIL(err, ENONFINITE, "an embedding is not finite (check the model file)");
    if (e->normalize && squares > 0) k->scale(out, 1 / sqrtf(squares), C);
    return TOQUE_OK;
}

/* Runs the pass that was filled and hands out its vectors. */
static toque_status flush(tq_embedder *e, toque_error *err) {
    if (e->rows == 0) return TOQUE_OK;
    if (atomic_load(&e->model->ctx->canceled)) return TQ_FAIL(err, ECANCELED, "canceled while embedding");
    tq_pass pass = {.kind = TQ_PASS_PREFILL,
                    .tokens = e->tokens,
                    .T = e->rows,
                    .segments = e->segments,
                    .n_segments = e->n_segments};
    TQ_TRY(tq_machine_forward(e->machine, &pass, err));
    tq_machine_read(e->machine, e->read, e->vectors);
    for (int s = 0; s < e->n_segments; s++)
        TQ_TRY(hand_out(e, e->vectors + (int64_t)s * e->model->config.C, e->target[s], err));
    e->rows = e->n_segments = 0;
    return TOQUE_OK;
}

/* The text's tokens in e->list, at most as many as the model takes. */
static toque_status tokenize(tq_embedder *e, tq_string text, size_t number, bool truncate, tq_embed_stats *stats,
                             toque_error *err) {
    const tq_tokenizer *tok = e->model->tokenizer;
    size_t most = (size_t)e->model->config.embed_max;
    if (tq_utf8_valid_prefix(text.data, text.len) != text.len)
        return TQ_FAIL(err, EINVAL, "text %zu is not UTF-8", number);
    e->list.len = 0;
    TQ_TRY(tq_tokenize(tok, text.data, text.len, true, false, &e->list, err));
    if (e->list.len > most) {
        if (!truncate)
            return TQ_FAIL(err, ELIMIT, "text %zu has %zu tokens; this model takes %zu: shorten it or truncate", number,
                           e->list.len, most);
        stats->truncated++;
        if (tq_tokenizer_add_eos(tok)) e->list.ids[most - 1] = e->list.ids[e->list.len - 1];
        e->list.len = most;
    }
    if (e->list.len == 0) return TQ_FAIL(err, EINVAL, "text %zu has no tokens", number);
    stats->tokens += e->list.len;
    return TOQUE_OK;
}

toque_status tq_embed(tq_embedder *e, const tq_string *texts, size_t n, bool truncate, float *out,
                      tq_embed_stats *stats, toque_error *err) {
    tq_embed_stats own = {0};
    if (!stats) stats = &own;
    e->rows = e->n_segments = 0;
    for (size_t i = 0; i < n; i++) {
        TQ_TRY(tokenize(e, texts[i], i + 1, truncate, stats, err));
        int rows = (int)e->list.len;
        if (e->rows + rows > e->max_rows || e->n_segments == PASS_SEGMENTS) TQ_TRY(flush(e, err));
        e->target[e->n_segments] = out + i * (size_t)e->model->config.C;
        e->segments[e->n_segments++] = (tq_segment){.row = e->rows, .n = rows, .hats = e->hats};
        memcpy(e->tokens + e->rows, e->list.ids, e->list.len * sizeof *e->tokens);
        e->rows += rows;
    }
    return flush(e, err);
}
