/* Prompt tuning (Lester, Al-Rfou & Constant 2021, "The Power of Scale for Parameter-Efficient Prompt Tuning"): n
 * virtual tokens stand before each sequence, and what the embedding would give for them is trained. They are rows of
 * every pass like other tokens, with positions 0 to n - 1, seen by all that follows, and nothing is predicted of them.
 * In files one table [n, C], as PEFT's. The values begin as those of tokens: of a text, over and over, or by chance.
 * The arithmetic is op_embed.c's; who lays out a sequence puts its rows first (tq_row_token). */
#include <string.h>

#include "model/peft.h"

static size_t prompt_cols(const tq_model *m) {
    return (size_t)m->config.C;
}

static void embed(const tq_adapter *a, int row, int32_t token) {
    const tq_model *m = a->model;
    const tq_weight *E = &m->embedding;
    float *x = a->values + (int64_t)row * m->config.C;
    m->ctx->k->dequant_row[E->type](x, (const char *)E->data + (size_t)token * E->row_bytes, E->cols);
    if (m->config.embedding_scale != 1) m->ctx->k->scale(x, m->config.embedding_scale, E->cols);
}

toque_status tq_prompt_tokens(const tq_model *m, const char *text, tq_tokens *tokens, toque_error *err) {
    TQ_TRY(tq_tokenize(m->tokenizer, text, strlen(text), false, false, tokens, err));
    if (!tokens->len) return TQ_FAIL(err, EINVAL, "prompt_init_text has no tokens: give it some text, or leave it out");
    return TOQUE_OK;
}

static toque_status prompt_init(tq_adapter *a, const tq_adapter_options *o, toque_error *err) {
    const int n = a->table.n;
    tq_tokens tokens = {.mem = &a->model->ctx->mem};
    toque_status status = TOQUE_OK;
    if (o->prompt_init_text) TQ_GO(tq_prompt_tokens(a->model, o->prompt_init_text, &tokens, err));
    if (tokens.len > (size_t)n)
        TQ_GO(TQ_FAIL(err, EINVAL,
                      "prompt_init_text has %zu tokens, but virtual_tokens is %d: leave virtual_tokens out, or shorten "
                      "the text",
                      tokens.len, n));
    tq_rng rng;
    tq_rng_init(&rng, o->seed, TQ_RNG_INIT, 0, 3);
    for (int i = 0; i < n; i++)
        embed(a, i,
              tokens.len ? tokens.ids[(size_t)i % tokens.len]
                         : (int32_t)tq_rng_below(&rng, (uint32_t)a->model->config.V));
done:
    tq_tokens_clear(&tokens);
    return status;
}

const tq_peft tq_peft_prompt = {
    .name = "prompt",
    .peft_type = "PROMPT_TUNING",
    .help = "virtual tokens that stand before every sequence, at the embedding",
    .keys = "virtual_tokens prompt_init_text",
    .decoders = true,
    .lr_small = 3e-2,
    .lr_large = 3e-2,
    .is_prompt = true,
    .table_cols = prompt_cols,
    .init_table = prompt_init,
};
