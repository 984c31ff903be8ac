/* toque eval: how often the model's answer is the right one of given labels, with its interval, and paired against
 * another run on the same rows. */
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/progress.h"
#include "cli/answers.h"
#include "cli/data_options.h"
#include "cli/eval_head.h"
#include "cli/load.h"
#include "eval/labels.h"
#include "eval/prior.h"
#include "train/rows.h"

typedef struct options {
    tq_cli_model model;
    tq_cli_adapters adapters;
    tq_cli_data data;
    const char *labels, *shots_from, *prior, *out, *against;
    int64_t shots;
} options;

#define AT(field) offsetof(options, field)
static const tq_option own[] = {
    {.key = "labels", .type = TQ_OPT_TEXT, .offset = AT(labels), .value = "FILE|A,B,C", .help = "the possible answers"},
    {.key = "shots",
     .type = TQ_OPT_INT,
     .offset = AT(shots),
     .fallback = "0",
     .min = 0,
     .max = 1000,
     .help = "answered examples put before each question, of different labels first"},
    {.key = "shots_from",
     .type = TQ_OPT_TEXT,
     .offset = AT(shots_from),
     .value = "FILE",
     .help = "where they come from"},
    {.key = "prior",
     .type = TQ_OPT_TEXT,
     .offset = AT(prior),
     .value = "FILE",
     .help = "rows on which the labels' prior is estimated (never the test rows), to correct for it"},
    {.key = "out",
     .letter = 'o',
     .type = TQ_OPT_TEXT,
     .offset = AT(out),
     .value = "FILE",
     .help = "write each row's answer (JSON lines)"},
    {.key = "against",
     .type = TQ_OPT_TEXT,
     .offset = AT(against),
     .value = "FILE",
     .help = "compare, row by row, with the --out of another run"},
    {0}};
static const tq_cli_table tables[] = {{own, 0},
                                      {tq_cli_model_table, AT(model)},
                                      {tq_cli_adapters_table, AT(adapters)},
                                      {tq_cli_data_table, AT(data)},
                                      {0}};
#undef AT

typedef struct job {
    tq_cli *cli;
    const options *o;
    tq_cli_loaded loaded;
    tq_labels labels;
    tq_chooser *chooser;
    json_t *shots; /* messages: user, assistant, user, assistant, ... */
    double *logp;  /* [labels] of a row */
    tq_prior prior;
    double prior_seconds;
    size_t *count; /* [labels] rows of each truth */
    size_t rows, right, corrected;
    tq_answers answers;
} job;

/* truth: number of the label; j->logp is set */
typedef toque_status row_fn(job *j, const tq_row *row, size_t truth, toque_error *err);

/* The row's conversation with the examples behind its system text; a new reference. */
static json_t *question(const job *j, const tq_row *row) {
    json_t *list = json_array(), *message;
    size_t i = 0, n = json_array_size(row->messages) - 1, at;
    const char *role = json_string_value(json_object_get(json_array_get(row->messages, 0), "role"));
    if (role && strcmp(role, "system") == 0) json_array_append(list, json_array_get(row->messages, i++));
    json_array_foreach(j->shots, at, message) json_array_append(list, message);
    for (; i < n; i++) json_array_append(list, json_array_get(row->messages, i));
    return list;
}

static toque_status label_of(const job *j, const tq_row *row, size_t *label, toque_error *err) {
    const char *truth;
    TQ_TRY(tq_labels_truth(row, &truth, err));
    int found = tq_labels_find(&j->labels, truth);
    if (found < 0) return TQ_FAIL(err, EINVAL, "line %u: the answer \"%.80s\" is none of --labels", row->line, truth);
    *label = (size_t)found;
    return TOQUE_OK;
}

