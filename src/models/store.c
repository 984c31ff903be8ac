/* The model store. See store.h. */
#include "models/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/hash.h"
#include "files/gguf.h"

enum { MAX_NAME = 120, MAX_JSON = 1 << 16, N_FORMS = 2 };
/* What a model is, in its folder: a GGUF file or a Hugging Face folder. */
static const char *const forms[N_FORMS] = {"model.gguf", "model"};

/* ---- names and paths --------------------------------------------------------------------------------------- */

static bool name_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
}

bool tq_store_name_ok(const char *name) {
    size_t n = 0;
    while (name_char(name[n])) n++;
    return n > 0 && n <= MAX_NAME && name[n] == 0 && name[0] != '.' && name[0] != '-';
}

char *tq_store_name_of(tq_mem *mem, const char *path) {
    const char *slash = strrchr(path, '/');
    const char *base = slash ? slash + 1 : path;
    while (*base == '.' || *base == '-') base++;
    size_t n = strlen(base);
    if (n > 5 && strcasecmp(base + n - 5, ".gguf") == 0) n -= 5;
    if (n > MAX_NAME) n = MAX_NAME;
    char *name = tq_strndup(mem, base, n);
    for (char *p = name; p && *p; p++)
        if (!name_char(*p)) *p = p == name ? 'x' : '-';
    return name;
}

static toque_status dup_to(char **out, tq_mem *mem, const char *s, toque_error *err) {
    *out = tq_strdup(mem, s);
    return *out ? TOQUE_OK : TQ_NOMEM(err);
}

static toque_status join_to(char **out, tq_mem *mem, const char *dir, const char *name, toque_error *err) {
    *out = tq_path_join(mem, dir, name);
    return *out ? TOQUE_OK : TQ_NOMEM(err);
}

toque_status tq_store_dir(char **dir, tq_mem *mem, toque_error *err) {
    *dir = NULL;
    const char *home = getenv("TOQUE_HOME"), *data = getenv("XDG_DATA_HOME"), *user = getenv("HOME");
    if (home && *home) return dup_to(dir, mem, home, err);
    if (data && data[0] == '/')
        return join_to(dir, mem, data, "toque", err); /* a relative one is to be ignored (XDG) */
    if (user && *user) return join_to(dir, mem, user, ".local/share/toque", err);
    return TQ_FAIL(err, EINVAL, "no place for the model store: neither TOQUE_HOME nor HOME is set");
}

static toque_status models_dir(char **dir, tq_mem *mem, toque_error *err) {
    char *root;
    *dir = NULL;
    TQ_TRY(tq_store_dir(&root, mem, err));
    toque_status status = join_to(dir, mem, root, "models", err);
    tq_free(mem, root);
    return status;
}

/* models/NAME, and with `file` models/NAME/file. */
static toque_status entry_path(char **path, tq_mem *mem, const char *name, const char *file, toque_error *err) {
    char *dir, *folder = NULL;
    *path = NULL;
    TQ_TRY(models_dir(&dir, mem, err));
    toque_status status = join_to(&folder, mem, dir, name, err);
    tq_free(mem, dir);
    if (status != TOQUE_OK || !file) {
        *path = folder;
        return status;
    }
    status = join_to(path, mem, folder, file, err);
    tq_free(mem, folder);
    return status;
}

/* ---- finding ----------------------------------------------------------------------------------------------- */

static toque_status fail_unknown(tq_mem *mem, const char *name, toque_error *err) {
    tq_store_list list;
    toque_status status = tq_store_list_all(&list, mem, err);
    if (status == TOQUE_OK) {
        char names[300] = "";
        size_t at = 0;
        for (size_t i = 0; i < list.n && at < sizeof names - 1; i++)
            at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", i ? ", " : "", list.items[i].name);
        status = TQ_FAIL(err, ENOTFOUND,
                         "no file and no stored model is called %.100s (%s%s); toque models pull SRC fetches one", name,
                         list.n ? "there are: " : "the store is empty", names);
    }
    tq_store_list_free(&list);
    return status;
}

