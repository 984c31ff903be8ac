/* Encodings: what people's files are written in, made UTF-8. A byte order mark decides; valid UTF-8 is taken as such;
 * only then is the encoding guessed (uchardet) and converted (iconv), and the caller tells the user what was guessed.
 */
#ifndef TQ_TRAIN_CHARSET_H
#define TQ_TRAIN_CHARSET_H

#include "base/buf.h"

typedef struct tq_decoded {
    const char *data; /* valid UTF-8 without a byte order mark, no NUL; into the input, or `owned` */
    size_t len;
    char *owned;
    char encoding[32]; /* "UTF-8", "windows-1252", "UTF-16LE" */
} tq_decoded;

/* guess: text that is not UTF-8 may be of another encoding (else it is an error). EFORMAT names the line. The input
 * must outlive *out. */
toque_status tq_decode(tq_decoded *out, tq_mem *mem, const char *data, size_t n, bool guess, toque_error *err) TQ_MUST;
void tq_decoded_clear(tq_decoded *d, tq_mem *mem);

/* The number of the line that byte `at` stands in, from 1. */
size_t tq_line_of(const char *data, size_t at);

#endif
