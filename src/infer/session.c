/* Sessions: which part of a sequence the cache already holds, and running the rest. See session.h. */
#include "infer/session.h"

#include <string.h>

struct tq_session {
    tq_model *model;
    tq_machine *machine;
    tq_kv *kv;
    tq_token *tokens; /* [context]; the first kv->length have entries in the cache */
    uint8_t *decoded; /* [context] 1: decode made this entry */
    tq_hat *worn;     /* a copy of the hats that made the entries */
    int n_worn, cap_worn;
    tq_hats hats;  /* over worn: segments compare by address */
    float *logits; /* [V] */
    int context;   /* tokens that fit, but for what a prompt takes of the model's own context */
    int before;    /* virtual tokens of the hats, which are the first entries */
    int max_rows, reused;
};

/* Room for `capacity` rows, of which none is filled. */
static toque_status make_room(tq_session *s, int capacity, toque_error *err) {
    tq_mem *mem = &s->model->ctx->mem;
    tq_kv_free(s->model, s->kv);
    s->kv = NULL;
    TQ_TRY(tq_kv_new(&s->kv, s->model, capacity, err));
    tq_token *tokens = tq_realloc(mem, s->tokens, (size_t)capacity, sizeof *tokens);
    if (tokens) s->tokens = tokens;
    uint8_t *decoded = tq_realloc(mem, s->decoded, (size_t)capacity, 1);
    if (decoded) s->decoded = decoded;
    return tokens && decoded ? TOQUE_OK : TQ_NOMEM(err);
}

toque_status tq_session_new(tq_session **result, tq_model *model, int context, int max_rank, toque_error *err) {
    *result = NULL;
    if (context == 0) context = model->config.context;
    tq_mem *mem = &model->ctx->mem;
    tq_session *s = TQ_NEW(mem, tq_session);
    if (!s) return TQ_NOMEM(err);
    s->model = model;
    toque_status status;
    s->context = context;
    TQ_GO(make_room(s, context, err));
    s->max_rows = context < TQ_PREFILL_ROWS ? context : TQ_PREFILL_ROWS;
    tq_plan plan = {.max_rows = s->max_rows, .max_rank = max_rank};
    TQ_GO(tq_machine_new(&s->machine, model, &plan, err));
    s->logits = tq_alloc(mem, (size_t)model->config.V, sizeof *s->logits);
    if (!s->logits) status = TQ_NOMEM(err);
done:
    if (status != TOQUE_OK) {
        tq_session_free(s);
        return status;
    }
    *result = s;
    return TOQUE_OK;
}

void tq_session_free(tq_session *s) {
    if (!s) return;
    tq_model *model = s->model;
    tq_mem *mem = &model->ctx->mem;
    tq_machine_free(s->machine);
    tq_kv_free(model, s->kv);
    tq_free(mem, s->tokens);
    tq_free(mem, s->decoded);
    tq_free(mem, s->worn);
    tq_free(mem, s->logits);
    tq_free(mem, s);
}

int tq_session_context(const tq_session *s, const tq_hats *hats) {
    int most = tq_model_context(s->model, hats);
    return s->context < most ? s->context : most;
}

int tq_session_length(const tq_session *s) {
    return s->kv && s->kv->length > s->before ? s->kv->length - s->before : 0;
}

const tq_token *tq_session_tokens(const tq_session *s) {
    return s->tokens + s->before;
}

int tq_session_reused(const tq_session *s) {
    return s->reused;
}

tq_model *tq_session_model(const tq_session *s) {
    return s->model;
}

const float *tq_session_logits(const tq_session *s) {
    return s->logits;
}

void tq_session_reset(tq_session *s) {
    if (s->kv) s->kv->length = 0;
    s->n_worn = s->before = 0;
    s->hats = (tq_hats){0};
}

static bool same_hats(const tq_session *s, const tq_hats *hats) {
    int n = hats ? hats->n : 0;
    if (n != s->n_worn) return false;
    for (int i = 0; i < n; i++)
        if (hats->items[i].adapter != s->worn[i].adapter || hats->items[i].scale != s->worn[i].scale) return false;
    return true;
}

