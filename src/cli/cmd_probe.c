/* toque probe: what a linear model of words, or of embeddings, has right on the same rows as `toque eval`. */
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/io.h"
#include "cli/answers.h"
#include "cli/data_options.h"
#include "cli/load.h"
#include "eval/metrics.h"
#include "eval/probe.h"

typedef struct options {
    tq_cli_model model;
    tq_cli_data data;
    tq_option_list train;
    int features; /* 0: tfidf, 1: embed */
    const char *out, *against;
} options;

#define AT(field) offsetof(options, field)
static const tq_option own[] = {{.key = "data",
                                 .letter = 'd',
                                 .type = TQ_OPT_LIST,
                                 .offset = AT(train),
                                 .value = "TRAIN",
                                 .help = "rows with answers to fit on; may be repeated"},
                                {.key = "features",
                                 .type = TQ_OPT_CHOICE,
                                 .offset = AT(features),
                                 .fallback = "tfidf",
                                 .choices = "tfidf|embed",
                                 .help = "words and groups of characters, or the embeddings of the encoder -m"},
                                {.key = "out",
                                 .letter = 'o',
                                 .type = TQ_OPT_TEXT,
                                 .offset = AT(out),
                                 .value = "FILE",
                                 .help = "write each row's answer (JSON lines), as eval does"},
                                {.key = "against",
                                 .type = TQ_OPT_TEXT,
                                 .offset = AT(against),
                                 .value = "FILE",
                                 .help = "compare, row by row, with the --out of eval or another probe"},
                                {0}};
static const tq_cli_table tables[] = {{own, 0}, {tq_cli_model_table, AT(model)}, {tq_cli_data_table, AT(data)}, {0}};
#undef AT

typedef struct job {
    tq_cli *cli;
    const options *o;
    tq_cli_loaded loaded;
    tq_embedder *embedder;
    tq_probe_rows train, test;
    tq_probe probe;
    uint32_t *truth, *answer; /* [test.n] */
    char (*ids)[17];          /* [test.n] */
    size_t cap;
    size_t right, most, unknown; /* most: rows of the training rows' commonest label; unknown: of a label they lack */
    double f1;
    tq_answers answers;
} job;

static toque_status read_rows(job *j, tq_probe_rows *to, const char *path, bool test, toque_error *err) {
    tq_data_options data = tq_cli_data_options(j->cli, &j->o->data);
    tq_rows *rows;
    tq_row row;
    bool more = true;
    size_t before = to->n;
    TQ_TRY(tq_rows_open(&rows, to->mem, path, &data, err));
    toque_status status = TOQUE_OK;
    for (;;) {
        TQ_GO(tq_rows_next(rows, &row, &more, err));
        if (!more) break;
        if (test) {
            char id[65];
            if (!TQ_GROW(to->mem, j->ids, to->n, j->cap)) TQ_GO(TQ_NOMEM(err));
            TQ_GO(tq_answers_row_id(to->mem, &row, id, err));
            memcpy(j->ids[to->n], id, sizeof j->ids[0]);
        }
        TQ_GO(tq_probe_rows_add(to, &row, err));
    }
    if (to->n == before) status = TQ_FAIL(err, EFORMAT, "there are no rows");
done:
    if (status != TOQUE_OK) tq_error_prefix(err, status, "%s", path);
    tq_rows_close(rows);
    return status;
}

/* Rows of the test whose truth is the commonest label of the training rows. */
static toque_status count_majority(job *j, toque_error *err) {
    tq_probe *p = &j->probe;
    size_t *count = TQ_NEW_ARRAY(&j->cli->mem, size_t, p->n_labels), best = 0;
    if (!count) return TQ_NOMEM(err);
    for (size_t i = 0; i < j->train.n; i++) count[tq_probe_label(p, j->train.answers[i])]++;
    for (size_t k = 1; k < p->n_labels; k++)
        if (count[k] > count[best]) best = k;
    for (size_t i = 0; i < j->test.n; i++) j->most += j->truth[i] == best;
    tq_free(&j->cli->mem, count);
    return TOQUE_OK;
}

static toque_status measure(job *j, toque_error *err) {
    tq_probe *p = &j->probe;
    tq_mem *mem = &j->cli->mem;
    TQ_TRY(tq_probe_fit(p, &j->train, mem, j->embedder, &j->cli->ctx->canceled, err));
    j->truth = TQ_NEW_ARRAY(mem, uint32_t, j->test.n);
    j->answer = TQ_NEW_ARRAY(mem, uint32_t, j->test.n);
    if (!j->truth || !j->answer) return TQ_NOMEM(err);
    TQ_TRY(tq_probe_answer(p, &j->test, j->answer, err));
    for (size_t i = 0; i < j->test.n; i++) {
        j->truth[i] = tq_probe_label(p, j->test.answers[i]);
        j->right += j->truth[i] == j->answer[i];
        j->unknown += j->truth[i] == p->n_labels;
        TQ_TRY(tq_answers_put(&j->answers, j->ids[i], j->test.answers[i], p->labels[j->answer[i]],
                              j->truth[i] == j->answer[i], NULL, err));
    }
    TQ_TRY(count_majority(j, err));
    return tq_macro_f1(mem, j->truth, j->answer, j->test.n, p->n_labels, &j->f1, err);
}

