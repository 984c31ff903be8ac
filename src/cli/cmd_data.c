/* toque data inspect: rows as the model will see them. toque data validate: whether every row can be read. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/data_options.h"
#include "cli/load.h"
#include "train/rows.h"

/* --- inspect ------------------------------------------------------------------------------------------------- */

typedef struct inspect_options {
    tq_cli_model model;
    tq_cli_data data;
    int64_t n, max_length;
    int train_on;
} inspect_options;

#define AT(field) offsetof(inspect_options, field)
static const tq_option inspect_own[] = {
    {.key = "n",
     .letter = 'n',
     .type = TQ_OPT_INT,
     .offset = AT(n),
     .fallback = "3",
     .min = 0,
     .max = 1e9,
     .help = "examples to show"},
    {.key = "max_length",
     .type = TQ_OPT_INT,
     .offset = AT(max_length),
     .min = 1,
     .max = 1e9,
     .help = "count rows with more tokens; without it, 2048 or the model's context if that is less"},
    {.key = "train_on",
     .type = TQ_OPT_CHOICE,
     .offset = AT(train_on),
     .fallback = "assistant",
     .choices = "assistant|last|all",
     .help = "what is learned: assistant turns, the last of them, or all; text rows: all"},
    {0}};
static const tq_cli_table inspect_tables[] = {
    {inspect_own, 0}, {tq_cli_model_table, AT(model)}, {tq_cli_data_table, AT(data)}, {0}};
#undef AT

static int by_value(const void *a, const void *b) {
    return *(const int *)a < *(const int *)b ? -1 : *(const int *)a > *(const int *)b;
}

typedef struct lengths {
    int *sorted; /* [n] tokens of the examples */
    size_t n, over;
} lengths;

static int quantile(const lengths *l, int percent) { /* nearest rank */
    size_t rank = (l->n * (size_t)percent + 99) / 100;
    return l->sorted[rank ? rank - 1 : 0];
}

static toque_status measure(tq_cli *cli, const tq_dataset *set, int64_t max_length, lengths *l, toque_error *err) {
    *l = (lengths){.n = set->n};
    l->sorted = TQ_NEW_ARRAY(&cli->mem, int, set->n + 1);
    if (!l->sorted) return TQ_NOMEM(err);
    for (size_t i = 0; i < set->n; i++) {
        l->sorted[i] = set->examples[i].n;
        l->over += set->examples[i].n > max_length;
    }
    qsort(l->sorted, set->n, sizeof *l->sorted, by_value);
    return TOQUE_OK;
}

/* The text of tokens [from, to). False: no memory. */
static bool decode(const tq_model *model, const tq_example *e, int from, int to, tq_buf *out) {
    for (int i = from; i < to; i++)
        if (!tq_detokenize(model->tokenizer, e->tokens[i], i == 0, true, out)) return false;
    return true;
}

static int run_end(const tq_example *e, int from) {
    int to = from + 1;
    while (to < e->n && e->target[to] == e->target[from]) to++;
    return to;
}

/* Terminals obey control characters; data may hold any. */
static void put_visible(tq_buf *out, const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if ((c < 32 && c != '\n' && c != '\t') || c == 127)
            tq_buf_printf(out, "\\x%02x", c);
        else
            tq_buf_putc(out, (char)c);
    }
}

static toque_status show_example(tq_cli *cli, const tq_model *model, const tq_example *e, toque_error *err) {
    bool color = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
    tq_buf text, part;
    tq_buf_init(&text, &cli->mem, SIZE_MAX / 4);
    tq_buf_init(&part, &cli->mem, SIZE_MAX / 4);
    tq_buf_printf(&text, "--- %s, line %u: %d tokens, %d of them learned", cli->set.positional[e->file], e->line, e->n,
                  e->n_targets);
    if (e->weight != 1) tq_buf_printf(&text, ", weight %g", (double)e->weight);
    tq_buf_puts(&text, " ---\n");
    for (int i = 0; i < e->n;) {
        int to = run_end(e, i);
        tq_buf_reset(&part);
        if (!decode(model, e, i, to, &part)) part.failed = true;
        if (e->target[i]) tq_buf_puts(&text, color ? "\x1b[1;32m" : "[[");
        put_visible(&text, part.data, part.len);
        if (e->target[i]) tq_buf_puts(&text, color ? "\x1b[0m" : "]]");
        i = to;
    }
    tq_buf_puts(&text, "\n");
    toque_status status = part.failed ? TQ_NOMEM(err) : tq_buf_status(&text, "an example", err);
    if (status == TOQUE_OK) status = tq_cli_write(cli, text.data, text.len, err);
    tq_buf_clear(&text);
    tq_buf_clear(&part);
    return status;
}

