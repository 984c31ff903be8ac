/* toque serve: an OpenAI-compatible server. */
#include <signal.h>
#include <string.h>

#include "cli/load.h"
#include "infer/embed.h"
#include "models/store.h"
#include "server/server.h"

typedef struct options {
    tq_cli_model model;
    tq_server_options server;
    const char *embedder;
} options;

#define AT(field) offsetof(options, field)
static const tq_option own[] = {{.key = "embedder",
                                 .type = TQ_OPT_TEXT,
                                 .offset = AT(embedder),
                                 .value = "E",
                                 .help = "an encoder for /v1/embeddings and /rerank: a file, a folder or a name in the "
                                         "model store"},
                                {0}};
static const tq_cli_table tables[] = {{own, 0}, {tq_server_table, AT(server)}, {tq_cli_model_table, AT(model)}, {0}};
#undef AT

/* A file's name without its folder and .gguf. */
static char *base_name(tq_cli *cli, const char *path) {
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    size_t from = n;
    while (from > 0 && path[from - 1] != '/') from--;
    if (n - from > 5 && strncmp(path + n - 5, ".gguf", 5) == 0) n -= 5;
    return tq_strndup(&cli->mem, path + from, n - from);
}

static toque_status open_embedder(tq_cli *cli, const options *o, tq_ctx *ctx, tq_model **model, tq_embedder **embedder,
                                  toque_error *err) {
    char *path;
    if (!o->embedder) return TOQUE_OK;
    TQ_TRY(tq_store_resolve(&path, &cli->mem, o->embedder, err));
    toque_status status = tq_model_open(model, ctx, path, err);
    tq_free(&cli->mem, path);
    return status == TOQUE_OK ? tq_embedder_new(embedder, *model, NULL, err) : status;
}

static atomic_bool reload; /* for the handler of SIGHUP */

static void on_hangup(int signal_number) {
    (void)signal_number;
    atomic_store(&reload, true);
}

static void catch_signals(tq_cli *cli) {
    struct sigaction hangup = {.sa_handler = on_hangup}, ignore = {.sa_handler = SIG_IGN};
    tq_cli_catch_interrupt(cli);
    (void)sigaction(SIGHUP, &hangup, NULL);
    (void)sigaction(SIGPIPE, &ignore, NULL); /* a client that goes away is no end of the program */
}

static toque_status serve(tq_cli *cli, const options *o, tq_server *server, toque_error *err) {
    tq_cli_loaded l;
    tq_model *encoder = NULL;
    tq_embedder *embedder = NULL;
    char *name = NULL, *embedder_name = NULL;
    toque_status status = tq_cli_load(&l, cli, &o->model, NULL, err);
    if (status != TOQUE_OK) {
        tq_server_free(server);
        return status;
    }
    catch_signals(cli);
    TQ_GO(open_embedder(cli, o, l.ctx, &encoder, &embedder, err));
    name = o->server.name ? tq_strdup(&cli->mem, o->server.name) : base_name(cli, o->model.model);
    embedder_name = base_name(cli, o->embedder ? o->embedder : "");
    if (!name || !embedder_name) {
        status = TQ_NOMEM(err);
        goto done;
    }
    status = tq_server_serve(
        server, &(tq_served){.model = l.model, .name = name, .embedder = embedder, .embedder_name = embedder_name},
        &l.ctx->canceled, &reload, err);
done:
    tq_server_free(server); /* before the models */
    tq_embedder_free(embedder);
    tq_model_close(encoder);
    tq_free(&cli->mem, name);
    tq_free(&cli->mem, embedder_name);
    tq_cli_unload(&l);
    return status;
}

static toque_status run(tq_cli *cli, void *given, toque_error *err) {
    const options *o = given;
    tq_server *server;
    TQ_TRY(tq_cli_need_model(cli, &o->model, err));
    TQ_TRY(tq_server_listen(&server, &cli->mem, &o->server, err));
    bool six = strchr(o->server.host, ':');
    tq_cli_note(cli, "listening at http://%s%s%s:%d", six ? "[" : "", o->server.host, six ? "]" : "",
                tq_server_port(server));
    return serve(cli, o, server, err);
}

const tq_command tq_cmd_serve = {
    .name = "serve",
    .group = TQ_GROUP_DEPLOY,
    .summary = "Serve a model to OpenAI-compatible clients",
    .usage = "-m M [--host ADDRESS] [--port N] [--api-key-file F] [--context N] [--slots N] ...",
    .about = "Clients find /v1/chat/completions, /v1/models and more (docs/serve.md). Only this machine can reach the\n"
             "server unless --host says otherwise. SIGTERM and Ctrl-C let running answers finish for some seconds.",
    .example = "toque serve -m model.gguf --port 8080\n"
               "toque serve -m model.gguf --host 0.0.0.0 --api-key-file keys.txt",
    .tables = tables,
    .size = sizeof(options),
    .run = run,
};
