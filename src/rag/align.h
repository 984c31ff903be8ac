/* Alignment: which sentence that the model read stands behind a sentence that it wrote, and does it bear it out?
 * The nearest one has the largest sum of
 *     overlap     the share of the written sentence's terms that it holds, weighted by idf (as quoting scores), and
 *     similarity  the cosine of both (in a store with vectors).
 * The written sentence is supported when its terms stand, to at least TQ_SUPPORT_LEAST, in that sentence or its two
 * neighbours (a writer joins sentences; terms that only the headings hold count TQ_HEADING_SHARE), and all its numbers
 * stand there too. This finds what was invented, not what was turned round: "A before B" and "B before A" have the same
 * terms. */
#ifndef TQ_RAG_ALIGN_H
#define TQ_RAG_ALIGN_H

#include "rag/answer.h"

#define TQ_SUPPORT_LEAST 0.7

typedef struct tq_aligner {
    tq_searcher *s;
    tq_sentences list; /* what was read, in order of sources and places */
    int *source;       /* [list.n] */
    int64_t chunks;    /* of the store */
    tq_arena arena;
} tq_aligner;

/* Over n sources. Those of `found` have their vectors already. */
toque_status tq_aligner_init(tq_aligner *a, tq_searcher *s, const tq_sentences *found, const tq_reply_source *sources,
                             size_t n, toque_error *err) TQ_MUST;
void tq_aligner_clear(tq_aligner *a);
/* Fills all of out but start and end. */
toque_status tq_align(tq_aligner *a, const char *text, size_t n, tq_reply_sentence *out, toque_error *err) TQ_MUST;

#endif
