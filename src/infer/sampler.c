/* Sampling: bias, penalties, truncations, temperature, draw. See sampler.h.
 *
 * The truncations need only the head of the order, and it is short: a heap is built over the candidates in O(V) and
 * popped until enough is there, so nothing is ever sorted as a whole.
 */
#include "infer/sampler.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/rng.h"

struct tq_sampler {
    tq_mem *mem;
    const tq_kernels *k;
    tq_sampling o; /* o.bias is ours */
    int32_t V;
    tq_candidate *items; /* [V] */
    int32_t n;           /* candidates that are left */
    float *row;          /* [V] working copy of the logits */
    uint32_t *count;     /* [V] occurrences in the window; zero between draws */
};

tq_sampling tq_sampling_default(void) {
    return (tq_sampling){.top_p = 1, .typical = 1, .repeat_penalty = 1, .penalty_window = 64};
}

static toque_status in_range(const char *name, double value, double min, double max, toque_error *err) {
    if (value >= min && value <= max) return TOQUE_OK;
    return TQ_FAIL(err, EINVAL, "%s is %g; expected a number from %g to %g", name, value, min, max);
}

toque_status tq_sampling_check(const tq_sampling *o, int32_t vocabulary, toque_error *err) {
    TQ_TRY(in_range("temperature", o->temperature, 0, 100, err));
    TQ_TRY(in_range("top_k", (double)o->top_k, 0, 1e9, err));
    TQ_TRY(in_range("top_p", o->top_p, 0, 1, err));
    TQ_TRY(in_range("min_p", o->min_p, 0, 1, err));
    TQ_TRY(in_range("typical", o->typical, 0, 1, err));
    TQ_TRY(in_range("repeat_penalty", o->repeat_penalty, 0.01, 100, err));
    TQ_TRY(in_range("frequency_penalty", o->frequency_penalty, -100, 100, err));
    TQ_TRY(in_range("presence_penalty", o->presence_penalty, -100, 100, err));
    TQ_TRY(in_range("penalty_window", (double)o->penalty_window, -1, 1e9, err));
    for (size_t i = 0; i < o->n_bias; i++) {
        if (o->bias[i].token < 0 || o->bias[i].token >= vocabulary)
            return TQ_FAIL(err, EINVAL, "the logit bias names token %d; this model's tokens are 0 to %d",
                           o->bias[i].token, vocabulary - 1);
        if (isnan(o->bias[i].value) || o->bias[i].value > 1e6f)
            return TQ_FAIL(err, EINVAL, "the logit bias of token %d is %g; expected a number up to 1e6, or -inf",
                           o->bias[i].token, (double)o->bias[i].value);
    }
    return TOQUE_OK;
}

toque_status tq_sampler_new(tq_sampler **result, tq_mem *mem, const tq_kernels *k, const tq_sampling *o,
                            int32_t vocabulary, toque_error *err) {
    *result = NULL;
    TQ_TRY(tq_sampling_check(o, vocabulary, err));
    tq_sampler *s = TQ_NEW(mem, tq_sampler);
    if (!s) return TQ_NOMEM(err);
    *s = (tq_sampler){.mem = mem, .k = k, .o = *o, .V = vocabulary};
    tq_logit_bias *bias = tq_alloc(mem, o->n_bias, sizeof *bias);
    s->o.bias = bias;
    s->items = tq_alloc(mem, (size_t)vocabulary, sizeof *s->items);
    s->row = tq_alloc(mem, (size_t)vocabulary, sizeof *s->row);
    s->count = TQ_NEW_ARRAY(mem, uint32_t, vocabulary);
    if (!bias || !s->items || !s->row || !s->count) {
        tq_sampler_free(s);
        return TQ_NOMEM(err);
    }
    if (o->n_bias) memcpy(bias, o->bias, o->n_bias * sizeof *bias);
    *result = s;
    return TOQUE_OK;
}

void tq_sampler_free(tq_sampler *s) {
    if (!s) return;
    tq_free(s->mem, (void *)s->o.bias);
    tq_free(s->mem, s->items);
    tq_free(s->mem, s->row);
    tq_free(s->mem, s->count);
    tq_free(s->mem, s);
}

/* --- the head of an order ---------------------------------------------------------------------------------- */

/* Greater key first, then lower id: a total order, so the result does not depend on how the heap was built. */
static bool before(const tq_candidate *a, const tq_candidate *b) {
    return a->key > b->key || (a->key == b->key && a->id < b->id);
}