/* Takes other hats, which makes every entry worthless; a prompt's rows are kept beside the tokens that fit. */
static toque_status wear(tq_session *s, const tq_hats *hats, toque_error *err) {
    if (s->kv && same_hats(s, hats)) return TOQUE_OK;
    tq_session_reset(s);
    int before = tq_hats_before_tokens(hats), rows = before + tq_session_context(s, hats);
    if (!s->kv || s->kv->capacity < rows) TQ_TRY(make_room(s, rows, err));
    int n = hats ? hats->n : 0;
    if (n > s->cap_worn) {
        tq_hat *worn = tq_realloc(&s->model->ctx->mem, s->worn, (size_t)n, sizeof *worn);
        if (!worn) return TQ_NOMEM(err);
        s->worn = worn;
        s->cap_worn = n;
    }
    if (n > 0) memcpy(s->worn, hats->items, (size_t)n * sizeof *s->worn);
    s->n_worn = n;
    s->before = before;
    s->hats = (tq_hats){.items = s->worn, .n = n};
    return TOQUE_OK;
}

/* Runs tokens [length, length + n) of s->tokens; logits of the last when wanted. */
static toque_status run(tq_session *s, tq_pass_kind kind, int n, bool want_logits, toque_error *err) {
    int at = s->kv->length;
    tq_segment segment = {.n = n, .pos = at, .kv = s->kv, .hats = s->n_worn ? &s->hats : NULL};
    tq_pass pass = {.kind = kind, .tokens = s->tokens + at, .T = n, .segments = &segment, .n_segments = 1};
    TQ_TRY(tq_machine_forward(s->machine, &pass, err));
    memset(s->decoded + at, kind == TQ_PASS_DECODE, (size_t)n);
    int last = n - 1;
    if (want_logits) tq_machine_logits(s->machine, &last, 1, s->logits);
    return TOQUE_OK;
}

/* How many entries of the cache are those of the n rows of tokens. The last always runs: its logits are wanted. */
static int reusable(const tq_session *s, const tq_token *tokens, int n, bool prefill_only) {
    int most = s->kv->length < n - 1 ? s->kv->length : n - 1, i = 0;
    while (i < most && s->tokens[i] == tq_row_token(tokens, s->before, i) && !(prefill_only && s->decoded[i])) i++;
    return i;
}

toque_status tq_session_sync(tq_session *s, const tq_token *tokens, int n, const tq_hats *hats, bool prefill_only,
                             toque_error *err) {
    if (n < 1) return TQ_FAIL(err, EINVAL, "the prompt has no tokens; give it some text");
    const int context = tq_session_context(s, hats);
    if (n > context)
        return TQ_FAIL(err, ELIMIT,
                       "the prompt has %d tokens and the context holds %d; shorten it or take a "
                       "larger context (the model allows %d)",
                       n, context, tq_model_context(s->model, hats));
    for (int i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= s->model->config.V)
            return TQ_FAIL(err, EINVAL, "token %d of the prompt is %d; this model's tokens are 0 to %d", i, tokens[i],
                           s->model->config.V - 1);
    TQ_TRY(wear(s, hats, err));
    const int total = s->before + n;
    s->kv->length = reusable(s, tokens, total, prefill_only);
    s->reused = tq_session_length(s);
    for (int i = s->kv->length; i < s->before; i++) s->tokens[i] = tq_row_token(tokens, s->before, i);
    memmove(s->tokens + s->before + s->reused, tokens + s->reused, (size_t)(n - s->reused) * sizeof *tokens);
    while (s->kv->length < total) {
        if (atomic_load(&s->model->ctx->canceled)) return TQ_FAIL(err, ECANCELED, "canceled while reading the prompt");
        int rows = total - s->kv->length < s->max_rows ? total - s->kv->length : s->max_rows;
        TQ_TRY(run(s, TQ_PASS_PREFILL, rows, s->kv->length + rows == total, err));
    }
    return TOQUE_OK;
}

toque_status tq_session_decode(tq_session *s, tq_token token, toque_error *err) {
    const int context = tq_session_context(s, &s->hats);
    if (tq_session_length(s) == context)
        return TQ_FAIL(err, ELIMIT,
                       "the context of %d tokens is full; take a larger one (the model allows %d) or start "
                       "anew",
                       context, tq_model_context(s->model, &s->hats));
    if (token < 0 || token >= s->model->config.V)
        return TQ_FAIL(err, EINVAL, "token %d is not one of this model's (0 to %d)", token, s->model->config.V - 1);
    s->tokens[s->kv->length] = token;
    return run(s, TQ_PASS_DECODE, 1, true, err);
}
