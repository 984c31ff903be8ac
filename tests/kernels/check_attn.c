/* Attention against double loops; the same bits however a prompt is cut; gradients against finite differences of a
 * double-precision loss. */
#include "check.h"

#include "kernels/half.h"

typedef struct shape {
    int n, n_past, heads, kv_heads, d, window;
    bool causal;
    tq_type type;
} shape;

typedef struct made {
    tq_attn a;
    float *k32, *v32; /* values of k and v */
    int64_t kv_total;
} made;

static float *spread(int64_t rows, int64_t width, int64_t stride, bool front) {
    return guard_floats(rows ? (rows - 1) * stride + width : 0, front);
}

static made make(shape s, bool front) {
    int64_t qw = (int64_t)s.heads * s.d, kw = (int64_t)s.kv_heads * s.d, rows = s.n + s.n_past;
    made m = {.a = {.n = s.n,
                    .n_past = s.n_past,
                    .heads = s.heads,
                    .kv_heads = s.kv_heads,
                    .head_dim = s.d,
                    .window = s.window,
                    .causal = s.causal,
                    .scale = 1.0f / sqrtf((float)s.d) * 3,
                    .kv_type = s.type,
                    .q_row = qw + 3,
                    .kv_row = kw + 1,
                    .kv_head = s.d,
                    .o_row = qw + 2}};
    m.kv_total = rows ? (rows - 1) * m.a.kv_row + kw : 0;
    m.a.q = spread(s.n, qw, m.a.q_row, front);
    m.k32 = spread(rows, kw, m.a.kv_row, front);
    m.v32 = spread(rows, kw, m.a.kv_row, front);
    m.a.k = m.k32;
    m.a.v = m.v32;
    if (s.type == TQ_F16) {
        uint16_t *k = guard((size_t)m.kv_total * 2, front), *v = guard((size_t)m.kv_total * 2, front);
        for (int64_t i = 0; i < m.kv_total; i++) {
            k[i] = tq_float_to_half(m.k32[i]);
            v[i] = tq_float_to_half(m.v32[i]);
            m.k32[i] = tq_half_to_float(k[i]);
            m.v32[i] = tq_half_to_float(v[i]);
        }
        m.a.k = k;
        m.a.v = v;
    }
    m.a.o = spread(s.n, qw, m.a.o_row, front);
    m.a.lse = guard((size_t)s.n * (size_t)s.heads * sizeof(float), front);
    return m;
}

static bool sees(const tq_attn *a, int t, int u) {
    int at = a->n_past + t, back = at - u;
    if (a->causal && back < 0) return false;
    return a->window <= 0 || (back < a->window && -back < a->window);
}

/* o (d values) and the log-sum-exp of one row of one head, in double. */
static double row_of(const tq_attn *a, const double *q, const double *k, const double *v, int t, int h, double *o) {
    int d = a->head_dim, g = h / (a->heads / a->kv_heads), rows = a->n + a->n_past;
    double max = -INFINITY, sum = 0, *p = malloc(sizeof *p * (size_t)rows);
    assert_non_null(p);
    for (int u = 0; u < rows; u++) {
        double s = 0;
        for (int c = 0; c < d; c++) s += q[t * a->q_row + h * d + c] * k[u * a->kv_row + g * a->kv_head + c];
        p[u] = sees(a, t, u) ? s * a->scale : -INFINITY;
        max = fmax(max, p[u]);
    }
    for (int u = 0; u < rows; u++) sum += p[u] = exp(p[u] - max);
    for (int c = 0; c < d; c++) {
        o[c] = 0;
        for (int u = 0; u < rows; u++) o[c] += p[u] / sum * v[u * a->kv_row + g * a->kv_head + c];
    }
    free(p);
    return max + log(sum);
}

static double *widen(const float *x, int64_t n) {
    double *y = malloc(sizeof *y * (size_t)(n + 1));
    assert_non_null(y);
    for (int64_t i = 0; i < n; i++) y[i] = x[i];
    return y;
}

static void forward(const tq_kernels *k, const tq_attn *a, int step) {
    for (int h = 0; h < a->heads; h++)
        for (int t = 0; t < a->n; t += step)
            k->attn_fwd(check_worker(0, 1), a, h, t, t + step < a->n ? t + step : a->n);
}

