/* PEFT kinds: a row of peft.def and one file each (peft_<kind>.c). A kind says which ranges a site has and what it
 * does to a linear map; creating, loading, saving and training adapters know ranges only. */
#ifndef TQ_MODEL_PEFT_H
#define TQ_MODEL_PEFT_H

#include "base/rng.h"
#include "model/adapter.h"

enum { TQ_SITE_RANGES = 2 }; /* most ranges that a site may have */

/* A site's ranges, in the order of `parts`. */
typedef struct tq_site_state {
    const tq_adapter *adapter;
    const tq_weight *weight;
    float *value[TQ_SITE_RANGES];
    float **grads; /* &adapter->grads: NULL until it is trained */
    size_t start[TQ_SITE_RANGES];
} tq_site_state;

typedef struct tq_peft {
    const char *name;      /* --method, and peft_type in lower case */
    const char *peft_type; /* adapter_config.json: "LORA" */
    int n_parts;
    const char *part[TQ_SITE_RANGES]; /* "lora_A": <target>.lora_A.weight */
    /* Shape of part i at a weight [out, in]. */
    void (*shape)(const tq_adapter *a, const tq_weight *w, int i, int *rows, int *cols);
    void (*init)(const tq_adapter *a, tq_site_state *state, uint64_t seed, uint32_t site);
    tq_site_fwd *fwd; /* see tq_site */
    tq_site_bwd *bwd;
} tq_peft;

#define X(name) extern const tq_peft tq_peft_##name;
#include "model/peft.def"
#undef X
const tq_peft *tq_peft_find(const char *name); /* by `name` or `peft_type`; NULL if unknown */

/* Lays out the ranges and sites of an adapter whose kind, rank, alpha and targets are set; values are zero. */
toque_status tq_adapter_layout(tq_adapter *a, toque_error *err) TQ_MUST;
/* An empty adapter of this model and name. */
toque_status tq_adapter_blank(tq_adapter **a, tq_model *model, const char *name, toque_error *err) TQ_MUST;
/* Adds the targets named in list (comma-separated, or "all-linear") to *targets. */
toque_status tq_adapter_targets(const char *list, uint32_t *targets, toque_error *err) TQ_MUST;

#endif