toque_status tq_store_resolve(char **path, tq_mem *mem, const char *name, toque_error *err) {
    *path = NULL;
    if (tq_path_exists(name)) return dup_to(path, mem, name, err);
    if (strchr(name, '/')) return TQ_FAIL(err, ENOTFOUND, "no model %.300s: no such file", name);
    if (!tq_store_name_ok(name)) return fail_unknown(mem, name, err);
    for (int i = 0; i < N_FORMS; i++) {
        TQ_TRY(entry_path(path, mem, name, forms[i], err));
        if (tq_path_exists(*path)) return TOQUE_OK;
        tq_free(mem, *path);
        *path = NULL;
    }
    return fail_unknown(mem, name, err);
}

static void entry_free(tq_mem *mem, tq_store_entry *e) {
    tq_free(mem, e->name);
    tq_free(mem, e->path);
    tq_free(mem, e->source);
    tq_free(mem, e->sha256);
    tq_free(mem, e->date);
}

void tq_store_list_free(tq_store_list *list) {
    for (size_t i = 0; i < list->n; i++) entry_free(list->mem, &list->items[i]);
    tq_free(list->mem, list->items);
    *list = (tq_store_list){.mem = list->mem};
}

static toque_status text_of(char **out, tq_mem *mem, const json_t *json, const char *key, toque_error *err) {
    const char *s = json_string_value(json_object_get(json, key));
    return dup_to(out, mem, s ? s : "", err);
}

/* model.json is for people; a damaged one does not hide the model. */
static toque_status read_entry(tq_store_entry *e, tq_mem *mem, const char *dir, const char *name, toque_error *err) {
    char *folder = NULL, *file = NULL, *text = NULL;
    size_t n;
    json_t *json = NULL;
    struct stat st;
    toque_status status;
    *e = (tq_store_entry){0};
    TQ_GO(dup_to(&e->name, mem, name, err));
    TQ_GO(join_to(&folder, mem, dir, name, err));
    for (int i = 0; i < N_FORMS; i++) {
        tq_free(mem, e->path);
        TQ_GO(join_to(&e->path, mem, folder, forms[i], err));
        if (tq_path_exists(e->path)) break;
    }
    TQ_GO(join_to(&file, mem, folder, "model.json", err));
    status = tq_read_file(&text, &n, mem, file, MAX_JSON, NULL);
    if (status == TOQUE_ENOMEM) {
        status = TQ_NOMEM(err);
        goto done;
    }
    if (status == TOQUE_OK) json = json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL);
    TQ_GO(text_of(&e->source, mem, json, "source", err));
    TQ_GO(text_of(&e->sha256, mem, json, "sha256", err));
    TQ_GO(text_of(&e->date, mem, json, "date", err));
    if (tq_path_is_dir(e->path)) {
        tq_free(mem, file);
        TQ_GO(join_to(&file, mem, e->path, "model.safetensors", err));
        if (stat(file, &st) == 0) e->size = (uint64_t)st.st_size;
    } else if (stat(e->path, &st) == 0) {
        e->size = (uint64_t)st.st_size;
    }
done:
    json_decref(json);
    tq_free(mem, text);
    tq_free(mem, file);
    tq_free(mem, folder);
    if (status != TOQUE_OK) entry_free(mem, e);
    return status;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const tq_store_entry *)a)->name, ((const tq_store_entry *)b)->name);
}

toque_status tq_store_list_all(tq_store_list *list, tq_mem *mem, toque_error *err) {
    char *dir;
    *list = (tq_store_list){.mem = mem};
    TQ_TRY(models_dir(&dir, mem, err));
    toque_status status = TOQUE_OK;
    DIR *d = opendir(dir);
    if (!d && errno != ENOENT) status = TQ_FAIL(err, EIO, "cannot read %s: %s", dir, strerror(errno));
    for (struct dirent *e; d && status == TOQUE_OK && (e = readdir(d));) {
        if (!tq_store_name_ok(e->d_name)) continue;
        if (!TQ_GROW(mem, list->items, list->n, list->cap)) {
            status = TQ_NOMEM(err);
            break;
        }
        tq_store_entry *entry = &list->items[list->n];
        status = read_entry(entry, mem, dir, e->d_name, err);
        if (status != TOQUE_OK) break;
        if (tq_path_exists(entry->path))
            list->n++;
        else
            entry_free(mem, entry);
    }
    if (d) closedir(d);
    tq_free(mem, dir);
    if (list->n) qsort(list->items, list->n, sizeof *list->items, by_name);
    return status;
}

