/* Generation: the loop around session, sampler and stop strings. See generate.h. */
#include "infer/generate.h"

#include <math.h>

#include "base/clock.h"
#include "infer/stop.h"

const char *tq_finish_name(tq_finish finish) {
    static const char *const names[] = {"stop", "length", "canceled"};
    return names[finish];
}

void tq_generated_init(tq_generated *g, tq_mem *mem) {
    *g = (tq_generated){.tokens.mem = mem};
    tq_buf_init(&g->text, mem, SIZE_MAX / 2);
}

void tq_generated_clear(tq_generated *g) {
    tq_buf_clear(&g->text);
    tq_tokens_clear(&g->tokens);
}

/* What lives as long as one answer. */
typedef struct answer {
    tq_session *session;
    const tq_tokenizer *tok;
    const tq_generate_options *o;
    tq_generated *g;
    tq_sampler *sampler;
    tq_detok detok;
    tq_stop stop;
    tq_buf piece; /* characters that became whole */
    bool canceled;
} answer;

/* A sampler whose bias also bans the end tokens if they are to be ignored. */
static toque_status make_sampler(answer *a, const tq_sampling *sampling, toque_error *err) {
    tq_model *model = tq_session_model(a->session);
    tq_mem *mem = &model->ctx->mem;
    tq_sampling with_bans = *sampling;
    tq_logit_bias *bias = NULL;
    if (a->o->ignore_eos) {
        size_t n = 0, most = sampling->n_bias;
        for (tq_token t = 0; t < model->config.V; t++) most += tq_tokenizer_is_end(a->tok, t);
        bias = tq_alloc(mem, most, sizeof *bias);
        if (!bias) return TQ_NOMEM(err);
        for (; n < sampling->n_bias; n++) bias[n] = sampling->bias[n];
        for (tq_token t = 0; t < model->config.V; t++)
            if (tq_tokenizer_is_end(a->tok, t)) bias[n++] = (tq_logit_bias){t, -INFINITY};
        with_bans.bias = bias;
        with_bans.n_bias = n;
    }
    toque_status status = tq_sampler_new(&a->sampler, mem, model->ctx->k, &with_bans, model->config.V, err);
    tq_free(mem, bias);
    return status;
}

/* Passes what can be shown to the caller. */
static bool show(answer *a, size_t from) {
    tq_buf *text = &a->g->text;
    if (text->len == from || !a->o->on_text) return true;
    return a->o->on_text(a->o->arg, text->data + from, text->len - from);
}

static toque_status take_text(answer *a, tq_token token, toque_error *err) {
    size_t from = a->g->text.len;
    tq_buf_reset(&a->piece);
    if (!tq_detok_feed(&a->detok, token, &a->piece) ||
        !tq_stop_feed(&a->stop, a->piece.data, a->piece.len, &a->g->text))
        return TQ_NOMEM(err);
    if (!show(a, from)) a->canceled = true;
    return TOQUE_OK;
}

/* The end: bytes that never became a character, and what was held back. */
static toque_status finish_text(answer *a, toque_error *err) {
    size_t from = a->g->text.len;
    tq_buf_reset(&a->piece);
    if (!tq_detok_finish(&a->detok, &a->piece) || !tq_stop_feed(&a->stop, a->piece.data, a->piece.len, &a->g->text) ||
        !tq_stop_finish(&a->stop, &a->g->text))
        return TQ_NOMEM(err);
    if (a->stop.met) a->g->finish = TQ_FINISH_STOP;
    show(a, from); /* it is the end anyway */
    return TOQUE_OK;
}

/* Draws until something ends the answer, and says what. */
static toque_status draw_all(answer *a, int most, toque_error *err) {
    tq_generated *g = a->g;
    tq_session *s = a->session;
    g->finish = TQ_FINISH_LENGTH;
    while ((int)g->tokens.len < most) {
        if (a->canceled || atomic_load(&tq_session_model(s)->ctx->canceled)) {
            g->finish = TQ_FINISH_CANCELED;
            return TOQUE_OK;
        }
        double logp;
        int length = tq_session_length(s);
        tq_token token = tq_sampler_draw(a->sampler, tq_session_logits(s), tq_session_tokens(s), (size_t)length,
                                         a->o->stream, (uint32_t)length, &logp);
        if (token == TQ_NO_TOKEN)
            return TQ_FAIL(err, ENONFINITE,
                           "no token can be drawn at position %d: every one is banned, or the logits are "
                           "not finite (check the model file, adapters and --logit-bias)",
                           length);
        g->tokens.ids[g->tokens.len++] = token;
        g->logprob += logp;
        if (tq_tokenizer_is_end(a->tok, token)) {
            g->finish = TQ_FINISH_STOP;
            return TOQUE_OK;
        }
        TQ_TRY(take_text(a, token, err));
        if (a->stop.met) return TOQUE_OK;
        if ((int)g->tokens.len < most) TQ_TRY(tq_session_decode(s, token, err));
    }
    return TOQUE_OK;
}

/* How many tokens the answer may have. The last one drawn needs no place in the cache. */
static toque_status find_room(const answer *a, int n, const tq_hats *hats, int *most, toque_error *err) {
    int context = tq_session_context(a->session, hats), room = context - n + 1;
    *most = a->o->max_tokens;
    if (n <= context && *most > room)
        return TQ_FAIL(err, ELIMIT,
                       "a prompt of %d tokens and an answer of up to %d do not fit the context of %d; lower -n, "
                       "shorten the prompt, or take a larger context (the model allows %d)",
                       n, *most, context, tq_model_context(tq_session_model(a->session), hats));
    if (*most == 0) *most = room;
    return TOQUE_OK;
}

toque_status tq_generate(tq_session *s, const tq_token *prompt, int n, const tq_hats *hats, const tq_sampling *sampling,
                         const tq_generate_options *o, tq_generated *g, toque_error *err) {
    tq_model *model = tq_session_model(s);
    tq_mem *mem = &model->ctx->mem;
    answer a = {.session = s, .tok = model->tokenizer, .o = o, .g = g};
    tq_detok_init(&a.detok, a.tok, mem, false);
    a.detok.first = false; /* the answer continues a text: its first space stays */
    tq_stop_init(&a.stop, mem, o->stop, o->n_stop);
    tq_buf_init(&a.piece, mem, SIZE_MAX / 2);
    toque_status status;
    double start = tq_now();
    int most;
    TQ_GO(find_room(&a, n, hats, &most, err));
    TQ_GO(make_sampler(&a, sampling, err));
    tq_token *ids = tq_realloc(mem, g->tokens.ids, (size_t)(most > 0 ? most : 1), sizeof *ids);
    if (!ids) {
        status = TQ_NOMEM(err);
        goto done;
    }
    g->tokens.ids = ids;
    g->tokens.cap = (size_t)(most > 0 ? most : 1);
    g->tokens.len = 0;
    g->prompt_tokens = n;
    status = tq_session_sync(s, prompt, n, hats, o->prefill_only, err);
    g->prompt_seconds = tq_now() - start;
    g->reused = tq_session_reused(s);
    if (status == TOQUE_ECANCELED) {
        g->finish = TQ_FINISH_CANCELED;
        status = TOQUE_OK;
        goto done;
    }
    if (status != TOQUE_OK) goto done;
    start = tq_now();
    TQ_GO(draw_all(&a, most, err));
    TQ_GO(finish_text(&a, err));
    g->completion_seconds = tq_now() - start;
done:
    tq_sampler_free(a.sampler);
    tq_detok_clear(&a.detok);
    tq_stop_clear(&a.stop);
    tq_buf_clear(&a.piece);
    return status;
}