/* Reads all rows once: nothing is computed for a file with a broken one. */
static toque_status count_rows(const job *j, const char *path, size_t *n, toque_error *err) {
    tq_data_options data = tq_cli_data_options(j->cli, &j->o->data);
    tq_rows *rows;
    tq_row row;
    bool more = true;
    size_t label;
    TQ_TRY(tq_rows_open(&rows, &j->cli->mem, path, &data, err));
    toque_status status = TOQUE_OK;
    for (*n = 0;; ++*n) {
        TQ_GO(tq_rows_next(rows, &row, &more, err));
        if (!more) break;
        TQ_GO(label_of(j, &row, &label, err));
    }
    if (*n == 0) status = TQ_FAIL(err, EFORMAT, "there are no rows");
done:
    if (status != TOQUE_OK) tq_error_prefix(err, status, "%s", path);
    tq_rows_close(rows);
    return status;
}

static toque_status each_row(job *j, const char *path, const char *what, row_fn *fn, toque_error *err) {
    tq_data_options data = tq_cli_data_options(j->cli, &j->o->data);
    tq_rows *rows;
    tq_row row;
    bool more = true;
    tq_progress progress;
    size_t total;
    TQ_TRY(count_rows(j, path, &total, err));
    TQ_TRY(tq_rows_open(&rows, &j->cli->mem, path, &data, err));
    tq_progress_start(&progress, tq_cli_progress(j->cli), what, "rows", total, 0);
    toque_status status = TOQUE_OK;
    size_t n = 0;
    for (;; n++) {
        size_t label;
        TQ_GO(tq_rows_next(rows, &row, &more, err));
        if (!more) break;
        TQ_GO(label_of(j, &row, &label, err));
        json_t *messages = question(j, &row);
        bool fits;
        status = tq_labels_score(&j->labels, j->loaded.model, j->chooser, tq_cli_hats(&j->loaded), messages, row.tools,
                                 j->logp, &fits, err);
        json_decref(messages);
        if (status == TOQUE_OK && !fits)
            status = TQ_FAIL(err, ELIMIT, "line %u does not fit the model's context of %d tokens", row.line,
                             tq_model_context(j->loaded.model, tq_cli_hats(&j->loaded)));
        if (status == TOQUE_OK) status = fn(j, &row, label, err);
        if (status != TOQUE_OK) goto done;
        tq_progress_update(&progress, n + 1, NULL);
    }
    if (n == 0) status = TQ_FAIL(err, EFORMAT, "there are no rows in it");
done:
    tq_progress_end(&progress, NULL);
    if (status != TOQUE_OK) tq_error_prefix(err, status, "%s", path);
    tq_rows_close(rows);
    return status;
}

static toque_status add_prior(job *j, const tq_row *row, size_t truth, toque_error *err) {
    (void)row, (void)err;
    tq_prior_add(&j->prior, j->logp, truth);
    return TOQUE_OK;
}

static toque_status add_result(job *j, const tq_row *row, size_t truth, toque_error *err) {
    char id[65];
    TQ_TRY(tq_answers_row_id(&j->cli->mem, row, id, err));
    double share;
    char **labels = j->labels.items;
    size_t answer = tq_labels_best(j->logp, j->labels.n, &share), corrected = answer;
    if (j->o->prior) {
        tq_prior_correct(&j->prior, j->logp);
        corrected = tq_labels_best(j->logp, j->labels.n, &share);
    }
    j->rows++;
    j->count[truth]++;
    j->right += answer == truth;
    j->corrected += corrected == truth;
    return tq_answers_put(&j->answers, id, labels[truth], labels[corrected], corrected == truth,
                          j->o->prior ? labels[answer] : NULL, err);
}

