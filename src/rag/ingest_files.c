/* Sources that are files: one, a folder's, standard input, an address. See ingest.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "models/fetch.h"
#include "rag/ingest.h"

enum { MAX_FILE = 256 << 20, MAX_DEPTH = 64 };

typedef struct file_list {
    tq_arena arena;
    const char **paths; /* relative to the root */
    size_t n, cap;
} file_list;

static bool matches(const char *const *patterns, size_t n, const char *path) {
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    for (size_t i = 0; i < n; i++)
        if (fnmatch(patterns[i], path, 0) == 0 || fnmatch(patterns[i], base, 0) == 0) return true;
    return false;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Adds what stands in root/below (below "" or ending in a slash). Hidden names and links to folders are left out. */
static toque_status list_folder(const tq_ingester *g, file_list *list, const char *root, const char *below, int depth) {
    tq_mem *mem = g->in->store->mem;
    char *path = tq_path_join(mem, root, below);
    if (!path) return TQ_NOMEM(g->err);
    DIR *dir = opendir(path);
    toque_status status = TOQUE_OK;
    if (!dir) status = TQ_FAIL(g->err, EIO, "cannot open the folder %s: %s", path, strerror(errno));
    if (dir && depth > MAX_DEPTH)
        status = TQ_FAIL(g->err, ELIMIT, "%s: folders are nested deeper than %d", path, MAX_DEPTH);
    for (struct dirent *e; status == TOQUE_OK && (e = readdir(dir));) {
        struct stat st;
        tq_buf rel;
        if (e->d_name[0] == '.') continue;
        tq_buf_init(&rel, mem, 1 << 16);
        tq_buf_printf(&rel, "%s%s", below, e->d_name);
        bool linked = fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode);
        bool known = !rel.failed && fstatat(dirfd(dir), e->d_name, &st, 0) == 0;
        if (known && S_ISDIR(st.st_mode) && !linked && !matches(g->in->exclude, g->in->n_exclude, rel.data)) {
            tq_buf_putc(&rel, '/');
            status = rel.failed ? TQ_NOMEM(g->err) : list_folder(g, list, root, rel.data, depth + 1);
        } else if (known && S_ISREG(st.st_mode) &&
                   (!g->in->n_include || matches(g->in->include, g->in->n_include, rel.data)) &&
                   !matches(g->in->exclude, g->in->n_exclude, rel.data)) {
            char *copy = tq_arena_strndup(&list->arena, rel.data, rel.len);
            if (copy && TQ_GROW(mem, list->paths, list->n, list->cap))
                list->paths[list->n++] = copy;
            else
                status = TQ_NOMEM(g->err);
        }
        tq_buf_clear(&rel);
    }
    if (dir) closedir(dir);
    tq_free(mem, path);
    return status;
}

static toque_status add_file(tq_ingester *g, const char *path, bool in_folder) {
    tq_mem *mem = g->in->store->mem;
    struct stat st;
    char *data = NULL;
    size_t n = 0;
    bool same = false;
    toque_error fault = {0};
    if (stat(path, &st) != 0) {
        char message[200];
        snprintf(message, sizeof message, "cannot be read: %s", strerror(errno));
        tq_ingester_failed(g, path, TQ_FAILED, message);
        return TOQUE_OK;
    }
    int64_t mtime = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    TQ_TRY(tq_ingester_is_same(g, path, st.st_size, mtime, &same));
    if (same) return TOQUE_OK;
    toque_status status = st.st_size > MAX_FILE ? TQ_FAIL(&fault, ELIMIT, "it is larger than %d MiB", MAX_FILE >> 20)
                                                : tq_read_file(&data, &n, mem, path, MAX_FILE, &fault);
    if (status == TOQUE_ENOMEM) {
        if (g->err) *g->err = fault;
        return status;
    }
    if (status != TOQUE_OK) {
        tq_ingester_failed(g, path, TQ_FAILED, fault.message);
        return TOQUE_OK;
    }
    status = tq_ingester_offer(g, path, path, data, n, st.st_size, mtime, in_folder);
    tq_free(mem, data);
    return status;
}

