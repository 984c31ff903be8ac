/* Searching. See search.h. */
#include "rag/search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/half.h"

enum { MAX_K = 1000 };

tq_search_options tq_search_defaults(void) {
    return (tq_search_options){.mode = TQ_SEARCH_HYBRID,
                               .k = 5,
                               .rrf_k = 60,
                               .vector_weight = 0.5,
                               .mmr = 1,
                               .k1 = 1.2,
                               .b = 0.75,
                               .rerank_depth = 10};
}

toque_status tq_searcher_init(tq_searcher *s, tq_rag *store, const tq_rag_embedder *embedder, toque_error *err) {
    *s = (tq_searcher){.store = store};
    if (embedder) TQ_TRY(tq_rag_check(store, embedder, err));
    s->embedder = embedder && embedder->dim ? embedder : NULL;
    return TOQUE_OK;
}

void tq_searcher_clear(tq_searcher *s) {
    tq_vectors_clear(&s->vectors);
}

void tq_hits_clear(tq_hits *hits) {
    tq_arena_clear(&hits->arena);
    hits->items = NULL;
    hits->n = 0;
}

/* --- the two stages -------------------------------------------------------------------------------------------- */

toque_status tq_embed_query(const tq_searcher *s, const char *text, float *out, toque_error *err) {
    const tq_rag_embedder *e = s->embedder;
    tq_buf buf;
    size_t tokens;
    tq_buf_init(&buf, s->store->mem, SIZE_MAX / 4);
    tq_buf_puts(&buf, e->query_prefix);
    tq_buf_puts(&buf, text);
    toque_status status = tq_buf_status(&buf, "the question", err);
    if (status == TOQUE_OK) status = tq_count_tokens(e, s->store->mem, buf.data, buf.len, &tokens, err);
    if (status == TOQUE_OK && tokens > (size_t)e->max_tokens)
        status = TQ_FAIL(err, ELIMIT, "the question has %zu tokens, and the embedder takes %d: shorten it", tokens,
                         e->max_tokens);
    const char *data = buf.data;
    if (status == TOQUE_OK) status = e->embed(e->self, &data, &buf.len, 1, out, err);
    tq_buf_clear(&buf);
    return status;
}

/* As much of a made-up passage as the embedder takes, cut between words. */
static toque_status embed_passage(const tq_searcher *s, const char *text, float *out, toque_error *err) {
    const tq_rag_embedder *e = s->embedder;
    tq_buf buf;
    size_t tokens = 0, prefix = strlen(e->passage_prefix);
    tq_buf_init(&buf, s->store->mem, SIZE_MAX / 4);
    tq_buf_puts(&buf, e->passage_prefix);
    tq_buf_puts(&buf, text);
    toque_status status = tq_buf_status(&buf, "a passage", err);
    while (status == TOQUE_OK) {
        status = tq_count_tokens(e, s->store->mem, buf.data, buf.len, &tokens, err);
        if (status != TOQUE_OK || tokens <= (size_t)e->max_tokens) break;
        size_t half = prefix + (buf.len - prefix) / 2;
        while (half > prefix && buf.data[half] != ' ') half--;
        tq_buf_cut(&buf, half);
    }
    const char *data = buf.data;
    if (status == TOQUE_OK) status = e->embed(e->self, &data, &buf.len, 1, out, err);
    tq_buf_clear(&buf);
    return status;
}

static toque_status needs_vectors(const tq_searcher *s, toque_error *err) {
    return TQ_FAIL(err, EINVAL,
                   "%s has no vectors: search it with --mode bm25, or embed it with toque rag add %s --reembed "
                   "--embedder M",
                   s->store->path, s->store->path);
}

/* The vector that is searched for, [dim]: the question's, or its mean with that of a made-up passage, of length 1. */
static toque_status query_vector(tq_searcher *s, const char *text, const char *passage, float *query,
                                 toque_error *err) {
    size_t dim = (size_t)s->store->facts.dim;
    TQ_TRY(tq_embed_query(s, text, query, err));
    if (!passage) return TOQUE_OK;
    float *other = tq_alloc(s->store->mem, dim, sizeof *other);
    toque_status status = other ? embed_passage(s, passage, other, err) : TQ_NOMEM(err);
    double length = 0;
    for (size_t i = 0; i < dim && status == TOQUE_OK; i++) {
        query[i] += other[i];
        length += (double)query[i] * query[i];
    }
    for (size_t i = 0; i < dim && status == TOQUE_OK && length > 0; i++) query[i] = (float)(query[i] / sqrt(length));
    tq_free(s->store->mem, other);
    return status;
}

