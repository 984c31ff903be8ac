/* Rows whose truth is known, asked of a head: the figures that tune has (runs/figures.h), a line a row for --out, and
 * the comparison with another run. The file is read twice: for the truths, as tune reads them, and for the texts. */
#include "cli/eval_head.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/progress.h"
#include "cli/answers.h"
#include "cli/predict.h"
#include "infer/reader.h"
#include "runs/figures.h"
#include "train/rows.h"
#include "train/tune_head.h"

typedef struct job {
    const tq_eval_head *e;
    tq_dataset set;
    tq_figures figures;
    tq_answers answers;
    tq_progress progress;
    char (*ids)[65];   /* [rows] */
    char **texts;      /* [rows] */
    char **truths;     /* [rows] as they stand in the file */
    size_t rows_right; /* tags: texts with the right spans and no others */
} job;

/* Whether the figures that `before` grew to count the row as right. */
static bool right_now(job *j, const tq_figures *before) {
    const tq_figures *f = &j->figures;
    if (j->e->head->kind != TQ_HEAD_TAGS) return f->right > before->right;
    const size_t right = f->spans_right - before->spans_right;
    return right == f->spans_said - before->spans_said && right == f->spans_true - before->spans_true;
}

static toque_status on_reading(void *arg, size_t id, const tq_reading *r, toque_error *err) {
    job *j = arg;
    const tq_head *h = j->e->head;
    tq_mem *mem = &j->e->loaded->ctx->mem;
    const tq_example *x = &j->set.examples[id];
    if (!r->items)
        return TQ_FAIL(err, ELIMIT, "%s: line %u is longer than the model's context of %d tokens: remove it",
                       j->e->data.paths[0], x->line, j->e->loaded->model->config.context);
    const tq_truth truth = {.label = x->label, .value = (double)x->value, .classes = x->classes, .n = x->n_classes};
    const tq_figures before = j->figures;
    tq_prediction p;
    TQ_TRY(tq_figures_add(&j->figures, &truth, r->y, r->items, err));
    TQ_TRY(tq_predict_reading(h, mem, j->texts[id], r, false, &p, err));
    toque_status status;
    if (h->kind == TQ_HEAD_VALUE) {
        const double error = fabs(h->mean + h->deviation * (double)r->y[0] - (double)x->value);
        status = tq_answers_put_error(&j->answers, j->ids[id], j->truths[id], p.answer, error, err);
    } else {
        const bool right = right_now(j, &before);
        j->rows_right += right;
        status = tq_answers_put(&j->answers, j->ids[id], j->truths[id], p.answer, right, NULL, err);
    }
    tq_free(mem, p.answer);
    tq_free(mem, p.shares);
    tq_progress_update(&j->progress, id + 1, NULL);
    return status;
}

/* A field as it stands: a text, or JSON. */
static toque_status field_text(job *j, const tq_row *row, char **text, toque_error *err) {
    const json_t *v = json_object_get(row->object, j->e->data.label_column);
    char *dumped = json_is_string(v) ? NULL : json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
    *text = tq_strdup(&j->e->cli->mem, json_is_string(v) ? json_string_value(v) : dumped ? dumped : "");
    bool ok = *text && (json_is_string(v) || dumped);
    free(dumped); /* jansson's own memory */
    return ok ? TOQUE_OK : TQ_NOMEM(err);
}

/* Row number i goes to the reader. */
static toque_status add_row(job *j, size_t i, const tq_row *row, tq_reader *reader, toque_error *err) {
    tq_string text;
    TQ_TRY(tq_row_text(row, j->e->data.text_column, &text, err));
    TQ_TRY(tq_answers_row_id(&j->e->cli->mem, row, j->ids[i], err));
    TQ_TRY(field_text(j, row, &j->truths[i], err));
    if (!(j->texts[i] = tq_strndup(&j->e->cli->mem, text.data, text.len))) return TQ_NOMEM(err);
    return tq_reader_add(reader, i, text.data, text.len, err);
}

static toque_status ask(job *j, toque_error *err) {
    const tq_eval_head *e = j->e;
    tq_rows *rows = NULL;
    tq_reader *reader = NULL;
    tq_row row;
    bool more = true;
    toque_status status = TOQUE_OK;
    TQ_GO(tq_reader_new(&reader, e->loaded->model, tq_cli_hats(e->loaded), e->loaded->max_rank, e->head, on_reading, j,
                        err));
    TQ_GO(tq_rows_open(&rows, &e->cli->mem, e->data.paths[0], &e->data, err));
    tq_progress_start(&j->progress, tq_cli_progress(e->cli), "evaluating", "rows", j->set.n, 0);
    for (size_t i = 0;; i++) {
        TQ_GO(tq_rows_next(rows, &row, &more, err));
        if (!more) break;
        if (i == j->set.n) TQ_GO(TQ_FAIL(err, EINVAL, "%s grew while it was read", e->data.paths[0]));
        TQ_GO(add_row(j, i, &row, reader, err));
    }
    status = tq_reader_flush(reader, err);
done:
    tq_progress_end(&j->progress, NULL);
    tq_rows_close(rows);
    tq_reader_free(reader);
    return status;
}

/* --- the report --------------------------------------------------------------------------------------------- */
/* Rows of the commonest class. */
static size_t majority(const job *j) {
    size_t most = 0;
    for (int i = 0; i < j->e->head->n; i++) {
        const size_t rows = j->figures.tp[i] + j->figures.fn[i];
        if (rows > most) most = rows;
    }
    return most;
}

