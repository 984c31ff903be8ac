/* What a generative model adds to a search, each off by default (search.h):
 *
 * - rerank: how probable it finds the question behind a passage, the mean of log p over the question's tokens ("query
 *   likelihood", Sachan et al. 2022). The passage stands in front with its headings and the request to ask a question.
 * - expand by hyde: a passage that would answer the question, whose vector joins the question's (Gao et al. 2022);
 *   by queries: the question in other words, each of which is searched too.
 *
 * Greedy, so the same question gives the same words. What the model writes is searched, never shown as an answer. */
#ifndef TQ_RAG_HELPER_H
#define TQ_RAG_HELPER_H

#include "infer/score.h"
#include "infer/session.h"
#include "rag/store.h"

typedef enum tq_expansion { TQ_EXPAND_NONE, TQ_EXPAND_HYDE, TQ_EXPAND_QUERIES } tq_expansion;
enum { TQ_EXPAND_MOST = 3 }; /* questions in other words */

/* The model; one search at a time. Model and hats are borrowed. */
typedef struct tq_search_helper {
    tq_model *model;
    const tq_hats *hats; /* NULL: the base */
    int max_rank;        /* of the adapters worn */
    tq_session *session; /* made when first needed */
    tq_scorer *scorer;
} tq_search_helper;
void tq_search_helper_clear(tq_search_helper *h);

/* Texts in place of, or beside, the question; in `arena`. hyde gives one passage, queries up to TQ_EXPAND_MOST (those
 * that say something else than the question and each other; maybe none). ENOTFOUND when the model has no chat template,
 * ELIMIT when the question does not fit. */
toque_status tq_helper_expand(tq_search_helper *h, tq_expansion kind, const char *question, tq_arena *arena,
                              const char *texts[TQ_EXPAND_MOST], size_t *n, toque_error *err) TQ_MUST;
/* scores: [n], log p(question | passage) a token. ELIMIT when a passage with the question exceeds the model's context.
 */
toque_status tq_helper_rerank(tq_search_helper *h, const char *question, const tq_passage_info *const *passages,
                              size_t n, double *scores, toque_error *err) TQ_MUST;
/* The lines of a model's answer as questions: without numbers, bullets, quotation marks, and those that repeat one or
 * the question. Exposed for tests. */
toque_status tq_helper_lines(const char *text, const char *question, tq_arena *arena, const char *texts[TQ_EXPAND_MOST],
                             size_t *n, toque_error *err) TQ_MUST;

#endif