static toque_status vector_stage(tq_searcher *s, const char *text, const char *passage, const tq_bitmap *allowed,
                                 tq_top *top, float *query, toque_error *err) {
    if (!s->vectors.store) TQ_TRY(tq_vectors_load(&s->vectors, s->store, err));
    TQ_TRY(query_vector(s, text, passage, query, err));
    return tq_vectors_search(&s->vectors, query, allowed, top, err);
}

/* Appends the terms of text in one language, without its words that are stop words of `spoken`. */
static toque_status terms_in(tq_rag *store, const char *language, const char *spoken, const char *text, tq_buf *out,
                             toque_error *err) {
    tq_analyzer *a;
    TQ_TRY(tq_rag_analyzer(store, language, &a, err));
    if (!*spoken || strcmp(language, spoken) == 0) return tq_terms(a, text, strlen(text), out, NULL, err);
    for (const char *p = text; *p;) { /* word by word: what stands between blanks */
        size_t n = strcspn(p, " \t\r\n");
        char lower[24] = "";
        for (size_t i = 0; i < n && n < sizeof lower; i++)
            lower[i] = (char)(p[i] >= 'A' && p[i] <= 'Z' ? p[i] | 32 : p[i]);
        if (n && (n >= sizeof lower || !tq_is_stop_word(spoken, lower, n))) TQ_TRY(tq_terms(a, p, n, out, NULL, err));
        p += n + (p[n] != 0);
    }
    return TOQUE_OK;
}

/* A term that stands in `out` before `from` already is not taken once more from another language. */
static void drop_repeated(tq_buf *out, size_t from) {
    size_t to = from;
    for (size_t at = from; at < out->len;) {
        size_t n = (size_t)((char *)memchr(out->data + at, ' ', out->len - at) - (out->data + at)) + 1;
        bool seen = false;
        for (size_t i = 0; i + n <= from && !seen; i++)
            seen = (i == 0 || out->data[i - 1] == ' ') && memcmp(out->data + i, out->data + at, n) == 0;
        if (!seen) {
            memmove(out->data + to, out->data + at, n);
            to += n;
        }
        at += n;
    }
    tq_buf_cut(out, to);
}

toque_status tq_query_terms(tq_rag *store, const char *text, const char *language, tq_buf *out, toque_error *err) {
    if (language) return terms_in(store, language, language, text, out, err);
    const char *spoken = tq_detect_language(text, strlen(text));
    sqlite3_stmt *s;
    TQ_TRY(tq_sql_prepare(store->db, &s,
                          "SELECT language, count(*) FROM documents GROUP BY language ORDER BY 2 DESC LIMIT 8", err));
    toque_status status;
    for (bool row;;) {
        TQ_GO(tq_sql_step(s, &row, err));
        if (!row) break;
        size_t before = out->len;
        TQ_GO(terms_in(store, tq_sql_column(s, 0), spoken, text, out, err));
        if (before) drop_repeated(out, before);
    }
done:
    sqlite3_finalize(s);
    return status;
}

static toque_status bm25_stage(tq_searcher *s, const char *text, const tq_search_options *o, const tq_bitmap *allowed,
                               tq_top *top, toque_error *err) {
    tq_rag *store = s->store;
    tq_buf terms;
    tq_buf_init(&terms, store->mem, 1 << 20);
    store->bm25.k1 = o->k1;
    store->bm25.b = o->b;
    store->bm25.allowed = allowed;
    toque_status status = tq_query_terms(store, text, o->language, &terms, err);
    if (status == TOQUE_OK) status = tq_bm25_search(store->db, &store->bm25, store->mem, terms.data, top, err);
    if (status == TOQUE_OK) tq_top_sort(top);
    store->bm25.allowed = NULL;
    tq_buf_clear(&terms);
    return status;
}

