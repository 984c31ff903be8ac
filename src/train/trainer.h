/* The trainer: one optimizer step after another, for any objective and optimizer. It owns the machine, the batch and
 * the optimizer's states; model, adapter and data belong to the caller. It knows nothing of files: runs, checkpoints
 * and evaluations in between are tune.h's.
 *
 * A step takes the next rows, lays them out into passes, and for each pass in order: forward, the objective's
 * coefficients, backward (gradients add up). Then the gradient is clipped by its global L2 norm and the optimizer
 * updates the values. Everything is a function of (recipe, data, model, step), so a run may stop and go on at any step.
 */
#ifndef TQ_TRAIN_TRAINER_H
#define TQ_TRAIN_TRAINER_H

#include "model/adapter.h"
#include "train/batch.h"
#include "train/objective.h"
#include "train/optimizer.h"
#include "train/order.h"
#include "train/schedule.h"

typedef struct tq_trainer_options {
    const tq_objective *objective;
    const tq_optimizer *optimizer;
    tq_schedule schedule;
    double weight_decay, clip; /* clip 0: never */
    double smoothing;          /* label_smoothing, of an objective with mean_coef; 0: none */
    double noise;              /* NEFTune's alpha; 0: none */
    double ema;                /* decay of an average of the values, which evaluations then use; 0: none */
    int rows;                  /* of a step: batch_size x grad_accum */
    bool packing, shuffle;
    const size_t *take; /* [n_sets] rows of an epoch by data set (file), see order.h; n_sets 0: no mix */
    size_t n_sets;
    tq_read read;               /* of an objective of vectors: what of a text its vector is */
    double sharpness;           /* of cosines */
    const float *class_weights; /* [labels] of a head's classes, or NULL */
    uint64_t seed;
    bool recompute;   /* every layer, in the backward pass */
    size_t max_bytes; /* for the machine's buffers; 0: no limit */
} tq_trainer_options;

/* What evaluations add up for one data set; its loss is sum / weight, if it has rows. */
typedef struct tq_set_loss {
    double sum, weight;
} tq_set_loss;

typedef struct tq_trainer {
    tq_ctx *ctx;
    tq_adapter *adapter;
    const tq_dataset *data;
    tq_trainer_options o;
    tq_machine *machine;
    tq_plan plan;
    tq_batch batch;
    tq_order order;
    tq_hat hat;
    tq_hats hats;
    float *states[TQ_OPTIMIZER_STATES]; /* [n_states[i]] each: the ranges' states one after another */
    size_t n_states[TQ_OPTIMIZER_STATES];
    float *scratch;      /* the optimizer's */
    float *ema;          /* [adapter->n] or NULL */
    double *squares;     /* [adapter->n_ranges] of the gradient */
    uint32_t *rows;      /* [o.rows] of an evaluation */
    tq_set_loss *by_set; /* the caller's, [number of a set's files]: filled by each evaluation; or NULL */
    size_t n_by_set;
    int64_t step;                   /* finished ones */
    const tq_head *head;            /* the objective's, or NULL */
    struct tq_trainer_pairs *pairs; /* of an objective of vectors, or NULL; see trainer_pairs.h */
    float *read, *outputs; /* [2 x max_rows, C], [2 x max_rows, n]: what it reads and gives, and their gradients */
} tq_trainer;

/* What a head gave for an example: y [items, n]. */
typedef toque_status tq_outputs_fn(void *arg, const tq_example *e, const float *y, int items, toque_error *err);

typedef struct tq_step_result {
    int64_t step;     /* this one's number, from 1 */
    int64_t epoch;    /* that its rows belong to, from 0 */
    double loss;      /* weighted mean -log p of the target tokens, before the update */
    double objective; /* the objective's loss; the same for sft without smoothing */
    double lr, grad_norm;
    int64_t tokens, targets;
    int passes;
    double seconds;
} tq_step_result;

/* The adapter must have gradients (tq_adapter_train). held_out (may be NULL) only makes room. EINVAL names the row that
 * has nothing to learn; ELIMIT when it does not fit max_bytes. */
toque_status tq_trainer_init(tq_trainer *t, tq_adapter *adapter, const tq_dataset *data, const tq_dataset *held_out,
                             const tq_trainer_options *o, toque_error *err) TQ_MUST;
void tq_trainer_clear(tq_trainer *t); /* accepts a zeroed struct */
/* Puts the average in the place of the values, and back when called again; nothing without one. */
void tq_trainer_swap_ema(tq_trainer *t);
/* Bytes that an optimizer's states and scratch take for an adapter. */
size_t tq_trainer_state_bytes(const tq_adapter *adapter, const tq_optimizer *optimizer);
/* One optimizer step. ENONFINITE names the step and the place; ECANCELED when ctx->canceled was set: in both cases
 * values and states are those of the step before. */
toque_status tq_trainer_step(tq_trainer *t, tq_step_result *result, toque_error *err) TQ_MUST;
/* Only the gradient of the next step, left in adapter->grads, and its losses: what tq_trainer_step does before the
 * update. */
toque_status tq_trainer_gradient(tq_trainer *t, tq_step_result *result, toque_error *err) TQ_MUST;
/* The rows of a set from `at` on, as many as a step has, laid out as the next batch; *n of
 * them. The first ones empty by_set. */
void tq_trainer_lay_evaluation(tq_trainer *t, const tq_dataset *set, size_t at, int *n);
/* The weighted mean -log p over all rows of a set, without dropout; *targets (may be NULL) counts its target tokens. */
toque_status tq_trainer_evaluate(tq_trainer *t, const tq_dataset *set, double *loss, int64_t *targets,
                                 toque_error *err) TQ_MUST;
/* The same for an objective with a head; fn (may be NULL) is handed the outputs of every example. */
toque_status tq_trainer_evaluate_head(tq_trainer *t, const tq_dataset *set, double *loss, int64_t *targets,
                                      tq_outputs_fn *fn, void *arg, toque_error *err) TQ_MUST;

#endif
