/* The prompt of a written answer: system text, two examples, the conversation so far, numbered sources and the
 * question, through the model's chat template, within a budget of tokens. What is from documents cannot leave its
 * place: control tokens are recognized in the template's own bytes only, a sentence stands on one line behind its
 * number, a passage between lines of """, and where a text holds such a mark itself ([3], """) it is written with other
 * signs. */
#ifndef TQ_RAG_PROMPT_H
#define TQ_RAG_PROMPT_H

#include "rag/answer.h"

typedef struct tq_prompt_parts {
    const char *system;
    json_t *history; /* array or NULL */
    const tq_reply_source *sources;
    size_t n;
    bool shots;    /* two answered questions in front of the conversation */
    bool passages; /* the sources are passages, not sentences */
    const char *question;
    const char *lead; /* what the model's turn begins with, or NULL */
} tq_prompt_parts;

typedef struct tq_prompt {
    tq_tokens tokens;
    size_t sources, messages; /* that are in it: the first sources, the last messages */
} tq_prompt;

/* A prompt of at most `room` tokens. The history has what the sources leave, and at least a third of what system text
 * and question leave; whole turns are left out from its beginning, sources from their end. ELIMIT when there is no room
 * for the question, or for none of the sources. */
toque_status tq_prompt_make(tq_prompt *p, tq_model *model, const tq_prompt_parts *parts, size_t room,
                            toque_error *err) TQ_MUST;
void tq_prompt_clear(tq_prompt *p);

/* Appends text as it may stand in a prompt: on one line, or as it is. Exposed for tests. */
void tq_prompt_fence(tq_buf *out, const char *text, size_t n, bool one_line);

#endif
