/* The options that say how DATA is read, shared by commands. */
#ifndef TQ_CLI_DATA_OPTIONS_H
#define TQ_CLI_DATA_OPTIONS_H

#include "cli/cli.h"
#include "train/dataset.h"

typedef struct tq_cli_data {
    const char *format, *prompt_column, *answer_column, *text_column, *label_column, *system;
} tq_cli_data;
extern const tq_option tq_cli_data_table[];
/* The same as the reader takes it; paths are the command's positional arguments. */
tq_data_options tq_cli_data_options(const tq_cli *cli, const tq_cli_data *o);

#endif
