/* Figures of a head's answers to rows whose truth is known. Of classes: accuracy, F1 of each label and its mean over
 * the labels that there are (macro), the confusion matrix, and the expected calibration error in 15 bins of equal width
 * (Guo et al. 2017). Of several labels: F1 over all and by label, and rows that are right in all. Of numbers: RMSE,
 * MAE, R2, Pearson's and Spearman's correlation. Of tags: accuracy of tokens and F1 of whole spans (as in CoNLL). */
#ifndef TQ_RUNS_FIGURES_H
#define TQ_RUNS_FIGURES_H

#include <jansson.h>

#include "base/buf.h"
#include "model/head.h"

enum { TQ_FIGURES_BINS = 15 };

typedef struct tq_truth {
    int label;
    double value;
    const int32_t *classes; /* multilabel: [n] numbers; tags: of each item, -1: not counted */
    int n;
} tq_truth;

typedef struct tq_figures {
    tq_mem *mem;
    const tq_head *head;
    size_t n, right;      /* items (tags: tokens), and those that are right */
    size_t *tp, *fp, *fn; /* [labels] */
    size_t *confusion;    /* [labels, labels] truth by answer; NULL: not of classes */
    double sure[TQ_FIGURES_BINS], correct[TQ_FIGURES_BINS];
    size_t spans_right, spans_said, spans_true;
    double *said, *wanted; /* [n] numbers */
    size_t cap;
    float *y;          /* [labels] scratch */
    unsigned char *is; /* [labels] scratch */
} tq_figures;

toque_status tq_figures_init(tq_figures *f, tq_mem *mem, const tq_head *head, toque_error *err) TQ_MUST;
void tq_figures_clear(tq_figures *f); /* accepts a zeroed struct */
/* One example's outputs y [items, labels], before softmax. */
toque_status tq_figures_add(tq_figures *f, const tq_truth *truth, const float *y, int items, toque_error *err) TQ_MUST;
double tq_figures_accuracy(const tq_figures *f);
double tq_figures_macro_f1(const tq_figures *f);
double tq_figures_ece(const tq_figures *f);
double tq_figures_span_f1(const tq_figures *f);
double tq_figures_rmse(const tq_figures *f);
/* The numbers alone as members of an object, names and values; NULL without memory. */
json_t *tq_figures_json(const tq_figures *f);
/* For people: lines of Markdown. which: "held-out " or so, before rows; NULL: nothing. */
toque_status tq_figures_print(const tq_figures *f, const char *which, tq_buf *out, toque_error *err) TQ_MUST;

/* The spans that classes of tokens make, for tags: calls fn with the tokens [from, to) and the label behind its "B-" or
 * "I-". An I- that continues nothing begins a span. */
typedef void tq_span_fn(void *arg, int from, int to, const char *label);
void tq_tag_spans(const tq_head *h, const int32_t *classes, int n, tq_span_fn *fn, void *arg);

#endif
