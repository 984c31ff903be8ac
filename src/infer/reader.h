/* Reading texts with a head: classes, labels, numbers or tags for each, by packed passes. A text's outputs do not
 * depend on its company. One thread uses a reader at a time; model, hats and head outlive it. */
#ifndef TQ_INFER_READER_H
#define TQ_INFER_READER_H

#include "model/machine.h"

/* A text's outputs y [items, head's n]: one item, or for tags one a token, which covers bytes [start, end) of the text
 * (special tokens none). items 0: the text is longer than the model's context. */
typedef struct tq_reading {
    const float *y;
    int items;
    const uint32_t *start, *end;
} tq_reading;
typedef toque_status tq_reading_fn(void *arg, size_t id, const tq_reading *r, toque_error *err);

typedef struct tq_reader tq_reader;
toque_status tq_reader_new(tq_reader **reader, tq_model *model, const tq_hats *hats, int max_rank, const tq_head *head,
                           tq_reading_fn *fn, void *arg, toque_error *err) TQ_MUST;
void tq_reader_free(tq_reader *r);
/* Takes a text in; fn is called for those taken in before once a pass is full. EINVAL for a text without tokens. */
toque_status tq_reader_add(tq_reader *r, size_t id, const char *text, size_t n, toque_error *err) TQ_MUST;
/* Calls fn for all that are left. */
toque_status tq_reader_flush(tq_reader *r, toque_error *err) TQ_MUST;

#endif
