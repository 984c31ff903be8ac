/* Supervised fine-tuning: loss = -sum_t w_t log p_t / N, with N the sum of w_t over all target tokens of the step.
 * A row's `weight` w therefore counts its tokens w times, above and below the line; with all weights 1 the loss is the
 * mean negative log-probability of a target token. Label smoothing E (Szegedy et al. 2016) takes (1 - E) log p_t + E *
 * (the mean of log p over the vocabulary) in the place of log p_t. */
#include "train/objective.h"

static void sft_coef(const tq_readout *r, float *coef) {
    for (int i = 0; i < r->n; i++) coef[i] = (float)(-(double)r->weight[i] * r->scale * (1 - r->smoothing));
}

static void sft_mean_coef(const tq_readout *r, float *coef) {
    for (int i = 0; i < r->n; i++) coef[i] = (float)(-(double)r->weight[i] * r->scale * r->smoothing);
}

static double sft_loss(const tq_readout *r) {
    double sum = 0;
    if (!(r->smoothing > 0)) return tq_readout_nll(r);
    for (int i = 0; i < r->n; i++) sum -= (double)r->weight[i] * (double)r->mean[i];
    return (1 - r->smoothing) * tq_readout_nll(r) + r->smoothing * sum * r->scale;
}

const tq_objective tq_objective_sft = {
    .name = "sft",
    .help = "supervised fine-tuning: the mean -log p of the target tokens",
    .keys = "prompt_column answer_column system train_on label_smoothing",
    .coef = sft_coef,
    .mean_coef = sft_mean_coef,
    .loss = sft_loss,
};
