/* Learning-rate schedules. See schedule.h. */
#include "train/schedule.h"

#include <math.h>

int64_t tq_schedule_warmup(double warmup, int64_t total) {
    if (!(warmup > 0)) return 0;
    return warmup < 1 ? (int64_t)ceil((double)total * warmup) : (int64_t)warmup;
}

double tq_schedule_at(const tq_schedule *s, int64_t step) {
    if (step < s->warmup) return s->lr * ((double)step / (double)s->warmup);
    int64_t span = s->total > s->warmup ? s->total - s->warmup : 1;
    double done = (double)(step - s->warmup) / (double)span;
    if (done > 1) done = 1;
    switch (s->kind) {
    case TQ_SCHEDULE_LINEAR: return s->lr * (1 - done);
    case TQ_SCHEDULE_COSINE: return s->lr * 0.5 * (1 + cos(3.14159265358979323846 * done));
    case TQ_SCHEDULE_CONSTANT: break;
    }
    return s->lr;
}
