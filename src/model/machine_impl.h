/* The inside of a machine, shared by machine.c (layers), machine_head.c (readouts) and machine_plan.c (memory). */
#ifndef TQ_MODEL_MACHINE_IMPL_H
#define TQ_MODEL_MACHINE_IMPL_H

#include "model/machine.h"

struct tq_machine {
    tq_model *model;
    tq_plan plan;
    tq_pass pass;                 /* the last one */
    const struct tq_adapter *own; /* that replaces tensors of the model in this pass, or NULL */
    bool prefixed;                /* a row of this pass has a prefix of attention */
    tq_exec base;                 /* what stays the same for all layers of a pass; workers bind copies of it */
    char *block;                  /* all buffers */

    float **stream; /* [L + 1] the residual stream between layers, [T, C] each (two alternate outside training) */
    float *stream_grad[2];
    float *shared[TQ_MAX_BUFFERS]; /* a layer's buffers, for layers that are not kept */
    float *shared_lse;
    float **kept;     /* [L * TQ_MAX_BUFFERS] a kept layer's own buffers; NULL: shared */
    float **kept_lse; /* [L] */
    float *grads[TQ_MAX_BUFFERS];
    float *in[TQ_MAX_BUFFERS], *in_grads[TQ_MAX_BUFFERS]; /* the in program's; its output is stream[0] */
    int lowest;                                           /* backward goes down to this layer */
    bool trains_in;                                       /* and to the in program */

    /* the head, for chunks of plan.head_rows rows */
    float *head_in, *head_grad; /* [rows, C] after the norm */
    float *head_r;              /* [rows] 1 / rms */
    float *logits;              /* [rows, V] */
    float *row_r;               /* [T] 1 / rms of rows that are read by segments (training) */
    int *head_row;              /* [rows] rows of the pass in this chunk */
    int *head_first;            /* [rows + 1] their targets */
};

/* Whether backward needs layer l's own buffers kept (the top plan.kept_layers are). */
static inline bool tq_machine_keeps(const tq_machine *m, int l) {
    return m->plan.train && l >= m->model->config.L - m->plan.kept_layers;
}
/* The in program's weights have gradients. */
bool tq_machine_trains_in(const tq_machine *m);
/* The norm behind the layers; data NULL: there is none. */
const tq_weight *tq_machine_final_norm(const tq_machine *m);
/* Adds the gradient d [C] of a row behind the final norm to that of the stream; r as the norm returned it. */
void tq_machine_row_bwd(tq_machine *m, int64_t row, const float *d, float r);
/* Where the pass ended: [T, C]. */
static inline float *tq_machine_final(const tq_machine *m) {
    return m->stream[m->model->config.L];
}

#endif
