/* Figures of a head's answers. See figures.h. */
#include "runs/figures.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CONFUSION_MAX = 500, SHOWN_MAX = 30 };

toque_status tq_figures_init(tq_figures *f, tq_mem *mem, const tq_head *head, toque_error *err) {
    *f = (tq_figures){.mem = mem, .head = head};
    size_t n = (size_t)head->n;
    f->tp = TQ_NEW_ARRAY(mem, size_t, 3 * n);
    f->y = TQ_NEW_ARRAY(mem, float, n);
    f->is = TQ_NEW_ARRAY(mem, unsigned char, n);
    bool matrix = head->kind == TQ_HEAD_CLASS && head->n <= CONFUSION_MAX;
    if (matrix) f->confusion = TQ_NEW_ARRAY(mem, size_t, n * n);
    if (!f->tp || !f->y || !f->is || (matrix && !f->confusion)) {
        tq_figures_clear(f);
        return TQ_NOMEM(err);
    }
    f->fp = f->tp + n;
    f->fn = f->fp + n;
    return TOQUE_OK;
}

void tq_figures_clear(tq_figures *f) {
    if (!f->mem) return;
    void *blocks[] = {f->tp, f->confusion, f->said, f->wanted, f->y, f->is};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) tq_free(f->mem, blocks[i]);
    *f = (tq_figures){0};
}

static int best_of(const float *y, int n) {
    int best = 0;
    for (int i = 1; i < n; i++)
        if (y[i] > y[best]) best = i;
    return best;
}

static void add_class(tq_figures *f, int truth, const float *y) {
    const int n = f->head->n, said = best_of(y, n);
    memcpy(f->y, y, (size_t)n * sizeof *y);
    tq_head_shares(f->head, f->y);
    int bin = (int)((double)f->y[said] * TQ_FIGURES_BINS);
    if (bin >= TQ_FIGURES_BINS) bin = TQ_FIGURES_BINS - 1;
    f->sure[bin] += (double)f->y[said];
    f->correct[bin] += said == truth;
    f->n++;
    f->right += said == truth;
    if (f->confusion) f->confusion[(size_t)truth * (size_t)n + (size_t)said]++;
    if (said == truth) {
        f->tp[truth]++;
        return;
    }
    f->fn[truth]++;
    f->fp[said]++;
}

static void add_labels(tq_figures *f, const tq_truth *truth, const float *y) {
    bool right = true;
    memset(f->is, 0, (size_t)f->head->n);
    for (int i = 0; i < truth->n; i++) f->is[truth->classes[i]] = 1;
    for (int i = 0; i < f->head->n; i++) {
        bool said = y[i] > 0; /* its share is above a half */
        right &= said == (bool)f->is[i];
        f->tp[i] += said && f->is[i];
        f->fp[i] += said && !f->is[i];
        f->fn[i] += !said && f->is[i];
    }
    f->n++;
    f->right += right;
}

static toque_status add_value(tq_figures *f, double wanted, float y, toque_error *err) {
    if (f->n == f->cap) {
        size_t cap = f->cap ? 2 * f->cap : 64;
        double *said = tq_realloc(f->mem, f->said, cap, sizeof *said);
        if (said) f->said = said;
        double *truth = said ? tq_realloc(f->mem, f->wanted, cap, sizeof *truth) : NULL;
        if (!truth) return TQ_NOMEM(err);
        f->wanted = truth;
        f->cap = cap;
    }
    f->said[f->n] = f->head->mean + f->head->deviation * (double)y;
    f->wanted[f->n++] = wanted;
    return TOQUE_OK;
}

/* --- spans -------------------------------------------------------------------------------------------------- */
void tq_tag_spans(const tq_head *h, const int32_t *classes, int n, tq_span_fn *fn, void *arg) {
    int from = -1, last = -1;
    const char *label = NULL;
    for (int t = 0; t < n; t++) {
        if (classes[t] < 0) continue;
        const char *name = h->labels[classes[t]];
        bool inside = name[0] && name[1] == '-', begins = inside && name[0] == 'B';
        bool goes_on = label && inside && !begins && strcmp(label, name + 2) == 0;
        if (label && !goes_on) {
            fn(arg, from, last + 1, label);
            label = NULL;
        }
        if (inside && !goes_on) from = t, label = name + 2;
        last = t;
    }
    if (label) fn(arg, from, last + 1, label);
}

typedef struct span_list {
    struct {
        int from, to;
        const char *label;
    } * items;
    int n;
} span_list;

static void keep_span(void *arg, int from, int to, const char *label) {
    span_list *l = arg;
    l->items[l->n].from = from;
    l->items[l->n].to = to;
    l->items[l->n++].label = label;
}

