/* AdamW (Loshchilov & Hutter, "Decoupled Weight Decay Regularization", 2019) with beta (0.9, 0.999), eps 1e-8:
 *   m = b1 m + (1 - b1) g     v = b2 v + (1 - b2) g^2
 *   p -= lr (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + decay p)
 * The arithmetic is the kernel's. */
#include <math.h>

#include "train/optimizer.h"

/* As the kernel rounds them: 1 - 0.999f is 1.3e-5 off 0.001, which the corrections must share to cancel it. */
static const float B1 = 0.9f, B2 = 0.999f;

void tq_adamw_begin(tq_update *u) {
    u->correct[0] = 1 / (1 - pow((double)B1, (double)u->t));
    u->correct[1] = 1 / (1 - pow((double)B2, (double)u->t));
}

void tq_adamw_piece(const tq_update *u, int64_t b, int64_t end) {
    u->k->adamw(u->values + b, u->grads + b, u->state[0] + b, u->state[1] + b, end - b, u->scale, u->lr, B1, B2, 1e-8f,
                u->decay, (float)u->correct[0], (float)u->correct[1]);
}

static void adamw_update(tq_worker *w, const tq_update *u) {
    int64_t b, end;
    tq_share(w, u->rows * u->cols, 1024, &b, &end);
    tq_adamw_piece(u, b, end);
}

const tq_optimizer tq_optimizer_adamw = {
    .name = "adamw",
    .aliases = "adamw_torch|adamw_torch_fused|adamw_hf",
    .help = "AdamW with betas 0.9 and 0.999",
    .lr = 1,
    .n_states = 2,
    .begin = tq_adamw_begin,
    .update = adamw_update,
};
