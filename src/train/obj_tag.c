/* A class for each token: softmax cross-entropy, the mean over all tokens of the step that are not special. */
#include "train/objective.h"

static double tag_row(const tq_example *e, int item, const tq_head *h, const float *y, float *dy, bool *counts) {
    const tq_example token = {.label = e->classes[item]};
    *counts = token.label >= 0;
    return *counts ? tq_objective_classify.row(&token, item, h, y, dy, counts) : 0;
}

const tq_objective tq_objective_tag = {
    .name = "tag",
    .help = "a head that gives each token a class, for spans: softmax cross-entropy",
    .keys = "tagging",
    .row = tag_row,
    .head = TQ_HEAD_TAGS,
};
