/* A training from a recipe to a run folder: opens model, data and adapter, resolves the recipe, plans memory (tune.c),
 * then runs steps, evaluations and checkpoints into the run folder (tune_run.c). It prints nothing: the caller shows
 * `notes` and `plan` before starting, and listens to events.
 *
 * The loop, between two steps, in this order: an evaluation if one is due and not yet made; patience; a checkpoint if
 * one is due and not yet made; cancellation. A step's line is in metrics.jsonl before anything else happens. So
 * wherever a process is killed, the last checkpoint with the lines up to its step is a state that an uninterrupted run
 * passes through.
 */
#ifndef TQ_TRAIN_TUNE_H
#define TQ_TRAIN_TUNE_H

#include "runs/figures.h"
#include "runs/metrics.h"
#include "runs/ranking.h"
#include "runs/run.h"
#include "train/checkpoint.h"
#include "train/memory_plan.h"
#include "train/recipe.h"
#include "train/trainer.h"

enum { TQ_HELD_OUT_ROWS = 200 };  /* the most that eval_split takes */
#define TQ_TUNE_MACHINE "machine" /* key of a checkpoint's inputs: what computes, for equal bytes */

typedef struct tq_tune {
    tq_ctx *ctx;
    tq_recipe *recipe;
    tq_model *model;
    tq_sources sources, eval_sources;
    tq_dataset data, held_out;
    bool own_held_out; /* from eval_data: it has files and a hash of its own */
    tq_adapter *adapter;
    tq_trainer trainer;
    tq_memory_plan plan;
    tq_buf notes; /* lines: defaults that were chosen, what the data is */
    tq_run run;
    tq_metrics metrics;
    tq_progress_state at;
    float *best; /* [adapter->n] with keep best */
    json_t *inputs;
    tq_figures figures;      /* of a head's answers to the held-out rows; at the end with the values that are kept */
    tq_pooling pooling;      /* with objective contrastive */
    tq_ranking ranking;      /* of its held-out queries, as the figures */
    int64_t figures_step;    /* whose values both are of; -1: none yet */
    float *class_weights;    /* or NULL */
    size_t *set_rows, *take; /* [sources.n] rows to train on, and those of an epoch; take: NULL without a mix */
    tq_set_loss *by_set;     /* [n of tq_tune_held_out_sources] at the last evaluation, with several; or NULL */
    int old_labels;          /* that init_adapter's head had; held-out rows of these, before and after: */
    size_t old_rows[2], old_right[2];
    bool other_machine;   /* by the caller, before tq_tune_start: going on elsewhere is a warning, not an error */
    const char *baseline; /* by the caller, before the card is written: a sentence for it, or NULL */
    int64_t saved;        /* the step of the checkpoint that holds this state; -1: none */
    int64_t resumed;      /* the step that this process began at */
} tq_tune;

typedef struct tq_tune_events { /* each may be NULL */
    void *arg;
    void (*step)(void *arg, const tq_step_result *step);
    void (*evaluating)(void *arg, int64_t step);
    void (*evaluated)(void *arg, int64_t step, double loss, bool best);
    void (*saved)(void *arg, int64_t step);
} tq_tune_events;

/* Everything up to the memory plan; nothing on disk changes. given as in recipe.h. */
toque_status tq_tune_open(tq_tune *t, tq_ctx *ctx, tq_recipe *recipe, const tq_option_set *given,
                          toque_error *err) TQ_MUST;
void tq_tune_close(tq_tune *t); /* accepts a zeroed struct */
/* How the rows of these files are read. */
tq_data_options tq_tune_data_options(const tq_tune *t, const tq_sources *sources);
const tq_sources *tq_tune_held_out_sources(const tq_tune *t);
bool tq_tune_has_held_out(const tq_tune *t);
/* The figures of the data as lines: rows, dropped, tokens, quantiles of their lengths. */
bool tq_tune_describe_data(const tq_tune *t, tq_buf *out);
/* Opens the run folder and writes recipe_yaml into it, or reads its checkpoint. A resumed run without a checkpoint
 * begins at step 0. EINVAL when recipe, data or base differ from the checkpoint's, or the instruction set, --compute or
 * build that the bytes depend on, unless other_machine. */
toque_status tq_tune_start(tq_tune *t, const char *dir, tq_run_mode mode, const tq_buf *recipe_yaml,
                           toque_error *err) TQ_MUST;
/* Steps until the end. ECANCELED: stopped between two steps, with a checkpoint saved. ENONFINITE: the checkpoint stays
 * as it was, the adapter gets the best values if there are any. */
toque_status tq_tune_run(tq_tune *t, const tq_tune_events *events, toque_error *err) TQ_MUST;
/* The model card, from the finished run. */
toque_status tq_tune_write_card(tq_tune *t, const char *recipe_yaml, toque_error *err) TQ_MUST;
/* The step whose values the adapter file holds. */
int64_t tq_tune_kept_step(const tq_tune *t);

#endif
