/* Fetching. See fetch.h. An attempt is a chain of requests, one a redirect; fetch_file repeats attempts that ended
 * by a fault of the line or the server, with growing pauses, until some of them in a row bring nothing. */
#include "models/fetch.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAX_HOPS = 5, MAX_IDLE_ATTEMPTS = 5, ETAG_MAX = 200, JUNK_MAX = 1 << 16 };

/* What one response's header says. */
typedef struct response {
    long code;
    char etag[ETAG_MAX + 1]; /* a strong one, or "" */
    bool has_range;
    uint64_t range_start, range_total; /* UINT64_MAX start: "bytes * /total" */
} response;

typedef struct transfer {
    const tq_fetch *fetch;
    tq_mem *mem;
    CURL *curl;
    char message[CURL_ERROR_SIZE];
    char *state_path;
    int fd;
    uint64_t at, total;      /* bytes of part that hold; of the whole file, 0: unknown */
    char etag[ETAG_MAX + 1]; /* of the file that part is of, or "" */
    char linked[65];         /* sha256 from X-Linked-Etag, or "" */
    response r;
    bool begun;   /* this response's body goes into part */
    bool changed; /* the server has another file than part */
    size_t junk;  /* bytes of bodies that are not the file */
    int write_errno;
} transfer;

/* ---- the state beside the part ----------------------------------------------------------------------------- */

/* A text that does not fit is not taken. */
static void copy_text(char *to, size_t size, const char *s) {
    size_t n = s ? strlen(s) : 0;
    if (n < size) memcpy(to, s ? s : "", n + 1);
}

static void load_state(transfer *t) {
    char *text;
    size_t n;
    if (tq_read_file(&text, &n, t->mem, t->state_path, 1 << 16, NULL) != TOQUE_OK) return;
    json_t *j = json_loadb(text, n, 0, NULL);
    const char *url = json_string_value(json_object_get(j, "url"));
    if (url && strcmp(url, t->fetch->url) == 0) {
        copy_text(t->etag, sizeof t->etag, json_string_value(json_object_get(j, "etag")));
        copy_text(t->linked, sizeof t->linked, json_string_value(json_object_get(j, "sha256")));
    }
    json_decref(j);
    tq_free(t->mem, text);
}

/* Failing to remember costs a resume later, nothing now. */
static void save_state(transfer *t) {
    char text[8192];
    json_t *j = json_pack("{s:s, s:s, s:s}", "url", t->fetch->url, "etag", t->etag, "sha256", t->linked);
    size_t n = j ? json_dumpb(j, text, sizeof text, JSON_INDENT(2)) : 0;
    json_decref(j);
    if (n == 0 || n > sizeof text || tq_write_file(t->mem, t->state_path, text, n, NULL) != TOQUE_OK)
        unlink(t->state_path);
}

static bool start_over(transfer *t) {
    t->at = t->total = 0;
    t->etag[0] = 0;
    if (ftruncate(t->fd, 0) == 0 && lseek(t->fd, 0, SEEK_SET) == 0) return true;
    t->write_errno = errno;
    return false;
}

/* ---- the response ------------------------------------------------------------------------------------------ */

/* The value of a header line if it has this name, trimmed, into out (empty if it does not fit). */
static bool header(const char *line, size_t n, const char *name, char *out, size_t size) {
    size_t k = strlen(name);
    if (n <= k || strncasecmp(line, name, k) != 0 || line[k] != ':') return false;
    const char *p = line + k + 1, *end = line + n;
    while (p < end && (*p == ' ' || *p == '\t')) p++;
    while (end > p && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' ')) end--;
    size_t len = (size_t)(end - p);
    if (len >= size) len = 0;
    memcpy(out, p, len);
    out[len] = 0;
    return true;
}

/* Only a strong ETag promises the same bytes; a weak one (W/"...") may not stand in If-Range. */
static bool strong(const char *etag) {
    size_t n = strlen(etag);
    return n > 2 && etag[0] == '"' && etag[n - 1] == '"';
}

static void take_linked(transfer *t, const char *value) {
    char hex[65];
    size_t n = strlen(value);
    if (n != 66 || value[0] != '"' || strspn(value + 1, "0123456789abcdef") != 64) return;
    memcpy(hex, value + 1, 64);
    hex[64] = 0;
    /* Another hash than the one the part began with: the file was replaced. */
    if (t->linked[0] && strcmp(t->linked, hex) != 0) t->changed = true;
    memcpy(t->linked, hex, sizeof hex);
}

