/* toque eval of an adapter that answers with a head. */
#ifndef TQ_CLI_EVAL_HEAD_H
#define TQ_CLI_EVAL_HEAD_H

#include "cli/load.h"
#include "train/dataset.h"

typedef struct tq_eval_head {
    tq_cli *cli;
    const tq_cli_loaded *loaded;
    const tq_head *head;
    tq_data_options data;      /* as given; paths has one file */
    const char *out, *against; /* files of rows' answers, or NULL */
    double start;              /* when the command began */
} tq_eval_head;

/* Asks the head about every row of the file and prints how its answers compare with the truth. */
toque_status tq_eval_head_run(const tq_eval_head *e, toque_error *err) TQ_MUST;

#endif
