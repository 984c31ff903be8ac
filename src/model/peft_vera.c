/* VeRA (Kopiczko, Blankevoort & Asano 2024, "VeRA: Vector-based Random Matrix Adaptation"): all maps share one frozen
 * random pair A [R, the widest input], B [the widest output, R], cut to each map's size; trained are two vectors,
 *   y = W x + b * (B (d * (A x))),   b [out] from 0, d [R] from 0.1.
 * Backward, with h = A x, z = B (d h), u = B^T (b dy): db = sum_t dy z, dd = sum_t u h, dx += A^T (d u).
 * A and B are PEFT's: Kaiming's uniform numbers from the Mersenne Twister (Matsumoto & Nishimura 1998) as PyTorch draws
 * them, by the key in the file. So a file without them can be read too; ours have them. */
#include "model/peft.h"

#include <math.h>

/* --- the frozen pair --------------------------------------------------------------------------------------- */
enum { STATE = 624, SHIFT = 397 };
typedef struct twister {
    uint32_t word[STATE];
    int at;
} twister;

static void twister_init(twister *t, uint32_t seed) {
    t->word[0] = seed;
    for (uint32_t i = 1; i < STATE; i++) t->word[i] = 1812433253u * (t->word[i - 1] ^ t->word[i - 1] >> 30) + i;
    t->at = STATE;
}

static void twist(twister *t) {
    for (int i = 0; i < STATE; i++) {
        uint32_t y = (t->word[i] & 0x80000000u) | (t->word[(i + 1) % STATE] & 0x7fffffffu);
        t->word[i] = t->word[(i + SHIFT) % STATE] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
    }
    t->at = 0;
}

