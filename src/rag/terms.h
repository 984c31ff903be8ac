/* Terms: what a text is indexed and asked by. Words are runs of letters, digits and marks; they are put in lower case
 * (and compatibility form), lose an elided article (l', d', qu'), are dropped when the language's stop list has them,
 * stemmed by Snowball, and last of all lose their diacritics. An ideograph is a word by itself. Both sides of a search
 * go through the same function, so that what is written can be found. */
#ifndef TQ_RAG_TERMS_H
#define TQ_RAG_TERMS_H

#include "base/buf.h"

/* Changes when the same text would give other terms: stores remember it. */
enum { TQ_TERMS_VERSION = 1 };

typedef struct tq_analyzer tq_analyzer; /* for one thread */

/* language: an ISO 639-1 code that Snowball has a stemmer for, or "" (folding only). EINVAL lists the known ones. */
toque_status tq_analyzer_new(tq_analyzer **a, tq_mem *mem, const char *language, toque_error *err) TQ_MUST;
void tq_analyzer_free(tq_analyzer *a);

/* Appends the text's terms, each with a blank behind; *count (may be NULL) is how many were added. */
toque_status tq_terms(tq_analyzer *a, const char *text, size_t n, tq_buf *out, size_t *count, toque_error *err) TQ_MUST;
/* True if the word (lower case) is in the language's stop list. */
bool tq_is_stop_word(const char *language, const char *word, size_t n);
/* The language whose stop words are at least a twentieth of the text's words and more than any other's, or "". */
const char *tq_detect_language(const char *text, size_t n);
/* The languages with a stop list, "de en es ...", for messages. */
const char *tq_analyzer_languages(void);

#endif
