/* Laying out rows into passes. See batch.h. */
#include "train/batch.h"

#include <assert.h>

int tq_batch_length(const tq_example *e) {
    if (e->read) return e->n;
    int last = e->n - 1;
    while (last > 0 && !e->target[last]) last--;
    return last > 0 ? last : 0;
}

static int longest(const tq_dataset *set) {
    int most = 0;
    for (size_t i = 0; i < set->n; i++) {
        int n = tq_batch_length(&set->examples[i]);
        if (n > most) most = n;
    }
    return most;
}

static int most_texts(const tq_dataset *set) {
    int most = 1;
    for (size_t i = 0; i < set->n; i++)
        if (set->examples[i].n_parts > most) most = set->examples[i].n_parts;
    return most;
}

int tq_batch_pass_rows(const tq_dataset *set, int before, bool packing) {
    int most = before + longest(set);
    return packing && most < TQ_PASS_TOKENS ? TQ_PASS_TOKENS : most;
}

toque_status tq_batch_init(tq_batch *b, tq_mem *mem, const tq_dataset *set, const tq_dataset *other, int rows,
                           int before, bool packing, toque_error *err) {
    int most = longest(set), second = other ? longest(other) : 0;
    int texts = most_texts(set), others = other ? most_texts(other) : 0;
    *b = (tq_batch){.mem = mem, .packing = packing, .max_rows = rows, .max_before = before};
    most = before + (second > most ? second : most);
    if (rows < 1 || __builtin_mul_overflow(rows, most, &b->max_tokens) ||
        __builtin_mul_overflow(rows, texts > others ? texts : others, &b->max_segments))
        return TQ_FAIL(err, ELIMIT, "a batch of %d rows of up to %d tokens is too large: lower batch_size", rows, most);
    b->tokens = TQ_NEW_ARRAY(mem, int32_t, b->max_tokens);
    b->targets = TQ_NEW_ARRAY(mem, tq_target, b->max_tokens);
    b->weights = TQ_NEW_ARRAY(mem, float, b->max_tokens);
    b->logp = TQ_NEW_ARRAY(mem, float, b->max_tokens);
    b->coef = TQ_NEW_ARRAY(mem, float, b->max_tokens);
    b->mean = TQ_NEW_ARRAY(mem, float, b->max_tokens);
    b->mean_coef = TQ_NEW_ARRAY(mem, float, b->max_tokens);
    b->segments = TQ_NEW_ARRAY(mem, tq_segment, b->max_segments);
    b->example = TQ_NEW_ARRAY(mem, uint32_t, b->max_segments);
    b->passes = TQ_NEW_ARRAY(mem, tq_batch_pass, rows);
    b->place = TQ_NEW_ARRAY(mem, int, rows);
    b->fill = TQ_NEW_ARRAY(mem, int, rows);
    if (b->tokens && b->targets && b->weights && b->logp && b->coef && b->mean && b->mean_coef && b->segments &&
        b->example && b->passes && b->place && b->fill)
        return TOQUE_OK;
    tq_batch_clear(b);
    return TQ_NOMEM(err);
}

void tq_batch_clear(tq_batch *b) {
    if (!b->mem) return;
    void *blocks[] = {b->tokens,    b->targets,  b->weights, b->logp,   b->coef,  b->mean,
                      b->mean_coef, b->segments, b->example, b->passes, b->place, b->fill};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) tq_free(b->mem, blocks[i]);
    *b = (tq_batch){0};
}

/* place[i] = the pass of row i: the first that has room. */
static void choose_passes(tq_batch *b, const tq_dataset *set, const uint32_t *rows, int n) {
    b->n_passes = 0;
    for (int i = 0; i < n; i++) {
        int length = b->before + tq_batch_length(&set->examples[rows[i]]), p = b->packing ? 0 : b->n_passes;
        while (p < b->n_passes && b->fill[p] + length > TQ_PASS_TOKENS) p++;
        if (p == b->n_passes) b->fill[b->n_passes++] = 0;
        b->fill[p] += length;
        b->place[i] = p;
    }
}

static void put_row(tq_batch *b, tq_batch_pass *pass, const tq_example *e, uint32_t number, const tq_hats *hats,
                    uint32_t use) {
    int length = b->before + tq_batch_length(e), row = pass->n_tokens;
    assert(!b->before || !e->n_parts); /* a prompt stands before rows of one text */
    for (int i = 0, at = row; i < (e->n_parts ? e->n_parts : 1); i++) {
        int n = e->n_parts ? e->parts[i] : length, segment = pass->segment + pass->n_segments++;
        uint32_t id = number ^ (uint32_t)i * 0x9E3779B9u; /* dropout of one text is not that of another */
        b->segments[segment] = (tq_segment){.row = at, .n = n, .hats = hats, .id = id, .use = use};
        b->example[segment] = number;
        at += n;
    }
    for (int t = 0; t < length; t++) {
        const int next = t - b->before + 1; /* what this row predicts */
        b->tokens[pass->token + row + t] = tq_row_token(e->tokens, b->before, t);
        if (e->read || next < 1 || !e->target[next]) continue;
        int i = pass->target + pass->n_targets++;
        b->targets[i] = (tq_target){.row = row + t, .token = e->tokens[next]};
        b->weights[i] = e->weight * (e->token_weight ? e->token_weight[next] : 1);
        b->weight += (double)b->weights[i];
    }
    if (e->read) b->n_read += e->n_targets;
    pass->n_tokens += length;
    b->n_tokens += e->n;
}

void tq_batch_lay(tq_batch *b, const tq_dataset *set, const uint32_t *rows, int n, const tq_hats *hats, uint32_t use) {
    b->before = tq_hats_before_tokens(hats);
    assert(n <= b->max_rows && b->before <= b->max_before);
    choose_passes(b, set, rows, n);
    b->n_rows = n;
    b->n_tokens = b->n_read = 0;
    b->weight = 0;
    tq_batch_pass next = {0};
    for (int p = 0; p < b->n_passes; p++) {
        tq_batch_pass *pass = &b->passes[p];
        *pass = (tq_batch_pass){.token = next.token, .segment = next.segment, .target = next.target};
        for (int i = 0; i < n; i++)
            if (b->place[i] == p) put_row(b, pass, &set->examples[rows[i]], rows[i], hats, use);
        next.token += pass->n_tokens;
        next.segment += pass->n_segments;
        next.target += pass->n_targets;
    }
    b->n_targets = next.target + b->n_read;
}

tq_pass tq_batch_pass_at(const tq_batch *b, int i, tq_pass_kind kind, uint64_t seed) {
    const tq_batch_pass *p = &b->passes[i];
    return (tq_pass){.kind = kind,
                     .tokens = b->tokens + p->token,
                     .T = p->n_tokens,
                     .segments = b->segments + p->segment,
                     .n_segments = p->n_segments,
                     .seed = seed};
}