static void values(const tq_kernels *k, shape s, bool front, bool decode) {
    made m = make(s, front);
    m.a.decode = decode;
    float *padding = guard_copy(m.a.o, s.n ? (s.n - 1) * m.a.o_row + s.heads * s.d : 0, false);
    forward(k, &m.a, 32);
    double *q = widen(m.a.q, (s.n - 1) * m.a.q_row + s.heads * s.d), *kd = widen(m.k32, m.kv_total);
    double *vd = widen(m.v32, m.kv_total), *o = malloc(sizeof *o * (size_t)s.d);
    assert_non_null(o);
    for (int t = 0; t < s.n; t++) {
        for (int h = 0; h < s.heads; h++) {
            double lse = row_of(&m.a, q, kd, vd, t, h, o);
            near(k, "lse", h * s.n + t, m.a.lse[h * s.n + t], lse, 2e-6, 1 + fabs(lse));
            for (int c = 0; c < s.d; c++)
                near(k, "attention", t * s.d + c, m.a.o[t * m.a.o_row + h * s.d + c], o[c], 3e-6, 1);
        }
        if (t + 1 < s.n)
            assert_memory_equal(m.a.o + t * m.a.o_row + s.heads * s.d, padding + t * m.a.o_row + s.heads * s.d, 8);
    }
    free(q);
    free(kd);
    free(vd);
    free(o);
    guard_reset();
}

void check_attn_values(void **state) {
    (void)state;
    const shape shapes[] = {{1, 0, 1, 1, 1, 0, true, TQ_F32},     {1, 0, 3, 1, 64, 0, true, TQ_F16},
                            {1, 200, 3, 1, 64, 0, true, TQ_F16},  {1, 63, 2, 2, 7, 0, true, TQ_F32},
                            {33, 0, 2, 1, 16, 0, true, TQ_F32},   {65, 0, 2, 1, 17, 0, true, TQ_F16},
                            {129, 0, 1, 1, 33, 0, false, TQ_F32}, {31, 70, 4, 2, 8, 0, true, TQ_F32},
                            {100, 0, 1, 1, 24, 10, true, TQ_F32}, {100, 30, 1, 1, 15, 70, true, TQ_F16},
                            {90, 0, 2, 2, 9, 20, false, TQ_F32},  {64, 64, 1, 1, 64, 0, true, TQ_F32},
                            {5, 0, 2, 1, 128, 0, false, TQ_F16},  {1, 300, 1, 1, 65, 64, true, TQ_F32}};
    FOR_ROWS(k)
    for (size_t i = 0; i < 2 * (sizeof shapes / sizeof *shapes); i++) values(k, shapes[i / 2], i / 2 % 2, i % 2);
}

/* Whole against chunks: each chunk has only the keys up to its end, and its own n_past. */
void check_attn_bits(void **state) {
    (void)state;
    const shape shapes[] = {
        {150, 0, 2, 1, 16, 0, true, TQ_F32}, {150, 0, 1, 1, 20, 40, true, TQ_F16}, {97, 70, 1, 1, 64, 0, true, TQ_F32}};
    const int chunks[] = {1, 7, 32, 33, 64, 100};
    FOR_ROWS(k)
    for (size_t i = 0; i < 2 * (sizeof shapes / sizeof *shapes); i++) {
        shape s = shapes[i / 2];
        made m = make(s, false);
        m.a.decode = i % 2;
        int64_t size = (s.n - 1) * m.a.o_row + s.heads * s.d;
        forward(k, &m.a, 32);
        float *want = guard_copy(m.a.o, size, false), *lse = guard_copy(m.a.lse, s.n * s.heads, false);
        forward(k, &m.a, 256);
        assert_memory_equal(m.a.o, want, (size_t)size * 4);
        for (size_t c = 0; c < sizeof chunks / sizeof *chunks; c++) {
            memset(m.a.o, 0, (size_t)s.n * 4); /* padding between rows stays */
            for (int t = 0; t < s.n; t += chunks[c]) {
                tq_attn part = m.a;
                part.n = t + chunks[c] < s.n ? chunks[c] : s.n - t;
                part.n_past = s.n_past + t;
                part.q += t * part.q_row;
                part.o += t * part.o_row;
                /* keys after the chunk do not exist yet */
                size_t elem = s.type == TQ_F16 ? 2 : 4;
                size_t bytes = (size_t)((part.n_past + part.n - 1) * part.kv_row + s.kv_heads * s.d) * elem;
                part.k = memcpy(guard(bytes, false), m.a.k, bytes);
                part.v = memcpy(guard(bytes, false), m.a.v, bytes);
                part.lse = guard((size_t)(part.n * s.heads) * 4, false);
                forward(k, &part, 32);
                for (int r = 0; r < part.n; r++) {
                    assert_memory_equal(part.o + r * part.o_row, want + (t + r) * part.o_row,
                                        (size_t)(s.heads * s.d) * 4);
                    for (int h = 0; h < s.heads; h++)
                        assert_memory_equal(&part.lse[h * part.n + r], &lse[h * s.n + t + r], 4);
                }
                if (t % 32 == 0) {
                    tq_attn bare = part;
                    bare.lse = NULL;
                    forward(k, &bare, 32);
                    assert_memory_equal(bare.o, want + t * part.o_row, (size_t)(s.heads * s.d) * 4);
                }
            }
        }
        guard_reset();
    }
}

