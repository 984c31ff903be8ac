/* Sentences by their punctuation: a sentence ends behind . ! ? or their kin (with closing quotes and brackets) when
 * white space and no lower-case letter follows and no abbreviation stands before, behind a CJK full stop, and at a
 * blank line. */
#ifndef TQ_RAG_SENTENCE_H
#define TQ_RAG_SENTENCE_H

#include <stdbool.h>
#include <stddef.h>

#include "rag/doc.h"

/* text[*start, *end) becomes the next sentence at or behind byte `at`, without white space around it. Returns false
 * when there is none left before `limit`. The next call goes on at *end. */
bool tq_sentence_next(const char *text, size_t at, size_t limit, size_t *start, size_t *end);

/* The smallest part of a block that is cut or quoted as one: a sentence of text, a line of code, a whole row. */
bool tq_unit_next(const char *text, tq_block_kind kind, size_t at, size_t limit, size_t *start, size_t *end);

#endif
