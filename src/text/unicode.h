/* UTF-8 and the few Unicode facts that tokenizers need. Decoding follows the Unicode standard's table of well-formed
 * sequences (no overlong forms, no surrogates, nothing above U+10FFFF) and reports ill-formed bytes as maximal
 * subparts (Unicode 15, section 3.9, "U+FFFD substitution"). Categories and decompositions come from utf8proc. */
#ifndef TQ_TEXT_UNICODE_H
#define TQ_TEXT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TQ_UTF8_BAD UINT32_MAX        /* an ill-formed maximal subpart */
#define TQ_UTF8_CUT (UINT32_MAX - 1)  /* the input ends inside a sequence that is well-formed so far */
#define TQ_REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */

/* The code point at s (n >= 1 bytes left) into *cp, or TQ_UTF8_BAD / TQ_UTF8_CUT. Returns the bytes consumed, >= 1. */
size_t tq_utf8_next(const char *s, size_t n, uint32_t *cp);
/* Writes cp (a Unicode scalar value) and returns its length, 1 to 4. */
size_t tq_utf8_put(uint32_t cp, char out[4]);
/* Length of the longest well-formed prefix of s that does not end inside a character. */
size_t tq_utf8_valid_prefix(const char *s, size_t n);

bool tq_unicode_is_space(uint32_t cp);       /* the property White_Space */
bool tq_unicode_is_control(uint32_t cp);     /* general category Cc, Cf, Co or Cs */
bool tq_unicode_is_punctuation(uint32_t cp); /* general category P* */
bool tq_unicode_is_mark(uint32_t cp);        /* general category Mn */
bool tq_unicode_is_word(uint32_t cp);        /* a letter, a number (L*, N*) or _ */
uint32_t tq_unicode_lower(uint32_t cp);      /* simple lower case */
/* The canonical decomposition (NFD) of one code point: 1 to 4 code points, not reordered among neighbours. */
enum { TQ_UNICODE_NFD_MAX = 8 };
size_t tq_unicode_nfd(uint32_t cp, uint32_t out[TQ_UNICODE_NFD_MAX]);

#endif
