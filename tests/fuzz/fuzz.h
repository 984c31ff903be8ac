/* What a target defines. It returns 0, and traps (or lets a sanitizer trap) on what must not happen. Every block
 * must be freed: a target ends with fuzz_check(&mem). */
#ifndef TEST_FUZZ_H
#define TEST_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void fuzz_require(bool condition) {
    if (!condition) __builtin_trap();
}

/* A file of these bytes that no folder holds. Returns its descriptor, to be closed. */
static inline int fuzz_file(const void *data, size_t size, char path[40]) {
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    fuzz_require(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, 40, "/dev/fd/%d", fd);
    return fd;
}

static inline void fuzz_check(const tq_mem *mem) {
    fuzz_require(mem->used == 0);
}

#endif
