/* Rows: one reader for every form of DATA (docs/data-formats.md). A file's form is recognized from its ending and its
 * first row; each row comes out as messages (or as plain text) with what belongs to it, whatever it was written as.
 * Needs no model. */
#ifndef TQ_TRAIN_ROWS_H
#define TQ_TRAIN_ROWS_H

#include <jansson.h>

#include "train/dataset.h"

enum { TQ_ROW_MAX_BYTES = 16 << 20, TQ_TEXT_MAX_BYTES = 256 << 20 };

typedef struct tq_row {
    json_t *messages; /* array of {"role", "content", ...}, checked; NULL: a row of text */
    json_t *tools;    /* array, or NULL */
    const char *text; /* text rows */
    size_t text_len;
    const float *turns; /* [messages] weight of each turn, times the row's: 0 is not to be learned; NULL: all are 1 */
    bool plain;    /* made from a prompt and an answer that were strings: may be joined where there is no template */
    bool answered; /* its last message is the assistant's */
    float weight;
    const char *label; /* the answer, for rows with a label column; NULL otherwise */
    const char *raw;   /* the row as it stands in the file, in UTF-8, without its line ending */
    size_t raw_len;
    uint32_t line;  /* where it begins, from 1 */
    json_t *object; /* with the option `fields`: the row itself, and nothing of the above but weight and raw */
} tq_row;           /* everything is owned by the reader and valid until its next call */

typedef struct tq_rows tq_rows;
/* Reads the file ("-": standard input) whole. Of the options: format, the columns, system, allow_no_target. ENOTFOUND
 * for a missing file, EFORMAT for an empty one. Errors name file and line. */
toque_status tq_rows_open(tq_rows **rows, tq_mem *mem, const char *path, const tq_data_options *o,
                          toque_error *err) TQ_MUST;
void tq_rows_close(tq_rows *rows);
/* The next row; *more false at the end. After an error the next call goes on behind the broken row. */
toque_status tq_rows_next(tq_rows *rows, tq_row *row, bool *more, toque_error *err) TQ_MUST;
/* What was recognized: "train.csv: CSV, semicolon, windows-1252, 2000 rows" (the rows read so far), then a line for
 * everything that the user should know. */
bool tq_rows_describe(const tq_rows *rows, tq_buf *out);
/* The bytes of the file as they are on disk. */
const char *tq_rows_bytes(const tq_rows *rows, size_t *n);
/* How far the reader is: rows read, and the share of the file's text behind it (0 to 1). */
size_t tq_rows_count(const tq_rows *rows);
double tq_rows_progress(const tq_rows *rows);

/* For those who write rows back: what the file is. */
bool tq_rows_is_csv(const tq_rows *rows, char *delimiter, bool *crlf);
bool tq_rows_is_json(const tq_rows *rows);
/* CSV: the header as it stands in the file. */
const char *tq_rows_header(const tq_rows *rows, size_t *n);
/* True if the file has a column (CSV), or the last row a key (JSON), of this name. */
bool tq_rows_has_column(const tq_rows *rows, const char *name);

/* Checks an OpenAI-style array of messages and makes what templates expect of it: content parts become one string,
 * tool calls' arguments become objects. Returns a new array. turns (may be NULL) [size of messages] is set from
 * "train": false and "weight" of the turns, which are taken out. */
toque_status tq_messages_normalize(json_t **out, tq_mem *mem, json_t *messages, float *turns, toque_error *err) TQ_MUST;

/* --- rows of fields (dataset_head.c) ------------------------------------------------------------------- */
/* One row of fields as an example for a head (dataset_head.c). */
toque_status tq_dataset_add_fields(tq_dataset *set, tq_model *model, const tq_data_options *o, const tq_row *row,
                                   uint16_t file, toque_error *err) TQ_MUST;
/* The same for vectors (dataset_pair.c). */
toque_status tq_dataset_add_pair(tq_dataset *set, tq_model *model, const tq_data_options *o, const tq_row *row,
                                 uint16_t file, toque_error *err) TQ_MUST;
/* The text of a row of fields: the column of that name, checked. */
toque_status tq_row_text(const tq_row *row, const char *column, tq_string *text, toque_error *err) TQ_MUST;

#endif
