/* Quoting. See quote.h. */
#include "rag/quote.h"

#include <math.h>
#include <string.h>

#include "rag/sentence.h"

enum { BATCH = 64 };
#define NEAR_BEST 0.7 /* a second or third sentence scores at least this share of the best */

double tq_quote_default_threshold(const tq_rag *store) {
    return store->facts.dim ? 0.4 : 0.5;
}

/* --- sentences ------------------------------------------------------------------------------------------------- */

toque_status tq_sentences_add(tq_sentences *list, tq_rag *store, const tq_passage_info *p, tq_arena *arena,
                              toque_error *err) {
    tq_doc doc;
    tq_doc_init(&doc, store->mem);
    toque_status status = tq_rag_document(store, p->document, false, &doc, err);
    for (size_t b = 0; b < doc.n && status == TOQUE_OK; b++) {
        const tq_block *k = &doc.blocks[b];
        if (k->kind == TQ_BLOCK_HEADING) continue;
        size_t at = k->start > p->start ? k->start : (size_t)p->start;
        size_t limit = k->end < p->end ? k->end : (size_t)p->end, start, end;
        while (at < limit && status == TOQUE_OK && tq_unit_next(doc.text.data, k->kind, at, limit, &start, &end)) {
            const char *text = tq_arena_strndup(arena, doc.text.data + start, end - start);
            if (!text || !TQ_GROW(store->mem, list->items, list->n, list->cap))
                status = TQ_NOMEM(err);
            else
                list->items[list->n++] =
                    (struct tq_sentence){.passage = p, .start = (int64_t)start, .end = (int64_t)end, .text = text};
            at = end;
        }
    }
    tq_doc_clear(&doc);
    return status;
}

/* Vectors of items[which[0]], items[which[1]], ...: n of them, at most BATCH. */
static toque_status embed_batch(const tq_rag_embedder *e, const tq_sentences *list, const size_t *which, size_t n,
                                tq_buf *all, float *out, toque_error *err) {
    size_t starts[BATCH + 1], lengths[BATCH];
    const char *texts[BATCH];
    tq_buf_reset(all);
    for (size_t i = 0; i < n; i++) {
        starts[i] = all->len;
        tq_buf_puts(all, e->passage_prefix);
        tq_buf_puts(all, list->items[which[i]].text);
    }
    starts[n] = all->len;
    for (size_t i = 0; i < n; i++) {
        texts[i] = all->data + starts[i];
        lengths[i] = starts[i + 1] - starts[i];
    }
    TQ_TRY(tq_buf_status(all, "sentences", err));
    return e->embed(e->self, texts, lengths, n, out, err);
}

/* The same text, which chunks that overlap and copied documents have, is embedded once. */
toque_status tq_sentences_vectors(const tq_searcher *s, tq_sentences *list, tq_arena *arena, toque_error *err) {
    const tq_rag_embedder *e = s->embedder;
    size_t dim = (size_t)e->dim, n = 0;
    float *out = tq_arena_alloc(arena, list->n * dim + 1, sizeof *out);
    size_t *which = tq_alloc(s->store->mem, list->n + 1, sizeof *which);
    tq_buf all;
    tq_buf_init(&all, s->store->mem, SIZE_MAX / 4);
    toque_status status = out && which ? TOQUE_OK : TQ_NOMEM(err);
    for (size_t i = 0; i < list->n && status == TOQUE_OK; i++) {
        size_t j = 0;
        while (j < n && strcmp(list->items[which[j]].text, list->items[i].text) != 0) j++;
        if (j == n) which[n++] = i;
        list->items[i].vector = out + j * dim;
    }
    for (size_t at = 0; at < n && status == TOQUE_OK; at += BATCH)
        status = embed_batch(e, list, which + at, n - at < BATCH ? n - at : BATCH, &all, out + at * dim, err);
    tq_buf_clear(&all);
    tq_free(s->store->mem, which);
    return status;
}

toque_status tq_sentences_prepare(const tq_searcher *s, tq_sentences *list, tq_arena *arena, toque_error *err) {
    if (s->embedder) TQ_TRY(tq_sentences_vectors(s, list, arena, err));
    return tq_sentences_terms(s->store, list, arena, err);
}

