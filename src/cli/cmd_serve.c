/* toque serve: an OpenAI-compatible server. */
#include <string.h>

#include "cli/load.h"
#include "server/server.h"

typedef struct options {
    tq_cli_model model;
    tq_server_options server;
} options;

#define AT(field) offsetof(options, field)
static const tq_cli_table tables[] = {{tq_server_table, AT(server)}, {tq_cli_model_table, AT(model)}, {0}};
#undef AT

/* The name that clients use: --name, or the file's without its folder and .gguf. */
static char *name_of(tq_cli *cli, const options *o) {
    if (o->server.name) return tq_strdup(&cli->mem, o->server.name);
    const char *path = o->model.model;
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    size_t from = n;
    while (from > 0 && path[from - 1] != '/') from--;
    if (n - from > 5 && strncmp(path + n - 5, ".gguf", 5) == 0) n -= 5;
    return tq_strndup(&cli->mem, path + from, n - from);
}

static toque_status serve(tq_cli *cli, const options *o, tq_server *server, toque_error *err) {
    tq_cli_loaded l;
    TQ_TRY(tq_cli_load(&l, cli, &o->model, NULL, err));
    tq_cli_catch_interrupt(cli);
    char *name = name_of(cli, o);
    toque_status status = TQ_NOMEM(err);
    if (name) status = tq_server_serve(server, l.model, name, &l.ctx->canceled, err);
    tq_server_free(server); /* before the model */
    tq_free(&cli->mem, name);
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
