/* metrics.jsonl. See metrics.h. */
#include "runs/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 1 << 24 };
static const size_t FILE_MAX_BYTES = (size_t)1 << 30;

/* One line, parsed. NULL if it is no JSON object with a whole number `step`. */
static json_t *parse_line(const char *line, size_t n, int64_t *step) {
    json_t *object = json_loadb(line, n, JSON_REJECT_DUPLICATES, NULL);
    json_t *number = json_object_get(object, "step");
    if (json_is_integer(number)) {
        *step = (int64_t)json_integer_value(number);
        return object;
    }
    json_decref(object);
    return NULL;
}

/* How many bytes of text to keep: whole lines up to the first that cannot be read or is of later. */
static size_t kept_bytes(const char *text, size_t n, int64_t step_now, int64_t evaluated, int64_t *last) {
    size_t at = 0;
    *last = 0;
    while (at < n) {
        const char *end = memchr(text + at, '\n', n - at);
        if (!end) break;
        int64_t step = 0;
        json_t *object = parse_line(text + at, (size_t)(end - text) - at, &step);
        bool is_step = json_object_get(object, "loss") != NULL, ok = object && step <= (is_step ? step_now : evaluated);
        if (ok && is_step) *last = step;
        json_decref(object);
        if (!ok) break;
        at = (size_t)(end - text) + 1;
    }
    return at;
}

static toque_status cut(tq_mem *mem, const char *path, int64_t step, int64_t evaluated, int64_t *last,
                        toque_error *err) {
    char *text = NULL;
    size_t n = 0;
    *last = 0;
    toque_error missing;
    toque_status status = tq_read_file(&text, &n, mem, path, FILE_MAX_BYTES, &missing);
    if (status == TOQUE_ENOTFOUND) return TOQUE_OK;
    if (status != TOQUE_OK) {
        if (err) *err = missing;
        return status;
    }
    size_t stay = kept_bytes(text, n, step, evaluated, last);
    if (stay < n) status = tq_write_file(mem, path, text, stay, err);
    tq_free(mem, text);
    return status;
}

toque_status tq_metrics_open(tq_metrics *m, tq_mem *mem, const char *path, int64_t step, int64_t evaluated,
                             int64_t *last, toque_error *err) {
    int64_t unused;
    *m = (tq_metrics){.mem = mem, .fd = -1};
    if (!last) last = &unused;
    *last = 0;
    if (step >= 0) TQ_TRY(cut(mem, path, step, evaluated, last, err));
    m->path = tq_strdup(mem, path);
    if (!m->path) return TQ_NOMEM(err);
    m->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (step >= 0 ? 0 : O_TRUNC), 0666);
    if (m->fd >= 0) return TOQUE_OK;
    toque_status status = TQ_FAIL(err, EIO, "cannot open %s: %s", path, strerror(errno));
    tq_metrics_close(m);
    return status;
}

void tq_metrics_close(tq_metrics *m) {
    if (!m->path) return;
    if (m->fd >= 0) close(m->fd);
    tq_free(m->mem, m->path);
    *m = (tq_metrics){.fd = -1};
}

/* Appends a line; when only a part fits on the disk the part is taken back. */
static toque_status append(tq_metrics *m, const tq_buf *line, toque_error *err) {
    TQ_TRY(tq_buf_status(line, "a line of metrics", err));
    off_t before = lseek(m->fd, 0, SEEK_END);
    size_t done = 0;
    while (done < line->len) {
        ssize_t k = write(m->fd, line->data + done, line->len - done);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) {
            int e = errno;
            bool restored = done == 0 || (before >= 0 && ftruncate(m->fd, before) == 0);
            return TQ_FAIL(err, EIO, "cannot write %s: %s%s", m->path, strerror(e),
                           restored ? "" : " (its last line is cut short; --resume removes it)");
        }
        done += (size_t)k;
    }
    return TOQUE_OK;
}