/* The first rows of the file, of labels that were not taken yet while there are any. */
static toque_status take_shots(job *j, toque_error *err) {
    tq_data_options data = tq_cli_data_options(j->cli, &j->o->data);
    size_t most = (size_t)j->o->shots;
    j->shots = json_array();
    for (size_t uses = 1; json_array_size(j->shots) < 2 * most; uses++) {
        tq_rows *rows;
        tq_row row;
        bool more = true;
        size_t before = json_array_size(j->shots);
        memset(j->count, 0, j->labels.n * sizeof *j->count);
        TQ_TRY(tq_rows_open(&rows, &j->cli->mem, j->o->shots_from, &data, err));
        toque_status status = TOQUE_OK;
        while (json_array_size(j->shots) < 2 * most) {
            const char *truth = NULL;
            status = tq_rows_next(rows, &row, &more, err);
            if (status != TOQUE_OK || !more) break;
            status = tq_labels_truth(&row, &truth, err);
            if (status != TOQUE_OK) break;
            int label = tq_labels_find(&j->labels, truth);
            if (label < 0 || ++j->count[label] != uses) continue;
            size_t n = json_array_size(row.messages);
            for (size_t i = n - 2; i < n; i++)
                json_array_append_new(j->shots, json_deep_copy(json_array_get(row.messages, i)));
        }
        tq_rows_close(rows);
        if (status != TOQUE_OK) return tq_error_prefix(err, status, "%s", j->o->shots_from);
        if (json_array_size(j->shots) == before)
            return TQ_FAIL(err, EINVAL, "%s has only %zu rows with these labels; %zu examples were asked for",
                           j->o->shots_from, before / 2, most);
    }
    memset(j->count, 0, j->labels.n * sizeof *j->count);
    return TOQUE_OK;
}

static toque_status estimate_prior(job *j, toque_error *err) {
    double start = tq_now();
    TQ_TRY(tq_prior_init(&j->prior, &j->cli->mem, j->labels.n, err));
    TQ_TRY(each_row(j, j->o->prior, "estimating the prior", add_prior, err));
    j->prior_seconds = tq_now() - start;
    return TOQUE_OK;
}

static toque_status report(job *j, double seconds, toque_error *err) {
    size_t most = 0;
    for (size_t i = 1; i < j->labels.n; i++)
        if (j->count[i] > j->count[most]) most = i;
    if (j->o->against) TQ_TRY(tq_answers_compare(&j->answers, j->o->against, err));
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double peak = (double)usage.ru_maxrss * 1024 / 1e6;
    if (j->cli->common.json) {
        json_t *o = json_pack("{s:I, s:o, s:o, s:f, s:f}", "rows", (json_int_t)j->rows, "majority",
                              tq_answers_share_json(j->count[most], j->rows), "raw",
                              tq_answers_share_json(j->right, j->rows), "seconds", seconds, "peak_mb", peak);
        if (j->o->prior) {
            json_object_set_new(o, "corrected", tq_answers_share_json(j->corrected, j->rows));
            json_object_set_new(o, "prior_seconds", json_real(j->prior_seconds)); /* of "seconds" */
        }
        if (j->o->against) json_object_set_new(o, "paired", tq_answers_paired_json(&j->answers));
        return tq_cli_json(j->cli, o, err);
    }
    printf("%zu rows, %zu labels, %.1f s, peak %.0f MB\n", j->rows, j->labels.n, seconds, peak);
    tq_answers_print_share("majority class", j->count[most], j->rows);
    tq_answers_print_share("likeliest label", j->right, j->rows);
    if (j->o->prior) tq_answers_print_share("corrected for the prior", j->corrected, j->rows);
    if (j->o->against) tq_answers_print_paired(&j->answers, j->o->against);
    return TOQUE_OK;
}

static toque_status need_labels(tq_cli *cli, toque_error *err) {
    return tq_cli_usage(cli, err, "eval needs --labels: a file with one label a line, or A,B,C");
}

/* A head knows its own labels and reads a text; what is about answers that are written has no use. */
static toque_status ask_head(job *j, const tq_head *head, double start, toque_error *err) {
    static const char *const unused[] = {"labels",        "shots",         "shots_from", "prior",
                                         "prompt_column", "answer_column", "system"};
    const options *o = j->o;
    for (size_t i = 0; i < sizeof unused / sizeof unused[0]; i++)
        if (tq_options_given(&j->cli->set, unused[i]))
            return TQ_FAIL(err, EINVAL,
                           "%s has no use here: the adapter answers with a head (%s), which reads a text, "
                           "--text-column, and knows its labels",
                           unused[i], tq_head_kind_name(head->kind));
    if (strcmp(j->cli->set.positional[0], "-") == 0)
        return tq_cli_usage(j->cli, err, "eval reads its input twice: give a file, not standard input");
    const tq_eval_head e = {.cli = j->cli,
                            .loaded = &j->loaded,
                            .head = head,
                            .data = tq_cli_data_options(j->cli, &o->data),
                            .out = o->out,
                            .against = o->against,
                            .start = start};
    return tq_eval_head_run(&e, err);
}

