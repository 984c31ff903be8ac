/* Failing input and output on purpose. A program that links faulty.c with the linker's --wrap (meson.build) has its
 * calls of open, read, write, fsync, rename and so on counted, and the Nth of them fail; calls inside the C library and
 * other libraries are not touched. faulty_walk tries N = 1, 2, ... until the work passes.
 *
 * A whole program may be built so too (toque_faulty): TOQUE_FAULT="MODE N" arms it from its first call on, and the
 * file that TOQUE_FAULT_COUNT names receives the number of calls when it ends. */
#ifndef TEST_FAULTY_H
#define TEST_FAULTY_H

#include "base/error.h"

typedef enum faulty_mode {
    FAULTY_NO_SPACE,  /* "full": the Nth call that needs room fails with ENOSPC, a write after half of its bytes, and
                         so does every later one */
    FAULTY_IO_ERROR,  /* "error": the Nth call fails with EIO, later ones do not */
    FAULTY_INTERRUPT, /* "interrupt": from the Nth on, every second read or write fails with EINTR */
    FAULTY_SHORT,     /* "short": from the Nth on, reads and writes transfer half of what was asked */
    FAULTY_MODES
} faulty_mode;

void faulty_arm(faulty_mode mode, unsigned long long n);
/* Whether the Nth call came. */
bool faulty_disarm(void);

/* A piece of work that must leave either what was there before or all that is new. */
typedef struct faulty_work {
    void *arg;
    void (*prepare)(void *arg); /* before every attempt: what was there before */
    toque_status (*run)(void *arg, toque_error *err);
    /* After it, with nothing failing any more: did it leave what its status says? */
    void (*check)(void *arg, toque_status status);
} faulty_work;
/* All modes, N = 1, 2, ... until the Nth call does not come; then, and for EINTR and short transfers always, the work
 * must have succeeded. A failure must have one line of message; no file may stay open. */
void faulty_walk(const faulty_work *work);

/* The number of entries of a folder. */
int faulty_entries(const char *folder);

#endif
