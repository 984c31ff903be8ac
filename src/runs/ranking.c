/* Ranks of passages. See ranking.h. */
#include "runs/ranking.h"

#include <stdlib.h>

typedef struct candidate {
    uint64_t id;
    size_t at;
} candidate;

static int by_id(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->id != y->id) return x->id < y->id ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

/* The different texts that are no queries, by id. */
static size_t collect(candidate *list, size_t n, const int *part, const uint64_t *id) {
    size_t all = 0, kept = 0;
    for (size_t i = 0; i < n; i++)
        if (part[i] > 0) list[all++] = (candidate){id[i], i};
    qsort(list, all, sizeof *list, by_id);
    for (size_t i = 0; i < all; i++)
        if (i == 0 || list[i].id != list[i - 1].id) list[kept++] = list[i];
    return kept;
}

typedef struct rank_job {
    tq_ctx *ctx;
    int64_t C;
    size_t n;
    const float *v;
    const int *part;
    const uint64_t *id;
    const candidate *list;
    size_t candidates;
    size_t *rank; /* [n] of queries */
} rank_job;

static void rank_run(tq_worker *w, void *arg) {
    const rank_job *j = arg;
    int64_t i0, i1;
    tq_share(w, (int64_t)j->n, 1, &i0, &i1);
    for (int64_t i = i0; i < i1; i++) {
        if (j->part[i] != 0) continue;
        const float *query = j->v + i * j->C, own = j->ctx->k->dot(query, query + j->C, j->C);
        j->rank[i] = 1;
        for (size_t c = 0; c < j->candidates; c++)
            j->rank[i] += j->list[c].id != j->id[i + 1] &&
                          j->ctx->k->dot(query, j->v + (int64_t)j->list[c].at * j->C, j->C) > own;
    }
}

toque_status tq_ranking_make(tq_ranking *r, tq_ctx *ctx, int C, size_t n, const float *v, const int *part,
                             const uint64_t *id, toque_error *err) {
    candidate *list = TQ_NEW_ARRAY(&ctx->mem, candidate, n);
    size_t *rank = TQ_NEW_ARRAY(&ctx->mem, size_t, n);
    *r = (tq_ranking){0};
    if (list && rank) {
        r->candidates = collect(list, n, part, id);
        rank_job j = {ctx, C, n, v, part, id, list, r->candidates, rank};
        tq_pool_run(ctx->pool, rank_run, &j);
        for (size_t i = 0; i < n; i++) {
            if (part[i] != 0) continue;
            r->n++;
            r->first += rank[i] == 1;
            r->ten += rank[i] <= 10;
            r->reciprocal += 1 / (double)rank[i];
        }
    }
    toque_status status = list && rank ? TOQUE_OK : TQ_NOMEM(err);
    tq_free(&ctx->mem, list);
    tq_free(&ctx->mem, rank);
    return status;
}

json_t *tq_ranking_json(const tq_ranking *r) {
    const double n = (double)r->n;
    return json_pack("{s:f, s:f, s:f}", "recall_at_1", (double)r->first / n, "recall_at_10", (double)r->ten / n, "mrr",
                     r->reciprocal / n);
}

void tq_ranking_print(const tq_ranking *r, tq_buf *out) {
    const double n = (double)r->n;
    tq_buf_printf(out,
                  "%zu held-out queries against %zu passages, as kept: recall@1 %.3f (%zu), recall@10 %.3f, MRR %.3f\n",
                  r->n, r->candidates, (double)r->first / n, r->first, (double)r->ten / n, r->reciprocal / n);
}
