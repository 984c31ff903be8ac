/* What retrieval asks of an embedder, whatever stands behind it: texts to vectors, texts to token ends, and what a
 * store must remember to tell one embedder from another. A store without vectors uses tq_rag_embedder_none: its tokens
 * are words. */
#ifndef TQ_RAG_EMBEDDER_H
#define TQ_RAG_EMBEDDER_H

#include "base/error.h"
#include "base/mem.h"

/* Where the tokens of a text end, in bytes from its start, ascending; grows by tq_grow. */
typedef struct tq_ends {
    tq_mem *mem;
    uint32_t *at;
    size_t len, cap;
} tq_ends;

typedef struct tq_rag_embedder {
    void *self;
    const char *name;                          /* as the user named it: a folder, a file, or "none" */
    const char *hash;                          /* of its weights and vocabulary, hexadecimal */
    const char *pooling;                       /* "mean", "cls" */
    const char *query_prefix, *passage_prefix; /* put in front of texts before embed; "" for most */
    int dim;                                   /* 0: no vectors */
    int max_tokens;                            /* of a text with its prefix, special tokens not counted */
    /* out: f32 [n, dim], rows of length 1. No text is longer than max_tokens. */
    toque_status (*embed)(void *self, const char *const *texts, const size_t *lengths, size_t n, float *out,
                          toque_error *err);
    /* Appends where each token of text ends. */
    toque_status (*tokenize)(void *self, const char *text, size_t n, tq_ends *ends, toque_error *err);
} tq_rag_embedder;

extern const tq_rag_embedder tq_rag_embedder_none;

/* Tokens of a text with an embedder. */
toque_status tq_count_tokens(const tq_rag_embedder *e, tq_mem *mem, const char *text, size_t n, size_t *tokens,
                             toque_error *err) TQ_MUST;

#endif
