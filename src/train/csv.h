/* CSV as programs and people write it: RFC 4180 with any of , ; tab | as the delimiter, newlines in quotes, doubled
 * quotes, LF, CRLF or CR. The text is UTF-8 in memory (charset.h). */
#ifndef TQ_TRAIN_CSV_H
#define TQ_TRAIN_CSV_H

#include "base/buf.h"

enum { TQ_CSV_MAX_RECORD = 16 << 20 };

typedef struct tq_csv {
    tq_mem *mem;
    const char *data;
    size_t size, at;
    uint32_t line; /* of `at`, from 1 */
    char delimiter;
    bool crlf; /* the first line ends so */
    /* the last record */
    size_t raw, raw_len;  /* its bytes without the line ending */
    uint32_t record_line; /* where it begins */
    char *values;         /* field values, NUL-terminated, one after the other */
    size_t values_len, values_cap;
    size_t *starts; /* [n] offset of each field in values */
    size_t n, starts_cap;
    bool blank; /* a line with nothing in it */
} tq_csv;

/* delimiter 0: found out from the first rows (and from a first line "sep=;", which is skipped). */
toque_status tq_csv_open(tq_csv *csv, tq_mem *mem, const char *data, size_t size, char delimiter,
                         toque_error *err) TQ_MUST;
void tq_csv_close(tq_csv *csv);
/* The next record; *more false at the end. A broken record is EFORMAT with its line; the next call goes on after it. */
toque_status tq_csv_next(tq_csv *csv, bool *more, toque_error *err) TQ_MUST;
static inline const char *tq_csv_field(const tq_csv *csv, size_t i) {
    return csv->values + csv->starts[i];
}
/* Appends a value, quoted if it needs to be. */
bool tq_csv_put(tq_buf *out, const char *value, size_t n, char delimiter);
/* "comma", "semicolon", "tab", "bar": for messages. */
const char *tq_csv_delimiter_name(char delimiter);

#endif
