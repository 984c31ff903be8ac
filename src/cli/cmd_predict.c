/* toque predict: an answer for every row of a file, with its probability, the user's columns kept. */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/progress.h"
#include "cli/data_options.h"
#include "cli/predict.h"

typedef struct options {
    tq_cli_model model;
    tq_cli_adapters adapters;
    tq_cli_data data;
    const char *out, *labels;
    int64_t n;
    bool resume, overwrite;
} options;

#define AT(field) offsetof(options, field)
static const tq_option own[] = {{.key = "out",
                                 .letter = 'o',
                                 .type = TQ_OPT_TEXT,
                                 .offset = AT(out),
                                 .value = "OUT",
                                 .help = "file to write; without it, standard output"},
                                {.key = "n",
                                 .letter = 'n',
                                 .type = TQ_OPT_INT,
                                 .offset = AT(n),
                                 .fallback = "256",
                                 .min = 1,
                                 .max = 1e9,
                                 .aliases = "max_tokens|max_new_tokens|n_predict",
                                 .help = "tokens of an answer at most"},
                                {.key = "labels",
                                 .type = TQ_OPT_TEXT,
                                 .offset = AT(labels),
                                 .value = "FILE|A,B,C",
                                 .help = "answer with one of these: the likeliest, and its share among them"},
                                {.key = "resume",
                                 .type = TQ_OPT_FLAG,
                                 .offset = AT(resume),
                                 .fallback = "on",
                                 .help = "go on with OUT.partial of an interrupted run"},
                                {.key = "overwrite",
                                 .type = TQ_OPT_FLAG,
                                 .offset = AT(overwrite),
                                 .fallback = "off",
                                 .help = "replace OUT if it exists"},
                                {0}};
static const tq_cli_table tables[] = {{own, 0},
                                      {tq_cli_model_table, AT(model)},
                                      {tq_cli_adapters_table, AT(adapters)},
                                      {tq_cli_data_table, AT(data)},
                                      {0}};
#undef AT

enum { RING = 64 }; /* rows in work: read, but not yet written */

typedef struct pending {
    bool done;
    char *text;      /* of a row that a head reads */
    const char *raw; /* into the reader's text */
    size_t raw_len;
    tq_prediction p;
} pending;

typedef struct job {
    tq_cli *cli;
    const options *o;
    tq_cli_loaded loaded;
    tq_data_options data;
    const char *in;
    tq_rows *rows;
    tq_predict_out out;
    tq_labels labels;
    tq_chooser *chooser;
    tq_decoder *decoder;
    const tq_head *head; /* or NULL */
    tq_reader *reader;
    tq_progress progress;
    pending ring[RING];
    size_t n_rows, next, written; /* rows of the file; read; written */
    size_t failed;
} job;

/* Puts file and line in front of a row's error. */
static toque_status at_line(const job *j, const tq_row *row, toque_status status, toque_error *err) {
    return status == TOQUE_OK ? status : tq_error_prefix(err, status, "%s: line %u", j->in, row->line);
}

