/* toque score: the log-probability of every row's targets. */
#include "cli/data_options.h"
#include "cli/load.h"
#include "infer/score.h"

typedef struct options {
    tq_cli_model model;
    tq_cli_adapters adapters;
    tq_cli_data data;
    int train_on;
    bool tokens;
} options;

#define AT(field) offsetof(options, field)
static const tq_option own[] = {
    {.key = "tokens",
     .type = TQ_OPT_FLAG,
     .offset = AT(tokens),
     .fallback = "off",
     .help = "also print the log-probability of each target token"},
    {.key = "train_on",
     .type = TQ_OPT_CHOICE,
     .offset = AT(train_on),
     .fallback = "assistant",
     .choices = "assistant|last|all",
     .help = "which tokens are targets: assistant turns, the last of them, or all; text rows: all"},
    {0}};
static const tq_cli_table tables[] = {{own, 0},
                                      {tq_cli_model_table, AT(model)},
                                      {tq_cli_adapters_table, AT(adapters)},
                                      {tq_cli_data_table, AT(data)},
                                      {0}};
#undef AT

enum { BATCH = 64 }; /* examples scored before their rows are printed */

/* A row's result while its examples come in: a row of a rewriting template is several of them. */
typedef struct row_result {
    uint32_t row;
    bool open;
    double sum;
    json_int_t tokens;
    json_t *values; /* NULL unless --tokens */
} row_result;

static toque_status print_row(tq_cli *cli, row_result *r, toque_error *err) {
    if (!r->open) return TOQUE_OK;
    r->open = false;
    json_t *line = json_pack("{s:f, s:I}", "logprob", r->sum, "tokens", r->tokens);
    if (r->values && (!line || json_object_set_new(line, "token_logprobs", r->values))) {
        json_decref(line);
        line = NULL;
    }
    r->values = NULL;
    return tq_cli_json(cli, line, err);
}

static toque_status add_example(tq_cli *cli, const options *o, row_result *r, const tq_example *e,
                                const tq_score_item *item, toque_error *err) {
    if (!r->open || r->row != e->row) {
        TQ_TRY(print_row(cli, r, err));
        *r = (row_result){.row = e->row, .open = true, .values = o->tokens ? json_array() : NULL};
        if (o->tokens && !r->values) return TQ_NOMEM(err);
    }
    r->sum += item->sum;
    r->tokens += item->n_targets;
    for (int i = 1; r->values && i < e->n; i++)
        if (e->target[i] && json_array_append_new(r->values, json_real((double)item->logp[i]))) return TQ_NOMEM(err);
    return TOQUE_OK;
}

/* Scores examples [first, first + n) and hands them to their rows. values [BATCH][longest] or NULL. */
static toque_status score_batch(tq_cli *cli, const options *o, tq_scorer *scorer, const tq_dataset *set, size_t first,
                                size_t n, const tq_hats *hats, float *values, row_result *r, toque_error *err) {
    tq_score_item items[BATCH];
    for (size_t i = 0; i < n; i++) {
        const tq_example *e = &set->examples[first + i];
        items[i] = (tq_score_item){.tokens = e->tokens,
                                   .target = e->target,
                                   .n = e->n,
                                   .hats = hats,
                                   .logp = values ? values + i * (size_t)set->longest : NULL};
    }
    TQ_TRY(tq_score(scorer, items, n, err));
    for (size_t i = 0; i < n; i++) TQ_TRY(add_example(cli, o, r, &set->examples[first + i], &items[i], err));
    return TOQUE_OK;
}

static toque_status score_all(tq_cli *cli, const options *o, tq_cli_loaded *l, const tq_dataset *set,
                              toque_error *err) {
    tq_scorer *scorer = NULL;
    float *values = NULL;
    row_result r = {0};
    toque_status status;
    TQ_GO(tq_scorer_new(&scorer, l->model, l->max_rank, err));
    if (o->tokens && !(values = TQ_NEW_ARRAY(&l->ctx->mem, float, (size_t)BATCH *(size_t)set->longest))) {
        status = TQ_NOMEM(err);
        goto done;
    }
    for (size_t i = 0; i < set->n; i += BATCH) {
        size_t n = set->n - i < BATCH ? set->n - i : BATCH;
        TQ_GO(score_batch(cli, o, scorer, set, i, n, tq_cli_hats(l), values, &r, err));
    }
    status = print_row(cli, &r, err);
done:
    json_decref(r.values);
    tq_free(&l->ctx->mem, values);
    tq_scorer_free(scorer);
    return status;
}

static toque_status run(tq_cli *cli, void *given, toque_error *err) {
    const options *o = given;
    tq_cli_loaded l;
    TQ_TRY(tq_cli_load(&l, cli, &o->model, &o->adapters, err));
    tq_cli_catch_interrupt(cli);
    tq_data_options d = tq_cli_data_options(cli, &o->data);
    d.train_on = (tq_train_on)o->train_on;
    d.max_length = tq_model_context(l.model, tq_cli_hats(&l));
    d.allow_no_target = true;
    tq_dataset set = {.mem = &l.ctx->mem};
    toque_status status;
    TQ_GO(tq_dataset_load(&set, l.model, &d, err));
    if (set.n_too_long) /* a line a row is promised */
        status = TQ_FAIL(err, ELIMIT,
                         "%zu of %zu rows are longer than this model's context of %d tokens (the longest has %d); "
                         "shorten or remove them",
                         set.n_too_long, set.n_rows, d.max_length, set.longest);
    else
        status = score_all(cli, o, &l, &set, err);
done:
    tq_dataset_clear(&set);
    tq_cli_unload(&l);
    return status;
}

const tq_command tq_cmd_score = {
    .name = "score",
    .group = TQ_GROUP_TEST,
    .summary = "Print the log-probability that a model gives to each row's answer",
    .usage = "-m M [-a A[:SCALE]]... DATA... [--tokens]",
    .about = "A JSON line a row, in the rows' order: {\"logprob\": sum over the target tokens, \"tokens\": how many};\n"
             "with --tokens also \"token_logprobs\". Rows are read as toque tune reads them.",
    .example = "toque score -m model.gguf test.jsonl",
    .tables = tables,
    .size = sizeof(options),
    .min_args = 1,
    .max_args = -1,
    .run = run,
};
