/* The machine: runs passes of one model. It owns the buffers of a plan that was made before work starts; a pass within
 * the plan does not allocate and cannot fail. Serving, scoring, rollout and training are the same pass. One thread
 * uses a machine at a time (the pool's workers are inside it). */
#ifndef TQ_MODEL_MACHINE_H
#define TQ_MODEL_MACHINE_H

#include "model/head.h"
#include "model/model.h"

typedef enum tq_pass_kind {
    TQ_PASS_PREFILL, /* products by gemm: prompts, scoring */
    TQ_PASS_DECODE,  /* dot rows, at most TQ_DECODE_ROWS rows; int8 activations if the context allows */
    TQ_PASS_TRAIN    /* prefill that keeps what backward needs; segments without kv */
} tq_pass_kind;
enum { TQ_DECODE_ROWS = 16 };

typedef struct tq_pass {
    tq_pass_kind kind;
    const int32_t *tokens; /* [T], every id below V; tq_row_token where hats have a prompt */
    int T;
    const tq_segment *segments; /* gapless, in order of rows */
    int n_segments;
    uint64_t seed; /* of dropout and noise (TRAIN) */
    float noise;   /* NEFTune's alpha (TRAIN), 0: none */
} tq_pass;

typedef struct tq_plan {
    int max_rows; /* T of the largest pass */
    bool train;
    int max_rank;     /* of the adapters that will be worn, 0: none */
    int head_rows;    /* rows of logits held at a time; 0: chosen */
    size_t max_bytes; /* training: keep activations of as many layers as fit, recompute the others; 0: keep all */
    bool recompute;   /* training: keep those of no layer */
    /* filled in by tq_machine_new */
    int kept_layers;
    size_t bytes; /* of all buffers */
} tq_plan;

typedef struct tq_machine tq_machine;
/* ELIMIT with the numbers when even full recomputation does not fit max_bytes. */
toque_status tq_machine_new(tq_machine **machine, tq_model *model, tq_plan *plan, toque_error *err) TQ_MUST;
void tq_machine_free(tq_machine *machine);

/* Runs the layers. Each segment's kv grows by its n. EINVAL when the pass does not fit the plan or a cache. The pass's
 * arrays must stay valid until the last readout or backward of it. */
toque_status tq_machine_forward(tq_machine *m, const tq_pass *pass, toque_error *err) TQ_MUST;

/* Readouts of the last pass. A row's token is the one that it predicts (the next). */
typedef struct tq_target {
    int row;
    int32_t token;
} tq_target;
/* out [n, V] = logits of the listed rows, n at most TQ_DECODE_ROWS; by dot rows, in f32 unless the pass was DECODE. */
void tq_machine_logits(tq_machine *m, const int *rows, int n, float *out);
/* logp[i] = log-probability of targets[i] (sorted by row; a row may be listed several times, for several tokens).
 * With coef (TRAIN passes): also d(loss)/d(logp[i]) = coef[i] flows into the rows' hidden state for backward. */
void tq_machine_logp(tq_machine *m, const tq_target *targets, int n, const float *coef, float *logp);
/* The same, and mean[i] = the mean of log p over the vocabulary at targets[i]'s row, with d(loss)/d(mean[i]) =
 * mean_coef[i]. */
void tq_machine_logp_mean(tq_machine *m, const tq_target *targets, int n, const float *coef, const float *mean_coef,
                          float *logp, float *mean);
/* out [n, C]: the listed rows after the final norm. */
void tq_machine_hidden(tq_machine *m, const int *rows, int n, float *out);
/* grad [n, C] = d(loss)/d(what tq_machine_hidden gives for these rows) flows into them for backward (TRAIN passes); a
 * row may be listed once. */
void tq_machine_hidden_bwd(tq_machine *m, const int *rows, int n, const float *grad);
/* What a head reads of the last pass: out [items, C], a row for each segment (each: for each row of the pass). */
int tq_machine_items(const tq_machine *m, tq_read read);
void tq_machine_read(tq_machine *m, tq_read read, float *out);
/* grad [items, C] = d(loss)/d(value), value as tq_machine_read gave it, flows into the rows for backward; several heads
 * add up (TRAIN passes). The pooler's own gradients, if it is trained, are added to. */
void tq_machine_read_bwd(tq_machine *m, tq_read read, const float *value, const float *grad);
/* Runs the layers backwards after tq_machine_logp with coef, tq_machine_hidden_bwd or tq_machine_read_bwd; gradients of
 * trained adapters and weights are added to. */
void tq_machine_backward(tq_machine *m);

#endif
