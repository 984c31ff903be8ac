/* Attention in blocks of keys with a running softmax (Milakov & Gimelshein 2018; Dao et al., "FlashAttention",
 * 2022), so no row of scores longer than a block exists.
 *
 * Blocks of keys are cut at multiples of KT counted from key 0, a score is one chain over the head's width, and a row
 * joins a block only if it sees a key of it. A row's result therefore depends on its query and keys alone: not on the
 * tile, nor on how a prompt was cut. In decode, where a row is alone, the chain runs in vector lanes and keys are read
 * in place; else keys are turned and scores are a matrix product, whose chains run element by element. Without `causal`
 * a window is symmetric: |key - query| < window. */
#include "kernels/row.h"
#include "kernels/tile.h"
#include "kernels/vexp.h"

enum { QT = 64, KT = 64, MAX_D = 2048 };
/* Scratch, in floats: four blocks of rows (q, k, v, o) and two turned ones, two of scores, a few numbers a row. */
_Static_assert(((size_t)(2 * QT + 4 * KT) * MAX_D + 2 * QT * KT + 4 * QT) * sizeof(float) <= TQ_SCRATCH_BYTES,
               "scratch");

/* Rows of a head, whole vectors wide: f32, or f16 where each value is used only once. */
typedef struct rows {
    const void *at;
    int64_t stride; /* in elements */
    bool half;
} rows;

typedef struct span {
    int64_t lo, hi; /* first and last key that a query row sees */
} span;

static inline span seen(const tq_attn *a, int64_t t) {
    int64_t at = a->n_past + t, last = (int64_t)a->n_past + a->n - 1;
    span s = {.lo = 0, .hi = a->causal ? at : last};
    if (a->window > 0) {
        if (at - a->window + 1 > 0) s.lo = at - a->window + 1;
        if (at + a->window - 1 < s.hi) s.hi = at + a->window - 1;
    }
    return s;
}

static inline int64_t padded(int d) {
    return (d + VW - 1) / VW * VW;
}

/* n rows of width d in whole vectors: where they are if possible, else as f32 in buf. */
static rows load_rows(const void *from, tq_type type, int64_t offset, int64_t stride, int64_t n, int d, float *buf,
                      bool once) {
    int64_t dp = padded(d);
    if (d % VW == 0 && type == TQ_F32) return (rows){(const float *)from + offset, stride, false};
    if (d % VW == 0 && once) return (rows){(const uint16_t *)from + offset, stride, true};
    for (int64_t i = 0; i < n; i++) {
        float *to = buf + i * dp;
        int64_t c = 0;
        if (type == TQ_F32) {
            const float *x = (const float *)from + offset + i * stride;
            for (; c + VW <= d; c += VW) vf_store(to + c, vf_load(x + c));
            if (c < d) vf_store(to + c, vf_load_n(x + c, d - c));
        } else {
            const uint16_t *x = (const uint16_t *)from + offset + i * stride;
            for (; c + VW <= d; c += VW) vf_store(to + c, vf_load_f16(x + c));
            if (c < d) {
                uint16_t t[VW] = {0};
                memcpy(t, x + c, (size_t)(d - c) * sizeof *t);
                vf_store(to + c, vf_load_f16(t));
            }
        }
    }
    return (rows){buf, dp, false};
}

TQ_INLINE vf load_vec(const void *row, int64_t i, bool half) {
    return half ? vf_load_f16((const uint16_t *)row + i) : vf_load((const float *)row + i);
}

/* out[j] = scale * <x, row j of y>, j < n <= KT; the rest of out's last vector repeats row n - 1. */
TQ_INLINE void scores_of(float *out, const float *x, rows y, int n, int64_t dp, float scale, bool half) {
    const vf vscale = vf_set1(scale);
    for (int j = 0; j < n; j += VW) {
        vf acc[VW];
        TQ_UNROLL for (int i = 0; i < VW; i++) acc[i] = vf_zero();
        if (j + VW <= n) {
            const int64_t first = j * y.stride;
            for (int64_t c = 0; c < dp; c += VW) {
                vf xv = vf_load(x + c);
                TQ_UNROLL for (int i = 0; i < VW; i++) acc[i] =
                    vf_fma(xv, load_vec(y.at, first + i * y.stride + c, half), acc[i]);
            }
        } else {
            for (int i = 0; i < VW; i++) {
                int64_t first = (j + i < n ? j + i : n - 1) * y.stride;
                for (int64_t c = 0; c < dp; c += VW)
                    acc[i] = vf_fma(vf_load(x + c), load_vec(y.at, first + c, half), acc[i]);
            }
        }
        vf_store(out + j, vf_mul(vscale, vf_sums(acc)));
    }
}
static void scores(float *out, const float *x, rows y, int n, int64_t dp, float scale) {
    if (y.half)
        scores_of(out, x, y, n, dp, scale, true);
    else
        scores_of(out, x, y, n, dp, scale, false);
}

