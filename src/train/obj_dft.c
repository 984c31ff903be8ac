/* Dynamic fine-tuning (Wu et al., "On the Generalization of SFT", arXiv 2508.05629): every target token's -log p is
 * weighted by its own probability, through which no gradient flows: loss = -sum_t w_t sg(p_t) log p_t / N. Tokens that
 * the model thinks impossible no longer dominate the gradient. */
#include <math.h>

#include "train/objective.h"

static void dft_coef(const tq_readout *r, float *coef) {
    for (int i = 0; i < r->n; i++) coef[i] = (float)(-(double)r->weight[i] * exp((double)r->logp[i]) * r->scale);
}

static double dft_loss(const tq_readout *r) {
    double sum = 0;
    for (int i = 0; i < r->n; i++) sum -= (double)r->weight[i] * exp((double)r->logp[i]) * (double)r->logp[i];
    return sum * r->scale;
}

const tq_objective tq_objective_dft = {
    .name = "dft",
    .help = "dynamic fine-tuning: every token's -log p weighted by its probability",
    .keys = "prompt_column answer_column system train_on",
    .reads_logp = true,
    .coef = dft_coef,
    .loss = dft_loss,
};
