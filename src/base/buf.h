/* A growing byte string with a maximum. Failure is sticky: write as much as you like and look at
 * `failed` once at the end. `data` is always NUL-terminated (and "" before the first write). */
#ifndef TQ_BASE_BUF_H
#define TQ_BASE_BUF_H

#include "base/error.h"
#include "base/mem.h"

typedef struct tq_buf {
    tq_mem *mem;
    char *data;
    size_t len, cap;
    size_t max;  /* longest allowed len */
    bool failed; /* out of memory or over max; the content is then incomplete */
    bool over;   /* failed because of max */
} tq_buf;

void tq_buf_init(tq_buf *buf, tq_mem *mem, size_t max);
void tq_buf_clear(tq_buf *buf); /* frees; the buffer may be used again */
bool tq_buf_put(tq_buf *buf, const void *data, size_t n);
bool tq_buf_puts(tq_buf *buf, const char *s);
bool tq_buf_putc(tq_buf *buf, char c);
bool tq_buf_printf(tq_buf *buf, const char *format, ...) TQ_PRINTF(2, 3);
void tq_buf_reset(tq_buf *buf);           /* len = 0, failed = false, memory kept */
void tq_buf_cut(tq_buf *buf, size_t len); /* drops what stands behind len bytes; a failure stays */
/* OK, or ENOMEM / ELIMIT when a write failed; what names the content in the message. */
toque_status tq_buf_status(const tq_buf *buf, const char *what, toque_error *err) TQ_MUST;
/* The content as a string owned by the caller (tq_free); buf is empty afterwards. NULL if failed. */
char *tq_buf_take(tq_buf *buf);

#endif
