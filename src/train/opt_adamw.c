/* AdamW (Loshchilov & Hutter, "Decoupled Weight Decay Regularization", 2019) with beta (0.9, 0.999), eps 1e-8:
 *   m = b1 m + (1 - b1) g     v = b2 v + (1 - b2) g^2
 *   p -= lr (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + decay p)
 * The arithmetic is the kernel's. */
#include <math.h>

#include "train/optimizer.h"

/* As the kernel rounds them: 1 - 0.999f is 1.3e-5 off 0.001, which the corrections must share to cancel it. */
static const float B1 = 0.9f, B2 = 0.999f;

static void adamw_begin(tq_update *u, int64_t t) {
    u->correct[0] = 1 / (1 - pow((double)B1, (double)t));
    u->correct[1] = 1 / (1 - pow((double)B2, (double)t));
}

static void adamw_update(const tq_update *u) {
    u->k->adamw(u->values, u->grads, u->state[0], u->state[1], (int64_t)u->n, u->scale, u->lr, B1, B2, 1e-8f, u->decay,
                (float)u->correct[0], (float)u->correct[1]);
}

const tq_optimizer tq_optimizer_adamw = {
    .name = "adamw",
    .aliases = "adamw_torch|adamw_torch_fused|adamw_hf",
    .help = "AdamW with betas 0.9 and 0.999",
    .n_states = 2,
    .begin = adamw_begin,
    .update = adamw_update,
};
