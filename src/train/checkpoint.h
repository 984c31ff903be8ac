/* Checkpoints: all that a run needs to go on exactly where it stood, in ONE safetensors file that is replaced
 * atomically: whatever happens while it is written, there is a whole checkpoint, the old one or the new one.
 *
 * Tensors: `values` [n], `state.0`, `state.1`, ... (the optimizer's, as it lays them out), `ema` [n] and `best` [n]
 * (when kept). The metadata key
 * `toque` holds the rest as JSON with a format name and version. Nothing in the file depends on time or place, so equal
 * runs give equal bytes.
 */
#ifndef TQ_TRAIN_CHECKPOINT_H
#define TQ_TRAIN_CHECKPOINT_H

#include <jansson.h>

#include "files/safetensors.h"
#include "train/optimizer.h"

enum { TQ_CHECKPOINT_VERSION = 1 };

/* Where a run stands, besides its arrays. */
typedef struct tq_progress_state {
    int64_t step;                           /* finished ones */
    int64_t evaluated;                      /* the step after which the last evaluation was made; -1: none */
    int64_t best_step;                      /* 0: none yet */
    double base_eval, best_eval, last_eval; /* losses; meaningful when evaluated (base: at step 0) */
    int64_t worse;                          /* evaluations in a row that were no better */
    bool stopped;                           /* by patience */
} tq_progress_state;

typedef struct tq_checkpoint {
    tq_progress_state at;
    json_t *inputs; /* object: what the run was made from (hashes, recipe); compared on resume */
    size_t n;
    float *values, *best, *ema; /* best, ema: NULL when none */
    float *states[TQ_OPTIMIZER_STATES];
    size_t state_floats[TQ_OPTIMIZER_STATES];
    int n_states;
} tq_checkpoint;

toque_status tq_checkpoint_save(tq_mem *mem, const char *path, const tq_checkpoint *c, toque_error *err) TQ_MUST;

/* A checkpoint being read: first what it was made from, then the arrays into the caller's. */
typedef struct tq_checkpoint_file tq_checkpoint_file;
toque_status tq_checkpoint_open(tq_checkpoint_file **file, tq_mem *mem, const char *path, toque_error *err) TQ_MUST;
void tq_checkpoint_close(tq_checkpoint_file *file);
json_t *tq_checkpoint_inputs(const tq_checkpoint_file *file); /* borrowed */
bool tq_checkpoint_has_best(const tq_checkpoint_file *file);
/* Fills c->at, c->values, c->states and, if it has one, c->best; c's n, n_states and arrays are given. EFORMAT when a
 * tensor is missing or of another size; c's arrays are then untouched. */
toque_status tq_checkpoint_read(const tq_checkpoint_file *file, tq_checkpoint *c, toque_error *err) TQ_MUST;
/* Compares what a run was made from with what it would be made from now, key by key (objects within are compared key by
 * key too): EINVAL names the first that differs, with both values. */
toque_status tq_checkpoint_compare(json_t *before, json_t *now, const char *path, toque_error *err) TQ_MUST;

#endif
