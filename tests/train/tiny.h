/* A model of tokens and a chat template only, for tests that need no weights: a byte-level tokenizer with the special
 * tokens that the test names, or the tokenizer and template of a real file. */
#ifndef TEST_TINY_H
#define TEST_TINY_H

#include "model/model.h"

typedef struct tiny {
    tq_ctx ctx;
    tq_model model;
} tiny;

/* specials: their texts, NULL-terminated; eos and bos are two of them, or NULL. chat_template NULL: none. Returns false
 * with a message on standard error. */
bool tiny_open(tiny *t, const char *const *specials, const char *bos, const char *eos, bool add_bos,
               const char *chat_template, size_t n_template);
void tiny_close(tiny *t);

#endif