/* Reads all rows once: nothing is computed for a file with a broken row. Chooses column names that no row has. */
static toque_status look_through(job *j, toque_error *err) {
    tq_rows *rows;
    int suffix = 1;
    const char *answer = "answer", *probability = "probability";
    if (j->head) tq_predict_names(j->head, &answer, &probability);
    snprintf(j->out.answer, sizeof j->out.answer, "%s", answer);
    snprintf(j->out.probability, sizeof j->out.probability, "%s", probability ? probability : "");
    TQ_TRY(tq_rows_open(&rows, &j->cli->mem, j->in, &j->data, err));
    tq_row row;
    bool more = true, again = false;
    toque_status status;
    for (;;) {
        status = tq_rows_next(rows, &row, &more, err);
        if (status != TOQUE_OK || !more) {
            if (status != TOQUE_OK || !again) break;
            again = false; /* a name was changed: the rows before might have the new one */
            tq_rows_close(rows);
            rows = NULL;
            j->n_rows = 0;
            TQ_GO(tq_rows_open(&rows, &j->cli->mem, j->in, &j->data, err));
            continue;
        }
        j->n_rows++;
        tq_string text;
        if (j->head) TQ_GO(at_line(j, &row, tq_row_text(&row, j->data.text_column, &text, err), err));
        while (tq_rows_has_column(rows, j->out.answer) ||
               (probability && tq_rows_has_column(rows, j->out.probability))) {
            again = true;
            suffix++;
            snprintf(j->out.answer, sizeof j->out.answer, "%s_%d", answer, suffix);
            if (probability) snprintf(j->out.probability, sizeof j->out.probability, "%s_%d", probability, suffix);
        }
    }
    if (status == TOQUE_OK && j->n_rows == 0) status = TQ_FAIL(err, EFORMAT, "%s holds no rows", j->in);
    char delimiter;
    bool crlf;
    if (status == TOQUE_OK && !tq_rows_is_json(rows) && !tq_rows_is_csv(rows, &delimiter, &crlf))
        status = TQ_FAIL(err, EINVAL, "%s is one text: predict takes JSONL, CSV or TSV (--format)", j->in);
    if (status == TOQUE_OK && suffix > 1)
        tq_cli_note(j->cli, "%s has a column \"%s\"%s%s: the new %s %s%s%s", j->in, answer,
                    probability ? " or \"probability\"" : "", "", probability ? "ones are" : "one is", j->out.answer,
                    probability ? " and " : "", j->out.probability);
done:
    tq_rows_close(rows);
    return status;
}

static void add_text(tq_sha256 *sha, const char *name, const char *text) {
    tq_sha256_add(sha, name, strlen(name) + 1);
    tq_sha256_add(sha, text ? text : "", text ? strlen(text) + 1 : 0);
}

/* Everything that the answers depend on. */
static toque_status make_key(job *j, char key[65], toque_error *err) {
    tq_sha256 *sha = tq_sha256_new(&j->cli->mem);
    if (!sha) return TQ_NOMEM(err);
    const options *o = j->o;
    char numbers[80];
    size_t n;
    const char *bytes = tq_rows_bytes(j->rows, &n);
    tq_sha256_add(sha, bytes, n);
    add_text(sha, "model", tq_model_hash(j->loaded.model));
    for (int i = 0; i < j->loaded.hats.n; i++) {
        const tq_hat *hat = &j->loaded.hats.items[i];
        tq_sha256_add(sha, hat->adapter->values, hat->adapter->n * sizeof *hat->adapter->values);
        tq_sha256_add(sha, &hat->scale, sizeof hat->scale);
    }
    const char *const texts[] = {o->data.format,      o->data.prompt_column, o->data.answer_column,
                                 o->data.text_column, o->data.label_column,  o->data.system};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) add_text(sha, "option", texts[i]);
    for (size_t i = 0; i < j->labels.n; i++) add_text(sha, "label", j->labels.items[i]);
    snprintf(numbers, sizeof numbers, "1 %lld %d %d", (long long)o->n, (int)j->loaded.ctx->compute,
             j->loaded.ctx->int8);
    add_text(sha, "numbers", numbers);
    tq_sha256_end(sha, key);
    return TOQUE_OK;
}

/* The row's conversation up to the answer that is wanted; a new reference. */
static json_t *question(const job *j, const tq_row *row) {
    if (!row->messages) {
        json_t *list = json_array();
        if (j->o->data.system)
            json_array_append_new(list, json_pack("{s:s, s:s}", "role", "system", "content", j->o->data.system));
        json_t *user = json_pack("{s:s, s:s%}", "role", "user", "content", row->text, row->text_len);
        if (json_array_append_new(list, user) == 0) return list;
        json_decref(list);
        return NULL;
    }
    json_t *list = json_copy(row->messages);
    if (list && row->answered) json_array_remove(list, json_array_size(list) - 1);
    return list;
}

