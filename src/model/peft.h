/* PEFT kinds: a row of peft.def and one file each (peft_<kind>.c). A kind says which ranges a site has, what it does to
 * a linear map, and which of the model's own tensors it trains; creating, loading, saving and training adapters know
 * ranges only. */
#ifndef TQ_MODEL_PEFT_H
#define TQ_MODEL_PEFT_H

#include "base/rng.h"
#include "model/adapter.h"

enum { TQ_SITE_RANGES = 3 }; /* most ranges that a site may have */

/* A site's ranges, in the order of `part`. */
typedef struct tq_site_state {
    const tq_adapter *adapter;
    const tq_weight *weight, *bias; /* the model's; bias may be NULL */
    int layer, role;
    int rank;
    float scaling; /* of what a low-rank site adds: alpha / rank */
    float *value[TQ_SITE_RANGES];
    float **grads; /* &adapter->grads: NULL until it is trained */
    size_t start[TQ_SITE_RANGES];
    float *derived;              /* the kind's own, n_derived of them */
    const float *start_value[2]; /* PiSSA's A0 and B0 */
} tq_site_state;

typedef struct tq_peft {
    const char *name;      /* --method */
    const char *peft_type; /* in adapter_config.json; NULL: PEFT has no such kind, the file is model.safetensors */
    const char *help;
    const char *keys;          /* keys of a training that only some methods use, and this one does: "rank alpha ..." */
    int rank;                  /* default, where it is not that of all methods; 0: it is */
    double lr_small, lr_large; /* defaults below 0.5B parameters and from there */
    const char *targets;       /* default */
    const char *own;           /* default patterns of own tensors, or NULL */
    bool decoders;             /* language models only */
    bool alone;                /* rows in training may wear nothing else */
    int n_parts;
    const char *part[TQ_SITE_RANGES]; /* "lora_A.weight": <target>.lora_A.weight */
    bool vector[TQ_SITE_RANGES];      /* one-dimensional in files */
    /* Shape of part i. */
    void (*shape)(const tq_site_state *s, int i, int *rows, int *cols);
    void (*init)(tq_site_state *s, uint64_t seed, uint32_t site);
    void (*connect)(const tq_site_state *s, tq_site *site); /* puts the hooks in */
    /* Makes a->shared, when the sites are laid out; NULL: there is none. */
    toque_status (*prepare)(tq_adapter *a, toque_error *err);
    /* Kinds of virtual tokens have one table instead, a row a token. */
    bool is_prompt; /* at the embedding: see tq_virtual */
    size_t (*table_cols)(const tq_model *model);
    toque_status (*init_table)(tq_adapter *a, const tq_adapter_options *o, toque_error *err);
    /* How many floats a site derives, and their computation: what depends on the base alone (once), and on values.
     * One worker does a whole site. NULL where there are none. */
    size_t (*n_derived)(const tq_site_state *s);
    void (*derive_base)(tq_worker *w, tq_site_state *s);
    void (*derive)(tq_worker *w, tq_site_state *s);
} tq_peft;

#define X(name) extern const tq_peft tq_peft_##name;
#include "model/peft.def"
#undef X
const tq_peft *tq_peft_find(const char *name);      /* by `name`; NULL if unknown */
const tq_peft *tq_peft_find_type(const char *type); /* by `peft_type` */
const tq_peft *tq_peft_row(size_t i);               /* in the table's order; NULL past the end */
bool tq_peft_uses(const tq_peft *kind, const char *key);

/* LoRA's shapes and hooks; DoRA is built on them. */
void tq_lora_shape(const tq_site_state *s, int i, int *rows, int *cols);
void tq_lora_fwd(tq_exec *e, tq_worker *w, const tq_site *site, float scale, int t0, int t1, const float *x, float *y);
void tq_lora_bwd(tq_exec *e, tq_worker *w, const tq_site *site, float scale, int t0, int t1, const float *x,
                 const float *dy, float *dx);
/* Gives a fresh LoRA its start by PiSSA: values, their frozen copy, hooks that subtract it. */
toque_status tq_pissa_start(tq_adapter *a, uint64_t seed, toque_error *err) TQ_MUST;
/* out [2 x the range] = the range of the plain LoRA of twice the rank that does the same. */
void tq_pissa_range(const tq_adapter *a, const tq_range *r, const float *values, float *out);
/* For kinds that multiply: y [T, n] = x (1 + scale * (factor - 1)) in rows [t0, t1); y may be x; shared among the
 * workers, no barrier at the end. */
