/* Running another program as a filter, without a shell: input to its standard input, its standard output gathered, the
 * first line of its standard error kept for the message. See format.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "rag/format.h"

enum { SECONDS = 60, SAID = 200 };

bool tq_program_exists(const char *name) {
    const char *path = getenv("PATH");
    char file[4096];
    while (path && *path) {
        size_t n = strcspn(path, ":");
        if (n + strlen(name) + 2 < sizeof file) {
            snprintf(file, sizeof file, "%.*s/%s", (int)n, path, name);
            if (access(file, X_OK) == 0) return true;
        }
        path += n + (path[n] == ':');
    }
    return false;
}

typedef struct run {
    pid_t pid;
    int in, out, errors; /* our ends; -1 when closed */
    char said[SAID];
    size_t n_said;
} run;

static void close_end(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

static toque_status start(run *r, const char *const *argv, toque_error *err) {
    int p[3][2] = {{-1, -1}, {-1, -1}, {-1, -1}}, failed = 0;
    for (int i = 0; i < 3 && !failed; i++) failed = pipe2(p[i], O_CLOEXEC);
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    extern char **environ;
    if (!failed) {
        posix_spawn_file_actions_init(&actions);
        posix_spawnattr_init(&attributes);
        posix_spawn_file_actions_adddup2(&actions, p[0][0], 0);
        posix_spawn_file_actions_adddup2(&actions, p[1][1], 1);
        posix_spawn_file_actions_adddup2(&actions, p[2][1], 2);
        /* A group of its own: it and what it starts can be ended together, and Ctrl-C reaches only us. */
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
        failed = posix_spawnp(&r->pid, argv[0], &actions, &attributes, (char *const *)(uintptr_t)argv, environ);
        posix_spawn_file_actions_destroy(&actions);
        posix_spawnattr_destroy(&attributes);
    }
    close_end(&p[0][0]);
    close_end(&p[1][1]);
    close_end(&p[2][1]);
    r->in = p[0][1];
    r->out = p[1][0];
    r->errors = p[2][0];
    if (!failed) return TOQUE_OK;
    close_end(&r->in);
    close_end(&r->out);
    close_end(&r->errors);
    return TQ_FAIL(err, EIO, "%s does not start: %s", argv[0], strerror(failed > 0 ? failed : errno));
}

/* Moves what can be moved; false at the end of it all. */
static bool exchange(run *r, const char *input, size_t n, size_t *sent, tq_buf *out) {
    struct pollfd f[3] = {{r->in, POLLOUT, 0}, {r->out, POLLIN, 0}, {r->errors, POLLIN, 0}};
    char piece[65536];
    if (r->out < 0 && r->errors < 0) return false;
    if (poll(f, 3, 1000) < 0) return errno == EINTR;
    if (f[0].revents) {
        ssize_t k = write(r->in, input + *sent, n - *sent);
        if (k > 0) *sent += (size_t)k;
        if ((k < 0 && errno != EAGAIN && errno != EINTR) || *sent == n) close_end(&r->in);
    }
    if (f[1].revents) {
        ssize_t k = read(r->out, piece, sizeof piece);
        if (k > 0) tq_buf_put(out, piece, (size_t)k);
        if (k == 0 || (k < 0 && errno != EINTR) || out->failed) close_end(&r->out);
    }
    if (f[2].revents) {
        ssize_t k = read(r->errors, piece, sizeof piece);
        for (ssize_t i = 0; i < k && r->n_said + 1 < SAID; i++) r->said[r->n_said++] = piece[i];
        if (k == 0 || (k < 0 && errno != EINTR)) close_end(&r->errors);
    }
    return !out->failed;
}

toque_status tq_run_program(const char *const *argv, const char *package, const char *input, size_t n, tq_buf *out,
                            toque_error *err) {
    if (!tq_program_exists(argv[0]))
        return TQ_FAIL(err, EUNSUPPORTED, "%s is needed to read it: install the package %s", argv[0], package);
    run r = {.pid = -1};
    size_t sent = 0;
    int status = 0;
    TQ_TRY(start(&r, argv, err));
    /* A program that stops reading must not end ours; blocking signals is a thread's own affair. */
    sigset_t pipe_signal, before, pending;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
    fcntl(r.in, F_SETFL, O_NONBLOCK);
    if (n == 0) close_end(&r.in);
    double began = tq_now();
    bool late = false;
    while (!late && exchange(&r, input, n, &sent, out)) late = tq_now() - began > SECONDS;
    close_end(&r.in);
    close_end(&r.out);
    close_end(&r.errors);
    if (late || out->failed) kill(-r.pid, SIGKILL);
    while (waitpid(r.pid, &status, 0) < 0 && errno == EINTR) {}
    sigpending(&pending);
    if (sigismember(&pending, SIGPIPE) && !sigismember(&before, SIGPIPE))
        sigtimedwait(&pipe_signal, NULL, &(struct timespec){0, 0});
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (late) return TQ_FAIL(err, ELIMIT, "%s took longer than %d s", argv[0], SECONDS);
    if (out->over) return TQ_FAIL(err, ELIMIT, "%s wrote more than %d MiB", argv[0], TQ_DOC_MAX_TEXT >> 20);
    TQ_TRY(tq_buf_status(out, argv[0], err));
    r.said[strcspn(r.said, "\n")] = 0;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return TQ_FAIL(err, EFORMAT, "%s cannot read it: %s", argv[0], *r.said ? r.said : "it failed");
    return TOQUE_OK;
}
