/* Scoring of continuations over a shared trunk: see choices.h. The trunk's keys and values are copied into a branch for
 * each continuation, and the branches run as segments of one pass. */
#include "infer/choices.h"

#include <math.h>
#include <string.h>

enum { PASS_ROWS = 512, BRANCHES = 32 };

struct tq_chooser {
    tq_model *model;
    tq_machine *machine;
    const tq_hats *hats; /* that the trunk was made with */
    tq_kv *trunk;
    int before;       /* rows of the hats' prompt, the trunk's first */
    tq_token *tokens; /* [context] what the trunk holds */
    tq_kv *branch[BRANCHES];
    int32_t pass[PASS_ROWS];
    tq_target targets[PASS_ROWS];
    float logp[PASS_ROWS];
};

toque_status tq_chooser_new(tq_chooser **result, tq_model *model, int max_rank, toque_error *err) {
    *result = NULL;
    tq_mem *mem = &model->ctx->mem;
    tq_chooser *c = TQ_NEW(mem, tq_chooser);
    if (!c) return TQ_NOMEM(err);
    c->model = model;
    tq_plan plan = {.max_rows = PASS_ROWS, .max_rank = max_rank, .head_rows = 64};
    toque_status status = tq_machine_new(&c->machine, model, &plan, err);
    if (status == TOQUE_OK) status = tq_kv_new(&c->trunk, model, model->config.context, err);
    if (status == TOQUE_OK) {
        c->tokens = TQ_NEW_ARRAY(mem, tq_token, model->config.context);
        if (!c->tokens) status = TQ_NOMEM(err);
    }
    if (status != TOQUE_OK) {
        tq_chooser_free(c);
        return status;
    }
    *result = c;
    return TOQUE_OK;
}

void tq_chooser_free(tq_chooser *c) {
    if (!c) return;
    tq_mem *mem = &c->model->ctx->mem;
    for (int i = 0; i < BRANCHES; i++) tq_kv_free(c->model, c->branch[i]);
    tq_kv_free(c->model, c->trunk);
    tq_machine_free(c->machine);
    tq_free(mem, c->tokens);
    tq_free(mem, c);
}

static bool is_target(const tq_score_item *item, int i) {
    return i > 0 && i < item->n && (!item->target || item->target[i]);
}

/* Position of the last target; 0: none. */
static int last_target(const tq_score_item *item) {
    int i = item->n - 1;
    while (i > 0 && !is_target(item, i)) i--;
    return i > 0 ? i : 0;
}

/* How many first tokens all items share and none has as a target. */
static int shared_length(const tq_score_item *items, size_t n) {
    int shared = items[0].n;
    for (size_t i = 0; i < n; i++) {
        int same = 0;
        while (same < shared && same < items[i].n && items[i].tokens[same] == items[0].tokens[same] &&
               !is_target(&items[i], same))
            same++;
        shared = same;
    }
    return shared;
}

/* Brings the trunk to a prompt's rows and `n` tokens, running only those that differ, the last one always; *row is its
 * row in the last pass. */
static toque_status grow_trunk(tq_chooser *c, const tq_token *tokens, int n, const tq_hats *hats, int *row,
                               toque_error *err) {
    int same = 0;
    c->before = tq_hats_before_tokens(hats);
    n += c->before;
    while (hats == c->hats && same < n - 1 && same < c->trunk->length &&
           c->tokens[same] == tq_row_token(tokens, c->before, same))
        same++;
    c->hats = hats;
    c->trunk->length = same;
    while (c->trunk->length < n) {
        int at = c->trunk->length, some = n - at < PASS_ROWS ? n - at : PASS_ROWS;
        for (int i = 0; i < some; i++) c->tokens[at + i] = c->pass[i] = tq_row_token(tokens, c->before, at + i);
        tq_segment seg = {.n = some, .pos = at, .kv = c->trunk, .hats = hats};
        tq_pass pass = {.kind = TQ_PASS_PREFILL, .tokens = c->pass, .T = some, .segments = &seg, .n_segments = 1};
        *row = some - 1;
        toque_status status = tq_machine_forward(c->machine, &pass, err);
        if (status != TOQUE_OK) {
            c->trunk->length = 0;
            return status;
        }
    }
    return TOQUE_OK;
}

/* The first token of every continuation follows the trunk's last row. */
static void read_first(tq_chooser *c, tq_score_item *items, size_t n, int shared, int row) {
    for (size_t i = 0; i < n; i += PASS_ROWS) {
        size_t some = n - i < PASS_ROWS ? n - i : PASS_ROWS;
        int m = 0;
        for (size_t k = i; k < i + some; k++)
            if (is_target(&items[k], shared)) c->targets[m++] = (tq_target){row, items[k].tokens[shared]};
        if (m) tq_machine_logp(c->machine, c->targets, m, NULL, c->logp);
        m = 0;
        for (size_t k = i; k < i + some; k++) {
            if (!is_target(&items[k], shared)) continue;
            items[k].sum += (double)c->logp[m++];
            items[k].n_targets++;
        }
    }
}

