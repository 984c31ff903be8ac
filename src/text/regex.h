/* Regular expressions of tokenizer files: Oniguruma's syntax (Ruby's) into PCRE2's without UCP. Only what is known to
 * mean the same in both, or can be said in the other's words, is let through: expressions come from untrusted files. */
#ifndef TQ_TEXT_REGEX_H
#define TQ_TEXT_REGEX_H

#include "base/buf.h"

enum { TQ_REGEX_MAX = 1 << 16 };

/* White_Space inside a character class: PCRE2's \s would add U+180E and, without UCP, know ASCII only. */
#define TQ_REGEX_SPACE "\\t-\\r\\x{85}\\p{Z}"

/* Appends the translation of re [n] to out. EUNSUPPORTED names the part that is not understood. */
toque_status tq_regex_translate(tq_buf *out, const char *re, size_t n, toque_error *err) TQ_MUST;

#endif
