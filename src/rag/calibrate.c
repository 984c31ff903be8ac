/* Learning how near is near enough. See quote.h. */
#include <math.h>
#include <string.h>

#include "rag/measures.h"
#include "rag/quote.h"

enum { MOST = 96, LOOKED_AT = 480, SENTENCES = 8, OTHERS = 8 };
#define LEAST_AUC 0.75 /* a cut that parts worse than this says nothing */

/* A passage under its own heading. */
typedef struct sample {
    tq_passage_info passage;
    const char *question;
    size_t first, n; /* its sentences */
} sample;

/* The innermost heading, if the passage has one beside the title. */
static const char *last_heading(const tq_passage_info *p) {
    const char *last = p->heading;
    for (const char *q; (q = strstr(last, " > "));) last = q + 3;
    return *last && strcmp(last, p->title) != 0 ? last : NULL;
}

/* Drops the questions that stand over different passages (NAME, OPTIONS: the headings of every manual page) and keeps
 * at most MOST of the others, each once: documents may be there under two names. */
static size_t keep_unique(sample *list, size_t n) {
    bool drop[LOOKED_AT] = {false};
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++) {
            if (strcmp(list[i].question, list[j].question) != 0) continue;
            drop[i] = true;
            if (strcmp(list[i].passage.text, list[j].passage.text) != 0) drop[j] = true;
        }
    for (size_t i = 0; i < n && kept < MOST; i++)
        if (!drop[i]) list[kept++] = list[i];
    return kept;
}

typedef struct sampling {
    tq_rag *store;
    sample *list;
    size_t n;
    int64_t seen, step;
    tq_arena *arena;
} sampling;

static toque_status take_sample(void *arg, const tq_row *row, toque_error *err) {
    sampling *s = arg;
    if (s->seen++ % s->step || s->n == LOOKED_AT) return TOQUE_OK;
    sample *x = &s->list[s->n];
    TQ_TRY(tq_rag_passage(s->store, tq_chunk_id(tq_row_number(row, 0), tq_row_number(row, 1)), s->arena, &x->passage,
                          err));
    x->question = last_heading(&x->passage);
    if (x->question && x->passage.text_len > 0) s->n++;
    return TOQUE_OK;
}

/* Passages with headings of their own, evenly over the store. */
static toque_status take_samples(tq_rag *store, sample *list, size_t *n, tq_arena *arena, toque_error *err) {
    int64_t total;
    TQ_TRY(tq_rag_number(store, "SELECT count(*) FROM chunks WHERE heading <> ''", &total, err));
    sampling s = {.store = store, .list = list, .step = total > LOOKED_AT ? total / LOOKED_AT : 1, .arena = arena};
    TQ_TRY(tq_rag_run(store, "SELECT document, ordinal FROM chunks WHERE heading <> '' ORDER BY 1, 2", NULL, 0,
                      take_sample, &s, err));
    *n = keep_unique(list, s.n);
    return TOQUE_OK;
}

static double best_score(const struct tq_sentence *items, size_t n) {
    double best = -1;
    for (size_t i = 0; i < n; i++) best = items[i].score > best ? items[i].score : best;
    return best;
}

/* Every question against its own passage and OTHERS of other headings. */
static toque_status compare(tq_searcher *s, sample *list, size_t n, tq_sentences *sentences, double *own, double *other,
                            size_t *n_other, toque_error *err) {
    *n_other = 0;
    for (size_t i = 0; i < n; i++) {
        TQ_TRY(tq_sentences_score(s, list[i].question, sentences, err));
        own[i] = best_score(sentences->items + list[i].first, list[i].n);
        for (size_t k = 0, j = (i + n / 2) % n; k < OTHERS && k + 1 < n; k++, j = (j + 7) % n) {
            if (j == i || strcmp(list[j].question, list[i].question) == 0) continue;
            other[(*n_other)++] = best_score(sentences->items + list[j].first, list[j].n);
        }
    }
    return TOQUE_OK;
}

toque_status tq_calibrate(tq_rag *store, const tq_rag_embedder *embedder, int64_t *pairs, toque_error *err) {
    tq_searcher s;
    tq_arena arena;
    tq_sentences sentences = {0};
    size_t n = 0, n_other = 0;
    double auc, own[MOST], *other = NULL;
    *pairs = 0;
    TQ_TRY(tq_searcher_init(&s, store, embedder, err));
    tq_arena_init(&arena, store->mem, 1 << 16);
    sample *list = tq_zalloc(store->mem, LOOKED_AT + 1, sizeof *list);
    other = tq_alloc(store->mem, MOST * OTHERS, sizeof *other);
    toque_status status = list && other ? take_samples(store, list, &n, &arena, err) : TQ_NOMEM(err);
    size_t kept = 0;
    for (size_t i = 0; i < n && status == TOQUE_OK; i++) {
        list[kept] = list[i];
        list[kept].first = sentences.n;
        status = tq_sentences_add(&sentences, store, &list[i].passage, &arena, err);
        list[kept].n = sentences.n - list[kept].first;
        if (list[kept].n > SENTENCES) sentences.n = list[kept].first + (list[kept].n = SENTENCES);
        if (list[kept].n) kept++;
    }
    if (status == TOQUE_OK && kept >= TQ_CALIBRATION_LEAST) status = tq_sentences_prepare(&s, &sentences, &arena, err);
    if (status == TOQUE_OK && kept >= TQ_CALIBRATION_LEAST)
        status = compare(&s, list, kept, &sentences, own, other, &n_other, err);
    if (status == TOQUE_OK && kept >= TQ_CALIBRATION_LEAST && n_other) {
        qsort(own, kept, sizeof *own, tq_ascending);
        qsort(other, n_other, sizeof *other, tq_ascending);
        double cut = tq_best_cut(own, kept, other, n_other, &auc);
        *pairs = (int64_t)kept;
        if (auc >= LEAST_AUC)
            status = tq_rag_remember_threshold(store, cut, auc, *pairs, err);
        else
            status = tq_rag_forget_threshold(store, err);
    }
    tq_free(store->mem, sentences.items);
    tq_free(store->mem, other);
    tq_free(store->mem, list);
    tq_arena_clear(&arena);
    tq_searcher_clear(&s);
    return status;
}
