/* See faulty.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "faulty.h"

static struct {
    faulty_mode mode;
    unsigned long long n, calls; /* n = 0: nothing fails */
    const char *name;            /* of the last call that failed */
} now;

/* What a call does, for the modes that fail only some. */
typedef enum effect { READS, TRANSFERS_IN, TRANSFERS_OUT, NEEDS_ROOM } effect;

static bool counts(effect e) {
    switch (now.mode) {
    case FAULTY_NO_SPACE: return e == TRANSFERS_OUT || e == NEEDS_ROOM;
    case FAULTY_IO_ERROR: return true;
    default: return e == TRANSFERS_IN || e == TRANSFERS_OUT;
    }
}

/* True if this call is to fail, and sets errno. *some: how many bytes to transfer. */
static bool fails(const char *name, effect e, size_t *some) {
    if (!now.n || !counts(e)) return false;
    now.calls++;
    if (now.calls < now.n) return false;
    bool first = now.calls == now.n, half = some && *some > 1;
    switch (now.mode) {
    case FAULTY_NO_SPACE:
        now.name = name;
        if (first && half) {
            *some /= 2;
            return false;
        }
        errno = ENOSPC;
        return true;
    case FAULTY_SHORT:
        if (half) *some -= *some / 2;
        return false;
    case FAULTY_INTERRUPT: errno = EINTR; return (now.calls - now.n) % 2 == 0;
    default:
        if (first) now.name = name;
        errno = EIO;
        return first;
    }
}

/* The real ones, as the linker calls them. */
int __real_open(const char *path, int flags, ...);
ssize_t __real_read(int fd, void *p, size_t n);
ssize_t __real_write(int fd, const void *p, size_t n);
int __real_close(int fd);
int __real_fsync(int fd);
int __real_fchmod(int fd, mode_t mode);
int __real_fstat(int fd, struct stat *st);
int __real_ftruncate(int fd, off_t n);
int __real_truncate(const char *path, off_t n);
int __real_rename(const char *from, const char *to);
int __real_linkat(int a, const char *from, int b, const char *to, int flags);
int __real_mkdir(const char *path, mode_t mode);
char *__real_mkdtemp(char *path);
int __real_mkstemp(char *path);
void *__real_mmap(void *p, size_t n, int protection, int flags, int fd, off_t offset);

int __wrap_open(const char *path, int flags, ...);
ssize_t __wrap_read(int fd, void *p, size_t n);
ssize_t __wrap_write(int fd, const void *p, size_t n);
int __wrap_close(int fd);
int __wrap_fsync(int fd);
int __wrap_fchmod(int fd, mode_t mode);
int __wrap_fstat(int fd, struct stat *st);
int __wrap_ftruncate(int fd, off_t n);
int __wrap_truncate(const char *path, off_t n);
int __wrap_rename(const char *from, const char *to);
int __wrap_linkat(int a, const char *from, int b, const char *to, int flags);
int __wrap_mkdir(const char *path, mode_t mode);
char *__wrap_mkdtemp(char *path);
int __wrap_mkstemp(char *path);
void *__wrap_mmap(void *p, size_t n, int protection, int flags, int fd, off_t offset);

int __wrap_open(const char *path, int flags, ...) {
    mode_t mode = 0;
    if (flags & O_CREAT) {
        va_list args;
        va_start(args, flags);
        mode = va_arg(args, mode_t);
        va_end(args);
    }
    return fails("open", flags & O_CREAT ? NEEDS_ROOM : READS, NULL) ? -1 : __real_open(path, flags, mode);
}

ssize_t __wrap_read(int fd, void *p, size_t n) {
    return fails("read", TRANSFERS_IN, &n) ? -1 : __real_read(fd, p, n);
}

ssize_t __wrap_write(int fd, const void *p, size_t n) {
    return fails("write", TRANSFERS_OUT, &n) ? -1 : __real_write(fd, p, n);
}

int __wrap_close(int fd) { /* closes in any case, as Linux does */
    bool failed = fails("close", READS, NULL);
    int e = errno, result = __real_close(fd);
    if (!failed) return result;
    errno = e;
    return -1;
}

int __wrap_fsync(int fd) {
    return fails("fsync", NEEDS_ROOM, NULL) ? -1 : __real_fsync(fd);
}

int __wrap_fchmod(int fd, mode_t mode) {
    return fails("fchmod", READS, NULL) ? -1 : __real_fchmod(fd, mode);
}

int __wrap_fstat(int fd, struct stat *st) {
    return fails("fstat", READS, NULL) ? -1 : __real_fstat(fd, st);
}

int __wrap_ftruncate(int fd, off_t n) {
    return fails("ftruncate", READS, NULL) ? -1 : __real_ftruncate(fd, n);
}

