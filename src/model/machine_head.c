/* Readouts of a pass: what losses and samplers see. The head runs only for rows that carry a readout, in chunks of
 * rows; whole logits never exist. */
#include "model/machine_impl.h"

#include <math.h>
#include <string.h>

#include "model/adapter.h"

typedef struct head_job {
    tq_machine *m;
    int n; /* rows in this chunk */
    const tq_target *targets;
    const float *coef, *mean_coef;
    float *logp, *mean; /* mean and mean_coef: both or none */
    float *out;
    const float *grad;
} head_job;

const tq_weight *tq_machine_final_norm(const tq_machine *m) {
    return m->own ? &m->own->out_norm : &m->model->out_norm;
}

static const tq_weight *head_of(const tq_machine *m) {
    return m->own ? &m->own->head : &m->model->head;
}

void tq_machine_row_bwd(tq_machine *m, int64_t row, const float *d, float r) {
    int64_t C = m->model->config.C;
    const tq_kernels *k = m->base.k;
    float *grad = m->stream_grad[m->model->config.L % 2] + row * C;
    if (tq_machine_final_norm(m)->data)
        k->rms_norm_bwd(grad, NULL, d, tq_machine_final(m) + row * C, tq_machine_final_norm(m)->data, r, C);
    else
        k->add(grad, grad, d, C);
}

/* head_in[i] = norm of the listed row; this worker's share. */
static void norm_rows(tq_machine *m, tq_worker *w, const int *rows, int n, float *out) {
    int C = m->model->config.C;
    int64_t i0, i1;
    tq_share(w, n, 1, &i0, &i1);
    const float *weight = tq_machine_final_norm(m)->data; /* NULL: the last layer ends with its own norm */
    for (int64_t i = i0; i < i1; i++) {
        const float *x = tq_machine_final(m) + (int64_t)rows[i] * C;
        if (weight)
            m->head_r[i] = m->base.k->rms_norm(out + i * C, x, weight, m->base.eps, C);
        else
            memcpy(out + i * C, x, sizeof(float) * (size_t)C);
    }
    tq_barrier(w);
}

static void logits_job(tq_worker *w, void *arg) {
    head_job *j = arg;
    tq_machine *m = j->m;
    norm_rows(m, w, m->head_row, j->n, m->head_in);
    tq_exec e = m->base;
    e.decode = true;
    tq_product(&e, w, head_of(m), 0, j->n, m->head_in, j->out, false, NULL);
}

void tq_machine_logits(tq_machine *m, const int *rows, int n, float *out) {
    memcpy(m->head_row, rows, sizeof(int) * (size_t)n);
    head_job j = {.m = m, .n = n, .out = out};
    tq_pool_run(m->model->ctx->pool, logits_job, &j);
}

/* Mean over the vocabulary, in double and in order. */
static double mean_of(const float *y, int64_t V) {
    double sum = 0;
    for (int64_t v = 0; v < V; v++) sum += (double)y[v];
    return sum / (double)V;
}

/* One row of logits: the log-probabilities of its targets and, with coef, d(loss)/d(logits) in its place:
 * sum_k c_k e_k + u/V - (u + sum_k c_k) p, u being the sum of the coefficients of the mean. */
static void read_row(const head_job *j, int i) {
    tq_machine *m = j->m;
    const tq_kernels *k = m->base.k;
    int64_t V = m->model->config.V;
    float *y = m->logits + i * V;
    int first = m->head_first[i], end = m->head_first[i + 1];
    float max = k->max(y, V);
    for (int t = first; t < end; t++) j->logp[t] = y[j->targets[t].token] - max;
    double mean = j->mean ? mean_of(y, V) - (double)max : 0;
    float sum = k->exp_sum(y, y, max, V), log_sum = logf(sum), total = 0, uniform = 0;
    for (int t = first; t < end; t++) {
        j->logp[t] -= log_sum;
        if (j->mean) j->mean[t] = (float)(mean - (double)log_sum);
        if (j->coef) total += j->coef[t];
        if (j->mean_coef) uniform += j->mean_coef[t];
    }
    if (!j->coef) return;
    k->scale(y, -(total + uniform) / sum, V);
    if (j->mean_coef)
        for (int64_t v = 0; v < V; v++) y[v] += uniform / (float)V;
    for (int t = first; t < end; t++) y[j->targets[t].token] += j->coef[t];
}

/* dw += sum over the chunk's rows of dy * x * r: workers share the columns. */
static void norm_grad(tq_machine *m, tq_worker *w, int n, const float *grad) {
    int64_t C = m->model->config.C, b, end;
    float *dw = tq_machine_final_norm(m)->grad;
    tq_share(w, C, 16, &b, &end);
    for (int i = 0; i < n; i++) {
        const float *x = tq_machine_final(m) + m->head_row[i] * C, *dy = grad + i * C;
        for (int64_t c = b; c < end; c++) dw[c] += dy[c] * x[c] * m->head_r[i];
    }
}