static toque_status add_folder(tq_ingester *g, const char *root) {
    tq_mem *mem = g->in->store->mem;
    file_list list = {0};
    tq_arena_init(&list.arena, mem, 1 << 16);
    toque_status status = list_folder(g, &list, root, "", 0);
    if (status == TOQUE_OK && list.n) qsort(list.paths, list.n, sizeof *list.paths, by_name);
    g->counts->total += list.n;
    for (size_t i = 0; i < list.n && status == TOQUE_OK; i++) {
        char *path = tq_path_join(mem, root, list.paths[i]);
        status = path ? add_file(g, path, true) : TQ_NOMEM(g->err);
        tq_free(mem, path);
        g->counts->done++;
        if (g->in->progress) g->in->progress(g->in->arg, g->counts);
        if (status == TOQUE_OK && g->in->store->ctx->canceled)
            status = TQ_FAIL(g->err, ECANCELED, "stopped; the same command goes on where it was");
    }
    tq_arena_clear(&list.arena);
    tq_free(mem, list.paths);
    return status;
}

/* The last part of an address's path, for the format's sake. */
static const char *name_in(const char *url, char *name, size_t size) {
    const char *path = strstr(url, "://");
    path = path ? strchr(path + 3, '/') : NULL;
    size_t n = path ? strcspn(path, "?#") : 0;
    snprintf(name, size, "%.*s", (int)(n < size ? n : 0), path ? path : "");
    return name;
}

static toque_status add_url(tq_ingester *g, const char *url) {
    tq_mem *mem = g->in->store->mem;
    char name[256], sha[65], *data = NULL;
    size_t n = 0;
    int held = -1;
    tq_buf part;
    tq_buf_init(&part, mem, 1 << 16);
    tq_buf_printf(&part, "%s.fetched", g->in->store->scratch);
    toque_status status = tq_buf_status(&part, "a name", g->err);
    const tq_fetch fetch = {.url = url, .part = part.data};
    if (status == TOQUE_OK) status = tq_fetch_file(&fetch, mem, &held, sha, g->err);
    if (status == TOQUE_OK) status = tq_read_file(&data, &n, mem, part.data, MAX_FILE, g->err);
    if (status == TOQUE_OK) {
        tq_fetch_forget(mem, part.data);
        status = tq_ingester_offer(g, url, name_in(url, name, sizeof name), data, n, (int64_t)n, 0, false);
    }
    if (held >= 0) close(held);
    tq_free(mem, data);
    tq_buf_clear(&part);
    return status;
}

/* "a//b/" and "./a/b" are a/b: one document has one name. */
static char *plain_path(tq_mem *mem, const char *path) {
    char *out = tq_strdup(mem, path);
    size_t len = 0;
    if (!out) return NULL;
    for (const char *p = path; *p; p++) {
        if (*p == '/' && len && out[len - 1] == '/') continue;
        out[len++] = *p;
        if (len >= 2 && out[len - 1] == '/' && out[len - 2] == '.' && (len == 2 || out[len - 3] == '/')) len -= 2;
    }
    while (len > 1 && out[len - 1] == '/') len--;
    if (len == 0 && *path) out[len++] = '.';
    out[len] = 0;
    return out;
}

toque_status tq_ingest_path(const tq_ingest *in, const char *path, const char *name, tq_ingest_counts *counts,
                            toque_error *err) {
    tq_mem *mem = in->store->mem;
    bool url = strncmp(path, "http://", 7) == 0 || strncmp(path, "https://", 8) == 0, standard = strcmp(path, "-") == 0;
    char *data = NULL, *own = NULL;
    size_t n = 0;
    tq_ingester g;
    if (!url && !standard) {
        if (access(path, F_OK) != 0)
            return TQ_FAIL(err, ENOTFOUND, "there is no file or folder %s (toque rag rm takes documents out)", path);
        own = plain_path(mem, path);
        if (!own) return TQ_NOMEM(err);
    }
    const char *root = own ? own : standard ? (name ? name : "standard input") : path;
    toque_status status = tq_ingester_init(&g, in, root, counts, err);
    if (status == TOQUE_OK) {
        if (own && tq_path_is_dir(own)) {
            status = add_folder(&g, own);
        } else {
            counts->total++;
            if (own) {
                status = add_file(&g, own, false);
            } else if (url) {
                status = add_url(&g, path);
            } else {
                status = tq_read_file(&data, &n, mem, "-", MAX_FILE, err);
                if (status == TOQUE_OK) status = tq_ingester_offer(&g, root, root, data, n, (int64_t)n, 0, false);
                tq_free(mem, data);
            }
            counts->done++;
        }
        status = tq_ingester_finish(&g, status);
    }
    tq_free(mem, own);
    return status;
}