/* turned [dp][KT] = the rows of y as columns; columns past n are 0. */
static void turn(float *turned, rows y, int n, int64_t dp) {
    for (int j = 0; j < KT; j += VW)
        for (int64_t c = 0; c < dp; c += VW) {
            vf t[VW];
            for (int i = 0; i < VW; i++)
                t[i] = j + i < n ? vf_load((const float *)y.at + (j + i) * y.stride + c) : vf_zero();
            vf_transpose(t);
            for (int i = 0; i < VW; i++) vf_store(turned + (c + i) * KT + j, t[i]);
        }
}

/* The scores that the row does not see, up to KT, become `value`. */
static void mask(float *s, span see, int64_t first, float value) {
    for (int64_t j = 0; j < KT && first + j < see.lo; j++) s[j] = value;
    for (int64_t j = see.hi - first + 1 > 0 ? see.hi - first + 1 : 0; j < KT; j++) s[j] = value;
}

/* C[m][d] = scale A B (+ C, then with scale 1), A in one of tile.h's two layouts, B rows of whole vectors, C `d` wide.
 */
TQ_INLINE void product(int64_t m, tile_kind kind, int64_t k, const float *a, int64_t as, rows b, float *c, int64_t cs,
                       int d, float scale, bool add) {
    for (int j = 0; j < d; j += TILE_V * VW) {
        int cols = d - j < TILE_V * VW ? d - j : TILE_V * VW;
        tile_in in = {.k = k, .a = a, .as = as, .b = (const float *)b.at + j, .bs = b.stride};
        tile_out out = {.c = c + j, .cs = cs, .cols = cols, .alpha = scale, .accumulate = add};
        if (cols > VW)
            tile_panel(m, TILE_V, kind, &in, &out);
        else
            tile_panel(m, 1, kind, &in, &out);
    }
}
static void add_rows(int64_t m, int64_t k, const float *a, rows b, float *c, int64_t cs, int d) {
    product(m, TILE_ROWS, k, a, KT, b, c, cs, d, 1, true);
}
static void add_cols(int64_t m, int64_t k, const float *a, rows b, float *c, int64_t cs, int d) {
    product(m, TILE_COLS, k, a, KT, b, c, cs, d, 1, true);
}
/* s [m][KT] = scale x y^T for rows [r0, r0 + m) of x and the block's turned rows y. */
static void scores_tile(float *s, rows x, int r0, int64_t m, const float *turned, int64_t dp, float scale) {
    rows y = {turned, KT, false};
    product(m, TILE_ROWS, dp, (const float *)x.at + r0 * x.stride, x.stride, y, s, KT, KT, scale, false);
}

/* o[dp] += p[k] B for one row: the chains of tile.h, of more columns at a time because a row alone has few. */
TQ_INLINE int64_t add_columns(int nv, int64_t j, int64_t k, const float *p, rows b, float *o, bool half) {
    vf acc[8];
    TQ_UNROLL for (int v = 0; v < nv; v++) acc[v] = vf_load(o + j + v * VW);
    for (int64_t u = 0; u < k; u++) {
        const vf pu = vf_set1(p[u]);
        TQ_UNROLL for (int v = 0; v < nv; v++) acc[v] =
            vf_fma(pu, load_vec(b.at, u * b.stride + j + v * VW, half), acc[v]);
    }
    TQ_UNROLL for (int v = 0; v < nv; v++) vf_store(o + j + v * VW, acc[v]);
    return j + nv * VW;
}
TQ_INLINE void add_row_of(int64_t k, const float *p, rows b, float *o, int64_t dp, bool half) {
    int64_t j = 0;
    while (j + 8 * VW <= dp) j = add_columns(8, j, k, p, b, o, half);
    while (j + 4 * VW <= dp) j = add_columns(4, j, k, p, b, o, half);
    while (j < dp) j = add_columns(1, j, k, p, b, o, half);
}
static void add_row(int64_t k, const float *p, rows b, float *o, int64_t dp) {
    if (b.half)
        add_row_of(k, p, b, o, dp, true);
    else
        add_row_of(k, p, b, o, dp, false);
}

/* The query rows of a tile that see any of the keys [first, last]; seen() grows with the row. */
static void rows_seeing(const tq_attn *a, int64_t t, int n, int64_t first, int64_t last, int *r0, int *r1) {
    *r0 = 0;
    while (*r0 < n && seen(a, t + *r0).hi < first) ++*r0;
    *r1 = n;
    while (*r1 > *r0 && seen(a, t + *r1 - 1).lo > last) --*r1;
}

