/* An embedder for tests: a text's vector is the sum of pseudo-random vectors of its words (lower case), so texts that
 * share words are near to each other. Its tokens are pieces of words of at most 4 bytes. */
#ifndef TQ_TESTS_RAG_BAG_H
#define TQ_TESTS_RAG_BAG_H

#include "rag/embedder.h"

typedef struct bag {
    int dim;
    int calls; /* of embed */
    size_t texts;
} bag;

/* The embedder over b; another seed (in hash) is another embedder. */
tq_rag_embedder bag_embedder(bag *b, int dim, int max_tokens);

#endif
