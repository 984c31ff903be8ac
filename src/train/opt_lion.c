/* Lion (Chen et al., "Symbolic Discovery of Optimization Algorithms", 2023) with beta (0.9, 0.99):
 *   c = b1 m + (1 - b1) g     p -= lr (sign(c) + decay p)     m = b2 m + (1 - b2) g
 * Every step has the length lr, so its learning rate is a third to a tenth of AdamW's. */
#include "train/optimizer.h"

static void lion_update(tq_worker *w, const tq_update *u) {
    const float b1 = 0.9f, b2 = 0.99f;
    float *m = u->state[0];
    int64_t b, end;
    tq_share(w, u->rows * u->cols, 1024, &b, &end);
    for (int64_t i = b; i < end; i++) {
        float g = u->scale * u->grads[i], c = b1 * m[i] + (1 - b1) * g;
        float sign = (float)(c > 0) - (float)(c < 0);
        u->values[i] -= u->lr * (sign + u->decay * u->values[i]);
        m[i] = b2 * m[i] + (1 - b2) * g;
    }
}

const tq_optimizer tq_optimizer_lion = {
    .name = "lion",
    .aliases = "lion_32bit",
    .help = "the sign of a momentum; half of AdamW's states",
    .lr = 0.1,
    .n_states = 1,
    .update = lion_update,
};