/* branch = trunk, with room for `more` tokens. */
static toque_status copy_trunk(tq_chooser *c, tq_kv **branch, int more, toque_error *err) {
    tq_kv *b = *branch, *t = c->trunk;
    if (!b || b->capacity < t->length + more) {
        tq_kv_free(c->model, b);
        *branch = NULL;
        int room = t->length + more + 64;
        TQ_TRY(tq_kv_new(branch, c->model, room < c->model->config.context ? room : c->model->config.context, err));
        b = *branch;
    }
    size_t bytes = (size_t)t->length * (size_t)t->width * (t->type == TQ_F16 ? 2 : 4);
    for (int l = 0; l < t->n_layers; l++)
        for (int v = 0; v < 2; v++)
            for (int g = 0; g < t->heads; g++) memcpy(tq_kv_at(b, l, v, g, 0), tq_kv_at(t, l, v, g, 0), bytes);
    b->length = t->length;
    return TOQUE_OK;
}

/* Runs the continuations items[0..n) that have more than one token, n of them at most BRANCHES, rows at most PASS_ROWS.
 */
static toque_status run_branches(tq_chooser *c, tq_score_item **items, int n, int shared, const tq_hats *hats,
                                 toque_error *err) {
    tq_segment seg[BRANCHES];
    int rows = 0, m = 0;
    for (int b = 0; b < n; b++) {
        int more = last_target(items[b]) - shared;
        TQ_TRY(copy_trunk(c, &c->branch[b], more, err));
        seg[b] = (tq_segment){.row = rows, .n = more, .pos = c->trunk->length, .kv = c->branch[b], .hats = hats};
        memcpy(c->pass + rows, items[b]->tokens + shared, (size_t)more * sizeof(tq_token));
        for (int i = 0; i < more; i++)
            if (is_target(items[b], shared + i + 1))
                c->targets[m++] = (tq_target){rows + i, items[b]->tokens[shared + i + 1]};
        rows += more;
    }
    tq_pass pass = {.kind = TQ_PASS_PREFILL, .tokens = c->pass, .T = rows, .segments = seg, .n_segments = n};
    TQ_TRY(tq_machine_forward(c->machine, &pass, err));
    tq_machine_logp(c->machine, c->targets, m, NULL, c->logp);
    const float *logp = c->logp;
    for (int b = 0; b < n; b++)
        for (int i = 0; i < seg[b].n; i++)
            if (is_target(items[b], shared + i + 1)) {
                items[b]->sum += (double)*logp++;
                items[b]->n_targets++;
            }
    return TOQUE_OK;
}

toque_status tq_choose(tq_chooser *c, tq_score_item *items, size_t n, toque_error *err) {
    int shared = shared_length(items, n);
    if (shared < 1) return TQ_FAIL(err, EINVAL, "the continuations have no token before them in common");
    for (size_t i = 0; i < n; i++) {
        const int context = tq_model_context(c->model, items[0].hats);
        if (items[i].n > context)
            return TQ_FAIL(err, ELIMIT, "sequence %zu has %d tokens; this model's context is %d", i + 1, items[i].n,
                           context);
        if (last_target(&items[i]) - shared > PASS_ROWS)
            return TQ_FAIL(err, ELIMIT, "continuation %zu has over %d tokens", i + 1, PASS_ROWS);
        items[i].sum = 0;
        items[i].n_targets = 0;
    }
    if (atomic_load(&c->model->ctx->canceled)) return TQ_FAIL(err, ECANCELED, "canceled while scoring");
    const tq_hats *hats = items[0].hats;
    int row = 0;
    TQ_TRY(grow_trunk(c, items[0].tokens, shared, hats, &row, err));
    read_first(c, items, n, shared, row);
    for (size_t i = 0; i < n;) {
        tq_score_item *some[BRANCHES];
        int count = 0, rows = 0;
        for (; i < n && count < BRANCHES; i++) {
            int more = last_target(&items[i]) - shared;
            if (more < 1) continue;
            if (rows + more > PASS_ROWS) break;
            rows += more;
            some[count++] = &items[i];
        }
        if (count) TQ_TRY(run_branches(c, some, count, shared, hats, err));
    }
    for (size_t i = 0; i < n; i++)
        if (!isfinite(items[i].sum)) return TQ_FAIL(err, ENONFINITE, "the log-probability of a token is not finite");
    return TOQUE_OK;
}
