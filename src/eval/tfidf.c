/* TF-IDF. See tfidf.h. A term is kept under one byte for its block ('w' or 'c') and its text, in a hash table. */
#include "eval/tfidf.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "text/unicode.h"

enum { MIN_CHARS = 2, MAX_CHARS = 5, MIN_WORD = 2, TEXT_MAX = 1 << 28 };

typedef struct term {
    char *key; /* in the arena */
    size_t len;
    uint32_t df, last, col; /* last: 1 + the row that counted it last; col: NOT_KEPT or its column */
} term;
enum { NOT_KEPT = UINT32_MAX };

struct tq_tfidf {
    tq_mem *mem;
    tq_arena arena;
    term *terms; /* [n] in order of first appearance */
    size_t n, cap, cols;
    uint32_t *slots; /* [n_slots] 1 + index of a term, 0: free */
    size_t n_slots;
    double *idf;    /* [cols] */
    bool *is_chars; /* [cols] its block */
};

/* A text taken apart: code points in lower case, then terms through a function. */
typedef struct walk {
    tq_mem *mem;
    uint32_t *points; /* [n] */
    size_t n, cap;
    tq_buf key, before; /* the term at hand; the word before it */
    void *arg;
    toque_status (*take)(void *arg, const char *key, size_t len, toque_error *err);
} walk;

/* --- terms of a text ------------------------------------------------------------------------------ */

static toque_status decode(walk *w, const tq_string *text, toque_error *err) {
    w->n = 0;
    for (size_t i = 0; i < text->len;) {
        uint32_t point;
        i += tq_utf8_next(text->data + i, text->len - i, &point);
        if (point >= TQ_UTF8_CUT) point = 0xFFFD;
        if (!TQ_GROW(w->mem, w->points, w->n, w->cap)) return TQ_NOMEM(err);
        w->points[w->n++] = tq_unicode_lower(point);
    }
    return TOQUE_OK;
}

static void put_points(tq_buf *out, const uint32_t *points, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char bytes[4];
        tq_buf_put(out, bytes, tq_utf8_put(points[i], bytes));
    }
}

static toque_status take_key(walk *w, toque_error *err) {
    TQ_TRY(tq_buf_status(&w->key, "a term", err));
    return w->take(w->arg, w->key.data, w->key.len, err);
}

/* Words alone and behind the one before them. */
static toque_status words(walk *w, toque_error *err) {
    tq_buf_reset(&w->before);
    for (size_t i = 0, end; i < w->n; i = end) {
        end = i + 1;
        if (!tq_unicode_is_word(w->points[i])) continue;
        while (end < w->n && tq_unicode_is_word(w->points[end])) end++;
        if (end - i < MIN_WORD) continue;
        if (w->before.len) {
            tq_buf_reset(&w->key);
            tq_buf_putc(&w->key, 'w');
            tq_buf_put(&w->key, w->before.data, w->before.len);
            tq_buf_putc(&w->key, ' ');
            put_points(&w->key, w->points + i, end - i);
            TQ_TRY(take_key(w, err));
        }
        tq_buf_reset(&w->before);
        put_points(&w->before, w->points + i, end - i);
        TQ_TRY(tq_buf_status(&w->before, "a word", err));
        tq_buf_reset(&w->key);
        tq_buf_putc(&w->key, 'w');
        tq_buf_put(&w->key, w->before.data, w->before.len);
        TQ_TRY(take_key(w, err));
    }
    return TOQUE_OK;
}

/* `size` characters from `at` of a word of n between two blanks, which are characters 0 and n + 1. */
static toque_status characters(walk *w, const uint32_t *word, size_t n, size_t at, size_t size, toque_error *err) {
    size_t end = at + size < n + 2 ? at + size : n + 2;
    tq_buf_reset(&w->key);
    tq_buf_putc(&w->key, 'c');
    if (at == 0) tq_buf_putc(&w->key, ' ');
    size_t from = at ? at - 1 : 0, to = end == n + 2 ? n : end - 1;
    put_points(&w->key, word + from, to > from ? to - from : 0);
    if (end == n + 2) tq_buf_putc(&w->key, ' ');
    return take_key(w, err);
}

