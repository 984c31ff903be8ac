/* See data_options.h. */
#include "cli/data_options.h"

#define AT(field) offsetof(tq_cli_data, field)
const tq_option tq_cli_data_table[] = {
    {.key = "format",
     .type = TQ_OPT_TEXT,
     .offset = AT(format),
     .value = "NAME",
     .help = "messages, alpaca, sharegpt, prompt, text, csv or tsv; without it, recognized per file"},
    {.key = "prompt_column",
     .type = TQ_OPT_TEXT,
     .offset = AT(prompt_column),
     .value = "NAME",
     .help = "column of the prompt"},
    {.key = "answer_column",
     .type = TQ_OPT_TEXT,
     .offset = AT(answer_column),
     .value = "NAME",
     .help = "column of the answer"},
    {.key = "text_column",
     .type = TQ_OPT_TEXT,
     .offset = AT(text_column),
     .value = "NAME",
     .help = "column of a text with a label"},
    {.key = "label_column",
     .type = TQ_OPT_TEXT,
     .offset = AT(label_column),
     .value = "NAME",
     .help = "column of the label"},
    {.key = "system",
     .type = TQ_OPT_TEXT,
     .offset = AT(system),
     .value = "TEXT",
     .help = "a system message for rows that have none"},
    {0}};
#undef AT

tq_data_options tq_cli_data_options(const tq_cli *cli, const tq_cli_data *o) {
    return (tq_data_options){.paths = cli->set.positional,
                             .n_paths = cli->set.n_positional,
                             .format = o->format,
                             .prompt_column = o->prompt_column,
                             .answer_column = o->answer_column,
                             .text_column = o->text_column,
                             .label_column = o->label_column,
                             .system = o->system};
}
