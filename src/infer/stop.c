/* Stop strings: see stop.h. The held text is at most a few characters long, so plain searching is enough. */
#include "infer/stop.h"

#include <string.h>

void tq_stop_init(tq_stop *stop, tq_mem *mem, const char *const *strings, size_t n) {
    *stop = (tq_stop){.strings = strings, .n = n};
    tq_buf_init(&stop->held, mem, SIZE_MAX / 2);
}

void tq_stop_clear(tq_stop *stop) {
    tq_buf_clear(&stop->held);
}

/* Where the first stop string begins in the held text, or its length. */
static size_t first_match(tq_stop *stop) {
    size_t first = stop->held.len;
    for (size_t i = 0; i < stop->n; i++) {
        size_t n = strlen(stop->strings[i]);
        if (n == 0) continue;
        const char *at = memmem(stop->held.data, stop->held.len, stop->strings[i], n);
        if (!at || (size_t)(at - stop->held.data) >= first) continue;
        first = (size_t)(at - stop->held.data);
        stop->which = stop->strings[i];
    }
    return first;
}

/* Length of the longest end of the held text that begins a stop string. */
static size_t open_tail(const tq_stop *stop) {
    size_t longest = 0;
    for (size_t i = 0; i < stop->n; i++) {
        size_t n = strlen(stop->strings[i]), most = n == 0 ? 0 : n - 1;
        if (most > stop->held.len) most = stop->held.len;
        for (size_t len = most; len > longest; len--)
            if (memcmp(stop->held.data + stop->held.len - len, stop->strings[i], len) == 0) longest = len;
    }
    return longest;
}

/* Moves the first n held bytes to out. */
static bool release(tq_stop *stop, size_t n, tq_buf *out) {
    bool ok = tq_buf_put(out, stop->held.data, n);
    memmove(stop->held.data, stop->held.data + n, stop->held.len - n + 1);
    stop->held.len -= n;
    return ok;
}

bool tq_stop_feed(tq_stop *stop, const char *text, size_t n, tq_buf *out) {
    if (stop->met || n == 0) return true;
    if (stop->n == 0) return tq_buf_put(out, text, n);
    if (!tq_buf_put(&stop->held, text, n)) return false;
    size_t match = first_match(stop);
    if (match < stop->held.len) {
        stop->met = true;
        bool ok = release(stop, match, out);
        tq_buf_reset(&stop->held);
        return ok;
    }
    return release(stop, stop->held.len - open_tail(stop), out);
}

bool tq_stop_finish(tq_stop *stop, tq_buf *out) {
    if (stop->met || stop->held.len == 0) return true;
    return release(stop, stop->held.len, out);
}
