/* Answers to rows of known labels, as `eval` and `probe` write, print and pair them. */
#ifndef TQ_CLI_ANSWERS_H
#define TQ_CLI_ANSWERS_H

#include <jansson.h>

#include "base/buf.h"
#include "train/rows.h"

/* What a row is known by: the beginning of the hash of its bytes. */
toque_status tq_answers_row_id(tq_mem *mem, const tq_row *row, char id[65], toque_error *err) TQ_MUST;
/* One row's line for --out. uncorrected may be NULL. */
toque_status tq_answers_put(tq_buf *out, const char *id, const char *label, const char *answer, const char *uncorrected,
                            toque_error *err) TQ_MUST;
/* Counts the rows that only these lines, and only `other` (what stands in the file at path), got right. */
toque_status tq_answers_compare(const tq_buf *out, const char *other, const char *path, size_t *here, size_t *there,
                                toque_error *err) TQ_MUST;
/* k of n with its interval. */
json_t *tq_answers_share_json(size_t k, size_t n);
void tq_answers_print_share(const char *what, size_t k, size_t n);
json_t *tq_answers_paired_json(size_t here, size_t there);
void tq_answers_print_paired(const char *path, size_t here, size_t there);

#endif
