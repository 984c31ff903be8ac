/* A model: an immutable, mapped set of weights with its configuration, block program, tokenizer and chat template.
 * Shared by any number of machines (passes). Heads stand in Hugging Face's order inside (rotate-half): the rows of
 * q and k of llama-family GGUF files are moved on load. */
#ifndef TQ_MODEL_MODEL_H
#define TQ_MODEL_MODEL_H

#include "files/gguf.h"
#include "kernels/context.h"
#include "ops/op.h"
#include "text/template.h"
#include "text/tokenizer.h"

/* What an architecture may have (flags of archs.def). */
enum {
    TQ_ARCH_QKV_BIAS = 1,            /* biases on q, k and v */
    TQ_ARCH_QK_INTERLEAVED = 1 << 1, /* GGUF files hold q and k rows in ggml's interleaved order */
    TQ_ARCH_QK_NORM = 1 << 2,        /* RMS norms of the heads of q and k */
    TQ_ARCH_POST_NORM = 1 << 3,      /* norms behind attention and feed-forward block too, before the sums */
    TQ_ARCH_NORM_FROM_ONE = 1 << 4,  /* folders hold w - 1 of norms (GGUF files w) */
    TQ_ARCH_EMBED_SQRT = 1 << 5,     /* embeddings are scaled by sqrt(C) */
    TQ_ARCH_GLU_GELU = 1 << 6,       /* the gated unit is GELU's (tanh form) */
    TQ_ARCH_ENCODER = 1 << 7,        /* BERT's block: bidirectional, learned positions, token types, layer norms behind
                                        the residual sums, biases, plain GELU; no head */
};
/* How Hugging Face names a family's tensors (weights.c). */
typedef enum tq_naming { TQ_NAMING_LLAMA, TQ_NAMING_GEMMA, TQ_NAMING_BERT } tq_naming;

typedef struct tq_arch {
    const char *name;    /* general.architecture */
    const char *hf_type; /* model_type in Hugging Face's config.json */
    tq_naming naming;
    unsigned flags;
    int window_every; /* where the file does not say: each nth layer sees all, the others a window; 0: all slide */
    float local_base; /* rotary base of sliding layers, where the file does not say; 0: the same */
} tq_arch;
/* NULL when unknown; tq_arch_names lists what there is for messages. */
const tq_arch *tq_arch_find(const char *name, size_t n);
const char *tq_arch_names(void);

/* GGUF's numbers */
typedef enum tq_pooling { TQ_POOLING_NONE, TQ_POOLING_MEAN, TQ_POOLING_CLS, TQ_POOLING_LAST } tq_pooling;
enum { TQ_POOLINGS = TQ_POOLING_LAST + 1 };

typedef struct tq_config {
    const tq_arch *arch;
    int L, C, F, V, H, G, D;
    int context;                  /* positions the model was made for */
    int rope_dim;                 /* 0: positions are learned */
    float rope_base, rope_factor; /* factor: linear scaling, 1 = none */
    float local_base;             /* of sliding layers, which are not scaled; 0: the same as the others */
    const float *rope_freqs;      /* [rope_dim / 2] divisors (Llama 3.x), or NULL */
    float eps, attn_scale, embedding_scale;
    int window;            /* of layers that slide, 0: none */
    const uint8_t *slides; /* [L] which layers do, in the file's map; NULL: see arch->window_every */
    int types;             /* token types (encoders) */
    bool tied;             /* the head is the embedding */
    bool embeds;           /* made to embed texts: an encoder, or a model whose file says how */
    tq_pooling pooling;    /* how a text's rows become its embedding */
    bool normalize;        /* to length 1 */
    int embed_max;         /* tokens of a text that is embedded, special ones included */
} tq_config;

static inline bool tq_config_slides(const tq_config *c, int layer) {
    if (!c->window) return false;
    if (c->slides) return c->slides[layer];
    return !c->arch->window_every || (layer + 1) % c->arch->window_every != 0;
}

