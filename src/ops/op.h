/* Ops: the dozen coarse steps that a model's layers are written in, each with its hand-made forward and backward in
 * one file (op_<name>.c) and one row in ops.def.
 *
 * An op runs inside a parallel region: every worker calls it with the same arguments, takes its share of the
 * outputs, and the op ends with a barrier. It does not allocate and cannot fail. Rows that share an adapter
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
    float *grad; /* [rows, cols] f32 when it is trained, else NULL */
} tq_weight;

/* One adapter at one linear weight. The hook is called by all workers for rows [t0, t1) and may use barriers. */
typedef struct tq_exec tq_exec;
typedef struct tq_site tq_site;
struct tq_site {
    /* y [T, out] += scale * what the adapter adds for x [T, in]; y already holds W x. */
    void (*fwd)(tq_exec *e, tq_worker *w, const tq_site *site, float scale, int t0, int t1, const float *x, float *y);
    /* Adds to its own gradients (if it is trained) and to dx [T, in] (if dx is not NULL). */
    void (*bwd)(tq_exec *e, tq_worker *w, const tq_site *site, float scale, int t0, int t1, const float *x,
                const float *dy, float *dx);
    void *state; /* the kind's own: LoRA's A and B */
    int role, layer;
};

/* A hat: an adapter worn at a scale. sites: [layer * TQ_ROLE_COUNT + role], fwd == NULL where it adds nothing. */
typedef struct tq_hat {
    const struct tq_adapter *adapter;
    const tq_site *sites;
    float scale;
} tq_hat;

/* An adapter set, worn by segments; compared by address. */
typedef struct tq_hats {
    const tq_hat *items;
    int n;
} tq_hats;

/* The keys and values of one sequence: [layer][0: K, 1: V][capacity][G * D], K after rope. */
typedef struct tq_kv {
    tq_type type;         /* F16 or F32 */
    int capacity, length; /* in tokens */
    int64_t row;          /* G * D */
    int n_layers;
    char *data;
} tq_kv;

static inline char *tq_kv_at(const tq_kv *kv, int layer, int is_v, int pos) {
    size_t size = kv->type == TQ_F16 ? 2 : 4;
    return kv->data +
           (((size_t)layer * 2 + (size_t)is_v) * (size_t)kv->capacity + (size_t)pos) * (size_t)kv->row * size;
}

/* A run of consecutive rows of a pass that form one sequence. */
typedef struct tq_segment {
    int row, n;          /* rows [row, row + n) */
    int pos;             /* position of the first row; kv->length when there is a cache */
    tq_kv *kv;           /* keys and values are read from and appended to; NULL: the segment stands alone */
    const tq_hats *hats; /* NULL: the base */
    uint32_t id, use;    /* the data row's identity and how often it was used, for dropout */
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
    int T;                 /* rows in this pass */
    const int32_t *tokens; /* [T] */
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

    tq_q8 *xq;   /* [T, max width / 32]: activations as int8 (decode) */
    float *low;  /* [T, max rank] x 2: what low-rank adapters need, shared by workers */
    float *wide; /* [T, max width]: a dropped-out copy of an input */
    int max_rank;
    uint64_t seed; /* of dropout */
};

typedef struct tq_op {
    const char *name;
    void (*fwd)(tq_exec *e, tq_worker *w, const tq_step *s);
    void (*bwd)(tq_exec *e, tq_worker *w, const tq_step *s);
    /* Which values backward reads: bit i: in[i]; bit 3: out. */
    unsigned saved;
} tq_op;

#define X(name) extern const tq_op tq_op_##name;
#include "ops/ops.def"
#undef X

/* --- used by several ops and by adapters ---------------------------------------------------------------- */
/* y [T, out] = x [T, in] W^T for rows [t0, t1), by gemm or by dot rows as the pass says. No barrier at the end.
 * In int8 decode x is quantized first (with a barrier) unless `quantized`. */
void tq_product(tq_exec *e, tq_worker *w, const tq_weight *weight, int t0, int t1, const float *x, float *y,
                bool quantized);
/* A plain f32 gemm of activations in the pass's compute mode; see tq_gemm. b is f32. */
void tq_matmul(tq_exec *e, tq_worker *w, int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_col,
               const float *b, bool b_trans, int64_t b_row, float *c, int64_t c_row, float alpha, bool accumulate);

#endif
