/* Adafactor (Shazeer & Stern 2018) with a given learning rate, as transformers.Adafactor(scale_parameter=False,
 * relative_step=False): the second moment of a matrix is kept as the means of its rows and columns.
 *   b = 1 - t^-0.8     R = b R + (1 - b) mean_cols(g^2 + e)     C = b C + (1 - b) mean_rows(g^2 + e)
 *   u = g / sqrt(R C / mean(R)),  u /= max(1, rms(u)),  p -= lr (u + decay p)
 * A vector keeps its second moment whole. One worker does a whole range: sums are in one order. */
#include "train/optimizer.h"

#include <math.h>

static const float EPS = 1e-30f;

static size_t adafactor_floats(int64_t rows, int64_t cols, bool matrix, int i) {
    (void)matrix, (void)i;
    return (size_t)(rows > 1 && cols > 1 ? rows + cols : rows * cols);
}

/* R and C of this step; returns the mean of R. */
static double moments(const tq_update *u, float b2, float *R, float *C) {
    double mean = 0;
    for (int64_t c = 0; c < u->cols; c++) C[c] *= b2;
    for (int64_t r = 0; r < u->rows; r++) {
        const float *g = u->grads + r * u->cols;
        double sum = 0;
        for (int64_t c = 0; c < u->cols; c++) {
            float square = u->scale * g[c] * (u->scale * g[c]) + EPS;
            sum += (double)square;
            C[c] += (1 - b2) * square / (float)u->rows;
        }
        R[r] = b2 * R[r] + (1 - b2) * (float)(sum / (double)u->cols);
        mean += (double)R[r];
    }
    return mean / (double)u->rows;
}

static void adafactor_update(tq_worker *w, const tq_update *u) {
    if (w->id != (int)(u->turn % w->count)) return;
    float b2 = (float)(1 - pow((double)u->t, -0.8)), *R = u->state[0], *C = R + u->rows;
    int64_t n = u->rows * u->cols;
    bool whole = !(u->rows > 1 && u->cols > 1);
    double mean = whole ? 1 : moments(u, b2, R, C), square = 0;
    for (int64_t i = 0; whole && i < n; i++)
        R[i] = b2 * R[i] + (1 - b2) * (u->scale * u->grads[i] * (u->scale * u->grads[i]) + EPS);
    /* Twice the same walk: first the length of the update, then the update. */
    for (int pass = 0; pass < 2; pass++) {
        double rms = sqrt(square / (double)n);
        float step = u->lr * (float)(rms > 1 ? 1 / rms : 1);
        for (int64_t r = 0; r < u->rows; r++) {
            float row = whole ? 1 : (float)(1 / sqrt((double)R[r] / mean));
            for (int64_t c = 0; c < u->cols; c++) {
                int64_t i = r * u->cols + c;
                float v = u->scale * u->grads[i] * row / sqrtf(whole ? R[i] : C[c]);
                if (pass)
                    u->values[i] -= step * v + u->lr * u->decay * u->values[i];
                else
                    square += (double)v * (double)v;
            }
        }
    }
}

const tq_optimizer tq_optimizer_adafactor = {
    .name = "adafactor",
    .help = "second moments by rows and columns; next to no states",
    .lr = 1,
    .lean = true,
    .n_states = 1,
    .n_floats = adafactor_floats,
    .update = adafactor_update,
};
