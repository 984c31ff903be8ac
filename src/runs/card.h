/* The model card (README.md) of a run: what was trained, on what, with which result, and how to use it. */
#ifndef TQ_RUNS_CARD_H
#define TQ_RUNS_CARD_H

#include "base/buf.h"
#include "runs/figures.h"
#include "runs/ranking.h"

typedef struct tq_card {
    const char *dir; /* the run folder, as given */
    const char *model, *model_hash, *architecture;
    const char *const *data; /* paths */
    size_t n_data;
    const char *data_hash, *eval_hash; /* eval_hash: NULL without a file of held-out rows */
    size_t rows, held_out_rows, dropped_rows, lost_spans, tokens, targets;
    const char *method, *objective;
    bool peft; /* the folder is in PEFT's format */
    size_t trained_values;
    int64_t steps, kept_step; /* kept_step: whose values the adapter holds */
    double epochs;
    double first_loss, last_loss;             /* of the training steps */
    double base_eval, best_eval, last_eval;   /* NAN: no evaluation */
    const json_t *first_by_set, *last_by_set; /* held-out losses of several data sets by name, or NULL */
    const tq_head *head;                      /* or NULL */
    const tq_figures *figures;                /* of the head's answers to the held-out rows at the end, or NULL */
    bool vectors;                             /* it embeds texts */
    const tq_ranking *ranking;                /* of the held-out queries at the end, or NULL */
    const char *baseline;                     /* what a cheap model reaches on the held-out rows, or NULL */
    const char *recipe;                       /* YAML */
} tq_card;

bool tq_card_write(const tq_card *card, tq_buf *out);

#endif
