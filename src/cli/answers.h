/* Answers to rows of known truth, as `eval` and `probe` write, print and pair them. A row is right or wrong; of numbers
 * it has an error instead. */
#ifndef TQ_CLI_ANSWERS_H
#define TQ_CLI_ANSWERS_H

#include <jansson.h>

#include "base/buf.h"
#include "train/rows.h"

typedef struct tq_answers {
    tq_mem *mem;
    tq_buf lines; /* what --out gets, a line a row */
    char *other;  /* the lines of the run to compare with, or NULL */
    /* of the comparison */
    bool errors;                     /* the rows have errors */
    size_t rows, here, there;        /* rows that only these lines, and only the other's, have right (errors: nearer) */
    double mean_here, mean_there, p; /* means of the errors; the test's probability */
} tq_answers;

/* against: the file to compare with, or NULL; it is read at once. */
toque_status tq_answers_init(tq_answers *a, tq_mem *mem, const char *against, toque_error *err) TQ_MUST;
void tq_answers_clear(tq_answers *a); /* accepts a zeroed struct */
/* What a row is known by: the beginning of the hash of its bytes. */
toque_status tq_answers_row_id(tq_mem *mem, const tq_row *row, char id[65], toque_error *err) TQ_MUST;
/* One row's line. uncorrected may be NULL. */
toque_status tq_answers_put(tq_answers *a, const char *id, const char *label, const char *answer, bool correct,
                            const char *uncorrected, toque_error *err) TQ_MUST;
toque_status tq_answers_put_error(tq_answers *a, const char *id, const char *value, const char *answer, double error,
                                  toque_error *err) TQ_MUST;
/* Pairs the lines with the other's (what stood in the file at path): McNemar's exact test of right and wrong,
 * randomization of errors. */
toque_status tq_answers_compare(tq_answers *a, const char *path, toque_error *err) TQ_MUST;
json_t *tq_answers_paired_json(const tq_answers *a);
void tq_answers_print_paired(const tq_answers *a, const char *path);
/* k of n with its interval. */
json_t *tq_answers_share_json(size_t k, size_t n);
void tq_answers_print_share(const char *what, size_t k, size_t n);

#endif
