/* Files. See io.h. Every message names the path and what the system said. */
#include "base/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static toque_status fail_errno(toque_error *err, const char *what, const char *path) {
    int e = errno;
    return tq_fail(err, e == ENOENT ? TOQUE_ENOTFOUND : TOQUE_EIO, "cannot %s %s: %s", what, path, strerror(e));
}

toque_status tq_map_open(tq_map *map, const char *path, toque_error *err) {
    *map = (tq_map){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail_errno(err, "open", path);
    struct stat st;
    toque_status status = TOQUE_OK;
    if (fstat(fd, &st) < 0) {
        status = fail_errno(err, "inspect", path);
    } else if (!S_ISREG(st.st_mode)) {
        status = TQ_FAIL(err, EINVAL, "%s is not a regular file", path);
    } else if (st.st_size > 0) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            status = fail_errno(err, "map", path);
        else
            *map = (tq_map){.data = p, .size = (size_t)st.st_size};
    }
    close(fd);
    return status;
}

void tq_map_close(tq_map *map) {
    if (map->data) munmap((void *)(uintptr_t)map->data, map->size);
    *map = (tq_map){0};
}

void tq_map_forget(const tq_map *map) {
    if (map->data) (void)madvise((void *)(uintptr_t)map->data, map->size, MADV_DONTNEED); /* a hint */
}

toque_status tq_read_file(char **data, size_t *size, tq_mem *mem, const char *path, size_t max, toque_error *err) {
    *data = NULL;
    *size = 0;
    bool std = strcmp(path, "-") == 0;
    int fd = std ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail_errno(err, "open", path);
    tq_buf buf;
    tq_buf_init(&buf, mem, max);
    toque_status status = TOQUE_OK;
    char chunk[65536];
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) status = fail_errno(err, "read", path);
        if (n <= 0) break;
        if (!tq_buf_put(&buf, chunk, (size_t)n)) {
            status = tq_buf_status(&buf, path, err);
            break;
        }
    }
    if (!std) close(fd);
    if (status == TOQUE_OK) {
        *size = buf.len;
        *data = tq_buf_take(&buf);
        if (!*data) status = TQ_NOMEM(err);
    }
    tq_buf_clear(&buf);
    return status;
}

enum { OUT_BUFFER = 1 << 16 };
struct tq_out {
    tq_mem *mem;
    char *path, *temp;
    int fd;
    size_t filled;
    uint64_t offset;
    char buffer[OUT_BUFFER];
};

static void out_free(tq_out *out) {
    if (out->fd >= 0) close(out->fd);
    tq_free(out->mem, out->path);
    tq_free(out->mem, out->temp);
    tq_free(out->mem, out);
}

toque_status tq_out_open(tq_out **result, tq_mem *mem, const char *path, toque_error *err) {
    *result = NULL;
    tq_out *out = TQ_NEW(mem, tq_out);
    if (!out) return TQ_NOMEM(err);
    out->mem = mem;
    out->fd = -1;
    size_t n = strlen(path);
    out->path = tq_strdup(mem, path);
    out->temp = tq_alloc(mem, n + 12, 1);
    if (!out->path || !out->temp) {
        out_free(out);
        return TQ_NOMEM(err);
    }
    memcpy(out->temp, path, n);
    memcpy(out->temp + n, ".tmp-XXXXXX", 12);
    out->fd = mkstemp(out->temp);
    if (out->fd < 0) {
        toque_status status = fail_errno(err, "create a file beside", path);
        out_free(out);
        return status;
    }
    (void)fcntl(out->fd, F_SETFD, FD_CLOEXEC);
    *result = out;
    return TOQUE_OK;
}

static toque_status write_all(tq_out *out, const char *p, size_t n, toque_error *err) {
    while (n) {
        ssize_t k = write(out->fd, p, n);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return fail_errno(err, "write", out->path);
        p += k;
        n -= (size_t)k;
    }
    return TOQUE_OK;
}

