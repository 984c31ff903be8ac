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

/* Few rows: each worker reads its part of W once, in blocks that stay in its cache while the rows pass over them. */
static void dot_rows(tq_exec *e, tq_worker *w, const tq_weight *weight, int t0, int t1, const float *x, float *y,
                     bool quantized) {
    enum { BLOCK = 32 };
    int64_t n = weight->rows, k = weight->cols, blocks = k / 32;
    bool int8 = e->int8 && e->k->rows_q8[weight->type];
    if (int8 && !quantized) {
        int64_t b, end;
        tq_share(w, (int64_t)(t1 - t0) * blocks, 1, &b, &end);
        e->k->quant_q8(e->xq + t0 * blocks + b, x + t0 * k + b * 32, (end - b) * 32);
        tq_barrier(w);
    }
    int64_t j0, j1;
    tq_share(w, n, BLOCK, &j0, &j1);
    for (int64_t j = j0; j < j1; j += BLOCK) {
        int64_t count = j1 - j < BLOCK ? j1 - j : BLOCK;
        const char *rows = (const char *)weight->data + (size_t)j * weight->row_bytes;
        for (int64_t t = t0; t < t1; t++) {
            if (int8)
                e->k->rows_q8[weight->type](y + t * n + j, rows, weight->row_bytes, count, k, e->xq + t * blocks);
            else
                e->k->rows_f32[weight->type](y + t * n + j, rows, weight->row_bytes, count, k, x + t * k);
        }
    }
}

void tq_product(tq_exec *e, tq_worker *w, const tq_weight *weight, int t0, int t1, const float *x, float *y,
                bool quantized) {
    if (e->decode) {
        dot_rows(e, w, weight, t0, t1, x, y, quantized);
        return;
    }
    int64_t n = weight->rows, k = weight->cols;
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
                 .compute = e->compute};
    e->k->gemm(w, e->k, &g);
}

static void linear_fwd(tq_exec *e, tq_worker *w, const tq_step *s) {
    const tq_weight *weight = &e->weights[s->role];
    const float *x = e->v[s->in[0]];
    float *y = e->v[s->out];
    bool changed = tq_hats_before(e, s->role);
    /* x is there as int8 already when the step before read the same input and made it so. */
    bool quantized =
        s->same_input && e->k->rows_q8[e->weights[s[-1].role].type] && !changed && !tq_hats_before(e, s[-1].role);
    tq_product(e, w, weight, 0, e->T, changed ? tq_hats_input(e, w, s) : x, y, quantized);
    tq_barrier(w);
    const float *bias = s->bias != TQ_ROLE_NONE ? e->weights[s->bias].data : NULL;
    if (bias) {
        int64_t t0, t1, n = weight->rows;
        tq_share(w, e->T, 1, &t0, &t1);
        for (int64_t t = t0; t < t1; t++) e->k->add(y + t * n, y + t * n, bias, n);
        tq_barrier(w);
    }
    int i = 0, t0, t1;
    for (const tq_hats *hats; (hats = tq_hats_run(e, &i, &t0, &t1));)
        for (int h = 0; h < hats->n; h++) {
            const tq_site *site = tq_hat_site(e, &hats->items[h], s->role);
            if (site && site->fwd) site->fwd(e, w, site, hats->items[h].scale, t0, t1, x, y);
        }
}

/* dbias[j] += sum over rows of dy[t, j]: workers share columns. */
static void bias_bwd(const tq_exec *e, tq_worker *w, const float *dy, int64_t n, float *dbias) {
    int64_t j0, j1;
    tq_share(w, n, 16, &j0, &j1);
    for (int64_t t = 0; t < e->T; t++) e->k->add(dbias + j0, dbias + j0, dy + t * n + j0, j1 - j0);
}

static void linear_bwd(tq_exec *e, tq_worker *w, const tq_step *s) {
    const tq_weight *weight = &e->weights[s->role];
    const float *x = e->v[s->in[0]], *dy = e->g[s->out];
    float *dx = e->g[s->in[0]];
    int64_t n = weight->rows, k = weight->cols;
    bool changed = tq_hats_before(e, s->role);
    if (dx) {
        tq_gemm g = {.m = e->T,
                     .n = k,
                     .k = n,
                     .a = tq_hats_turn(e, s->role) ? tq_hats_output_grad(e, w, s) : dy,
                     .a_row = n,
                     .a_col = 1,
                     .b = weight->data,
                     .b_type = weight->type,
                     .b_trans = false,
                     .b_stride = weight->row_bytes,
                     .c = changed ? e->wide : dx,
                     .c_row = k,
                     .alpha = 1,
                     .accumulate = !changed && !s->first[0],
                     .compute = e->compute};
        e->k->gemm(w, e->k, &g);
    }
    if (weight->grad) tq_matmul(e, w, n, k, e->T, dy, 1, n, x, false, k, weight->grad, k, 1, true);
    if (s->bias != TQ_ROLE_NONE && e->weights[s->bias].grad) bias_bwd(e, w, dy, n, e->weights[s->bias].grad);
    tq_barrier(w);
    if (changed) tq_hats_input_grad(e, w, s);
    int i = 0, t0, t1;
    for (const tq_hats *hats; (hats = tq_hats_run(e, &i, &t0, &t1));)
        for (int h = 0; h < hats->n; h++) {
            const tq_site *site = tq_hat_site(e, &hats->items[h], s->role);
            if (site && site->bwd) site->bwd(e, w, site, hats->items[h].scale, t0, t1, x, dy, dx);
        }
}

const tq_op tq_op_linear = {"linear", linear_fwd, linear_bwd, 1u};
