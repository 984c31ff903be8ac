/* The learning-rate finder. See lr_find.h. */
#include "train/lr_find.h"

#include <math.h>

toque_status tq_lr_find_run(tq_lr_find *f, tq_trainer *t, double low, double high,
                            void (*seen)(void *arg, const tq_lr_point *point), void *arg, toque_error *err) {
    const double keep = 0.9, far = 4; /* of the mean; a loss this many times the best has run away */
    double mean = 0, weight = 0;
    *f = (tq_lr_find){0};
    t->o.schedule = (tq_schedule){.kind = TQ_SCHEDULE_SWEEP, .low = low, .lr = high, .total = TQ_LR_FIND_STEPS};
    while (f->n < TQ_LR_FIND_STEPS) {
        tq_step_result r;
        toque_status status = tq_trainer_step(t, &r, err);
        if (status == TOQUE_ENONFINITE && f->n > 0) {
            f->ran_away = true;
            break;
        }
        if (status != TOQUE_OK) return status;
        mean = keep * mean + (1 - keep) * r.objective;
        weight = keep * weight + (1 - keep);
        tq_lr_point *p = &f->points[f->n++];
        *p = (tq_lr_point){.lr = r.lr, .loss = r.objective, .smooth = mean / weight};
        if (p->smooth < f->points[f->best].smooth) f->best = f->n - 1;
        if (seen) seen(arg, p);
        if (p->smooth > far * f->points[f->best].smooth) {
            f->ran_away = true;
            break;
        }
    }
    f->suggestion = f->points[f->best].lr / 10;
    return TOQUE_OK;
}
