/* Choices: log-probabilities of several continuations of one prompt (labels of a classifier, options of a question).
 * What the continuations share is run once, and what a prompt shares with the one before (a system text, few-shot
 * examples) is kept, so a choice costs little more than its own tokens. The sums equal tq_score's to rounding. */
#ifndef TQ_INFER_CHOICES_H
#define TQ_INFER_CHOICES_H

#include "infer/score.h"

typedef struct tq_chooser tq_chooser;
/* max_rank: of the adapters that will be worn. */
toque_status tq_chooser_new(tq_chooser **chooser, tq_model *model, int max_rank, toque_error *err) TQ_MUST;
void tq_chooser_free(tq_chooser *chooser);
/* Fills sum and n_targets of the items (logp of an item is not written). All wear the same hats and begin with the same
 * tokens; no target lies before the last token that all share. ELIMIT over the model's context, EINVAL otherwise. */
toque_status tq_choose(tq_chooser *chooser, tq_score_item *items, size_t n, toque_error *err) TQ_MUST;

#endif