/* ---- adding and removing ----------------------------------------------------------------------------------- */

toque_status tq_store_check_new(tq_mem *mem, const char *name, toque_error *err) {
    if (!tq_store_name_ok(name))
        return TQ_FAIL(err, EINVAL, "%.150s is no name for a model: use up to %d letters, digits, '.', '_' and '-'",
                       name, MAX_NAME);
    char *folder;
    TQ_TRY(entry_path(&folder, mem, name, NULL, err));
    bool taken = tq_path_exists(folder);
    tq_free(mem, folder);
    if (taken)
        return TQ_FAIL(err, EINVAL,
                       "the store has a model %s already; remove it (toque models rm %s) or choose another "
                       "name",
                       name, name);
    return TOQUE_OK;
}

static toque_status write_json(tq_mem *mem, const char *folder, const char *name, const char *source,
                               const char *sha256, uint64_t size, toque_error *err) {
    char date[32], *path = NULL;
    struct tm tm;
    time_t now = time(NULL);
    gmtime_r(&now, &tm);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &tm);
    json_t *j = json_pack("{s:i, s:s, s:s, s:s, s:I, s:s}", "version", 1, "name", name, "source", source, "sha256",
                          sha256, "size", (json_int_t)size, "date", date);
    if (!j) return TQ_FAIL(err, EINVAL, "the source %.200s is not UTF-8, or memory ran out", source);
    char text[MAX_JSON];
    size_t n = json_dumpb(j, text, sizeof text - 1, JSON_INDENT(2));
    json_decref(j);
    if (n == 0 || n > sizeof text - 1) return TQ_FAIL(err, ELIMIT, "the source of the model is too long to be noted");
    text[n] = '\n';
    toque_status status = join_to(&path, mem, folder, "model.json", err);
    if (status == TOQUE_OK) status = tq_write_file(mem, path, text, n + 1, err);
    tq_free(mem, path);
    return status;
}

static toque_status copy_file(tq_mem *mem, const char *from, const char *to, toque_error *err) {
    tq_map map;
    tq_out *out;
    TQ_TRY(tq_map_open(&map, from, err));
    toque_status status = tq_out_open(&out, mem, to, err);
    if (status == TOQUE_OK) {
        status = tq_out_write(out, map.data, map.size, err);
        if (status == TOQUE_OK)
            status = tq_out_commit(out, err);
        else
            tq_out_abort(out);
    }
    tq_map_close(&map);
    return status;
}

/* Removes the files in a folder and its folders, `depth` levels deep, and then itself. */
static void remove_tree(int parent, const char *name, int depth) {
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d && fd >= 0) close(fd);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (unlinkat(fd, e->d_name, 0) < 0 && depth > 0) remove_tree(fd, e->d_name, depth - 1);
    }
    if (d) closedir(d);
    unlinkat(parent, name, AT_REMOVEDIR);
}

/* The two files of a model and its folder; needs no memory of ours, so that it can clean up after a lack of it. */
static void remove_folder(const char *folder) {
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    remove_tree(fd, "model", 2);
    unlinkat(fd, "model.gguf", 0);
    unlinkat(fd, "model.json", 0);
    close(fd);
    rmdir(folder);
}

/* How a file comes into the store. */
typedef enum way { LINK_OR_COPY, MOVE } way;

static toque_status put_file(tq_mem *mem, const char *path, const char *to, way how, toque_error *err) {
    if (how == MOVE) {
        if (rename(path, to) == 0) return TOQUE_OK;
        return TQ_FAIL(err, EIO, "cannot move %s to %s: %s", path, to, strerror(errno));
    }
    if (linkat(AT_FDCWD, path, AT_FDCWD, to, AT_SYMLINK_FOLLOW) == 0) return TOQUE_OK;
    return copy_file(mem, path, to, err);
}

