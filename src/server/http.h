/* HTTP: connections, bodies, replies and streams, over libmicrohttpd. Knows nothing of models.
 *
 * An exchange is one request and its answer. It is held by the connection and by whoever works on it; while nothing can
 * be sent the connection is suspended, so a thousand waiting requests cost no thread. A suspended socket is watched by
 * tq_http_watch: a client that hangs up, and a deadline, cancel the exchange.
 */
#ifndef TQ_SERVER_HTTP_H
#define TQ_SERVER_HTTP_H

#include <jansson.h>
#include <pthread.h>

#include "base/buf.h"

struct MHD_Connection;
typedef struct tq_http tq_http;
typedef struct tq_exchange tq_exchange;

typedef struct tq_route {
    const char *method, *path; /* a path may end with a * */
    bool open;                 /* answers without a key, and while the model is loading */
    bool direct;               /* takes no JSON body */
    /* On the HTTP thread. Replies, or keeps the exchange (tq_exchange_keep) and replies later. body: the JSON object
     * of a POST, borrowed for the call; NULL for GET. */
    void (*run)(tq_exchange *x, json_t *body);
} tq_route;

/* Why an exchange was canceled: nobody reads the answer, it took too long, or the server stops. */
typedef enum tq_why { TQ_WHY_NOT, TQ_WHY_GONE, TQ_WHY_LATE, TQ_WHY_CLOSING } tq_why;

struct tq_exchange {
    tq_http *http;
    void *user; /* of tq_http_options */
    const tq_route *route;
    char id[40];          /* of the request, in X-Request-Id */
    const char *rest;     /* what the route's * stands for, for the time of run */
    atomic_bool canceled; /* work on it shall stop */
    atomic_int why;       /* a tq_why */
    const char *retry;    /* Retry-After of the reply, or NULL */
    double begun;         /* when the request's head was read */
    char key[48];         /* the name of the key that it carried */
    char label[72];       /* the field user, for the audit log */

    /* http.c's own */
    pthread_mutex_t lock;
    int refs;
    struct MHD_Connection *connection;
    int socket;
    bool suspended, over; /* over: the connection has ended */
    bool dispatched, streaming, finished, too_large;
    unsigned status; /* 0: no reply yet */
    const char *type;
    const char *allow; /* the path's method, with 405 */
    tq_buf in, out;
    size_t sent;
    double deadline, touched;
    struct tq_exchange *previous, *next;
};

typedef struct tq_http_options {
    const char *host;
    int port; /* 0: any that is free */
    int max_connections, timeout;
    size_t max_body;
    const tq_route *routes;    /* path NULL ends them */
    bool local;                /* reached from this machine only: Host must say so */
    const char *cert, *secret; /* PEM, for HTTPS; NULL: plain HTTP. They must outlive the daemon */
    const char *(*allowed)(void *user, const char *key); /* the key's name, or NULL. key NULL: none was sent */
    bool (*origin)(void *user, const char *origin);      /* pages of this origin may ask */
    bool (*ready)(void *user);
    void (*completed)(void *user, tq_exchange *x); /* a request has ended */
    void *user;
} tq_http_options;

toque_status tq_http_new(tq_http **http, tq_mem *mem, const tq_http_options *o, toque_error *err) TQ_MUST;
int tq_http_port(const tq_http *h);
tq_mem *tq_http_mem(const tq_http *h);
/* To be called every 100 ms or so: hang-ups, deadlines, pings in quiet streams. Returns how many requests run. */
int tq_http_watch(tq_http *h, bool *canceled_any);
/* No new connections and requests. */
void tq_http_quiesce(tq_http *h);
void tq_http_cancel_all(tq_http *h);
/* All exchanges must have been let go of by others. */
void tq_http_free(tq_http *h);

void tq_exchange_keep(tq_exchange *x);
void tq_exchange_drop(tq_exchange *x);
/* The whole answer. value: taken over; NULL: no memory. */
void tq_reply_json(tq_exchange *x, unsigned status, json_t *value);
void tq_reply_text(tq_exchange *x, unsigned status, const char *type, const char *text, size_t n);
/* {"error": {"message", "type", "param", "code"}}. param may be NULL. */
void tq_reply_error(tq_exchange *x, unsigned status, const char *code, const char *param, const char *format, ...)
    TQ_PRINTF(5, 6);
/* What an exchange that was canceled is answered. */
void tq_reply_canceled(tq_exchange *x);
/* The same for a status of the library. */
void tq_reply_failure(tq_exchange *x, toque_status status, const char *param, const toque_error *err);
/* An error object, for the end of a stream. */
json_t *tq_error_json(unsigned status, const char *code, const char *param, const char *message);
/* Server-sent events. The head goes out with the first of them. event: a name, or NULL. The value is taken over. False:
 * nobody reads them any more. */
bool tq_stream_event(tq_exchange *x, const char *event, json_t *value);
bool tq_stream_raw(tq_exchange *x, const char *text);
void tq_stream_end(tq_exchange *x);
bool tq_exchange_streams(tq_exchange *x);

#endif
