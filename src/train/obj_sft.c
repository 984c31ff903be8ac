/* Supervised fine-tuning: loss = -sum_t w_t log p_t / N, with N the sum of w_t over all target tokens of the step.
 * A row's `weight` w therefore counts its tokens w times, above and below the line; with all weights 1 the loss is the
 * mean negative log-probability of a target token. */
#include "train/objective.h"

static void sft_coef(const tq_readout *r, float *coef) {
    for (int i = 0; i < r->n; i++) coef[i] = (float)(-(double)r->weight[i] * r->scale);
}

const tq_objective tq_objective_sft = {
    .name = "sft",
    .help = "supervised fine-tuning: the mean -log p of the target tokens",
    .keys = "prompt_column answer_column system train_on",
    .coef = sft_coef,
    .loss = tq_readout_nll,
};
