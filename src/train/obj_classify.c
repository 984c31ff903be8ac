/* One label for each text: softmax cross-entropy, loss = -w log p(label), p = softmax(y); d/dy = p - e_label. Divided,
 * as transformers' weighted loss is, by the sum of the weights of the step's rows. */
#include "train/objective.h"

#include <math.h>

static double classify_row(const tq_example *e, int item, const tq_head *h, const float *y, float *dy, bool *counts) {
    double max = (double)y[0], sum = 0;
    (void)item;
    *counts = true;
    for (int i = 1; i < h->n; i++) max = (double)y[i] > max ? (double)y[i] : max;
    for (int i = 0; i < h->n; i++) sum += exp((double)y[i] - max);
    for (int i = 0; i < h->n; i++) dy[i] = (float)(exp((double)y[i] - max) / sum);
    dy[e->label] -= 1;
    return log(sum) + max - (double)y[e->label];
}

const tq_objective tq_objective_classify = {
    .name = "classify",
    .help = "a head that gives each text one of several labels: softmax cross-entropy",
    .keys = "pooling class_weights add_labels",
    .row = classify_row,
    .head = TQ_HEAD_CLASS,
};
