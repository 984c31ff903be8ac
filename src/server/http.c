/* The daemon, its exchanges and the watch over suspended ones. See http.h.
 *
 * Locks: http->lock guards the list of exchanges, an exchange's lock its state; the list's is taken first.
 * libmicrohttpd is asked to resume only when no lock is held: whoever turned `suspended` off does it, and a suspended
 * connection cannot end meanwhile.
 */
#include "server/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"

enum {
    HEAD_BYTES = 16 << 10, /* request line and headers, and what a connection holds at least */
    IDLE_SECONDS = 120,    /* of a connection without a request */
    BODY_SECONDS = 60      /* for a request to arrive */
};
#define PING_SECONDS 15.0

struct tq_http {
    tq_mem *mem;
    tq_http_options o;
    struct MHD_Daemon *daemon;
    int port;
    pthread_mutex_t lock;
    tq_exchange *first;
    int n;
    atomic_bool closing;
};

tq_mem *tq_http_mem(const tq_http *h) {
    return h->mem;
}

int tq_http_port(const tq_http *h) {
    return h->port;
}

/* --- exchanges --------------------------------------------------------------------------------------------- */

static tq_exchange *exchange_new(tq_http *h, struct MHD_Connection *connection) {
    tq_exchange *x = TQ_NEW(h->mem, tq_exchange);
    if (!x) return NULL;
    uint8_t random[12] = {0};
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) memset(random, 0, sizeof random);
    for (size_t i = 0; i < sizeof random; i++) snprintf(x->id + 2 * i, 3, "%02x", random[i]);
    x->http = h;
    x->user = h->o.user;
    x->connection = connection;
    x->socket = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    x->refs = 1;
    x->begun = x->touched = tq_now();
    x->deadline = h->o.timeout ? x->begun + h->o.timeout : 0;
    pthread_mutex_init(&x->lock, NULL);
    tq_buf_init(&x->in, h->mem, h->o.max_body);
    tq_buf_init(&x->out, h->mem, SIZE_MAX / 2);
    pthread_mutex_lock(&h->lock);
    x->next = h->first;
    if (h->first) h->first->previous = x;
    h->first = x;
    h->n++;
    pthread_mutex_unlock(&h->lock);
    return x;
}

void tq_exchange_keep(tq_exchange *x) {
    pthread_mutex_lock(&x->lock);
    x->refs++;
    pthread_mutex_unlock(&x->lock);
}

void tq_exchange_drop(tq_exchange *x) {
    tq_http *h = x->http;
    pthread_mutex_lock(&h->lock);
    pthread_mutex_lock(&x->lock);
    bool last = --x->refs == 0;
    pthread_mutex_unlock(&x->lock);
    if (last) {
        if (x->previous) x->previous->next = x->next;
        if (x->next) x->next->previous = x->previous;
        if (h->first == x) h->first = x->next;
        h->n--;
    }
    pthread_mutex_unlock(&h->lock);
    if (!last) return;
    pthread_mutex_destroy(&x->lock);
    tq_buf_clear(&x->in);
    tq_buf_clear(&x->out);
    tq_free(h->mem, x);
}

static void cancel(tq_exchange *x, tq_why why) {
    atomic_store(&x->why, why);
    atomic_store(&x->canceled, true);
}

/* Ends a change that was made under x->lock: lets the connection go on if it waits for one. */
static void unlock_and_resume(tq_exchange *x) {
    struct MHD_Connection *connection = x->suspended ? x->connection : NULL;
    x->suspended = false;
    x->touched = tq_now();
    pthread_mutex_unlock(&x->lock);
    if (connection) MHD_resume_connection(connection);
}

/* --- replies ----------------------------------------------------------------------------------------------- */

static void reply(tq_exchange *x, unsigned status, const char *type, const char *text, size_t n) {
    pthread_mutex_lock(&x->lock);
    if (x->status == 0) {
        x->status = status;
        x->type = type;
        x->finished = true;
        (void)tq_buf_put(&x->out, text, n);
    }
    unlock_and_resume(x);
}

void tq_reply_text(tq_exchange *x, unsigned status, const char *type, const char *text, size_t n) {
    reply(x, status, type, text, n);
}

