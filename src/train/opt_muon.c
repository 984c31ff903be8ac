/* Muon (Jordan et al. 2024, "Muon: An optimizer for hidden layers"): the momentum of a matrix, made orthogonal.
 *   m = 0.95 m + 0.05 g     u = 0.05 g + 0.95 m (Nesterov)     X = u / |u|
 *   five times: A = X X^T, X = a X + (b A + c A A) X     p -= lr (0.2 sqrt(max(rows, cols)) X + decay p)
 * with (a, b, c) = (3.4445, -4.775, 2.0315). The factor 0.2 sqrt(max) gives updates the size of AdamW's (Liu et al.
 * 2025, "Muon is Scalable for LLM Training"; torch.optim.Muon, match_rms_adamw), so AdamW's learning rates hold.
 * Vectors, embedding and head are AdamW's. */
#include "train/optimizer.h"

#include <math.h>
#include <string.h>

enum { ROUNDS = 5 };

static size_t muon_floats(int64_t rows, int64_t cols, bool matrix, int i) {
    return matrix && i > 0 ? 0 : (size_t)rows * (size_t)cols;
}

/* X and its successor, A and b A + c A A. */
static size_t muon_scratch(int64_t rows, int64_t cols, bool matrix) {
    int64_t least = rows < cols ? rows : cols;
    return matrix ? (size_t)(2 * rows * cols + 2 * least * least) : 0;
}

static void product(tq_worker *w, const tq_update *u, int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row,
                    int64_t a_col, const float *b, bool b_trans, int64_t b_row, float *c) {
    tq_gemm g = {.m = m,
                 .n = n,
                 .k = k,
                 .a = a,
                 .a_row = a_row,
                 .a_col = a_col,
                 .b = b,
                 .b_type = TQ_F32,
                 .b_trans = b_trans,
                 .b_stride = (size_t)b_row * sizeof(float),
                 .c = c,
                 .c_row = n,
                 .alpha = 1,
                 .compute = u->compute};
    u->k->gemm(w, u->k, &g);
    tq_barrier(w);
}

/* X [rows, cols] towards the nearest orthogonal matrix; *x and *y are changed for each other. */
static void orthogonalize(tq_worker *w, const tq_update *u, float **x, float **y, float *a, float *poly) {
    int64_t rows = u->rows, cols = u->cols, n = rows * cols, least = rows < cols ? rows : cols, b, end;
    for (int round = 0; round < ROUNDS; round++) {
        if (rows <= cols)
            product(w, u, rows, rows, cols, *x, cols, 1, *x, true, cols, a);
        else
            product(w, u, cols, cols, rows, *x, 1, cols, *x, false, cols, a);
        product(w, u, least, least, least, a, least, 1, a, true, least, poly);
        tq_share(w, least * least, 64, &b, &end);
        for (int64_t i = b; i < end; i++) poly[i] = -4.775f * a[i] + 2.0315f * poly[i];
        tq_barrier(w);
        if (rows <= cols)
            product(w, u, rows, cols, rows, poly, rows, 1, *x, false, cols, *y);
        else
            product(w, u, rows, cols, cols, *x, cols, 1, poly, true, cols, *y);
        tq_share(w, n, 64, &b, &end);
        u->k->axpy(*y + b, 3.4445f, *x + b, end - b);
        tq_barrier(w);
        float *swap = *x;
        *x = *y, *y = swap;
    }
}

static void muon_update(tq_worker *w, const tq_update *u) {
    int64_t n = u->rows * u->cols, least = u->rows < u->cols ? u->rows : u->cols, b, end;
    tq_share(w, n, 1024, &b, &end);
    if (!u->matrix) {
        tq_adamw_piece(u, b, end);
        return;
    }
    float *m = u->state[0], *x = u->scratch, *y = x + n, *a = y + n, *poly = a + least * least;
    for (int64_t i = b; i < end; i++) {
        float g = u->scale * u->grads[i];
        m[i] = 0.95f * m[i] + 0.05f * g;
        x[i] = 0.05f * g + 0.95f * m[i];
    }
    tq_barrier(w);
    double sum = 0; /* every worker adds all of it up, in one order */
    for (int64_t i = 0; i < n; i += 4096) sum += (double)u->k->sum_squares(x + i, n - i < 4096 ? n - i : 4096);
    double norm = sqrt(sum);
    tq_barrier(w);
    u->k->scale(x + b, (float)(1 / (norm > 1e-7 ? norm : 1e-7)), end - b);
    tq_barrier(w);
    orthogonalize(w, u, &x, &y, a, poly);
    float size = 0.2f * sqrtf((float)(u->rows > u->cols ? u->rows : u->cols));
    for (int64_t i = b; i < end; i++) u->values[i] -= u->lr * (size * x[i] + u->decay * u->values[i]);
    tq_barrier(w); /* the scratch is the next range's */
}

const tq_optimizer tq_optimizer_muon = {
    .name = "muon",
    .help = "orthogonalized momentum for matrices, AdamW for the rest",
    .lr = 1,
    .n_states = 2,
    .n_floats = muon_floats,
    .n_scratch = muon_scratch,
    .begin = tq_adamw_begin,
    .update = muon_update,
};
