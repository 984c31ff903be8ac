/* Run folders. See run.h. */
#include "runs/run.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* The recipe is written first and marks a folder as a run. Removal goes backwards, so that a folder stays a run until
 * nothing else of it is left. */
static const char *const owned[] = {TQ_RUN_RECIPE,         TQ_RUN_METRICS,       TQ_RUN_CARD,
                                    TQ_RUN_ADAPTER_CONFIG, TQ_RUN_ADAPTER_MODEL, TQ_RUN_HEAD,
                                    TQ_RUN_MODEL,          TQ_RUN_CHECKPOINT,    TQ_RUN_STATE};
enum { N_OWNED = sizeof owned / sizeof owned[0] };

static toque_status is_run(tq_mem *mem, const char *dir, bool *result, toque_error *err) {
    char *path = tq_path_join(mem, dir, TQ_RUN_RECIPE);
    if (!path) return TQ_NOMEM(err);
    *result = tq_path_exists(path);
    tq_free(mem, path);
    return TOQUE_OK;
}

toque_status tq_run_check(tq_mem *mem, const char *dir, tq_run_mode mode, toque_error *err) {
    if (!*dir) return TQ_FAIL(err, EINVAL, "the run folder's name is empty: give one with -o RUN");
    if (tq_path_exists(dir) && !tq_path_is_dir(dir))
        return TQ_FAIL(err, EINVAL, "%s is a file; a run needs a folder of its own: give another -o RUN", dir);
    bool run = false, full = tq_dir_has_entries(dir);
    TQ_TRY(is_run(mem, dir, &run, err));
    if (mode == TQ_RUN_RESUME && !run)
        return TQ_FAIL(err, ENOTFOUND, "%s holds no run to resume (no %s): leave --resume out to start one", dir,
                       TQ_RUN_RECIPE);
    if (mode == TQ_RUN_NEW && full && run)
        return TQ_FAIL(err, EINVAL,
                       "%s already holds a run: go on with it by --resume, replace it by --overwrite, or "
                       "give another -o RUN",
                       dir);
    if (mode != TQ_RUN_RESUME && full && !run)
        return TQ_FAIL(err, EINVAL, "%s is not empty and is no run folder (no %s): give another -o RUN", dir,
                       TQ_RUN_RECIPE);
    return TOQUE_OK;
}

/* "state.safetensors.tmp-a1B2c3" in `dir`: what an atomic write leaves when its process is killed (base/io.h). */
static bool is_leftover(const char *name) {
    const char *mark = strstr(name, ".tmp-");
    for (int i = 0; mark && strlen(mark) == 11 && i < N_OWNED; i++) {
        const char *slash = strrchr(owned[i], '/'), *base = slash ? slash + 1 : owned[i];
        if (strlen(base) == (size_t)(mark - name) && memcmp(base, name, strlen(base)) == 0) return true;
    }
    return false;
}

/* They only waste space, so one that stays is no error. */
static void remove_leftovers(const char *path) {
    DIR *dir = opendir(path);
    if (!dir) return;
    for (struct dirent *e; (e = readdir(dir));)
        if (is_leftover(e->d_name)) (void)unlinkat(dirfd(dir), e->d_name, 0);
    closedir(dir);
}

static toque_status remove_owned(const tq_run *run, toque_error *err) {
    for (int i = N_OWNED; i-- > 0;) {
        char *path = tq_run_path(run, owned[i]);
        if (!path) return TQ_NOMEM(err);
        bool is_dir = strcmp(owned[i], TQ_RUN_CHECKPOINT) == 0;
        int failed = is_dir ? rmdir(path) : unlink(path);
        if (failed && errno != ENOENT) {
            toque_status status = TQ_FAIL(err, EIO, "cannot remove %s: %s", path, strerror(errno));
            tq_free(run->mem, path);
            return status;
        }
        tq_free(run->mem, path);
    }
    return TOQUE_OK;
}

toque_status tq_run_open(tq_run *run, tq_mem *mem, const char *dir, tq_run_mode mode, toque_error *err) {
    *run = (tq_run){.mem = mem, .lock = -1};
    TQ_TRY(tq_run_check(mem, dir, mode, err));
    TQ_TRY(tq_make_dirs(mem, dir, err));
    toque_status status = TOQUE_OK;
    char *checkpoint = NULL;
    run->dir = tq_strdup(mem, dir);
    if (!run->dir) TQ_GO(TQ_NOMEM(err));
    run->lock = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (run->lock < 0) TQ_GO(TQ_FAIL(err, EIO, "cannot open the folder %s: %s", dir, strerror(errno)));
    /* A file system without locks (some network ones) says ENOTSUP or so: training there is still better than not. */
    if (flock(run->lock, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
        TQ_GO(TQ_FAIL(err, EBUSY, "another process is training into %s: wait for it or give another -o RUN", dir));
    TQ_GO(tq_run_check(mem, dir, mode, err)); /* again: now nobody else changes it */
    checkpoint = tq_run_path(run, TQ_RUN_CHECKPOINT);
    if (!checkpoint) TQ_GO(TQ_NOMEM(err));
    remove_leftovers(dir);
    remove_leftovers(checkpoint);
    if (mode == TQ_RUN_OVERWRITE) TQ_GO(remove_owned(run, err));
done:
    tq_free(mem, checkpoint);
    if (status != TOQUE_OK) tq_run_close(run);
    return status;
}

void tq_run_close(tq_run *run) {
    if (!run->dir) return;
    if (run->lock >= 0) close(run->lock); /* gives the lock back */
    tq_free(run->mem, run->dir);
    *run = (tq_run){0};
}

char *tq_run_path(const tq_run *run, const char *name) {
    return tq_path_join(run->mem, run->dir, name);
}

toque_status tq_run_write(const tq_run *run, const char *name, const tq_buf *text, toque_error *err) {
    TQ_TRY(tq_buf_status(text, name, err));
    char *path = tq_run_path(run, name);
    if (!path) return TQ_NOMEM(err);
    toque_status status = tq_write_file(run->mem, path, text->data, text->len, err);
    tq_free(run->mem, path);
    return status;
}
