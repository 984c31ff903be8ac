/* The CSV reader and its sniffer. See csv.h. */
#include "train/csv.h"

#include <string.h>

static const char delimiters[] = {',', ';', '\t', '|'};

const char *tq_csv_delimiter_name(char delimiter) {
    switch (delimiter) {
    case ',': return "comma";
    case ';': return "semicolon";
    case '\t': return "tab";
    case '|': return "bar";
    default: return "another character";
    }
}

static bool put_byte(tq_csv *csv, char c) {
    if (!TQ_GROW(csv->mem, csv->values, csv->values_len, csv->values_cap)) return false;
    csv->values[csv->values_len++] = c;
    return true;
}

static bool begin_field(tq_csv *csv) {
    if (!TQ_GROW(csv->mem, csv->starts, csv->n, csv->starts_cap)) return false;
    csv->starts[csv->n++] = csv->values_len;
    return true;
}

/* Length of the line ending at position i: 0, 1 or 2. */
static size_t line_end(const tq_csv *csv, size_t i) {
    if (i >= csv->size) return 0;
    if (csv->data[i] == '\n') return 1;
    if (csv->data[i] != '\r') return 0;
    return i + 1 < csv->size && csv->data[i + 1] == '\n' ? 2 : 1;
}

/* Puts the reader behind the line that `at` stands in, so that reading can go on after an error. */
static void skip_line(tq_csv *csv, size_t at) {
    while (at < csv->size && !line_end(csv, at)) at++;
    csv->at = at + line_end(csv, at);
    csv->line = csv->record_line;
    for (size_t i = csv->raw; i < csv->at; i++) {
        size_t end = line_end(csv, i);
        csv->line += end > 0;
        i += end > 1;
    }
}

/* A field in quotes, from after the opening one; *at ends behind the closing one. */
static toque_status quoted(tq_csv *csv, size_t *at, toque_error *err) {
    size_t i = *at;
    for (; i < csv->size; i++) {
        if (i - csv->raw > TQ_CSV_MAX_RECORD) break;
        char c = csv->data[i];
        if (c == '"') {
            if (i + 1 >= csv->size || csv->data[i + 1] != '"') {
                *at = i + 1;
                return TOQUE_OK;
            }
            i++;
        }
        if (!put_byte(csv, c)) return TQ_NOMEM(err);
    }
    size_t first = csv->raw, lines = 0;
    for (size_t k = first; k < *at; k++) lines += csv->data[k] == '\n';
    uint32_t line = csv->record_line + (uint32_t)lines;
    bool ended = i >= csv->size;
    skip_line(csv, *at);
    return ended ? TQ_FAIL(err, EFORMAT, "line %u: a quote opens here and is never closed", line)
                 : TQ_FAIL(err, ELIMIT,
                           "line %u: a quoted field makes its row longer than %d bytes (a quote that is not "
                           "closed?)",
                           line, TQ_CSV_MAX_RECORD);
}

toque_status tq_csv_next(tq_csv *csv, bool *more, toque_error *err) {
    *more = csv->at < csv->size;
    csv->n = csv->values_len = 0;
    if (!*more) return TOQUE_OK;
    csv->raw = csv->at;
    csv->record_line = csv->line;
    size_t i = csv->at;
    for (;;) {
        if (!begin_field(csv)) return TQ_NOMEM(err);
        if (i < csv->size && csv->data[i] == '"') {
            i++;
            TQ_TRY(quoted(csv, &i, err));
            if (i < csv->size && csv->data[i] != csv->delimiter && !line_end(csv, i)) {
                size_t column = i - csv->raw + 1;
                skip_line(csv, i);
                return TQ_FAIL(err, EFORMAT,
                               "line %u, byte %zu of the row: text after a closing quote (a quote inside a "
                               "quoted field is written twice)",
                               csv->record_line, column);
            }
        } else {
            for (; i < csv->size && csv->data[i] != csv->delimiter && !line_end(csv, i); i++)
                if (!put_byte(csv, csv->data[i])) return TQ_NOMEM(err);
        }
        if (!put_byte(csv, 0)) return TQ_NOMEM(err);
        if (i >= csv->size || csv->data[i] != csv->delimiter) break;
        i++;
    }
    csv->raw_len = i - csv->raw;
    skip_line(csv, i);
    csv->blank = csv->raw_len == 0;
    if (csv->raw_len > TQ_CSV_MAX_RECORD)
        return TQ_FAIL(err, ELIMIT, "line %u: the row is longer than %d bytes", csv->record_line, TQ_CSV_MAX_RECORD);
    return TOQUE_OK;
}

