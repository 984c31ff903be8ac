/* Any number of labels for each text: a sigmoid for each, loss = mean over labels of -log p of what is so. */
#include "train/objective.h"

#include <math.h>

static double multilabel_row(const tq_example *e, int item, const tq_head *h, const float *y, float *dy, bool *counts) {
    double loss = 0;
    (void)item;
    *counts = true;
    for (int i = 0; i < h->n; i++) {
        const double v = (double)y[i];
        loss += fmax(v, 0) + log1p(exp(-fabs(v)));
        dy[i] = (float)(1 / (1 + exp(-v)) / h->n);
    }
    for (int i = 0; i < e->n_classes; i++) {
        loss -= (double)y[e->classes[i]];
        dy[e->classes[i]] -= 1 / (float)h->n;
    }
    return loss / h->n;
}

const tq_objective tq_objective_multilabel = {
    .name = "multilabel",
    .help = "a head that gives each text any of several labels: a sigmoid for each",
    .keys = "pooling add_labels",
    .row = multilabel_row,
    .head = TQ_HEAD_LABELS,
};
