/* A number for each text: the squared error of the standardized target, (y - (value - mean) / deviation)^2; mean and
 * deviation of the rows to train on travel with the head. */
#include "train/objective.h"

static double regress_row(const tq_example *e, int item, const tq_head *h, const float *y, float *dy, bool *counts) {
    const double d = (double)y[0] - ((double)e->value - h->mean) / h->deviation;
    (void)item;
    *counts = true;
    dy[0] = (float)(2 * d);
    return d * d;
}

const tq_objective tq_objective_regress = {
    .name = "regress",
    .help = "a head that gives each text a number: squared error on standardized targets",
    .keys = "pooling",
    .row = regress_row,
    .head = TQ_HEAD_VALUE,
};