/* --- fusion ---------------------------------------------------------------------------------------------------- */

/* Scores of a sorted list in [0, 1]. */
static double in_list(const tq_top *t, size_t i) {
    double high = t->items[0].score, low = t->items[t->n - 1].score;
    return high > low ? (t->items[i].score - low) / (high - low) : 1;
}

/* Adds a stage's list to those found so far. other: of the question in other words. joined: the score is one of ranks,
 * whatever kinds of search there are. */
static void add_stage(tq_hit *hits, size_t *n, const tq_top *t, bool vector, bool other, bool joined,
                      const tq_search_options *o) {
    double weight = o->mode != TQ_SEARCH_HYBRID ? 0.5 : vector ? o->vector_weight : 1 - o->vector_weight;
    for (size_t i = 0; i < t->n; i++) {
        size_t j = 0;
        while (j < *n && hits[j].passage.chunk != t->items[i].chunk) j++;
        if (j == *n) hits[(*n)++] = (tq_hit){.passage.chunk = t->items[i].chunk};
        tq_hit *h = &hits[j];
        if (other) {
            if (!h->other_rank || i + 1 < h->other_rank) h->other_rank = i + 1;
        } else {
            *(vector ? &h->vector_rank : &h->bm25_rank) = i + 1;
            *(vector ? &h->vector_score : &h->bm25_score) = t->items[i].score;
        }
        if (!joined)
            h->score = t->items[i].score;
        else if (o->fusion == TQ_FUSION_RRF || o->mode != TQ_SEARCH_HYBRID)
            h->score += 2 * weight / (o->rrf_k + (double)(i + 1)); /* equal weights: the plain sum of 1 / (k + rank) */
        else
            h->score += weight * in_list(t, i);
    }
}

static int by_score(const void *a, const void *b) {
    const tq_hit *x = a, *y = b;
    return tq_scored_order(&(tq_scored){x->score, x->passage.chunk}, &(tq_scored){y->score, y->passage.chunk});
}

/* --- diversity ------------------------------------------------------------------------------------------------- */

/* Reorders the best of n sorted hits so that the first k are chosen by MMR. */
static toque_status diversify(tq_searcher *s, tq_hit *hits, size_t n, const tq_search_options *o, toque_error *err) {
    tq_rag *store = s->store;
    size_t dim = (size_t)store->facts.dim;
    if (!s->embedder) return TQ_FAIL(err, EINVAL, "diversification compares vectors, and %s has none", store->path);
    if (n < 2) return TOQUE_OK;
    float *v = tq_alloc(store->mem, n * dim, sizeof *v);
    uint16_t *half = tq_alloc(store->mem, n * dim, sizeof *half);
    tq_scored *ids = tq_alloc(store->mem, n, sizeof *ids);
    double *near = tq_zalloc(store->mem, n, sizeof *near), *rel = tq_alloc(store->mem, n, sizeof *rel);
    toque_status status = v && half && ids && near && rel ? TOQUE_OK : TQ_NOMEM(err);
    if (status != TOQUE_OK) goto done;
    double high = hits[0].score, low = hits[n - 1].score;
    for (size_t i = 0; i < n; i++) ids[i].chunk = hits[i].passage.chunk;
    TQ_GO(tq_rag_halves(store, ids, n, half, err));
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < dim; j++) v[i * dim + j] = tq_half_to_float(half[i * dim + j]);
        rel[i] = high > low ? (hits[i].score - low) / (high - low) : 1;
        near[i] = -1;
    }
    for (size_t chosen = 0; chosen < o->k && chosen < n; chosen++) {
        size_t best = chosen;
        double most = -INFINITY;
        for (size_t i = chosen; i < n; i++) {
            double value = o->mmr * rel[i] - (chosen ? (1 - o->mmr) * near[i] : 0);
            if (value > most) most = value, best = i;
        }
        /* The chosen one moves to the front; the others keep their order. */
        tq_hit h = hits[best];
        double r = rel[best], x = near[best];
        for (size_t i = best; i > chosen; i--) hits[i] = hits[i - 1], rel[i] = rel[i - 1], near[i] = near[i - 1];
        for (size_t i = best; i > chosen; i--)
            for (size_t j = 0; j < dim; j++) {
                float t = v[i * dim + j];
                v[i * dim + j] = v[(i - 1) * dim + j];
                v[(i - 1) * dim + j] = t;
            }
        hits[chosen] = h;
        rel[chosen] = r;
        near[chosen] = x;
        for (size_t i = chosen + 1; i < n; i++) {
            double cosine = store->ctx->k->dot(v + chosen * dim, v + i * dim, (int64_t)dim);
            if (cosine > near[i]) near[i] = cosine;
        }
    }