static const char no_memory[] = "{\"error\": {\"message\": \"out of memory\", \"type\": \"server_error\", \"param\": "
                                "null, \"code\": \"out_of_memory\"}}";

static int write_json(const char *text, size_t n, void *buf) {
    return tq_buf_put(buf, text, n) ? 0 : -1;
}

/* The value as one line of text, or the error that there is no memory. Takes the value over. */
static bool print_json(tq_buf *out, json_t *value) {
    bool ok = value && json_dump_callback(value, write_json, out, JSON_COMPACT) == 0;
    json_decref(value);
    if (!ok) {
        tq_buf_reset(out);
        (void)tq_buf_puts(out, no_memory);
    }
    return ok;
}

void tq_reply_json(tq_exchange *x, unsigned status, json_t *value) {
    tq_buf text;
    tq_buf_init(&text, x->http->mem, SIZE_MAX / 2);
    if (!print_json(&text, value)) status = 500;
    if (text.failed)
        reply(x, status, "application/json", no_memory, sizeof no_memory - 1);
    else
        reply(x, status, "application/json", text.data, text.len);
    tq_buf_clear(&text);
}

static const char *type_of(unsigned status) {
    switch (status) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 429: return "rate_limit_error";
    case 501: return "not_supported_error";
    case 503: return "unavailable_error";
    default: return status < 500 ? "invalid_request_error" : "server_error";
    }
}

json_t *tq_error_json(unsigned status, const char *code, const char *param, const char *message) {
    json_t *text = json_string(message);
    if (!text) text = json_string("the message is not UTF-8");
    return json_pack("{s:{s:o, s:s, s:s?, s:s?}}", "error", "message", text, "type", type_of(status), "param", param,
                     "code", code);
}

void tq_reply_error(tq_exchange *x, unsigned status, const char *code, const char *param, const char *format, ...) {
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    tq_reply_json(x, status, tq_error_json(status, code, param, message));
}

void tq_reply_canceled(tq_exchange *x) {
    if (atomic_load(&x->why) == TQ_WHY_CLOSING)
        tq_reply_error(x, 503, "unavailable", NULL, "the server is stopping");
    else
        tq_reply_error(x, 408, "timeout", NULL, "the request took longer than %d s", x->http->o.timeout);
}

void tq_reply_failure(tq_exchange *x, toque_status status, const char *param, const toque_error *err) {
    switch (status) {
    case TOQUE_EBUSY:
        x->retry = "1";
        tq_reply_error(x, 429, "overloaded", param, "%s", err->message);
        break;
    case TOQUE_EINVAL:
    case TOQUE_EFORMAT:
    case TOQUE_ELIMIT: tq_reply_error(x, 400, "invalid_value", param, "%s", err->message); break;
    case TOQUE_ENOTFOUND: tq_reply_error(x, 404, "not_found", param, "%s", err->message); break;
    case TOQUE_EUNSUPPORTED: tq_reply_error(x, 501, "not_supported", param, "%s", err->message); break;
    default: tq_reply_error(x, 500, "failed", param, "%s", err->message);
    }
}

/* --- streams ----------------------------------------------------------------------------------------------- */

bool tq_exchange_streams(tq_exchange *x) {
    pthread_mutex_lock(&x->lock);
    bool streams = x->streaming;
    pthread_mutex_unlock(&x->lock);
    return streams;
}

static bool stream(tq_exchange *x, const char *event, const char *text) {
    pthread_mutex_lock(&x->lock);
    bool on = !x->over && !x->finished;
    if (on) {
        if (x->status == 0) {
            x->status = 200;
            x->type = "text/event-stream";
            x->streaming = true;
        }
        if (event) (void)tq_buf_printf(&x->out, "event: %s\n", event);
        (void)(tq_buf_puts(&x->out, "data: ") && tq_buf_puts(&x->out, text) && tq_buf_puts(&x->out, "\n\n"));
        on = !x->out.failed;
    }
    unlock_and_resume(x);
    return on;
}

bool tq_stream_raw(tq_exchange *x, const char *text) {
    return stream(x, NULL, text);
}

bool tq_stream_event(tq_exchange *x, const char *event, json_t *value) {
    tq_buf text;
    tq_buf_init(&text, x->http->mem, SIZE_MAX / 2);
    bool on = print_json(&text, value);
    on = stream(x, event, text.failed ? no_memory : text.data) && on;
    tq_buf_clear(&text);
    return on;
}

