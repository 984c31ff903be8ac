/* Optimizers: a row of optimizers.def names one; its update stands in opt_<name>.c. An optimizer knows only arrays of
 * numbers: values, gradients and its states lie in parallel, and an update of a piece reads and writes that piece
 * alone. So pieces may be shared out among threads in any way, and a checkpoint of an optimizer is its state arrays. */
#ifndef TQ_TRAIN_OPTIMIZER_H
#define TQ_TRAIN_OPTIMIZER_H

#include "kernels/context.h"

enum { TQ_OPTIMIZER_STATES = 2 }; /* the most that a row may ask for */

typedef struct tq_update {
    const tq_kernels *k;
    float *values;                     /* [n] */
    const float *grads;                /* [n] */
    float *state[TQ_OPTIMIZER_STATES]; /* [n] each; zero before the first step */
    size_t n;
    float scale;       /* of the gradients: clipping */
    float lr, decay;   /* decay is 0 for ranges that do not decay */
    double correct[2]; /* 1 / (1 - beta^t): AdamW's bias corrections at this step */
} tq_update;

typedef struct tq_optimizer {
    const char *name;
    const char *aliases; /* "adamw_torch|...": other programs' names of the same update, or NULL */
    const char *help;
    int n_states;
    void (*begin)(tq_update *u, int64_t t); /* once a step, t from 1; NULL: nothing to prepare */
    void (*update)(const tq_update *u);
} tq_optimizer;

#define X(name) extern const tq_optimizer tq_optimizer_##name;
#include "train/optimizers.def"
#undef X

/* By name or alias; EINVAL with what there is (and the nearest name) for an unknown one. */
toque_status tq_optimizer_find(const tq_optimizer **optimizer, const char *name, toque_error *err) TQ_MUST;

/* The factor of gradients with this norm: min(1, clip / (norm + 1e-6)), as torch's clip_grad_norm_; clip 0: 1. */
double tq_clip_scale(double norm, double clip);

#endif