done:
    tq_free(store->mem, v);
    tq_free(store->mem, half);
    tq_free(store->mem, ids);
    tq_free(store->mem, near);
    tq_free(store->mem, rel);
    return status;
}

/* --- a model's help -------------------------------------------------------------------------------------------- */

static int by_rerank(const void *a, const void *b) {
    const tq_hit *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->fused_rank < y->fused_rank ? -1 : 1;
}

/* Puts the first n sorted hits in the reranker's order; their passages are in the arena then. */
static toque_status rerank(tq_searcher *s, const char *text, tq_hit *hits, size_t n, tq_arena *arena,
                           toque_error *err) {
    tq_mem *mem = s->store->mem;
    const tq_passage_info **passages = tq_alloc(mem, n + 1, sizeof *passages);
    double *scores = tq_alloc(mem, n + 1, sizeof *scores);
    toque_status status = passages && scores ? TOQUE_OK : TQ_NOMEM(err);
    for (size_t i = 0; i < n && status == TOQUE_OK; i++) {
        status = tq_rag_passage(s->store, hits[i].passage.chunk, arena, &hits[i].passage, err);
        passages[i] = &hits[i].passage;
    }
    if (status == TOQUE_OK) status = tq_helper_rerank(s->helper, text, passages, n, scores, err);
    for (size_t i = 0; i < n && status == TOQUE_OK; i++) {
        hits[i].fused_rank = i + 1;
        hits[i].fused_score = hits[i].score;
        hits[i].score = scores[i];
    }
    if (status == TOQUE_OK && n) qsort(hits, n, sizeof *hits, by_rerank);
    for (size_t i = 0; i < n; i++) hits[i].rerank_rank = i + 1;
    tq_free(mem, passages);
    tq_free(mem, scores);
    return status;
}

/* --- all together ---------------------------------------------------------------------------------------------- */

static toque_status check_options(const tq_searcher *s, const tq_search_options *o, toque_error *err) {
    if (o->k < 1 || o->k > MAX_K) return TQ_FAIL(err, EINVAL, "1 to %d results can be asked for, not %zu", MAX_K, o->k);
    if (!(o->mmr >= 0 && o->mmr <= 1) || !(o->vector_weight >= 0 && o->vector_weight <= 1))
        return TQ_FAIL(err, EINVAL, "mmr and the vectors' weight are numbers from 0 to 1");
    if (!(o->k1 >= 0 && o->k1 <= 100) || !(o->b >= 0 && o->b <= 1) || !(o->rrf_k >= 0))
        return TQ_FAIL(err, EINVAL, "BM25's k1 is from 0 to 100, b from 0 to 1, and the constant of RRF not negative");
    if ((o->expand || o->rerank) && !s->helper)
        return TQ_FAIL(err, EINVAL, "expanding a question and reranking need a model (-m)");
    if (o->rerank && (o->rerank_depth < 1 || o->rerank_depth > MAX_K))
        return TQ_FAIL(err, EINVAL, "1 to %d passages can be reranked, not %zu", MAX_K, o->rerank_depth);
    if (o->mode != TQ_SEARCH_BM25 && !s->embedder) return needs_vectors(s, err);
    if (o->expand == TQ_EXPAND_HYDE && o->mode == TQ_SEARCH_BM25)
        return TQ_FAIL(err, EINVAL, "a made-up passage (hyde) is compared by its vector, and this search uses none");
    return TOQUE_OK;
}