/* [{"text", "learned"}, ...]; NULL without memory. Bytes that are no UTF-8 become U+FFFD. */
static json_t *example_parts(tq_cli *cli, const tq_model *model, const tq_example *e) {
    json_t *parts = json_array();
    tq_buf text;
    tq_buf_init(&text, &cli->mem, SIZE_MAX / 4);
    tq_detok d;
    for (int i = 0; i < e->n && parts;) {
        int to = run_end(e, i);
        tq_buf_reset(&text);
        tq_detok_init(&d, model->tokenizer, &cli->mem, true);
        d.first = i == 0;
        bool ok = true;
        for (int k = i; k < to && ok; k++) ok = tq_detok_feed(&d, e->tokens[k], &text);
        ok = ok && tq_detok_finish(&d, &text);
        tq_detok_clear(&d);
        json_t *part = json_pack("{s:o, s:b}", "text", json_stringn(text.data, text.len), "learned", e->target[i]);
        if (!ok || json_array_append_new(parts, part)) {
            json_decref(parts);
            parts = NULL;
        }
        i = to;
    }
    tq_buf_clear(&text);
    return parts;
}

static json_t *json_lines(const char *text) {
    json_t *lines = json_array();
    while (*text) {
        size_t n = strcspn(text, "\n");
        json_array_append_new(lines, json_stringn(text, n));
        text += n + (text[n] == '\n');
    }
    return lines;
}

static toque_status inspect_json(tq_cli *cli, const inspect_options *o, const tq_model *model, const tq_dataset *set,
                                 const lengths *l, toque_error *err) {
    json_t *shown = json_array(), *labels = json_object();
    for (size_t i = 0; i < set->n && (int64_t)i < o->n; i++) {
        const tq_example *e = &set->examples[i];
        json_t *one = json_pack("{s:s, s:i, s:i, s:i, s:f, s:o}", "file", cli->set.positional[e->file], "line",
                                (int)e->line, "tokens", e->n, "target_tokens", e->n_targets, "weight",
                                (double)e->weight, "parts", example_parts(cli, model, e));
        json_array_append_new(shown, one);
    }
    for (size_t i = 0; i < set->n; i++) {
        if (set->examples[i].label < 0) continue;
        const char *name = set->labels[set->examples[i].label];
        json_object_set_new(labels, name, json_integer(json_integer_value(json_object_get(labels, name)) + 1));
    }
    json_t *all =
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:{s:i, s:i, s:i, s:i}, s:o, s:s, s:o, s:o}", "rows",
                  (json_int_t)set->n_rows, "examples", (json_int_t)set->n, "tokens", (json_int_t)set->n_tokens,
                  "target_tokens", (json_int_t)set->n_targets, "too_long", (json_int_t)l->over, "split",
                  (json_int_t)set->n_split, "unclosed", (json_int_t)set->n_unclosed, "lengths", "p50", quantile(l, 50),
                  "p90", quantile(l, 90), "p99", quantile(l, 99), "max", quantile(l, 100), "labels", labels, "sha256",
                  set->hash, "notes", json_lines(set->notes.data), "shown", shown);
    return all ? tq_cli_json(cli, all, err) : TQ_NOMEM(err);
}

