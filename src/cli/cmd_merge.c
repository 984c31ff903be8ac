/* toque merge: a base and its adapters as one model file, and how much the file differs from wearing them. */
#include <math.h>
#include <string.h>

#include "cli/load.h"
#include "infer/score.h"
#include "model/merge.h"

typedef struct options {
    tq_cli_model model;
    tq_cli_adapters adapters;
    const char *output;
    int type;
    bool overwrite;
} options;

#define AT(field) offsetof(options, field)
static const tq_option own[] = {
    {.key = "output",
     .letter = 'o',
     .type = TQ_OPT_TEXT,
     .offset = AT(output),
     .value = "OUT",
     .help = "file to write"},
    {.key = "type",
     .type = TQ_OPT_CHOICE,
     .offset = AT(type),
     .fallback = "f16",
     .choices = "f32|f16|bf16|q8_0",
     .help = "of the matrices; vectors stay f32"},
    {.key = "overwrite", .type = TQ_OPT_FLAG, .offset = AT(overwrite), .fallback = "off", .help = "replace OUT"},
    {0}};
static const tq_cli_table tables[] = {
    {own, 0}, {tq_cli_model_table, AT(model)}, {tq_cli_adapters_table, AT(adapters)}, {0}};
#undef AT

/* Texts of several kinds, on which the merged file is compared with what it was made from. */
static const char *const texts[] = {
    "The river rises in the mountains and reaches the sea after two hundred miles, past three towns and a mill.",
    "def area(width, height):\n    return width * height\n",
    "Question: which of these is a fruit, a stone or an apple? Answer: an apple.",
    "invoice 4711, paid on 12 March, 3 items, total 59.90",
};
enum { N_TEXTS = sizeof texts / sizeof texts[0] };

typedef struct difference {
    double mean, most; /* of |log p - log p'| over tokens */
    size_t tokens;
} difference;

static toque_status score(tq_model *model, int max_rank, const tq_hats *hats, const tq_tokens *lists, float **logp,
                          toque_error *err) {
    tq_scorer *scorer;
    tq_score_item items[N_TEXTS];
    TQ_TRY(tq_scorer_new(&scorer, model, max_rank, err));
    for (int i = 0; i < N_TEXTS; i++)
        items[i] = (tq_score_item){.tokens = lists[i].ids, .n = (int)lists[i].len, .hats = hats, .logp = logp[i]};
    toque_status status = tq_score(scorer, items, N_TEXTS, err);
    tq_scorer_free(scorer);
    return status;
}

static toque_status compare(const tq_cli_loaded *l, const char *path, difference *d, toque_error *err) {
    tq_tokens lists[N_TEXTS];
    float *before[N_TEXTS] = {0}, *after[N_TEXTS] = {0};
    tq_mem *mem = &l->ctx->mem;
    tq_model *merged = NULL;
    toque_status status = TOQUE_OK;
    for (int i = 0; i < N_TEXTS; i++) lists[i] = (tq_tokens){.mem = mem};
    TQ_GO(tq_model_open(&merged, l->ctx, path, err));
    for (int i = 0; i < N_TEXTS; i++) {
        TQ_GO(tq_tokenize(l->model->tokenizer, texts[i], strlen(texts[i]), true, false, &lists[i], err));
        before[i] = TQ_NEW_ARRAY(mem, float, lists[i].len + 1);
        after[i] = TQ_NEW_ARRAY(mem, float, lists[i].len + 1);
        if (!before[i] || !after[i]) TQ_GO(TQ_NOMEM(err));
    }
    TQ_GO(score(l->model, l->max_rank, tq_cli_hats(l), lists, before, err));
    TQ_GO(score(merged, 0, NULL, lists, after, err));
    *d = (difference){0};
    for (int i = 0; i < N_TEXTS; i++)
        for (size_t t = 1; t < lists[i].len; t++, d->tokens++) {
            double off = fabs((double)before[i][t] - (double)after[i][t]);
            d->mean += off;
            if (off > d->most) d->most = off;
        }
    if (d->tokens) d->mean /= (double)d->tokens;
done:
    for (int i = 0; i < N_TEXTS; i++) {
        tq_tokens_clear(&lists[i]);
        tq_free(mem, before[i]);
        tq_free(mem, after[i]);
    }
    tq_model_close(merged);
    return status;
}

static toque_status run(tq_cli *cli, void *given, toque_error *err) {
    const options *o = given;
    static const tq_type types[] = {TQ_F32, TQ_F16, TQ_BF16, TQ_Q8_0};
    if (!o->output) return tq_cli_usage(cli, err, "merge needs -o OUT, the file to write");
    if (!o->adapters.adapters.len) return tq_cli_usage(cli, err, "merge needs an adapter: -a A[:SCALE]");
    if (tq_path_exists(o->output) && !o->overwrite)
        return TQ_FAIL(err, EINVAL, "%s exists: choose another name, or give --overwrite", o->output);
    tq_cli_loaded l;
    const tq_head *head;
    TQ_TRY(tq_cli_load_with_head(&l, cli, &o->model, &o->adapters, &head, err));
    tq_cli_catch_interrupt(cli);
    difference d;
    toque_status status;
    if (head)
        TQ_GO(TQ_FAIL(err, EUNSUPPORTED,
                      "an adapter has a head (%s), and a model file has no place for one: keep base and adapter, and "
                      "answer with toque predict -a",
                      tq_head_kind_name(head->kind)));
    TQ_GO(tq_merge(l.model, tq_cli_hats(&l), types[o->type], o->output, err));
    TQ_GO(compare(&l, o->output, &d, err));
    if (cli->common.json) {
        status = tq_cli_json(cli,
                             json_pack("{s:s, s:I, s:f, s:f}", "file", o->output, "tokens", (json_int_t)d.tokens,
                                       "mean_difference", d.mean, "largest_difference", d.most),
                             err);
    } else {
        printf("%s: log-probabilities differ from the base with its adapter by %.2g on average, %.2g at most (%zu "
               "tokens of "
               "%d texts)\n",
               o->output, d.mean, d.most, d.tokens, (int)N_TEXTS);
    }
done:
    tq_cli_unload(&l);
    return status;
}

const tq_command tq_cmd_merge = {
    .name = "merge",
    .group = TQ_GROUP_DEPLOY,
    .summary = "Make one model file of a base and its adapters",
    .usage = "-m M -a A[:SCALE]... -o OUT [--type f16]",
    .about =
        "Weights are merged in f32 from the dequantized base and written as GGUF with the base's tokenizer, template "
        "and\n"
        "metadata. Then a few texts are scored with the file and with base and adapter, and the difference of their\n"
        "log-probabilities is told. Virtual tokens (prefix) and heads cannot be merged. --json prints {\"file\",\n"
        "\"tokens\", \"mean_difference\", \"largest_difference\"}.",
    .example = "toque merge -m model.gguf -a run -o merged.gguf",
    .tables = tables,
    .size = sizeof(options),
    .run = run,
};
