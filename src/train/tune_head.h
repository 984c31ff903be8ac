/* The part of a training that is of heads, for tune.c and tune_run.c. */
#ifndef TQ_TRAIN_TUNE_HEAD_H
#define TQ_TRAIN_TUNE_HEAD_H

#include "train/tune.h"

/* The usual name of the column that holds the truth. */
const char *tq_head_label_column(tq_head_kind kind);
/* How rows are read, with the labels that are known already. */
toque_status tq_tune_head_options(tq_tune *t, tq_data_options *o, bool held_out, toque_error *err) TQ_MUST;
/* The head that the data asks for; its labels are the data set's. */
toque_status tq_tune_make_head(tq_tune *t, tq_head *h, toque_error *err) TQ_MUST;
/* The held-out loss, and t->figures. */
toque_status tq_tune_head_evaluate(tq_tune *t, double *loss, int64_t *targets, toque_error *err) TQ_MUST;

#endif
