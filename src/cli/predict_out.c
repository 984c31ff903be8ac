/* The file of predictions. Rows are appended to OUT.partial and synced now and then; OUT.partial.key says what they
 * depend on. A later run of the same work keeps the whole rows it finds, cuts off a broken one, and goes on; at the end
 * the file gets its name. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "cli/predict.h"
#include "train/csv.h"

static toque_status fail_errno(toque_error *err, const char *what, const char *path) {
    return TQ_FAIL(err, EIO, "cannot %s %s: %s", what, path, strerror(errno));
}

static char *with_ending(tq_mem *mem, const char *path, const char *ending) {
    tq_buf name;
    tq_buf_init(&name, mem, 1 << 16);
    tq_buf_printf(&name, "%s%s", path, ending);
    char *taken = tq_buf_take(&name);
    tq_buf_clear(&name);
    return taken;
}

static toque_status write_bytes(tq_predict_out *out, const char *p, size_t n, toque_error *err) {
    if (!out->path) return tq_cli_write(out->cli, p, n, err);
    while (n > 0) {
        ssize_t k = write(out->fd, p, n);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return fail_errno(err, "write", out->partial);
        p += k;
        n -= (size_t)k;
    }
    if (tq_now() - out->synced < 1) return TOQUE_OK;
    out->synced = tq_now();
    return fsync(out->fd) < 0 ? fail_errno(err, "sync", out->partial) : TOQUE_OK;
}

/* How many whole rows a partial file holds, and where they end. */
static toque_status count_rows(const tq_predict_out *out, const char *data, size_t size, size_t *rows, size_t *end,
                               toque_error *err) {
    *rows = *end = 0;
    if (!out->csv) {
        for (size_t i = 0; i < size; i++)
            if (data[i] == '\n') *end = i + 1, ++*rows;
        return TOQUE_OK;
    }
    tq_csv csv;
    bool more = true;
    TQ_TRY(tq_csv_open(&csv, out->mem, data, size, out->delimiter, err));
    toque_error broken;
    while (tq_csv_next(&csv, &more, &broken) == TOQUE_OK && more) {
        if (csv.at == csv.raw + csv.raw_len) break; /* no line ending: cut while it was written */
        *end = csv.at;
        ++*rows;
    }
    tq_csv_close(&csv);
    if (*rows) --*rows; /* the header */
    return TOQUE_OK;
}

/* Keeps what an earlier run of the same work has written. */
static toque_status go_on(tq_predict_out *out, const char *key, bool resume, toque_error *err) {
    char *old = NULL, *data = NULL;
    size_t n, size, end;
    if (!tq_path_exists(out->partial)) return TOQUE_OK;
    if (!resume) return TOQUE_OK; /* opened with O_TRUNC */
    toque_status status;
    if (!tq_path_exists(out->key)) {
        status = TQ_FAIL(err, EINVAL, "%s has no %s beside it: --no-resume starts over", out->partial, out->key);
        goto done;
    }
    TQ_GO(tq_read_file(&old, &n, out->mem, out->key, 4096, err));
    if (strcmp(old, key) != 0) {
        status = TQ_FAIL(err, EINVAL,
                         "%s was begun with other data, another model or other options: --no-resume starts over",
                         out->partial);
        goto done;
    }
    TQ_GO(tq_read_file(&data, &size, out->mem, out->partial, SIZE_MAX / 8, err));
    TQ_GO(count_rows(out, data, size, &out->kept, &end, err));
    if (truncate(out->partial, (off_t)end) < 0) status = fail_errno(err, "shorten", out->partial);
done:
    tq_free(out->mem, old);
    tq_free(out->mem, data);
    return status;
}

static toque_status put_header(tq_predict_out *out, const tq_rows *rows, toque_error *err) {
    size_t n;
    const char *header = tq_rows_header(rows, &n);
    tq_buf_reset(&out->line);
    tq_buf_put(&out->line, header, n);
    tq_buf_printf(&out->line, "%c%s", out->delimiter, out->answer);
    if (out->probability[0]) tq_buf_printf(&out->line, "%c%s", out->delimiter, out->probability);
    tq_buf_puts(&out->line, out->crlf ? "\r\n" : "\n");
    TQ_TRY(tq_buf_status(&out->line, "the header", err));
    return write_bytes(out, out->line.data, out->line.len, err);
}

