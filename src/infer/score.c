/* Scoring by packed passes: see score.h. The last token of a sequence predicts nothing that is asked for, so a sequence
 * of n tokens takes n - 1 rows. */
#include "infer/score.h"

#include <math.h>
#include <string.h>

enum { PASS_ROWS = 512, PASS_SEGMENTS = 256 };

struct tq_scorer {
    tq_model *model;
    tq_machine *machine;
    tq_kv *kv;                          /* for sequences longer than a pass; made when one is met */
    tq_segment segments[PASS_SEGMENTS]; /* of the pass that is being filled */
    tq_score_item *owner[PASS_SEGMENTS];
    int n_segments, rows;
    tq_token tokens[PASS_ROWS];
    tq_target targets[PASS_ROWS];
    float logp[PASS_ROWS];
};

toque_status tq_scorer_new(tq_scorer **result, tq_model *model, int max_rank, toque_error *err) {
    *result = NULL;
    TQ_TRY(tq_model_need_head(model, "scoring", err));
    tq_scorer *s = TQ_NEW(&model->ctx->mem, tq_scorer);
    if (!s) return TQ_NOMEM(err);
    s->model = model;
    tq_plan plan = {.max_rows = PASS_ROWS, .max_rank = max_rank, .head_rows = 64};
    toque_status status = tq_machine_new(&s->machine, model, &plan, err);
    if (status != TOQUE_OK) {
        tq_scorer_free(s);
        return status;
    }
    *result = s;
    return TOQUE_OK;
}

void tq_scorer_free(tq_scorer *s) {
    if (!s) return;
    tq_machine_free(s->machine);
    tq_kv_free(s->model, s->kv);
    tq_free(&s->model->ctx->mem, s);
}

static bool is_target(const tq_score_item *item, int i) {
    return i > 0 && i < item->n && (!item->target || item->target[i]);
}

static toque_status check(const tq_scorer *s, tq_score_item *item, size_t index, toque_error *err) {
    const tq_config *c = &s->model->config;
    const int context = tq_model_context(s->model, item->hats);
    if (item->n > context)
        return TQ_FAIL(err, ELIMIT, "sequence %zu has %d tokens; this model's context is %d%s", index + 1, item->n,
                       context, context < c->context ? ", less its virtual tokens" : "");
    for (int i = 0; i < item->n; i++)
        if (item->tokens[i] < 0 || item->tokens[i] >= c->V)
            return TQ_FAIL(err, EINVAL, "sequence %zu: token %d is %d; this model's are 0 to %d", index + 1, i,
                           item->tokens[i], c->V - 1);
    item->sum = 0;
    item->n_targets = 0;
    if (item->logp) memset(item->logp, 0, (size_t)(item->n > 0 ? item->n : 0) * sizeof *item->logp);
    return TOQUE_OK;
}

/* The token that row i of a segment predicts, by its place in the item. */
static int predicted(const tq_segment *segment, int i) {
    return segment->pos + i + 1 - tq_hats_before_tokens(segment->hats);
}

/* Runs the pass that was filled and hands out its log-probabilities. */
static toque_status flush(tq_scorer *s, toque_error *err) {
    if (s->rows == 0) return TOQUE_OK;
    if (atomic_load(&s->model->ctx->canceled)) return TQ_FAIL(err, ECANCELED, "canceled while scoring");
    tq_pass pass = {.kind = TQ_PASS_PREFILL,
                    .tokens = s->tokens,
                    .T = s->rows,
                    .segments = s->segments,
                    .n_segments = s->n_segments};
    TQ_TRY(tq_machine_forward(s->machine, &pass, err));
    int n = 0;
    for (int g = 0; g < s->n_segments; g++) {
        const tq_segment *segment = &s->segments[g];
        for (int i = 0; i < segment->n; i++) {
            int at = predicted(segment, i);
            if (is_target(s->owner[g], at)) s->targets[n++] = (tq_target){segment->row + i, s->owner[g]->tokens[at]};
        }
    }
    if (n > 0) tq_machine_logp(s->machine, s->targets, n, NULL, s->logp);
    const float *logp = s->logp;
    for (int g = 0; g < s->n_segments; g++) {
        tq_score_item *item = s->owner[g];
        int first = predicted(&s->segments[g], 0);
        for (int i = first; i < first + s->segments[g].n; i++) {
            if (!is_target(item, i)) continue;
            if (!isfinite(*logp))
                return TQ_FAIL(err, ENONFINITE,
                               "the log-probability of a token is not finite (check the model file and adapters)");
            if (item->logp) item->logp[i] = *logp;
            item->sum += (double)*logp++;
            item->n_targets++;
        }
    }
    s->rows = s->n_segments = 0;
    return TOQUE_OK;
}

/* Appends rows [pos, pos + n) of an item to the pass; they fit. */
static void put(tq_scorer *s, tq_score_item *item, int pos, int n, tq_kv *kv) {
    s->owner[s->n_segments] = item;
    s->segments[s->n_segments++] = (tq_segment){.row = s->rows, .n = n, .pos = pos, .kv = kv, .hats = item->hats};
    const int before = tq_hats_before_tokens(item->hats);
    for (int i = pos; i < pos + n; i++) s->tokens[s->rows++] = tq_row_token(item->tokens, before, i);
}

