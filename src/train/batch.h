/* A batch: the rows of one optimizer step laid out into passes (micro-batches). With packing several rows share a pass,
 * each a segment of its own (for vectors: each of its texts) with positions from 0 and block-diagonal attention;
 * without, each row has its own pass. Which rows a step holds, and what is computed for each, does not depend on the
 * layout.
 *
 * Only what a loss can see is run: a row's tokens behind its last target, and that target itself (which is predicted,
 * never read), are left out of the pass.
 */
#ifndef TQ_TRAIN_BATCH_H
#define TQ_TRAIN_BATCH_H

#include "model/machine.h"
#include "train/dataset.h"

/* Tokens that packed rows may fill a pass with; a longer row has a pass to itself. A constant: the layout, and with it
 * every bit of the result, must not depend on how much memory there is. */
enum { TQ_PASS_TOKENS = 512 };

typedef struct tq_batch_pass { /* ranges of the batch's arrays */
    int token, n_tokens;
    int segment, n_segments;
    int target, n_targets;
} tq_batch_pass;

typedef struct tq_batch {
    tq_mem *mem;
    bool packing;
    int max_rows, max_before, max_tokens, max_segments; /* what there is room for */
    int32_t *tokens;                                    /* [max_tokens] */
    tq_target *targets;                                 /* [max_tokens] rows are counted within their pass */
    float *weights;                                     /* [max_tokens] of each target: its row's, times its turn's */
    float *logp, *coef;                                 /* [max_tokens] room for a readout of each target */
    float *mean, *mean_coef; /* [max_tokens] the same of its row's mean over the vocabulary */
    tq_segment *segments;    /* [max_segments] */
    uint32_t *example;       /* [max_segments] the example behind each segment */
    tq_batch_pass *passes;   /* [max_rows] */
    int *place, *fill;       /* [max_rows] scratch of the layout */
    /* the batch laid out last */
    int before; /* virtual tokens before each row, of the hats' prompt */
    int n_passes, n_rows;
    int64_t n_tokens, n_targets; /* of its rows, whole */
    int64_t n_read;              /* of the targets, those that heads read */
    double weight;               /* the sum of the weights of its target tokens */
} tq_batch;

/* Rows that a pass runs for this example: up to the one that predicts its last target. 0: nothing to learn. */
int tq_batch_length(const tq_example *e);
/* Rows of the largest pass that rows of this dataset can make, with `before` virtual tokens before each. */
int tq_batch_pass_rows(const tq_dataset *set, int before, bool packing);
/* Room for any `rows` rows of the sets (the second may be NULL). */
toque_status tq_batch_init(tq_batch *b, tq_mem *mem, const tq_dataset *set, const tq_dataset *other, int rows,
                           int before, bool packing, toque_error *err) TQ_MUST;
void tq_batch_clear(tq_batch *b);
/* Lays out n rows, set->examples[rows[i]]; they wear hats. use: how often rows were used before (the epoch); it and the
 * example's number make the row's dropout. Rows fill the first pass that has room, in order. */
void tq_batch_lay(tq_batch *b, const tq_dataset *set, const uint32_t *rows, int n, const tq_hats *hats, uint32_t use);
/* Pass i as the machine takes it. */
tq_pass tq_batch_pass_at(const tq_batch *b, int i, tq_pass_kind kind, uint64_t seed);

#endif