static toque_status inspect_text(tq_cli *cli, const inspect_options *o, const tq_model *model, const tq_dataset *set,
                                 const lengths *l, int64_t max_length, toque_error *err) {
    for (size_t i = 0; i < set->n && (int64_t)i < o->n; i++) TQ_TRY(show_example(cli, model, &set->examples[i], err));
    tq_buf out;
    tq_buf_init(&out, &cli->mem, 1 << 24);
    tq_dataset_describe(set, &out);
    for (size_t i = 0; i < set->n_labels; i++) {
        size_t n = 0;
        for (size_t k = 0; k < set->n; k++) n += set->examples[k].label == (int32_t)i;
        tq_buf_printf(&out, "  %zu × ", n);
        put_visible(&out, set->labels[i], strlen(set->labels[i]));
        tq_buf_putc(&out, '\n');
    }
    tq_buf_printf(&out, "tokens an example: half have up to %d, 90 %% up to %d, 99 %% up to %d, the longest %d\n",
                  quantile(l, 50), quantile(l, 90), quantile(l, 99), quantile(l, 100));
    tq_buf_printf(&out, "%zu longer than %lld tokens%s\n", l->over, (long long)max_length,
                  l->over ? ": toque tune would leave them out (--max-length)" : "");
    toque_status status = tq_buf_status(&out, "the summary", err);
    if (status == TOQUE_OK) status = tq_cli_write(cli, out.data, out.len, err);
    tq_buf_clear(&out);
    return status;
}

static toque_status inspect(tq_cli *cli, void *given, toque_error *err) {
    const inspect_options *o = given;
    tq_cli_loaded l;
    TQ_TRY(tq_cli_load(&l, cli, &o->model, NULL, err));
    tq_cli_catch_interrupt(cli);
    int64_t max_length = o->max_length                    ? o->max_length
                         : l.model->config.context < 2048 ? l.model->config.context
                                                          : 2048;
    tq_data_options d = tq_cli_data_options(cli, &o->data);
    d.train_on = (tq_train_on)o->train_on;
    tq_dataset set = {0};
    lengths sizes = {0};
    toque_status status;
    TQ_GO(tq_dataset_load(&set, l.model, &d, err));
    TQ_GO(measure(cli, &set, max_length, &sizes, err));
    if (cli->common.json)
        status = inspect_json(cli, o, l.model, &set, &sizes, err);
    else
        status = inspect_text(cli, o, l.model, &set, &sizes, max_length, err);
done:
    tq_free(&cli->mem, sizes.sorted);
    tq_dataset_clear(&set);
    tq_cli_unload(&l);
    return status;
}

const tq_command tq_cmd_data_inspect = {
    .name = "data inspect",
    .group = TQ_GROUP_DATA,
    .summary = "Show rows as the model will see them, and what of them is learned",
    .usage = "-m M DATA... [-n N] [--train-on WHAT]",
    .about =
        "Each example is printed as the text of its tokens, chat template included. What is learned stands in\n"
        "colour on a terminal, [[in brackets]] elsewhere or with NO_COLOR. Then: what was recognized of each file,\n"
        "counts, and how long the examples are.",
    .example = "toque data inspect -m model.gguf train.jsonl\n"
               "toque data inspect -m model.gguf sales.csv --prompt-column question --answer-column answer -n 10",
    .tables = inspect_tables,
    .size = sizeof(inspect_options),
    .min_args = 1,
    .max_args = -1,
    .run = inspect,
};

/* --- validate ------------------------------------------------------------------------------------------------ */

typedef struct validate_options {
    tq_cli_data data;
    bool allow_no_answer;
} validate_options;

#define AT(field) offsetof(validate_options, field)
static const tq_option validate_own[] = {{.key = "allow_no_answer",
                                          .type = TQ_OPT_FLAG,
                                          .offset = AT(allow_no_answer),
                                          .fallback = "off",
                                          .help = "rows without an answer are fine (data for toque predict)"},
                                         {0}};
static const tq_cli_table validate_tables[] = {{validate_own, 0}, {tq_cli_data_table, AT(data)}, {0}};
#undef AT

enum { MAX_ERRORS = 20 };

typedef struct findings {
    tq_cli *cli;
    size_t rows, errors;
    json_t *list; /* of messages */
    tq_buf notes;
} findings;