/* The likeliest label as the row's answer; none when the row is over the context. */
static toque_status choose_label(job *j, json_t *messages, json_t *tools, tq_prediction *p, toque_error *err) {
    double *logp = TQ_NEW_ARRAY(&j->cli->mem, double, j->labels.n);
    if (!logp) return TQ_NOMEM(err);
    bool fits;
    toque_status status = tq_labels_score(&j->labels, j->loaded.model, j->chooser, tq_cli_hats(&j->loaded), messages,
                                          tools, logp, &fits, err);
    if (status == TOQUE_OK && fits) {
        const char *label = j->labels.items[tq_labels_best(logp, j->labels.n, &p->probability)];
        p->len = strlen(label);
        p->answer = tq_strdup(&j->loaded.ctx->mem, label);
        if (!p->answer) status = TQ_NOMEM(err);
    }
    tq_free(&j->cli->mem, logp);
    return status;
}

static toque_status prompt_tokens(job *j, json_t *messages, json_t *tools, tq_tokens *list, toque_error *err) {
    tq_model *model = j->loaded.model;
    if (!model->chat_template && json_array_size(messages) == 1) { /* a base model continues the text */
        json_t *content = json_object_get(json_array_get(messages, 0), "content");
        TQ_TRY(tq_tokenize(model->tokenizer, json_string_value(content), json_string_length(content), true, false, list,
                           err));
        if (tq_tokenizer_add_eos(model->tokenizer) && list->len) list->len--;
        return TOQUE_OK;
    }
    tq_rendered r = {0};
    toque_status status = tq_model_render(model, messages, tools, NULL, true, &r, err);
    if (status == TOQUE_OK) status = tq_model_tokenize_rendered(model, &r, list, err);
    tq_rendered_clear(&r);
    return status;
}

/* Writes the rows at the front that are done. */
static toque_status flush(job *j, toque_error *err) {
    for (pending *e; j->written < j->next && (e = &j->ring[j->written % RING])->done; j->written++) {
        TQ_TRY(tq_predict_put(&j->out, e->raw, e->raw_len, &e->p, err));
        j->failed += e->p.answer == NULL;
        tq_free(&j->loaded.ctx->mem, e->p.answer);
        tq_free(&j->loaded.ctx->mem, e->p.shares);
        tq_free(&j->cli->mem, e->text);
        *e = (pending){0};
    }
    tq_progress_update(&j->progress, j->written, NULL);
    return TOQUE_OK;
}

static toque_status on_done(void *arg, size_t id, tq_prediction *p, toque_error *err) {
    job *j = arg;
    (void)err;
    j->ring[id % RING].p = *p;
    j->ring[id % RING].done = true;
    return TOQUE_OK;
}

/* Gives a row to the head. */
static toque_status begin_reading(job *j, const tq_row *row, toque_error *err) {
    pending *e = &j->ring[j->next % RING];
    tq_string text;
    *e = (pending){.raw = row->raw, .raw_len = row->raw_len};
    toque_status status = tq_row_text(row, j->data.text_column, &text, err);
    if (status == TOQUE_OK && !(e->text = tq_strndup(&j->cli->mem, text.data, text.len))) status = TQ_NOMEM(err);
    if (status == TOQUE_OK) status = tq_reader_add(j->reader, j->next, text.data, text.len, err);
    if (status == TOQUE_OK && e->done && !e->p.answer)
        tq_cli_warn(j->cli, "%s: line %u is longer than the model's context of %d tokens: it gets no answer", j->in,
                    row->line, j->loaded.model->config.context);
    return at_line(j, row, status, err);
}

/* Begins row number j->next: a slot of the decoder, or at once with labels. */
static toque_status begin(job *j, const tq_row *row, toque_error *err) {
    if (j->reader) return begin_reading(j, row, err);
    pending *e = &j->ring[j->next % RING];
    *e = (pending){.raw = row->raw, .raw_len = row->raw_len};
    json_t *messages = question(j, row);
    tq_tokens list = {.mem = &j->loaded.ctx->mem};
    toque_status status;
    if (!messages) return TQ_NOMEM(err);
    if (json_array_size(messages) == 0) {
        status = TQ_FAIL(err, EFORMAT, "there is nothing to answer: the assistant's turn is all there is");
    } else if (j->chooser) {
        e->done = true;
        status = choose_label(j, messages, row->tools, &e->p, err);
    } else {
        status = prompt_tokens(j, messages, row->tools, &list, err);
        if (status == TOQUE_OK) status = tq_decoder_add(j->decoder, j->next, list.ids, (int)list.len, err);
        if (status == TOQUE_ELIMIT) {
            e->done = true;
            status = TOQUE_OK;
        }
    }
    if (status == TOQUE_OK && e->done && !e->p.answer)
        tq_cli_warn(j->cli, "%s: line %u is longer than the model's context of %d tokens: it gets no answer", j->in,
                    row->line, tq_model_context(j->loaded.model, tq_cli_hats(&j->loaded)));
    if (status != TOQUE_OK) tq_error_prefix(err, status, "%s: line %u", j->in, row->line);
    tq_tokens_clear(&list);
    json_decref(messages);
    return status;
}

