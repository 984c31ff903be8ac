/* Any bytes as a data file. The first byte chooses how it is read: as JSON (lines or an array) of any form, as a table
 * with columns named or recognized, or as one text. Reading comes to an end, and every row is whole. */
#include <math.h>

#include "fuzz.h"
#include "text/unicode.h"
#include "train/rows.h"

static const tq_data_options ways[] = {{0},
                                       {.allow_no_target = true, .system = "S"},
                                       {.format = "csv", .prompt_column = "q", .answer_column = "a"},
                                       {.format = "csv", .allow_no_target = true},
                                       {.format = "tsv", .text_column = "q", .label_column = "a"},
                                       {.format = "sharegpt"}};

static void check_row(const tq_row *row) {
    fuzz_require(row->line > 0 && row->weight > 0);
    fuzz_require(row->raw && tq_utf8_valid_prefix(row->raw, row->raw_len) == row->raw_len);
    fuzz_require(row->messages ? json_array_size(row->messages) > 0 : row->text != NULL);
    size_t i;
    json_t *m;
    json_array_foreach(row->messages, i, m) {
        fuzz_require(json_is_string(json_object_get(m, "role")) && json_is_string(json_object_get(m, "content")));
        fuzz_require(!row->turns || (row->turns[i] >= 0 && isfinite(row->turns[i])));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    char path[40];
    int fd = fuzz_file(data + 1, size - 1, path);
    tq_mem mem = {0};
    toque_error err;
    tq_rows *rows;
    if (tq_rows_open(&rows, &mem, path, &ways[data[0] % (sizeof ways / sizeof ways[0])], &err) == TOQUE_OK) {
        bool more = true;
        for (size_t steps = 0; more; steps++) {
            tq_row row;
            fuzz_require(steps <= size + 2);
            toque_status status = tq_rows_next(rows, &row, &more, &err);
            fuzz_require(status != TOQUE_EINTERNAL && status != TOQUE_ENOMEM);
            if (status != TOQUE_OK)
                more = true; /* it goes on behind a broken row */
            else if (more)
                check_row(&row);
        }
        tq_rows_close(rows);
    }
    close(fd);
    fuzz_check(&mem);
    return 0;
}
