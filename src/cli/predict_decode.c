/* Greedy decoding of many rows: each has a slot with its own cache; prompts are packed into prefill passes, then every
 * pass adds one token to each row that is not done. A row's bytes do not depend on its company. */
#include <math.h>
#include <string.h>

#include "cli/predict.h"
#include "infer/sampler.h"
#include "model/machine.h"

enum { ROWS = 512 }; /* of a prefill pass */

typedef struct slot {
    bool used;
    size_t id;
    tq_kv *kv;
    tq_token *prompt;
    int n_prompt, made, most;
    tq_token last;
    double logp;
    tq_detok detok;
    tq_buf text;
} slot;

struct tq_decoder {
    tq_model *model;
    const tq_hats *hats;
    tq_machine *machine;
    tq_sampler *sampler;
    tq_predicted_fn *fn;
    void *arg;
    int n, active;
    float *logits; /* [TQ_DECODE_ROWS, V] */
    slot slots[TQ_DECODE_ROWS];
};

toque_status tq_decoder_new(tq_decoder **result, tq_model *model, const tq_hats *hats, int max_rank, int n,
                            tq_predicted_fn *fn, void *arg, toque_error *err) {
    *result = NULL;
    tq_mem *mem = &model->ctx->mem;
    tq_decoder *d = TQ_NEW(mem, tq_decoder);
    if (!d) return TQ_NOMEM(err);
    d->model = model;
    d->hats = hats;
    d->fn = fn;
    d->arg = arg;
    d->n = n;
    for (int i = 0; i < TQ_DECODE_ROWS; i++) {
        tq_buf_init(&d->slots[i].text, mem, SIZE_MAX / 4);
        tq_detok_init(&d->slots[i].detok, model->tokenizer, mem, false);
    }
    tq_plan plan = {.max_rows = ROWS, .max_rank = max_rank, .head_rows = TQ_DECODE_ROWS};
    tq_sampling greedy = tq_sampling_default();
    toque_status status;
    TQ_GO(tq_machine_new(&d->machine, model, &plan, err));
    TQ_GO(tq_sampler_new(&d->sampler, mem, model->ctx->k, &greedy, model->config.V, err));
    d->logits = tq_alloc(mem, (size_t)TQ_DECODE_ROWS * (size_t)model->config.V, sizeof *d->logits);
    if (!d->logits) status = TQ_NOMEM(err);
done:
    if (status == TOQUE_OK)
        *result = d;
    else
        tq_decoder_free(d);
    return status;
}

void tq_decoder_free(tq_decoder *d) {
    if (!d) return;
    tq_mem *mem = &d->model->ctx->mem;
    for (int i = 0; i < TQ_DECODE_ROWS; i++) {
        tq_kv_free(d->model, d->slots[i].kv);
        tq_free(mem, d->slots[i].prompt);
        tq_detok_clear(&d->slots[i].detok);
        tq_buf_clear(&d->slots[i].text);
    }
    tq_free(mem, d->logits);
    tq_sampler_free(d->sampler);
    tq_machine_free(d->machine);
    tq_free(mem, d);
}

int tq_decoder_active(const tq_decoder *d) {
    return d->active;
}

int tq_decoder_free_slots(const tq_decoder *d) {
    return TQ_DECODE_ROWS - d->active;
}

toque_status tq_decoder_add(tq_decoder *d, size_t id, const tq_token *prompt, int n, toque_error *err) {
    tq_mem *mem = &d->model->ctx->mem;
    const int before = tq_hats_before_tokens(d->hats); /* rows of a prompt, which the copy begins with */
    int context = tq_model_context(d->model, d->hats);
    if (n < 1) return TQ_FAIL(err, EINVAL, "the prompt has no tokens");
    if (n > context) return TQ_FAIL(err, ELIMIT, "a prompt of %d tokens; the model's context holds %d", n, context);
    for (int i = 0; i < n; i++)
        if (prompt[i] < 0 || prompt[i] >= d->model->config.V)
            return TQ_FAIL(err, EINVAL, "token %d of the prompt is %d; the model's are 0 to %d", i, prompt[i],
                           d->model->config.V - 1);
    slot *s = d->slots;
    while (s->used) s++;
    s->most = d->n < context - n + 1 ? d->n : context - n + 1; /* the last token drawn needs no place in the cache */
    int capacity = before + n + s->most - 1;
    if (!s->kv || s->kv->capacity < capacity) {
        tq_kv_free(d->model, s->kv);
        s->kv = NULL;
        int room = (capacity + 127) / 128 * 128;
        TQ_TRY(tq_kv_new(&s->kv, d->model, room < d->model->config.context ? room : d->model->config.context, err));
    }
    tq_token *copy = tq_realloc(mem, s->prompt, (size_t)(before + n), sizeof *copy);
    if (!copy) return TQ_NOMEM(err);
    for (int i = 0; i < before + n; i++) copy[i] = tq_row_token(prompt, before, i);
    s->prompt = copy;
    s->n_prompt = before + n;
    s->id = id;
    s->kv->length = s->made = 0;
    s->logp = 0;
    tq_buf_reset(&s->text);
    tq_detok_clear(&s->detok);
    tq_detok_init(&s->detok, d->model->tokenizer, mem, false);
    s->detok.first = false; /* the answer continues a text: its first space stays */
    s->used = true;
    d->active++;
    return TOQUE_OK;
}

