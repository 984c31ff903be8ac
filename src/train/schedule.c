/* Learning-rate schedules. See schedule.h. */
#include "train/schedule.h"

#include <math.h>

static const double PI = 3.14159265358979323846;

tq_schedule_kind tq_schedule_choice(int choice) {
    static const tq_schedule_kind others[] = {TQ_SCHEDULE_CONSTANT, TQ_SCHEDULE_RESTARTS, TQ_SCHEDULE_WSD};
    return choice < TQ_SCHEDULE_SWEEP ? (tq_schedule_kind)choice : others[choice - TQ_SCHEDULE_SWEEP];
}

int64_t tq_schedule_steps(double share, int64_t total) {
    if (!(share > 0)) return 0;
    return share < 1 ? (int64_t)ceil((double)total * share) : (int64_t)share;
}

double tq_schedule_at(const tq_schedule *s, int64_t step) {
    if (step < s->warmup) return s->lr * ((double)step / (double)s->warmup);
    int64_t span = s->total > s->warmup ? s->total - s->warmup : 1, left = s->total - step;
    double done = (double)(step - s->warmup) / (double)span;
    if (done > 1) done = 1;
    switch (s->kind) {
    case TQ_SCHEDULE_LINEAR: return s->lr * (1 - done);
    case TQ_SCHEDULE_COSINE: return s->lr * 0.5 * (1 + cos(PI * done));
    case TQ_SCHEDULE_RESTARTS: return done < 1 ? s->lr * 0.5 * (1 + cos(PI * fmod(s->cycles * done, 1))) : 0;
    case TQ_SCHEDULE_WSD:
        if (left >= s->decay) return s->lr;
        return left > 0 ? s->lr * 0.5 * (1 + cos(PI * (1 - (double)left / (double)s->decay))) : 0;
    case TQ_SCHEDULE_SWEEP:
        return s->low * pow(s->lr / s->low, s->total > 1 ? (double)step / (double)(s->total - 1) : 0);
    case TQ_SCHEDULE_CONSTANT: break;
    }
    return s->lr;
}
