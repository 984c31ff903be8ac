/* Scoring: log-probabilities that a model gives to tokens of given sequences. Used by score, perplexity, evaluation and
 * prediction.
 *
 * Short sequences are packed as segments into one pass; one that is longer than a pass runs in chunks over a cache of
 * its own. A sequence's path depends on its length alone and a row's value not on its company, so results do not depend
 * on how sequences are grouped.
 */
#ifndef TQ_INFER_SCORE_H
#define TQ_INFER_SCORE_H

#include "model/machine.h"
#include "model/model.h"

typedef struct tq_score_item {
    const tq_token *tokens; /* [n] */
    const uint8_t *target;  /* [n] score tokens[i] after tokens[0..i-1]; NULL: all but the first. target[0] is ignored:
                               nothing stands before it */
    int n;
    const tq_hats *hats; /* NULL: the base */
    float *logp;         /* [n] by the caller, or NULL: ln p of the targets, 0 elsewhere */
    double sum;          /* set: over the targets */
    int n_targets;       /* set */
} tq_score_item;

typedef struct tq_scorer tq_scorer;
/* max_rank: of the adapters that will be worn. */
toque_status tq_scorer_new(tq_scorer **scorer, tq_model *model, int max_rank, toque_error *err) TQ_MUST;
void tq_scorer_free(tq_scorer *scorer);
/* EINVAL for ids outside the vocabulary; ELIMIT for a sequence longer than the model's context (index and numbers are
 * named); ENONFINITE; ECANCELED between passes. */
toque_status tq_score(tq_scorer *scorer, tq_score_item *items, size_t n, toque_error *err) TQ_MUST;

/* Perplexity of one long sequence: windows of `context` tokens every `stride`, each run alone. A token is scored once,
 * in the first window that holds it other than as its first token. */
typedef struct tq_perplexity {
    size_t tokens; /* scored */
    double nll;    /* mean over them */
    double value;  /* e^nll */
} tq_perplexity;
typedef void tq_score_progress(void *arg, size_t done); /* tokens so far */
/* EINVAL when stride is not 1 .. context, context is not 2 .. the model's, or no token can be scored. */
toque_status tq_perplexity_run(tq_scorer *scorer, const tq_token *tokens, size_t n, int context, int stride,
                               const tq_hats *hats, tq_score_progress *progress, void *arg, tq_perplexity *result,
                               toque_error *err) TQ_MUST;

#endif