static toque_status finish(tq_decoder *d, slot *s, toque_error *err) {
    if (!tq_detok_finish(&s->detok, &s->text)) return TQ_NOMEM(err);
    tq_prediction p = {.len = s->text.len, .probability = exp(s->logp)};
    p.answer = tq_buf_take(&s->text);
    if (!p.answer) return TQ_NOMEM(err);
    s->used = false;
    d->active--;
    return d->fn(d->arg, s->id, &p, err);
}

static toque_status draw(tq_decoder *d, slot *s, const float *logits, toque_error *err) {
    double logp;
    s->last = tq_sampler_draw(d->sampler, logits, NULL, 0, 0, (uint32_t)s->kv->length, &logp);
    if (s->last == TQ_NO_TOKEN)
        return TQ_FAIL(err, ENONFINITE, "the logits are not finite (check the model file and adapters)");
    s->logp += logp;
    s->made++;
    bool end = tq_tokenizer_is_end(d->model->tokenizer, s->last);
    if (!end && !tq_detok_feed(&s->detok, s->last, &s->text)) return TQ_NOMEM(err);
    return end || s->made >= s->most ? finish(d, s, err) : TOQUE_OK;
}

/* Runs a pass and draws for the slots whose last row's number is in rows. */
static toque_status run(tq_decoder *d, const tq_pass *pass, slot *const *drawing, const int *rows, int n,
                        toque_error *err) {
    TQ_TRY(tq_machine_forward(d->machine, pass, err));
    if (n) tq_machine_logits(d->machine, rows, n, d->logits);
    for (int i = 0; i < n; i++) TQ_TRY(draw(d, drawing[i], d->logits + (size_t)i * (size_t)d->model->config.V, err));
    return TOQUE_OK;
}

/* One pass over prompts that are not in their caches yet; *left false when there were none. */
static toque_status prefill(tq_decoder *d, bool *left, toque_error *err) {
    tq_token tokens[ROWS];
    tq_segment segments[TQ_DECODE_ROWS];
    slot *drawing[TQ_DECODE_ROWS];
    int rows[TQ_DECODE_ROWS], n_drawing = 0;
    tq_pass pass = {.kind = TQ_PASS_PREFILL, .tokens = tokens, .segments = segments};
    for (int i = 0; i < TQ_DECODE_ROWS && pass.T < ROWS; i++) {
        slot *s = &d->slots[i];
        int at = s->used ? s->kv->length : 0, n = s->n_prompt - at;
        if (!s->used || n <= 0) continue;
        if (n > ROWS - pass.T) n = ROWS - pass.T;
        memcpy(tokens + pass.T, s->prompt + at, (size_t)n * sizeof *tokens);
        segments[pass.n_segments++] = (tq_segment){.row = pass.T, .n = n, .pos = at, .kv = s->kv, .hats = d->hats};
        pass.T += n;
        if (at + n < s->n_prompt) continue;
        rows[n_drawing] = pass.T - 1;
        drawing[n_drawing++] = s;
    }
    *left = pass.T > 0;
    return *left ? run(d, &pass, drawing, rows, n_drawing, err) : TOQUE_OK;
}

toque_status tq_decoder_step(tq_decoder *d, toque_error *err) {
    for (bool left = true; left;) TQ_TRY(prefill(d, &left, err));
    tq_token tokens[TQ_DECODE_ROWS];
    tq_segment segments[TQ_DECODE_ROWS];
    slot *drawing[TQ_DECODE_ROWS];
    int rows[TQ_DECODE_ROWS];
    tq_pass pass = {.kind = TQ_PASS_DECODE, .tokens = tokens, .segments = segments};
    for (int i = 0; i < TQ_DECODE_ROWS; i++) {
        slot *s = &d->slots[i];
        if (!s->used) continue;
        segments[pass.T] = (tq_segment){.row = pass.T, .n = 1, .pos = s->kv->length, .kv = s->kv, .hats = d->hats};
        rows[pass.T] = pass.T;
        drawing[pass.T] = s;
        tokens[pass.T++] = s->last;
    }
    pass.n_segments = pass.T;
    return pass.T ? run(d, &pass, drawing, rows, pass.T, err) : TOQUE_OK;
}
