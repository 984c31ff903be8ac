/* A growing byte string. See buf.h. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static char empty[1]; /* what `data` points to before the first write; never written */

void tq_buf_init(tq_buf *buf, tq_mem *mem, size_t max) {
    *buf = (tq_buf){.mem = mem, .data = empty, .max = max};
}

void tq_buf_clear(tq_buf *buf) {
    if (buf->cap) tq_free(buf->mem, buf->data);
    tq_buf_init(buf, buf->mem, buf->max);
}

void tq_buf_reset(tq_buf *buf) {
    buf->len = 0;
    buf->failed = buf->over = false;
    if (buf->cap) buf->data[0] = 0;
}

void tq_buf_cut(tq_buf *buf, size_t len) {
    if (len >= buf->len) return;
    buf->len = len;
    buf->data[len] = 0;
}

static bool room(tq_buf *buf, size_t n) {
    if (buf->failed) return false;
    if (n > buf->max || buf->len > buf->max - n || n > SIZE_MAX / 4 || buf->len > SIZE_MAX / 4) {
        buf->failed = buf->over = true;
        return false;
    }
    size_t need = buf->len + n + 1;
    if (need <= buf->cap) return true;
    size_t cap = buf->cap ? buf->cap : 64;
    while (cap < need) cap *= 2;
    char *p = tq_realloc(buf->mem, buf->cap ? buf->data : NULL, cap, 1);
    if (!p) {
        buf->failed = true;
        return false;
    }
    buf->data = p;
    buf->cap = cap;
    return true;
}

bool tq_buf_put(tq_buf *buf, const void *data, size_t n) {
    if (!room(buf, n)) return false;
    if (n) memcpy(buf->data + buf->len, data, n);
    buf->len += n;
    buf->data[buf->len] = 0;
    return true;
}

bool tq_buf_puts(tq_buf *buf, const char *s) {
    return tq_buf_put(buf, s, strlen(s));
}

bool tq_buf_putc(tq_buf *buf, char c) {
    return tq_buf_put(buf, &c, 1);
}

bool tq_buf_printf(tq_buf *buf, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    bool ok = n >= 0 && room(buf, (size_t)n);
    if (ok) {
        vsnprintf(buf->data + buf->len, (size_t)n + 1, format, again);
        buf->len += (size_t)n;
    } else {
        buf->failed = true;
    }
    va_end(again);
    return ok;
}

toque_status tq_buf_status(const tq_buf *buf, const char *what, toque_error *err) {
    if (!buf->failed) return TOQUE_OK;
    if (buf->over) return TQ_FAIL(err, ELIMIT, "%s is longer than %zu bytes", what, buf->max);
    return TQ_NOMEM(err);
}

char *tq_buf_take(tq_buf *buf) {
    if (buf->failed || !room(buf, 0)) return NULL;
    char *p = buf->data;
    p[buf->len] = 0;
    tq_buf_init(buf, buf->mem, buf->max);
    return p;
}