void tq_stream_end(tq_exchange *x) {
    pthread_mutex_lock(&x->lock);
    x->finished = true;
    unlock_and_resume(x);
}

/* What libmicrohttpd asks when it can send more of a stream. */
static ssize_t read_stream(void *arg, uint64_t pos, char *out, size_t max) {
    tq_exchange *x = arg;
    (void)pos;
    ssize_t n = 0;
    pthread_mutex_lock(&x->lock);
    size_t left = x->out.len - x->sent;
    if (left) {
        n = (ssize_t)(left < max ? left : max);
        memcpy(out, x->out.data + x->sent, (size_t)n);
        x->sent += (size_t)n;
        if (x->sent == x->out.len) {
            tq_buf_reset(&x->out);
            x->sent = 0;
        }
    } else if (x->out.failed || atomic_load(&x->why) == TQ_WHY_GONE) {
        n = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (x->finished) {
        n = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        x->suspended = true;
        MHD_suspend_connection(x->connection);
    }
    pthread_mutex_unlock(&x->lock);
    return n;
}

static const char *header(tq_exchange *x, const char *name) {
    return MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, name);
}

/* True if a page of this origin may ask: one of our own, or one that is listed. */
static bool origin_may_ask(tq_exchange *x, const char *origin) {
    const char *host = header(x, "Host"), *bare = strstr(origin, "://");
    if (host && bare && strcmp(bare + 3, host) == 0) return true;
    return x->http->o.origin(x->http->o.user, origin);
}

static struct MHD_Response *make_response(tq_exchange *x) {
    if (x->streaming) return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 4096, read_stream, x, NULL);
    if (x->out.failed)
        return MHD_create_response_from_buffer(sizeof no_memory - 1, (void *)(uintptr_t)no_memory,
                                               MHD_RESPMEM_PERSISTENT);
    return MHD_create_response_from_buffer(x->out.len, x->out.data, MHD_RESPMEM_MUST_COPY);
}

/* Sends the head and, unless it streams, the body. Under x->lock, on the HTTP thread. */
static enum MHD_Result send_reply(tq_exchange *x) {
    struct MHD_Response *r = make_response(x);
    if (!r) return MHD_NO;
    bool ok = MHD_add_response_header(r, "Content-Type", x->type) == MHD_YES &&
              MHD_add_response_header(r, "X-Request-Id", x->id) == MHD_YES &&
              MHD_add_response_header(r, "X-Content-Type-Options", "nosniff") == MHD_YES;
    if (x->streaming)
        ok = ok && MHD_add_response_header(r, "Cache-Control", "no-cache") == MHD_YES &&
             MHD_add_response_header(r, "X-Accel-Buffering", "no") == MHD_YES;
    if (x->retry) ok = ok && MHD_add_response_header(r, "Retry-After", x->retry) == MHD_YES;
    if (x->allow) ok = ok && MHD_add_response_header(r, "Allow", x->allow) == MHD_YES;
    if (strncmp(x->type, "text/html", 9) == 0)
        ok = ok && MHD_add_response_header(r, "Content-Security-Policy",
                                           "default-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
                                           "frame-ancestors 'none'") == MHD_YES;
    const char *origin = header(x, "Origin");
    if (origin && origin_may_ask(x, origin)) {
        ok = ok && MHD_add_response_header(r, "Access-Control-Allow-Origin", origin) == MHD_YES &&
             MHD_add_response_header(r, "Vary", "Origin") == MHD_YES;
        if (x->status == 204)
            ok = ok && MHD_add_response_header(r, "Access-Control-Allow-Methods", "GET, POST") == MHD_YES &&
                 MHD_add_response_header(r, "Access-Control-Allow-Headers", "Authorization, Content-Type, X-Api-Key") ==
                     MHD_YES &&
                 MHD_add_response_header(r, "Access-Control-Max-Age", "600") == MHD_YES;
    }
    if (x->status == 401) ok = ok && MHD_add_response_header(r, "WWW-Authenticate", "Bearer") == MHD_YES;
    enum MHD_Result result = ok ? MHD_queue_response(x->connection, x->status, r) : MHD_NO;
    MHD_destroy_response(r);
    return result;
}

