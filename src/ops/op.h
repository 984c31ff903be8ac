/* Ops: the dozen coarse steps that a model's layers are written in, each with its hand-made forward and backward in
 * one file (op_<name>.c) and one row in ops.def.
 *
 * An op runs inside a parallel region: every worker calls it with the same arguments and takes its share of the
 * outputs. A barrier stands between two steps, put there by whoever runs them forwards (tq_step_joined tells where none
 * is needed); bwd ends with one. An op does not allocate and cannot fail. Rows that share an adapter
 * set are handed to the adapter's hook together.
 */
#ifndef TQ_OPS_OP_H
#define TQ_OPS_OP_H

#include "kernels/kernels.h"

/* What a weight is for. A layer's weights are an array indexed by role; absent ones have data == NULL. */
typedef enum tq_role {
    TQ_ROLE_ATTN_NORM,
    TQ_ROLE_Q,
    TQ_ROLE_K,
    TQ_ROLE_V,
    TQ_ROLE_O,
    TQ_ROLE_FFN_NORM,
    TQ_ROLE_GATE,
    TQ_ROLE_UP,
    TQ_ROLE_DOWN,
    TQ_ROLE_Q_BIAS,
    TQ_ROLE_K_BIAS,
    TQ_ROLE_V_BIAS,
    TQ_ROLE_Q_NORM, /* over the width of each head */
    TQ_ROLE_K_NORM,
    TQ_ROLE_ATTN_POST_NORM, /* between a block and its residual sum */
    TQ_ROLE_FFN_POST_NORM,
    TQ_ROLE_O_BIAS,
    TQ_ROLE_UP_BIAS,
    TQ_ROLE_DOWN_BIAS,
    TQ_ROLE_ATTN_NORM_BIAS,
    TQ_ROLE_FFN_NORM_BIAS,
    TQ_ROLE_POSITIONS, /* the in program's: learned positions, token types, a norm */
    TQ_ROLE_TYPES,
    TQ_ROLE_IN_NORM,
    TQ_ROLE_IN_NORM_BIAS,
    TQ_ROLE_COUNT,
    TQ_ROLE_NONE = -1
} tq_role;

typedef struct tq_weight { /* [rows, cols] = [out, in]; vectors have rows = 1 */
    const void *data;
    tq_type type;
    int64_t rows, cols;
    size_t row_bytes;
    float *grad;         /* [rows, cols] f32 when it is trained, else NULL */
    void *const *panels; /* where decode's panels (kernels.h) are, once they are made; NULL: it has none */
} tq_weight;

/* What an adapter adds to the rows of a linear map or of its gradient: a product, which is joined with W's where that
 * is possible, or rows as they are. */
typedef struct tq_addend {
    tq_gemm product;    /* k = 0: none; only operands are filled in */
    const float *plain; /* [rows, width], or NULL */
} tq_addend;

/* One adapter at one linear weight. Hooks are called by all workers for rows [t0, t1) and may use barriers; those
 * that a kind does not need are NULL. Forward: x' = before(x), y = W x' + bias, y = fwd(y). */
typedef struct tq_exec tq_exec;
typedef struct tq_site tq_site;
struct tq_site {
    /* y [T, out] += scale * what the adapter adds for x [T, in]; y already holds W x + bias. */
    void (*fwd)(tq_exec *e, tq_worker *w, const tq_site *site, float scale, int t0, int t1, const float *x, float *y);
    /* Adds to its own gradients (if it is trained) and to dx [T, in]. */
    void (*bwd)(tq_exec *e, tq_worker *w, const tq_site *site, float scale, int t0, int t1, const float *x,
                const float *dy, float *dx);
    /* Kinds that only add may tell what instead of adding it: the same bits in fewer passes over memory. Behind what
     * they leave in *add stands a barrier. NULL for bwd's: nobody wants dx. */
    void (*join)(tq_exec *e, tq_worker *w, const tq_site *site, float scale, int t0, int t1, const float *x,
                 tq_addend *add);
    void (*join_bwd)(tq_exec *e, tq_worker *w, const tq_site *site, float scale, int t0, int t1, const float *x,
                     const float *dy, tq_addend *add);
    /* x [T, in] in place: the input that W gets; and dx, in place, with the original x. */
    void (*before)(tq_exec *e, tq_worker *w, const tq_site *site, float scale, int t0, int t1, float *x);
    void (*before_bwd)(tq_exec *e, tq_worker *w, const tq_site *site, float scale, int t0, int t1, const float *x,
                       float *dx);
    /* Kinds whose fwd multiplies y: base_dy [T, out] = the gradient of W x + bias, from dy; adds to its own. */
    void (*turn)(tq_exec *e, tq_worker *w, const tq_site *site, float scale, int t0, int t1, const float *x,
                 const float *dy, float *base_dy);
    void *state; /* the kind's own: LoRA's A and B; NULL: no site here */
    int role, layer;
};