toque_status tq_predict_open(tq_predict_out *out, tq_cli *cli, const char *path, const tq_rows *rows, const char *key,
                             bool resume, toque_error *err) {
    out->cli = cli;
    out->mem = &cli->mem;
    out->path = path && strcmp(path, "-") != 0 ? path : NULL;
    out->fd = -1;
    out->csv = tq_rows_is_csv(rows, &out->delimiter, &out->crlf);
    tq_buf_init(&out->line, out->mem, SIZE_MAX / 4);
    if (out->path) {
        out->partial = with_ending(out->mem, path, ".partial");
        out->key = with_ending(out->mem, path, ".partial.key");
        if (!out->partial || !out->key) return TQ_NOMEM(err);
        TQ_TRY(go_on(out, key, resume, err));
        TQ_TRY(tq_write_file(out->mem, out->key, key, strlen(key), err));
        out->fd = open(out->partial, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (resume ? 0 : O_TRUNC), 0666);
        if (out->fd < 0) return fail_errno(err, "write", out->partial);
        if (lseek(out->fd, 0, SEEK_END) > 0) return TOQUE_OK; /* its header is there */
    }
    return out->csv ? put_header(out, rows, err) : TOQUE_OK;
}

/* An object's bytes with two members more; the line breaks that it may have stand between tokens. */
static void put_json(tq_predict_out *out, const char *raw, size_t n, const tq_prediction *p) {
    while (n > 0 && raw[n - 1] != '}') n--;
    if (n) n--;
    for (size_t i = 0; i < n; i++) tq_buf_putc(&out->line, raw[i] == '\n' || raw[i] == '\r' ? ' ' : raw[i]);
    json_t *answer = p->answer && !p->json ? json_stringn(p->answer, p->len) : json_null();
    char *text = json_dumps(answer, JSON_ENCODE_ANY);
    json_decref(answer);
    if (!text) out->line.failed = true;
    tq_buf_printf(&out->line, ", \"%s\": %s", out->answer, p->answer && p->json ? p->answer : text ? text : "");
    free(text);
    if (out->probability[0]) tq_buf_printf(&out->line, ", \"%s\": ", out->probability);
    if (out->probability[0] && p->shares)
        tq_buf_puts(&out->line, p->shares);
    else if (out->probability[0] && p->answer)
        tq_buf_printf(&out->line, "%.6g", p->probability);
    else if (out->probability[0])
        tq_buf_puts(&out->line, "null");
    tq_buf_puts(&out->line, "}\n");
}

toque_status tq_predict_put(tq_predict_out *out, const char *raw, size_t raw_len, const tq_prediction *p,
                            toque_error *err) {
    tq_buf_reset(&out->line);
    if (out->csv) {
        tq_buf_put(&out->line, raw, raw_len);
        tq_buf_putc(&out->line, out->delimiter);
        if (p->answer) tq_csv_put(&out->line, p->answer, p->len, out->delimiter);
        if (out->probability[0]) tq_buf_putc(&out->line, out->delimiter);
        if (out->probability[0] && p->shares)
            tq_csv_put(&out->line, p->shares, strlen(p->shares), out->delimiter);
        else if (out->probability[0] && p->answer)
            tq_buf_printf(&out->line, "%.6g", p->probability);
        tq_buf_puts(&out->line, out->crlf ? "\r\n" : "\n");
    } else {
        put_json(out, raw, raw_len, p);
    }
    TQ_TRY(tq_buf_status(&out->line, "a row of predictions", err));
    return write_bytes(out, out->line.data, out->line.len, err);
}

toque_status tq_predict_commit(tq_predict_out *out, toque_error *err) {
    if (!out->path) return TOQUE_OK;
    if (fsync(out->fd) < 0) return fail_errno(err, "sync", out->partial);
    if (rename(out->partial, out->path) < 0) return fail_errno(err, "rename", out->partial);
    unlink(out->key);
    return TOQUE_OK;
}

void tq_predict_close(tq_predict_out *out) {
    if (!out->mem) return;
    if (out->fd >= 0) {
        fsync(out->fd);
        close(out->fd);
    }
    tq_free(out->mem, out->partial);
    tq_free(out->mem, out->key);
    tq_buf_clear(&out->line);
    *out = (tq_predict_out){.fd = -1};
}