/* The lists of all stages for one wording of the question, added to all [n]. */
static toque_status run_stages(tq_searcher *s, const char *text, const char *passage, bool other, bool joined,
                               const tq_search_options *o, const tq_bitmap *allowed, size_t depth, tq_hit *all,
                               size_t *n, toque_error *err) {
    tq_mem *mem = s->store->mem;
    tq_scored *items = tq_alloc(mem, 2 * depth, sizeof *items);
    float *query = tq_alloc(mem, (size_t)s->store->facts.dim + 1, sizeof *query);
    tq_top vector = {.items = items, .k = depth}, bm25 = {.items = items + depth, .k = depth};
    toque_status status = items && query ? TOQUE_OK : TQ_NOMEM(err);
    if (status == TOQUE_OK && o->mode != TQ_SEARCH_BM25)
        status = vector_stage(s, text, passage, allowed, &vector, query, err);
    if (status == TOQUE_OK && o->mode != TQ_SEARCH_VECTOR) status = bm25_stage(s, text, o, allowed, &bm25, err);
    if (status == TOQUE_OK && vector.n) add_stage(all, n, &vector, true, other, joined, o);
    if (status == TOQUE_OK && bm25.n) add_stage(all, n, &bm25, false, other, joined, o);
    tq_free(mem, items);
    tq_free(mem, query);
    return status;
}

toque_status tq_search(tq_searcher *s, tq_hits *hits, const char *text, const tq_search_options *options,
                       toque_error *err) {
    tq_rag *store = s->store;
    tq_mem *mem = store->mem;
    tq_search_options o = *options;
    *hits = (tq_hits){0};
    tq_arena_init(&hits->arena, mem, 1 << 14);
    if (o.mode == TQ_SEARCH_HYBRID && store->facts.dim == 0) o.mode = TQ_SEARCH_BM25;
    TQ_TRY(check_options(s, &o, err));
    hits->mode = o.mode;
    if (o.expand)
        TQ_TRY(tq_helper_expand(s->helper, o.expand, text, &hits->arena, hits->expanded, &hits->n_expanded, err));
    size_t others = o.expand == TQ_EXPAND_QUERIES ? hits->n_expanded : 0;
    size_t depth = o.depth ? o.depth : o.k * 4 > 100 ? o.k * 4 : 100, n = 0;
    if (depth < o.k) depth = o.k;
    if (o.rerank && depth < o.rerank_depth) depth = o.rerank_depth;
    bool joined = o.mode == TQ_SEARCH_HYBRID || others > 0;
    tq_bitmap allowed = {0};
    tq_hit *all = tq_alloc(mem, 2 * depth * (1 + others), sizeof *all);
    toque_status status = all ? TOQUE_OK : TQ_NOMEM(err);
    if (status == TOQUE_OK && o.n_filters) status = tq_filter(store, o.filters, o.n_filters, &allowed, err);
    const tq_bitmap *filter = o.n_filters ? &allowed : NULL;
    const char *passage = o.expand == TQ_EXPAND_HYDE && hits->n_expanded ? hits->expanded[0] : NULL;
    if (status == TOQUE_OK) status = run_stages(s, text, passage, false, joined, &o, filter, depth, all, &n, err);
    for (size_t i = 0; i < others && status == TOQUE_OK; i++)
        status = run_stages(s, hits->expanded[i], NULL, true, joined, &o, filter, depth, all, &n, err);
    if (status != TOQUE_OK) goto done;
    if (n) qsort(all, n, sizeof *all, by_score);
    size_t leading = o.rerank && n > o.rerank_depth ? o.rerank_depth : n; /* whose scores can be compared */
    if (o.rerank) TQ_GO(rerank(s, text, all, leading, &hits->arena, err));
    if (o.mmr < 1) TQ_GO(diversify(s, all, leading, &o, err));
    if (n > o.k) n = o.k;
    hits->items = tq_arena_alloc(&hits->arena, n + 1, sizeof *hits->items);
    if (!hits->items) status = TQ_NOMEM(err);
    for (size_t i = 0; i < n && status == TOQUE_OK; i++) {
        int64_t chunk = all[i].passage.chunk;
        hits->items[i] = all[i];
        if (!all[i].passage.uri) status = tq_rag_passage(store, chunk, &hits->arena, &hits->items[i].passage, err);
        if (status == TOQUE_OK) hits->n++;
    }
done:
    tq_free(mem, allowed.words);
    tq_free(mem, all);
    return status;
}
