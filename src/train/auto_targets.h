/* `targets auto:SHARE`: which linear maps the loss wants to change most. */
#ifndef TQ_TRAIN_AUTO_TARGETS_H
#define TQ_TRAIN_AUTO_TARGETS_H

#include "train/trainer.h"

enum { TQ_AUTO_STEPS = 4 };

/* Whether a list of targets is "auto:SHARE"; *share is then from above 0 to 1, else EINVAL. */
toque_status tq_auto_targets_asked(const char *text, bool *asked, double *share, toque_error *err) TQ_MUST;
/* Ranks the modules by the norm of the loss's gradient with respect to their weights over the first TQ_AUTO_STEPS
 * steps, and takes the largest that fit into `share` of the values that all linear maps would take at the options'
 * rank. `text` gets their paths, comma-separated; notes a table. o: of the training; its adapter options in a. */
toque_status tq_auto_targets(tq_buf *text, tq_model *model, const tq_adapter_options *a, const tq_dataset *data,
                             const tq_trainer_options *o, double share, tq_buf *notes, toque_error *err) TQ_MUST;

#endif
