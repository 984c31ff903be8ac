/* What the parts of the row reader share. */
#ifndef TQ_TRAIN_ROWS_IMPL_H
#define TQ_TRAIN_ROWS_IMPL_H

#include "train/charset.h"
#include "train/csv.h"
#include "train/rows.h"

typedef enum rows_form {
    FORM_NONE,
    FORM_MESSAGES,
    FORM_SHAREGPT,
    FORM_ALPACA,
    FORM_PROMPT,
    FORM_TEXT,
    FORM_COLUMNS,
    FORM_FIELDS /* the object itself, for heads */
} rows_form;
typedef enum rows_kind { KIND_JSON_LINES, KIND_JSON_ARRAY, KIND_CSV, KIND_WHOLE } rows_kind;

struct tq_rows {
    tq_mem *mem;
    tq_data_options o;
    char *path;
    char *bytes; /* the file */
    size_t n_bytes;
    tq_decoded text; /* the same in UTF-8 */
    size_t at;       /* JSON and whole files: read so far */
    uint32_t line;   /* of `at` */
    rows_kind kind;
    rows_form form;
    bool forced;        /* --format or columns chose the form */
    uint32_t form_line; /* the row that the form was recognized from */
    bool began, ended;  /* JSON array: an element was read; its bracket was closed, or it is broken */
    tq_csv csv;
    size_t header, header_len; /* of the CSV header in text */
    json_t *columns;           /* CSV: array of the header's names */
    size_t n_rows, n_blank;
    bool label_unused; /* text rows with a "label" that nobody asked for */
    json_t *object;    /* the current row as it was written */
    json_t *messages;  /* the current row's messages */
    float *turns;      /* weights of the messages */
    size_t turns_cap;
};

/* Room for n weights in rows->turns, all 1. */
toque_status tq_rows_turns(tq_rows *rows, size_t n, toque_error *err) TQ_MUST;
/* Makes row from rows->object; recognizes the file's form at its first row. Messages carry no file and line. */
toque_status tq_rows_object(tq_rows *rows, tq_row *row, toque_error *err) TQ_MUST;
void tq_rows_json_open(tq_rows *rows);
toque_status tq_rows_json_next(tq_rows *rows, tq_row *row, bool *more, toque_error *err) TQ_MUST;
toque_status tq_rows_csv_open(tq_rows *rows, toque_error *err) TQ_MUST;
toque_status tq_rows_csv_next(tq_rows *rows, tq_row *row, bool *more, toque_error *err) TQ_MUST;
toque_status tq_rows_whole_next(tq_rows *rows, tq_row *row, bool *more, toque_error *err) TQ_MUST;
/* The form that these keys are a row of, or FORM_NONE. */
rows_form tq_rows_recognize(const json_t *object, bool answer_optional);
const char *tq_rows_form_name(rows_form form);
rows_form tq_rows_form_find(const char *name);

/* ShareGPT's turns as messages, not yet checked. */
toque_status tq_rows_sharegpt(json_t **out, json_t *turns, toque_error *err) TQ_MUST;
/* "a string", "an object", ... with its article. */
const char *tq_rows_type_name(const json_t *value);
/* The names in an object or array of strings, for messages: at most n bytes, control characters as '?'. */
const char *tq_rows_list(const json_t *names, char *out, size_t n);
/* [{"role": role, "content": content}] at the end of messages; false without memory. */
bool tq_rows_add(json_t *messages, const char *role, const char *content, size_t n);

#endif