static toque_status add_tags(tq_figures *f, const tq_truth *truth, const float *y, int items, toque_error *err) {
    const tq_head *h = f->head;
    tq_mem *mem = f->mem;
    int32_t *said = TQ_NEW_ARRAY(mem, int32_t, items);
    span_list lists[2] = {{.items = tq_alloc(mem, (size_t)items, sizeof *lists[0].items)},
                          {.items = tq_alloc(mem, (size_t)items, sizeof *lists[1].items)}};
    bool ok = said && lists[0].items && lists[1].items;
    for (int t = 0; ok && t < items; t++) {
        said[t] = truth->classes[t] < 0 ? -1 : best_of(y + (size_t)t * (size_t)h->n, h->n);
        if (said[t] >= 0) add_class(f, truth->classes[t], y + (size_t)t * (size_t)h->n);
    }
    if (ok) {
        tq_tag_spans(h, said, items, keep_span, &lists[0]);
        tq_tag_spans(h, truth->classes, items, keep_span, &lists[1]);
    }
    for (int i = 0; i < lists[0].n; i++)
        for (int k = 0; k < lists[1].n; k++)
            f->spans_right += lists[0].items[i].from == lists[1].items[k].from &&
                              lists[0].items[i].to == lists[1].items[k].to &&
                              strcmp(lists[0].items[i].label, lists[1].items[k].label) == 0;
    f->spans_said += (size_t)lists[0].n;
    f->spans_true += (size_t)lists[1].n;
    tq_free(mem, said);
    tq_free(mem, lists[0].items);
    tq_free(mem, lists[1].items);
    return ok ? TOQUE_OK : TQ_NOMEM(err);
}

toque_status tq_figures_add(tq_figures *f, const tq_truth *truth, const float *y, int items, toque_error *err) {
    switch (f->head->kind) {
    case TQ_HEAD_CLASS: add_class(f, truth->label, y); return TOQUE_OK;
    case TQ_HEAD_LABELS: add_labels(f, truth, y); return TOQUE_OK;
    case TQ_HEAD_VALUE: return add_value(f, truth->value, y[0], err);
    case TQ_HEAD_TAGS: break;
    }
    return add_tags(f, truth, y, items, err);
}

/* --- the figures -------------------------------------------------------------------------------------------- */
static double share(double a, double b) {
    return b > 0 ? a / b : 0;
}

static double f1(size_t tp, size_t fp, size_t fn) {
    return share(2 * (double)tp, 2 * (double)tp + (double)fp + (double)fn);
}

double tq_figures_accuracy(const tq_figures *f) {
    return share((double)f->right, (double)f->n);
}

double tq_figures_macro_f1(const tq_figures *f) {
    double sum = 0;
    int n = 0;
    for (int i = 0; i < f->head->n; i++) {
        if (!f->tp[i] && !f->fp[i] && !f->fn[i]) continue; /* neither true nor said of any row */
        sum += f1(f->tp[i], f->fp[i], f->fn[i]);
        n++;
    }
    return share(sum, n);
}

static double micro_f1(const tq_figures *f) {
    size_t tp = 0, fp = 0, fn = 0;
    for (int i = 0; i < f->head->n; i++) tp += f->tp[i], fp += f->fp[i], fn += f->fn[i];
    return f1(tp, fp, fn);
}

double tq_figures_ece(const tq_figures *f) {
    double sum = 0;
    for (int i = 0; i < TQ_FIGURES_BINS; i++) sum += fabs(f->sure[i] - f->correct[i]);
    return share(sum, (double)f->n);
}

double tq_figures_span_f1(const tq_figures *f) {
    return f1(f->spans_right, f->spans_said - f->spans_right, f->spans_true - f->spans_right);
}

double tq_figures_rmse(const tq_figures *f) {
    double sum = 0;
    for (size_t i = 0; i < f->n; i++) sum += pow(f->said[i] - f->wanted[i], 2);
    return sqrt(share(sum, (double)f->n));
}

static double mae(const tq_figures *f) {
    double sum = 0;
    for (size_t i = 0; i < f->n; i++) sum += fabs(f->said[i] - f->wanted[i]);
    return share(sum, (double)f->n);
}

static double correlation(const double *x, const double *y, size_t n, double *mean_y, double *squares_y) {
    double mx = 0, my = 0, xy = 0, xx = 0, yy = 0;
    for (size_t i = 0; i < n; i++) mx += x[i] / (double)n, my += y[i] / (double)n;
    for (size_t i = 0; i < n; i++) {
        xy += (x[i] - mx) * (y[i] - my);
        xx += (x[i] - mx) * (x[i] - mx);
        yy += (y[i] - my) * (y[i] - my);
    }
    if (mean_y) *mean_y = my;
    if (squares_y) *squares_y = yy;
    return xx > 0 && yy > 0 ? xy / sqrt(xx * yy) : 0;
}

static double r2(const tq_figures *f) {
    double mean, squares, rmse = tq_figures_rmse(f);
    correlation(f->said, f->wanted, f->n, &mean, &squares);
    return squares > 0 ? 1 - rmse * rmse * (double)f->n / squares : 0;
}