/* How well a delimiter explains the first rows: the share of rows with as many fields as the first, then the number of
 * fields. */
static toque_status score(const tq_csv *from, char delimiter, double *share, size_t *fields, toque_error *err) {
    enum { LOOK = 50, LOOK_BYTES = 256 << 10 };
    bool cut = from->size > LOOK_BYTES;
    tq_csv csv = {.mem = from->mem,
                  .data = from->data,
                  .size = cut ? LOOK_BYTES : from->size,
                  .at = from->at,
                  .line = 1,
                  .delimiter = delimiter};
    size_t rows = 0, same = 0;
    toque_status status = TOQUE_OK;
    *fields = 0;
    for (bool more = true; rows < LOOK;) {
        toque_error ignored;
        status = tq_csv_next(&csv, &more, &ignored);
        if (status == TOQUE_ENOMEM) {
            if (err) *err = ignored;
            break;
        }
        if (!more || (cut && rows > 0 && csv.at >= csv.size)) break; /* a row that the cut may have broken */
        bool broken = status != TOQUE_OK;
        status = TOQUE_OK;
        if (!broken && csv.blank) continue;
        if (rows++ == 0) *fields = broken ? 0 : csv.n;
        same += !broken && csv.n == *fields;
    }
    *share = rows ? (double)same / (double)rows : 0;
    tq_csv_close(&csv);
    return status;
}

static toque_status sniff(tq_csv *csv, toque_error *err) {
    double best = 0;
    size_t best_fields = 1;
    csv->delimiter = ',';
    for (size_t d = 0; d < sizeof delimiters; d++) {
        double share;
        size_t fields;
        TQ_TRY(score(csv, delimiters[d], &share, &fields, err));
        if (fields < 2 || share < best || (share == best && fields <= best_fields)) continue;
        best = share;
        best_fields = fields;
        csv->delimiter = delimiters[d];
    }
    return TOQUE_OK;
}

toque_status tq_csv_open(tq_csv *csv, tq_mem *mem, const char *data, size_t size, char delimiter, toque_error *err) {
    *csv = (tq_csv){.mem = mem, .data = data, .size = size, .line = 1, .delimiter = delimiter};
    const char *lf = size ? memchr(data, '\n', size) : NULL;
    csv->crlf = lf && lf > data && lf[-1] == '\r';
    if (size >= 6 && memcmp(data, "sep=", 4) == 0 && line_end(csv, 5)) { /* how Excel says it */
        csv->delimiter = data[4];
        csv->record_line = 1;
        skip_line(csv, 0);
        return TOQUE_OK;
    }
    return delimiter ? TOQUE_OK : sniff(csv, err);
}

void tq_csv_close(tq_csv *csv) {
    tq_free(csv->mem, csv->values);
    tq_free(csv->mem, csv->starts);
    csv->values = NULL;
    csv->starts = NULL;
    csv->n = csv->values_len = csv->values_cap = csv->starts_cap = 0;
}

bool tq_csv_put(tq_buf *out, const char *value, size_t n, char delimiter) {
    bool plain = n == 0 || (value[0] != ' ' && value[n - 1] != ' ');
    for (size_t i = 0; i < n && plain; i++)
        plain = value[i] != delimiter && value[i] != '"' && value[i] != '\n' && value[i] != '\r';
    if (plain) return tq_buf_put(out, value, n);
    tq_buf_putc(out, '"');
    for (size_t i = 0; i < n; i++) {
        if (value[i] == '"') tq_buf_putc(out, '"');
        tq_buf_putc(out, value[i]);
    }
    return tq_buf_putc(out, '"');
}