static double loss_of(const tq_attn *a, const double *q, const double *k, const double *v, const float *d_o) {
    double loss = 0, o[128];
    for (int t = 0; t < a->n; t++)
        for (int h = 0; h < a->heads; h++) {
            row_of(a, q, k, v, t, h, o);
            for (int c = 0; c < a->head_dim; c++) loss += o[c] * d_o[t * a->o_row + h * a->head_dim + c];
        }
    return loss;
}

static void slope(const tq_kernels *k, const char *what, const tq_attn *a, double *x, int64_t stride, int64_t width,
                  int n, int every, const float *got, const double *q, const double *kd, const double *vd,
                  const float *d_o) {
    const double h = 1e-5;
    for (int t = 0; t < n; t++)
        for (int64_t c = t % every; c < width; c += every) {
            int64_t i = t * stride + c;
            double old = x[i];
            x[i] = old + h;
            double up = loss_of(a, q, kd, vd, d_o);
            x[i] = old - h;
            double down = loss_of(a, q, kd, vd, d_o);
            x[i] = old;
            near(k, what, i, got[i], (up - down) / (2 * h), 1e-5, 2);
        }
}

void check_attn_backward(void **state) {
    (void)state;
    const shape shapes[] = {{1, 0, 1, 1, 4, 0, true, TQ_F32},   {9, 0, 4, 2, 5, 0, true, TQ_F32},
                            {17, 0, 2, 1, 8, 6, true, TQ_F32},  {12, 0, 2, 2, 16, 0, false, TQ_F32},
                            {70, 0, 2, 1, 3, 0, true, TQ_F32},  {70, 0, 1, 1, 16, 9, false, TQ_F32},
                            {11, 0, 3, 1, 33, 0, true, TQ_F32}, {129, 0, 1, 1, 2, 65, true, TQ_F32}};
    FOR_ROWS(k)
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        shape s = shapes[i];
        int64_t qw = s.heads * s.d, kw = s.kv_heads * s.d;
        made m = make(s, i % 2);
        tq_attn *a = &m.a;
        forward(k, a, 32);
        float *d_o = spread(s.n, qw, a->o_row, i % 2), *dq = spread(s.n, qw, a->q_row, i % 2);
        float *dk = spread(s.n, kw, a->kv_row, i % 2), *dv = spread(s.n, kw, a->kv_row, i % 2);
        float *dq0 = guard_copy(dq, (s.n - 1) * a->q_row + qw, false);
        float *dk0 = guard_copy(dk, (s.n - 1) * a->kv_row + kw, false);
        for (int g = 0; g < s.kv_heads; g++) k->attn_bwd(check_worker(0, 1), a, g, d_o, dq, dk, dv);
        for (int t = 0; t + 1 < s.n; t++) {
            assert_memory_equal(dq + t * a->q_row + qw, dq0 + t * a->q_row + qw, (size_t)(a->q_row - qw) * 4);
            assert_memory_equal(dk + t * a->kv_row + kw, dk0 + t * a->kv_row + kw, (size_t)(a->kv_row - kw) * 4);
        }
        double *q = widen(a->q, (s.n - 1) * a->q_row + qw), *kd = widen(m.k32, m.kv_total);
        double *vd = widen(m.v32, m.kv_total);
        int every = s.n > 20 ? 29 : 3;
        slope(k, "dq", a, q, a->q_row, qw, s.n, every, dq, q, kd, vd, d_o);
        slope(k, "dk", a, kd, a->kv_row, kw, s.n, every, dk, q, kd, vd, d_o);
        slope(k, "dv", a, vd, a->kv_row, kw, s.n, every, dv, q, kd, vd, d_o);
        free(q);
        free(kd);
        free(vd);
        guard_reset();
    }
}
