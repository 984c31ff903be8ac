/* The audit log: see audit.h. A line is one write, so that lines of several servers do not mix. */
#include "server/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

toque_status tq_audit_open(tq_audit *a, const char *path, toque_error *err) {
    a->file = -1;
    if (!path) return TOQUE_OK;
    a->file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (a->file >= 0) return TOQUE_OK;
    return TQ_FAIL(err, EIO, "%.300s cannot be opened for the audit log: %s", path, strerror(errno));
}

void tq_audit_close(tq_audit *a) {
    if (a->file >= 0) close(a->file);
    a->file = -1;
}

void tq_audit_write(tq_audit *a, const tq_exchange *x) {
    if (a->file < 0) return;
    char when[40], line[1024];
    time_t now = time(NULL);
    struct tm utc;
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s?, s:i, s:f, s:b}", "time", when, "id", x->id, "key", x->key, "user",
                          x->label, "path", x->route ? x->route->path : NULL, "status", (int)x->status, "seconds",
                          tq_now() - x->begun, "canceled", atomic_load(&x->canceled));
    size_t n = o ? json_dumpb(o, line, sizeof line - 1, JSON_COMPACT | JSON_REAL_PRECISION(6)) : 0;
    json_decref(o);
    if (n == 0 || n >= sizeof line) return;
    line[n++] = '\n';
    (void)!write(a->file, line, n); /* a full disk does not stop the server */
}
