/* A linear map y = x W^T (+ bias), W [out, in] of any storage type, and the adapters that rows wear on it.
 * Backward: dx = dy W, dW = dy^T x (only when W is trained), then each adapter's own. */
#include "ops/op.h"

/* Each worker reads its part of W once, in blocks that stay in its cache while the rows pass over them. */
void tq_dot_rows(tq_exec *e, tq_worker *w, const tq_weight *weight, int T, const float *x, float *y, bool quantized) {
    enum { BLOCK = 32 };
    int64_t n = weight->rows, k = weight->cols, blocks = k / 32;
    bool int8 = e->int8 && e->k->rows_q8[weight->type];
    if (int8 && !quantized) {
        int64_t t0, t1;
        tq_share(w, T, 1, &t0, &t1);
        e->k->quant_q8(e->xq + t0 * blocks, x + t0 * k, (t1 - t0) * k);
        tq_barrier(w);
    }
    int64_t j0, j1;
    tq_share(w, n, BLOCK, &j0, &j1);
    for (int64_t j = j0; j < j1; j += BLOCK) {
        int64_t count = j1 - j < BLOCK ? j1 - j : BLOCK;
        const char *rows = (const char *)weight->data + (size_t)j * weight->row_bytes;
        if (int8) e->k->rows_q8[weight->type](y + j, n, rows, weight->row_bytes, count, k, e->xq, T);
        for (int64_t t = 0; !int8 && t < T; t++)
            e->k->rows_f32[weight->type](y + t * n + j, rows, weight->row_bytes, count, k, x + t * k);
    }
}

/* c [m, n] += what an adapter adds, but for a product that was joined. Ends with a barrier. */
static void take(tq_exec *e, tq_worker *w, int64_t m, int64_t n, const tq_addend *add, bool joined, float *c) {
    if (add->product.k > 0 && !joined) {
        tq_gemm g = add->product;
        g.m = m;
        g.n = n;
        g.c = c;
        g.c_row = n;
        g.accumulate = true;
        g.compute = e->compute;
        e->k->gemm(w, e->k, &g);
    }
    if (add->plain) {
        int64_t i, end;
        tq_share(w, m, 1, &i, &end);
        e->k->add(c + i * n, c + i * n, add->plain + i * n, (end - i) * n);
    }
    tq_barrier(w);
}

static const tq_gemm *tail_of(const tq_addend *add) {
    return add && add->product.k > 0 ? &add->product : NULL;
}

/* y [T, out] = x [T, in] W^T, and a tail. */
static void output_fwd(tq_exec *e, tq_worker *w, const tq_weight *weight, const float *x, float *y,
                       const tq_gemm *tail) {
    int64_t n = weight->rows, k = weight->cols;
    tq_gemm g = {.m = e->T,
                 .n = n,
                 .k = k,
                 .a = x,
                 .a_row = k,
                 .a_col = 1,
                 .b = weight->data,
                 .b_type = weight->type,
                 .b_trans = true,
                 .b_stride = weight->row_bytes,
                 .c = y,
                 .c_row = n,
                 .alpha = 1,
                 .tail = tail,
                 .compute = e->compute};
    e->k->gemm(w, e->k, &g);
}

/* The next run of segments, from segment *i on, that wear the same set: rows [*t0, *t1). NULL set at the end. */
static const tq_hats *next_run(const tq_exec *e, int *i, int *t0, int *t1) {
    while (*i < e->n_segments) {
        const tq_segment *seg = &e->segments[*i];
        const tq_hats *hats = seg->hats;
        *t0 = seg->row;
        do *t1 = e->segments[*i].row + e->segments[*i].n;
        while (++*i < e->n_segments && e->segments[*i].hats == hats);
        if (hats && hats->n) return hats;
    }
    return NULL;
}

static const tq_site *site_of(const tq_exec *e, const tq_hat *hat, int role) {
    const tq_site *site = hat->sites ? &hat->sites[e->layer * TQ_ROLE_COUNT + role] : NULL;
    return site && site->fwd ? site : NULL;
}

/* The site of the one adapter that all rows wear, whose product can join W's; else NULL. */
static const tq_site *only_site(const tq_exec *e, int role, float *scale) {
    int i = 0, t0, t1;
    const tq_hats *hats = next_run(e, &i, &t0, &t1);
    if (!hats || hats->n != 1 || t0 != 0 || t1 != e->T) return NULL;
    *scale = hats->items[0].scale;
    return site_of(e, &hats->items[0], role);
}

static void add_bias(const tq_exec *e, tq_worker *w, const float *bias, float *y, int64_t n) {
    int64_t t0, t1;
    tq_share(w, e->T, 1, &t0, &t1);
    for (int64_t t = t0; t < t1; t++) e->k->add(y + t * n, y + t * n, bias, n);
    tq_barrier(w);
}

