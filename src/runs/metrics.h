/* metrics.jsonl: one JSON object a line, appended while a run goes on. A step's line has the key `loss`, an
 * evaluation's `eval_loss` and no `loss`. Numbers keep 9 significant digits. A line is written whole or not at all. */
#ifndef TQ_RUNS_METRICS_H
#define TQ_RUNS_METRICS_H

#include "base/io.h"
#include "runs/figures.h"

typedef struct tq_metrics {
    tq_mem *mem;
    char *path;
    int fd;
} tq_metrics;

typedef struct tq_metrics_step {
    int64_t step;          /* from 1 */
    double epoch;          /* passes over the data after this step */
    double loss;           /* mean -log p of a target token before the update */
    const char *objective; /* its name when its loss differs from `loss`, or NULL */
    double objective_loss; /* written as `<objective>_loss` */
    double lr, grad_norm;
    int64_t tokens, target_tokens;
    double tokens_per_second;
} tq_metrics_step;

/* Opens for appending. First everything is removed from the first line on that a run which stands after `step` steps,
 * its last evaluation made after `evaluated`, has not written yet, or that was cut short (step -1: the file starts
 * anew). *last (may be NULL) is the last step that has a line with `loss` (0: none). */
toque_status tq_metrics_open(tq_metrics *m, tq_mem *mem, const char *path, int64_t step, int64_t evaluated,
                             int64_t *last, toque_error *err) TQ_MUST;
void tq_metrics_close(tq_metrics *m); /* accepts a zeroed struct */
toque_status tq_metrics_put_step(tq_metrics *m, const tq_metrics_step *s, toque_error *err) TQ_MUST;
/* figures: numbers by name, written as `eval_NAME`, or NULL. by_task: {name: loss} as `eval_loss_by_task`, or NULL. */
toque_status tq_metrics_put_eval(tq_metrics *m, int64_t step, double epoch, double eval_loss, int64_t target_tokens,
                                 json_t *figures, const json_t *by_task, toque_error *err) TQ_MUST;
/* Onto the disk: called before the checkpoint that the lines belong to. */
toque_status tq_metrics_sync(tq_metrics *m, toque_error *err) TQ_MUST;

/* The file read back, for curves and reports. */
typedef struct tq_metrics_point {
    int64_t step;
    double value;
} tq_metrics_point;
typedef struct tq_metrics_series {
    tq_mem *mem;
    tq_metrics_point *loss, *eval;
    size_t n_loss, cap_loss, n_eval, cap_eval;
    json_t *first_by_task, *last_by_task; /* `eval_loss_by_task` of the first and last line that has it, or NULL */
} tq_metrics_series;
toque_status tq_metrics_read(tq_metrics_series *s, tq_mem *mem, const char *path, toque_error *err) TQ_MUST;
void tq_metrics_series_clear(tq_metrics_series *s);

#endif
