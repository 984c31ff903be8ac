/* The readout `hidden` by segments: what heads and embeddings read of a pass, and its way back into the rows. A
 * segment's mean is summed by one worker in the order of its rows. */
#include "model/machine_impl.h"

#include <string.h>

#include "model/adapter.h"

typedef struct pool_job {
    tq_machine *m;
    tq_read read;
    int first, n; /* segments of this chunk (each: rows) */
    float *out;
    const float *value, *grad;
} pool_job;

static const tq_weight *pooler_of(const tq_machine *m) {
    return m->own ? &m->own->pooler : &m->model->pooler;
}

static const tq_weight *pooler_bias_of(const tq_machine *m) {
    return m->own ? &m->own->pooler_bias : &m->model->pooler_bias;
}

/* out [C] = a row behind the final norm; returns the norm's 1 / rms. */
static float norm_row(const tq_machine *m, int64_t row, float *out) {
    const int64_t C = m->model->config.C;
    const float *x = tq_machine_final(m) + row * C, *weight = tq_machine_final_norm(m)->data;
    if (weight) return m->base.k->rms_norm(out, x, weight, m->base.eps, C);
    memcpy(out, x, (size_t)C * sizeof *out); /* the last layer ends with its own norm */
    return 1;
}

/* The rows that item i of the job reads. */
static void rows_of(const pool_job *j, int64_t i, int64_t *from, int64_t *to) {
    if (j->read == TQ_READ_EACH) {
        *from = i;
    } else {
        const tq_segment *s = &j->m->pass.segments[i];
        *from = j->read == TQ_READ_LAST ? s->row + s->n - 1 : s->row;
        if (j->read == TQ_READ_MEAN) {
            *to = s->row + s->n;
            return;
        }
    }
    *to = *from + 1;
}

/* tanh by the table's exponential, which is the same on every machine of an instruction set. */
static void tanh_row(const tq_kernels *k, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const float x = y[i] > 20 ? 20 : y[i] < -20 ? -20 : y[i];
        y[i] = 2 * x;
    }
    k->exp_sum(y, y, 0, n);
    for (int64_t i = 0; i < n; i++) y[i] = 1 - 2 / (y[i] + 1);
}

static void read_job(tq_worker *w, void *arg) {
    const pool_job *j = arg;
    tq_machine *m = j->m;
    const tq_kernels *k = m->base.k;
    const int64_t C = m->model->config.C;
    float *one = w->scratch;
    int64_t i0, i1, from, to;
    tq_share(w, j->n, 1, &i0, &i1);
    for (int64_t i = j->first + i0; i < j->first + i1; i++) {
        float *out = j->out + i * C;
        rows_of(j, i, &from, &to);
        if (j->read == TQ_READ_POOLER) {
            const tq_weight *p = pooler_of(m);
            norm_row(m, from, one);
            k->rows_f32[p->type](out, p->data, p->row_bytes, C, C, one);
            k->add(out, out, pooler_bias_of(m)->data, C);
            tanh_row(k, out, C);
            continue;
        }
        norm_row(m, from, out);
        for (int64_t t = from + 1; t < to; t++) {
            norm_row(m, t, one);
            k->add(out, out, one, C);
        }
        if (to - from > 1) k->scale(out, 1 / (float)(to - from), C);
    }
}

int tq_machine_items(const tq_machine *m, tq_read read) {
    return read == TQ_READ_EACH ? m->pass.T : m->pass.n_segments;
}

void tq_machine_read(tq_machine *m, tq_read read, float *out) {
    pool_job j = {.m = m, .read = read, .n = tq_machine_items(m, read), .out = out};
    tq_pool_run(m->model->ctx->pool, read_job, &j);
}

/* g [C], the gradient of one row behind the norm, into the stream's. */
static void row_bwd(tq_machine *m, int64_t row, const float *g, float *scratch) {
    m->row_r[row] = norm_row(m, row, scratch);
    tq_machine_row_bwd(m, row, g, m->row_r[row]);
}