toque_status tq_out_write(tq_out *out, const void *data, size_t n, toque_error *err) {
    out->offset += n;
    if (out->filled + n <= OUT_BUFFER) {
        if (n) memcpy(out->buffer + out->filled, data, n);
        out->filled += n;
        return TOQUE_OK;
    }
    TQ_TRY(write_all(out, out->buffer, out->filled, err));
    out->filled = 0;
    if (n >= OUT_BUFFER) return write_all(out, data, n, err);
    memcpy(out->buffer, data, n);
    out->filled = n;
    return TOQUE_OK;
}

uint64_t tq_out_offset(const tq_out *out) {
    return out->offset;
}

static void sync_parent(const char *path) {
    char dir[4096] = ".";
    const char *slash = strrchr(path, '/');
    if (slash && slash != path && (size_t)(slash - path) < sizeof dir) {
        memcpy(dir, path, (size_t)(slash - path));
        dir[slash - path] = 0;
    } else if (slash == path) {
        dir[0] = '/', dir[1] = 0;
    }
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    (void)fsync(fd); /* some file systems refuse it; the rename itself has already happened */
    close(fd);
}

toque_status tq_out_commit(tq_out *out, toque_error *err) {
    toque_status status = write_all(out, out->buffer, out->filled, err);
    mode_t mask = umask(0);
    umask(mask);
    if (status == TOQUE_OK && fchmod(out->fd, 0666 & ~mask) < 0) status = fail_errno(err, "set the mode of", out->path);
    if (status == TOQUE_OK && fsync(out->fd) < 0) status = fail_errno(err, "write", out->path);
    if (status == TOQUE_OK && close(out->fd) < 0) status = fail_errno(err, "write", out->path);
    if (status == TOQUE_OK) {
        out->fd = -1;
        if (rename(out->temp, out->path) < 0) status = fail_errno(err, "rename a file to", out->path);
    }
    if (status != TOQUE_OK) {
        unlink(out->temp);
    } else {
        sync_parent(out->path);
    }
    out_free(out);
    return status;
}

void tq_out_abort(tq_out *out) {
    if (!out) return;
    unlink(out->temp);
    out_free(out);
}

toque_status tq_write_file(tq_mem *mem, const char *path, const void *data, size_t n, toque_error *err) {
    tq_out *out;
    TQ_TRY(tq_out_open(&out, mem, path, err));
    toque_status status = tq_out_write(out, data, n, err);
    if (status != TOQUE_OK) {
        tq_out_abort(out);
        return status;
    }
    return tq_out_commit(out, err);
}

bool tq_path_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

bool tq_path_is_dir(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool tq_dir_has_entries(const char *path) {
    DIR *dir = opendir(path);
    if (!dir) return false;
    bool any = false;
    for (struct dirent *e; !any && (e = readdir(dir));)
        any = strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(dir);
    return any;
}

toque_status tq_make_dirs(tq_mem *mem, const char *path, toque_error *err) {
    char *p = tq_strdup(mem, path);
    if (!p) return TQ_NOMEM(err);
    toque_status status = TOQUE_OK;
    for (char *s = p + 1; status == TOQUE_OK && *p; s++) {
        char c = *s;
        if (c != '/' && c != 0) continue;
        *s = 0;
        if (mkdir(p, 0777) < 0 && !(errno == EEXIST && tq_path_is_dir(p)))
            status = fail_errno(err, "make the folder", p);
        *s = c;
        if (!c) break;
    }
    tq_free(mem, p);
    return status;
}

char *tq_path_join(tq_mem *mem, const char *dir, const char *name) {
    size_t n = strlen(dir), m = strlen(name);
    bool slash = n && dir[n - 1] != '/';
    char *p = tq_alloc(mem, n + m + 2, 1);
    if (!p) return NULL;
    memcpy(p, dir, n);
    if (slash) p[n] = '/';
    memcpy(p + n + slash, name, m + 1);
    return p;
}
