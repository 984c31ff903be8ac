/* AdamW with states of 8 bits (Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization"): blocks of 256
 * values share their largest absolute value as a scale, and a byte stands for a value of the dynamic tree
 * (kernels/k_dynamic8.c), signed for m, unsigned for v. Ranges of fewer than 4096 values keep f32 states, as
 * bitsandbytes does. State: the codes, four a float, then a scale a block. */
#include "train/optimizer.h"

enum { BLOCK = 256, LEAST = 4096 };

static size_t bytes_in_floats(int64_t n) {
    return (size_t)((n + BLOCK - 1) / BLOCK * BLOCK / 4);
}

static size_t adamw8bit_floats(int64_t rows, int64_t cols, bool matrix, int i) {
    (void)matrix, (void)i;
    int64_t n = rows * cols;
    return n < LEAST ? (size_t)n : bytes_in_floats(n) + (size_t)((n + BLOCK - 1) / BLOCK);
}

static void adamw8bit_update(tq_worker *w, const tq_update *u) {
    int64_t n = u->rows * u->cols, b, end;
    tq_share(w, n, BLOCK, &b, &end);
    if (n < LEAST) {
        tq_adamw_piece(u, b, end);
        return;
    }
    float state[2][BLOCK], *scales[2];
    uint8_t *codes[2];
    for (int s = 0; s < 2; s++) {
        codes[s] = (uint8_t *)u->state[s];
        scales[s] = u->state[s] + bytes_in_floats(n);
    }
    for (int64_t at = b; at < end; at += BLOCK) {
        int64_t count = end - at < BLOCK ? end - at : BLOCK;
        for (int s = 0; s < 2; s++) u->k->read_dynamic8(state[s], codes[s] + at, scales[s][at / BLOCK], s == 0, count);
        tq_update piece = *u;
        piece.values += at;
        piece.grads += at;
        piece.state[0] = state[0];
        piece.state[1] = state[1];
        tq_adamw_piece(&piece, 0, count);
        for (int s = 0; s < 2; s++)
            scales[s][at / BLOCK] = u->k->write_dynamic8(codes[s] + at, state[s], s == 0, count);
    }
}

const tq_optimizer tq_optimizer_adamw8bit = {
    .name = "adamw8bit",
    .aliases = "adamw_8bit|adamw_bnb_8bit|paged_adamw_8bit",
    .help = "AdamW with states of a byte each",
    .lr = 1,
    .lean = true,
    .n_states = 2,
    .n_floats = adamw8bit_floats,
    .begin = tq_adamw_begin,
    .update = adamw8bit_update,
};