/* --- requests ---------------------------------------------------------------------------------------------- */

/* The key that a request carries, or NULL. */
static const char *key_of(tq_exchange *x) {
    const char *authorization = header(x, "Authorization");
    if (authorization && strncasecmp(authorization, "Bearer ", 7) == 0) return authorization + 7;
    return header(x, "X-Api-Key");
}

static void find_route(tq_exchange *x, const char *method, const char *path) {
    if (strcmp(method, "HEAD") == 0) method = "GET"; /* the library leaves the body out */
    for (const tq_route *r = x->http->o.routes; r->path; r++) {
        size_t n = strlen(r->path);
        bool open_end = r->path[n - 1] == '*';
        if (open_end ? strncmp(r->path, path, n - 1) != 0 || !path[n - 1] : strcmp(r->path, path) != 0) continue;
        if (strcmp(r->method, method) == 0) {
            x->route = r;
            x->rest = open_end ? path + n - 1 : NULL;
            return;
        }
        x->allow = r->method;
    }
    if (x->allow)
        tq_reply_error(x, 405, "method_not_allowed", NULL, "%.100s takes %s, not %.20s", path, x->allow, method);
    else
        tq_reply_error(x, 404, "unknown_path", NULL, "there is nothing at %.200s; GET /v1/models lists the models",
                       path);
}

/* A name that stands for this machine, with or without a port: others come from a page that makes its own name point
 * here. */
static bool is_local_name(const char *host) {
    return strncmp(host, "127.", 4) == 0 || strncmp(host, "[::1]", 5) == 0 ||
           (strncasecmp(host, "localhost", 9) == 0 && (host[9] == 0 || host[9] == ':'));
}

/* Refuses what a foreign web page sends, and answers its question beforehand. True: the request may go on. */
static bool check_origin(tq_exchange *x, const char *method) {
    const char *host = header(x, "Host"), *origin = header(x, "Origin");
    if (x->http->o.local && host && !is_local_name(host)) {
        tq_reply_error(x, 403, "wrong_host", NULL, "the Host is %.100s; this server is reached as 127.0.0.1 only",
                       host);
        return false;
    }
    if (origin && !origin_may_ask(x, origin)) {
        tq_reply_error(x, 403, "origin_not_allowed", NULL, "pages of %.100s may not use this server (--cors)", origin);
        return false;
    }
    if (!origin || strcmp(method, "OPTIONS") != 0) return true;
    tq_reply_text(x, 204, "text/plain", "", 0);
    return false;
}

/* Looks at the head of a request. What is wrong with it is answered at once. */
static void check_head(tq_exchange *x, const char *method, const char *path) {
    tq_http *h = x->http;
    if (!check_origin(x, method)) return;
    find_route(x, method, path);
    if (x->status) return;
    const char *name = h->o.allowed(h->o.user, key_of(x));
    snprintf(x->key, sizeof x->key, "%s", name ? name : "");
    if (!x->route->open && !name) {
        tq_reply_error(x, 401, "invalid_api_key", NULL,
                       "this server wants an API key: Authorization: Bearer KEY, or X-Api-Key");
        return;
    }
    if (atomic_load(&h->closing) || (!x->route->open && !h->o.ready(h->o.user))) {
        x->retry = "2";
        tq_reply_error(x, 503, "unavailable", NULL, "%s",
                       atomic_load(&h->closing) ? "the server is stopping" : "the model is loading");
        return;
    }
    const char *length = header(x, "Content-Length");
    if (length && header(x, "Transfer-Encoding"))
        tq_reply_error(x, 400, "bad_request", NULL, "a request has Content-Length or Transfer-Encoding, not both");
    else if (length && strtoull(length, NULL, 10) > h->o.max_body)
        tq_reply_error(x, 413, "body_too_large", NULL, "the body has %.20s bytes; at most %zu are taken", length,
                       h->o.max_body);
}

