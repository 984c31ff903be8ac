/* The options of sampling, shared by the commands that generate. */
#ifndef TQ_CLI_SAMPLING_H
#define TQ_CLI_SAMPLING_H

#include "cli/cli.h"
#include "infer/generate.h"

typedef struct tq_cli_sampling {
    double temp, top_p, min_p, typical, repeat_penalty, frequency_penalty, presence_penalty;
    int64_t top_k, repeat_window, seed;
    tq_option_list stop, logit_bias;
} tq_cli_sampling;
extern const tq_option tq_cli_sampling_table[];

/* What a command takes where nothing is given. */
typedef struct tq_cli_sampling_defaults {
    double temp, min_p;
} tq_cli_sampling_defaults;

/* Options as the sampler wants them. Without --seed, one is taken from the system when it is needed. The bias list
 * belongs to the caller: tq_cli_sampling_clear. */
toque_status tq_cli_sampling_get(tq_cli *cli, const tq_cli_sampling *o, const tq_cli_sampling_defaults *defaults,
                                 const tq_tokenizer *tok, tq_sampling *sampling, toque_error *err) TQ_MUST;
void tq_cli_sampling_clear(tq_cli *cli, tq_sampling *sampling);
/* "greedy", or "temperature 0.7, min-p 0.05, seed 42". */
bool tq_cli_sampling_describe(const tq_sampling *sampling, tq_buf *out);

#endif
