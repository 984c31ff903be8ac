/* PiSSA (Meng et al. 2024, "PiSSA: Principal Singular Values and Singular Vectors Adaptation"): LoRA that starts from
 * the R largest singular values of W = U S V^T: A = sqrt(S / s) V^T, B = U sqrt(S / s), on the rest W - s B0 A0.
 * The base stays as it is: what the start takes away is subtracted beside it, y = W x + s B A x - s B0 A0 x, and the
 * file is a LoRA of twice the rank with A = [A; A0], B = [B, -B0], as PEFT converts it. The singular vectors come from
 * subspace iteration with some vectors more than needed (Halko, Martinsson & Tropp 2011). */
#include "model/peft.h"

#include <math.h>
#include <string.h>

enum { EXTRA = 16, ROUNDS = 12 };

/* --- linear algebra on k rows ------------------------------------------------------------------------------ */
/* Makes the k rows of q [k, n] orthonormal, in double (modified Gram-Schmidt, twice for safety). */
static void orthonormalize(float *q, int k, int64_t n) {
    for (int i = 0; i < k; i++) {
        float *x = q + i * n;
        for (int again = 0; again < 2; again++)
            for (int j = 0; j < i; j++) {
                double dot = 0;
                for (int64_t c = 0; c < n; c++) dot += (double)x[c] * (double)q[j * n + c];
                for (int64_t c = 0; c < n; c++) x[c] -= (float)(dot * (double)q[j * n + c]);
            }
        double square = 0;
        for (int64_t c = 0; c < n; c++) square += (double)x[c] * (double)x[c];
        float scale = square > 0 ? (float)(1 / sqrt(square)) : 0;
        for (int64_t c = 0; c < n; c++) x[c] *= scale;
    }
}

/* Eigenvalues (falling) and vectors (columns of e) of a symmetric matrix a [k, k], which is destroyed: Jacobi. */
static void eigen(double *a, double *e, int k) {
    for (int i = 0; i < k * k; i++) e[i] = i % (k + 1) == 0;
    for (int sweep = 0; sweep < 30; sweep++)
        for (int p = 0; p < k; p++)
            for (int q = p + 1; q < k; q++) {
                if (fabs(a[p * k + q]) <= 1e-14 * sqrt(fabs(a[p * k + p] * a[q * k + q]))) continue;
                double theta = (a[q * k + q] - a[p * k + p]) / (2 * a[p * k + q]);
                double t = (theta < 0 ? -1 : 1) / (fabs(theta) + sqrt(theta * theta + 1));
                double c = 1 / sqrt(t * t + 1), s = t * c;
                for (int i = 0; i < k; i++) {
                    double x = a[i * k + p], y = a[i * k + q];
                    a[i * k + p] = c * x - s * y, a[i * k + q] = s * x + c * y;
                }
                for (int i = 0; i < k; i++) {
                    double x = a[p * k + i], y = a[q * k + i];
                    a[p * k + i] = c * x - s * y, a[q * k + i] = s * x + c * y;
                    x = e[i * k + p], y = e[i * k + q];
                    e[i * k + p] = c * x - s * y, e[i * k + q] = s * x + c * y;
                }
            }
    for (int i = 0; i < k; i++) { /* the largest first */
        int best = i;
        for (int j = i + 1; j < k; j++)
            if (a[j * k + j] > a[best * k + best]) best = j;
        double x = a[i * k + i];
        a[i * k + i] = a[best * k + best], a[best * k + best] = x;
        for (int r = 0; r < k && best != i; r++) x = e[r * k + i], e[r * k + i] = e[r * k + best], e[r * k + best] = x;
    }
}

static void product(tq_worker *w, const tq_site_state *s, int k, const float *a, bool transposed, float *c) {
    const tq_kernels *kernels = s->adapter->model->ctx->k;
    const tq_weight *W = s->weight;
    int64_t n = transposed ? W->rows : W->cols, inner = transposed ? W->cols : W->rows;
    tq_gemm g = {.m = k,
                 .n = n,
                 .k = inner,
                 .a = a,
                 .a_row = inner,
                 .a_col = 1,
                 .b = W->data,
                 .b_type = W->type,
                 .b_trans = transposed,
                 .b_stride = W->row_bytes,
                 .c = c,
                 .c_row = n,
                 .alpha = 1,
                 .compute = TQ_COMPUTE_F32};
    kernels->gemm(w, kernels, &g);
}

/* --- the start --------------------------------------------------------------------------------------------- */
static int n_vectors(const tq_site_state *s) {
    int64_t least = s->weight->rows < s->weight->cols ? s->weight->rows : s->weight->cols;
    return s->rank + EXTRA < least ? s->rank + EXTRA : (int)least;
}

static size_t n_room(const tq_site_state *s) {
    size_t k = (size_t)n_vectors(s);
    return (size_t)(s->weight->rows + s->weight->cols) * k * sizeof(float) + 2 * k * k * sizeof(double);
}