typedef struct tq_program {
    tq_step steps[TQ_MAX_STEPS];
    int n_steps;
    int width[TQ_MAX_BUFFERS];
    int n_buffers;
    int out;                    /* buffer 0 is the layer's input, `out` its output */
    bool kept[TQ_MAX_BUFFERS];  /* backward reads its value */
    bool light[TQ_MAX_BUFFERS]; /* which it computes again rather than keep: row by row, from what is kept */
} tq_program;

typedef struct tq_model {
    tq_ctx *ctx;
    tq_gguf *gguf;
    tq_config config;
    tq_program in;                       /* from tokens to the first layer's input */
    tq_program layer;                    /* every layer's program */
    tq_weight (*weights)[TQ_ROLE_COUNT]; /* [L] */
    tq_weight in_weights[TQ_ROLE_COUNT];
    tq_weight embedding, out_norm, head; /* out_norm and head have no data in encoders */
    tq_weight pooler, pooler_bias;       /* BERT's, of its first row, for heads; no data where a file has none */
    tq_tokenizer *tokenizer;
    tq_template *chat_template; /* NULL: the file has none */
    char *template_source;
    char hash[65]; /* tq_model_hash fills it on first use */
    void *moved;   /* reordered q and k rows */
    void **panels; /* each weight's, by layer and role, then the head's */
    void *panel_block;
    tq_arena vectors; /* those that were converted to F32 */
} tq_model;

/* How many tokens a sequence that wears these hats may have. */
static inline int tq_model_context(const tq_model *m, const tq_hats *hats) {
    return m->config.context - tq_hats_virtual(hats);
}

/* path: a GGUF file or a Hugging Face folder. */
toque_status tq_model_open(tq_model **model, tq_ctx *ctx, const char *path, toque_error *err) TQ_MUST;
void tq_model_close(tq_model *model);
/* EUNSUPPORTED unless the model has a head: `what` is what needs one ("generating"). */
toque_status tq_model_need_head(const tq_model *model, const char *what, toque_error *err) TQ_MUST;
/* A fingerprint of the weights that adapters remember: SHA-256 over the file's size, its header, and the first and
 * last 4 KiB of each tensor. Hexadecimal, owned by the model. */
const char *tq_model_hash(tq_model *model);
/* Names of a weight in GGUF and in Hugging Face's models ("model.layers.3.self_attn.q_proj"), role-wise without
 * layer: "attn_q", "self_attn.q_proj". */
/* A weight's whole name in a folder ("layers.3.self_attn.q_proj.weight", without what may stand before all of them) or
 * a GGUF file; layer -1: outside the layers. "": this architecture has no such weight. */
enum { TQ_WEIGHT_NAME = 160 };
void tq_weight_name(const tq_arch *arch, int layer, tq_role role, bool folder, char out[TQ_WEIGHT_NAME]);
const char *tq_role_gguf(tq_role role);
const char *tq_role_hf(tq_role role);

/* A sequence's cache, for `capacity` tokens. type F16, or F32 when ctx->compute is F32. */
toque_status tq_kv_new(tq_kv **kv, tq_model *model, int capacity, toque_error *err) TQ_MUST;
void tq_kv_free(tq_model *model, tq_kv *kv);

/* Renders messages through the model's template with its bos_token and eos_token. vars and tools may be NULL. ENOTFOUND
 * when the model has no template. */
toque_status tq_model_render(tq_model *model, json_t *messages, json_t *tools, json_t *vars, bool generation_prompt,
                             tq_rendered *out, toque_error *err) TQ_MUST;
/* Tokens of a rendering: control tokens only in template bytes, BOS added only if the rendering does not begin with it
 * and the model wants it. list->want_offsets gives byte ranges into out->text. */
toque_status tq_model_tokenize_rendered(tq_model *model, const tq_rendered *r, tq_tokens *list,
                                        toque_error *err) TQ_MUST;

#endif
