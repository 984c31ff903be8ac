/* The part of the trainer that is of heads, for trainer.c. */
#ifndef TQ_TRAIN_TRAINER_HEAD_H
#define TQ_TRAIN_TRAINER_HEAD_H

#include "train/trainer.h"

toque_status tq_trainer_head_init(tq_trainer *t, toque_error *err) TQ_MUST;
void tq_trainer_head_clear(tq_trainer *t);
/* The weights of all read items of the batch that was laid out last. */
double tq_trainer_head_weight(const tq_trainer *t, const tq_dataset *set);
/* Pass i of the batch; *loss grows by its share, scale times the weighted sum over its items. fn may be NULL. */
toque_status tq_trainer_head_pass(tq_trainer *t, const tq_dataset *set, int i, bool train, double scale, double *loss,
                                  tq_outputs_fn *fn, void *arg, toque_error *err) TQ_MUST;

#endif