static void sift_down(tq_candidate *heap, int32_t n, int32_t i) {
    tq_candidate moved = heap[i];
    for (int32_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(&heap[child + 1], &heap[child])) child++;
        if (!before(&heap[child], &moved)) break;
        heap[i] = heap[child];
    }
    heap[i] = moved;
}

/* Keeps the first candidates in the order of their keys: `most` of them, or fewer as soon as their probabilities sum
 * to `enough`, and one at least. They stand in order afterwards. */
static void keep_first(tq_sampler *s, int32_t most, double enough) {
    tq_candidate *c = s->items;
    int32_t left = s->n, taken = 0;
    for (int32_t i = left / 2 - 1; i >= 0; i--) sift_down(c, left, i);
    double sum = 0;
    while (left > 0 && taken < most && (taken == 0 || sum < enough)) {
        tq_candidate first = c[0];
        c[0] = c[--left];
        sift_down(c, left, 0);
        c[left] = first; /* popped ones gather at the end, the first of them last */
        sum += first.p;
        taken++;
    }
    for (int32_t i = left, j = s->n - 1; i < j; i++, j--) {
        tq_candidate t = c[i];
        c[i] = c[j];
        c[j] = t;
    }
    memmove(c, c + left, (size_t)taken * sizeof *c);
    s->n = taken;
}

static float largest(const tq_sampler *s) {
    float top = -INFINITY;
    for (int32_t i = 0; i < s->n; i++)
        if (s->items[i].logit > top) top = s->items[i].logit;
    return top;
}

/* p of the candidates = softmax(logit / temperature). */
static void softmax(tq_sampler *s, double temperature) {
    float top = largest(s), inverse = (float)(1 / temperature);
    for (int32_t i = 0; i < s->n; i++) s->row[i] = (s->items[i].logit - top) * inverse;
    double sum = s->k->exp_sum(s->row, s->row, 0, s->n);
    for (int32_t i = 0; i < s->n; i++) s->items[i].p = (float)(s->row[i] / sum);
}

/* --- steps ------------------------------------------------------------------------------------------------- */

static void apply_bias(tq_sampler *s) {
    for (size_t i = 0; i < s->o.n_bias; i++) s->items[s->o.bias[i].token].logit += s->o.bias[i].value;
}

static void apply_penalties(tq_sampler *s, const tq_token *past, size_t n_past) {
    const tq_sampling *o = &s->o;
    if (o->repeat_penalty == 1 && o->frequency_penalty == 0 && o->presence_penalty == 0) return;
    size_t window = o->penalty_window < 0 || (size_t)o->penalty_window > n_past ? n_past : (size_t)o->penalty_window;
    const tq_token *recent = past + (n_past - window);
    for (size_t i = 0; i < window; i++) s->count[recent[i]]++;
    for (size_t i = 0; i < window; i++) {
        uint32_t times = s->count[recent[i]];
        if (times == 0) continue; /* done at its first occurrence */
        float *logit = &s->items[recent[i]].logit;
        float r = (float)o->repeat_penalty;
        *logit = *logit <= 0 ? *logit * r : *logit / r;
        *logit -= (float)(times * o->frequency_penalty + o->presence_penalty);
        s->count[recent[i]] = 0;
    }
}

static void drop_banned(tq_sampler *s) {
    int32_t n = 0;
    for (int32_t i = 0; i < s->n; i++)
        if (s->items[i].logit != -INFINITY) s->items[n++] = s->items[i];
    s->n = n;
}

static void order_by_logit(tq_sampler *s) {
    for (int32_t i = 0; i < s->n; i++) s->items[i].key = s->items[i].logit;
}

static void top_k(tq_sampler *s) {
    if (s->o.top_k == 0 || s->o.top_k >= s->n) return;
    order_by_logit(s);
    keep_first(s, (int32_t)s->o.top_k, INFINITY);
}

/* Those whose surprise -ln p is nearest to the distribution's entropy H = -sum p ln p. */
static void typical(tq_sampler *s) {
    if (s->o.typical >= 1) return;
    softmax(s, 1);
    double entropy = 0;
    for (int32_t i = 0; i < s->n; i++)
        if (s->items[i].p > 0) entropy -= s->items[i].p * log((double)s->items[i].p);
    for (int32_t i = 0; i < s->n; i++) {
        tq_candidate *c = &s->items[i];
        c->key = c->p > 0 ? -(float)fabs(-log((double)c->p) - entropy) : -INFINITY;
    }
    keep_first(s, s->n, s->o.typical);
}