static toque_status run(tq_cli *cli, void *given, toque_error *err) {
    const options *o = given;
    job j = {.cli = cli, .o = o};
    double start = tq_now();
    const tq_head *head;
    if (!o->labels && !o->adapters.adapters.len) return need_labels(cli, err); /* an adapter may have a head */
    if (o->shots && !o->shots_from) return tq_cli_usage(cli, err, "--shots needs --shots-from FILE");
    if (!o->shots && o->shots_from) return tq_cli_usage(cli, err, "--shots-from needs --shots N");
    toque_status status = TOQUE_OK;
    if (o->labels) TQ_GO(tq_labels_read(&j.labels, &cli->mem, o->labels, err));
    TQ_GO(tq_cli_load_with_head(&j.loaded, cli, &o->model, &o->adapters, &head, err));
    tq_cli_catch_interrupt(cli);
    if (head) TQ_GO(ask_head(&j, head, start, err));
    if (head) goto done;
    if (!o->labels) TQ_GO(need_labels(cli, err));
    TQ_GO(tq_answers_init(&j.answers, &cli->mem, o->against, err));
    j.logp = TQ_NEW_ARRAY(&cli->mem, double, j.labels.n);
    j.count = TQ_NEW_ARRAY(&cli->mem, size_t, j.labels.n);
    if (!j.logp || !j.count) TQ_GO(TQ_NOMEM(err));
    TQ_GO(tq_chooser_new(&j.chooser, j.loaded.model, j.loaded.max_rank, err));
    if (o->shots) TQ_GO(take_shots(&j, err));
    if (o->prior) TQ_GO(estimate_prior(&j, err));
    TQ_GO(each_row(&j, cli->set.positional[0], "evaluating", add_result, err));
    if (o->out) TQ_GO(tq_write_file(&cli->mem, o->out, j.answers.lines.data, j.answers.lines.len, err));
    status = report(&j, tq_now() - start, err);
done:
    json_decref(j.shots);
    tq_chooser_free(j.chooser);
    tq_answers_clear(&j.answers);
    tq_free(&cli->mem, j.logp);
    tq_prior_clear(&j.prior);
    tq_free(&cli->mem, j.count);
    tq_labels_clear(&j.labels);
    if (j.loaded.model) tq_cli_unload(&j.loaded);
    return status;
}

const tq_command tq_cmd_eval = {
    .name = "eval",
    .group = TQ_GROUP_TEST,
    .summary = "How often the likeliest of given labels, or a head's answer, is the right one",
    .usage = "-m M [-a A[:SCALE]]... DATA [--labels A,B,C] [--shots N --shots-from FILE] [--prior FILE]",
    .about =
        "Each row's last answer is the truth. The model's answer is the label that it finds likeliest, its\n"
        "end-of-turn token included. Shares come with their 95 % interval (Wilson); --against pairs two runs on the\n"
        "same rows. With --prior, the share that the model gives each label on average over FILE's rows gives way to\n"
        "the share of rows of which it is the answer there; -o then writes the corrected answers, and the others as\n"
        "\"uncorrected\".\n"
        "An adapter with a head needs no labels: --text-column and --label-column name a text and its truth, and the\n"
        "figures are those of its kind: accuracy, macro-F1 and calibration; F1 of several labels; errors and\n"
        "correlations of numbers; F1 of spans.",
    .example =
        "toque eval -m model.gguf test.csv --text-column text --label-column label --labels labels.txt -o base.jsonl\n"
        "toque eval -m model.gguf -a run test.jsonl --labels labels.txt --against base.jsonl\n"
        "toque eval -m model.gguf -a classifier test.csv --text-column text --label-column label",
    .tables = tables,
    .size = sizeof(options),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
