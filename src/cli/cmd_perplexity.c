/* toque perplexity: how well a model predicts a text. */
#include "base/io.h"
#include "base/progress.h"
#include "cli/load.h"
#include "infer/score.h"

typedef struct options {
    tq_cli_model model;
    tq_cli_adapters adapters;
    int64_t context, stride;
} options;

enum { DEFAULT_CONTEXT = 1024, MAX_TEXT = 1 << 30 };

#define AT(field) offsetof(options, field)
static const tq_option own[] = {{.key = "context",
                                 .type = TQ_OPT_INT,
                                 .offset = AT(context),
                                 .min = 2,
                                 .max = 1e9,
                                 .help = "tokens in a window; without it, 1024 or the model's context if that is less"},
                                {.key = "stride",
                                 .type = TQ_OPT_INT,
                                 .offset = AT(stride),
                                 .min = 1,
                                 .max = 1e9,
                                 .help = "tokens from one window's begin to the next one's; without it, the window"},
                                {0}};
static const tq_cli_table tables[] = {
    {own, 0}, {tq_cli_model_table, AT(model)}, {tq_cli_adapters_table, AT(adapters)}, {0}};
#undef AT

static void show_progress(void *arg, size_t done) {
    tq_progress_update(arg, done, NULL);
}

static toque_status report(tq_cli *cli, const tq_perplexity *p, int context, int stride, toque_error *err) {
    if (cli->common.json)
        return tq_cli_json(
            cli, json_pack("{s:I, s:f, s:f}", "tokens", (json_int_t)p->tokens, "nll", p->nll, "perplexity", p->value),
            err);
    tq_cli_note(cli, "windows of %d tokens every %d", context, stride);
    printf("perplexity %.6g (nll %.6f over %zu tokens)\n", p->value, p->nll, p->tokens);
    return TOQUE_OK;
}

static toque_status run(tq_cli *cli, void *given, toque_error *err) {
    const options *o = given;
    tq_cli_loaded l;
    TQ_TRY(tq_cli_load(&l, cli, &o->model, &o->adapters, err));
    tq_cli_catch_interrupt(cli);
    int most = tq_model_context(l.model, tq_cli_hats(&l));
    int64_t context = o->context ? o->context : most < DEFAULT_CONTEXT ? most : DEFAULT_CONTEXT;
    int64_t stride = o->stride ? o->stride : context;
    char *text = NULL;
    size_t n;
    tq_tokens list = {.mem = &l.ctx->mem};
    tq_scorer *scorer = NULL;
    tq_perplexity result;
    tq_progress progress;
    toque_status status;
    TQ_GO(tq_read_file(&text, &n, &cli->mem, cli->set.positional[0], MAX_TEXT, err));
    TQ_GO(tq_tokenize(l.model->tokenizer, text, n, true, false, &list, err));
    TQ_GO(tq_scorer_new(&scorer, l.model, l.max_rank, err));
    tq_progress_start(&progress, tq_cli_progress(cli), "perplexity", "tokens", list.len, 0);
    status = tq_perplexity_run(scorer, list.ids, list.len, (int)context, (int)stride, tq_cli_hats(&l), show_progress,
                               &progress, &result, err);
    tq_progress_end(&progress, NULL);
    if (status == TOQUE_OK) status = report(cli, &result, (int)context, (int)stride, err);
done:
    tq_scorer_free(scorer);
    tq_tokens_clear(&list);
    tq_free(&cli->mem, text);
    tq_cli_unload(&l);
    return status;
}

const tq_command tq_cmd_perplexity = {
    .name = "perplexity",
    .group = TQ_GROUP_TEST,
    .summary = "Measure how well a model predicts a text",
    .usage = "-m M [-a A[:SCALE]]... FILE [--context N] [--stride N]",
    .about =
        "The text is cut into windows of --context tokens, one every --stride tokens, each run on its own. A token\n"
        "is scored once, in the first window that holds it, and never as a window's first. The text's control\n"
        "tokens are plain text; BOS stands in front if the tokenizer adds it. nll is the mean per scored token.\n"
        "--json prints {\"tokens\", \"nll\", \"perplexity\"}.",
    .example = "toque perplexity -m model.gguf book.txt --context 512 --stride 256",
    .tables = tables,
    .size = sizeof(options),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
