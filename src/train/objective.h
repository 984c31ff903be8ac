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

#include "base/error.h"

typedef struct tq_readout { /* of one micro-batch */
    int n;                  /* target tokens */
    const float *logp;      /* [n]; NULL for `coef` of an objective that does not read it */
    const float *weight;    /* [n]: the row's weight, for each of its tokens */
    double scale;
} tq_readout;

typedef struct tq_objective {
    const char *name, *help;
    bool reads_logp;
    void (*coef)(const tq_readout *r, float *coef); /* coef [n] = d(loss)/d(logp) */
    double (*loss)(const tq_readout *r);            /* this micro-batch's share of the step's loss */
} tq_objective;

#define X(name) extern const tq_objective tq_objective_##name;
#include "train/objectives.def"
#undef X

/* EINVAL with what there is (and the nearest name) for an unknown one. */
toque_status tq_objective_find(const tq_objective **objective, const char *name, toque_error *err) TQ_MUST;
/* The weighted mean of -log p: what metrics.jsonl calls `loss`, under every objective. */
double tq_readout_nll(const tq_readout *r);

#endif