/* Makes the folder under a temporary name, fills it and renames it. */
static toque_status install(tq_mem *mem, const char *path, const char *name, const char *source, const char *sha256,
                            way how, toque_error *err) {
    char *dir = NULL, *temp = NULL, *file = NULL, *folder = NULL;
    struct stat st;
    bool made = false;
    toque_status status;
    TQ_GO(models_dir(&dir, mem, err));
    TQ_GO(tq_make_dirs(mem, dir, err));
    TQ_GO(join_to(&temp, mem, dir, ".new-XXXXXX", err));
    TQ_GO(join_to(&folder, mem, dir, name, err));
    if (stat(path, &st) < 0 || !mkdtemp(temp)) {
        status = TQ_FAIL(err, EIO, "cannot add %s to the store %s: %s", path, dir, strerror(errno));
        goto done;
    }
    made = true;
    mode_t mask = umask(0); /* mkdtemp's 0700 would hide a shared store from its other users */
    umask(mask);
    (void)chmod(temp, 0777 & ~mask);
    TQ_GO(join_to(&file, mem, temp, "model.gguf", err));
    TQ_GO(write_json(mem, temp, name, source, sha256, (uint64_t)st.st_size, err));
    TQ_GO(put_file(mem, path, file, how, err));
    if (rename(temp, folder) < 0) {
        status = TQ_FAIL(err, EIO, "cannot add the model as %s: %s", folder, strerror(errno));
        if (how == MOVE) (void)rename(file, path); /* what was downloaded is not lost */
    } else {
        made = false;
    }
done:
    if (made) remove_folder(temp);
    tq_free(mem, dir);
    tq_free(mem, temp);
    tq_free(mem, file);
    tq_free(mem, folder);
    return status;
}

static toque_status check_gguf(tq_mem *mem, const char *path, toque_error *err) {
    tq_gguf *g;
    TQ_TRY(tq_gguf_open(&g, mem, path, err));
    tq_gguf_close(g);
    return TOQUE_OK;
}

toque_status tq_store_adopt(tq_mem *mem, const char *path, const char *name, const char *source, const char *sha256,
                            toque_error *err) {
    TQ_TRY(tq_store_check_new(mem, name, err));
    TQ_TRY(check_gguf(mem, path, err));
    return install(mem, path, name, source, sha256, MOVE, err);
}

toque_status tq_store_add_file(char **stored, tq_mem *mem, const char *path, const char *name, toque_error *err) {
    if (stored) *stored = NULL;
    char hash[65], *own = name ? tq_strdup(mem, name) : tq_store_name_of(mem, path);
    if (!own) return TQ_NOMEM(err);
    toque_status status = tq_store_check_new(mem, own, err);
    if (status != TOQUE_OK) goto done;
    TQ_GO(check_gguf(mem, path, err));
    TQ_GO(tq_sha256_file(mem, path, hash, err));
    char buffer[PATH_MAX];
    const char *real = realpath(path, buffer);
    TQ_GO(install(mem, path, own, real ? real : path, hash, LINK_OR_COPY, err));
    if (stored) {
        *stored = own;
        own = NULL;
    }
done:
    tq_free(mem, own);
    return status;
}

toque_status tq_store_remove(tq_mem *mem, const char *name, toque_error *err) {
    if (!tq_store_name_ok(name)) return fail_unknown(mem, name, err);
    char *folder;
    TQ_TRY(entry_path(&folder, mem, name, NULL, err));
    toque_status status = TOQUE_OK;
    if (!tq_path_is_dir(folder)) {
        status = fail_unknown(mem, name, err);
    } else {
        remove_folder(folder);
        if (tq_path_exists(folder))
            status = TQ_FAIL(err, EIO, "cannot remove %s: it holds other files or is not yours", folder);
    }
    tq_free(mem, folder);
    return status;
}
