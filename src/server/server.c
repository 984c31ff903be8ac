/* Opening, serving and stopping. See server.h. */
#include "server/server.h"

#include <arpa/inet.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/io.h"
#include "server/state.h"

enum { WATCH_MS = 100, MAX_PEM = 1 << 20 };
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
    {.key = "adapter",
     .letter = 'a',
     .type = TQ_OPT_LIST,
     .offset = AT(adapters),
     .value = "[NAME=]A[:SCALE]",
     .help = "an adapter that requests may wear, as model BASE:NAME; may be repeated"},
    {.key = "adapter_dir",
     .type = TQ_OPT_LIST,
     .offset = AT(adapter_dirs),
     .value = "DIR",
     .help = "clients may load adapters from this folder; may be repeated"},
    {.key = "cors",
     .type = TQ_OPT_LIST,
     .offset = AT(cors),
     .value = "ORIGIN",
     .help = "pages of this origin (https://example.org, or *) may use the server; may be repeated"},
    {.key = "tls_cert",
     .type = TQ_OPT_TEXT,
     .offset = AT(tls_cert),
     .value = "F",
     .help = "certificate chain (PEM): the server speaks HTTPS"},
    {.key = "tls_key",
     .type = TQ_OPT_TEXT,
     .offset = AT(tls_key),
     .value = "F",
     .help = "the certificate's private key (PEM)"},
    {.key = "audit",
     .type = TQ_OPT_TEXT,
     .offset = AT(audit),
     .value = "F",
     .help = "append a line of JSON for each request: time, key's name, path, status, seconds; no texts"},
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

static const char *allowed(void *user, const char *key) {
    const tq_server *s = user;
    return s->keys.n == 0 ? "" : tq_keys_find(&s->keys, key);
}

static bool origin_listed(void *user, const char *origin) {
    const tq_option_list *list = &((tq_server *)user)->o.cors;
    for (size_t i = 0; i < list->len; i++)
        if (strcmp(list->items[i], "*") == 0 || strcmp(list->items[i], origin) == 0) return true;
    return false;
}

