/* toque models list | pull | rm: the model store. (models show: cmd_models_show.c) */
#include <string.h>

#include "base/progress.h"
#include "cli/cli.h"
#include "models/pull.h"
#include "models/store.h"

/* --- list -------------------------------------------------------------------------------------------------- */

static toque_status print_entry(tq_cli *cli, const tq_store_entry *e, int width, toque_error *err) {
    if (cli->common.json)
        return tq_cli_json(cli,
                           json_pack("{s:s, s:s, s:I, s:s, s:s, s:s}", "name", e->name, "path", e->path, "bytes",
                                     (json_int_t)e->size, "sha256", e->sha256, "date", e->date, "source", e->source),
                           err);
    printf("%-*s %9.1f MB  %-10.10s  %s\n", width, e->name, (double)e->size / 1e6, e->date, e->source);
    return TOQUE_OK;
}

static toque_status run_list(tq_cli *cli, void *options, toque_error *err) {
    (void)options;
    tq_store_list list;
    toque_status status = tq_store_list_all(&list, &cli->mem, err);
    int width = 4;
    for (size_t i = 0; status == TOQUE_OK && i < list.n; i++)
        if ((int)strlen(list.items[i].name) > width) width = (int)strlen(list.items[i].name);
    for (size_t i = 0; status == TOQUE_OK && i < list.n; i++) status = print_entry(cli, &list.items[i], width, err);
    if (status == TOQUE_OK && list.n == 0) tq_cli_note(cli, "the model store is empty; toque models pull adds one");
    tq_store_list_free(&list);
    return status;
}

const tq_command tq_cmd_models_list = {
    .name = "models list",
    .group = TQ_GROUP_MODEL,
    .summary = "List the models of the store",
    .usage = "[OPTIONS]",
    .about = "Name, size, date and source. --json prints a line a model: {\"name\", \"path\", \"bytes\", \"sha256\",\n"
             "\"date\", \"source\"}. The store is $TOQUE_HOME, else ~/.local/share/toque.",
    .example = "toque models list",
    .run = run_list,
};

/* --- pull -------------------------------------------------------------------------------------------------- */

typedef struct pull_options {
    const char *name, *sha256;
} pull_options;

#define AT(field) offsetof(pull_options, field)
static const tq_option pull_table[] = {{.key = "name",
                                        .type = TQ_OPT_TEXT,
                                        .offset = AT(name),
                                        .value = "N",
                                        .help = "the model's name in the store; without it, made from the file's name"},
                                       {.key = "sha256",
                                        .type = TQ_OPT_TEXT,
                                        .offset = AT(sha256),
                                        .value = "H",
                                        .help = "the SHA-256 that the file must have, 64 hexadecimal digits"},
                                       {0}};
static const tq_cli_table pull_tables[] = {{pull_table, 0}, {0}};
#undef AT

typedef struct transfer {
    tq_ctx *ctx;
    tq_progress bar;
    FILE *to;
    bool started;
} transfer;

static bool show_transfer(void *arg, uint64_t done, uint64_t total) {
    transfer *t = arg;
    if (!t->started) tq_progress_start(&t->bar, t->to, "pulling", "bytes", total, done);
    t->started = true;
    tq_progress_update(&t->bar, done, NULL);
    return !atomic_load(&t->ctx->canceled);
}

static toque_status run_pull(tq_cli *cli, void *given, toque_error *err) {
    const pull_options *o = given;
    transfer t = {.to = tq_cli_progress(cli)};
    TQ_TRY(tq_cli_ctx(cli, &t.ctx, err));
    tq_cli_catch_interrupt(cli);
    tq_pull pull = {
        .source = cli->set.positional[0], .name = o->name, .sha256 = o->sha256, .progress = show_transfer, .arg = &t};
    char *name = NULL;
    toque_status status = tq_pull_model(&name, &cli->mem, &pull, err);
    if (t.started) tq_progress_end(&t.bar, NULL);
    if (status == TOQUE_OK && cli->common.json)
        status = tq_cli_json(cli, json_pack("{s:s}", "name", name), err);
    else if (status == TOQUE_OK)
        printf("%s\n", name);
    tq_free(&cli->mem, name);
    return status;
}

const tq_command tq_cmd_models_pull = {
    .name = "models pull",
    .group = TQ_GROUP_MODEL,
    .summary = "Fetch a model into the store",
    .usage = "SRC [--name N] [--sha256 H]",
    .about = "SRC is hf:OWNER/REPO/FILE.gguf or OWNER/REPO:FILE.gguf (a Hugging Face Hub: $HF_ENDPOINT, $HF_TOKEN),\n"
             "an http:// or https:// address, or a file. An interrupted transfer goes on where it stopped. The file's\n"
             "hash is checked against --sha256, else against the one that the hub announces. Prints the name.",
    .example = "toque models pull hf:owner/repo/model-Q4_0.gguf --name small",
    .tables = pull_tables,
    .size = sizeof(pull_options),
    .min_args = 1,
    .max_args = 1,
    .network = true,
    .run = run_pull,
};

/* --- rm ---------------------------------------------------------------------------------------------------- */

static toque_status run_rm(tq_cli *cli, void *options, toque_error *err) {
    (void)options;
    for (size_t i = 0; i < cli->set.n_positional; i++) {
        TQ_TRY(tq_store_remove(&cli->mem, cli->set.positional[i], err));
        if (cli->common.json)
            TQ_TRY(tq_cli_json(cli, json_pack("{s:s}", "removed", cli->set.positional[i]), err));
        else
            tq_cli_note(cli, "removed %s", cli->set.positional[i]);
    }
    return TOQUE_OK;
}

const tq_command tq_cmd_models_rm = {
    .name = "models rm",
    .group = TQ_GROUP_MODEL,
    .summary = "Remove models from the store",
    .usage = "NAME...",
    .about = "--json prints {\"removed\": NAME} for each.",
    .example = "toque models rm small",
    .min_args = 1,
    .max_args = -1,
    .run = run_rm,
};
