/* Rows of features: for each row the columns that are not zero, in rising order, with their values. */
#ifndef TQ_EVAL_SPARSE_H
#define TQ_EVAL_SPARSE_H

#include "base/error.h"
#include "base/mem.h"

typedef struct tq_sparse {
    tq_mem *mem;
    size_t rows, cols, n, cap; /* n: values there are */
    size_t *start;             /* [rows + 1] */
    uint32_t *col;             /* [n] */
    double *value;             /* [n] */
} tq_sparse;
/* Room for `rows` rows, all of them empty: start is zero. */
toque_status tq_sparse_init(tq_sparse *x, tq_mem *mem, size_t rows, size_t cols, toque_error *err) TQ_MUST;
/* One more value at the end; the caller sets `start`. */
toque_status tq_sparse_put(tq_sparse *x, uint32_t col, double value, toque_error *err) TQ_MUST;
void tq_sparse_clear(tq_sparse *x); /* accepts a zeroed one */
/* The rows of x whose `keep` is true, in their order. */
toque_status tq_sparse_take(tq_sparse *out, const tq_sparse *x, const bool *keep, toque_error *err) TQ_MUST;

#endif
