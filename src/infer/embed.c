/* Embedding by packed passes: see embed.h. */
#include "infer/embed.h"

#include <math.h>
#include <string.h>

#include "text/unicode.h"

enum { PASS_ROWS = 512, PASS_SEGMENTS = 256 };

struct tq_embedder {
    tq_model *model;
    tq_machine *machine;
    int max_rows;
    tq_tokens list;                     /* of one text */
    tq_segment segments[PASS_SEGMENTS]; /* of the pass that is being filled */
    float *target[PASS_SEGMENTS];       /* where each one's vector goes */
    int n_segments, rows;
    tq_token *tokens; /* [max_rows] */
    int *listed;      /* [max_rows] rows whose values are wanted */
    float *hidden;    /* [max_rows, C] */
};

toque_status tq_embedder_new(tq_embedder **result, tq_model *model, toque_error *err) {
    *result = NULL;
    const tq_config *c = &model->config;
    if (!(c->arch->flags & TQ_ARCH_ENCODER))
        return TQ_FAIL(err, EUNSUPPORTED,
                       "%s is a %s model; texts are embedded by encoders (architecture bert, as all-MiniLM-L6-v2)",
                       tq_gguf_path(model->gguf), c->arch->name);
    tq_mem *mem = &model->ctx->mem;
    tq_embedder *e = TQ_NEW(mem, tq_embedder);
    if (!e) return TQ_NOMEM(err);
    e->model = model;
    e->list.mem = mem;
    e->max_rows = c->embed_max > PASS_ROWS ? c->embed_max : PASS_ROWS;
    e->tokens = TQ_NEW_ARRAY(mem, tq_token, e->max_rows);
    e->listed = TQ_NEW_ARRAY(mem, int, e->max_rows);
    e->hidden = tq_alloc(mem, (size_t)e->max_rows * (size_t)c->C, sizeof *e->hidden);
    tq_plan plan = {.max_rows = e->max_rows, .head_rows = e->max_rows};
    toque_status status =
        e->tokens && e->listed && e->hidden ? tq_machine_new(&e->machine, model, &plan, err) : TQ_NOMEM(err);
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
    tq_free(mem, e->listed);
    tq_free(mem, e->hidden);
    tq_free(mem, e);
}

int tq_embedder_dim(const tq_embedder *e) {
    return e->model->config.C;
}

int tq_embedder_max_tokens(const tq_embedder *e) {
    return e->model->config.embed_max;
}

/* One text's vector from its rows [n, C]. */
static toque_status pool(const tq_embedder *e, const float *rows, int n, float *out, toque_error *err) {
    const tq_config *c = &e->model->config;
    const tq_kernels *k = e->model->ctx->k;
    memcpy(out, rows, (size_t)c->C * sizeof *out);
    if (c->pooling == TQ_POOLING_MEAN) {
        for (int t = 1; t < n; t++) k->add(out, out, rows + (int64_t)t * c->C, c->C);
        k->scale(out, 1 / (float)n, c->C);
    }
    float squares = k->sum_squares(out, c->C);
    if (!isfinite(squares)) return TQ_FAIL(err, ENONFINITE, "an embedding is not finite (check the model file)");
    if (c->normalize && squares > 0) k->scale(out, 1 / sqrtf(squares), c->C);
    return TOQUE_OK;
}

/* Runs the pass that was filled and hands out its vectors. */
static toque_status flush(tq_embedder *e, toque_error *err) {
    if (e->rows == 0) return TOQUE_OK;
    if (atomic_load(&e->model->ctx->canceled)) return TQ_FAIL(err, ECANCELED, "canceled while embedding");
    const tq_config *c = &e->model->config;
    tq_pass pass = {.kind = TQ_PASS_PREFILL,
                    .tokens = e->tokens,
                    .T = e->rows,
                    .segments = e->segments,
                    .n_segments = e->n_segments};
    TQ_TRY(tq_machine_forward(e->machine, &pass, err));
    int n = 0;
    for (int s = 0; s < e->n_segments; s++) {
        const tq_segment *segment = &e->segments[s];
        int wanted = c->pooling == TQ_POOLING_CLS ? 1 : segment->n;
        for (int i = 0; i < wanted; i++) e->listed[n++] = segment->row + i;
    }
    tq_machine_hidden(e->machine, e->listed, n, e->hidden);
    const float *rows = e->hidden;
    for (int s = 0; s < e->n_segments; s++) {
        int wanted = c->pooling == TQ_POOLING_CLS ? 1 : e->segments[s].n;
        TQ_TRY(pool(e, rows, wanted, e->target[s], err));
        rows += (int64_t)wanted * c->C;
    }
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
        e->segments[e->n_segments++] = (tq_segment){.row = e->rows, .n = rows};
        memcpy(e->tokens + e->rows, e->list.ids, e->list.len * sizeof *e->tokens);
        e->rows += rows;
    }
    return flush(e, err);
}
