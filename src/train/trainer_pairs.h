/* The part of the trainer that is of vectors, for trainer.c and tune_pairs.c: a loss that is of all rows of a step at
 * once and reads each text's vector, of length 1. */
#ifndef TQ_TRAIN_TRAINER_PAIRS_H
#define TQ_TRAIN_TRAINER_PAIRS_H

#include "train/trainer.h"

toque_status tq_trainer_pairs_init(tq_trainer *t, toque_error *err) TQ_MUST;
void tq_trainer_pairs_clear(tq_trainer *t);
/* The gradient of the batch that was laid out last, and its loss: all passes run once for the vectors; then, last one
 * first, those that are no longer in the machine once more and each backwards (Gao et al., "Scaling Deep Contrastive
 * Learning Batch Size", arXiv 2101.06983). So the loss and its gradient do not know the passes. */
toque_status tq_trainer_pairs_gradient(tq_trainer *t, double *loss, toque_error *err) TQ_MUST;
/* The loss of a set by steps of its rows in order. vectors: NULL, or [texts of the set, C] for the unit vectors of all
 * texts, row by row. */
toque_status tq_trainer_evaluate_pairs(tq_trainer *t, const tq_dataset *set, double *loss, int64_t *targets,
                                       float *vectors, toque_error *err) TQ_MUST;

#endif