toque_status tq_metrics_put_step(tq_metrics *m, const tq_metrics_step *s, toque_error *err) {
    tq_buf line;
    tq_buf_init(&line, m->mem, LINE_MAX_BYTES);
    tq_buf_printf(&line, "{\"step\": %lld, \"epoch\": %.9g, \"loss\": %.9g, ", (long long)s->step, s->epoch, s->loss);
    if (s->objective) tq_buf_printf(&line, "\"%s_loss\": %.9g, ", s->objective, s->objective_loss);
    tq_buf_printf(&line,
                  "\"lr\": %.9g, \"grad_norm\": %.9g, \"tokens\": %lld, \"target_tokens\": %lld, "
                  "\"tokens_per_second\": %.6g}\n",
                  s->lr, s->grad_norm, (long long)s->tokens, (long long)s->target_tokens, s->tokens_per_second);
    toque_status status = append(m, &line, err);
    tq_buf_clear(&line);
    return status;
}

toque_status tq_metrics_put_eval(tq_metrics *m, int64_t step, double epoch, double eval_loss, int64_t target_tokens,
                                 json_t *figures, const json_t *by_task, toque_error *err) {
    tq_buf line;
    tq_buf_init(&line, m->mem, LINE_MAX_BYTES);
    tq_buf_printf(&line, "{\"step\": %lld, \"epoch\": %.9g, \"eval_loss\": %.9g, \"eval_target_tokens\": %lld",
                  (long long)step, epoch, eval_loss, (long long)target_tokens);
    json_t *value;
    const char *name;
    json_object_foreach(figures, name, value) tq_buf_printf(&line, ", \"eval_%s\": %.9g", name, json_real_value(value));
    if (by_task) {
        char *text = json_dumps(by_task, JSON_REAL_PRECISION(9));
        if (text) tq_buf_printf(&line, ", \"eval_loss_by_task\": %s", text);
        if (!text) line.failed = true;
        free(text); /* jansson's own memory */
    }
    tq_buf_puts(&line, "}\n");
    toque_status status = append(m, &line, err);
    tq_buf_clear(&line);
    return status;
}

toque_status tq_metrics_sync(tq_metrics *m, toque_error *err) {
    if (fsync(m->fd) < 0 && errno != EINVAL && errno != EROFS)
        return TQ_FAIL(err, EIO, "cannot write %s: %s", m->path, strerror(errno));
    return TOQUE_OK;
}

static bool put_point(tq_mem *mem, tq_metrics_point **points, size_t *n, size_t *cap, int64_t step, double value) {
    if (!tq_grow(mem, (void **)points, *n, cap, sizeof **points)) return false;
    (*points)[(*n)++] = (tq_metrics_point){step, value};
    return true;
}

toque_status tq_metrics_read(tq_metrics_series *s, tq_mem *mem, const char *path, toque_error *err) {
    *s = (tq_metrics_series){.mem = mem};
    char *text = NULL;
    size_t n = 0, number = 0;
    TQ_TRY(tq_read_file(&text, &n, mem, path, FILE_MAX_BYTES, err));
    toque_status status = TOQUE_OK;
    for (size_t at = 0; at < n && status == TOQUE_OK;) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t stop = end ? (size_t)(end - text) : n;
        int64_t step = 0;
        number++;
        json_t *object = parse_line(text + at, stop - at, &step);
        json_t *loss = json_object_get(object, "loss"), *eval = json_object_get(object, "eval_loss");
        bool ok = true;
        if (!object)
            status =
                TQ_FAIL(err, EFORMAT, "%s, line %zu: not a JSON object with a whole number \"step\"", path, number);
        else if (json_is_number(loss))
            ok = put_point(mem, &s->loss, &s->n_loss, &s->cap_loss, step, json_number_value(loss));
        else if (json_is_number(eval))
            ok = put_point(mem, &s->eval, &s->n_eval, &s->cap_eval, step, json_number_value(eval));
        json_t *by_task = json_object_get(object, "eval_loss_by_task");
        if (json_is_object(by_task)) {
            if (!s->first_by_task) s->first_by_task = json_incref(by_task);
            json_decref(s->last_by_task);
            s->last_by_task = json_incref(by_task);
        }
        json_decref(object);
        if (!ok) status = TQ_NOMEM(err);
        at = stop + 1;
    }
    tq_free(mem, text);
    if (status != TOQUE_OK) tq_metrics_series_clear(s);
    return status;
}

void tq_metrics_series_clear(tq_metrics_series *s) {
    if (!s->mem) return;
    tq_free(s->mem, s->loss);
    tq_free(s->mem, s->eval);
    json_decref(s->first_by_task);
    json_decref(s->last_by_task);
    *s = (tq_metrics_series){0};
}