static void completed(void *user, tq_exchange *x) {
    tq_audit_write(&((tq_server *)user)->audit, x);
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

static toque_status open_files(tq_server *s, toque_error *err) {
    size_t n;
    const tq_server_options *o = &s->o;
    TQ_TRY(tq_audit_open(&s->audit, o->audit, err));
    if (!o->tls_cert && !o->tls_key) return TOQUE_OK;
    if (!o->tls_cert || !o->tls_key) return TQ_FAIL(err, EINVAL, "--tls-cert and --tls-key go together");
    TQ_TRY(tq_read_file(&s->cert, &n, s->mem, o->tls_cert, MAX_PEM, err));
    return tq_read_file(&s->secret, &n, s->mem, o->tls_key, MAX_PEM, err);
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
    s->audit.file = -1;
    s->opened = (int64_t)time(NULL);
    tq_metrics_init(&s->metrics);
    toque_status status = open_files(s, err);
    tq_http_options h = {.local = is_local(o->host),
                         .cert = s->cert,
                         .secret = s->secret,
                         .origin = origin_listed,
                         .completed = completed,
                         .host = o->host,
                         .port = (int)o->port,
                         .max_connections = (int)o->max_connections,
                         .timeout = (int)o->timeout,
                         .max_body = o->max_body,
                         .routes = routes,
                         .allowed = allowed,
                         .ready = ready,
                         .user = s};
    if (status == TOQUE_OK && o->api_key_file) status = tq_keys_read(&s->keys, mem, o->api_key_file, err);
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

/* "[NAME=]A[:SCALE]". */
static toque_status load_adapter(tq_server *s, const char *text, bool replace, toque_error *err) {
    char name[128] = "", path[PATH_MAX];
    float scale = 1;
    const char *equals = strchr(text, '='), *colon = strrchr(text, ':'), *from = text;
    if (equals && memchr(text, '/', (size_t)(equals - text)) == NULL) {
        snprintf(name, sizeof name, "%.*s", (int)(equals - text), text);
        from = equals + 1;
    }
    size_t n = strlen(from);
    if (colon && colon > from && colon[1] && !colon[1 + strspn(colon + 1, "+-.eE0123456789")]) {
        scale = strtof(colon + 1, NULL);
        n = (size_t)(colon - from);
    }
    if (n >= sizeof path) return TQ_FAIL(err, EINVAL, "the path of an adapter is too long");
    memcpy(path, from, n);
    path[n] = 0;
    while (n > 1 && path[n - 1] == '/') path[--n] = 0;
    const char *slash = strrchr(path, '/');
    if (!name[0]) snprintf(name, sizeof name, "%s", slash ? slash + 1 : path);
    return tq_wardrobe_load(&s->wardrobe, name, path, scale, replace, err);
}

static toque_status load_adapters(tq_server *s, bool replace, toque_error *err) {
    for (size_t i = 0; i < s->o.adapters.len; i++) TQ_TRY(load_adapter(s, s->o.adapters.items[i], replace, err));
    return TOQUE_OK;
}

/* Reading adapters anew, on the engine's thread. */
typedef struct reload_call {
    tq_call call;
    tq_server *s;
    toque_status status;
    toque_error err;
    atomic_bool done;
} reload_call;

static bool reload_step(void *arg) {
    reload_call *r = arg;
    r->status = load_adapters(r->s, true, &r->err);
    if (r->status == TOQUE_OK)
        r->status = tq_engine_set_rank(r->s->engine, tq_wardrobe_max_rank(&r->s->wardrobe), &r->err);
    atomic_store(&r->done, true);
    return false;
}

static void reload_all(tq_server *s) {
    reload_call r = {.s = s, .call = {.step = reload_step, .arg = &r}};
    if (tq_engine_call(s->engine, &r.call, &r.err) != TOQUE_OK) return;
    while (!atomic_load(&r.done)) (void)watch(s);
    if (r.status == TOQUE_OK)
        tq_log(s->model->ctx, TQ_INFO, "adapters were read again");
    else
        tq_log(s->model->ctx, TQ_WARNING, "adapters stay as they were: %s", r.err.message);
}

static toque_status start(tq_server *s, const tq_served *what, toque_error *err) {
    tq_model *model = what->model;
    if (s->o.context > model->config.context)
        return TQ_FAIL(err, ELIMIT, "a context of %lld tokens was asked for; this model's is %d at most",
                       (long long)s->o.context, model->config.context);
    s->model = model;
    s->context = s->o.context ? (int)s->o.context : model->config.context;
    s->name = tq_strdup(s->mem, what->name);
    s->embedder = what->embedder;
    s->embedder_name = what->embedder_name;
    if (!s->name) return TQ_NOMEM(err);
    snprintf(s->fingerprint, sizeof s->fingerprint, "fp_%.12s", tq_model_hash(model));
    TQ_TRY(tq_wardrobe_init(&s->wardrobe, s->mem, model, s->name, err));
    TQ_TRY(load_adapters(s, false, err));
    tq_engine_options o = {.slots = (int)s->o.slots,
                           .queue = (int)s->o.queue,
                           .cache_bytes = s->o.cache,
                           .max_rank = tq_wardrobe_max_rank(&s->wardrobe)};
    return tq_engine_new(&s->engine, model, &o, err);
}

toque_status tq_server_serve(tq_server *s, const tq_served *what, const atomic_bool *stop, atomic_bool *reload,
                             toque_error *err) {
    TQ_TRY(start(s, what, err));
    atomic_store(&s->ready, true);
    while (!atomic_load(stop)) {
        (void)watch(s);
        if (atomic_exchange(reload, false)) reload_all(s);
    }
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
    tq_wardrobe_clear(&s->wardrobe);
    tq_metrics_clear(&s->metrics);
    tq_keys_clear(&s->keys);
    tq_audit_close(&s->audit);
    if (s->secret) OPENSSL_cleanse(s->secret, strlen(s->secret));
    tq_free(s->mem, s->secret);
    tq_free(s->mem, s->cert);
    tq_free(s->mem, s->name);
    tq_free(s->mem, s);
}
