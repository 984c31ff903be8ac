/* PostgreSQL's connection. See pg.h. */
#include "rag/pg.h"

#include <stdio.h>
#include <string.h>

#include "text/unicode.h"

enum { MOST_PARAMS = 16, PIECE = 1 << 20 };

/* --- connecting ------------------------------------------------------------------------------------------ */

/* The URL without "user:PASSWORD@" and without the parameters that hold passwords. */
static char *without_password(tq_mem *mem, const char *url) {
    char *out = tq_strdup(mem, url);
    if (!out) return NULL;
    char *host = strstr(out, "://") + 3, *end = host + strcspn(host, "/?"), *at = NULL;
    for (char *p = host; p < end; p++)
        if (*p == '@') at = p;
    char *colon = at ? memchr(host, ':', (size_t)(at - host)) : NULL;
    if (colon) memmove(colon, at, strlen(at) + 1);
    char *to = strchr(out, '?');
    if (!to) return out;
    bool first = true;
    for (const char *p = to + 1; *p;) {
        size_t n = strcspn(p, "&"), more = p[n] != 0;
        bool secret = strncmp(p, "password=", 9) == 0 || strncmp(p, "sslpassword=", 12) == 0;
        if (!secret) {
            *to++ = first ? '?' : '&';
            memmove(to, p, n);
            to += n;
            first = false;
        }
        p += n + more;
    }
    *to = 0;
    return out;
}

static void ignore_notice(void *arg, const char *message) {
    (void)arg, (void)message;
}

/* libpq's message in one line. */
static void one_line(char out[300], const char *message) {
    size_t n = 0;
    for (const char *p = message; *p && n < 299; p++) out[n++] = (*p == '\n' || *p == '\t') ? ' ' : *p;
    while (n && out[n - 1] == ' ') n--;
    out[n] = 0;
}

toque_status tq_pg_connect(tq_pg **result, tq_mem *mem, const char *url, toque_error *err) {
    *result = NULL;
    tq_pg *pg = TQ_NEW(mem, tq_pg);
    if (!pg) return TQ_NOMEM(err);
    pg->mem = mem;
    pg->url = tq_strdup(mem, url);
    pg->name = without_password(mem, url);
    toque_status status = pg->url && pg->name ? TOQUE_OK : TQ_NOMEM(err);
    if (status == TOQUE_OK && !(pg->conn = PQconnectdb(url))) status = TQ_NOMEM(err);
    if (status == TOQUE_OK && PQstatus(pg->conn) != CONNECTION_OK) {
        char message[300];
        one_line(message, PQerrorMessage(pg->conn));
        status = TQ_FAIL(err, EIO, "cannot connect to %s: %s", pg->name, message);
    }
    if (status == TOQUE_OK) {
        PQsetNoticeProcessor(pg->conn, ignore_notice, NULL);
        status = tq_pg_exec(pg, "SET client_encoding = 'UTF8'; SET bytea_output = 'hex'", err);
    }
    if (status == TOQUE_OK)
        *result = pg;
    else
        tq_pg_close(pg);
    return status;
}

void tq_pg_close(tq_pg *pg) {
    if (!pg) return;
    PQfinish(pg->conn);
    tq_free(pg->mem, pg->url);
    tq_free(pg->mem, pg->name);
    tq_free(pg->mem, pg);
}

/* --- statements ------------------------------------------------------------------------------------------ */

static toque_status fail(const tq_pg *pg, const PGresult *r, toque_error *err) {
    const char *code = r ? PQresultErrorField(r, PG_DIAG_SQLSTATE) : NULL;
    char message[300];
    one_line(message, r && *PQresultErrorMessage(r) ? PQresultErrorMessage(r) : PQerrorMessage(pg->conn));
    if (PQstatus(pg->conn) != CONNECTION_OK || !code)
        return TQ_FAIL(err, EIO, "the connection to %s broke (%s); what was added before is kept", pg->name, message);
    if (strcmp(code, "42501") == 0) return TQ_FAIL(err, EIO, "%s: this user may not do that (%s)", pg->name, message);
    if (strncmp(code, "53", 2) == 0)
        return TQ_FAIL(err, EIO, "%s: the server is out of room (%s); what was added before is kept", pg->name,
                       message);
    if (strncmp(code, "40", 2) == 0 || strncmp(code, "55", 2) == 0)
        return TQ_FAIL(err, EBUSY, "%s is being written by others (%s): try again", pg->name, message);
    return TQ_FAIL(err, EFORMAT, "%s: %s", pg->name, message);
}

const char *tq_pg_clean(tq_buf *buf, const char *text, size_t *n) {
    bool good = true;
    for (size_t i = 0; i < *n && good;) {
        uint32_t cp;
        i += tq_utf8_next(text + i, *n - i, &cp);
        good = cp < TQ_UTF8_CUT && cp != 0;
    }
    if (good) return text;
    tq_buf_reset(buf);
    for (size_t i = 0, step; i < *n; i += step) {
        uint32_t cp;
        step = tq_utf8_next(text + i, *n - i, &cp);
        if (cp < TQ_UTF8_CUT && cp != 0)
            tq_buf_put(buf, text + i, step);
        else
            tq_buf_puts(buf, TQ_REPLACEMENT);
    }
    *n = buf->len;
    return buf->data ? buf->data : "";
}

