/* A linear map y = x W^T (+ bias), W [out, in] of any storage type, and the adapters that rows wear on it.
 * Backward: dx = dy W, dW = dy^T x (only when W is trained), then each adapter's own. */
#include "ops/op.h"

void tq_matmul(tq_exec *e, tq_worker *w, int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_col,
               const float *b, bool b_trans, int64_t b_row, float *c, int64_t c_row, float alpha, bool accumulate) {
    tq_gemm g = {.m = m,
                 .n = n,
                 .k = k,
                 .a = a,
                 .a_row = a_row,
                 .a_col = a_col,
                 .b = b,
                 .b_type = TQ_F32,
                 .b_trans = b_trans,
                 .b_stride = (size_t)b_row * sizeof(float),
                 .c = c,
                 .c_row = c_row,
                 .alpha = alpha,
                 .accumulate = accumulate,
                 .compute = e->compute};
    e->k->gemm(w, e->k, &g);
}

/* The panel that begins with row j. */
static const void *panel_at(const tq_exec *e, const tq_weight *weight, int64_t j) {
    const struct tq_panels *p = &e->k->panels[weight->type];
    return (const char *)*weight->panels + (size_t)(j * (weight->cols / p->block) * p->bytes);
}

/* Few rows: each worker reads its part of W once, in blocks that stay in its cache while the rows pass over them. */
static void dot_rows(tq_exec *e, tq_worker *w, const tq_weight *weight, int t0, int t1, const float *x, float *y,
                     bool quantized) {
    enum { BLOCK = 32 };
    const int64_t n = weight->rows, k = weight->cols, blocks = k / 32;
    const bool int8 = e->int8 && e->k->rows_q8[weight->type];
    if (int8 && !quantized) {
        int64_t b, end;
        tq_share(w, t1 - t0, 1, &b, &end);
        e->k->quant_q8(e->xq + (t0 + b) * blocks, x + (t0 + b) * k, (end - b) * k);
        tq_barrier(w);
    }
    int64_t j0, j1;
    tq_share(w, n, BLOCK, &j0, &j1);
    for (int64_t j = j0; j < j1; j += BLOCK) {
        const int64_t count = j1 - j < BLOCK ? j1 - j : BLOCK;
        const char *rows = (const char *)weight->data + (size_t)j * weight->row_bytes;
        if (int8 && weight->panels)
            e->k->panels[weight->type].q8(y + t0 * n + j, n, panel_at(e, weight, j), count, k, e->xq + t0 * blocks,
                                          t1 - t0);
        else if (int8)
            e->k->rows_q8[weight->type](y + t0 * n + j, n, rows, weight->row_bytes, count, k, e->xq + t0 * blocks,
                                        t1 - t0);
        for (int64_t t = t0; !int8 && t < t1; t++)
            e->k->rows_f32[weight->type](y + t * n + j, rows, weight->row_bytes, count, k, x + t * k);
    }
}

void tq_product(tq_exec *e, tq_worker *w, const tq_weight *weight, int t0, int t1, const float *x, float *y,
                bool quantized, const tq_gemm *tail) {
    if (e->decode) {
        dot_rows(e, w, weight, t0, t1, x, y, quantized);
        return;
    }
    const int64_t n = weight->rows, k = weight->cols;
    tq_gemm g = {.m = t1 - t0,
                 .n = n,
                 .k = k,
                 .a = x + t0 * k,
                 .a_row = k,
                 .a_col = 1,
                 .b = weight->data,
                 .b_type = weight->type,
                 .b_trans = true,
                 .b_stride = weight->row_bytes,
                 .c = y + t0 * n,
                 .c_row = n,
                 .alpha = 1,
                 .tail = tail,
                 .compute = e->compute};
    e->k->gemm(w, e->k, &g);
}

