/* The arithmetic of heads. See head.h. Rows and outputs are few: plain dot products, shared by rows forwards and, for
 * gradients, by outputs, so that a sum over rows is never split. */
#include "model/head.h"

#include <math.h>
#include <string.h>

static const char *const kinds[] = {"classify", "multilabel", "regress", "tag"};
static const char *const reads[] = {"last", "first", "mean", "pooler", "each"};

const char *tq_head_kind_name(tq_head_kind kind) {
    return kinds[kind];
}

const char *tq_read_name(tq_read read) {
    return reads[read];
}

static int find(const char *const *names, int n, const char *name) {
    for (int i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0) return i;
    return -1;
}

int tq_head_kind_find(const char *name) {
    return find(kinds, TQ_HEAD_KINDS, name);
}

int tq_read_find(const char *name) {
    return find(reads, TQ_READ_EACH + 1, name);
}

int tq_head_label(const tq_head *h, const char *name) {
    return h->labels ? find((const char *const *)h->labels, h->n, name) : -1;
}

typedef struct job {
    tq_ctx *ctx;
    const tq_head *h;
    int64_t C;
    int rows;
    const float *x, *dy;
    float *y, *dx;
} job;

static void fwd_job(tq_worker *w, void *arg) {
    const job *j = arg;
    const tq_head *h = j->h;
    int64_t i0, i1;
    tq_share(w, j->rows, 1, &i0, &i1);
    for (int64_t i = i0; i < i1; i++) {
        float *y = j->y + i * h->n;
        j->ctx->k->rows_f32[TQ_F32](y, h->weight, (size_t)j->C * sizeof(float), h->n, j->C, j->x + i * j->C);
        if (h->bias) j->ctx->k->add(y, y, h->bias, h->n);
    }
}

void tq_head_fwd(tq_ctx *ctx, const tq_head *h, int64_t C, int rows, const float *x, float *y) {
    job j = {.ctx = ctx, .h = h, .C = C, .rows = rows, .x = x, .y = y};
    tq_pool_run(ctx->pool, fwd_job, &j);
}

static void bwd_job(tq_worker *w, void *arg) {
    const job *j = arg;
    const tq_head *h = j->h;
    const tq_kernels *k = j->ctx->k;
    int64_t i0, i1, n0, n1;
    tq_share(w, j->rows, 1, &i0, &i1);
    for (int64_t i = i0; j->dx && i < i1; i++) {
        float *dx = j->dx + i * j->C;
        memset(dx, 0, (size_t)j->C * sizeof *dx);
        for (int64_t o = 0; o < h->n; o++)
            if (j->dy[i * h->n + o] != 0) k->axpy(dx, j->dy[i * h->n + o], h->weight + o * j->C, j->C);
    }
    if (!h->dweight) return;
    tq_share(w, h->n, 1, &n0, &n1);
    for (int64_t o = n0; o < n1; o++)
        for (int64_t i = 0; i < j->rows; i++) {
            const float dy = j->dy[i * h->n + o];
            if (dy == 0) continue;
            k->axpy(h->dweight + o * j->C, dy, j->x + i * j->C, j->C);
            if (h->dbias) h->dbias[o] += dy;
        }
}

void tq_head_bwd(tq_ctx *ctx, const tq_head *h, int64_t C, int rows, const float *x, const float *dy, float *dx) {
    job j = {.ctx = ctx, .h = h, .C = C, .rows = rows, .x = x, .dy = dy, .dx = dx};
    tq_pool_run(ctx->pool, bwd_job, &j);
}

void tq_head_shares(const tq_head *h, float *y) {
    if (h->kind == TQ_HEAD_VALUE) return;
    if (h->kind == TQ_HEAD_LABELS) {
        for (int i = 0; i < h->n; i++) y[i] = (float)(1 / (1 + exp(-(double)y[i])));
        return;
    }
    double max = (double)y[0], sum = 0;
    for (int i = 1; i < h->n; i++) max = (double)y[i] > max ? (double)y[i] : max;
    for (int i = 0; i < h->n; i++) sum += exp((double)y[i] - max);
    for (int i = 0; i < h->n; i++) y[i] = (float)(exp((double)y[i] - max) / sum);
}
