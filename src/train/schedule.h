/* Learning-rate schedules: linear warmup from 0, then constant, linear or cosine decay to 0. The formulas are those of
 * transformers.optimization (get_constant_schedule_with_warmup and kin), so that a recipe moves over unchanged: the
 * first of `warmup` steps runs at lr 0, the step numbered `warmup` at the full lr. */
#ifndef TQ_TRAIN_SCHEDULE_H
#define TQ_TRAIN_SCHEDULE_H

#include <stdint.h>

typedef enum tq_schedule_kind { TQ_SCHEDULE_CONSTANT, TQ_SCHEDULE_LINEAR, TQ_SCHEDULE_COSINE } tq_schedule_kind;
#define TQ_SCHEDULE_CHOICES "constant|linear|cosine" /* in the order of the enumerators */

typedef struct tq_schedule {
    tq_schedule_kind kind;
    double lr;             /* the peak */
    int64_t warmup, total; /* steps */
} tq_schedule;

/* The key `warmup` in steps: a share of all steps below 1 (rounded up), a number of steps from 1 on. */
int64_t tq_schedule_warmup(double warmup, int64_t total);
/* The lr of the update that follows `step` finished ones (0 for the first). */
double tq_schedule_at(const tq_schedule *s, int64_t step);

#endif