/* Reads rows while there is room for them. New rows wait until several slots are free, so that their prompts share a
 * pass. */
static toque_status fill(job *j, bool *more, toque_error *err) {
    if (j->decoder && tq_decoder_active(j->decoder) && tq_decoder_free_slots(j->decoder) < TQ_DECODE_ROWS / 4)
        return TOQUE_OK;
    while (*more && j->next - j->written < RING && (!j->decoder || tq_decoder_free_slots(j->decoder) > 0)) {
        tq_row row;
        TQ_TRY(tq_rows_next(j->rows, &row, more, err));
        if (!*more) break;
        if (tq_rows_count(j->rows) <= j->out.kept) continue;
        TQ_TRY(begin(j, &row, err));
        j->next++;
        if (j->chooser) break;
    }
    return TOQUE_OK;
}

static toque_status predict_all(job *j, toque_error *err) {
    bool more = true;
    j->next = j->written = j->out.kept;
    tq_progress_start(&j->progress, tq_cli_progress(j->cli), "predicting", "rows", j->n_rows, j->out.kept);
    while (more || j->written < j->next) {
        if (atomic_load(&j->loaded.ctx->canceled))
            return TQ_FAIL(err, ECANCELED, "interrupted after %zu of %zu rows%s", j->written, j->n_rows,
                           j->out.path ? ": the same command goes on from there" : "");
        TQ_TRY(fill(j, &more, err));
        if (j->decoder) TQ_TRY(tq_decoder_step(j->decoder, err));
        if (j->reader) TQ_TRY(tq_reader_flush(j->reader, err));
        TQ_TRY(flush(j, err));
    }
    tq_progress_end(&j->progress, NULL);
    return TOQUE_OK;
}

/* A head reads a text column; what is about answers that are written has no use. */
static toque_status head_options(job *j, toque_error *err) {
    static const char *const unused[] = {"labels", "n", "prompt_column", "answer_column", "label_column", "system"};
    for (size_t i = 0; i < sizeof unused / sizeof unused[0]; i++)
        if (tq_options_given(&j->cli->set, unused[i]))
            return TQ_FAIL(err, EINVAL, "%s has no use here: the adapter's head (%s) reads a text, --text-column",
                           unused[i], tq_head_kind_name(j->head->kind));
    j->data.fields = true;
    if (!j->data.text_column) j->data.text_column = "text";
    return TOQUE_OK;
}

static toque_status on_reading(void *arg, size_t id, const tq_reading *r, toque_error *err) {
    job *j = arg;
    pending *e = &j->ring[id % RING];
    TQ_TRY(tq_predict_reading(j->head, &j->loaded.ctx->mem, e->text, r, j->out.csv, &e->p, err));
    e->done = true;
    return TOQUE_OK;
}

