/* A progress line for long work: a bar with rate and time left on a terminal, plain lines every few seconds
 * elsewhere, nothing when quiet. Respects NO_COLOR. Writes to a FILE that the program chose (stderr). */
#ifndef TQ_BASE_PROGRESS_H
#define TQ_BASE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct tq_progress {
    FILE *to; /* NULL: quiet */
    bool terminal;
    const char *what; /* "training" */
    const char *unit; /* "tokens": the rate's unit */
    uint64_t total;   /* of `done`; 0: unknown */
    double started, shown;
    uint64_t done, first; /* first: done at start (resumed work), left out of the rate */
} tq_progress;
/* to may be NULL. */
void tq_progress_start(tq_progress *p, FILE *to, const char *what, const char *unit, uint64_t total, uint64_t first);
/* Shows at most some times a second. note (may be NULL) is put behind: "loss 1.23". */
void tq_progress_update(tq_progress *p, uint64_t done, const char *note);
void tq_progress_end(tq_progress *p, const char *note);

#endif