static size_t on_header(char *line, size_t size, size_t count, void *arg) {
    transfer *t = arg;
    size_t n = size * count;
    char value[512];
    if (n > 5 && memcmp(line, "HTTP/", 5) == 0) {
        t->r = (response){0};
    } else if (header(line, n, "etag", value, ETAG_MAX + 1)) {
        if (strong(value)) copy_text(t->r.etag, sizeof t->r.etag, value);
    } else if (header(line, n, "x-linked-etag", value, sizeof value)) {
        take_linked(t, value);
    } else if (header(line, n, "content-range", value, sizeof value)) {
        unsigned long long first, last, total;
        if (sscanf(value, "bytes %llu-%llu/%llu", &first, &last, &total) == 3 && first <= last && last < total) {
            t->r.has_range = true;
            t->r.range_start = first;
            t->r.range_total = total;
        } else if (sscanf(value, "bytes */%llu", &total) == 1) {
            t->r.has_range = true;
            t->r.range_start = UINT64_MAX;
            t->r.range_total = total;
        }
    }
    return n;
}

/* Decides where this body goes. False: nowhere. */
static bool begin_body(transfer *t) {
    curl_off_t length = -1;
    if (t->r.code == 206) {
        if (t->changed || !t->r.has_range || t->r.range_start != t->at || strcmp(t->r.etag, t->etag) != 0) {
            t->changed = true;
            return false;
        }
        t->total = t->r.range_total;
    } else {
        if (!start_over(t)) return false;
        t->changed = false;
        copy_text(t->etag, sizeof t->etag, t->r.etag);
        curl_easy_getinfo(t->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
        t->total = length > 0 ? (uint64_t)length : 0;
        save_state(t);
    }
    t->begun = true;
    return true;
}

static size_t on_body(char *data, size_t size, size_t count, void *arg) {
    transfer *t = arg;
    size_t n = size * count;
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &t->r.code);
    if (t->r.code != 200 && t->r.code != 206) {
        t->junk += n;
        return t->junk > JUNK_MAX ? 0 : n;
    }
    if (!t->begun && !begin_body(t)) return 0;
    for (size_t done = 0; done < n;) {
        ssize_t k = write(t->fd, data + done, n - done);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) {
            t->write_errno = errno;
            return 0;
        }
        done += (size_t)k;
        t->at += (size_t)k;
    }
    return n;
}

static int on_progress(void *arg, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up) {
    transfer *t = arg;
    (void)total, (void)now, (void)up_total, (void)up;
    return t->fetch->progress && !t->fetch->progress(t->fetch->arg, t->at, t->total);
}

/* ---- requests ---------------------------------------------------------------------------------------------- */

/* True if scheme, host and port agree. */
static bool same_origin(const char *a, const char *b) {
    bool same = true;
    CURLU *u = curl_url(), *v = curl_url();
    if (!u || !v || curl_url_set(u, CURLUPART_URL, a, 0) || curl_url_set(v, CURLUPART_URL, b, 0)) same = false;
    const CURLUPart parts[] = {CURLUPART_SCHEME, CURLUPART_HOST, CURLUPART_PORT};
    for (int i = 0; i < 3 && same; i++) {
        char *x = NULL, *y = NULL;
        same = curl_url_get(u, parts[i], &x, CURLU_DEFAULT_PORT) == 0 &&
               curl_url_get(v, parts[i], &y, CURLU_DEFAULT_PORT) == 0 && strcasecmp(x, y) == 0;
        curl_free(x);
        curl_free(y);
    }
    curl_url_cleanup(u);
    curl_url_cleanup(v);
    return same;
}

static bool add_header(struct curl_slist **list, const char *line) {
    struct curl_slist *longer = curl_slist_append(*list, line);
    if (longer) *list = longer;
    return longer != NULL;
}

static bool make_headers(const transfer *t, const char *url, struct curl_slist **list) {
    char line[1024];
    const tq_fetch *f = t->fetch;
    bool ok = true;
    if (f->token && f->token_origin && same_origin(url, f->token_origin)) {
        int n = snprintf(line, sizeof line, "Authorization: Bearer %s", f->token);
        ok = n > 0 && (size_t)n < sizeof line && add_header(list, line);
    }
    if (ok && t->at > 0) {
        snprintf(line, sizeof line, "Range: bytes=%llu-", (unsigned long long)t->at);
        ok = add_header(list, line);
        snprintf(line, sizeof line, "If-Range: %s", t->etag);
        ok = ok && add_header(list, line);
    }
    return ok;
}