/* Hands the whole request to its route. */
static void dispatch(tq_exchange *x) {
    if (x->too_large) {
        tq_reply_error(x, 413, "body_too_large", NULL, "the body has more than %zu bytes", x->http->o.max_body);
        return;
    }
    json_t *body = NULL;
    if (!x->route->direct && strcmp(x->route->method, "POST") == 0) {
        json_error_t where;
        body = json_loadb(x->in.data, x->in.len, JSON_REJECT_DUPLICATES, &where);
        if (!json_is_object(body)) {
            if (body)
                tq_reply_error(x, 400, "invalid_json", NULL, "the body is JSON, but no object");
            else
                tq_reply_error(x, 400, "invalid_json", NULL, "the body is not valid JSON: line %d, column %d: %.200s",
                               where.line, where.column, where.text);
            json_decref(body);
            return;
        }
    }
    x->route->run(x, body);
    json_decref(body);
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *path, const char *method,
                                  const char *version, const char *data, size_t *n, void **state) {
    tq_http *h = arg;
    tq_exchange *x = *state;
    (void)version;
    if (!x) { /* the head */
        *state = x = exchange_new(h, connection);
        if (!x) return MHD_NO;
        check_head(x, method, path);
        return x->status ? send_reply(x) : MHD_YES;
    }
    if (*n) { /* a part of the body */
        if (tq_now() - x->begun > BODY_SECONDS) return MHD_NO;
        bool fits = x->in.len + *n <= h->o.max_body;
        if (fits && !tq_buf_put(&x->in, data, *n)) return MHD_NO;
        if (!fits && x->too_large) return MHD_NO; /* told already, and still sending */
        if (!fits) x->too_large = true;
        *n = 0;
        return MHD_YES;
    }
    if (!x->status && !x->dispatched) {
        x->dispatched = true;
        dispatch(x);
    }
    enum MHD_Result result = MHD_YES;
    pthread_mutex_lock(&x->lock);
    if (x->status) {
        result = send_reply(x);
    } else if (atomic_load(&x->why) == TQ_WHY_GONE) {
        result = MHD_NO;
    } else {
        x->suspended = true;
        MHD_suspend_connection(connection);
    }
    pthread_mutex_unlock(&x->lock);
    return result;
}

static void on_completed(void *arg, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode code) {
    tq_http *h = arg;
    tq_exchange *x = *state;
    (void)connection;
    if (!x) return;
    *state = NULL;
    pthread_mutex_lock(&x->lock);
    x->over = true;
    x->connection = NULL;
    if (code != MHD_REQUEST_TERMINATED_COMPLETED_OK) cancel(x, TQ_WHY_GONE);
    pthread_mutex_unlock(&x->lock);
    h->o.completed(h->o.user, x);
    tq_exchange_drop(x);
}

/* --- watching ---------------------------------------------------------------------------------------------- */

/* True if the other side has closed, or broken, the connection. */
static bool hung_up(int socket) {
    struct pollfd p = {.fd = socket, .events = POLLRDHUP};
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL));
}

/* Looks at one exchange. True: it is canceled now. The caller holds the list's lock, so x stays. */
static bool watch(tq_exchange *x, double now) {
    pthread_mutex_lock(&x->lock);
    bool waits = x->suspended || x->streaming, gone = x->suspended && hung_up(x->socket);
    bool late = waits && !x->finished && !x->over && x->deadline && now > x->deadline && !atomic_load(&x->canceled);
    if (gone) {
        cancel(x, TQ_WHY_GONE);
        unlock_and_resume(x);
        return true;
    }
    if (late) cancel(x, TQ_WHY_LATE);
    if (x->suspended && x->streaming && now - x->touched > PING_SECONDS) {
        (void)tq_buf_puts(&x->out, ": still working\n\n");
        unlock_and_resume(x);
    } else {
        pthread_mutex_unlock(&x->lock);
    }
    return late;
}

int tq_http_watch(tq_http *h, bool *canceled_any) {
    double now = tq_now();
    int running = 0;
    pthread_mutex_lock(&h->lock);
    for (tq_exchange *x = h->first; x; x = x->next) {
        running++;
        if (watch(x, now)) *canceled_any = true;
    }
    pthread_mutex_unlock(&h->lock);
    return running;
}

void tq_http_quiesce(tq_http *h) {
    atomic_store(&h->closing, true);
    MHD_socket socket = MHD_quiesce_daemon(h->daemon);
    if (socket != MHD_INVALID_SOCKET) close(socket);
}

void tq_http_cancel_all(tq_http *h) {
    pthread_mutex_lock(&h->lock);
    for (tq_exchange *x = h->first; x; x = x->next)
        if (!atomic_load(&x->canceled)) cancel(x, TQ_WHY_CLOSING);
    pthread_mutex_unlock(&h->lock);
}