void tq_scale_rows(const tq_exec *e, tq_worker *w, float *y, const float *x, const float *factor, float scale, int t0,
                   int t1, int64_t n);
/* grad[j] += scale * sum over rows of a[t, j] * b[t, j] * (by ? 1 / by[j] : 1); workers share the columns. */
void tq_sum_columns(tq_worker *w, float *grad, const float *a, const float *b, const float *by, float scale, int t0,
                    int t1, int64_t n);

/* A prompt's start as tokens, one at least, appended to the list. */
toque_status tq_prompt_tokens(const tq_model *m, const char *text, tq_tokens *tokens, toque_error *err) TQ_MUST;

/* Lays out ranges, sites and own tensors of an adapter whose kind, rank, alpha, patterns, targets and own are set;
 * values are zero, own tensors the model's. */
toque_status tq_adapter_layout(tq_adapter *a, toque_error *err) TQ_MUST;
/* Where an adapter with own tensors has a weight. */
tq_weight *tq_adapter_weight(tq_adapter *a, int layer, int role);
/* Computes what is derived from the base; after values were filled in for the first time. */
void tq_adapter_ready(tq_adapter *a);
/* An empty adapter of this model and name. */
toque_status tq_adapter_blank(tq_adapter **a, tq_model *model, const char *name, toque_error *err) TQ_MUST;

/* --- names (adapter_names.c) ------------------------------------------------------------------------- */
/* Adds the modules named in list to a->targets. */
toque_status tq_adapter_target(tq_adapter *a, const char *list, toque_error *err) TQ_MUST;
bool tq_is_linear(int role);
/* Whether a name of PEFT's means the feed-forward block's last map and nothing else. */
bool tq_is_down(const tq_adapter *a, const char *name);
/* "model.layers.3.self_attn.q_proj". */
void tq_module_path(char out[100], const tq_adapter *a, int layer, int role);
/* The parameter of an own tensor: "model.layers.3.input_layernorm.weight", "model.embed_tokens.weight". */
void tq_parameter_name(char out[100], const tq_adapter *a, int layer, int role);
bool tq_name_matches(const char *patterns, const char *name); /* comma-separated shell patterns */
/* The value for this module in "NAME=VALUE,...", or fallback. */
toque_status tq_pattern_value(const tq_adapter *a, const char *patterns, int layer, int role, double fallback,
                              double *value, toque_error *err) TQ_MUST;
/* EINVAL when a name in the patterns matches none of the adapter's targets. */
toque_status tq_pattern_check(const tq_adapter *a, const char *patterns, const char *key, toque_error *err) TQ_MUST;

/* --- heads (head_json.c, adapter_head.c) -------------------------------------------------------------- */
/* Copies the labels of heads into a->heads, which then owns them. */
toque_status tq_adapter_set_heads(tq_adapter *a, const tq_head *heads, int n_heads, toque_error *err) TQ_MUST;
void tq_adapter_clear_heads(tq_adapter *a);
void tq_adapter_init_heads(tq_adapter *a, uint64_t seed);
/* The heads of an adapter's folder: from head.json, or from the tensors' shapes where others saved it; path: of the
 * tensors. None: n_heads stays 0. */
toque_status tq_heads_read(tq_adapter *a, const char *dir, const char *path, toque_error *err) TQ_MUST;
toque_status tq_heads_write(const tq_adapter *a, const char *dir, toque_error *err) TQ_MUST;

/* --- embedding.json (adapter_embed.c) ------------------------------------------------------------------ */
/* Sets a->embeds from a folder's file, if it has one. */
toque_status tq_embedding_read(tq_adapter *a, const char *dir, toque_error *err) TQ_MUST;
toque_status tq_embedding_write(const tq_adapter *a, const char *dir, toque_error *err) TQ_MUST;

/* --- adapter_config.json (adapter_config.c) ------------------------------------------------------------ */
toque_status tq_adapter_read_config(tq_adapter *a, const char *path, toque_error *err) TQ_MUST;
toque_status tq_adapter_write_config(const tq_adapter *a, const char *path, toque_error *err) TQ_MUST;

#endif
