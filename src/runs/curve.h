/* A loss curve for a terminal: training loss as a line of braille dots (or of '*'), evaluations as 'o'. */
#ifndef TQ_RUNS_CURVE_H
#define TQ_RUNS_CURVE_H

#include "runs/metrics.h"

typedef struct tq_curve_style {
    int width, height; /* of the plot in characters, axes apart */
    bool unicode;
} tq_curve_style;

/* Appends the picture. False: out of memory. Fewer than two points of training loss draw nothing. */
bool tq_curve_draw(tq_mem *mem, tq_buf *out, const tq_metrics_series *s, tq_curve_style style);

#endif