/* value[0] and value[1] from the singular vectors. room: n_room bytes. */
static void start_site(tq_worker *w, tq_site_state *s, uint64_t seed, uint32_t number, char *room) {
    int64_t out = s->weight->rows, in = s->weight->cols;
    int k = n_vectors(s), R = s->rank;
    double *gram = (double *)(void *)room, *e = gram + k * k;
    float *q = (float *)(void *)(e + k * k), *p = q + k * in; /* [k, in], [k, out] */
    tq_rng rng;
    tq_rng_init(&rng, seed, TQ_RNG_INIT, number, 1);
    for (int64_t i = 0; i < k * in; i++) q[i] = (float)tq_rng_normal(&rng);
    for (int round = 0; round < ROUNDS; round++) {
        product(w, s, k, q, true, p);
        orthonormalize(p, k, out);
        product(w, s, k, p, false, q);
        orthonormalize(q, k, in);
    }
    product(w, s, k, q, true, p); /* W is about P^T Q, its left singular vectors are P^T's */
    for (int i = 0; i < k; i++)
        for (int j = 0; j < k; j++) {
            gram[i * k + j] = 0;
            for (int64_t o = 0; o < out; o++) gram[i * k + j] += (double)p[i * out + o] * (double)p[j * out + o];
        }
    eigen(gram, e, k);
    for (int r = 0; r < R; r++) {
        double value = sqrt(gram[r * k + r] > 0 ? gram[r * k + r] : 0), root = sqrt(value / (double)s->scaling);
        for (int64_t i = 0; i < in; i++) {
            double sum = 0;
            for (int j = 0; j < k; j++) sum += e[j * k + r] * (double)q[j * in + i];
            s->value[0][r * in + i] = (float)(root * sum);
        }
        for (int64_t o = 0; o < out; o++) {
            double sum = 0;
            for (int j = 0; j < k; j++) sum += e[j * k + r] * (double)p[j * out + o];
            s->value[1][o * R + r] = value > 0 ? (float)(root * sum / value) : 0;
        }
    }
}

typedef struct start_job {
    tq_adapter *a;
    uint64_t seed;
    char *room;
    size_t each; /* of a worker */
} start_job;

static void start_sites(tq_worker *w, void *arg) {
    const start_job *job = arg;
    tq_site_state *states = job->a->states;
    tq_worker lone = {.count = 1, .scratch = w->scratch};
    for (size_t i = (size_t)w->id; i < job->a->n_sites; i += (size_t)w->count)
        start_site(&lone, &states[i], job->seed, (uint32_t)i, job->room + (size_t)w->id * job->each);
}

/* --- hooks: LoRA, less its own start ----------------------------------------------------------------------- */
static void pissa_fwd(tq_exec *e, tq_worker *w, const tq_site *site, float scale, int t0, int t1, const float *x,
                      float *y) {
    const tq_site_state *s = site->state;
    tq_lora_fwd(e, w, site, scale, t0, t1, x, y);
    int64_t in = s->weight->cols, out = s->weight->rows, R = s->rank, n = t1 - t0;
    float *h = e->low + t0 * R;
    tq_matmul(e, w, n, R, in, x + t0 * in, in, 1, s->start_value[0], true, in, h, R, 1, false);
    tq_barrier(w);
    tq_matmul(e, w, n, out, R, h, R, 1, s->start_value[1], true, R, y + t0 * out, out, -scale * s->scaling, true);
    tq_barrier(w);
}

static void pissa_bwd(tq_exec *e, tq_worker *w, const tq_site *site, float scale, int t0, int t1, const float *x,
                      const float *dy, float *dx) {
    const tq_site_state *s = site->state;
    tq_lora_bwd(e, w, site, scale, t0, t1, x, dy, dx);
    if (!dx) return;
    int64_t in = s->weight->cols, out = s->weight->rows, R = s->rank, n = t1 - t0;
    float *u = e->low + t0 * R;
    tq_matmul(e, w, n, R, out, dy + t0 * out, out, 1, s->start_value[1], false, R, u, R, 1, false);
    tq_barrier(w);
    tq_matmul(e, w, n, in, R, u, R, 1, s->start_value[0], false, in, dx + t0 * in, in, -scale * s->scaling, true);
    tq_barrier(w);
}

toque_status tq_pissa_start(tq_adapter *a, uint64_t seed, toque_error *err) {
    tq_mem *mem = &a->model->ctx->mem;
    tq_site_state *states = a->states;
    start_job job = {.a = a, .seed = seed};
    for (size_t i = 0; i < a->n_sites; i++)
        if (n_room(&states[i]) > job.each) job.each = (n_room(&states[i]) + 63) / 64 * 64;
    job.room = tq_alloc(mem, (size_t)tq_pool_threads(a->model->ctx->pool), job.each);
    a->start = tq_alloc(mem, a->n, sizeof(float));
    if (!job.room || !a->start) {
        tq_free(mem, job.room);
        return TQ_NOMEM(err);
    }
    tq_pool_run(a->model->ctx->pool, start_sites, &job);
    tq_free(mem, job.room);
    memcpy(a->start, a->values, a->n * sizeof(float));
    for (size_t i = 0; i < a->n_sites; i++) {
        tq_site_state *s = &states[i];
        tq_site *site = &a->sites[s->layer * TQ_ROLE_COUNT + s->role];
        for (int p = 0; p < 2; p++) s->start_value[p] = a->start + s->start[p];
        site->fwd = pissa_fwd;
        site->bwd = pissa_bwd;
        site->join = NULL;
        site->join_bwd = NULL;
    }
    return TOQUE_OK;
}

/* --- as a plain LoRA of twice the rank ---------------------------------------------------------------------- */
void tq_pissa_range(const tq_adapter *a, const tq_range *r, const float *values, float *out) {
    size_t n = (size_t)r->rows * (size_t)r->cols;
    const float *now = values + r->start, *start = a->start + r->start;
    if (r->part == 0) { /* A over A0 */
        memcpy(out, now, n * sizeof(float));
        memcpy(out + n, start, n * sizeof(float));
        return;
    }
    for (int o = 0; o < r->rows; o++) { /* B beside -B0 */
        float *row = out + (size_t)o * 2 * (size_t)r->cols;
        memcpy(row, now + (size_t)o * (size_t)r->cols, (size_t)r->cols * sizeof(float));
        for (int c = 0; c < r->cols; c++) row[r->cols + c] = -start[(size_t)o * (size_t)r->cols + (size_t)c];
    }
}
