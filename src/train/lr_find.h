/* The learning-rate finder (Smith 2017, "Cyclical Learning Rates for Training Neural Networks"): steps at rates that
 * rise in equal ratios, until the loss runs away. */
#ifndef TQ_TRAIN_LR_FIND_H
#define TQ_TRAIN_LR_FIND_H

#include "train/trainer.h"

enum { TQ_LR_FIND_STEPS = 60 };

typedef struct tq_lr_point {
    double lr, loss;
    double smooth; /* exponential mean of the losses so far, without its bias towards 0 */
} tq_lr_point;

typedef struct tq_lr_find {
    tq_lr_point points[TQ_LR_FIND_STEPS];
    int n, best; /* best: the point with the lowest smooth loss */
    bool ran_away;
    double suggestion; /* a tenth of the best point's rate */
} tq_lr_find;

/* Trains t for up to TQ_LR_FIND_STEPS steps from lr `low` to `high`; the adapter is of no use afterwards. seen (may be
 * NULL) hears of each point. */
toque_status tq_lr_find_run(tq_lr_find *f, tq_trainer *t, double low, double high,
                            void (*seen)(void *arg, const tq_lr_point *point), void *arg, toque_error *err) TQ_MUST;

#endif