static uint32_t draw(twister *t) {
    if (t->at == STATE) twist(t);
    uint32_t y = t->word[t->at++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

/* Uniform in +-sqrt(6 / fan), from 24 bits each. */
static void fill(twister *t, float *x, size_t n, int fan) {
    double bound = sqrt(3.0) * (sqrt(2.0) / sqrt((double)fan));
    float from = (float)-bound, width = (float)bound - from;
    for (size_t i = 0; i < n; i++)
        x[i] = (float)((double)(draw(t) & 0xffffff) / 16777216.0 * (double)width + (double)from);
}

static toque_status vera_prepare(tq_adapter *a, toque_error *err) {
    tq_mem *mem = &a->model->ctx->mem;
    const tq_site_state *states = a->states;
    int64_t in = 0, out = 0, R = a->rank;
    for (size_t i = 0; i < a->n_sites; i++) {
        if (states[i].weight->cols > in) in = states[i].weight->cols;
        if (states[i].weight->rows > out) out = states[i].weight->rows;
    }
    a->shared[0] = (tq_shared){.name = "base_model.vera_A", .rows = (int)R, .cols = (int)in};
    a->shared[1] = (tq_shared){.name = "base_model.vera_B", .rows = (int)out, .cols = (int)R};
    for (int i = 0; i < 2; i++) {
        tq_shared *s = &a->shared[i];
        s->values = tq_alloc(mem, (size_t)s->rows * (size_t)s->cols, sizeof(float));
        if (!s->values) return TQ_NOMEM(err);
    }
    twister *t = TQ_NEW(mem, twister);
    if (!t) return TQ_NOMEM(err);
    twister_init(t, a->projection_key);
    for (int i = 0; i < 2; i++)
        fill(t, a->shared[i].values, (size_t)a->shared[i].rows * (size_t)a->shared[i].cols, a->shared[i].cols);
    tq_free(mem, t);
    return TOQUE_OK;
}

/* --- a site ------------------------------------------------------------------------------------------------ */
static void vera_shape(const tq_site_state *s, int i, int *rows, int *cols) {
    *rows = 1;
    *cols = i == 0 ? (int)s->weight->rows : s->rank;
}

static void vera_init(tq_site_state *s, uint64_t seed, uint32_t site) {
    (void)seed, (void)site;
    for (int r = 0; r < s->rank; r++) s->value[1][r] = 0.1f;
}

/* c [n, cols] (+)= a [n, k] times a shared matrix or its transpose, in f32 in every mode, as LoRA's thin products. */
static void product(tq_exec *e, tq_worker *w, int64_t n, int64_t cols, int64_t k, const float *a, int64_t a_row,
                    const tq_shared *b, bool transposed, float *c, int64_t c_row, bool accumulate) {
    tq_gemm g = {.m = n,
                 .n = cols,
                 .k = k,
                 .a = a,
                 .a_row = a_row,
                 .a_col = 1,
                 .b = b->values,
                 .b_type = TQ_F32,
                 .b_trans = transposed,
                 .b_stride = (size_t)b->cols * sizeof(float),
                 .c = c,
                 .c_row = c_row,
                 .alpha = 1,
                 .accumulate = accumulate,
                 .compute = TQ_COMPUTE_F32};
    e->k->gemm(w, e->k, &g);
}

/* y [n, width] = scale * x * v for rows [0, n), the workers sharing rows; ends with a barrier. */
static void times(tq_worker *w, float *y, const float *x, const float *v, float scale, int64_t n, int64_t width) {
    int64_t b, end;
    tq_share(w, n, 1, &b, &end);
    for (int64_t t = b; t < end; t++)
        for (int64_t i = 0; i < width; i++) y[t * width + i] = scale * (x[t * width + i] * v[i]);
    tq_barrier(w);
}

/* h [n, R] = A x, dh = scale d h, z [n, out] = B dh: in the halves of low, and in turned,
 * which nobody needs once the product with W is done. Ends with a barrier. */
static void up(tq_exec *e, tq_worker *w, const tq_site_state *s, float scale, int t0, int n, const float *x, float *h,
               float *dh, float *z) {
    const tq_adapter *a = s->adapter;
    const int64_t in = s->weight->cols, out = s->weight->rows, R = s->rank;
    product(e, w, n, R, in, x + t0 * in, in, &a->shared[0], true, h, R, false);
    tq_barrier(w);
    times(w, dh, h, s->value[1], scale, n, R);
    product(e, w, n, out, R, dh, R, &a->shared[1], true, z, out, false);
    tq_barrier(w);
}

static void vera_fwd(tq_exec *e, tq_worker *w, const tq_site *site, float scale, int t0, int t1, const float *x,
                     float *y) {
    const tq_site_state *s = site->state;
    const int64_t out = s->weight->rows, R = s->rank;
    const int n = t1 - t0;
    float *z = e->turned + t0 * out;
    up(e, w, s, scale, t0, n, x, e->low + t0 * R, e->low + (e->T + t0) * R, z);
    int64_t b, end;
    tq_share(w, n, 1, &b, &end);
    for (int64_t t = b; t < end; t++)
        for (int64_t i = 0; i < out; i++) y[(t0 + t) * out + i] += z[t * out + i] * s->value[0][i];
    tq_barrier(w);
}

static void vera_bwd(tq_exec *e, tq_worker *w, const tq_site *site, float scale, int t0, int t1, const float *x,
                     const float *dy, float *dx) {
    const tq_site_state *s = site->state;
    const tq_adapter *a = s->adapter;
    const int64_t in = s->weight->cols, out = s->weight->rows, R = s->rank;
    const int n = t1 - t0;
    float *h = e->low + t0 * R, *u = e->low + (e->T + t0) * R, *z = e->turned + t0 * out;
    if (a->grads) {
        up(e, w, s, scale, t0, n, x, h, u, z);
        tq_sum_columns(w, a->grads + s->start[0], dy + t0 * out, z, NULL, 1, 0, n, out);
        tq_barrier(w);
    }
    times(w, z, dy + t0 * out, s->value[0], 1, n, out);
    product(e, w, n, R, out, z, out, &a->shared[1], false, u, R, false);
    tq_barrier(w);
    if (a->grads) {
        tq_sum_columns(w, a->grads + s->start[1], u, h, NULL, scale, 0, n, R);
        tq_barrier(w);
    }
    if (!dx) return;
    times(w, u, u, s->value[1], scale, n, R);
    product(e, w, n, in, R, u, R, &a->shared[0], false, dx + t0 * in, in, true);
    tq_barrier(w);
}

static void vera_connect(const tq_site_state *s, tq_site *site) {
    (void)s;
    site->fwd = vera_fwd;
    site->bwd = vera_bwd;
}

const tq_peft tq_peft_vera = {
    .name = "vera",
    .peft_type = "VERA",
    .help = "vectors around one frozen random pair of matrices that all maps share",
    .keys = "rank targets train_modules",
    .rank = 256,
    .lr_small = 1e-2,
    .lr_large = 3e-3,
    .targets = "all-linear",
    .n_parts = 2,
    .part = {"vera_lambda_b", "vera_lambda_d"},
    .vector = {true, true},
    .shape = vera_shape,
    .init = vera_init,
    .connect = vera_connect,
    .prepare = vera_prepare,
};
