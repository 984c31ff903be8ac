/* Answers to rows. See answers.h. */
#include "cli/answers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "eval/stats.h"

toque_status tq_answers_row_id(tq_mem *mem, const tq_row *row, char id[65], toque_error *err) {
    tq_sha256 *sha = tq_sha256_new(mem);
    if (!sha) return TQ_NOMEM(err);
    tq_sha256_add(sha, row->raw, row->raw_len);
    tq_sha256_end(sha, id);
    id[16] = 0;
    return TOQUE_OK;
}

toque_status tq_answers_put(tq_buf *out, const char *id, const char *label, const char *answer, const char *uncorrected,
                            toque_error *err) {
    json_t *o = json_pack("{s:s, s:s, s:s, s:b}", "row", id, "label", label, "answer", answer, "correct",
                          strcmp(answer, label) == 0);
    if (o && uncorrected && json_object_set_new(o, "uncorrected", json_string(uncorrected))) {
        json_decref(o);
        o = NULL;
    }
    char *line = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    if (!line) return TQ_NOMEM(err);
    tq_buf_puts(out, line);
    tq_buf_putc(out, '\n');
    free(line); /* jansson's own memory */
    return tq_buf_status(out, "the rows' answers", err);
}

toque_status tq_answers_compare(const tq_buf *out, const char *other, const char *path, size_t *here, size_t *there,
                                toque_error *err) {
    size_t row = 0, rows = 0;
    const char *a = out->data, *b = other;
    toque_status status = TOQUE_OK;
    for (; *a && *b; row++) {
        size_t la = strcspn(a, "\n"), lb = strcspn(b, "\n");
        json_t *x = json_loadb(a, la, 0, NULL), *y = json_loadb(b, lb, 0, NULL);
        const char *ix = json_string_value(json_object_get(x, "row")),
                   *iy = json_string_value(json_object_get(y, "row"));
        bool rx = json_is_true(json_object_get(x, "correct")), ry = json_is_true(json_object_get(y, "correct"));
        if (!iy || !json_is_boolean(json_object_get(y, "correct")))
            status = TQ_FAIL(err, EFORMAT, "%s: line %zu is not what eval --out writes", path, row + 1);
        else if (!ix || strcmp(ix, iy) != 0)
            status = TQ_FAIL(err, EINVAL, "%s: line %zu is of another row: both runs must be on the same file", path,
                             row + 1);
        *here += rx && !ry;
        *there += ry && !rx;
        json_decref(x);
        json_decref(y);
        if (status != TOQUE_OK) break;
        a += la + (a[la] != 0);
        b += lb + (b[lb] != 0);
    }
    for (const char *c = out->data; *c; c++) rows += *c == '\n';
    if (status == TOQUE_OK && (*a || *b))
        status = TQ_FAIL(err, EINVAL, "%s has %s rows than these %zu: both runs must be on the same file", path,
                         *b ? "more" : "fewer", rows);
    return status;
}

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

json_t *tq_answers_paired_json(size_t here, size_t there) {
    return json_pack("{s:I, s:I, s:f}", "only_this", (json_int_t)here, "only_other", (json_int_t)there, "p",
                     tq_mcnemar(here, there));
}

void tq_answers_print_paired(const char *path, size_t here, size_t there) {
    printf("against %s: right only here %zu, only there %zu, p = %.2g (McNemar, exact)\n", path, here, there,
           tq_mcnemar(here, there));
}
