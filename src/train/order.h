/* Which rows a step takes. The order of an epoch follows from the seed and the epoch's number alone, and a step's place
 * in it from the step's number: there is no cursor to lose. The last batch of an epoch may be smaller.
 *
 * With a mix, an epoch takes a set number of rows of each data set: from an endless row of shuffles of its rows, of
 * which every epoch takes the next piece, so that all rows of a data set are used equally often but for one. */
#ifndef TQ_TRAIN_ORDER_H
#define TQ_TRAIN_ORDER_H

#include "base/error.h"
#include "base/mem.h"

typedef struct tq_order {
    tq_mem *mem;
    uint32_t *index; /* [n] of the epoch laid out now */
    size_t n, batch; /* rows of the data and of a step */
    bool shuffle;
    uint64_t seed;
    int64_t epoch;         /* laid out; -1: none */
    int64_t steps;         /* of one epoch */
    size_t n_sets;         /* of a mix; 0: none */
    size_t *take;          /* [n_sets] rows of an epoch */
    size_t *first;         /* [n_sets + 1] into rows */
    uint32_t *rows, *turn; /* [n] rows by data set; one shuffle of one data set */
} tq_order;

/* EINVAL for no rows or a batch of 0. */
toque_status tq_order_init(tq_order *o, tq_mem *mem, size_t n, size_t batch, bool shuffle, uint64_t seed,
                           toque_error *err) TQ_MUST;
/* Before the first tq_order_rows: set_of [n] is each row's data set, take [n_sets] the rows of an epoch (their sum is
 * n; none for a data set without rows). */
toque_status tq_order_mix(tq_order *o, const uint16_t *set_of, const size_t *take, size_t n_sets,
                          toque_error *err) TQ_MUST;
void tq_order_clear(tq_order *o);
/* The rows of the step after `step` finished ones: *rows points to *n numbers, valid until the next call. Returns the
 * epoch, from 0. */
int64_t tq_order_rows(tq_order *o, int64_t step, const uint32_t **rows, size_t *n);

#endif
