/* Learning-rate schedules: linear warmup from 0, then constant; linear or cosine decay to 0; cosine with hard restarts
 * (`cycles` of them); or WSD, warm-up, stable, decay: constant until the last `decay` steps, which go down by a cosine.
 * The formulas are those of transformers.optimization (get_constant_schedule_with_warmup and kin), so that a recipe
 * moves over unchanged: the first of `warmup` steps runs at lr 0, the step numbered `warmup` at the full lr. SWEEP is
 * the learning-rate finder's: from `low` up to lr in equal ratios. */
#ifndef TQ_TRAIN_SCHEDULE_H
#define TQ_TRAIN_SCHEDULE_H

#include <stdint.h>

typedef enum tq_schedule_kind {
    TQ_SCHEDULE_CONSTANT,
    TQ_SCHEDULE_LINEAR,
    TQ_SCHEDULE_COSINE,
    TQ_SCHEDULE_RESTARTS,
    TQ_SCHEDULE_WSD,
    TQ_SCHEDULE_SWEEP
} tq_schedule_kind;
/* In the order of the enumerators; then transformers' names of the first, fourth and fifth. */
#define TQ_SCHEDULE_CHOICES                                                                                            \
    "constant|linear|cosine|cosine_restarts|wsd|constant_with_warmup|cosine_with_restarts|warmup_stable_decay"
tq_schedule_kind tq_schedule_choice(int choice);

typedef struct tq_schedule {
    tq_schedule_kind kind;
    double lr;             /* the peak */
    int64_t warmup, total; /* steps */
    int64_t decay;         /* WSD: the last steps, in which it goes down */
    double cycles, low;
} tq_schedule;

/* The keys `warmup` and `decay` in steps: a share of all steps below 1 (rounded up), a number of steps from 1 on. */
int64_t tq_schedule_steps(double share, int64_t total);
/* The lr of the update that follows `step` finished ones (0 for the first). */
double tq_schedule_at(const tq_schedule *s, int64_t step);

#endif