static void top_p(tq_sampler *s) {
    if (s->o.top_p >= 1) return;
    softmax(s, 1);
    order_by_logit(s);
    keep_first(s, s->n, s->o.top_p);
}

/* p >= min_p * p_max, as a bound on logits. */
static void min_p(tq_sampler *s) {
    if (s->o.min_p <= 0) return;
    float bound = largest(s) + (float)log(s->o.min_p);
    int32_t n = 0;
    for (int32_t i = 0; i < s->n; i++)
        if (s->items[i].logit >= bound) s->items[n++] = s->items[i];
    s->n = n;
}

static void (*const truncations[])(tq_sampler *) = {top_k, typical, top_p, min_p};

/* --- the whole --------------------------------------------------------------------------------------------- */

static void keep_best(tq_sampler *s) {
    tq_candidate best = s->items[0];
    for (int32_t i = 1; i < s->n; i++)
        if (s->items[i].logit > best.logit || (s->items[i].logit == best.logit && s->items[i].id < best.id))
            best = s->items[i];
    best.p = 1;
    s->items[0] = best;
    s->n = 1;
}

static bool any_logit_is_broken(const float *logits, int32_t n) {
    bool broken = false;
    for (int32_t i = 0; i < n; i++) broken |= !(logits[i] < INFINITY); /* also true for NaN */
    return broken;
}

const tq_candidate *tq_sampler_candidates(tq_sampler *s, const float *logits, const tq_token *past, size_t n_past,
                                          int32_t *n) {
    *n = 0;
    if (any_logit_is_broken(logits, s->V)) return NULL;
    s->n = s->V;
    for (int32_t i = 0; i < s->V; i++) s->items[i] = (tq_candidate){.logit = logits[i], .id = i};
    apply_bias(s);
    apply_penalties(s, past, n_past);
    drop_banned(s);
    if (s->n == 0) return NULL;
    if (s->o.temperature == 0) {
        keep_best(s);
    } else {
        for (size_t i = 0; i < sizeof truncations / sizeof *truncations; i++) truncations[i](s);
        softmax(s, s->o.temperature);
    }
    assert(s->n > 0);
    *n = s->n;
    return s->items;
}

/* ln p of a token under softmax(logits). */
static double log_probability(tq_sampler *s, const float *logits, tq_token token) {
    float top = s->k->max(logits, s->V);
    double sum = s->k->exp_sum(s->row, logits, top, s->V);
    return (double)logits[token] - (double)top - log(sum);
}

static bool nothing_bends(const tq_sampling *o) {
    return o->n_bias == 0 && o->repeat_penalty == 1 && o->frequency_penalty == 0 && o->presence_penalty == 0;
}

/* The common case of greedy decoding without candidates: one walk over the row. */
static tq_token arg_max(const float *logits, int32_t n) {
    tq_token best = 0;
    for (int32_t i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = i;
    return logits[best] == -INFINITY ? TQ_NO_TOKEN : best;
}

tq_token tq_sampler_draw(tq_sampler *s, const float *logits, const tq_token *past, size_t n_past, uint32_t stream,
                         uint32_t position, double *logp) {
    tq_token token;
    if (s->o.temperature == 0 && nothing_bends(&s->o)) {
        token = any_logit_is_broken(logits, s->V) ? TQ_NO_TOKEN : arg_max(logits, s->V);
    } else {
        int32_t n;
        const tq_candidate *c = tq_sampler_candidates(s, logits, past, n_past, &n);
        token = c ? c[0].id : TQ_NO_TOKEN;
        if (c && n > 1) {
            tq_rng rng;
            tq_rng_init(&rng, s->o.seed, TQ_RNG_SAMPLE, stream, position);
            double high = tq_rng_u32(&rng), u = (high + tq_rng_u32(&rng) * 0x1p-32) * 0x1p-32; /* [0, 1) */
            double sum = 0, total = 0;
            for (int32_t i = 0; i < n; i++) total += c[i].p;
            int32_t i = 0;
            while (i < n - 1 && (sum += c[i].p) <= u * total) i++;
            while (i > 0 && c[i].p == 0) i--; /* rounding must not reach what has no probability */
            token = c[i].id;
        }
    }
    if (logp) *logp = token == TQ_NO_TOKEN ? -INFINITY : log_probability(s, logits, token);
    return token;
}