/* One row's scores of a block become probabilities relative to the running maximum m; o and l, which are relative to
 * the old one, follow. */
static void soften(float *s, float *m, float *l, float *o, int64_t dp) {
    vf top = vf_load(s);
    for (int j = VW; j < KT; j += VW) top = vf_max(top, vf_load(s + j));
    float old = *m, now = vf_hmax(top);
    now = now > old ? now : old;
    *m = now;
    float shift = now == -INFINITY ? 0 : now;
    const vf vshift = vf_set1(shift);
    vf sum = vf_zero();
    for (int j = 0; j < KT; j += VW) {
        vf p = vf_exp(vf_sub(vf_load(s + j), vshift));
        vf_store(s + j, p);
        sum = vf_add(sum, p);
    }
    vf back = vf_exp(vf_sub(vf_set1(old), vshift));
    float f[VW];
    vf_store(f, back);
    *l = *l * f[0] + vf_sum(sum);
    for (int64_t c = 0; c < dp; c += VW) vf_store(o + c, vf_mul(back, vf_load(o + c)));
}

static void finish(const tq_attn *a, int h, int64_t t, float m, float l, const float *o) {
    float *to = a->o + t * a->o_row + (int64_t)h * a->head_dim;
    const vf scale = vf_set1(1 / l);
    int c = 0;
    for (; c + VW <= a->head_dim; c += VW) vf_store(to + c, vf_mul(scale, vf_load(o + c)));
    if (c < a->head_dim) vf_store_n(to + c, vf_mul(scale, vf_load(o + c)), a->head_dim - c);
    if (a->lse) a->lse[(int64_t)h * a->n + t] = m + tq_scalar_log(l);
}

static void tile_fwd(tq_worker *w, const tq_attn *a, int h, int64_t t, int n) {
    const int d = a->head_dim;
    const int64_t dp = padded(d), offset = h / (a->heads / a->kv_heads) * a->kv_head;
    float *kbuf = w->scratch, *vbuf = kbuf + KT * dp, *qbuf = vbuf + KT * dp, *o = qbuf + QT * dp;
    float *s = o + QT * dp, *m = s + QT * KT, *l = m + QT, *turned = l + QT;
    rows q = load_rows(a->q, TQ_F32, t * a->q_row + (int64_t)h * d, a->q_row, n, d, qbuf, false);
    memset(o, 0, (size_t)(QT * dp) * sizeof *o);
    for (int r = 0; r < n; r++) m[r] = -INFINITY, l[r] = 0;
    for (int64_t u = seen(a, t).lo / KT * KT, end = seen(a, t + n - 1).hi; u <= end; u += KT) {
        int keys = (int)(end - u + 1 < KT ? end - u + 1 : KT), r0, r1;
        rows_seeing(a, t, n, u, u + keys - 1, &r0, &r1);
        if (r0 == r1) continue;
        rows k = load_rows(a->k, a->kv_type, u * a->kv_row + offset, a->kv_row, keys, d, kbuf, a->decode);
        rows v = load_rows(a->v, a->kv_type, u * a->kv_row + offset, a->kv_row, keys, d, vbuf, a->decode);
        if (!a->decode) {
            turn(turned, k, keys, dp);
            scores_tile(s + r0 * KT, q, r0, r1 - r0, turned, dp, a->scale);
        }
        for (int r = r0; r < r1; r++) {
            if (a->decode) scores(s + r * KT, (const float *)q.at + r * q.stride, k, keys, dp, a->scale);
            mask(s + r * KT, seen(a, t + r), u, -INFINITY);
            soften(s + r * KT, &m[r], &l[r], o + r * dp, dp);
        }
        for (int r = r0; a->decode && r < r1; r++) add_row(keys, s + r * KT, v, o + r * dp, dp);
        if (!a->decode) add_rows(r1 - r0, keys, s + r0 * KT, v, o + r0 * dp, dp, (int)dp);
    }
    for (int r = 0; r < n; r++) finish(a, h, t + r, m[r], l[r], o + r * dp);
}

void TQ_FN(attn_fwd)(tq_worker *w, const tq_attn *a, int h, int t0, int t1) {
    for (int t = t0; t < t1; t += QT) tile_fwd(w, a, h, t, t1 - t < QT ? t1 - t : QT);
}

/* With P = exp(S - lse) and delta = <do, o>: dv += P^T do, dS = P (do v^T - delta) scale, dq += dS k,
 * dk += dS^T q. One tile of query rows against one block of keys. */
