/* Labels: answering by choosing the likeliest of given answers instead of writing one. */
#ifndef TQ_EVAL_LABELS_H
#define TQ_EVAL_LABELS_H

#include "infer/choices.h"
#include "train/rows.h"

typedef struct tq_labels {
    tq_mem *mem;
    char **items;
    size_t n, cap;
} tq_labels;
/* text: a file with one label a line, or labels with commas between. EINVAL for fewer than two or a double one. */
toque_status tq_labels_read(tq_labels *labels, tq_mem *mem, const char *text, toque_error *err) TQ_MUST;
void tq_labels_clear(tq_labels *labels);
/* Its number; -1 for none of them. */
int tq_labels_find(const tq_labels *labels, const char *s);
/* The answer of a row of known label: its label, or its last message. EFORMAT without one. */
toque_status tq_labels_truth(const tq_row *row, const char **truth, toque_error *err) TQ_MUST;
/* logp [n]: each label as the answer to messages (without an assistant turn at their end), put behind them as the model
 * would be trained on it, its end-of-turn token included. *fits false: over the model's context, logp is not set. */
toque_status tq_labels_score(const tq_labels *labels, tq_model *model, tq_chooser *chooser, const tq_hats *hats,
                             json_t *messages, json_t *tools, double *logp, bool *fits, toque_error *err) TQ_MUST;
/* The largest of logp and its share of the sum over all, computed from the largest so that nothing overflows. */
size_t tq_labels_best(const double *logp, size_t n, double *share);

#endif
