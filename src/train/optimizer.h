/* Optimizers: a row of optimizers.def names one; its update stands in opt_<name>.c. An optimizer knows only arrays of
 * numbers: values and gradients of one range (a matrix or a vector), and its states of it. Every worker calls `update`
 * for each range and takes its share, by elements or blocks; one that needs whole matrices meets the others at
 * barriers. A checkpoint of an optimizer is its state arrays. */
#ifndef TQ_TRAIN_OPTIMIZER_H
#define TQ_TRAIN_OPTIMIZER_H

#include "kernels/context.h"

enum { TQ_OPTIMIZER_STATES = 2 }; /* the most that a row may ask for */

typedef struct tq_update { /* of one range */
    const tq_kernels *k;
    tq_compute compute;
    float *values;                     /* [rows, cols] */
    const float *grads;                /* [rows, cols] */
    float *state[TQ_OPTIMIZER_STATES]; /* n_floats of it each; zero before the first step */
    float *scratch;                    /* as many floats as asked for */
    int64_t rows, cols;
    int64_t turn;      /* the range's number: whose turn it is, where one worker does a whole range */
    bool matrix;       /* a linear map; false for vectors and for tables of vectors (embedding, head) */
    float scale;       /* of the gradients: clipping */
    float lr, decay;   /* decay is 0 for ranges that do not decay */
    int64_t t;         /* this step's number, from 1 */
    double correct[2]; /* 1 / (1 - beta^t): AdamW's bias corrections at this step */
} tq_update;

typedef struct tq_optimizer {
    const char *name;
    const char *aliases; /* "adamw_torch|...": other programs' names of the same update, or NULL */
    const char *help;
    double lr; /* its default learning rate as a multiple of AdamW's */
    bool lean; /* chosen for its little memory */
    int n_states;
    /* Floats of state i for a range; NULL: as many as it has values. */
    size_t (*n_floats)(int64_t rows, int64_t cols, bool matrix, int i);
    size_t (*n_scratch)(int64_t rows, int64_t cols, bool matrix); /* NULL: none */
    void (*begin)(tq_update *u);                                  /* once a step; NULL: nothing to prepare */
    void (*update)(tq_worker *w, const tq_update *u);
} tq_optimizer;

/* Floats of state i for a range. */
size_t tq_optimizer_floats(const tq_optimizer *o, int64_t rows, int64_t cols, bool matrix, int i);
/* AdamW's on elements [b, end) of the range, with f32 states: also for what other optimizers leave to it. */
void tq_adamw_begin(tq_update *u);
void tq_adamw_piece(const tq_update *u, int64_t b, int64_t end);

#define X(name) extern const tq_optimizer tq_optimizer_##name;
#include "train/optimizers.def"
#undef X

/* By name or alias; EINVAL with what there is (and the nearest name) for an unknown one. */
toque_status tq_optimizer_find(const tq_optimizer **optimizer, const char *name, toque_error *err) TQ_MUST;

/* The factor of gradients with this norm: min(1, clip / (norm + 1e-6)), as torch's clip_grad_norm_; clip 0: 1. */
double tq_clip_scale(double norm, double clip);

#endif