/* n virtual tokens that stand before a sequence, a row of a table each. As a prefix they are keys and values in every
 * layer l: entry j's key at values + j * row + 2 l G D, its value G D behind. As a prompt they are what the embedding
 * would give, row C long, and rows of passes like other tokens, with positions 0 to n - 1: see tq_prompt_token. */
typedef struct tq_virtual {
    int n;
    int64_t row;
    const float *values;
    float *const *grads; /* like values; *grads is NULL until it is trained */
} tq_virtual;

/* A hat: an adapter worn at a scale. sites: [layer * TQ_ROLE_COUNT + role], state == NULL where it adds
 * nothing; NULL: it has none. */
typedef struct tq_hat {
    const struct tq_adapter *adapter;
    const tq_site *sites;
    const tq_virtual *prefix, *prompt; /* NULL: none; at most one of both */
    float scale;
} tq_hat;

/* An adapter set, worn by segments; compared by address. */
typedef struct tq_hats {
    const tq_hat *items;
    int n;
} tq_hats;

/* The keys and values of one sequence: [layer][0: K, 1: V][G][capacity][D], K after rope. A head's rows lie together,
 * so that decode reads a stream. */
typedef struct tq_kv {
    tq_type type;         /* F16 or F32 */
    int capacity, length; /* in tokens */
    int heads, width;     /* G, D */
    int n_layers;
    char *data;
} tq_kv;

static inline char *tq_kv_at(const tq_kv *kv, int layer, int is_v, int head, int pos) {
    size_t row = ((size_t)layer * 2 + (size_t)is_v) * (size_t)kv->heads + (size_t)head;
    return kv->data + (row * (size_t)kv->capacity + (size_t)pos) * (size_t)kv->width * (kv->type == TQ_F16 ? 2 : 4);
}

/* A run of consecutive rows of a pass that form one sequence. */
typedef struct tq_segment {
    int row, n;          /* rows [row, row + n) */
    int pos;             /* position of the first row; kv->length when there is a cache */
    tq_kv *kv;           /* keys and values are read from and appended to; NULL: the segment stands alone */
    const tq_hats *hats; /* NULL: the base */
    uint32_t id, use;    /* the data row's identity and how often it was used, for dropout and noise */
} tq_segment;

enum { TQ_MAX_BUFFERS = 20, TQ_MAX_STEPS = 24 };

/* One step of a program: reads in[], writes out (buffer numbers), with weights by role. */
typedef struct tq_step {
    const struct tq_op *op;
    int8_t in[3], out;
    int8_t role, bias; /* TQ_ROLE_NONE where unused */
    bool same_input;   /* linear: reads the buffer that the step before read too */
    bool first[3];     /* backward: this step is the first to write the gradient of in[i] (set, not add) */
} tq_step;

/* The state of a pass while it runs. Filled by the machine (src/model); ops only read it and write buffers. */
struct tq_exec {
    const tq_kernels *k;
    tq_compute compute;
    bool decode;           /* dot rows instead of gemm: few rows, generation only */
    bool int8;             /* decode with int8 activations */
    bool train;            /* keep what backward needs */
    bool bare;             /* no row wears an adapter */
    int T;                 /* rows in this pass */
    const int32_t *tokens; /* [T]; below 0: virtual tokens */
    const tq_segment *segments;
    int n_segments;

    const tq_weight *embedding; /* [V, C] */
    float embedding_scale;
    bool causal;   /* rows see what stands before them, else all of their segment */
    bool glu_gelu; /* the gated unit's function is GELU, else SiLU */

    int layer;
    const tq_weight *weights; /* of the bound layer (or the in program), by role */
    float *v[TQ_MAX_BUFFERS]; /* values [T, width] */
    float *g[TQ_MAX_BUFFERS]; /* gradients [T, width]; NULL: nobody wants this one */
    int width[TQ_MAX_BUFFERS];

    float eps;
    int heads, kv_heads, head_dim, rope_dim;
    float attn_scale;
    int window;        /* of the bound layer */
    const float *rope; /* [T, rope_dim]: cosines then sines of each row's position, for the bound layer's base */
    float *lse;        /* [H, T] of the bound layer, for backward; or NULL */

    tq_q8 *xq;     /* [T, max width / 32]: activations as int8 (decode) */
    float *low;    /* [T, max rank] x 2: what low-rank adapters need, shared by workers */
    float *wide;   /* [T, max width]: a dropped-out copy of an input */
    float *outer;  /* [max rank, max width]: a gradient before it is turned */
    float *turned; /* [T, max width]: an input or gradient as the base product gets it */
    int max_rank;
    uint64_t seed; /* of dropout and noise */
    float noise;   /* NEFTune's alpha; 0: none */
};

