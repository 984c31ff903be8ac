/* Alignment. See align.h. */
#include "rag/align.h"

#include <math.h>
#include <string.h>

/* --- what was read --------------------------------------------------------------------------------------------- */

/* The sentence that retrieval has scored already, or NULL. */
static const struct tq_sentence *known(const tq_sentences *found, const struct tq_sentence *x) {
    for (size_t i = 0; i < found->n; i++) {
        const struct tq_sentence *f = &found->items[i];
        if (f->passage->document == x->passage->document && f->start == x->start && f->end == x->end) return f;
    }
    return NULL;
}

static toque_status fits_embedder(const tq_aligner *a, const char *text, bool *fits, toque_error *err) {
    const tq_rag_embedder *e = a->s->embedder;
    size_t prefix, tokens;
    TQ_TRY(tq_count_tokens(e, a->s->store->mem, e->passage_prefix, strlen(e->passage_prefix), &prefix, err));
    TQ_TRY(tq_count_tokens(e, a->s->store->mem, text, strlen(text), &tokens, err));
    *fits = prefix + tokens <= (size_t)e->max_tokens;
    return TOQUE_OK;
}

/* Vectors for the sentences that have none. One that is longer than the embedder takes (chunks have none, but whole
 * documents may) is compared by its terms alone. */
static toque_status add_vectors(tq_aligner *a, const tq_sentences *found, toque_error *err) {
    tq_sentences rest = {0};
    bool fits;
    toque_status status = TOQUE_OK;
    for (size_t i = 0; i < a->list.n && status == TOQUE_OK; i++) {
        struct tq_sentence *x = &a->list.items[i];
        const struct tq_sentence *f = known(found, x);
        if (f) x->vector = f->vector;
        if (f) continue;
        status = fits_embedder(a, x->text, &fits, err);
        if (status != TOQUE_OK || !fits) continue;
        if (TQ_GROW(a->s->store->mem, rest.items, rest.n, rest.cap))
            rest.items[rest.n++] = (struct tq_sentence){.text = x->text, .start = (int64_t)i};
        else
            status = TQ_NOMEM(err);
    }
    if (status == TOQUE_OK && rest.n) status = tq_sentences_vectors(a->s, &rest, &a->arena, err);
    for (size_t i = 0; i < rest.n && status == TOQUE_OK; i++)
        a->list.items[rest.items[i].start].vector = rest.items[i].vector;
    tq_free(a->s->store->mem, rest.items);
    return status;
}

toque_status tq_aligner_init(tq_aligner *a, tq_searcher *s, const tq_sentences *found, const tq_reply_source *sources,
                             size_t n, toque_error *err) {
    size_t cap = 0;
    *a = (tq_aligner){.s = s};
    tq_arena_init(&a->arena, s->store->mem, 1 << 14);
    TQ_TRY(tq_rag_number(s->store, "SELECT count(*) FROM chunks", &a->chunks, err));
    for (size_t i = 0; i < n; i++) {
        tq_passage_info *range = tq_arena_alloc(&a->arena, 1, sizeof *range);
        if (!range) return TQ_NOMEM(err);
        *range = *sources[i].passage;
        range->start = sources[i].start;
        range->end = sources[i].end;
        size_t from = a->list.n;
        TQ_TRY(tq_sentences_add(&a->list, s->store, range, &a->arena, err));
        if (a->list.n > cap) {
            int *more = tq_realloc(s->store->mem, a->source, a->list.cap, sizeof *more);
            if (!more) return TQ_NOMEM(err);
            a->source = more;
            cap = a->list.cap;
        }
        for (; from < a->list.n; from++) a->source[from] = (int)i;
    }
    TQ_TRY(tq_sentences_terms(s->store, &a->list, &a->arena, err));
    return s->embedder ? add_vectors(a, found, err) : TOQUE_OK;
}

void tq_aligner_clear(tq_aligner *a) {
    if (!a->s) return;
    tq_free(a->s->store->mem, a->list.items);
    tq_free(a->s->store->mem, a->source);
    tq_arena_clear(&a->arena);
    *a = (tq_aligner){0};
}

/* --- one written sentence -------------------------------------------------------------------------------------- */

/* Its terms in one language, with their weights. */
typedef struct weighted {
    tq_buf terms;
    double *idf;
    size_t n, cap;
    double total;
} weighted;

static toque_status weigh(tq_aligner *a, weighted *w, const char *text, const char *language, toque_error *err) {
    tq_buf_reset(&w->terms);
    w->n = 0;
    w->total = 0;
    TQ_TRY(tq_query_terms(a->s->store, text, language, &w->terms, err));
    for (const char *t = w->terms.data; *t; t += strcspn(t, " ") + 1) {
        if (!TQ_GROW(a->s->store->mem, w->idf, w->n, w->cap)) return TQ_NOMEM(err);
        TQ_TRY(tq_term_weight(a->s->store, a->chunks, t, strcspn(t, " "), &w->idf[w->n], err));
        w->total += w->idf[w->n++];
    }
    return TOQUE_OK;
}

