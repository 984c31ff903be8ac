/* The server: an OpenAI-compatible HTTP interface over one model, its adapters and, if given, an encoder.
 *
 * Threads: libmicrohttpd's (parsing, routes, writing), the engine's (all work on the model), and the caller's, which
 * watches suspended connections for hang-up and deadlines. No outbound connection is ever made.
 */
#ifndef TQ_SERVER_SERVER_H
#define TQ_SERVER_SERVER_H

#include "base/option.h"
#include "kernels/context.h"

typedef struct tq_server_options {
    const char *host, *name, *api_key_file, *audit, *tls_cert, *tls_key;
    tq_option_list adapters, adapter_dirs, cors;
    int64_t port, context, slots, queue, max_connections, timeout;
    uint64_t cache, max_body;
    bool public_without_key;
    double temperature;
} tq_server_options;
extern const tq_option tq_server_table[];

struct tq_model;
struct tq_embedder;
/* What is served. */
typedef struct tq_served {
    struct tq_model *model;
    const char *name;             /* of the model, for clients */
    struct tq_embedder *embedder; /* NULL: none */
    const char *embedder_name;
} tq_served;
typedef struct tq_server tq_server;
/* Listens; every route but /health answers 503 until tq_server_serve. EINVAL for a public address without keys. */
toque_status tq_server_listen(tq_server **server, tq_mem *mem, const tq_server_options *o, toque_error *err) TQ_MUST;
int tq_server_port(const tq_server *s);
/* Serves until *stop: then no request is taken, those that run may finish within some seconds, the rest is canceled.
 * When *reload turns true, the adapters of the command line are read again. Model and embedder are used by the engine
 * alone meanwhile.
 */
toque_status tq_server_serve(tq_server *s, const tq_served *what, const atomic_bool *stop, atomic_bool *reload,
                             toque_error *err) TQ_MUST;
void tq_server_free(tq_server *s);

#endif
