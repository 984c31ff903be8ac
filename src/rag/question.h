/* Questions about a store's own passages, for its evaluation: which passages are asked about, which sentence of a
 * passage holds an answer, and questions that a model writes. A written question is kept only if a search for it finds
 * its passage and its answer stands there in so many words; what is kept is easier than what people ask. */
#ifndef TQ_RAG_QUESTION_H
#define TQ_RAG_QUESTION_H

#include "rag/quote.h"

/* All passages of at least `least` bytes, by id, in an order drawn from seed; the caller's (tq_free). */
toque_status tq_question_passages(tq_rag *store, int64_t least, uint64_t seed, int64_t **chunks, size_t *n,
                                  toque_error *err) TQ_MUST;
/* The first sentence of the passage that holds the answer's words one behind the other, in arena; NULL: none does.
 * EINVAL for an answer without words. */
toque_status tq_question_sentence(tq_rag *store, const tq_passage_info *passage, const char *answer, tq_arena *arena,
                                  const char **sentence, toque_error *err) TQ_MUST;

typedef enum tq_question_fate {
    TQ_QUESTION_KEPT,
    TQ_QUESTION_NONE,   /* the model wrote no question with an answer */
    TQ_QUESTION_ABSENT, /* the passage does not hold the answer */
    TQ_QUESTION_LOST,   /* a search does not find the passage among the first k */
    TQ_QUESTION_FATES
} tq_question_fate;

typedef struct tq_question {
    tq_question_fate fate;
    const char *question, *answer, *sentence; /* in the arena; NULL where the fate came before */
} tq_question;
/* Lets the model write one question about a passage. ENOTFOUND without a chat template, ELIMIT when the passage does
 * not fit the session. */
toque_status tq_question_write(tq_searcher *s, tq_session *session, const tq_hats *hats, const tq_passage_info *passage,
                               const tq_search_options *search, tq_arena *arena, tq_question *out,
                               toque_error *err) TQ_MUST;
/* "Question: ... Answer: ..." taken apart, in arena; false when either is missing. Exposed for tests. */
bool tq_question_parse(const char *text, tq_arena *arena, tq_question *out);

#endif
