/* Stop strings in streamed text. Text is held back only as long as it may be the beginning of a stop string, so a match
 * across any number of tokens is found and never shown. */
#ifndef TQ_INFER_STOP_H
#define TQ_INFER_STOP_H

#include "base/buf.h"

typedef struct tq_stop {
    const char *const *strings; /* borrowed; empty ones are ignored */
    size_t n;
    tq_buf held;
    bool met;          /* a stop string was found; everything after it is dropped */
    const char *which; /* that one, or NULL */
} tq_stop;

void tq_stop_init(tq_stop *stop, tq_mem *mem, const char *const *strings, size_t n);
void tq_stop_clear(tq_stop *stop);
/* Takes text and appends to out what can be shown. Of several stop strings the one that begins first wins. False:
 * no memory. */
bool tq_stop_feed(tq_stop *stop, const char *text, size_t n, tq_buf *out);
/* The end of the text: appends what is still held back (nothing once `met`). */
bool tq_stop_finish(tq_stop *stop, tq_buf *out);

#endif
