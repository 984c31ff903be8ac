/* CSV rows: a record becomes the object that the same row would be in JSON, of the columns that were asked for. */
#include <string.h>
#include <strings.h>

#include "train/rows_impl.h"

static const char *trimmed(const char *s, size_t *n) {
    s += strspn(s, " \t");
    *n = strlen(s);
    while (*n > 0 && (s[*n - 1] == ' ' || s[*n - 1] == '\t')) --*n;
    return s;
}

static toque_status read_header(tq_rows *rows, toque_error *err) {
    bool more;
    tq_csv *csv = &rows->csv;
    do {
        TQ_TRY(tq_csv_next(csv, &more, err));
        if (!more) return TQ_FAIL(err, EFORMAT, "the file is empty");
    } while (csv->blank);
    rows->header = csv->raw;
    rows->header_len = csv->raw_len;
    rows->columns = json_array();
    for (size_t i = 0; i < csv->n; i++) {
        size_t n;
        const char *name = trimmed(tq_csv_field(csv, i), &n);
        if (json_array_append_new(rows->columns, json_stringn(name, n))) return TQ_NOMEM(err);
    }
    return TOQUE_OK;
}

/* Column names are checked before any row is read: an error then lists what there is. */
static toque_status find_column(const tq_rows *rows, const char *name, toque_error *err) {
    if (!name) return TOQUE_OK;
    size_t found = 0, i;
    json_t *column;
    char list[400];
    json_array_foreach(rows->columns, i, column) found += strcmp(json_string_value(column), name) == 0;
    if (found == 1) return TOQUE_OK;
    if (found > 1) return TQ_FAIL(err, EFORMAT, "%zu columns are named \"%s\": rename all but one", found, name);
    return TQ_FAIL(err, EFORMAT, "there is no column \"%s\"; the %zu columns (%s) are: %s", name,
                   json_array_size(rows->columns), tq_csv_delimiter_name(rows->csv.delimiter),
                   tq_rows_list(rows->columns, list, sizeof list));
}

/* The columns of a row for vectors, under their usual names. */
static const char *const pair_columns[] = {"query", "anchor", "passage", "positive", "negative"};
enum { PAIR_COLUMNS = sizeof pair_columns / sizeof pair_columns[0] };

static bool is_pair_column(const char *name) {
    for (size_t i = 0; i < PAIR_COLUMNS; i++)
        if (strcmp(name, pair_columns[i]) == 0) return true;
    return false;
}

toque_status tq_rows_csv_open(tq_rows *rows, toque_error *err) {
    const char *format = rows->o.format;
    size_t n = strlen(rows->path);
    bool tabs = (format && !strcmp(format, "tsv")) ||
                (!(format && !strcmp(format, "csv")) && n > 4 && !strcasecmp(rows->path + n - 4, ".tsv"));
    TQ_TRY(tq_csv_open(&rows->csv, rows->mem, rows->text.data, rows->text.len, tabs ? '\t' : 0, err));
    TQ_TRY(read_header(rows, err));
    const char *const wanted[] = {rows->o.prompt_column, rows->o.answer_column, rows->o.text_column,
                                  rows->o.label_column};
    for (size_t i = 0; i < 4; i++) TQ_TRY(find_column(rows, wanted[i], err));
    json_t *column;
    size_t i;
    json_array_foreach(rows->columns, i, column) {
        const char *name = json_string_value(column);
        if (rows->o.pairs && is_pair_column(name)) TQ_TRY(find_column(rows, name, err)); /* once */
    }
    if (rows->forced) return TOQUE_OK;
    json_t *names = json_object();
    int bad = !names;
    json_array_foreach(rows->columns, i, column) bad |= json_object_set(names, json_string_value(column), column);
    rows->form = bad ? FORM_NONE : tq_rows_recognize(names, rows->o.allow_no_target);
    json_decref(names);
    if (bad) return TQ_NOMEM(err);
    if (rows->form == FORM_ALPACA || rows->form == FORM_PROMPT || rows->form == FORM_TEXT) return TOQUE_OK;
    char list[400];
    return TQ_FAIL(err, EINVAL,
                   "which columns? give --prompt-column and --answer-column, or --text-column and "
                   "--label-column; the columns (%s) are: %s",
                   tq_csv_delimiter_name(rows->csv.delimiter), tq_rows_list(rows->columns, list, sizeof list));
}

static bool wanted(const tq_rows *rows, const char *name) {
    static const char *const own[] = {"instruction", "input", "output", "prompt", "completion", "text", "label"};
    const tq_data_options *o = &rows->o;
    if (o->pairs && is_pair_column(name)) return true;
    if (rows->form == FORM_COLUMNS || rows->form == FORM_FIELDS)
        return (o->prompt_column && !strcmp(name, o->prompt_column)) ||
               (o->answer_column && !strcmp(name, o->answer_column)) ||
               (o->text_column && !strcmp(name, o->text_column)) || (o->label_column && !strcmp(name, o->label_column));
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        if (strcmp(name, own[i]) == 0) return true;
    return false;
}

static toque_status record_object(tq_rows *rows, toque_error *err) {
    const tq_csv *csv = &rows->csv;
    size_t n = json_array_size(rows->columns);
    if (csv->n != n)
        return TQ_FAIL(err, EFORMAT,
                       "%zu field%s where the header has %zu (delimiter: %s; a field that contains it must "
                       "stand in quotes)",
                       csv->n, csv->n == 1 ? "" : "s", n, tq_csv_delimiter_name(csv->delimiter));
    rows->object = json_object();
    if (!rows->object) return TQ_NOMEM(err);
    for (size_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_array_get(rows->columns, i));
        if (wanted(rows, name) && json_object_set_new(rows->object, name, json_string(tq_csv_field(csv, i))))
            return TQ_NOMEM(err);
    }
    return TOQUE_OK;
}

/* A line of nothing, or of delimiters only, as spreadsheets leave them at the end. */
static bool empty_record(const tq_csv *csv) {
    for (size_t i = 0; i < csv->n; i++)
        if (*tq_csv_field(csv, i)) return false;
    return true;
}

toque_status tq_rows_csv_next(tq_rows *rows, tq_row *row, bool *more, toque_error *err) {
    tq_csv *csv = &rows->csv;
    for (;;) {
        TQ_TRY(tq_csv_next(csv, more, err));
        if (!*more) return TOQUE_OK;
        if (!empty_record(csv)) break;
        rows->n_blank += !csv->blank;
    }
    row->line = csv->record_line;
    row->raw = csv->data + csv->raw;
    row->raw_len = csv->raw_len;
    toque_status status = record_object(rows, err);
    if (status == TOQUE_OK) status = tq_rows_object(rows, row, err);
    return status == TOQUE_OK ? TOQUE_OK : tq_error_prefix(err, status, "line %u", row->line);
}