toque_status tq_pg_query(tq_pg *pg, const char *sql, const tq_pg_param *params, int n, bool binary, PGresult **result,
                         toque_error *err) {
    const char *values[MOST_PARAMS];
    int lengths[MOST_PARAMS], formats[MOST_PARAMS];
    tq_buf clean[MOST_PARAMS];
    if (result) *result = NULL;
    if (n > MOST_PARAMS) return TQ_FAIL(err, EINTERNAL, "a statement of %d parameters", n);
    bool failed = false;
    for (int i = 0; i < n; i++) {
        size_t len = params[i].len;
        tq_buf_init(&clean[i], pg->mem, SIZE_MAX / 4);
        values[i] = params[i].binary ? params[i].data : tq_pg_clean(&clean[i], params[i].data, &len);
        lengths[i] = (int)len;
        formats[i] = params[i].binary;
        failed |= clean[i].failed;
    }
    PGresult *r = failed ? NULL : PQexecParams(pg->conn, sql, n, NULL, values, lengths, formats, binary);
    for (int i = 0; i < n; i++) tq_buf_clear(&clean[i]);
    if (failed) return TQ_NOMEM(err);
    ExecStatusType s = PQresultStatus(r);
    toque_status status = s == PGRES_COMMAND_OK || s == PGRES_TUPLES_OK ? TOQUE_OK : fail(pg, r, err);
    if (status == TOQUE_OK && result)
        *result = r;
    else
        PQclear(r);
    return status;
}

toque_status tq_pg_exec(tq_pg *pg, const char *sql, toque_error *err) {
    PGresult *r = PQexec(pg->conn, sql);
    ExecStatusType s = PQresultStatus(r);
    toque_status status = s == PGRES_COMMAND_OK || s == PGRES_TUPLES_OK ? TOQUE_OK : fail(pg, r, err);
    PQclear(r);
    return status;
}

/* --- COPY ------------------------------------------------------------------------------------------------ */

static void put_big(tq_buf *out, uint64_t x, int bytes) {
    for (int i = bytes - 1; i >= 0; i--) tq_buf_putc(out, (char)(x >> 8 * i & 255));
}
void tq_pg_put16(tq_buf *out, uint16_t x) {
    put_big(out, x, 2);
}
void tq_pg_put32(tq_buf *out, uint32_t x) {
    put_big(out, x, 4);
}
void tq_pg_put64(tq_buf *out, uint64_t x) {
    put_big(out, x, 8);
}
void tq_pg_int4(tq_buf *out, int32_t x) {
    tq_pg_put32(out, 4);
    tq_pg_put32(out, (uint32_t)x);
}
void tq_pg_int8(tq_buf *out, int64_t x) {
    tq_pg_put32(out, 8);
    tq_pg_put64(out, (uint64_t)x);
}
void tq_pg_bytes(tq_buf *out, const void *data, size_t n) {
    tq_pg_put32(out, (uint32_t)n);
    tq_buf_put(out, data, n);
}

int64_t tq_pg_get64(const char *p) {
    uint64_t x = 0;
    for (int i = 0; i < 8; i++) x = x << 8 | (uint8_t)p[i];
    return (int64_t)x;
}
int32_t tq_pg_get32(const char *p) {
    uint32_t x = 0;
    for (int i = 0; i < 4; i++) x = x << 8 | (uint8_t)p[i];
    return (int32_t)x;
}

toque_status tq_pg_copy(tq_pg *pg, const char *into, const tq_buf *rows, toque_error *err) {
    static const char head[19] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0", tail[2] = "\377\377";
    char sql[200];
    TQ_TRY(tq_buf_status(rows, "rows", err));
    snprintf(sql, sizeof sql, "COPY %s FROM STDIN (FORMAT binary)", into);
    PGresult *r = PQexec(pg->conn, sql);
    toque_status status = PQresultStatus(r) == PGRES_COPY_IN ? TOQUE_OK : fail(pg, r, err);
    PQclear(r);
    TQ_TRY(status);
    bool good = PQputCopyData(pg->conn, head, sizeof head) == 1;
    for (size_t at = 0; good && at < rows->len; at += PIECE) {
        size_t n = rows->len - at < PIECE ? rows->len - at : PIECE;
        good = PQputCopyData(pg->conn, rows->data + at, (int)n) == 1;
    }
    good = good && PQputCopyData(pg->conn, tail, sizeof tail) == 1;
    good = PQputCopyEnd(pg->conn, good ? NULL : "given up") == 1 && good;
    while ((r = PQgetResult(pg->conn))) {
        if (status == TOQUE_OK && PQresultStatus(r) != PGRES_COMMAND_OK) status = fail(pg, r, err);
        PQclear(r);
    }
    if (status == TOQUE_OK && !good) status = fail(pg, NULL, err);
    return status;
}