/* One request; the body ends in part or nowhere. */
static CURLcode request(transfer *t, const char *url) {
    CURL *c = t->curl;
    struct curl_slist *headers = NULL;
    CURLcode rc = CURLE_OUT_OF_MEMORY;
    curl_easy_reset(c);
    t->begun = false;
    t->junk = 0;
    t->message[0] = 0;
    t->r = (response){0};
    if (make_headers(t, url, &headers) && curl_easy_setopt(c, CURLOPT_URL, url) == CURLE_OK &&
        curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
        curl_easy_setopt(c, CURLOPT_USERAGENT, "toque") == CURLE_OK) {
        curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
        curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, 30L);
        curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, 60L);
        curl_easy_setopt(c, CURLOPT_ERRORBUFFER, t->message);
        curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
        curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
        curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
        curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
        curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(c, CURLOPT_XFERINFODATA, t);
        curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
        rc = curl_easy_perform(c);
        curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &t->r.code);
    }
    curl_slist_free_all(headers);
    return rc;
}

/* Where a redirect leads, as a copy; NULL in *next for other responses. */
static toque_status next_url(transfer *t, const char *url, char **next, toque_error *err) {
    const char *to = NULL;
    *next = NULL;
    if (t->r.code < 300 || t->r.code > 399) return TOQUE_OK;
    curl_easy_getinfo(t->curl, CURLINFO_REDIRECT_URL, &to);
    if (!to) return TOQUE_OK;
    bool http = strncasecmp(to, "http://", 7) == 0, https = strncasecmp(to, "https://", 8) == 0;
    if (!https && !(http && strncasecmp(url, "http://", 7) == 0))
        return TQ_FAIL(err, EINVAL,
                       "%.150s redirects to %.150s; only http and https are followed, and never from https to "
                       "http",
                       url, to);
    *next = tq_strdup(t->mem, to);
    return *next ? TOQUE_OK : TQ_NOMEM(err);
}

/* What a finished request means. *again: worth another attempt. */
static toque_status judge(transfer *t, CURLcode rc, bool *again, toque_error *err) {
    const char *url = t->fetch->url, *why = t->message[0] ? t->message : curl_easy_strerror(rc);
    long code = t->r.code;
    *again = false;
    if (rc == CURLE_ABORTED_BY_CALLBACK)
        return TQ_FAIL(err, ECANCELED, "stopped; the same command goes on after the %llu bytes that arrived",
                       (unsigned long long)t->at);
    if (rc == CURLE_OUT_OF_MEMORY) return TQ_NOMEM(err);
    bool body = code == 200 || code == 206;
    if (body && rc == CURLE_OK && !t->begun) (void)begin_body(t); /* an empty one */
    if (t->write_errno) return TQ_FAIL(err, EIO, "cannot write %s: %s", t->fetch->part, strerror(t->write_errno));
    if (code == 416 && t->at > 0) { /* nothing stands behind what we have: all of it, or another file */
        if (t->r.has_range && t->r.range_total == t->at && !t->changed) return TOQUE_OK;
        t->changed = true;
    }
    if (t->changed) {
        (void)start_over(t);
        *again = true;
        return TQ_FAIL(err, EIO, "%.250s changes while it is fetched", url);
    }
    if (body && rc == CURLE_OK) {
        if (!t->total || t->at == t->total) return TOQUE_OK;
        *again = true;
        return TQ_FAIL(err, EIO, "%.250s: %llu of %llu bytes arrived", url, (unsigned long long)t->at,
                       (unsigned long long)t->total);
    }
    *again = rc == CURLE_PARTIAL_FILE || rc == CURLE_RECV_ERROR || rc == CURLE_SEND_ERROR || rc == CURLE_GOT_NOTHING ||
             rc == CURLE_OPERATION_TIMEDOUT || rc == CURLE_HTTP2 || rc == CURLE_HTTP2_STREAM || code == 429 ||
             code >= 500;
    if (code == 401 || code == 403)
        return TQ_FAIL(err, EINVAL,
                       "%.250s: access denied (HTTP %ld); it may need a token in HF_TOKEN, or its terms accepted "
                       "on its web page",
                       url, code);
    if (code == 404 || code == 410) return TQ_FAIL(err, ENOTFOUND, "%.250s: no such file there (HTTP %ld)", url, code);
    if (code && !body) return TQ_FAIL(err, EIO, "%.250s: the server answered HTTP %ld", url, code);
    return TQ_FAIL(err, EIO, "cannot fetch %.250s: %s", url, why);
}