/* The share of the terms that sentences [from, to) hold together. */
static double held(const tq_aligner *a, const weighted *w, size_t from, size_t to) {
    double sum = 0;
    size_t k = 0;
    for (const char *t = w->terms.data; *t; t += strcspn(t, " ") + 1, k++) {
        size_t len = strcspn(t, " ");
        double most = 0;
        for (size_t i = from; i < to && most < 1; i++) {
            const struct tq_sentence *x = &a->list.items[i];
            if (tq_holds_term(x->terms, t, len))
                most = 1;
            else if (tq_holds_term(x->heading_terms, t, len))
                most = TQ_HEADING_SHARE;
        }
        sum += most * w->idf[k];
    }
    return w->total > 0 ? sum / w->total : 0;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* The number at s: digits with points and commas between them. Returns its length. */
static size_t number_at(const char *s) {
    size_t n = 0;
    while (is_digit(s[n]) || ((s[n] == '.' || s[n] == ',') && n && is_digit(s[n + 1]))) n++;
    return n;
}

static bool has_number(const char *text, const char *number, size_t n) {
    while (*text) {
        size_t m = number_at(text);
        if (m == n && memcmp(text, number, n) == 0) return true;
        text += m ? m : 1;
    }
    return false;
}

static bool has_numbers(const tq_aligner *a, const char *text, size_t from, size_t to) {
    for (size_t n; *text; text += n ? n : 1) {
        n = number_at(text);
        bool found = n == 0;
        for (size_t i = from; i < to && !found; i++)
            found =
                has_number(a->list.items[i].text, text, n) || has_number(a->list.items[i].passage->heading, text, n);
        if (!found) return false;
    }
    return true;
}

/* The written sentence's vector, or none (*given false): it is longer than the embedder takes. */
static toque_status embed(const tq_aligner *a, const char *text, float *vector, bool *given, toque_error *err) {
    struct tq_sentence x = {.text = text};
    tq_sentences one = {.items = &x, .n = 1};
    tq_arena arena;
    tq_arena_init(&arena, a->s->store->mem, 1 << 12);
    toque_status status = fits_embedder(a, text, given, err);
    if (status == TOQUE_OK && *given) status = tq_sentences_vectors(a->s, &one, &arena, err);
    if (status == TOQUE_OK && *given) memcpy(vector, x.vector, (size_t)a->s->embedder->dim * sizeof *vector);
    tq_arena_clear(&arena);
    return status;
}

/* The nearest sentence: its overlap and similarity go into out. list.n: none has anything in common. */
static toque_status nearest(tq_aligner *a, weighted *w, const char *text, const float *vector, size_t *best,
                            tq_reply_sentence *out, toque_error *err) {
    double most = 0;
    const char *language = NULL;
    *best = a->list.n;
    for (size_t i = 0; i < a->list.n; i++) {
        const struct tq_sentence *x = &a->list.items[i];
        if (!language || strcmp(language, x->passage->language) != 0) {
            language = x->passage->language;
            TQ_TRY(weigh(a, w, text, language, err));
        }
        double overlap = held(a, w, i, i + 1);
        double near = vector && x->vector ? a->s->store->ctx->k->dot(vector, x->vector, a->s->embedder->dim) : 0;
        if (overlap + near <= most) continue;
        most = overlap + near;
        *best = i;
        out->similarity = vector && x->vector ? near : NAN;
    }
    return TOQUE_OK;
}

static toque_status judge(tq_aligner *a, weighted *w, const char *text, size_t best, tq_reply_sentence *out,
                          toque_error *err) {
    const struct tq_sentence *x = &a->list.items[best];
    size_t from = best && a->source[best - 1] == a->source[best] ? best - 1 : best;
    size_t to = best + 1 < a->list.n && a->source[best + 1] == a->source[best] ? best + 2 : best + 1;
    TQ_TRY(weigh(a, w, text, x->passage->language, err));
    out->source = a->source[best];
    out->evidence_start = x->start;
    out->evidence_end = x->end;
    out->overlap = held(a, w, from, to);
    out->supported = w->n && out->overlap >= TQ_SUPPORT_LEAST && has_numbers(a, text, from, to);
    return TOQUE_OK;
}

toque_status tq_align(tq_aligner *a, const char *text, size_t n, tq_reply_sentence *out, toque_error *err) {
    tq_mem *mem = a->s->store->mem;
    weighted w = {0};
    size_t best;
    bool given = false;
    float *vector = a->s->embedder ? tq_alloc(mem, (size_t)a->s->embedder->dim, sizeof *vector) : NULL;
    char *copy = tq_strndup(mem, text, n);
    tq_buf_init(&w.terms, mem, 1 << 20);
    out->source = -1;
    out->evidence_start = out->evidence_end = 0;
    out->overlap = 0;
    out->similarity = NAN;
    out->supported = false;
    toque_status status = !copy || (a->s->embedder && !vector) ? TQ_NOMEM(err) : TOQUE_OK;
    if (status == TOQUE_OK && vector && a->list.n) status = embed(a, copy, vector, &given, err);
    if (status == TOQUE_OK) status = nearest(a, &w, copy, given ? vector : NULL, &best, out, err);
    if (status == TOQUE_OK && best < a->list.n) status = judge(a, &w, copy, best, out, err);
    tq_free(mem, w.idf);
    tq_buf_clear(&w.terms);
    tq_free(mem, vector);
    tq_free(mem, copy);
    return status;
}