static json_t *confusion_json(const tq_figures *f) {
    const size_t n = (size_t)f->head->n;
    json_t *matrix = json_array();
    for (size_t t = 0; t < n; t++) {
        json_t *row = json_array();
        for (size_t i = 0; i < n; i++) json_array_append_new(row, json_integer((json_int_t)f->confusion[t * n + i]));
        json_array_append_new(matrix, row);
    }
    return matrix;
}

static toque_status report_json(job *j, double seconds, double peak, toque_error *err) {
    const tq_head *h = j->e->head;
    json_t *o = tq_figures_json(&j->figures), *names = json_array();
    if (!o || !names) {
        json_decref(o);
        json_decref(names);
        return TQ_NOMEM(err);
    }
    for (int i = 0; h->labels && i < h->n; i++) json_array_append_new(names, json_string(h->labels[i]));
    json_object_set_new(o, "head", json_string(tq_head_kind_name(h->kind)));
    json_object_set_new(o, "rows", json_integer((json_int_t)j->set.n));
    json_object_set_new(o, "labels", names);
    if (h->kind != TQ_HEAD_VALUE) json_object_set_new(o, "right", tq_answers_share_json(j->rows_right, j->set.n));
    if (h->kind == TQ_HEAD_CLASS) json_object_set_new(o, "majority", tq_answers_share_json(majority(j), j->set.n));
    if (j->figures.confusion) json_object_set_new(o, "confusion", confusion_json(&j->figures));
    if (j->e->against) json_object_set_new(o, "paired", tq_answers_paired_json(&j->answers));
    json_object_set_new(o, "seconds", json_real(seconds));
    json_object_set_new(o, "peak_mb", json_real(peak));
    return tq_cli_json(j->e->cli, o, err);
}

static toque_status report(job *j, toque_error *err) {
    const tq_head_kind kind = j->e->head->kind;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    const double peak = (double)usage.ru_maxrss * 1024 / 1e6, seconds = tq_now() - j->e->start;
    if (j->e->cli->common.json) return report_json(j, seconds, peak, err);
    tq_buf text;
    tq_buf_init(&text, &j->e->cli->mem, 1 << 24);
    tq_buf_printf(&text, "%zu rows, %.1f s, peak %.0f MB\n", j->set.n, seconds, peak);
    toque_status status = tq_figures_print(&j->figures, NULL, &text, err);
    if (status == TOQUE_OK) status = tq_cli_write(j->e->cli, text.data, text.len, err);
    tq_buf_clear(&text);
    if (status != TOQUE_OK) return status;
    if (kind == TQ_HEAD_CLASS) tq_answers_print_share("majority class", majority(j), j->set.n);
    if (kind != TQ_HEAD_VALUE)
        tq_answers_print_share(kind == TQ_HEAD_CLASS ? "right" : "rows right in all", j->rows_right, j->set.n);
    if (j->e->against) tq_answers_print_paired(&j->answers, j->e->against);
    return TOQUE_OK;
}

/* --- the whole ---------------------------------------------------------------------------------------------- */
/* Truths as the head knows them: another label is an error. */
static toque_status load_truths(job *j, tq_data_options *o, toque_error *err) {
    const tq_head *h = j->e->head;
    o->labels = (const char *const *)h->labels;
    o->n_labels = h->labels ? (size_t)h->n : 0;
    o->closed = "the head knows: remove the row";
    o->io = true;
    for (int i = 0; h->labels && i < h->n; i++) o->io = o->io && strncmp(h->labels[i], "B-", 2) != 0;
    return tq_dataset_load(&j->set, j->e->loaded->model, o, err);
}

static void free_texts(tq_mem *mem, char **list, size_t n) {
    for (size_t i = 0; list && i < n; i++) tq_free(mem, list[i]);
    tq_free(mem, list);
}

toque_status tq_eval_head_run(const tq_eval_head *given, toque_error *err) {
    tq_mem *mem = &given->cli->mem;
    tq_eval_head e = *given;
    job j = {.e = &e};
    toque_status status = TOQUE_OK;
    e.data.fields = true;
    e.data.head = e.head->kind;
    if (!e.data.text_column) e.data.text_column = "text";
    if (!e.data.label_column) e.data.label_column = tq_head_label_column(e.head->kind);
    TQ_GO(tq_answers_init(&j.answers, mem, e.against, err));
    TQ_GO(load_truths(&j, &e.data, err));
    j.ids = tq_zalloc(mem, j.set.n, sizeof *j.ids);
    j.texts = TQ_NEW_ARRAY(mem, char *, j.set.n);
    j.truths = TQ_NEW_ARRAY(mem, char *, j.set.n);
    if (!j.ids || !j.texts || !j.truths) TQ_GO(TQ_NOMEM(err));
    TQ_GO(tq_figures_init(&j.figures, &e.loaded->ctx->mem, e.head, err));
    TQ_GO(ask(&j, err));
    if (e.out) TQ_GO(tq_write_file(mem, e.out, j.answers.lines.data, j.answers.lines.len, err));
    if (e.against) TQ_GO(tq_answers_compare(&j.answers, e.against, err));
    status = report(&j, err);
done:
    free_texts(mem, j.texts, j.set.n);
    free_texts(mem, j.truths, j.set.n);
    tq_free(mem, j.ids);
    tq_figures_clear(&j.figures);
    tq_answers_clear(&j.answers);
    tq_dataset_clear(&j.set);
    return status;
}