static toque_status groups(walk *w, toque_error *err) {
    for (size_t i = 0, end; i < w->n; i = end) {
        end = i + 1;
        if (tq_unicode_is_space(w->points[i])) continue;
        while (end < w->n && !tq_unicode_is_space(w->points[end])) end++;
        size_t n = end - i;
        for (size_t size = MIN_CHARS; size <= MAX_CHARS; size++) {
            size_t at = 0;
            do TQ_TRY(characters(w, w->points + i, n, at, size, err));
            while (++at + size <= n + 2);
            if (size >= n + 2) break; /* a short word counts once */
        }
    }
    return TOQUE_OK;
}

static toque_status walk_text(walk *w, const tq_string *text, toque_error *err) {
    TQ_TRY(decode(w, text, err));
    TQ_TRY(words(w, err));
    return groups(w, err);
}

static void walk_init(walk *w, tq_mem *mem, void *arg,
                      toque_status (*take)(void *, const char *, size_t, toque_error *)) {
    *w = (walk){.mem = mem, .arg = arg, .take = take};
    tq_buf_init(&w->key, mem, TEXT_MAX);
    tq_buf_init(&w->before, mem, TEXT_MAX);
}

static void walk_clear(walk *w) {
    tq_free(w->mem, w->points);
    tq_buf_clear(&w->key);
    tq_buf_clear(&w->before);
}

/* --- the table of terms --------------------------------------------------------------------------- */

/* The slot of a key, or the free one where it belongs (FNV-1a, linear probing). */
static uint32_t *slot_of(const tq_tfidf *t, const char *key, size_t len) {
    uint64_t hash = 0xCBF29CE484222325u;
    for (size_t i = 0; i < len; i++) hash = (hash ^ (uint8_t)key[i]) * 0x100000001B3u;
    for (size_t at = (size_t)(hash ^ hash >> 32);; at++) {
        uint32_t *slot = &t->slots[at & (t->n_slots - 1)];
        const term *found = *slot ? &t->terms[*slot - 1] : NULL;
        if (!found || (found->len == len && memcmp(found->key, key, len) == 0)) return slot;
    }
}

static toque_status make_room(tq_tfidf *t, toque_error *err) {
    if (2 * (t->n + 1) <= t->n_slots) return TOQUE_OK;
    size_t n = t->n_slots ? 2 * t->n_slots : 1 << 14;
    uint32_t *slots = TQ_NEW_ARRAY(t->mem, uint32_t, n);
    if (!slots) return TQ_NOMEM(err);
    tq_free(t->mem, t->slots);
    t->slots = slots;
    t->n_slots = n;
    for (size_t i = 0; i < t->n; i++) *slot_of(t, t->terms[i].key, t->terms[i].len) = (uint32_t)i + 1;
    return TOQUE_OK;
}

typedef struct learning {
    tq_tfidf *t;
    uint32_t row; /* from 1 */
} learning;

static toque_status learn(void *arg, const char *key, size_t len, toque_error *err) {
    learning *l = arg;
    tq_tfidf *t = l->t;
    TQ_TRY(make_room(t, err));
    uint32_t *slot = slot_of(t, key, len);
    if (!*slot) {
        if (t->n == NOT_KEPT - 1) return TQ_FAIL(err, ELIMIT, "more than %u terms", NOT_KEPT - 1);
        char *copy = tq_arena_strndup(&t->arena, key, len);
        if (!copy || !TQ_GROW(t->mem, t->terms, t->n, t->cap)) return TQ_NOMEM(err);
        t->terms[t->n++] = (term){.key = copy, .len = len};
        *slot = (uint32_t)t->n;
    }
    term *found = &t->terms[*slot - 1];
    if (found->last != l->row) found->df++;
    found->last = l->row;
    return TOQUE_OK;
}

static toque_status keep_terms(tq_tfidf *t, size_t rows, uint32_t min_df, toque_error *err) {
    for (size_t i = 0; i < t->n; i++) t->terms[i].col = t->terms[i].df >= min_df ? (uint32_t)t->cols++ : NOT_KEPT;
    if (!t->cols) return TQ_FAIL(err, EFORMAT, "the texts have no word and no group of characters in common");
    t->idf = TQ_NEW_ARRAY(t->mem, double, t->cols);
    t->is_chars = TQ_NEW_ARRAY(t->mem, bool, t->cols);
    if (!t->idf || !t->is_chars) return TQ_NOMEM(err);
    for (size_t i = 0; i < t->n; i++) {
        const term *a = &t->terms[i];
        if (a->col == NOT_KEPT) continue;
        t->idf[a->col] = log((1 + (double)rows) / (1 + (double)a->df)) + 1;
        t->is_chars[a->col] = a->key[0] == 'c';
    }
    return TOQUE_OK;
}

