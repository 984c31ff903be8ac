/* Answers to rows. See answers.h. */
#include "cli/answers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/io.h"
#include "eval/stats.h"

enum { MAX_BYTES = 1 << 30, SEED = 1 };

toque_status tq_answers_init(tq_answers *a, tq_mem *mem, const char *against, toque_error *err) {
    size_t n;
    *a = (tq_answers){.mem = mem};
    tq_buf_init(&a->lines, mem, MAX_BYTES);
    return against ? tq_read_file(&a->other, &n, mem, against, MAX_BYTES, err) : TOQUE_OK;
}

void tq_answers_clear(tq_answers *a) {
    if (!a->mem) return;
    tq_buf_clear(&a->lines);
    tq_free(a->mem, a->other);
    *a = (tq_answers){0};
}

toque_status tq_answers_row_id(tq_mem *mem, const tq_row *row, char id[65], toque_error *err) {
    tq_sha256 *sha = tq_sha256_new(mem);
    if (!sha) return TQ_NOMEM(err);
    tq_sha256_add(sha, row->raw, row->raw_len);
    tq_sha256_end(sha, id);
    id[16] = 0;
    return TOQUE_OK;
}

/* Takes o over. */
static toque_status put_line(tq_answers *a, json_t *o, toque_error *err) {
    char *line = o ? json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(o);
    if (!line) return TQ_NOMEM(err);
    tq_buf_puts(&a->lines, line);
    tq_buf_putc(&a->lines, '\n');
    free(line); /* jansson's own memory */
    return tq_buf_status(&a->lines, "the rows' answers", err);
}

toque_status tq_answers_put(tq_answers *a, const char *id, const char *label, const char *answer, bool correct,
                            const char *uncorrected, toque_error *err) {
    json_t *o = json_pack("{s:s, s:s, s:s, s:b}", "row", id, "label", label, "answer", answer, "correct", correct);
    if (o && uncorrected && json_object_set_new(o, "uncorrected", json_string(uncorrected))) {
        json_decref(o);
        o = NULL;
    }
    return put_line(a, o, err);
}

toque_status tq_answers_put_error(tq_answers *a, const char *id, const char *value, const char *answer, double error,
                                  toque_error *err) {
    return put_line(a, json_pack("{s:s, s:s, s:s, s:f}", "row", id, "value", value, "answer", answer, "error", error),
                    err);
}

/* --- pairs -------------------------------------------------------------------------------------------------- */
/* A line's row and its measure: 1 or 0 for right or wrong, or the error. False: it is no such line. */
static bool read_line(const char *line, size_t n, json_t **o, const char **row, double *measure, bool *error) {
    *o = json_loadb(line, n, 0, NULL);
    *row = json_string_value(json_object_get(*o, "row"));
    const json_t *correct = json_object_get(*o, "correct"), *off = json_object_get(*o, "error");
    *error = json_is_number(off);
    *measure = *error ? json_number_value(off) : json_is_true(correct);
    return *row && (*error || json_is_boolean(correct));
}

static toque_status pair_line(tq_answers *a, const char *mine, size_t n, const char *theirs, size_t m, double *x,
                              double *y, const char *path, toque_error *err) {
    json_t *one, *two;
    const char *row, *other;
    bool errors, others;
    bool fits = read_line(mine, n, &one, &row, x, &errors), reads = read_line(theirs, m, &two, &other, y, &others);
    toque_status status = TOQUE_OK;
    if (!reads || !fits)
        status = TQ_FAIL(err, EFORMAT, "%s: line %zu is not what eval --out writes", path, a->rows + 1);
    else if (strcmp(row, other) != 0)
        status = TQ_FAIL(err, EINVAL, "%s: line %zu is of another row: both runs must be on the same file", path,
                         a->rows + 1);
    else if (errors != others)
        status = TQ_FAIL(err, EINVAL, "%s: line %zu has %s, these rows have %s: they cannot be compared", path,
                         a->rows + 1, others ? "an error" : "right or wrong", errors ? "an error" : "right or wrong");
    json_decref(one);
    json_decref(two);
    a->errors = errors;
    return status;
}

static toque_status pair_lines(tq_answers *a, double *x, double *y, size_t rows, const char *path, toque_error *err) {
    const char *mine = a->lines.data, *theirs = a->other;
    for (; *mine && *theirs; a->rows++) {
        const size_t n = strcspn(mine, "\n"), m = strcspn(theirs, "\n");
        TQ_TRY(pair_line(a, mine, n, theirs, m, &x[a->rows], &y[a->rows], path, err));
        mine += n + (mine[n] != 0);
        theirs += m + (theirs[m] != 0);
    }
    if (!*mine && !*theirs) return TOQUE_OK;
    return TQ_FAIL(err, EINVAL, "%s has %s rows than these %zu: both runs must be on the same file", path,
                   *theirs ? "more" : "fewer", rows);
}

toque_status tq_answers_compare(tq_answers *a, const char *path, toque_error *err) {
    size_t rows = 0;
    for (const char *c = a->lines.data; *c; c++) rows += *c == '\n';
    double *x = TQ_NEW_ARRAY(a->mem, double, rows), *y = TQ_NEW_ARRAY(a->mem, double, rows);
    a->rows = a->here = a->there = 0;
    toque_status status = x && y ? pair_lines(a, x, y, rows, path, err) : TQ_NOMEM(err);
    for (size_t i = 0; status == TOQUE_OK && i < a->rows; i++) {
        a->here += a->errors ? x[i] < y[i] : x[i] > y[i];
        a->there += a->errors ? x[i] > y[i] : x[i] < y[i];
        a->mean_here += x[i] / (double)a->rows;
        a->mean_there += y[i] / (double)a->rows;
    }
    if (status == TOQUE_OK) a->p = a->errors ? tq_randomization(x, y, a->rows, SEED) : tq_mcnemar(a->here, a->there);
    tq_free(a->mem, x);
    tq_free(a->mem, y);
    return status;
}

json_t *tq_answers_paired_json(const tq_answers *a) {
    if (!a->errors)
        return json_pack("{s:I, s:I, s:f}", "only_this", (json_int_t)a->here, "only_other", (json_int_t)a->there, "p",
                         a->p);
    return json_pack("{s:I, s:I, s:f, s:f, s:f}", "nearer_this", (json_int_t)a->here, "nearer_other",
                     (json_int_t)a->there, "mae_this", a->mean_here, "mae_other", a->mean_there, "p", a->p);
}

void tq_answers_print_paired(const tq_answers *a, const char *path) {
    if (a->errors)
        printf("against %s: mean absolute error %.4g here, %.4g there; nearer here in %zu rows, there in %zu, p = %.2g "
               "(randomization)\n",
               path, a->mean_here, a->mean_there, a->here, a->there, a->p);
    else
        printf("against %s: right only here %zu, only there %zu, p = %.2g (McNemar, exact)\n", path, a->here, a->there,
               a->p);
}

/* --- shares ------------------------------------------------------------------------------------------------- */
json_t *tq_answers_share_json(size_t k, size_t n) {
    double low, high;
    tq_wilson(k, n, &low, &high);
    return json_pack("{s:I, s:f, s:f, s:f}", "correct", (json_int_t)k, "accuracy", (double)k / (double)n, "low", low,
                     "high", high);
}

void tq_answers_print_share(const char *what, size_t k, size_t n) {
    double low, high;
    tq_wilson(k, n, &low, &high);
    printf("%-28s %5.1f %%  (%.1f to %.1f)\n", what, 100.0 * (double)k / (double)n, 100 * low, 100 * high);
}
