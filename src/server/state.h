/* What the server's routes share. */
#ifndef TQ_SERVER_STATE_H
#define TQ_SERVER_STATE_H

#include "model/adapter.h"
#include "server/audit.h"
#include "server/engine.h"
#include "server/fields.h"
#include "server/http.h"
#include "server/keys.h"
#include "server/metrics.h"
#include "server/server.h"
#include "server/wardrobe.h"

struct tq_server {
    tq_mem *mem;
    tq_server_options o;
    tq_http *http;
    tq_keys keys;
    tq_audit audit;
    char *cert, *secret; /* PEM, or NULL */
    tq_model *model;
    tq_wardrobe wardrobe;
    struct tq_embedder *embedder; /* NULL: none */
    const char *embedder_name;
    tq_metrics metrics;
    tq_engine *engine;
    char *name; /* of the base, for clients */
    char fingerprint[16];
    int context;    /* tokens of prompt and answer together */
    int64_t opened; /* seconds since 1970, "created" of models */
    atomic_bool ready;
};

/* The server behind an exchange. */
static inline tq_server *tq_server_of(tq_exchange *x) {
    return x->user;
}

#define X(method, path, open, direct, name) void tq_route_##name(tq_exchange *x, json_t *body);
#include "server/routes.def"
#undef X

#endif
