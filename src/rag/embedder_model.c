/* An encoder as embedder. See embedder_model.h. Vectors are brought to length 1 where the model's files do not ask for
 * it: search compares by cosine. */
#include "rag/embedder_model.h"

#include <math.h>
#include <string.h>

#include "infer/embed.h"

enum { BATCH = 256 };

struct tq_rag_model {
    tq_rag_embedder e;
    tq_ctx *ctx;
    tq_model *model;
    tq_embedder *embedder;
    tq_tokens tokens;
    char *name, *query_prefix, *passage_prefix;
    tq_buf last; /* the text that was embedded alone last, and its vector: a question is searched, then compared */
    float *last_vector;
};

static toque_status compute(void *self, const char *const *texts, const size_t *lengths, size_t n, float *out,
                            toque_error *err) {
    tq_rag_model *m = self;
    const tq_kernels *k = m->ctx->k;
    int64_t dim = m->e.dim;
    for (size_t at = 0; at < n; at += BATCH) {
        tq_string list[BATCH];
        size_t count = n - at < BATCH ? n - at : BATCH;
        for (size_t i = 0; i < count; i++) list[i] = (tq_string){texts[at + i], lengths[at + i]};
        TQ_TRY(tq_embed(m->embedder, list, count, false, out + (int64_t)at * dim, NULL, err));
    }
    for (size_t i = 0; i < n && !m->model->config.normalize; i++) {
        float squares = k->sum_squares(out + (int64_t)i * dim, dim);
        if (squares > 0) k->scale(out + (int64_t)i * dim, 1 / sqrtf(squares), dim);
    }
    return TOQUE_OK;
}

static toque_status embed(void *self, const char *const *texts, const size_t *lengths, size_t n, float *out,
                          toque_error *err) {
    tq_rag_model *m = self;
    size_t bytes = (size_t)m->e.dim * sizeof *out;
    if (n != 1) return compute(self, texts, lengths, n, out, err);
    if (lengths[0] && m->last.len == lengths[0] && memcmp(m->last.data, texts[0], lengths[0]) == 0) {
        memcpy(out, m->last_vector, bytes);
        return TOQUE_OK;
    }
    TQ_TRY(compute(self, texts, lengths, n, out, err));
    tq_buf_reset(&m->last);
    if (!tq_buf_put(&m->last, texts[0], lengths[0])) tq_buf_reset(&m->last);
    memcpy(m->last_vector, out, bytes);
    return TOQUE_OK;
}

static toque_status tokenize(void *self, const char *text, size_t n, tq_ends *ends, toque_error *err) {
    tq_rag_model *m = self;
    m->tokens.len = 0;
    TQ_TRY(tq_tokenize(m->model->tokenizer, text, n, false, false, &m->tokens, err));
    uint32_t last = 0;
    for (size_t i = 0; i < m->tokens.len; i++) {
        if (!TQ_GROW(ends->mem, ends->at, ends->len, ends->cap)) return TQ_NOMEM(err);
        last = m->tokens.end[i] > last ? m->tokens.end[i] : last;
        ends->at[ends->len++] = last;
    }
    return TOQUE_OK;
}

static toque_status prepare(tq_rag_model *m, toque_error *err) {
    static const char *const pooling[] = {"none", "mean", "cls"};
    TQ_TRY(tq_embedder_new(&m->embedder, m->model, NULL, err));
    TQ_TRY(tq_tokenize(m->model->tokenizer, "", 0, true, false, &m->tokens, err));
    const char *hash = tq_model_hash(m->model);
    if (!hash || !m->name || !m->query_prefix || !m->passage_prefix) return TQ_NOMEM(err);
    m->e = (tq_rag_embedder){.self = m,
                             .name = m->name,
                             .hash = hash,
                             .pooling = pooling[m->model->config.pooling],
                             .query_prefix = m->query_prefix,
                             .passage_prefix = m->passage_prefix,
                             .dim = tq_embedder_dim(m->embedder),
                             .max_tokens = tq_embedder_max_tokens(m->embedder) - (int)m->tokens.len,
                             .embed = embed,
                             .tokenize = tokenize};
    m->last_vector = tq_alloc(&m->ctx->mem, (size_t)m->e.dim, sizeof *m->last_vector);
    return m->last_vector ? TOQUE_OK : TQ_NOMEM(err);
}

toque_status tq_rag_model_open(tq_rag_model **model, tq_ctx *ctx, const char *path, const char *name,
                               const char *query_prefix, const char *passage_prefix, toque_error *err) {
    tq_mem *mem = &ctx->mem;
    *model = NULL;
    tq_rag_model *m = TQ_NEW(mem, tq_rag_model);
    if (!m) return TQ_NOMEM(err);
    m->ctx = ctx;
    m->tokens = (tq_tokens){.mem = mem, .want_offsets = true};
    tq_buf_init(&m->last, mem, 1 << 16);
    m->name = tq_strdup(mem, name);
    m->query_prefix = tq_strdup(mem, query_prefix);
    m->passage_prefix = tq_strdup(mem, passage_prefix);
    toque_status status = tq_model_open(&m->model, ctx, path, err);
    if (status == TOQUE_OK) status = prepare(m, err);
    if (status == TOQUE_OK)
        *model = m;
    else
        tq_rag_model_close(m);
    return status;
}

void tq_rag_model_close(tq_rag_model *m) {
    if (!m) return;
    tq_mem *mem = &m->ctx->mem;
    tq_embedder_free(m->embedder);
    tq_model_close(m->model);
    tq_tokens_clear(&m->tokens);
    tq_free(mem, m->name);
    tq_free(mem, m->query_prefix);
    tq_free(mem, m->passage_prefix);
    tq_buf_clear(&m->last);
    tq_free(mem, m->last_vector);
    tq_free(mem, m);
}

const tq_rag_embedder *tq_rag_model_embedder(const tq_rag_model *m) {
    return &m->e;
}