typedef struct back {
    const tq_attn *a;
    int h;
    int64_t u;
    int keys;
    rows k;
    const float *kt, *vt;        /* the block's keys and values, turned */
    float *qbuf, *obuf, *p, *ds; /* scratch */
    const float *d_o;
    float *dq, *dk, *dv; /* of the tile's head, the block's first key */
} back;

static void tile_bwd(const back *b, int64_t t, int n) {
    const tq_attn *a = b->a;
    const int d = a->head_dim;
    const int64_t dp = padded(d), at = (int64_t)b->h * d;
    int r0, r1;
    rows_seeing(a, t, n, b->u, b->u + b->keys - 1, &r0, &r1);
    if (r0 == r1) return;
    rows q = load_rows(a->q, TQ_F32, t * a->q_row + at, a->q_row, n, d, b->qbuf, false);
    rows d_o = load_rows(b->d_o, TQ_F32, t * a->o_row + at, a->o_row, n, d, b->obuf, false);
    scores_tile(b->p + r0 * KT, q, r0, r1 - r0, b->kt, dp, a->scale);
    scores_tile(b->ds + r0 * KT, d_o, r0, r1 - r0, b->vt, dp, 1);
    for (int r = r0; r < r1; r++) {
        float *p = b->p + r * KT, *ds = b->ds + r * KT;
        int64_t row = (t + r) * a->o_row + at;
        const vf delta = vf_set1(TQ_FN(dot)(b->d_o + row, a->o + row, d)), scale = vf_set1(a->scale);
        const vf lse = vf_set1(a->lse[(int64_t)b->h * a->n + t + r]);
        for (int j = 0; j < b->keys; j += VW) {
            vf pj = vf_exp(vf_sub(vf_load(p + j), lse));
            vf_store(p + j, pj);
            vf_store(ds + j, vf_mul(scale, vf_mul(pj, vf_sub(vf_load(ds + j), delta))));
        }
        mask(p, seen(a, t + r), b->u, 0);
        mask(ds, seen(a, t + r), b->u, 0);
    }
    rows qr = {(const float *)q.at + r0 * q.stride, q.stride, false};
    rows or = {(const float *)d_o.at + r0 * d_o.stride, d_o.stride, false};
    add_cols(b->keys, r1 - r0, b->p + r0 * KT, or, b->dv, a->kv_row, d);
    add_cols(b->keys, r1 - r0, b->ds + r0 * KT, qr, b->dk, a->kv_row, d);
    add_rows(r1 - r0, b->keys, b->ds + r0 * KT, b->k, b->dq + (t + r0) * a->q_row, a->q_row, d);
}

void TQ_FN(attn_bwd)(tq_worker *w, const tq_attn *a, int g, const float *d_o, float *dq, float *dk, float *dv) {
    const int d = a->head_dim, group = a->heads / a->kv_heads;
    const int64_t dp = padded(d), offset = (int64_t)g * a->kv_head;
    float *kbuf = w->scratch, *vbuf = kbuf + KT * dp, *qbuf = vbuf + KT * dp, *obuf = qbuf + QT * dp;
    float *p = obuf + QT * dp, *kt = p + 2 * QT * KT, *vt = kt + KT * dp;
    for (int64_t t = 0; t < a->n; t++) {
        memset(dq + t * a->q_row + (int64_t)g * group * d, 0, (size_t)(group * d) * sizeof *dq);
        memset(dk + t * a->kv_row + offset, 0, (size_t)d * sizeof *dk);
        memset(dv + t * a->kv_row + offset, 0, (size_t)d * sizeof *dv);
    }
    for (int64_t u = 0; u < a->n; u += KT) {
        back b = {.a = a,
                  .u = u,
                  .keys = (int)(a->n - u < KT ? a->n - u : KT),
                  .qbuf = qbuf,
                  .obuf = obuf,
                  .p = p,
                  .ds = p + QT * KT,
                  .kt = kt,
                  .vt = vt,
                  .d_o = d_o,
                  .dk = dk + u * a->kv_row + offset,
                  .dv = dv + u * a->kv_row + offset};
        b.k = load_rows(a->k, TQ_F32, u * a->kv_row + offset, a->kv_row, b.keys, d, kbuf, false);
        rows v = load_rows(a->v, TQ_F32, u * a->kv_row + offset, a->kv_row, b.keys, d, vbuf, false);
        turn(kt, b.k, b.keys, dp);
        turn(vt, v, b.keys, dp);
        for (b.h = g * group; b.h < (g + 1) * group; b.h++) {
            b.dq = dq + (int64_t)b.h * d;
            for (int64_t t = 0; t < a->n; t += QT) tile_bwd(&b, t, (int)(a->n - t < QT ? a->n - t : QT));
        }
    }
}
