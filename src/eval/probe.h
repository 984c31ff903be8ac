/* Linear probes: what a row's text tells of its label without any tuning, by logistic regression over TF-IDF or over an
 * encoder's embeddings. A tuned model that does not beat them has learned nothing that a table of words does not know.
 */
#ifndef TQ_EVAL_PROBE_H
#define TQ_EVAL_PROBE_H

#include "eval/logreg.h"
#include "eval/tfidf.h"
#include "infer/embed.h"
#include "train/rows.h"

/* Rows as a probe sees them. */
typedef struct tq_probe_rows {
    tq_mem *mem;
    tq_arena arena;
    tq_string *texts;     /* [n] */
    const char **answers; /* [n] */
    size_t n, cap, cap_answers;
} tq_probe_rows;
void tq_probe_rows_init(tq_probe_rows *rows, tq_mem *mem);
void tq_probe_rows_clear(tq_probe_rows *rows);
/* A row: its text is every message before the last but system ones, a line each; its answer is its label or its last
 * message. EFORMAT for a row without an answer that is text, or without any text before it. */
toque_status tq_probe_rows_add(tq_probe_rows *rows, const tq_row *row, toque_error *err) TQ_MUST;
/* Whether they have at least two different answers and `rows_a_label` rows of each on average. */
bool tq_probe_is_for(const tq_probe_rows *rows, size_t rows_a_label);

typedef struct tq_probe {
    tq_mem *mem;
    const char **labels; /* [n_labels] the answers of the training rows in strcmp order; they own them */
    size_t n_labels, n_features;
    tq_embedder *embedder; /* the caller's; NULL: TF-IDF */
    tq_tfidf *tfidf;
    size_t cut; /* texts that the encoder did not take whole: their beginning was embedded */
    tq_logreg model;
    double c;                    /* the strength of regularization that was chosen */
    size_t tried, tried_right;   /* rows of the split that it was chosen on; 0: too few, c is 1 */
    const atomic_bool *canceled; /* set by the caller before fitting, or NULL */
} tq_probe;
/* embedder NULL: TF-IDF, from 1,000 rows on without the terms of a single row. C is the one of 0.1, 1, 10, 100, 1000
 * that answers most of a fifth of the training rows right when fitted on the others (the smallest of equals), then
 * everything is fitted on all. EINVAL for fewer than two labels. */
toque_status tq_probe_fit(tq_probe *p, const tq_probe_rows *train, tq_mem *mem, tq_embedder *embedder,
                          const atomic_bool *canceled, toque_error *err) TQ_MUST;
void tq_probe_clear(tq_probe *p);
/* answer [rows->n]: number of the likeliest label. */
toque_status tq_probe_answer(tq_probe *p, const tq_probe_rows *rows, uint32_t *answer, toque_error *err) TQ_MUST;
/* Its number, n_labels for an answer that no training row has. */
uint32_t tq_probe_label(const tq_probe *p, const char *answer);

#endif