static void linear_fwd(tq_exec *e, tq_worker *w, const tq_step *s) {
    const tq_weight *weight = &e->weights[s->role];
    const float *x = e->v[s->in[0]];
    float *y = e->v[s->out], scale;
    const tq_site *only = only_site(e, s->role, &scale);
    tq_addend add = {0};
    if (only) only->fwd(e, w, only, scale, 0, e->T, x, &add);
    /* x is there as int8 already when the step before read the same input and made it so. */
    if (e->decode)
        tq_dot_rows(e, w, weight, e->T, x, y, s->same_input && e->k->rows_q8[e->weights[s[-1].role].type]);
    else
        output_fwd(e, w, weight, x, y, tail_of(&add));
    const float *bias = s->bias != TQ_ROLE_NONE ? e->weights[s->bias].data : NULL;
    if (e->bare && !bias) return;
    tq_barrier(w);
    if (only && (e->decode || add.plain)) take(e, w, e->T, weight->rows, &add, !e->decode, y);
    int i = 0, t0, t1;
    for (const tq_hats *hats; !only && (hats = next_run(e, &i, &t0, &t1));)
        for (int h = 0; h < hats->n; h++) {
            const tq_site *site = site_of(e, &hats->items[h], s->role);
            if (!site) continue;
            site->fwd(e, w, site, hats->items[h].scale, t0, t1, x, &add);
            take(e, w, t1 - t0, weight->rows, &add, false, y + t0 * weight->rows);
        }
    if (bias) add_bias(e, w, bias, y, weight->rows);
}

bool tq_step_joined(const tq_exec *e, const tq_step *s) {
    if (s[0].op->by_rows && s[1].op->by_rows) return true;
    if (s[1].op != &tq_op_linear || !e->bare) return false;
    if (s[0].op == &tq_op_linear) return s[1].same_input; /* outputs of their own, and x is only read */
    return s[0].op->by_rows && e->int8 && e->k->rows_q8[e->weights[s[1].role].type];
}

/* dbias[j] += sum over rows of dy[t, j]: workers share columns. */
static void bias_bwd(const tq_exec *e, tq_worker *w, const float *dy, int64_t n, float *dbias) {
    int64_t j0, j1;
    tq_share(w, n, 16, &j0, &j1);
    for (int64_t t = 0; t < e->T; t++) e->k->add(dbias + j0, dbias + j0, dy + t * n + j0, j1 - j0);
}

/* dW [out, in] += dy^T x. */
static void weight_bwd(tq_exec *e, tq_worker *w, const tq_weight *weight, const float *x, const float *dy) {
    int64_t n = weight->rows, k = weight->cols;
    tq_gemm g = {.m = n,
                 .n = k,
                 .k = e->T,
                 .a = dy,
                 .a_row = 1,
                 .a_col = n,
                 .b = x,
                 .b_type = TQ_F32,
                 .b_stride = (size_t)k * sizeof(float),
                 .c = weight->grad,
                 .c_row = k,
                 .alpha = 1,
                 .accumulate = true,
                 .compute = e->compute};
    e->k->gemm(w, e->k, &g);
}

/* dx [T, in] (+)= dy W, and what an adapter adds. */
static void input_bwd(tq_exec *e, tq_worker *w, const tq_weight *weight, const float *dy, float *dx, bool accumulate,
                      const tq_gemm *add) {
    int64_t n = weight->rows, k = weight->cols;
    tq_gemm g = {.m = e->T,
                 .n = k,
                 .k = n,
                 .a = dy,
                 .a_row = n,
                 .a_col = 1,
                 .b = weight->data,
                 .b_type = weight->type,
                 .b_stride = weight->row_bytes,
                 .c = dx,
                 .c_row = k,
                 .alpha = 1,
                 .accumulate = accumulate,
                 .tail = add,
                 .compute = e->compute};
    e->k->gemm(w, e->k, &g);
}

static void linear_bwd(tq_exec *e, tq_worker *w, const tq_step *s) {
    const tq_weight *weight = &e->weights[s->role];
    const float *x = e->v[s->in[0]], *dy = e->g[s->out];
    float *dx = e->g[s->in[0]], scale;
    const tq_site *only = only_site(e, s->role, &scale);
    tq_addend add = {0};
    if (only) only->bwd(e, w, only, scale, 0, e->T, x, dy, dx ? &add : NULL);
    if (dx) input_bwd(e, w, weight, dy, dx, !s->first[0], tail_of(&add));
    if (weight->grad) weight_bwd(e, w, weight, x, dy);
    if (s->bias != TQ_ROLE_NONE && e->weights[s->bias].grad) bias_bwd(e, w, dy, weight->rows, e->weights[s->bias].grad);
    tq_barrier(w);
    if (only && add.plain) take(e, w, e->T, weight->cols, &add, true, dx);
    int i = 0, t0, t1;
    for (const tq_hats *hats; !only && (hats = next_run(e, &i, &t0, &t1));)
        for (int h = 0; h < hats->n; h++) {
            const tq_site *site = site_of(e, &hats->items[h], s->role);
            if (!site) continue;
            site->bwd(e, w, site, hats->items[h].scale, t0, t1, x, dy, dx ? &add : NULL);
            if (dx) take(e, w, t1 - t0, weight->cols, &add, false, dx + t0 * weight->cols);
        }
}

const tq_op tq_op_linear = {"linear", linear_fwd, linear_bwd, 1u, .by_rows = false};
