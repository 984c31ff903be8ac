/* Datasets: files of rows in the formats people have, made into token sequences with a mask of what is learned.
 *
 * A file is read row by row (rows.h), a row is rendered through the model's chat template (or taken as text), tokenized
 * once as a whole, and masked by the origin of its bytes (docs/masks.md). Nothing is truncated: rows that are too long
 * are dropped and counted; a row with nothing to learn is an error.
 */
#ifndef TQ_TRAIN_DATASET_H
#define TQ_TRAIN_DATASET_H

#include "model/head.h"
#include "model/model.h"

typedef enum tq_train_on { TQ_TRAIN_ON_ASSISTANT, TQ_TRAIN_ON_LAST, TQ_TRAIN_ON_ALL } tq_train_on;

/* One file of DATA, with what is read otherwise than the options say (NULL: as they say). */
typedef struct tq_source {
    const char *path, *name;
    double weight; /* of its rows in a mix, see source.h */
    const char *system, *format, *prompt_column, *answer_column, *text_column, *label_column;
} tq_source;

typedef struct tq_data_options {
    const char *const *paths; /* files of DATA, in order */
    size_t n_paths;
    const tq_source *sources; /* [n_paths] or NULL */
    const char *format;       /* NULL: recognized per file; else messages|alpaca|sharegpt|prompt|text|csv|tsv */
    const char *prompt_column, *answer_column, *text_column, *label_column; /* CSV/TSV (and JSONL) columns, or NULL */
    const char *system;   /* system message put in front of rows that have none, or NULL */
    tq_train_on train_on; /* text rows: always all */
    int max_length;       /* tokens */
    bool allow_no_target; /* score, predict: rows without an answer are fine */
    bool fields;          /* for a head: text_column and label_column (or their defaults) as they stand, no messages */
    tq_head_kind head;    /* what label_column holds */
    const char *const *labels; /* [n_labels] known ones, which come first */
    size_t n_labels;
    const char *closed; /* not NULL: others are an error, which says this of the known ones */
    bool io;            /* tags without B- */
    bool pairs;         /* with fields: a query, a passage and negatives, see dataset_pair.c */
} tq_data_options;

typedef struct tq_example {
    tq_token *tokens;          /* [n] */
    const float *token_weight; /* [n] of each target, times the row's; NULL: all are 1 */
    uint8_t *target;           /* [n] 1: this token is learned (predicted from the one before it); target[0] is 0 */
    int n, n_targets;
    float weight;           /* of the row, 1 by default */
    uint32_t row;           /* its number over all files, from 0 */
    uint32_t line;          /* line in its file, from 1 */
    uint16_t file;          /* index into paths */
    bool read;              /* a head reads it: every token is run and none is predicted */
    float value;            /* of a number */
    const int32_t *classes; /* multilabel: [n_classes] numbers of its labels; tags: [n] of each token, -1: none */
    int n_classes;
    const int32_t *parts; /* [n_parts] of vectors: tokens of each text, which follow one another; n_parts 0: one text */
    int n_parts;
    int32_t label; /* number of its label (classification-like rows: text/label columns), or -1 */
} tq_example;

typedef struct tq_dataset {
    tq_mem *mem;
    tq_example *examples;
    size_t n, cap;
    tq_arena arena;             /* owns tokens and targets */
    size_t n_rows;              /* rows read */
    size_t n_too_long;          /* dropped: over max_length */
    int longest;                /* tokens of the longest row seen, dropped ones included */
    size_t n_split;             /* rows that became one example per assistant turn (rewriting templates) */
    size_t n_tokens, n_targets; /* of the examples that stay */
    size_t n_lost_spans;        /* that have no token of their own: all of theirs are the span's before */
    size_t n_unclosed;          /* examples with a learned turn that no end-of-turn token ends */
    const char **labels;        /* [n_labels] by number, in order of first appearance */
    size_t n_labels, cap_labels;
    char hash[65]; /* SHA-256 over the files' bytes */
    tq_buf notes;  /* what was recognized, one line each: "train.csv: CSV, ';', windows-1252, 2000 rows" */
} tq_dataset;

/* A hash of a text's tokens (FNV-1a): equal for equal texts. */
uint64_t tq_tokens_id(const tq_token *tokens, int n);
/* The options of file i: its own words before the common ones. */
tq_data_options tq_data_options_of(const tq_data_options *o, size_t i);
/* The number of a label, which becomes one if it was none. */
toque_status tq_dataset_label(tq_dataset *set, const char *name, int32_t *number, toque_error *err) TQ_MUST;
/* Reads, renders and tokenizes everything. Errors name file and line. ENOTFOUND for a missing file; EFORMAT when no row
 * is left (all too long: says so with the numbers). */
toque_status tq_dataset_load(tq_dataset *set, tq_model *model, const tq_data_options *o, toque_error *err) TQ_MUST;
void tq_dataset_clear(tq_dataset *set);
/* What was recognized and counted, for people: one line each, warnings last. */
bool tq_dataset_describe(const tq_dataset *set, tq_buf *out);
/* Moves a share (at most `most`) of the examples of set to held_out, stratified by file (where there are several) and
 * by label (where there are labels), chosen by seed; both keep their order, and examples of one row stay together.
 * held_out shares set's arena: clear it first.
 */
toque_status tq_dataset_split(tq_dataset *set, tq_dataset *held_out, double share, size_t most, uint64_t seed,
                              toque_error *err) TQ_MUST;

#endif
