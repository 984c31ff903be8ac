/* Pairs of a query and its passage (van den Oord et al. 2018, InfoNCE; with cosines and a scale of 20 what
 * sentence-transformers call MultipleNegativesRankingLoss): of all passages and negatives of a step, the row's own
 * should be nearest. With s_j = scale * cos(query, candidate j): loss = -w (s_own - log sum_j exp s_j). A candidate
 * with the very tokens of the row's own passage is left out of the sum: it is no worse an answer. */
#include "train/objective.h"

#include <math.h>
#include <string.h>

#include "kernels/kernels.h"

static bool is_candidate(const tq_vectors *t, int own, int j) {
    return t->part[j] > 0 && (j == own || t->id[j] != t->id[own]);
}

/* The row of query q, whose passage follows it. */
static double contrastive_row(const tq_vectors *t, int q, float *dv) {
    const int own = q + 1;
    const size_t C = (size_t)t->C;
    const float *query = t->v + (size_t)q * C;
    double max = -INFINITY, sum = 0;
    t->k->rows_f32[TQ_F32](t->scores, t->v, C * sizeof(float), t->n, t->C, query);
    for (int j = 0; j < t->n; j++)
        if (is_candidate(t, own, j)) max = fmax(max, t->sharpness * (double)t->scores[j]);
    for (int j = 0; j < t->n; j++)
        if (is_candidate(t, own, j)) sum += exp(t->sharpness * (double)t->scores[j] - max);
    for (int j = 0; dv && j < t->n; j++) {
        if (!is_candidate(t, own, j)) continue;
        const double p = exp(t->sharpness * (double)t->scores[j] - max) / sum - (j == own);
        const float d = (float)(p * t->sharpness * t->scale * (double)t->weight[q]);
        t->k->axpy(dv + (size_t)q * C, d, t->v + (size_t)j * C, t->C);
        t->k->axpy(dv + (size_t)j * C, d, query, t->C);
    }
    return log(sum) + max - t->sharpness * (double)t->scores[own];
}

static void contrastive(const tq_vectors *t, double *loss, float *dv) {
    if (dv) memset(dv, 0, (size_t)t->n * (size_t)t->C * sizeof *dv);
    for (int i = 0; i < t->n; i++) loss[i] = t->part[i] == 0 ? contrastive_row(t, i, dv) : 0;
}

const tq_objective tq_objective_contrastive = {
    .name = "contrastive",
    .help = "vectors: a query's own passage is the nearest of the step's (InfoNCE)",
    .keys = "prompt_column answer_column pooling similarity_scale",
    .step = contrastive,
};
