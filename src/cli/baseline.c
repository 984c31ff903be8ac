/* The cheap baseline beside a tuned model. See baseline.h. */
#include "cli/baseline.h"

#include <stdio.h>
#include <string.h>

#include "eval/labels.h"
#include "eval/probe.h"
#include "eval/stats.h"

enum { ANSWER_BYTES = 100, ROWS_A_LABEL = 4 };

typedef struct job {
    tq_cli *cli;
    const tq_tune *t;
    tq_probe_rows learned, held_out;
    tq_probe probe;
    bool fits; /* the data is of the kind */
} job;

/* True for the rows that a data set has: [n] by number. */
static void mark(const tq_dataset *set, bool *has) {
    for (size_t i = 0; i < set->n; i++) has[set->examples[i].row] = true;
}

/* Rows of a file, counted over all files by *number, into where `learned` and `held` have them. */
static toque_status read_file(job *j, const char *path, const tq_data_options *o, const bool *learned, const bool *held,
                              size_t n, size_t *number, toque_error *err) {
    tq_rows *rows;
    tq_row row;
    bool more;
    TQ_TRY(tq_rows_open(&rows, &j->cli->mem, path, o, err));
    toque_status status = TOQUE_OK;
    for (; j->fits; ++*number) {
        const char *answer;
        TQ_GO(tq_rows_next(rows, &row, &more, err));
        if (!more) break;
        if (*number >= n) TQ_GO(TQ_FAIL(err, EINVAL, "%s has other rows than it had before the training", path));
        j->fits = row.messages && row.answered && tq_labels_truth(&row, &answer, NULL) == TOQUE_OK &&
                  strlen(answer) <= ANSWER_BYTES;
        if (!j->fits) break;
        if (learned && learned[*number]) TQ_GO(tq_probe_rows_add(&j->learned, &row, err));
        if (held && held[*number]) TQ_GO(tq_probe_rows_add(&j->held_out, &row, err));
    }
done:
    tq_rows_close(rows);
    return status;
}

static toque_status read_files(job *j, const tq_sources *sources, size_t n, const tq_dataset *learned,
                               const tq_dataset *held, toque_error *err) {
    tq_data_options o = tq_tune_data_options(j->t, sources);
    bool *in = TQ_NEW_ARRAY(&j->cli->mem, bool, n + 1), *out = TQ_NEW_ARRAY(&j->cli->mem, bool, n + 1);
    toque_status status = in && out ? TOQUE_OK : TQ_NOMEM(err);
    size_t number = 0;
    if (status != TOQUE_OK) goto done;
    if (learned) mark(learned, in);
    if (held) mark(held, out);
    for (size_t i = 0; i < sources->n && j->fits; i++) {
        const tq_data_options own = tq_data_options_of(&o, i);
        TQ_GO(read_file(j, sources->paths[i], &own, in, out, n, &number, err));
    }
done:
    tq_free(&j->cli->mem, in);
    tq_free(&j->cli->mem, out);
    return status;
}

static toque_status measure(tq_baseline *b, job *j, toque_error *err) {
    tq_probe *p = &j->probe;
    tq_mem *mem = &j->cli->mem;
    double low, high;
    TQ_TRY(tq_probe_fit(p, &j->learned, mem, NULL, &j->cli->ctx->canceled, err));
    uint32_t *answer = TQ_NEW_ARRAY(mem, uint32_t, j->held_out.n);
    if (!answer) return TQ_NOMEM(err);
    toque_status status = tq_probe_answer(p, &j->held_out, answer, err);
    for (size_t i = 0; i < j->held_out.n && status == TOQUE_OK; i++)
        b->right += answer[i] == tq_probe_label(p, j->held_out.answers[i]);
    tq_free(mem, answer);
    if (status != TOQUE_OK) return status;
    b->rows = j->held_out.n;
    tq_wilson(b->right, b->rows, &low, &high);
    snprintf(b->text, sizeof b->text,
             "baseline: logistic regression over TF-IDF of the same rows has %.1f %% of the %zu held-out answers right "
             "(%.1f to %.1f); toque eval tells what this adapter has",
             100 * (double)b->right / (double)b->rows, b->rows, 100 * low, 100 * high);
    return TOQUE_OK;
}

static toque_status collect(job *j, toque_error *err) {
    const tq_tune *t = j->t;
    TQ_TRY(read_files(j, &t->sources, t->data.n_rows, &t->data, t->own_held_out ? NULL : &t->held_out, err));
    if (t->own_held_out && j->fits)
        TQ_TRY(read_files(j, &t->eval_sources, t->held_out.n_rows, NULL, &t->held_out, err));
    return TOQUE_OK;
}

void tq_baseline_measure(tq_baseline *b, tq_cli *cli, const tq_tune *t) {
    *b = (tq_baseline){0};
    if (!tq_tune_has_held_out(t) || !t->data.n_rows || t->trainer.pairs) return;
    job j = {.cli = cli, .t = t, .fits = true};
    toque_error why;
    tq_probe_rows_init(&j.learned, &cli->mem);
    tq_probe_rows_init(&j.held_out, &cli->mem);
    toque_status status = collect(&j, &why);
    if (status == TOQUE_OK && j.fits && j.learned.n > TQ_BASELINE_ROWS)
        tq_cli_note(cli, "no linear baseline beside more than %d rows: toque probe fits one", TQ_BASELINE_ROWS);
    else if (status == TOQUE_OK && j.fits && j.held_out.n && tq_probe_is_for(&j.learned, ROWS_A_LABEL))
        status = measure(b, &j, &why);
    tq_probe_clear(&j.probe);
    tq_probe_rows_clear(&j.learned);
    tq_probe_rows_clear(&j.held_out);
    if (status != TOQUE_OK) tq_cli_note(cli, "no linear baseline: %s", why.message);
}
