/* Stochastic gradient descent, as torch.optim.SGD without momentum: p -= lr (g + decay p). It keeps no state. */
#include "train/optimizer.h"

static void sgd_update(tq_worker *w, const tq_update *u) {
    int64_t b, end;
    tq_share(w, u->rows * u->cols, 1024, &b, &end);
    for (int64_t i = b; i < end; i++) u->values[i] -= u->lr * (u->scale * u->grads[i] + u->decay * u->values[i]);
}

const tq_optimizer tq_optimizer_sgd = {
    .name = "sgd",
    .help = "plain gradient descent; keeps no state",
    .lr = 1,
    .n_states = 0,
    .update = sgd_update,
};