int __wrap_truncate(const char *path, off_t n) {
    return fails("truncate", READS, NULL) ? -1 : __real_truncate(path, n);
}

int __wrap_rename(const char *from, const char *to) {
    return fails("rename", NEEDS_ROOM, NULL) ? -1 : __real_rename(from, to);
}

int __wrap_linkat(int a, const char *from, int b, const char *to, int flags) {
    return fails("linkat", NEEDS_ROOM, NULL) ? -1 : __real_linkat(a, from, b, to, flags);
}

int __wrap_mkdir(const char *path, mode_t mode) {
    return fails("mkdir", NEEDS_ROOM, NULL) ? -1 : __real_mkdir(path, mode);
}

char *__wrap_mkdtemp(char *path) {
    return fails("mkdtemp", NEEDS_ROOM, NULL) ? NULL : __real_mkdtemp(path);
}

int __wrap_mkstemp(char *path) {
    return fails("mkstemp", NEEDS_ROOM, NULL) ? -1 : __real_mkstemp(path);
}

void *__wrap_mmap(void *p, size_t n, int protection, int flags, int fd, off_t offset) {
    return fails("mmap", READS, NULL) ? MAP_FAILED : __real_mmap(p, n, protection, flags, fd, offset);
}

/* With 64-bit offsets the C library's headers call these by other names. */
int __wrap_open64(const char *path, int flags, ...) __attribute__((alias("__wrap_open")));
int __wrap_fstat64(int fd, struct stat *st) __attribute__((alias("__wrap_fstat")));
int __wrap_ftruncate64(int fd, off_t n) __attribute__((alias("__wrap_ftruncate")));
int __wrap_truncate64(const char *path, off_t n) __attribute__((alias("__wrap_truncate")));
int __wrap_mkstemp64(char *path) __attribute__((alias("__wrap_mkstemp")));
void *__wrap_mmap64(void *p, size_t n, int protection, int flags, int fd, off_t offset)
    __attribute__((alias("__wrap_mmap")));

void faulty_arm(faulty_mode mode, unsigned long long n) {
    now.mode = mode;
    now.n = n;
    now.calls = 0;
    now.name = "none";
}

bool faulty_disarm(void) {
    bool came = now.calls >= now.n;
    now.n = 0;
    return came;
}

/* --- a whole program -------------------------------------------------------------------------------- */

static const char *const mode_names[FAULTY_MODES] = {"full", "error", "interrupt", "short"};

__attribute__((constructor)) static void arm_from_environment(void) {
    const char *text = getenv("TOQUE_FAULT"), *space = text ? strchr(text, ' ') : NULL;
    if (!space) return;
    for (int i = 0; i < FAULTY_MODES; i++)
        if (strlen(mode_names[i]) == (size_t)(space - text) && memcmp(mode_names[i], text, (size_t)(space - text)) == 0)
            faulty_arm((faulty_mode)i, strtoull(space, NULL, 10));
}

__attribute__((destructor)) static void tell_calls(void) {
    const char *path = getenv("TOQUE_FAULT_COUNT");
    FILE *f = path && now.n ? fopen(path, "w") : NULL;
    if (!f) return;
    fprintf(f, "%llu\n", now.calls);
    fclose(f);
}

/* --- the walk --------------------------------------------------------------------------------------- */

int faulty_entries(const char *folder) {
    DIR *dir = opendir(folder);
    int n = 0;
    if (!dir) return -1;
    for (struct dirent *e; (e = readdir(dir));) n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(dir);
    return n;
}

void faulty_walk(const faulty_work *work) {
    for (int mode = 0; mode < FAULTY_MODES; mode++) {
        bool came = true;
        unsigned long long n = 1;
        for (; came; n++) {
            if (n > 5000) fail_msg("%s: the work never passes", mode_names[mode]);
            toque_error err = {.code = TOQUE_OK, .message = ""};
            work->prepare(work->arg);
            int files = faulty_entries("/proc/self/fd");
            faulty_arm((faulty_mode)mode, n);
            toque_status status = work->run(work->arg, &err);
            came = faulty_disarm();
            if (faulty_entries("/proc/self/fd") != files)
                fail_msg("%s %llu (%s): a file stayed open", mode_names[mode], n, now.name);
            bool must = !came || mode == FAULTY_INTERRUPT || mode == FAULTY_SHORT;
            if (status != TOQUE_OK && (must || !err.message[0] || strchr(err.message, '\n')))
                fail_msg("%s %llu (%s): status %d, \"%s\"", mode_names[mode], n, now.name, (int)status, err.message);
            work->check(work->arg, status);
            if (came && (mode == FAULTY_INTERRUPT || mode == FAULTY_SHORT)) break; /* one attempt is all of them */
        }
        if (mode == FAULTY_IO_ERROR && n < 3) fail_msg("the work makes no call that could fail");
    }
}