/* A sequence longer than a pass: in chunks, each a pass. */
static toque_status score_long(tq_scorer *s, tq_score_item *item, int rows, toque_error *err) {
    TQ_TRY(flush(s, err));
    if (!s->kv || s->kv->capacity < rows) {
        tq_kv_free(s->model, s->kv);
        s->kv = NULL;
        TQ_TRY(tq_kv_new(&s->kv, s->model, rows, err));
    }
    s->kv->length = 0;
    for (int pos = 0; pos < rows; pos += PASS_ROWS) {
        put(s, item, pos, rows - pos < PASS_ROWS ? rows - pos : PASS_ROWS, s->kv);
        TQ_TRY(flush(s, err));
    }
    return TOQUE_OK;
}

/* Rows up to the last target's predecessor, those of a prompt too; 0 when nothing is asked for. */
static int rows_needed(const tq_score_item *item) {
    int i = item->n - 1;
    while (i > 0 && !is_target(item, i)) i--;
    return i > 0 ? tq_hats_before_tokens(item->hats) + i : 0;
}

toque_status tq_score(tq_scorer *s, tq_score_item *items, size_t n, toque_error *err) {
    for (size_t i = 0; i < n; i++) TQ_TRY(check(s, &items[i], i, err));
    s->rows = s->n_segments = 0;
    for (size_t i = 0; i < n; i++) {
        int rows = rows_needed(&items[i]);
        if (rows == 0) continue;
        if (rows > PASS_ROWS) {
            TQ_TRY(score_long(s, &items[i], rows, err));
            continue;
        }
        if (s->rows + rows > PASS_ROWS || s->n_segments == PASS_SEGMENTS) TQ_TRY(flush(s, err));
        put(s, &items[i], 0, rows, NULL);
    }
    return flush(s, err);
}

/* --- perplexity -------------------------------------------------------------------------------------------- */

/* The window that begins at `begin`, its targets being what no earlier one scored. */
static size_t fill_window(tq_score_item *item, uint8_t *target, const tq_token *tokens, size_t n, size_t begin,
                          int context, size_t scored_to, const tq_hats *hats) {
    size_t end = n - begin < (size_t)context ? n : begin + (size_t)context;
    *item = (tq_score_item){.tokens = tokens + begin, .target = target, .n = (int)(end - begin), .hats = hats};
    for (size_t i = begin; i < end; i++) target[i - begin] = i > begin && i >= scored_to;
    return end;
}

toque_status tq_perplexity_run(tq_scorer *s, const tq_token *tokens, size_t n, int context, int stride,
                               const tq_hats *hats, tq_score_progress *progress, void *arg, tq_perplexity *result,
                               toque_error *err) {
    const int most = tq_model_context(s->model, hats);
    if (context < 2 || context > most)
        return TQ_FAIL(err, EINVAL, "a window of %d tokens was asked for; expected 2 to %d, this model's context%s",
                       context, most, most < s->model->config.context ? ", less its virtual tokens" : "");
    if (stride < 1 || stride > context)
        return TQ_FAIL(err, EINVAL,
                       "a stride of %d was asked for; expected 1 to %d, the window, so that no token is left out",
                       stride, context);
    if (n < 2) return TQ_FAIL(err, EINVAL, "the text has %zu token%s; at least 2 are needed", n, n == 1 ? "" : "s");
    /* Short windows share passes: as many at a time as fill one. */
    int together = context - 1 >= PASS_ROWS ? 1 : PASS_ROWS / (context - 1);
    if (together > PASS_SEGMENTS) together = PASS_SEGMENTS;
    tq_mem *mem = &s->model->ctx->mem;
    tq_score_item *items = TQ_NEW_ARRAY(mem, tq_score_item, together);
    uint8_t *targets = tq_alloc(mem, (size_t)together, (size_t)context);
    toque_status status = items && targets ? TOQUE_OK : TQ_NOMEM(err);
    double sum = 0;
    size_t scored_to = 0, begin = 0, count = 0;
    while (status == TOQUE_OK && scored_to < n) {
        int filled = 0;
        for (; filled < together && scored_to < n; filled++, begin += (size_t)stride)
            scored_to = fill_window(&items[filled], targets + (size_t)filled * (size_t)context, tokens, n, begin,
                                    context, scored_to, hats);
        status = tq_score(s, items, (size_t)filled, err);
        for (int i = 0; i < filled; i++) sum += items[i].sum, count += (size_t)items[i].n_targets;
        if (progress) progress(arg, scored_to);
    }
    tq_free(mem, items);
    tq_free(mem, targets);
    if (status != TOQUE_OK) return status;
    *result = (tq_perplexity){.tokens = count, .nll = -sum / (double)count, .value = exp(-sum / (double)count)};
    return TOQUE_OK;
}