/* d(out) of the pooler's items as d(its first row), in head_grad; its own gradients. */
static void pooler_bwd(const pool_job *j, tq_worker *w) {
    tq_machine *m = j->m;
    const tq_kernels *k = m->base.k;
    const tq_weight *p = pooler_of(m), *bias = pooler_bias_of(m);
    const int64_t C = m->model->config.C;
    float *row = w->scratch, *sum = row + C;
    int64_t i0, i1, c0, c1;
    tq_share(w, j->n, 1, &i0, &i1);
    for (int64_t i = i0; i < i1; i++) {
        const float *y = j->value + (j->first + i) * C, *dy = j->grad + (j->first + i) * C;
        float *d = m->head_grad + i * C;
        for (int64_t c = 0; c < C; c++) d[c] = dy[c] * (1 - y[c] * y[c]);
        norm_row(m, m->pass.segments[j->first + i].row, m->head_in + i * C);
    }
    tq_barrier(w);
    if (p->grad || bias->grad) {
        tq_share(w, C, 1, &c0, &c1);
        for (int64_t i = 0; i < j->n; i++)
            for (int64_t c = c0; c < c1; c++) {
                const float d = m->head_grad[i * C + c];
                if (p->grad) k->axpy(p->grad + c * C, d, m->head_in + i * C, C);
                if (bias->grad) bias->grad[c] += d;
            }
        tq_barrier(w);
    }
    for (int64_t i = i0; i < i1; i++) {
        float *d = m->head_grad + i * C;
        memset(sum, 0, (size_t)C * sizeof *sum);
        for (int64_t c = 0; c < C; c++) {
            k->dequant_row[p->type](row, (const char *)p->data + (size_t)c * p->row_bytes, C);
            k->axpy(sum, d[c], row, C);
        }
        memcpy(d, sum, (size_t)C * sizeof *d);
    }
}

static void bwd_job(tq_worker *w, void *arg) {
    const pool_job *j = arg;
    tq_machine *m = j->m;
    const int64_t C = m->model->config.C;
    const bool pooler = j->read == TQ_READ_POOLER;
    float *scratch = w->scratch, *share = scratch + C;
    int64_t i0, i1, from, to;
    if (pooler) pooler_bwd(j, w);
    tq_share(w, j->n, 1, &i0, &i1);
    for (int64_t i = j->first + i0; i < j->first + i1; i++) {
        const float *g = pooler ? m->head_grad + (i - j->first) * C : j->grad + i * C;
        rows_of(j, i, &from, &to);
        if (to - from > 1) {
            memcpy(share, g, (size_t)C * sizeof *share);
            m->base.k->scale(share, 1 / (float)(to - from), C);
            g = share;
        }
        for (int64_t t = from; t < to; t++) row_bwd(m, t, g, scratch);
    }
    float *dw = tq_machine_final_norm(m)->grad;
    if (!dw) return;
    tq_barrier(w);
    int64_t c0, c1;
    tq_share(w, C, 16, &c0, &c1);
    for (int64_t i = j->first; i < j->first + j->n; i++) {
        rows_of(j, i, &from, &to);
        const float part = 1 / (float)(to - from);
        for (int64_t t = from; t < to; t++) {
            const float *x = tq_machine_final(m) + t * C, *g = j->grad + i * C;
            for (int64_t c = c0; c < c1; c++) dw[c] += part * g[c] * x[c] * m->row_r[t];
        }
    }
}

void tq_machine_read_bwd(tq_machine *m, tq_read read, const float *value, const float *grad) {
    int n = tq_machine_items(m, read), most = read == TQ_READ_POOLER ? m->plan.head_rows : n;
    for (int i = 0; i < n; i += most) {
        pool_job j = {.m = m, .read = read, .first = i, .n = n - i < most ? n - i : most, .value = value, .grad = grad};
        tq_pool_run(m->model->ctx->pool, bwd_job, &j);
    }
}
