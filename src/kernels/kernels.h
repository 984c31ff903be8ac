/* The kernel table: everything that is compiled once per instruction set (ISA) and chosen at start.
 *
 * isa.def names the rows; each k_*.c and q_*.c here is compiled once for each of them against the
 * vocabulary simd_<isa>.h. tq_kernels_select starts from `ref` and takes the best row that CPU and
 * operating system support, capped by the environment variable TOQUE_ISA.
 *
 * Rules that the callers rely on: kernels are void and total, allocate nothing, and use at most
 * TQ_SCRATCH_BYTES of the worker's scratch. The value of an output depends only on its own operands,
 * never on how many other rows there are, on where it stands in a tile, or on the number of threads.
 * No alignment is assumed of any pointer. n is never negative, 0 is fine.
 * Dims: T rows (tokens), C width, V vocabulary, H heads, D head width. See docs/style.md.
 */
#ifndef TQ_KERNELS_KERNELS_H
#define TQ_KERNELS_KERNELS_H

#include "base/pool.h"

/* Storage types, with GGUF's numbers. */
typedef enum tq_type {
    TQ_F32 = 0,
    TQ_F16 = 1,
    TQ_Q4_0 = 2,
    TQ_Q4_1 = 3,
    TQ_Q5_0 = 6,
    TQ_Q5_1 = 7,
    TQ_Q8_0 = 8,
    TQ_Q4_K = 12,
    TQ_Q5_K = 13,
    TQ_Q6_K = 14,
    TQ_BF16 = 30,
    TQ_TYPE_END = 31
} tq_type;

typedef struct tq_type_info {
    const char *name; /* "Q4_1" */
    int block;        /* elements in a block; a row's length is a multiple of it */
    int bytes;        /* bytes in a block */
} tq_type_info;
/* NULL for a number that is no known type. */
const tq_type_info *tq_type_get(uint32_t type);
/* Bytes of a row of n elements (n a multiple of the block). */
size_t tq_type_row_bytes(tq_type type, int64_t n);

/* What products are computed in. Sums are f32 always. */
typedef enum tq_compute { TQ_COMPUTE_F32, TQ_COMPUTE_BF16, TQ_COMPUTE_INT8 } tq_compute;

/* 32 activations as int8: x[i] is about d * q[i]. */
typedef struct tq_q8 {
    float d;   /* scale */
    float sum; /* d * (sum of q), for formats with a minimum */
    int8_t q[32];
} tq_q8;

/* A matrix product, C = alpha A B (+ C), f32 result. An element of C is one chain of sums over k, which begins with C
 * where it accumulates with alpha = 1: several such products that add to one C give the same bits in one call (tail) or
 * in several. A: f32, element (i, p) at a[i*a_row + p*a_col], i < m, p < k; one of a_row, a_col is 1. B: any type,
 * stored as rows. b_trans: B's stored row j holds column j of the product, length k (a weight [out, in] in Y = X W^T).
 * Otherwise stored row p holds element (p, 0..n-1), length n (dX = dY W, dW = dY^T X). Stored rows are b_stride bytes
 * apart. C: f32, row i at c + i*c_row. */
typedef struct tq_gemm {
    int64_t m, n, k;
    const float *a;
    int64_t a_row, a_col;
    const void *b;
    tq_type b_type;
    bool b_trans;
    size_t b_stride;
    float *c;
    int64_t c_row;
    float alpha; /* 1 where there is a tail */
    bool accumulate;
    const struct tq_gemm *tail; /* or NULL: another product that is added, of the same m and n; its c, compute and tail
                                   are not looked at */
    tq_compute compute; /* BF16: both operands are rounded to bf16, sums stay f32; on an ISA without it the rounded
                           operands are multiplied in f32, which is slower (see has_bf16). INT8 counts as F32. */
} tq_gemm;

