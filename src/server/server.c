/* Opening, serving and stopping. See server.h. */
#include "server/server.h"

#include <arpa/inet.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "server/state.h"

enum { WATCH_MS = 100 };
#define GRACE_SECONDS 5.0

#define AT(field) offsetof(tq_server_options, field)
const tq_option tq_server_table[] = {
    {.key = "host",
     .type = TQ_OPT_TEXT,
     .offset = AT(host),
     .fallback = "127.0.0.1",
     .value = "ADDRESS",
     .help = "address to listen at; others than this machine's own need --api-key-file"},
    {.key = "port",
     .type = TQ_OPT_INT,
     .offset = AT(port),
     .fallback = "8080",
     .min = 0,
     .max = 65535,
     .help = "port to listen at; 0: any that is free"},
    {.key = "name",
     .type = TQ_OPT_TEXT,
     .offset = AT(name),
     .value = "NAME",
     .help = "of the model for clients; without it, the file's"},
    {.key = "api_key_file",
     .type = TQ_OPT_TEXT,
     .offset = AT(api_key_file),
     .value = "F",
     .help = "one key a line, as it is or as sha256:HEX; requests must carry one of them"},
    {.key = "public_without_key",
     .type = TQ_OPT_FLAG,
     .offset = AT(public_without_key),
     .fallback = "off",
     .help = "listen at a public address without keys all the same"},
    {.key = "context",
     .type = TQ_OPT_INT,
     .offset = AT(context),
     .fallback = "0",
     .min = 0,
     .max = 1e9,
     .help = "tokens of a prompt and its answer together; 0: what the model allows"},
    {.key = "slots",
     .type = TQ_OPT_INT,
     .offset = AT(slots),
     .fallback = "8",
     .min = 1,
     .max = TQ_DECODE_ROWS,
     .help = "answers that are written at the same time"},
    {.key = "queue",
     .type = TQ_OPT_INT,
     .offset = AT(queue),
     .fallback = "256",
     .min = 0,
     .max = 1e6,
     .help = "answers that may wait for a slot; more are refused with status 429"},
    {.key = "timeout",
     .type = TQ_OPT_INT,
     .offset = AT(timeout),
     .fallback = "600",
     .min = 0,
     .max = 1e6,
     .help = "seconds that a request may take; 0: any number"},
    {.key = "cache",
     .type = TQ_OPT_BYTES,
     .offset = AT(cache),
     .fallback = "512M",
     .min = 0,
     .max = 1e15,
     .help = "memory for prompts that were read before"},
    {.key = "max_body",
     .type = TQ_OPT_BYTES,
     .offset = AT(max_body),
     .fallback = "16M",
     .min = 1e3,
     .max = 4e9,
     .help = "of a request"},
    {.key = "max_connections",
     .type = TQ_OPT_INT,
     .offset = AT(max_connections),
     .fallback = "2048",
     .min = 1,
     .max = 1e6,
     .help = "at the same time"},
    {.key = "temp",
     .type = TQ_OPT_NUMBER,
     .offset = AT(temperature),
     .fallback = "1",
     .min = 0,
     .max = 100,
     .aliases = "temperature",
     .help = "temperature of requests that give none"},
    {0}};
#undef AT

static const tq_route routes[] = {
#define X(method, path, open, direct, name) {method, path, open, direct, tq_route_##name},
#include "server/routes.def"
#undef X
    {0}};

static bool allowed(void *user, const char *key) {
    const tq_server *s = user;
    return s->keys.n == 0 || tq_keys_find(&s->keys, key);
}

static bool ready(void *user) {
    return atomic_load(&((tq_server *)user)->ready);
}

/* True for addresses that only this machine reaches. */
static bool is_local(const char *host) {
    struct in6_addr six;
    return strcmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 ||
           (inet_pton(AF_INET6, host, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six));
}

toque_status tq_server_listen(tq_server **result, tq_mem *mem, const tq_server_options *o, toque_error *err) {
    *result = NULL;
    if (!o->api_key_file && !is_local(o->host) && !o->public_without_key)
        return TQ_FAIL(err, EINVAL,
                       "%.200s can be reached by others and no key is set: give --api-key-file F, or "
                       "--public-without-key if everybody may use this server",
                       o->host);
    tq_server *s = TQ_NEW(mem, tq_server);
    if (!s) return TQ_NOMEM(err);
    s->mem = mem;
    s->o = *o;
    s->opened = (int64_t)time(NULL);
    tq_http_options h = {.host = o->host,
                         .port = (int)o->port,
                         .max_connections = (int)o->max_connections,
                         .timeout = (int)o->timeout,
                         .max_body = o->max_body,
                         .routes = routes,
                         .allowed = allowed,
                         .ready = ready,
                         .user = s};
    toque_status status = TOQUE_OK;
    if (o->api_key_file) status = tq_keys_read(&s->keys, mem, o->api_key_file, err);
    if (status == TOQUE_OK) status = tq_http_new(&s->http, mem, &h, err);
    if (status != TOQUE_OK) {
        tq_server_free(s);
        return status;
    }
    *result = s;
    return TOQUE_OK;
}

int tq_server_port(const tq_server *s) {
    return tq_http_port(s->http);
}

static void sleep_ms(int ms) {
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    (void)nanosleep(&t, NULL); /* a signal may cut it short */
}

/* Looks after connections for a moment. Returns how many requests run. */
static int watch(tq_server *s) {
    bool canceled = false;
    int running = tq_http_watch(s->http, &canceled);
    if (canceled) tq_engine_poke(s->engine);
    sleep_ms(WATCH_MS);
    return running;
}

toque_status tq_server_serve(tq_server *s, tq_model *model, const char *name, const atomic_bool *stop,
                             toque_error *err) {
    if (s->o.context > model->config.context)
        return TQ_FAIL(err, ELIMIT, "a context of %lld tokens was asked for; this model's is %d at most",
                       (long long)s->o.context, model->config.context);
    s->model = model;
    s->context = s->o.context ? (int)s->o.context : model->config.context;
    s->name = tq_strdup(s->mem, name);
    if (!s->name) return TQ_NOMEM(err);
    snprintf(s->fingerprint, sizeof s->fingerprint, "fp_%.12s", tq_model_hash(model));
    tq_engine_options o = {.slots = (int)s->o.slots, .queue = (int)s->o.queue, .cache_bytes = s->o.cache};
    TQ_TRY(tq_engine_new(&s->engine, model, &o, err));
    atomic_store(&s->ready, true);
    while (!atomic_load(stop)) (void)watch(s);
    tq_http_quiesce(s->http);
    double until = tq_now() + GRACE_SECONDS;
    while (tq_now() < until && watch(s)) {}
    tq_http_cancel_all(s->http);
    tq_engine_poke(s->engine);
    until = tq_now() + 1;
    while (tq_now() < until && watch(s)) { /* the errors that tell it are sent */
    }
    return TOQUE_OK;
}

void tq_server_free(tq_server *s) {
    if (!s) return;
    if (s->http) tq_http_quiesce(s->http);
    tq_engine_free(s->engine); /* ends what runs, so that nothing is suspended any more */
    tq_http_free(s->http);
    tq_keys_clear(&s->keys);
    tq_free(s->mem, s->name);
    tq_free(s->mem, s);
}