/* --- the daemon -------------------------------------------------------------------------------------------- */

/* The address to listen at; freeaddrinfo it. */
static toque_status find_address(const tq_http_options *o, struct addrinfo **list, toque_error *err) {
    char port[16];
    snprintf(port, sizeof port, "%d", o->port);
    struct addrinfo hints = {.ai_flags = AI_NUMERICSERV | AI_PASSIVE, .ai_socktype = SOCK_STREAM};
    if (strcmp(o->host, "localhost") != 0) hints.ai_flags |= AI_NUMERICHOST; /* no question to a name server */
    int code = getaddrinfo(strcmp(o->host, "localhost") == 0 ? "127.0.0.1" : o->host, port, &hints, list);
    if (code)
        return TQ_FAIL(err, EINVAL, "cannot listen at %.200s: %s; give a numeric address, as 127.0.0.1 or ::1", o->host,
                       gai_strerror(code));
    return TOQUE_OK;
}

/* A listening socket of our own: so that the error is the system's, and port 0 can be asked for. */
static toque_status listen_at(tq_http *h, int *socket_out, bool *six, toque_error *err) {
    struct addrinfo *a;
    TQ_TRY(find_address(&h->o, &a, err));
    *six = a->ai_family == AF_INET6;
    int one = 1, s = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool ok = s >= 0 && setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
              bind(s, a->ai_addr, a->ai_addrlen) == 0 && listen(s, 511) == 0;
    int code = errno;
    freeaddrinfo(a);
    union {
        struct sockaddr any;
        struct sockaddr_in four;
        struct sockaddr_in6 six;
    } bound;
    socklen_t n = sizeof bound;
    memset(&bound, 0, sizeof bound);
    if (ok && getsockname(s, &bound.any, &n) == 0) {
        h->port = ntohs(*six ? bound.six.sin6_port : bound.four.sin_port);
        *socket_out = s;
        return TOQUE_OK;
    }
    if (s >= 0) close(s);
    return TQ_FAIL(err, EIO, "cannot listen at %.200s port %d: %s; choose another --port or --host", h->o.host,
                   h->o.port, strerror(code));
}

toque_status tq_http_new(tq_http **result, tq_mem *mem, const tq_http_options *o, toque_error *err) {
    *result = NULL;
    tq_http *h = TQ_NEW(mem, tq_http);
    if (!h) return TQ_NOMEM(err);
    h->mem = mem;
    h->o = *o;
    int s = -1;
    bool six = false;
    toque_status status = listen_at(h, &s, &six, err);
    if (status != TOQUE_OK) {
        tq_free(mem, h);
        return status;
    }
    pthread_mutex_init(&h->lock, NULL);
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_PEDANTIC_CHECKS;
    if (six) flags |= MHD_USE_IPv6;
    struct MHD_OptionItem tls[] = {{MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)(uintptr_t)o->secret},
                                   {MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)(uintptr_t)o->cert},
                                   {MHD_OPTION_END, 0, NULL}};
    if (o->cert)
        flags |= MHD_USE_TLS;
    else
        tls[0].option = MHD_OPTION_END;
    h->daemon =
        MHD_start_daemon(flags, 0, NULL, NULL, on_request, h, MHD_OPTION_LISTEN_SOCKET, s, MHD_OPTION_NOTIFY_COMPLETED,
                         on_completed, h, MHD_OPTION_CONNECTION_LIMIT, (unsigned)o->max_connections,
                         MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_SECONDS, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                         (size_t)HEAD_BYTES, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
    if (!h->daemon) {
        close(s);
        pthread_mutex_destroy(&h->lock);
        tq_free(mem, h);
        return TQ_FAIL(err, EIO, "the HTTP library cannot start with %d connections%s", o->max_connections,
                       o->cert ? ", or cannot use the certificate and key (PEM, belonging together)"
                               : "; lower --max-connections");
    }
    *result = h;
    return TOQUE_OK;
}

void tq_http_free(tq_http *h) {
    if (!h) return;
    MHD_stop_daemon(h->daemon);
    pthread_mutex_destroy(&h->lock);
    tq_free(h->mem, h);
}
