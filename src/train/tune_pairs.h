/* The part of a training that is of vectors, for tune.c and tune_run.c. */
#ifndef TQ_TRAIN_TUNE_PAIRS_H
#define TQ_TRAIN_TUNE_PAIRS_H

#include "train/tune.h"

/* What of a text becomes its vector: as asked, as init_adapter has it, or as the model's files do; noted. */
toque_status tq_tune_choose_pooling(tq_tune *t, toque_error *err) TQ_MUST;
/* The held-out loss, and t->ranking. */
toque_status tq_tune_pairs_evaluate(tq_tune *t, double *loss, int64_t *targets, toque_error *err) TQ_MUST;

#endif
