/* What a training will need, added up before it starts. */
#ifndef TQ_TRAIN_MEMORY_PLAN_H
#define TQ_TRAIN_MEMORY_PLAN_H

#include "train/trainer.h"

typedef struct tq_memory_plan {
    size_t model_file;                 /* mapped: counts as resident while it is used */
    size_t in_use;                     /* already allocated: vocabulary, data, adapter */
    size_t gradients, optimizer, best; /* of the trained values; an average counts as the optimizer's */
    size_t activations;                /* the machine's buffers */
    int kept_layers, layers; /* layers whose activations are kept; the others are computed again in backward */
    size_t limit;            /* 0: none */
} tq_memory_plan;

/* Everything but the activations, from the adapter (before tq_adapter_train). *activations gets what the limit leaves
 * for them (0: no limit). ELIMIT with the numbers when nothing is left. */
toque_status tq_memory_plan_make(tq_memory_plan *plan, const tq_adapter *adapter, const tq_optimizer *optimizer,
                                 bool ema, bool keep_best, size_t *activations, toque_error *err) TQ_MUST;
size_t tq_memory_plan_total(const tq_memory_plan *plan);
/* One line without newline: "memory: 812 MB: model file 98, activations 431 (all 30 layers kept), ...". */
bool tq_memory_plan_print(const tq_memory_plan *plan, tq_buf *out);

#endif
