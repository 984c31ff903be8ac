/* Heads: small linear maps on hidden states, for classes, numbers and tags: y = W x + b. A head reads of every segment
 * its last, first or mean row behind the final norm, BERT's pooled first row, or each row. Its values lie in the
 * adapter's array, so a head is trained, saved, loaded and worn as a part of a hat (adapter.h).
 *
 * In files it has the names of transformers' AutoModelForSequenceClassification and ...ForTokenClassification; what
 * these names do not say (labels, what is read, the scale of a number) stands in head.json beside the tensors. */
#ifndef TQ_MODEL_HEAD_H
#define TQ_MODEL_HEAD_H

#include "kernels/context.h"

typedef enum tq_head_kind {
    TQ_HEAD_CLASS,  /* one of n classes */
    TQ_HEAD_LABELS, /* any of n labels */
    TQ_HEAD_VALUE,  /* a number: mean + deviation * y */
    TQ_HEAD_TAGS    /* one of n classes for each token */
} tq_head_kind;
enum { TQ_HEAD_KINDS = TQ_HEAD_TAGS + 1, TQ_MAX_HEADS = 4, TQ_MAX_HEAD_OUTPUTS = 65536 };

typedef enum tq_read { TQ_READ_LAST, TQ_READ_FIRST, TQ_READ_MEAN, TQ_READ_POOLER, TQ_READ_EACH } tq_read;
#define TQ_READ_CHOICES "auto|last|first|mean|pooler" /* of the key pooling: 0 is the default, then tq_read + 1 */

typedef struct tq_head {
    tq_head_kind kind;
    tq_read read;
    int n;                  /* outputs */
    char **labels;          /* [n] names of the outputs (tags: O, B-PER, I-PER, ...); NULL: a number's */
    double mean, deviation; /* of a number */
    char module[40];        /* "score", "classifier": set by the adapter's layout, as is what follows */
    float *weight, *bias;   /* [n, C], and [n] or NULL */
    float *dweight, *dbias; /* NULL until it is trained */
} tq_head;

const char *tq_head_kind_name(tq_head_kind kind); /* "classify", as the objective */
const char *tq_read_name(tq_read read);
/* -1: unknown */
int tq_head_kind_find(const char *name);
int tq_read_find(const char *name);
/* The number of the label called so, or -1. */
int tq_head_label(const tq_head *h, const char *name);

/* y [rows, n] = x [rows, C] W^T + b. */
void tq_head_fwd(tq_ctx *ctx, const tq_head *h, int64_t C, int rows, const float *x, float *y);
/* Adds to dweight and dbias (if the head is trained); dx [rows, C] is set, unless it is NULL. */
void tq_head_bwd(tq_ctx *ctx, const tq_head *h, int64_t C, int rows, const float *x, const float *dy, float *dx);
/* y [n] in place: shares of the classes (softmax), or of each label alone (sigmoid). */
void tq_head_shares(const tq_head *h, float *y);

#endif
