/* The parts of toque predict: answers decoded many rows at once, labels scored, and a file that can be gone on with. */
#ifndef TQ_CLI_PREDICT_H
#define TQ_CLI_PREDICT_H

#include "cli/cli.h"
#include "cli/load.h"
#include "eval/labels.h"
#include "infer/reader.h"
#include "train/rows.h"

/* What a row gets. */
typedef struct tq_prediction {
    char *answer; /* owned (the context's memory), or NULL: there is none, the row is too long */
    size_t len;
    bool json;          /* the answer is JSON, not a text */
    char *shares;       /* owned, in place of the probability: JSON or a table's field; or NULL */
    double probability; /* of the answer: the product over its tokens; with labels: its share among them */
} tq_prediction;
typedef toque_status tq_predicted_fn(void *arg, size_t id, tq_prediction *p,
                                     toque_error *err); /* takes p->answer over */

/* --- greedy decoding of up to TQ_DECODE_ROWS rows at once; each row's answer is the one it would get alone ---------
 */
typedef struct tq_decoder tq_decoder;
/* n: tokens of an answer at most. hats may be NULL; both outlive the decoder. */
toque_status tq_decoder_new(tq_decoder **d, tq_model *model, const tq_hats *hats, int max_rank, int n,
                            tq_predicted_fn *fn, void *arg, toque_error *err) TQ_MUST;
void tq_decoder_free(tq_decoder *d);
int tq_decoder_free_slots(const tq_decoder *d);
int tq_decoder_active(const tq_decoder *d);
/* Puts a row into a free slot; the prompt is copied. ELIMIT when it fills the model's context. */
toque_status tq_decoder_add(tq_decoder *d, size_t id, const tq_token *prompt, int n, toque_error *err) TQ_MUST;
/* One token for every active row; fn is called for the rows that are done. */
toque_status tq_decoder_step(tq_decoder *d, toque_error *err) TQ_MUST;

/* --- heads (predict_head.c) --- */
/* The names of the new columns; *probability NULL: there is none. */
void tq_predict_names(const tq_head *h, const char **answer, const char **probability);
/* What a head says of a text; csv: lists as a table's field. */
toque_status tq_predict_reading(const tq_head *h, tq_mem *mem, const char *text, const tq_reading *r, bool csv,
                                tq_prediction *p, toque_error *err) TQ_MUST;

/* --- the output -----------------------------------------------------------------------------------------------------
 */
typedef struct tq_predict_out {
    tq_cli *cli;
    tq_mem *mem;
    const char *path;    /* NULL: standard output */
    char *partial, *key; /* path.partial and path.partial.key */
    int fd;
    bool csv, crlf;
    char delimiter;
    char answer[24], probability[24]; /* names of the new columns; "": there is none */
    size_t kept;                      /* rows that an earlier run wrote */
    double synced;
    tq_buf line;
} tq_predict_out;
/* Names must be chosen. key: what the answers depend on; a partial file of the same key is gone on with if resume. */
toque_status tq_predict_open(tq_predict_out *out, tq_cli *cli, const char *path, const tq_rows *rows, const char *key,
                             bool resume, toque_error *err) TQ_MUST;
toque_status tq_predict_put(tq_predict_out *out, const char *raw, size_t raw_len, const tq_prediction *p,
                            toque_error *err) TQ_MUST;
/* Everything is written: the partial file gets its name. */
toque_status tq_predict_commit(tq_predict_out *out, toque_error *err) TQ_MUST;
/* Closes; what was written so far stays for the next run. */
void tq_predict_close(tq_predict_out *out);

#endif