static toque_status found(findings *f, const toque_error *what, toque_error *err) {
    f->errors++;
    if (json_array_append_new(f->list, json_string(what->message))) return TQ_NOMEM(err);
    if (f->cli->common.json) return TOQUE_OK;
    TQ_TRY(tq_cli_write(f->cli, what->message, strlen(what->message), err));
    return tq_cli_write(f->cli, "\n", 1, err);
}

/* True if there is something to learn in the row. */
static bool teaches(const tq_row *row) {
    size_t i;
    json_t *m;
    json_array_foreach(row->messages, i,
                       m) if (strcmp(json_string_value(json_object_get(m, "role")), "assistant") == 0 &&
                              !(row->turns && row->turns[i] == 0)) return true;
    return row->messages == NULL;
}

static toque_status validate_file(findings *f, const char *path, const tq_data_options *d, toque_error *err) {
    tq_rows *rows;
    toque_error what = {0};
    toque_status status = tq_rows_open(&rows, &f->cli->mem, path, d, &what);
    if (status != TOQUE_OK) {
        if (status == TOQUE_ENOMEM) return TQ_NOMEM(err);
        return found(f, &what, err);
    }
    bool more = true;
    while (more && f->errors < MAX_ERRORS) {
        tq_row row;
        status = tq_rows_next(rows, &row, &more, &what);
        if (status == TOQUE_OK && more && !d->allow_no_target && !teaches(&row))
            status =
                TQ_FAIL(&what, EFORMAT, "%s: line %u: there is nothing to learn: no assistant turn", path, row.line);
        if (status == TOQUE_OK) continue;
        if (status == TOQUE_ENOMEM) break;
        more = true;
        status = found(f, &what, err);
        if (status != TOQUE_OK) break;
    }
    if (status == TOQUE_ENOMEM) status = TQ_NOMEM(err);
    f->rows += tq_rows_count(rows);
    if (!tq_rows_describe(rows, &f->notes)) status = TQ_NOMEM(err);
    tq_rows_close(rows);
    return status;
}

static toque_status report(findings *f, toque_error *err) {
    tq_cli *cli = f->cli;
    bool cut = f->errors >= MAX_ERRORS;
    if (cli->common.json)
        TQ_TRY(tq_cli_json(cli,
                           json_pack("{s:b, s:I, s:O, s:b, s:o}", "ok", f->errors == 0, "rows", (json_int_t)f->rows,
                                     "errors", f->list, "stopped_early", cut, "notes", json_lines(f->notes.data)),
                           err));
    else
        TQ_TRY(tq_cli_write(cli, f->notes.data, f->notes.len, err));
    if (f->errors == 0) return TOQUE_OK;
    return TQ_FAIL(err, EFORMAT, "%zu error%s%s: mend or remove these rows", f->errors, f->errors == 1 ? "" : "s",
                   cut ? ", and the rest was not looked at" : "");
}

static toque_status validate(tq_cli *cli, void *given, toque_error *err) {
    const validate_options *o = given;
    tq_data_options d = tq_cli_data_options(cli, &o->data);
    d.allow_no_target = o->allow_no_answer;
    findings f = {.cli = cli, .list = json_array()};
    if (!f.list) return TQ_NOMEM(err);
    tq_buf_init(&f.notes, &cli->mem, 1 << 22);
    toque_status status = TOQUE_OK;
    for (size_t i = 0; i < d.n_paths && status == TOQUE_OK && f.errors < MAX_ERRORS; i++)
        status = validate_file(&f, d.paths[i], &d, err);
    if (status == TOQUE_OK) status = report(&f, err);
    json_decref(f.list);
    tq_buf_clear(&f.notes);
    return status;
}

const tq_command tq_cmd_data_validate = {
    .name = "data validate",
    .group = TQ_GROUP_DATA,
    .summary = "Check every row of data files",
    .usage = "DATA... [--prompt-column NAME --answer-column NAME]",
    .about = "Prints what was recognized of each file and the first 20 errors with file and line. Exit status 1 when\n"
             "there are any. Needs no model.",
    .example = "toque data validate train.jsonl eval.csv",
    .tables = validate_tables,
    .size = sizeof(validate_options),
    .min_args = 1,
    .max_args = -1,
    .run = validate,
};