/* Attention of one segment: n query rows that stand behind n_past older keys (k and v hold n_past + n rows,
 * the past first). Query row t stands at n_past + t and sees, if causal, the keys 0 .. n_past + t, else all; with a
 * window only those less than `window` away from it.
 *   q, o: f32, row t head h at q + t*q_row + h*D.
 *   k, v: f32 or f16, key row u kv-head g at k + u*kv_row + g*kv_head (in elements).
 *   lse:  f32 [H][n] log-sum-exp of the scaled scores for backward, or NULL. */
typedef struct tq_attn {
    int n, n_past;
    int heads, kv_heads, head_dim;
    int window; /* 0: none */
    bool causal;
    bool decode; /* few rows: keys are read in place; a row's bits are those of decode, not of prefill */
    float scale;
    const float *q;
    int64_t q_row;
    const void *k, *v;
    tq_type kv_type; /* F32 or F16 */
    int64_t kv_row, kv_head;
    float *o;
    int64_t o_row;
    float *lse;
} tq_attn;

typedef struct tq_kernels {
    const char *isa; /* the row in use */
    bool has_bf16;   /* BF16 products are computed by the hardware here */
    bool has_int8;   /* int8 dot rows are faster than f32 ones here */

    /* --- rows of f32 -------------------------------------------------------------------------- */
    float (*dot)(const float *x, const float *y, int64_t n);
    float (*sum_squares)(const float *x, int64_t n);
    float (*max)(const float *x, int64_t n);                          /* -inf for n = 0 */
    void (*add)(float *z, const float *x, const float *y, int64_t n); /* z = x + y; z may be x or y */
    void (*scale)(float *y, float a, int64_t n);                      /* y *= a */
    void (*axpy)(float *y, float a, const float *x, int64_t n);       /* y += a x */
    /* y = exp(x - shift), returns the sum; y may be x. Relative error of exp below 2e-7. */
    float (*exp_sum)(float *y, const float *x, float shift, int64_t n);
    /* y = w * x * r with r = 1/sqrt(mean(x^2) + eps), returned (RMSNorm, Zhang & Sennrich 2019). */
    float (*rms_norm)(float *y, const float *x, const float *w, float eps, int64_t n);
    /* dx += ..., dw += dy * x * r (dw may be NULL). */
    void (*rms_norm_bwd)(float *dx, float *dw, const float *dy, const float *x, const float *w, float r, int64_t n);
    /* y = silu(g) * u, silu(g) = g / (1 + exp(-g)). */
    void (*silu_mul)(float *y, const float *g, const float *u, int64_t n);
    void (*silu_mul_bwd)(float *dg, float *du, const float *dy, const float *g, const float *u, int64_t n); /* sets */
    /* y = x P(X <= x) with X normal (GELU, Hendrycks & Gimpel 2016); absolute error below 3e-7 (1 + |x|). dx is set. */
    void (*gelu)(float *y, const float *x, int64_t n);
    void (*gelu_bwd)(float *dx, const float *dy, const float *x, int64_t n);
    /* y = gelu(g) * u, GELU in its form with tanh. */
    void (*gelu_mul)(float *y, const float *g, const float *u, int64_t n);
    void (*gelu_mul_bwd)(float *dg, float *du, const float *dy, const float *g, const float *u, int64_t n); /* sets */
    /* y = w * v + b with v = (x - mean) / sqrt(variance + eps) (LayerNorm, Ba et al. 2016); w and b NULL: y = v. */
    void (*layer_norm)(float *y, const float *x, const float *w, const float *b, float eps, int64_t n);
    void (*layer_norm_bwd)(float *dx, const float *dy, const float *x, const float *w, float eps, int64_t n); /* adds */
    /* Rotate-half rotary embedding of one head row in place: for i < half,
     * (x[i], x[i+half]) turns by the angle whose cosine and sine are cs[i], cs[half+i]; sign -1 turns back. */
    void (*rope)(float *x, const float *cs, int half, float sign);
    /* One AdamW update (Loshchilov & Hutter 2019): g is scaled by `clip` first; c1 = 1/(1-b1^t), c2 = 1/(1-b2^t). */
    void (*adamw)(float *p, const float *g, float *m, float *v, int64_t n, float clip, float lr, float b1, float b2,
                  float eps, float decay, float c1, float c2);
    /* Numbers as bytes of the dynamic tree (Dettmers et al. 2022), signed or from 0 up: y = scale * value of the code;
     * and back, the codes nearest to x / scale with scale, the largest |x|, returned. */
    void (*read_dynamic8)(float *y, const uint8_t *codes, float scale, bool is_signed, int64_t n);
    float (*write_dynamic8)(uint8_t *codes, const float *x, bool is_signed, int64_t n);

    /* --- storage types ------------------------------------------------------------------------ */
    /* NULL where the type is unknown. x holds n elements (n a multiple of the block). */
    void (*dequant_row[TQ_TYPE_END])(float *y, const void *x, int64_t n);
    /* F32, F16, BF16, Q8_0, Q4_0, Q4_1 at least; NULL otherwise. */
    void (*quant_row[TQ_TYPE_END])(void *y, const float *x, int64_t n);
    /* n a multiple of 32. */
    void (*quant_q8)(tq_q8 *y, const float *x, int64_t n);
    /* Decode: y[j] = dot of stored row j (of n rows, row_bytes apart, length k) with x, for every type.
     * _f32 keeps x in f32, _q8 takes T rows of x as int8 blocks (k a multiple of 32; NULL for F32/F16/BF16 rows), whose
     * results are y_row apart and of the same bits for every T. */
    void (*rows_f32[TQ_TYPE_END])(float *y, const void *w, size_t row_bytes, int64_t n, int64_t k, const float *x);
    void (*rows_q8[TQ_TYPE_END])(float *y, int64_t y_row, const void *w, size_t row_bytes, int64_t n, int64_t k,
                                 const tq_q8 *x, int T);

    /* Decode from panels: `panel_rows` rows of a weight that make() laid out for this ISA row (see k_panel.c), in
     * panel_rows * bytes for each `block` elements of k. q8() is rows_q8 over n rows (a multiple of panel_rows) of
     * panels that lie one behind the other: an element has the same bits for every T. NULL functions: no such form. */
    int panel_rows;
    struct tq_panels {
        void (*make)(void *panel, const void *w, size_t row_bytes, int64_t k);
        void (*q8)(float *y, int64_t y_row, const void *panels, int64_t n, int64_t k, const tq_q8 *x, int T);
        int block, bytes;
    } panels[TQ_TYPE_END];

    /* Search: y[i] = scale[i] * <row i, x>, n rows of `width` (a multiple of 32) signed bytes, one behind the other; no
     * byte is -128. The sum of products is exact up to a width of 8192. */
    void (*scan_i8)(float *y, const int8_t *rows, const float *scale, int64_t n, int64_t width, const int8_t *x);

    /* --- blocks, called by every worker of a region; no barrier inside: the caller puts one behind ---- */
    void (*gemm)(tq_worker *w, const struct tq_kernels *kernels, const tq_gemm *g);
    /* Head h, query rows [t0, t1). t0 is a multiple of TQ_ATTN_TILE. */
    void (*attn_fwd)(tq_worker *w, const tq_attn *a, int h, int t0, int t1);
    /* One kv head g and its query heads, all rows: dq, dk, dv (f32, laid out like q, k, v of the n new rows;
     * n_past must be 0) are set. d_o like o. f32 k and v only. */
    void (*attn_bwd)(tq_worker *w, const tq_attn *a, int g, const float *d_o, float *dq, float *dk, float *dv);
} tq_kernels;

enum { TQ_ATTN_TILE = 32 };

/* The table for this machine, capped by `cap` (a name of isa.def; NULL: the environment's TOQUE_ISA, else the
 * best). The result is static and constant. EINVAL for an unknown name or one that this CPU lacks. */
toque_status tq_kernels_select(const tq_kernels **kernels, const char *cap, toque_error *err) TQ_MUST;
/* Row i of isa.def from worst to best, NULL past the end; *usable tells whether this CPU can run it. */
const tq_kernels *tq_kernels_row(int i, bool *usable);

#endif
