/* The reader of rows: opens a file, finds out what it is, hands the work to the reader of its kind. See rows.h. */
#include "train/rows.h"

#include <string.h>
#include <strings.h>

#include "base/io.h"
#include "train/rows_impl.h"

static bool has_ending(const char *path, const char *ending) {
    size_t n = strlen(path), k = strlen(ending);
    return n > k && strcasecmp(path + n - k, ending) == 0;
}

static bool begins_like_json(const tq_rows *rows) {
    for (size_t i = 0; i < rows->text.len; i++)
        if (!strchr(" \t\r\n", rows->text.data[i])) return rows->text.data[i] == '{' || rows->text.data[i] == '[';
    return false;
}

/* The kind by ending; standard input and other nameless input by its first character. */
static rows_kind kind_of(const tq_rows *rows) {
    static const char *const json[] = {".jsonl", ".ndjson", ".json"}, *const csv[] = {".csv", ".tsv", ".tab"};
    const char *path = rows->path;
    for (size_t i = 0; i < 3; i++) {
        if (has_ending(path, json[i])) return KIND_JSON_LINES;
        if (has_ending(path, csv[i])) return KIND_CSV;
    }
    bool nameless = strcmp(path, "-") == 0 || strncmp(path, "/dev/", 5) == 0;
    return nameless && begins_like_json(rows) ? KIND_JSON_LINES : KIND_WHOLE;
}

static toque_status choose(tq_rows *rows, toque_error *err) {
    const char *format = rows->o.format;
    bool columns = rows->o.prompt_column || rows->o.answer_column || rows->o.text_column || rows->o.label_column;
    rows->kind = kind_of(rows);
    if (rows->o.fields) {
        if (format && !strcmp(format, "csv")) rows->kind = KIND_CSV;
        if (format && !strcmp(format, "tsv")) rows->kind = KIND_CSV;
        if (rows->kind == KIND_WHOLE)
            return TQ_FAIL(err, EINVAL, "%s is one text: rows of fields are JSONL, CSV or TSV (--format csv)",
                           rows->path);
        rows->form = FORM_FIELDS;
        rows->forced = true;
        return TOQUE_OK;
    }
    if (format && (!strcmp(format, "csv") || !strcmp(format, "tsv"))) {
        rows->kind = KIND_CSV;
    } else if (format) {
        rows->form = tq_rows_form_find(format);
        if (rows->form == FORM_NONE)
            return TQ_FAIL(err, EINVAL,
                           "format \"%s\" is unknown: messages, alpaca, sharegpt, prompt, text, csv or tsv", format);
        rows->forced = true;
        if (rows->kind == KIND_WHOLE && rows->form != FORM_TEXT) rows->kind = KIND_JSON_LINES;
    }
    if (!columns) return TOQUE_OK;
    if (rows->forced)
        return TQ_FAIL(err, EINVAL, "--format %s names its own fields: leave out the column options", format);
    if (rows->kind == KIND_WHOLE)
        return TQ_FAIL(err, EINVAL,
                       "columns are of CSV, TSV and JSONL files, and the name of %s ends like none of them: "
                       "give --format csv, or rename it",
                       rows->path);
    bool pair = rows->o.prompt_column && !rows->o.text_column && !rows->o.label_column &&
                (rows->o.answer_column || rows->o.allow_no_target);
    bool labels = rows->o.text_column && !rows->o.prompt_column && !rows->o.answer_column &&
                  (rows->o.label_column || rows->o.allow_no_target);
    if (!pair && !labels)
        return TQ_FAIL(err, EINVAL, "give --prompt-column with --answer-column, or --text-column with --label-column");
    rows->form = FORM_COLUMNS;
    rows->forced = true;
    return TOQUE_OK;
}

toque_status tq_rows_open(tq_rows **result, tq_mem *mem, const char *path, const tq_data_options *o, toque_error *err) {
    *result = NULL;
    tq_rows *rows = TQ_NEW(mem, tq_rows);
    if (!rows) return TQ_NOMEM(err);
    rows->mem = mem;
    rows->o = *o;
    rows->line = 1;
    toque_status status = TOQUE_OK;
    rows->path = tq_strdup(mem, path);
    if (!rows->path) {
        status = TQ_NOMEM(err);
        goto done;
    }
    TQ_GO(tq_read_file(&rows->bytes, &rows->n_bytes, mem, path, SIZE_MAX / 8, err));
    /* JSON is UTF-8 by its standard (RFC 8259); only a byte order mark says otherwise. */
    rows->kind = kind_of(rows);
    bool csv = o->format && (!strcmp(o->format, "csv") || !strcmp(o->format, "tsv"));
    bool guess = csv || rows->kind != KIND_JSON_LINES;
    status = tq_decode(&rows->text, mem, rows->bytes, rows->n_bytes, guess, err);
    if (status != TOQUE_OK) {
        tq_error_prefix(err, status, "%s", path);
        goto done;
    }
    if (strspn(rows->text.data ? rows->text.data : "", " \t\r\n") >= rows->text.len) {
        status = TQ_FAIL(err, EFORMAT, "%s is empty", path);
        goto done;
    }
    TQ_GO(choose(rows, err));
    if (rows->kind == KIND_CSV)
        status = tq_rows_csv_open(rows, err);
    else if (rows->kind == KIND_JSON_LINES)
        tq_rows_json_open(rows);
    if (status != TOQUE_OK) tq_error_prefix(err, status, "%s", path);
done:
    if (status == TOQUE_OK)
        *result = rows;
    else
        tq_rows_close(rows);
    return status;
}

