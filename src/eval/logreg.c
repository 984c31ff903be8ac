/* Logistic regression by L-BFGS. See logreg.h. */
#include "eval/logreg.h"

#include <math.h>
#include <string.h>

enum { HISTORY = 6, SEARCHES = 40 };

toque_status tq_logreg_init(tq_logreg *m, tq_mem *mem, size_t cols, size_t labels, toque_error *err) {
    *m = (tq_logreg){.mem = mem, .cols = cols, .labels = labels};
    m->weight = tq_zalloc(mem, cols + 1, labels * sizeof *m->weight);
    return m->weight ? TOQUE_OK : TQ_NOMEM(err);
}

void tq_logreg_clear(tq_logreg *m) {
    if (m->mem) tq_free(m->mem, m->weight);
    *m = (tq_logreg){0};
}

static void logp_of(const double *weight, const tq_sparse *x, size_t row, size_t labels, double *logp) {
    memcpy(logp, weight + x->cols * labels, labels * sizeof *logp);
    for (size_t k = x->start[row]; k < x->start[row + 1]; k++) {
        const double *w = weight + x->col[k] * labels, v = x->value[k];
        for (size_t j = 0; j < labels; j++) logp[j] += v * w[j];
    }
    double top = logp[0], sum = 0;
    for (size_t j = 1; j < labels; j++) top = logp[j] > top ? logp[j] : top;
    for (size_t j = 0; j < labels; j++) sum += exp(logp[j] - top);
    top += log(sum);
    for (size_t j = 0; j < labels; j++) logp[j] -= top;
}

void tq_logreg_logp(const tq_logreg *m, const tq_sparse *x, size_t row, double *logp) {
    logp_of(m->weight, x, row, m->labels, logp);
}

/* One minimization: everything is divided by the number of rows. */
typedef struct problem {
    const tq_sparse *x;
    const uint32_t *label;
    size_t labels, n; /* n: values to find, of which the last `labels` are biases */
    double penalty;   /* 1 / (C rows) */
    double *p;        /* [labels] */
} problem;

/* The value at w, and its gradient. */
static double evaluate(const problem *q, const double *w, double *gradient) {
    const tq_sparse *x = q->x;
    size_t labels = q->labels, weights = q->n - labels;
    double loss = 0, square = 0, share = 1 / (double)x->rows;
    for (size_t i = 0; i < weights; i++) {
        square += w[i] * w[i];
        gradient[i] = q->penalty * w[i];
    }
    memset(gradient + weights, 0, labels * sizeof *gradient);
    for (size_t i = 0; i < x->rows; i++) {
        logp_of(w, x, i, labels, q->p);
        loss -= q->p[q->label[i]];
        for (size_t j = 0; j < labels; j++) q->p[j] = exp(q->p[j]) * share;
        q->p[q->label[i]] -= share;
        for (size_t k = x->start[i]; k < x->start[i + 1]; k++) {
            double *g = gradient + x->col[k] * labels, v = x->value[k];
            for (size_t j = 0; j < labels; j++) g[j] += v * q->p[j];
        }
        for (size_t j = 0; j < labels; j++) gradient[weights + j] += q->p[j];
    }
    return loss * share + q->penalty * square / 2;
}