toque_status tq_sentences_terms(tq_rag *store, tq_sentences *list, tq_arena *arena, toque_error *err) {
    tq_buf terms;
    tq_buf_init(&terms, store->mem, SIZE_MAX / 4);
    toque_status status = TOQUE_OK;
    for (size_t i = 0; i < list->n && status == TOQUE_OK; i++) {
        struct tq_sentence *x = &list->items[i];
        tq_analyzer *a;
        tq_buf_reset(&terms);
        status = tq_rag_analyzer(store, x->passage->language, &a, err);
        if (status == TOQUE_OK) status = tq_terms(a, x->text, strlen(x->text), &terms, NULL, err);
        if (status == TOQUE_OK && !(x->terms = tq_arena_strndup(arena, terms.data, terms.len))) status = TQ_NOMEM(err);
        if (i && x->passage == x[-1].passage) {
            x->heading_terms = x[-1].heading_terms;
            continue;
        }
        tq_buf_reset(&terms);
        if (status == TOQUE_OK)
            status = tq_terms(a, x->passage->heading, strlen(x->passage->heading), &terms, NULL, err);
        if (status == TOQUE_OK && !(x->heading_terms = tq_arena_strndup(arena, terms.data, terms.len)))
            status = TQ_NOMEM(err);
    }
    tq_buf_clear(&terms);
    return status;
}

bool tq_holds_term(const char *terms, const char *term, size_t n) {
    for (const char *p = terms; *p;) {
        size_t k = strcspn(p, " ");
        if (k == n && memcmp(p, term, n) == 0) return true;
        p += k + (p[k] != 0);
    }
    return false;
}

toque_status tq_term_weight(tq_rag *store, int64_t chunks, const char *term, size_t n, double *idf, toque_error *err) {
    int64_t df;
    TQ_TRY(tq_rag_frequency(store, term, n, &df, err));
    *idf = tq_bm25_idf((double)chunks, (double)df);
    return TOQUE_OK;
}

/* By the terms of the question that the sentence holds, for the sentences of one language, whose terms they are. */
static toque_status score_language(tq_rag *store, const char *language, const char *question, tq_sentences *list,
                                   int64_t chunks, tq_buf *asked, toque_error *err) {
    double total = 0;
    tq_buf_reset(asked);
    TQ_TRY(tq_query_terms(store, question, language, asked, err));
    for (const char *t = asked->data; *t; t += strcspn(t, " ") + 1) {
        size_t len = strcspn(t, " ");
        double idf;
        TQ_TRY(tq_term_weight(store, chunks, t, len, &idf, err));
        total += idf;
        for (size_t i = 0; i < list->n; i++) {
            struct tq_sentence *x = &list->items[i];
            if (strcmp(x->passage->language, language) != 0) continue;
            if (tq_holds_term(x->terms, t, len))
                x->score += idf;
            else if (tq_holds_term(x->heading_terms, t, len))
                x->score += TQ_HEADING_SHARE * idf;
        }
    }
    for (size_t i = 0; i < list->n && total > 0; i++)
        if (strcmp(list->items[i].passage->language, language) == 0) list->items[i].score /= total;
    return TOQUE_OK;
}

static toque_status score_terms(tq_searcher *s, const char *question, tq_sentences *list, toque_error *err) {
    tq_buf asked;
    int64_t chunks = 0;
    tq_buf_init(&asked, s->store->mem, 1 << 20);
    toque_status status = tq_rag_number(s->store, "SELECT count(*) FROM chunks", &chunks, err);
    for (size_t i = 0; i < list->n; i++) list->items[i].score = -1; /* not looked at yet */
    for (size_t i = 0; i < list->n && status == TOQUE_OK; i++) {
        const char *language = list->items[i].passage->language;
        if (list->items[i].score >= 0) continue;
        for (size_t j = i; j < list->n; j++)
            if (strcmp(list->items[j].passage->language, language) == 0) list->items[j].score = 0;
        status = score_language(s->store, language, question, list, chunks, &asked, err);
    }
    tq_buf_clear(&asked);
    return status;
}

toque_status tq_sentences_score(tq_searcher *s, const char *question, tq_sentences *list, toque_error *err) {
    TQ_TRY(score_terms(s, question, list, err));
    if (!s->embedder) return TOQUE_OK;
    float *query = tq_alloc(s->store->mem, (size_t)s->embedder->dim, sizeof *query);
    toque_status status = query ? tq_embed_query(s, question, query, err) : TQ_NOMEM(err);
    for (size_t i = 0; i < list->n && status == TOQUE_OK; i++) {
        double cosine = s->store->ctx->k->dot(query, list->items[i].vector, s->embedder->dim);
        list->items[i].score = (1 - TQ_WORDS_SHARE) * cosine + TQ_WORDS_SHARE * list->items[i].score;
    }
    tq_free(s->store->mem, query);
    return status;
}

/* --- answering ------------------------------------------------------------------------------------------------- */

static int by_score(const void *a, const void *b) {
    const struct tq_sentence *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    if (x->passage->chunk != y->passage->chunk) return x->passage->chunk < y->passage->chunk ? -1 : 1;
    return x->start < y->start ? -1 : x->start > y->start;
}

