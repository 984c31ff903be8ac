/* Helpers for the tests of file formats: files built byte by byte, a temporary folder, exact-size copies so that
 * a sanitizer sees the first byte read past the end. */
#ifndef TEST_BYTES_H
#define TEST_BYTES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/io.h"

static tq_mem mem; /* each test leaves it with used == 0 */

static char folder[64];
static inline int make_folder(void **state) {
    (void)state;
    strcpy(folder, "/tmp/toque-test-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}
static inline int drop_folder(void **state) {
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}
static inline const char *in_folder(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static inline void put_u32(tq_buf *b, uint32_t v) {
    tq_buf_put(b, &v, 4);
}
static inline void put_u64(tq_buf *b, uint64_t v) {
    tq_buf_put(b, &v, 8);
}
static inline void put_text(tq_buf *b, const char *s) {
    put_u64(b, strlen(s));
    tq_buf_puts(b, s);
}
static inline tq_buf new_bytes(void) {
    tq_buf b;
    tq_buf_init(&b, &mem, 1 << 24);
    return b;
}

/* A copy with nothing behind it; free() it. */
static inline uint8_t *exact(const void *data, size_t n) {
    uint8_t *p = malloc(n ? n : 1);
    assert_non_null(p);
    if (n) memcpy(p, data, n);
    return p;
}

#endif