static toque_status open_job(job *j, toque_error *err) {
    const options *o = j->o;
    char key[65];
    if (o->out && !o->overwrite && strcmp(o->out, "-") != 0 && tq_path_exists(o->out))
        return TQ_FAIL(err, EINVAL, "%s is there already: --overwrite replaces it", o->out);
    if (o->labels) TQ_TRY(tq_labels_read(&j->labels, &j->cli->mem, o->labels, err));
    if (!o->adapters.adapters.len) TQ_TRY(look_through(j, err)); /* an adapter may have a head, which reads otherwise */
    TQ_TRY(tq_cli_load_with_head(&j->loaded, j->cli, &o->model, &o->adapters, &j->head, err));
    tq_cli_catch_interrupt(j->cli);
    if (j->head) TQ_TRY(head_options(j, err));
    if (o->adapters.adapters.len) TQ_TRY(look_through(j, err));
    tq_model *model = j->loaded.model;
    TQ_TRY(tq_rows_open(&j->rows, &j->cli->mem, j->in, &j->data, err));
    TQ_TRY(make_key(j, key, err));
    TQ_TRY(tq_predict_open(&j->out, j->cli, o->out, j->rows, key, o->resume, err));
    if (j->out.kept) tq_cli_note(j->cli, "%zu rows were answered before and are kept", j->out.kept);
    if (j->head)
        return tq_reader_new(&j->reader, model, tq_cli_hats(&j->loaded), j->loaded.max_rank, j->head, on_reading, j,
                             err);
    if (o->labels) return tq_chooser_new(&j->chooser, model, j->loaded.max_rank, err);
    const int most = tq_model_context(model, tq_cli_hats(&j->loaded)), n = o->n < most ? (int)o->n : most;
    return tq_decoder_new(&j->decoder, model, tq_cli_hats(&j->loaded), j->loaded.max_rank, n, on_done, j, err);
}

static void close_job(job *j) {
    for (size_t i = 0; i < RING; i++)
        if (j->ring[i].p.answer) tq_free(&j->loaded.ctx->mem, j->ring[i].p.answer);
    for (size_t i = 0; i < RING; i++) {
        if (j->ring[i].p.shares) tq_free(&j->loaded.ctx->mem, j->ring[i].p.shares);
        tq_free(&j->cli->mem, j->ring[i].text);
    }
    tq_reader_free(j->reader);
    tq_decoder_free(j->decoder);
    tq_chooser_free(j->chooser);
    tq_predict_close(&j->out);
    tq_rows_close(j->rows);
    tq_labels_clear(&j->labels);
    if (j->loaded.model) tq_cli_unload(&j->loaded);
}

static toque_status run(tq_cli *cli, void *given, toque_error *err) {
    const options *o = given;
    job *j = TQ_NEW(&cli->mem, job);
    if (!j) return TQ_NOMEM(err);
    j->cli = cli;
    j->o = o;
    j->in = cli->set.positional[0];
    j->out.fd = -1;
    j->data = tq_cli_data_options(cli, &o->data);
    j->data.allow_no_target = true;
    toque_status status = TOQUE_OK;
    if (strcmp(j->in, "-") == 0) {
        status = tq_cli_usage(cli, err, "predict reads its input twice: give a file, not standard input");
        goto done;
    }
    TQ_GO(open_job(j, err));
    TQ_GO(predict_all(j, err));
    TQ_GO(tq_predict_commit(&j->out, err));
    if (j->failed)
        status = TQ_FAIL(err, ELIMIT, "%zu rows have no answer: they are longer than the model's context", j->failed);
done:
    close_job(j);
    tq_free(&cli->mem, j);
    return status;
}

const tq_command tq_cmd_predict = {
    .name = "predict",
    .group = TQ_GROUP_TEST,
    .summary = "Answer every row of a file, with the answer's probability",
    .usage = "-m M [-a A[:SCALE]]... IN [-o OUT] [--prompt-column NAME] [--labels A,B,C]",
    .about =
        "IN is JSONL, CSV or TSV; the output has the same form, the rows' own columns as they were, and two more:\n"
        "answer, and probability (the product over the answer's tokens, its end included). Answers that rows have\n"
        "already are not looked at. With --labels the answer is the likeliest of the given ones and the\n"
        "probability its share among them. Decoding is greedy, 16 rows at a time; a row's answer is the one that\n"
        "toque generate gives it alone. With -o, an interrupted run is gone on with by the same command.",
    .example = "toque predict -m model.gguf -a run test.csv --prompt-column question -o answers.csv\n"
               "toque predict -m model.gguf reviews.csv --text-column review --labels positive,negative -o out.csv",
    .tables = tables,
    .size = sizeof(options),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
