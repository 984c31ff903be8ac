/* Stochastic gradient descent, as torch.optim.SGD without momentum: p -= lr (g + decay p). It keeps no state. */
#include "train/optimizer.h"

static void sgd_update(const tq_update *u) {
    for (size_t i = 0; i < u->n; i++) u->values[i] -= u->lr * (u->scale * u->grads[i] + u->decay * u->values[i]);
}

const tq_optimizer tq_optimizer_sgd = {
    .name = "sgd",
    .help = "plain gradient descent; keeps no state",
    .n_states = 0,
    .update = sgd_update,
};