static toque_status attempt(transfer *t, bool *again, toque_error *err) {
    char *url = tq_strdup(t->mem, t->fetch->url), *next = NULL;
    toque_status status = TOQUE_OK;
    *again = false;
    for (int hop = 0;; hop++) {
        if (!url) {
            status = TQ_NOMEM(err);
            break;
        }
        CURLcode rc = request(t, url);
        if (rc == CURLE_OK || rc == CURLE_WRITE_ERROR) status = next_url(t, url, &next, err);
        if (status != TOQUE_OK) break;
        if (!next) {
            status = judge(t, rc, again, err);
            break;
        }
        if (hop == MAX_HOPS) {
            status = TQ_FAIL(err, EIO, "%.250s redirects more than %d times", t->fetch->url, MAX_HOPS);
            break;
        }
        if (t->changed) { /* the hub announced another hash: no use asking for the rest */
            t->changed = false;
            if (!start_over(t)) {
                status = TQ_FAIL(err, EIO, "cannot write %s: %s", t->fetch->part, strerror(t->write_errno));
                break;
            }
        }
        tq_free(t->mem, url);
        url = next;
        next = NULL;
    }
    tq_free(t->mem, next);
    tq_free(t->mem, url);
    return status;
}

/* ---- the whole --------------------------------------------------------------------------------------------- */

static toque_status open_part(transfer *t, toque_error *err) {
    const char *part = t->fetch->part;
    t->fd = open(part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (t->fd < 0) return TQ_FAIL(err, EIO, "cannot open %s: %s", part, strerror(errno));
    /* Between open and lock another process may have finished and moved the file into the store. */
    struct stat ours, named;
    bool locked = flock(t->fd, LOCK_EX | LOCK_NB) == 0;
    if ((!locked && errno != EWOULDBLOCK) || fstat(t->fd, &ours) < 0)
        return TQ_FAIL(err, EIO, "cannot lock %s: %s", part, strerror(errno));
    if (!locked || stat(part, &named) < 0 || ours.st_ino != named.st_ino || ours.st_dev != named.st_dev)
        return TQ_FAIL(err, EBUSY, "another process is fetching %.250s", t->fetch->url);
    load_state(t);
    off_t size = lseek(t->fd, 0, SEEK_END);
    if (size < 0) return TQ_FAIL(err, EIO, "cannot read %s: %s", part, strerror(errno));
    t->at = (uint64_t)size;
    if (!t->etag[0] && !start_over(t)) return TQ_FAIL(err, EIO, "cannot write %s: %s", part, strerror(t->write_errno));
    return TOQUE_OK;
}

static toque_status fetch_all(transfer *t, toque_error *err) {
    uint64_t best = t->at;
    for (int idle = 0;;) {
        bool again;
        toque_status status = attempt(t, &again, err);
        if (status == TOQUE_OK || !again) return status;
        idle = t->at > best && t->etag[0] ? 0 : idle + 1;
        if (t->at > best) best = t->at;
        if (idle == MAX_IDLE_ATTEMPTS) return status;
        /* Without an ETag the rest cannot be asked for. */
        if (t->at && !t->etag[0] && !start_over(t)) return status;
        long ms = 200L << idle;
        nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
    }
}

toque_status tq_fetch_file(const tq_fetch *fetch, tq_mem *mem, int *held, char sha256[65], toque_error *err) {
    transfer t = {.fetch = fetch, .mem = mem, .fd = -1};
    toque_status status;
    *held = -1;
    sha256[0] = 0;
    size_t n = strlen(fetch->part);
    t.state_path = tq_alloc(mem, n + 6, 1);
    t.curl = curl_easy_init();
    if (!t.state_path || !t.curl) {
        status = TQ_NOMEM(err);
        goto done;
    }
    memcpy(t.state_path, fetch->part, n);
    memcpy(t.state_path + n, ".json", 6);
    TQ_GO(open_part(&t, err));
    TQ_GO(fetch_all(&t, err));
    if (fsync(t.fd) < 0) {
        status = TQ_FAIL(err, EIO, "cannot write %s: %s", fetch->part, strerror(errno));
        goto done;
    }
    memcpy(sha256, t.linked, sizeof t.linked);
    *held = t.fd;
    t.fd = -1;
done:
    if (t.fd >= 0) close(t.fd);
    if (t.curl) curl_easy_cleanup(t.curl);
    tq_free(mem, t.state_path);
    return status;
}

void tq_fetch_forget(tq_mem *mem, const char *part) {
    size_t n = strlen(part);
    char *state = tq_alloc(mem, n + 6, 1);
    if (state) {
        memcpy(state, part, n);
        memcpy(state + n, ".json", 6);
        unlink(state);
    }
    tq_free(mem, state);
    unlink(part);
}