static double dot(const double *a, const double *b, size_t n) {
    double sum[4] = {0};
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (size_t k = 0; k < 4; k++) sum[k] += a[i + k] * b[i + k];
    for (; i < n; i++) sum[0] += a[i] * b[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

static double largest(const double *a, size_t n) {
    double most = 0;
    for (size_t i = 0; i < n; i++) most = fabs(a[i]) > most ? fabs(a[i]) : most;
    return most;
}

/* The last steps s and what the gradient changed by in them, y; slot `at` is the next to be written. */
typedef struct history {
    double *s[HISTORY], *y[HISTORY], sy[HISTORY];
    int at, n;
} history;

/* d = -H g by the two-loop recursion. */
static void direction(const history *h, const double *g, double *d, size_t n) {
    double alpha[HISTORY];
    for (size_t i = 0; i < n; i++) d[i] = -g[i];
    for (int k = 1; k <= h->n; k++) {
        int at = (h->at - k + HISTORY) % HISTORY;
        alpha[at] = dot(h->s[at], d, n) / h->sy[at];
        for (size_t i = 0; i < n; i++) d[i] -= alpha[at] * h->y[at][i];
    }
    if (h->n) {
        int last = (h->at - 1 + HISTORY) % HISTORY;
        double scale = h->sy[last] / dot(h->y[last], h->y[last], n);
        for (size_t i = 0; i < n; i++) d[i] *= scale;
    }
    for (int k = h->n; k >= 1; k--) {
        int at = (h->at - k + HISTORY) % HISTORY;
        double beta = dot(h->y[at], d, n) / h->sy[at];
        for (size_t i = 0; i < n; i++) d[i] += (alpha[at] - beta) * h->s[at][i];
    }
}

/* Weak Wolfe conditions by bisection: w becomes from + t d with *value and gradient of that place. False: no step is
 * good enough, the sums are as exact as they get; w is then where it was. */
static bool search(const problem *q, const double *from, double *w, const double *d, double slope, double t,
                   double *value, double *gradient) {
    double low = 0, high = INFINITY, start = *value;
    for (int i = 0; i < SEARCHES; i++) {
        for (size_t k = 0; k < q->n; k++) w[k] = from[k] + t * d[k];
        *value = evaluate(q, w, gradient);
        if (!(*value <= start + 1e-4 * t * slope))
            high = t;
        else if (dot(gradient, d, q->n) < 0.9 * slope)
            low = t;
        else
            return true;
        t = isinf(high) ? 2 * t : (low + high) / 2;
    }
    memcpy(w, from, q->n * sizeof *w);
    return false;
}

static toque_status minimize(tq_logreg *m, const problem *q, history *h, double *from, double *g, double *before,
                             double *d, double tolerance, const atomic_bool *canceled, toque_error *err) {
    size_t n = q->n;
    double *w = m->weight, value = evaluate(q, w, g);
    m->converged = false;
    for (m->iterations = 0;; m->iterations++) {
        if (!isfinite(value)) return TQ_FAIL(err, ENONFINITE, "logistic regression: the loss is not finite");
        m->converged = largest(g, n) <= tolerance;
        if (m->converged || m->iterations == TQ_LOGREG_ITERATIONS) return TOQUE_OK;
        if (canceled && atomic_load(canceled)) return TQ_FAIL(err, ECANCELED, "interrupted");
        direction(h, g, d, n);
        double slope = dot(g, d, n), step = h->n ? 1 : 1 / sqrt(dot(g, g, n));
        memcpy(from, w, n * sizeof *w);
        memcpy(before, g, n * sizeof *g);
        if (!search(q, from, w, d, slope, step, &value, g)) return TOQUE_OK;
        for (size_t i = 0; i < n; i++) {
            h->s[h->at][i] = w[i] - from[i];
            h->y[h->at][i] = g[i] - before[i];
        }
        h->sy[h->at] = dot(h->s[h->at], h->y[h->at], n);
        if (!(h->sy[h->at] > 0)) continue;
        h->at = (h->at + 1) % HISTORY;
        if (h->n < HISTORY) h->n++;
    }
}

toque_status tq_logreg_fit(tq_logreg *m, const tq_sparse *x, const uint32_t *label, double c, double tolerance,
                           const atomic_bool *canceled, toque_error *err) {
    enum { VECTORS = 4 + 2 * HISTORY };
    size_t n = (m->cols + 1) * m->labels;
    history h = {0};
    double *p = TQ_NEW_ARRAY(m->mem, double, m->labels);
    double *all = tq_alloc(m->mem, n, VECTORS * sizeof *all);
    toque_status status = p && all ? TOQUE_OK : TQ_NOMEM(err);
    if (status == TOQUE_OK) {
        problem q = {.x = x, .label = label, .labels = m->labels, .n = n, .penalty = 1 / (c * (double)x->rows), .p = p};
        for (size_t i = 0; i < HISTORY; i++) {
            h.s[i] = all + (4 + 2 * i) * n;
            h.y[i] = all + (5 + 2 * i) * n;
        }
        status = minimize(m, &q, &h, all, all + n, all + 2 * n, all + 3 * n, tolerance, canceled, err);
    }
    tq_free(m->mem, all);
    tq_free(m->mem, p);
    return status;
}
