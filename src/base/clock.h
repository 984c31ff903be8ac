/* Time, for progress and rates. */
#ifndef TQ_BASE_CLOCK_H
#define TQ_BASE_CLOCK_H

#include <time.h>

/* Seconds of a clock that never jumps. */
static inline double tq_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
