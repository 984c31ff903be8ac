/* Objectives: what a run is trained for. A row of objectives.def names one; its functions stand in obj_<name>.c.
 *
 * An objective speaks through the pass's readout alone (DESIGN, "Losses speak through readouts"): it is given the
 * log-probabilities of a micro-batch's target tokens and returns the loss and d(loss)/d(logp). The machine carries
 * the latter back through the head and the layers. An objective whose coefficients do not need the log-probabilities
 * (`reads_logp` false) is fused: the readout runs once.
 *
 * `scale` is 1 / (the sum of weights over ALL target tokens of the optimizer step): the loss is divided once, so
 * neither grad_accum nor the layout into micro-batches changes it.
 */
#ifndef TQ_TRAIN_OBJECTIVE_H
#define TQ_TRAIN_OBJECTIVE_H

#include "model/head.h"
#include "train/dataset.h"

typedef struct tq_readout { /* of one micro-batch */
    int n;                  /* target tokens */
    const float *logp;      /* [n]; NULL for `coef` of an objective that does not read it */
    const float *weight;    /* [n]: the row's weight times the turn's, for each target token */
    double scale;
    double smoothing;  /* label_smoothing; above 0 only for objectives with mean_coef */
    const float *mean; /* [n] with smoothing, as logp: the mean of log p over the vocabulary */
} tq_readout;

typedef struct tq_vectors { /* of all texts of a step, each row's together: its query, its passage, its negatives */
    const tq_kernels *k;
    int C, n;            /* n texts */
    const float *v;      /* [n, C] of length 1 */
    const int *part;     /* [n] the text's number in its row: 0 the query, 1 the passage, then negatives */
    const uint64_t *id;  /* [n] equal for equal texts */
    const float *weight; /* [n] of the text's row */
    double scale;        /* 1 / the sum of weights over the step's rows */
    double sharpness;    /* similarity_scale */
    float *scores;       /* [n] scratch */
} tq_vectors;

typedef struct tq_objective {
    const char *name, *help;
    const char *keys; /* of a training that only some objectives use, and this one does */
    bool reads_logp;
    void (*coef)(const tq_readout *r, float *coef);      /* coef [n] = d(loss)/d(logp) */
    void (*mean_coef)(const tq_readout *r, float *coef); /* coef [n] = d(loss)/d(mean); NULL: it never reads it */
    double (*loss)(const tq_readout *r);                 /* this micro-batch's share of the step's loss */
    /* Of a head (`coef` and `loss` are NULL then): the loss of one read row from its outputs y [n], and d(loss)/dy in
     * dy; the row's weight and the division are the caller's. item: the token's number in the example, for tags.
     * *counts false: there is nothing to learn of this item. */
    double (*row)(const tq_example *e, int item, const tq_head *h, const float *y, float *dy, bool *counts);
    tq_head_kind head;
    /* Of vectors (what stands above is NULL then): loss [n] of each row at its query, not weighted; dv [n, C] =
     * d(scale * sum of weight * loss)/dv, unless it is NULL. */
    void (*step)(const tq_vectors *t, double *loss, float *dv);
} tq_objective;

#define X(name) extern const tq_objective tq_objective_##name;
#include "train/objectives.def"
#undef X

const tq_objective *tq_objective_row(size_t i); /* in the table's order; NULL past the end */
bool tq_objective_uses(const tq_objective *o, const char *key);
/* EINVAL with what there is (and the nearest name) for an unknown one. */
toque_status tq_objective_find(const tq_objective **objective, const char *name, toque_error *err) TQ_MUST;
/* The weighted mean of -log p: what metrics.jsonl calls `loss`, under every objective. */
double tq_readout_nll(const tq_readout *r);

#endif