static toque_status report(job *j, double seconds, toque_error *err) {
    const tq_probe *p = &j->probe;
    size_t n = j->test.n;
    const char *against = j->o->against;
    if (against) TQ_TRY(tq_answers_compare(&j->answers, against, err));
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double peak = (double)usage.ru_maxrss * 1024 / 1e6;
    if (p->cut)
        tq_cli_warn(j->cli, "%zu texts were longer than the encoder takes: their first %d tokens were embedded", p->cut,
                    tq_embedder_max_tokens(j->embedder));
    if (j->unknown)
        tq_cli_warn(j->cli, "%zu rows have an answer that no training row has: they count as wrong", j->unknown);
    if (j->cli->common.json) {
        json_t *o =
            json_pack("{s:s, s:I, s:I, s:I, s:I, s:o, s:o, s:f, s:f, s:I, s:I, s:f, s:f}", "features",
                      j->embedder ? "embed" : "tfidf", "rows", (json_int_t)n, "train_rows", (json_int_t)j->train.n,
                      "labels", (json_int_t)p->n_labels, "columns", (json_int_t)p->n_features, "majority",
                      tq_answers_share_json(j->most, n), "raw", tq_answers_share_json(j->right, n), "macro_f1", j->f1,
                      "c", p->c, "split_rows", (json_int_t)p->tried, "split_correct", (json_int_t)p->tried_right,
                      "seconds", seconds, "peak_mb", peak);
        if (o && against) json_object_set_new(o, "paired", tq_answers_paired_json(&j->answers));
        return tq_cli_json(j->cli, o, err);
    }
    printf("%zu rows, %zu to fit on, %zu labels, %zu features, %.1f s, peak %.0f MB\n", n, j->train.n, p->n_labels,
           p->n_features, seconds, peak);
    if (p->tried)
        printf("C %g: the best on %zu of the training rows, %.1f %% of them right\n", p->c, p->tried,
               100.0 * (double)p->tried_right / (double)p->tried);
    else
        printf("C %g: too few training rows to choose it on\n", p->c);
    tq_answers_print_share("majority class", j->most, n);
    tq_answers_print_share(j->embedder ? "probe of embeddings" : "probe of TF-IDF", j->right, n);
    printf("%-28s %5.3f\n", "macro-F1", j->f1);
    if (against) tq_answers_print_paired(&j->answers, against);
    return TOQUE_OK;
}

static toque_status run(tq_cli *cli, void *given, toque_error *err) {
    const options *o = given;
    job j = {.cli = cli, .o = o};
    double start = tq_now();
    if (!o->train.len) return tq_cli_usage(cli, err, "probe needs rows to fit on: -d TRAIN");
    if (!o->features && tq_options_given(&cli->set, "model"))
        return tq_cli_usage(cli, err, "-m is the encoder of --features embed; tfidf takes no model");
    tq_ctx *ctx;
    TQ_TRY(tq_cli_ctx(cli, &ctx, err));
    tq_cli_catch_interrupt(cli);
    tq_probe_rows_init(&j.train, &cli->mem);
    tq_probe_rows_init(&j.test, &cli->mem);
    toque_status status = TOQUE_OK;
    TQ_GO(tq_answers_init(&j.answers, &cli->mem, o->against, err));
    for (size_t i = 0; i < o->train.len; i++) TQ_GO(read_rows(&j, &j.train, o->train.items[i], false, err));
    TQ_GO(read_rows(&j, &j.test, cli->set.positional[0], true, err));
    if (o->features) {
        TQ_GO(tq_cli_load(&j.loaded, cli, &o->model, NULL, err));
        TQ_GO(tq_embedder_new(&j.embedder, j.loaded.model, NULL, err));
    }
    TQ_GO(measure(&j, err));
    if (o->out) TQ_GO(tq_write_file(&cli->mem, o->out, j.answers.lines.data, j.answers.lines.len, err));
    status = report(&j, tq_now() - start, err);
done:
    tq_probe_clear(&j.probe);
    tq_probe_rows_clear(&j.train);
    tq_probe_rows_clear(&j.test);
    tq_free(&cli->mem, j.truth);
    tq_free(&cli->mem, j.answer);
    tq_free(&cli->mem, j.ids);
    tq_answers_clear(&j.answers);
    tq_embedder_free(j.embedder);
    if (j.loaded.model) tq_cli_unload(&j.loaded);
    return status;
}

const tq_command tq_cmd_probe = {
    .name = "probe",
    .group = TQ_GROUP_TEST,
    .summary = "What a linear model without tuning has right: the baseline that a hat should beat",
    .usage = "-d TRAIN... TEST [--features tfidf|embed -m ENCODER] [-o FILE] [--against FILE]",
    .about =
        "Logistic regression from a row's text to its answer, over TF-IDF (words, pairs of words and groups of 2 to 5\n"
        "characters) or over an encoder's embeddings. How strongly it is held back (C) is chosen on a fifth of the\n"
        "training rows. -o and --against are those of eval, so that a probe and a hat can be paired row by row.",
    .example = "toque probe -d train.csv test.csv --text-column text --label-column label -o tfidf.jsonl\n"
               "toque probe -d train.csv test.csv --text-column text --label-column label --features embed "
               "-m all-minilm-l6-v2",
    .tables = tables,
    .size = sizeof(options),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