void tq_addend_take(tq_exec *e, tq_worker *w, int64_t m, int64_t n, const tq_addend *add, bool joined, float *c) {
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

/* The site of the one adapter that all rows wear and whose product can join W's; else NULL. */
static const tq_site *joining_site(const tq_exec *e, int role, float *scale) {
    int i = 0, t0, t1;
    const tq_hats *hats = tq_hats_run(e, &i, &t0, &t1);
    if (!hats || hats->n != 1 || t0 != 0 || t1 != e->T) return NULL;
    *scale = hats->items[0].scale;
    const tq_site *site = tq_hat_site(e, &hats->items[0], role);
    return site && site->join ? site : NULL;
}

static void add_bias(const tq_exec *e, tq_worker *w, const float *bias, float *y, int64_t n) {
    int64_t t0, t1;
    tq_share(w, e->T, 1, &t0, &t1);
    for (int64_t t = t0; t < t1; t++) e->k->add(y + t * n, y + t * n, bias, n);
    tq_barrier(w);
}

/* What the rows' hats add to y, which holds W x + bias. */
static void hats_fwd(tq_exec *e, tq_worker *w, int role, const float *x, float *y) {
    int i = 0, t0, t1;
    for (const tq_hats *hats; (hats = tq_hats_run(e, &i, &t0, &t1));)
        for (int h = 0; h < hats->n; h++) {
            const tq_site *site = tq_hat_site(e, &hats->items[h], role);
            if (site && site->fwd) site->fwd(e, w, site, hats->items[h].scale, t0, t1, x, y);
        }
}

static void linear_fwd(tq_exec *e, tq_worker *w, const tq_step *s) {
    const tq_weight *weight = &e->weights[s->role];
    const float *x = e->v[s->in[0]], *bias = s->bias != TQ_ROLE_NONE ? e->weights[s->bias].data : NULL;
    float *y = e->v[s->out], scale;
    const bool changed = !e->bare && tq_hats_before(e, s->role);
    /* x is there as int8 already when the step before read the same input and made it so. */
    const bool quantized = s->same_input && e->k->rows_q8[e->weights[s[-1].role].type] && !changed &&
                           (e->bare || !tq_hats_before(e, s[-1].role));
    const tq_site *joining = e->bare || bias || e->decode ? NULL : joining_site(e, s->role, &scale);
    tq_addend add = {0};
    if (joining) joining->join(e, w, joining, scale, 0, e->T, x, &add);
    tq_product(e, w, weight, 0, e->T, changed ? tq_hats_input(e, w, s) : x, y, quantized, tail_of(&add));
    if (e->bare && !bias) return;
    tq_barrier(w);
    if (bias) add_bias(e, w, bias, y, weight->rows);
    if (!joining) hats_fwd(e, w, s->role, x, y);
    if (add.plain) tq_addend_take(e, w, e->T, weight->rows, &add, true, y);
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

static void hats_bwd(tq_exec *e, tq_worker *w, int role, const float *x, const float *dy, float *dx) {
    int i = 0, t0, t1;
    for (const tq_hats *hats; (hats = tq_hats_run(e, &i, &t0, &t1));)
        for (int h = 0; h < hats->n; h++) {
            const tq_site *site = tq_hat_site(e, &hats->items[h], role);
            if (site && site->bwd) site->bwd(e, w, site, hats->items[h].scale, t0, t1, x, dy, dx);
        }
}

static void linear_bwd(tq_exec *e, tq_worker *w, const tq_step *s) {
    const tq_weight *weight = &e->weights[s->role];
    const float *x = e->v[s->in[0]], *dy = e->g[s->out];
    float *dx = e->g[s->in[0]], scale;
    const bool bias = s->bias != TQ_ROLE_NONE && e->weights[s->bias].data;
    const bool changed = !e->bare && tq_hats_before(e, s->role);
    const tq_site *joining = e->bare || bias ? NULL : joining_site(e, s->role, &scale);
    tq_addend add = {0};
    if (joining) joining->join_bwd(e, w, joining, scale, 0, e->T, x, dy, dx ? &add : NULL);
    if (dx) {
        const float *base_dy = !e->bare && tq_hats_turn(e, s->role) ? tq_hats_output_grad(e, w, s) : dy;
        input_bwd(e, w, weight, base_dy, changed ? e->wide : dx, !changed && !s->first[0], tail_of(&add));
    }
    if (weight->grad) weight_bwd(e, w, weight, x, dy);
    if (bias && e->weights[s->bias].grad) bias_bwd(e, w, dy, weight->rows, e->weights[s->bias].grad);
    tq_barrier(w);
    if (changed) tq_hats_input_grad(e, w, s);
    if (!joining) hats_bwd(e, w, s->role, x, dy, dx);
    if (add.plain) tq_addend_take(e, w, e->T, weight->cols, &add, true, dx);
}

const tq_op tq_op_linear = {"linear", linear_fwd, linear_bwd, 1u, .by_rows = false};