void tq_rows_close(tq_rows *rows) {
    if (!rows) return;
    json_decref(rows->object);
    json_decref(rows->messages);
    json_decref(rows->columns);
    if (rows->csv.mem) tq_csv_close(&rows->csv);
    tq_decoded_clear(&rows->text, rows->mem);
    tq_free(rows->mem, rows->bytes);
    tq_free(rows->mem, rows->turns);
    tq_free(rows->mem, rows->path);
    tq_free(rows->mem, rows);
}

toque_status tq_rows_turns(tq_rows *rows, size_t n, toque_error *err) {
    if (n > rows->turns_cap) {
        float *p = tq_realloc(rows->mem, rows->turns, n, sizeof *p);
        if (!p) return TQ_NOMEM(err);
        rows->turns = p;
        rows->turns_cap = n;
    }
    for (size_t i = 0; i < n; i++) rows->turns[i] = 1;
    return TOQUE_OK;
}

toque_status tq_rows_whole_next(tq_rows *rows, tq_row *row, bool *more, toque_error *err) {
    *more = rows->at < rows->text.len;
    if (!*more) return TOQUE_OK;
    rows->at = rows->text.len;
    if (rows->text.len > TQ_TEXT_MAX_BYTES)
        return TQ_FAIL(err, ELIMIT, "a text of %zu bytes: at most %d may be one row; cut it into {\"text\": ...} lines",
                       rows->text.len, TQ_TEXT_MAX_BYTES);
    row->text = row->raw = rows->text.data;
    row->text_len = row->raw_len = rows->text.len;
    row->line = 1;
    return TOQUE_OK;
}

toque_status tq_rows_next(tq_rows *rows, tq_row *row, bool *more, toque_error *err) {
    *row = (tq_row){.weight = 1};
    json_decref(rows->object);
    json_decref(rows->messages);
    rows->object = rows->messages = NULL;
    toque_status status;
    if (rows->kind == KIND_CSV)
        status = tq_rows_csv_next(rows, row, more, err);
    else if (rows->kind == KIND_WHOLE)
        status = tq_rows_whole_next(rows, row, more, err);
    else
        status = tq_rows_json_next(rows, row, more, err);
    if (status != TOQUE_OK) return tq_error_prefix(err, status, "%s", rows->path);
    rows->n_rows += *more;
    return TOQUE_OK;
}

bool tq_rows_describe(const tq_rows *rows, tq_buf *out) {
    static const char *const kinds[] = {"JSON lines", "JSON array", "CSV", "one text"};
    tq_buf_printf(out, "%s: %s", rows->path, kinds[rows->kind]);
    if (rows->kind == KIND_CSV) tq_buf_printf(out, ", %s", tq_csv_delimiter_name(rows->csv.delimiter));
    tq_buf_printf(out, ", %s", rows->text.encoding);
    if (rows->kind != KIND_WHOLE && rows->form != FORM_NONE)
        tq_buf_printf(out, ", %s rows", tq_rows_form_name(rows->form));
    tq_buf_printf(out, ", %zu row%s", rows->n_rows, rows->n_rows == 1 ? "" : "s");
    if (rows->n_blank) tq_buf_printf(out, " (%zu empty left out)", rows->n_blank);
    tq_buf_putc(out, '\n');
    if (rows->label_unused)
        tq_buf_printf(out,
                      "%s: rows have a \"label\" that is not learned: --text-column text --label-column label "
                      "makes it the answer\n",
                      rows->path);
    return !out->failed;
}

const char *tq_rows_bytes(const tq_rows *rows, size_t *n) {
    *n = rows->n_bytes;
    return rows->bytes;
}

size_t tq_rows_count(const tq_rows *rows) {
    return rows->n_rows;
}

double tq_rows_progress(const tq_rows *rows) {
    size_t at = rows->kind == KIND_CSV ? rows->csv.at : rows->at;
    return rows->text.len ? (double)at / (double)rows->text.len : 1;
}

bool tq_rows_is_csv(const tq_rows *rows, char *delimiter, bool *crlf) {
    if (rows->kind != KIND_CSV) return false;
    *delimiter = rows->csv.delimiter;
    *crlf = rows->csv.crlf;
    return true;
}

bool tq_rows_is_json(const tq_rows *rows) {
    return rows->kind == KIND_JSON_LINES || rows->kind == KIND_JSON_ARRAY;
}

const char *tq_rows_header(const tq_rows *rows, size_t *n) {
    *n = rows->header_len;
    return rows->text.data + rows->header;
}

bool tq_rows_has_column(const tq_rows *rows, const char *name) {
    if (rows->kind != KIND_CSV) return json_object_get(rows->object, name) != NULL;
    size_t i;
    json_t *column;
    json_array_foreach(rows->columns, i, column) if (strcmp(json_string_value(column), name) == 0) return true;
    return false;
}