typedef struct tq_op {
    const char *name;
    void (*fwd)(tq_exec *e, tq_worker *w, const tq_step *s);
    void (*bwd)(tq_exec *e, tq_worker *w, const tq_step *s);
    /* Which values backward reads: bit i: in[i]; bit 3: out. */
    unsigned saved;
    /* fwd touches only this worker's share of the rows, tq_share(w, T, 1): such steps follow one another without a
     * barrier. */
    bool by_rows;
} tq_op;

#define X(name) extern const tq_op tq_op_##name;
#include "ops/ops.def"
#undef X

/* Whether step s[1] may begin while other workers are still at s[0]. */
bool tq_step_joined(const tq_exec *e, const tq_step *s);

/* --- hats at a linear op (hats.c) ------------------------------------------------------------------------ */
/* The next run of segments, from segment *i on, that wear the same set: rows [*t0, *t1). NULL at the end. */
const tq_hats *tq_hats_run(const tq_exec *e, int *i, int *t0, int *t1);
/* A hat's site at a weight of the bound layer, or NULL. */
const tq_site *tq_hat_site(const tq_exec *e, const tq_hat *hat, int role);
/* Whether any row wears an adapter that changes the input of this weight, or multiplies its output. */
bool tq_hats_before(const tq_exec *e, int role);
bool tq_hats_turn(const tq_exec *e, int role);
/* x [T, in] as the base product gets it: e->turned, with barriers. */
const float *tq_hats_input(tq_exec *e, tq_worker *w, const tq_step *s);
/* dy [T, out] as the base product gets it: e->turned, with barriers. */
const float *tq_hats_output_grad(tq_exec *e, tq_worker *w, const tq_step *s);
/* From the gradient of the base product's input in e->wide to that of x, set or added to the buffer's. */
void tq_hats_input_grad(tq_exec *e, tq_worker *w, const tq_step *s);

/* --- prefixes of attention (prefix.c) ------------------------------------------------------------------- */
const tq_virtual *tq_segment_prefix(const tq_segment *seg); /* NULL: it has none */
/* After a segment's attention to itself, and after the backward of that; with barriers. */
void tq_prefix_fwd(tq_exec *e, tq_worker *w, const tq_step *s);
void tq_prefix_bwd(tq_exec *e, tq_worker *w, const tq_step *s);

/* --- prompts: virtual tokens at the embedding ------------------------------------------------------------ */
static inline const tq_virtual *tq_hats_prompt(const tq_hats *hats) { /* NULL: it has none */
    for (int h = 0; hats && h < hats->n; h++)
        if (hats->items[h].prompt) return hats->items[h].prompt;
    return NULL;
}

/* Positions that virtual tokens of either sort take before the tokens. */
static inline int tq_hats_virtual(const tq_hats *hats) {
    for (int h = 0; hats && h < hats->n; h++)
        if (hats->items[h].prefix) return hats->items[h].prefix->n;
    return tq_hats_prompt(hats) ? tq_hats_prompt(hats)->n : 0;
}

/* How many rows a prompt puts before the tokens of a sequence that wears these hats. */
static inline int tq_hats_before_tokens(const tq_hats *hats) {
    const tq_virtual *prompt = tq_hats_prompt(hats);
    return prompt ? prompt->n : 0;
}

/* What a pass has as the token of row i of a sequence: the first n rows are virtual tokens, -1 to -n. */
static inline int32_t tq_row_token(const int32_t *tokens, int n, int i) {
    return i < n ? -1 - i : tokens[i - n];
}

/* --- used by several ops and by adapters ---------------------------------------------------------------- */
/* y [T, out] = x [T, in] W^T for rows [t0, t1), by gemm or, in decode, by dot rows, which quantize x first in int8
 * (with a barrier) unless `quantized`: by rows, so a step that is `by_rows` may stand before without a barrier. tail: a
 * product that joins gemm's, or NULL (always in decode). No barrier at the end. */
void tq_product(tq_exec *e, tq_worker *w, const tq_weight *weight, int t0, int t1, const float *x, float *y,
                bool quantized, const tq_gemm *tail);
/* A plain gemm of f32 activations in the pass's compute mode; see tq_gemm. */
void tq_matmul(tq_exec *e, tq_worker *w, int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_col,
               const float *b, bool b_trans, int64_t b_row, float *c, int64_t c_row, float alpha, bool accumulate);
/* c [m, n] += what an adapter adds, but for a product that was joined. Ends with a barrier. */
void tq_addend_take(tq_exec *e, tq_worker *w, int64_t m, int64_t n, const tq_addend *add, bool joined, float *c);

#endif