static int by_number(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* How many of sorted [n] are below x; with `equal`, or equal. */
static size_t count_below(const double *sorted, size_t n, double x, bool equal) {
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (sorted[middle] < x || (equal && sorted[middle] <= x))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* rank[i] of x[i], ties share the mean of their ranks. */
static void ranks(const double *x, size_t n, double *rank, double *sorted) {
    memcpy(sorted, x, n * sizeof *x);
    qsort(sorted, n, sizeof *sorted, by_number);
    for (size_t i = 0; i < n; i++)
        rank[i] = ((double)count_below(sorted, n, x[i], false) + (double)count_below(sorted, n, x[i], true) + 1) / 2;
}

static bool spearman(const tq_figures *f, double *rho) {
    double *a = TQ_NEW_ARRAY(f->mem, double, 3 * f->n);
    if (!a) return false;
    ranks(f->said, f->n, a, a + 2 * f->n);
    ranks(f->wanted, f->n, a + f->n, a + 2 * f->n);
    *rho = correlation(a, a + f->n, f->n, NULL, NULL);
    tq_free(f->mem, a);
    return true;
}

static int put(json_t *o, const char *name, double value) {
    return json_object_set_new(o, name, json_real(value));
}

json_t *tq_figures_json(const tq_figures *f) {
    json_t *o = json_object();
    double rho = 0;
    int bad = !o;
    switch (f->head->kind) {
    case TQ_HEAD_CLASS:
        bad |= put(o, "accuracy", tq_figures_accuracy(f)) | put(o, "macro_f1", tq_figures_macro_f1(f)) |
               put(o, "ece", tq_figures_ece(f));
        break;
    case TQ_HEAD_LABELS:
        bad |= put(o, "micro_f1", micro_f1(f)) | put(o, "macro_f1", tq_figures_macro_f1(f)) |
               put(o, "rows_right", tq_figures_accuracy(f));
        break;
    case TQ_HEAD_VALUE:
        bad |= !spearman(f, &rho);
        bad |= put(o, "rmse", tq_figures_rmse(f)) | put(o, "mae", mae(f)) | put(o, "r2", r2(f)) |
               put(o, "pearson", correlation(f->said, f->wanted, f->n, NULL, NULL)) | put(o, "spearman", rho);
        break;
    case TQ_HEAD_TAGS:
        bad |= put(o, "token_accuracy", tq_figures_accuracy(f)) |
               put(o, "span_precision", share((double)f->spans_right, (double)f->spans_said)) |
               put(o, "span_recall", share((double)f->spans_right, (double)f->spans_true)) |
               put(o, "span_f1", tq_figures_span_f1(f)) | put(o, "ece", tq_figures_ece(f));
        break;
    }
    if (!bad) return o;
    json_decref(o);
    return NULL;
}

static void print_labels(const tq_figures *f, tq_buf *out) {
    tq_buf_puts(out, "\n| label | rows | precision | recall | F1 |\n|---|---|---|---|---|\n");
    for (int i = 0; i < f->head->n; i++)
        tq_buf_printf(out, "| %s | %zu | %.3f | %.3f | %.3f |\n", f->head->labels[i], f->tp[i] + f->fn[i],
                      share((double)f->tp[i], (double)(f->tp[i] + f->fp[i])),
                      share((double)f->tp[i], (double)(f->tp[i] + f->fn[i])), f1(f->tp[i], f->fp[i], f->fn[i]));
}

static void print_confusion(const tq_figures *f, tq_buf *out) {
    const int n = f->head->n;
    tq_buf_puts(out, "\n| truth \\ answer |");
    for (int i = 0; i < n; i++) tq_buf_printf(out, " %s |", f->head->labels[i]);
    tq_buf_puts(out, "\n|---|");
    for (int i = 0; i < n; i++) tq_buf_puts(out, "---|");
    for (int t = 0; t < n; t++) {
        tq_buf_printf(out, "\n| %s |", f->head->labels[t]);
        for (int i = 0; i < n; i++) tq_buf_printf(out, " %zu |", f->confusion[(size_t)t * (size_t)n + (size_t)i]);
    }
    tq_buf_puts(out, "\n");
}

toque_status tq_figures_print(const tq_figures *f, const char *which, tq_buf *out, toque_error *err) {
    json_t *o = tq_figures_json(f), *value;
    const char *name;
    if (!o) return TQ_NOMEM(err);
    tq_buf_printf(out, "%zu %s%s:", f->n, which ? which : "", f->head->kind == TQ_HEAD_TAGS ? "tokens" : "rows");
    json_object_foreach(o, name, value) tq_buf_printf(out, " %s %.4g,", name, json_real_value(value));
    json_decref(o);
    if (out->len) out->data[--out->len] = 0; /* the last comma */
    tq_buf_puts(out, "\n");
    if (f->head->labels && f->head->n <= SHOWN_MAX) print_labels(f, out);
    if (f->confusion && f->head->n <= SHOWN_MAX) print_confusion(f, out);
    return tq_buf_status(out, "the figures", err);
}