toque_status tq_tfidf_new(tq_tfidf **out, tq_mem *mem, const tq_string *texts, size_t n, int min_df, toque_error *err) {
    tq_tfidf *t = *out = TQ_NEW(mem, tq_tfidf);
    if (!t) return TQ_NOMEM(err);
    t->mem = mem;
    tq_arena_init(&t->arena, mem, 1 << 18);
    learning l = {.t = t};
    walk w;
    walk_init(&w, mem, &l, learn);
    toque_status status = TOQUE_OK;
    for (size_t i = 0; i < n && status == TOQUE_OK; i++) {
        l.row = (uint32_t)i + 1;
        status = walk_text(&w, &texts[i], err);
    }
    walk_clear(&w);
    if (status == TOQUE_OK) status = keep_terms(t, n, (uint32_t)min_df, err);
    if (status == TOQUE_OK) return TOQUE_OK;
    tq_tfidf_free(t);
    *out = NULL;
    return status;
}

void tq_tfidf_free(tq_tfidf *t) {
    if (!t) return;
    tq_mem *mem = t->mem;
    tq_arena_clear(&t->arena);
    tq_free(mem, t->terms);
    tq_free(mem, t->slots);
    tq_free(mem, t->idf);
    tq_free(mem, t->is_chars);
    tq_free(mem, t);
}

size_t tq_tfidf_terms(const tq_tfidf *t) {
    return t->cols;
}

/* --- features ------------------------------------------------------------------------------------- */

typedef struct counting {
    const tq_tfidf *t;
    uint32_t *col; /* [n] of a row's terms, each as often as it stands there */
    size_t n, cap;
} counting;

static toque_status count(void *arg, const char *key, size_t len, toque_error *err) {
    counting *c = arg;
    uint32_t slot = *slot_of(c->t, key, len);
    if (!slot || c->t->terms[slot - 1].col == NOT_KEPT) return TOQUE_OK;
    if (!TQ_GROW(c->t->mem, c->col, c->n, c->cap)) return TQ_NOMEM(err);
    c->col[c->n++] = c->t->terms[slot - 1].col;
    return TOQUE_OK;
}

static int by_number(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static toque_status add_row(const tq_tfidf *t, counting *c, tq_sparse *x, toque_error *err) {
    double square[2] = {0};
    size_t first = x->n;
    if (c->n) qsort(c->col, c->n, sizeof *c->col, by_number);
    for (size_t i = 0, end; i < c->n; i = end) {
        uint32_t col = c->col[i];
        for (end = i + 1; end < c->n && c->col[end] == col;) end++;
        double value = (1 + log((double)(end - i))) * t->idf[col];
        square[t->is_chars[col]] += value * value;
        TQ_TRY(tq_sparse_put(x, col, value, err));
    }
    for (size_t i = first; i < x->n; i++) x->value[i] /= sqrt(square[t->is_chars[x->col[i]]]);
    return TOQUE_OK;
}

toque_status tq_tfidf_features(const tq_tfidf *t, const tq_string *texts, size_t n, tq_sparse *x, toque_error *err) {
    counting c = {.t = t};
    walk w;
    TQ_TRY(tq_sparse_init(x, t->mem, n, t->cols, err));
    walk_init(&w, t->mem, &c, count);
    toque_status status = TOQUE_OK;
    for (size_t i = 0; i < n && status == TOQUE_OK; i++) {
        c.n = 0;
        status = walk_text(&w, &texts[i], err);
        if (status == TOQUE_OK) status = add_row(t, &c, x, err);
        x->start[i + 1] = x->n;
    }
    walk_clear(&w);
    tq_free(t->mem, c.col);
    if (status != TOQUE_OK) tq_sparse_clear(x);
    return status;
}
