/* The cheap baseline beside a tuned model: rows of few short answers are also given to a linear probe over TF-IDF,
 * which learns from the rows that the run learned from and answers those that it held out. */
#ifndef TQ_CLI_BASELINE_H
#define TQ_CLI_BASELINE_H

#include "cli/answers.h"
#include "cli/cli.h"
#include "train/tune.h"

enum { TQ_BASELINE_ROWS = 5000 }; /* more are not tried: a probe takes them in `toque probe` */

typedef struct tq_baseline {
    size_t rows, right; /* held-out rows; 0: the data is not of that kind */
    char text[400];     /* the result as a sentence */
} tq_baseline;
/* After the run's end. Rows are of that kind when each has a text and an answer of at most 100 bytes and there are at
 * least four rows a label to learn from. The run is done by then: what hinders the baseline is a remark, no error. */
void tq_baseline_measure(tq_baseline *b, tq_cli *cli, const tq_tune *t);

#endif