/* The same words, however the lines are broken. */
static bool same_words(const char *a, const char *b) {
    for (;;) {
        a += strspn(a, " \t\r\n");
        b += strspn(b, " \t\r\n");
        size_t n = strcspn(a, " \t\r\n");
        if (n != strcspn(b, " \t\r\n") || memcmp(a, b, n) != 0) return false;
        if (n == 0) return true;
        a += n;
        b += n;
    }
}

size_t tq_quote_choose(const tq_answer *answer, size_t most, double near, tq_quote *out) {
    const tq_sentences *list = &answer->sentences;
    size_t n = 0;
    for (size_t i = 0; i < list->n && n < most; i++) {
        const struct tq_sentence *s = &list->items[i];
        bool again = false;
        for (size_t j = 0; j < n; j++) {
            again |= out[j].passage->document == s->passage->document && out[j].start < s->end && out[j].end > s->start;
            again |= same_words(out[j].text, s->text);
        }
        if (again) continue;
        if (n && s->score < near * out[0].score) break;
        out[n++] = (tq_quote){s->passage, s->start, s->end, s->text, s->score};
    }
    return n;
}

/* The passages that are named instead of searched for. */
static toque_status take_chunks(tq_searcher *s, tq_hits *hits, const tq_quote_options *o, toque_error *err) {
    *hits = (tq_hits){0};
    tq_arena_init(&hits->arena, s->store->mem, 1 << 16);
    hits->items = tq_arena_alloc(&hits->arena, o->n_chunks + 1, sizeof *hits->items);
    if (!hits->items) return TQ_NOMEM(err);
    for (; hits->n < o->n_chunks; hits->n++)
        TQ_TRY(tq_rag_passage(s->store, o->chunks[hits->n], &hits->arena, &hits->items[hits->n].passage, err));
    return TOQUE_OK;
}

/* Scores against the question before and this one together become means with those against this one. */
static toque_status add_scores(tq_searcher *s, const char *text, tq_sentences *list, toque_error *err) {
    double *together = tq_alloc(s->store->mem, list->n, sizeof *together);
    if (!together) return TQ_NOMEM(err);
    for (size_t i = 0; i < list->n; i++) together[i] = list->items[i].score;
    toque_status status = tq_sentences_score(s, text, list, err);
    for (size_t i = 0; i < list->n; i++) list->items[i].score = (list->items[i].score + together[i]) / 2;
    tq_free(s->store->mem, together);
    return status;
}

/* Finds passages for `searched` and scores their sentences. */
static toque_status find(tq_searcher *s, tq_answer *answer, const char *text, const char *searched,
                         const tq_quote_options *o, toque_error *err) {
    tq_sentences *list = &answer->sentences;
    TQ_TRY(o->chunks ? take_chunks(s, &answer->hits, o, err) : tq_search(s, &answer->hits, searched, &o->search, err));
    for (size_t i = 0; i < answer->hits.n; i++)
        TQ_TRY(tq_sentences_add(list, s->store, &answer->hits.items[i].passage, &answer->hits.arena, err));
    if (!list->n) return TOQUE_OK;
    TQ_TRY(tq_sentences_prepare(s, list, &answer->hits.arena, err));
    TQ_TRY(tq_sentences_score(s, searched, list, err));
    return o->before ? add_scores(s, text, list, err) : TOQUE_OK;
}

toque_status tq_quote_answer(tq_searcher *s, tq_answer *answer, const char *text, const tq_quote_options *options,
                             toque_error *err) {
    const tq_rag_facts *f = &s->store->facts;
    tq_sentences *list = &answer->sentences;
    tq_buf both;
    *answer = (tq_answer){.threshold = options->threshold, .mem = s->store->mem};
    tq_buf_init(&both, s->store->mem, SIZE_MAX / 4);
    if (isnan(answer->threshold))
        answer->threshold = f->calibrated ? f->threshold : tq_quote_default_threshold(s->store);
    if (options->before) tq_buf_printf(&both, "%s %s", options->before, text);
    toque_status status = tq_buf_status(&both, "the question", err);
    if (status == TOQUE_OK) status = find(s, answer, text, options->before ? both.data : text, options, err);
    tq_buf_clear(&both);
    if (status != TOQUE_OK || !list->n) return status;
    qsort(list->items, list->n, sizeof *list->items, by_score);
    answer->n = tq_quote_choose(answer, (size_t)options->sentences, NEAR_BEST, answer->quotes);
    answer->best = answer->quotes[0].score;
    answer->answered = answer->best >= answer->threshold;
    return TOQUE_OK;
}

void tq_answer_clear(tq_answer *answer) {
    if (answer->mem) tq_free(answer->mem, answer->sentences.items);
    tq_hits_clear(&answer->hits);
}