static void logp_job(tq_worker *w, void *arg) {
    head_job *j = arg;
    tq_machine *m = j->m;
    const tq_kernels *k = m->base.k;
    const tq_weight *head = head_of(m);
    int64_t C = m->model->config.C, V = m->model->config.V, i0, i1;
    norm_rows(m, w, m->head_row, j->n, m->head_in);
    tq_gemm g = {.m = j->n,
                 .n = V,
                 .k = C,
                 .a = m->head_in,
                 .a_row = C,
                 .a_col = 1,
                 .b = head->data,
                 .b_type = head->type,
                 .b_trans = true,
                 .b_stride = head->row_bytes,
                 .c = m->logits,
                 .c_row = V,
                 .alpha = 1,
                 .compute = m->base.compute};
    k->gemm(w, k, &g);
    tq_barrier(w);
    tq_share(w, j->n, 1, &i0, &i1);
    for (int64_t i = i0; i < i1; i++) read_row(j, (int)i);
    tq_barrier(w);
    if (!j->coef) return;
    tq_gemm d = {.m = j->n,
                 .n = C,
                 .k = V,
                 .a = m->logits,
                 .a_row = V,
                 .a_col = 1,
                 .b = head->data,
                 .b_type = head->type,
                 .b_trans = false,
                 .b_stride = head->row_bytes,
                 .c = m->head_grad,
                 .c_row = C,
                 .alpha = 1,
                 .compute = m->base.compute};
    k->gemm(w, k, &d);
    if (head->grad) tq_matmul(&m->base, w, V, C, j->n, m->logits, 1, V, m->head_in, false, C, head->grad, C, 1, true);
    tq_barrier(w);
    if (tq_machine_final_norm(m)->grad) norm_grad(m, w, j->n, m->head_grad);
    for (int64_t i = i0; i < i1; i++) tq_machine_row_bwd(m, m->head_row[i], m->head_grad + i * C, m->head_r[i]);
}

void tq_machine_logp(tq_machine *m, const tq_target *targets, int n, const float *coef, float *logp) {
    tq_machine_logp_mean(m, targets, n, coef, NULL, logp, NULL);
}

void tq_machine_logp_mean(tq_machine *m, const tq_target *targets, int n, const float *coef, const float *mean_coef,
                          float *logp, float *mean) {
    for (int t = 0; t < n;) {
        int rows = 0;
        while (t < n && rows < m->plan.head_rows) {
            m->head_row[rows] = targets[t].row;
            m->head_first[rows] = t;
            do t++;
            while (t < n && targets[t].row == m->head_row[rows]);
            rows++;
        }
        m->head_first[rows] = t;
        head_job j = {
            .m = m, .n = rows, .targets = targets, .coef = coef, .mean_coef = mean_coef, .logp = logp, .mean = mean};
        tq_pool_run(m->model->ctx->pool, logp_job, &j);
    }
}

static void hidden_job(tq_worker *w, void *arg) {
    head_job *j = arg;
    norm_rows(j->m, w, j->m->head_row, j->n, j->out);
}

void tq_machine_hidden(tq_machine *m, const int *rows, int n, float *out) {
    for (int i = 0; i < n; i += m->plan.head_rows) {
        int some = n - i < m->plan.head_rows ? n - i : m->plan.head_rows;
        memcpy(m->head_row, rows + i, sizeof(int) * (size_t)some);
        head_job j = {.m = m, .n = some, .out = out + (int64_t)i * m->model->config.C};
        tq_pool_run(m->model->ctx->pool, hidden_job, &j);
    }
}

static void hidden_bwd_job(tq_worker *w, void *arg) {
    head_job *j = arg;
    tq_machine *m = j->m;
    int64_t C = m->model->config.C, i0, i1;
    norm_rows(m, w, m->head_row, j->n, m->head_in);
    if (tq_machine_final_norm(m)->grad) norm_grad(m, w, j->n, j->grad);
    tq_share(w, j->n, 1, &i0, &i1);
    for (int64_t i = i0; i < i1; i++) tq_machine_row_bwd(m, m->head_row[i], j->grad + i * C, m->head_r[i]);
}

void tq_machine_hidden_bwd(tq_machine *m, const int *rows, int n, const float *grad) {
    for (int i = 0; i < n; i += m->plan.head_rows) {
        int some = n - i < m->plan.head_rows ? n - i : m->plan.head_rows;
        memcpy(m->head_row, rows + i, sizeof(int) * (size_t)some);
        head_job j = {.m = m, .n = some, .grad = grad + (int64_t)i * m->model->config.C};
        tq_pool_run(m->model->ctx->pool, hidden_bwd_job, &j);
    }
}
