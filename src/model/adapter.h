/* Adapters: what is trained of a model, and what rows wear. Two sorts, which one adapter may have both of:
 * sites (small additions at linear maps: LoRA and kin, in PEFT's files or as a GGUF adapter) and own tensors (trained
 * copies of the model's tensors, which replace them: full fine-tuning, norms, embeddings).
 * Values of all kinds lie in one flat array with a table of ranges, so optimizers, checkpoints and regularizers walk
 * ranges and know no kind. */
#ifndef TQ_MODEL_ADAPTER_H
#define TQ_MODEL_ADAPTER_H

#include "model/head.h"
#include "model/model.h"

/* Roles of own tensors outside the layers, of a table of virtual tokens, and of heads' weights and biases. */
enum {
    TQ_ROLE_EMBEDDING = TQ_ROLE_COUNT,
    TQ_ROLE_OUT_NORM,
    TQ_ROLE_HEAD,
    TQ_ROLE_TABLE,
    TQ_ROLE_POOLER,
    TQ_ROLE_POOLER_BIAS,
    TQ_ROLE_SCORE,
    TQ_ROLE_SCORE_BIAS
};

typedef struct tq_range {
    char name[120]; /* in files: base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight */
    size_t start;   /* into values */
    int rows, cols;
    bool vector;     /* one-dimensional in files: [rows * cols] */
    int layer, role; /* layer -1: the embedding, L: final norm and head */
    int part;        /* of a site; -1: an own tensor; of a head its number */
    bool decays;     /* weight decay applies: not to the model's norms and biases */
    float lr;        /* factor of the learning rate */
} tq_range;

/* A frozen matrix that all sites share: VeRA's. */
typedef struct tq_shared {
    const char *name; /* in files */
    int rows, cols;
    float *values;
} tq_shared;

typedef struct tq_adapter {
    tq_model *model;
    const struct tq_peft *kind;
    char *name;   /* path or given name, for messages */
    int rank;     /* as given, where no pattern says otherwise */
    int max_rank; /* the largest of its sites, 1 for kinds that have none: what a pass needs room for */
    float alpha, dropout;
    bool rslora;
    char *rank_pattern, *alpha_pattern; /* "NAME=VALUE,...", see tq_adapter_options; NULL: none */
    char *own;                          /* patterns of own tensors, NULL: none */
    uint32_t *targets;                  /* [L] bit role: this linear map has a site */
    float *values;                      /* [n] */
    float *grads;                       /* [n] when it is trained, else NULL */
    size_t n;
    tq_range *ranges;
    size_t n_ranges, n_site_ranges,
        n_body_ranges;       /* first sites', then own tensors' (up to n_body_ranges), then heads' */
    tq_site *sites;          /* [L * TQ_ROLE_COUNT]; NULL: none */
    tq_shared shared[2];     /* values NULL: none */
    uint32_t projection_key; /* that they are drawn by */
    void *states;            /* the sites' states */
    size_t n_sites;
    float *derived;   /* what kinds compute from values and base */
    tq_virtual table; /* n > 0: of virtual tokens */
    float *start;     /* [n] PiSSA: the values that it began with and that are subtracted; NULL: nothing is */
    /* Own tensors: the model's weights with the trained ones in their places. weights NULL: none are trained. */
    tq_weight (*weights)[TQ_ROLE_COUNT]; /* [L] */
    tq_weight embedding, out_norm, head, pooler, pooler_bias, in_weights[TQ_ROLE_COUNT];
    tq_head heads[TQ_MAX_HEADS];
    int n_heads;
    tq_pooling embeds;  /* it was tuned to embed texts, pooled so and of length 1; NONE: it was not */
    char task[16];      /* PEFT's task_type, as read */
    tq_type save_type;  /* of own tensors in model.safetensors: F32, F16 or BF16 */
    char base_hash[65]; /* of the model it was trained on; "" unknown */
} tq_adapter;

typedef struct tq_adapter_options {
    const char *kind; /* a row of peft.def */
    int rank;
    float alpha, dropout;
    bool rslora;
    /* "all-linear", or a comma-separated list of modules: q_proj or attn_q (in every layer), layers.3.mlp.up_proj.
     * NULL: the kind's default. */
    const char *targets;
    /* Other ranks and alphas for some targets: "q_proj=8,layers.0.mlp.up_proj=4". A name is PEFT's: a regular
     * expression for the end of the module's path, the first that matches counts. NULL: none. */
    const char *rank_pattern, *alpha_pattern;
    /* The model's own tensors to train: comma-separated shell patterns of Hugging Face's parameter names
     * ("model.layers.29.*,*norm.weight"). NULL: the kind's default. */
    const char *own;
    int virtual_tokens;           /* of kinds that have them */
    const char *prompt_init_text; /* whose tokens a prompt begins as, over and over; NULL: tokens by chance */
    const tq_head *heads;         /* kind, read, n, labels, mean and deviation of each are looked at */
    int n_heads;
    bool pissa; /* LoRA that starts from the base's largest singular values; saved as a LoRA of twice the rank */
    uint64_t seed;
} tq_adapter_options;

/* A fresh adapter, which changes nothing yet (with pissa, but for rounding). EINVAL for targets that match nothing (the
 * message lists the names there are), a rank above a dimension, or when nothing is left to train. */
toque_status tq_adapter_new(tq_adapter **a, tq_model *model, const tq_adapter_options *o, toque_error *err) TQ_MUST;
/* Another adapter with the same values but for its heads, which are those given: rows of labels that the old head of
 * that kind has too keep their weights, others start anew. */
toque_status tq_adapter_with_heads(tq_adapter **a, const tq_adapter *old, const tq_head *heads, int n_heads,
                                   uint64_t seed, toque_error *err) TQ_MUST;
/* The adapter's head of that kind, or NULL. */
const tq_head *tq_adapter_head(const tq_adapter *a, tq_head_kind kind);
/* From a PEFT folder, a run folder or a GGUF adapter file. Wrong shapes are an error; another base hash is a warning in
 * the context's log that names both, and with a head an error. Tensors or settings that cannot be expressed are errors.
 */
toque_status tq_adapter_load(tq_adapter **a, tq_model *model, const char *path, toque_error *err) TQ_MUST;
/* Writes adapter_model.safetensors and adapter_config.json into dir (which exists); for kinds that PEFT lacks
 * model.safetensors instead, the trained tensors under Hugging Face's names. values: NULL or another array of n values
 * to save instead (the best ones). */
toque_status tq_adapter_save(const tq_adapter *a, const char *dir, const float *values, toque_error *err) TQ_MUST;
void tq_adapter_free(tq_adapter *a);
/* Gives it a zeroed gradient array: it is trained from now on. */
toque_status tq_adapter_train(tq_adapter *a, toque_error *err) TQ_MUST;
/* To be called after values were changed: computes again what is derived from them. Does not allocate. */
void tq_adapter_changed(tq_adapter *a);
tq_hat tq_adapter_hat(const tq_adapter *a, float scale);
/* What of a text's rows becomes its embedding. */
tq_read tq_pooling_read(tq_pooling pooling);

#endif
