/* Adapters (PEFT kinds): small trained additions to a frozen model, in PEFT's own files (adapter_config.json +
 * adapter_model.safetensors) or as a GGUF adapter. Values of all kinds lie in one flat array with a table of ranges,
 * so optimizers, checkpoints and regularizers walk ranges and know no kind. */
#ifndef TQ_MODEL_ADAPTER_H
#define TQ_MODEL_ADAPTER_H

#include "model/model.h"

typedef struct tq_range {
    char name[120]; /* PEFT's: base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight */
    size_t start;   /* into values */
    int rows, cols;
    int layer, role;
} tq_range;

typedef struct tq_adapter {
    tq_model *model;
    const struct tq_peft *kind;
    char *name; /* path or given name, for messages */
    int rank;
    float alpha, dropout;
    bool rslora;
    uint32_t targets; /* bit role: this weight of every layer */
    float *values;    /* [n] */
    float *grads;     /* [n] when it is trained, else NULL */
    size_t n;
    tq_range *ranges;
    size_t n_ranges;
    tq_site *sites;     /* [L * TQ_ROLE_COUNT] */
    void *states;       /* the sites' states */
    char base_hash[65]; /* of the model it was trained on; "" unknown */
} tq_adapter;

typedef struct tq_adapter_options {
    const char *kind; /* "lora" */
    int rank;
    float alpha, dropout;
    bool rslora;
    const char *targets; /* "all-linear", or a comma-separated list of names: q_proj,v_proj (or attn_q, ...) */
    uint64_t seed;
} tq_adapter_options;

/* A fresh adapter: LoRA's A ~ U(-1/sqrt(in), 1/sqrt(in)), B = 0. EINVAL for targets that match nothing (the message
 * lists the names there are) or a rank above a dimension. */
toque_status tq_adapter_new(tq_adapter **a, tq_model *model, const tq_adapter_options *o, toque_error *err) TQ_MUST;
/* From a PEFT folder, a run folder or a GGUF adapter file. Wrong shapes are an error; another base hash is a warning in
 * the context's log that names both. Tensors or settings that cannot be expressed are errors. */
toque_status tq_adapter_load(tq_adapter **a, tq_model *model, const char *path, toque_error *err) TQ_MUST;
/* Writes adapter_model.safetensors and adapter_config.json into dir (which exists). values: NULL or another array of
 * n values to save instead (the best ones). */
toque_status tq_adapter_save(const tq_adapter *a, const char *dir, const float *values, toque_error *err) TQ_MUST;
void tq_adapter_free(tq_adapter *a);
/* Gives it a zeroed gradient array: it is trained from now on. */
toque_status tq_adapter_train(tq_adapter *a, toque_error *err) TQ_MUST;
tq_hat tq_adapter_hat(const tq_adapter *a, float scale);

#endif
