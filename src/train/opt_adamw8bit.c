/* AdamW with states of 8 bits (Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization"): blocks of 256
 * values share their largest absolute value as a scale, and a byte stands for a value of the dynamic tree: seven
 * decades below 1, the upper ones in finer steps; signed for m, unsigned for v. Ranges of fewer than 4096 values keep
 * f32 states, as bitsandbytes does. State: the codes, four a float, then a scale a block. */
#include "train/optimizer.h"

#include <math.h>

enum { BLOCK = 256, LEAST = 4096, DECADES = 7 };

static size_t bytes_in_floats(int64_t n) {
    return (size_t)((n + BLOCK - 1) / BLOCK * BLOCK / 4);
}

static size_t adamw8bit_floats(int64_t rows, int64_t cols, bool matrix, int i) {
    (void)matrix, (void)i;
    int64_t n = rows * cols;
    return n < LEAST ? (size_t)n : bytes_in_floats(n) + (size_t)((n + BLOCK - 1) / BLOCK);
}

/* The 256 values in rising order. Decade d (0 the lowest, up to 10^(d-6)) holds 2^d steps of each sign, or 2^(d+1). */
static void make_codes(float code[256], bool is_signed) {
    int zero = is_signed ? 127 : 0;
    double power = 1e-6;
    code[zero] = 0;
    code[255] = 1;
    for (int d = 0; d < DECADES; d++, power *= 10) {
        int n = is_signed ? 1 << d : 2 << d, start = zero + (is_signed ? n : n - 1);
        for (int j = 0; j < n; j++) {
            code[start + j] = (float)(power * (0.1 + 0.9 * (j + 0.5) / n));
            if (is_signed) code[2 * zero - start - j] = -code[start + j];
        }
    }
}

/* The code nearest to x, from -1 to 1; ties go down. */
static unsigned nearest(const float code[256], float x) {
    unsigned low = 0, high = 255;
    while (high - low > 1) {
        unsigned middle = (low + high) / 2;
        if (code[middle] <= x)
            low = middle;
        else
            high = middle;
    }
    return x - code[low] <= code[high] - x ? low : high;
}

static void quantize(const float code[256], const float *x, int64_t n, uint8_t *bytes, float *scale) {
    float most = 0;
    for (int64_t i = 0; i < n; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    *scale = most;
    float inverse = most > 0 ? 1 / most : 0;
    for (int64_t i = 0; i < n; i++) bytes[i] = (uint8_t)nearest(code, x[i] * inverse);
}

static void adamw8bit_update(tq_worker *w, const tq_update *u) {
    int64_t n = u->rows * u->cols, b, end;
    tq_share(w, n, BLOCK, &b, &end);
    if (n < LEAST) {
        tq_adamw_piece(u, b, end);
        return;
    }
    float code[2][256], state[2][BLOCK];
    make_codes(code[0], true);
    make_codes(code[1], false);
    for (int64_t at = b; at < end; at += BLOCK) {
        int64_t count = end - at < BLOCK ? end - at : BLOCK;
        for (int s = 0; s < 2; s++) {
            const uint8_t *bytes = (const uint8_t *)u->state[s] + at;
            float scale = u->state[s][bytes_in_floats(n) + (size_t)(at / BLOCK)];
            for (int64_t i = 0; i < count; i++) state[s][i] = scale > 0 ? scale * code[s][bytes[i]] : 0;
        }
        tq_update piece = *u;
        piece.values += at;
        piece.grads += at;
        piece.state[0] = state[0];
        piece.state[1] = state[1];
        tq_adamw_piece(&piece, 0, count);
        for (int s = 0; s < 2; s++)
            quantize(code[s], state[s], count, (uint8_t *)u->state[s] + at,
                     &u->state[s][bytes_in_floats(n) + (size_t)(at / BLOCK)]);
    }
}

const tq_optimizer tq_optimizer_adamw8bit = {
    .name = "adamw8bit",
    .aliases = "adamw_8bit|adamw_bnb_8bit|paged_adamw_8bit",
    .help = "AdamW with states of a byte each",
    .lr = 1,
    .n_states = 2,
    .n_floats = adamw8bit_floats,
    .begin = tq_adamw_begin,
    .update = adamw8bit_update,
};
