/* Searching the PostgreSQL store. Words: the postings of the question's terms are fetched and ranked here by the
 * formula of bm25.h, in the same order of additions, so that both kinds of store give the same scores. Vectors: the
 * server finds candidates by halfvecs (all of them are compared while they are few or a filter leaves few; else its
 * HNSW index, which goes on while a filter has not let enough through), and they are scored here in f32. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rag/store_pg_impl.h"

enum {
    INDEX_FROM = 20000, /* vectors that make an index worth while */
    EXACT = 20000,      /* vectors that a filter leaves and that are compared one by one */
    LEAST = 64,         /* candidates at least; half as many again as results wanted */
    MAX_EF = 1000       /* of pgvector */
};

/* --- words ----------------------------------------------------------------------------------------------- */

/* A term in a chunk. */
typedef struct match {
    int64_t chunk;
    uint32_t times, length;
    int term;
} match;

typedef struct matches {
    tq_mem *mem;
    match *list;
    size_t n, cap;
} matches;

static int by_chunk(const void *a, const void *b) {
    const match *x = a, *y = b;
    if (x->chunk != y->chunk) return x->chunk < y->chunk ? -1 : 1;
    return x->term - y->term;
}

static bool take_number(const uint8_t **p, const uint8_t *end, uint32_t *n) {
    *n = 0;
    for (int shift = 0; *p < end && shift < 35; shift += 7) {
        uint8_t byte = *(*p)++;
        *n |= (uint32_t)(byte & 127) << shift;
        if (byte <= 127) return true;
    }
    return false;
}

/* Adds the chunks of one posting; *df counts them whether they are allowed or not. */
static toque_status read_posting(tq_rag *store, matches *m, int term, int64_t document, const char *data, int n,
                                 int64_t *df, toque_error *err) {
    const uint8_t *p = (const uint8_t *)data, *end = p + n;
    bool wanted = !store->bm25.allowed || tq_bitmap_has(store->bm25.allowed, document);
    uint32_t ordinal = 0, gap;
    while (p < end) {
        match x = {.term = term};
        if (!take_number(&p, end, &gap) || !take_number(&p, end, &x.times) || !take_number(&p, end, &x.length))
            return tq_store_damaged(store, "postings", err);
        ordinal += gap;
        ++*df;
        if (!wanted) continue;
        x.chunk = tq_chunk_id(document, ordinal);
        if (!TQ_GROW(m->mem, m->list, m->n, m->cap)) return TQ_NOMEM(err);
        m->list[m->n++] = x;
    }
    return TOQUE_OK;
}

static toque_status read_term(tq_rag *store, matches *m, int term, const tq_bm25_term *t, int64_t *df,
                              toque_error *err) {
    const tq_pg_param param = {t->text, t->len, true};
    PGresult *r;
    *df = 0;
    TQ_TRY(tq_pg_query(store->pg, "SELECT document, list FROM postings WHERE term = $1", &param, 1, true, &r, err));
    toque_status status = TOQUE_OK;
    for (int i = 0, n = PQntuples(r); i < n && status == TOQUE_OK; i++)
        status = read_posting(store, m, term, tq_pg_get64(PQgetvalue(r, i, 0)), PQgetvalue(r, i, 1),
                              PQgetlength(r, i, 1), df, err);
    PQclear(r);
    return status;
}

static toque_status rank(tq_rag *store, const tq_bm25_term *terms, int n, tq_top *top, toque_error *err) {
    tq_bm25 *q = &store->bm25;
    matches m = {.mem = store->mem};
    int64_t chunks, length;
    TQ_TRY(tq_rag_number(store, "SELECT coalesce(sum(chunks), 0)::bigint FROM documents", &chunks, err));
    TQ_TRY(tq_rag_number(store, "SELECT coalesce(sum(terms), 0)::bigint FROM documents", &length, err));
    q->mean_length = chunks ? (double)length / (double)chunks : 0;
    toque_status status = TOQUE_OK;
    for (int i = 0; i < n && status == TOQUE_OK; i++) {
        int64_t df;
        status = read_term(store, &m, i, &terms[i], &df, err);
        q->idf[i] = tq_bm25_idf((double)chunks, (double)df);
    }
    if (status == TOQUE_OK && m.n) qsort(m.list, m.n, sizeof *m.list, by_chunk);
    for (size_t i = 0, next; i < m.n && status == TOQUE_OK; i = next) {
        double score = 0, norm = q->k1 * (1 - q->b + q->b * m.list[i].length / q->mean_length);
        for (next = i; next < m.n && m.list[next].chunk == m.list[i].chunk; next++) {
            const match *x = &m.list[next];
            score += q->times[x->term] * q->idf[x->term] * x->times / (x->times + norm);
        }
        tq_top_put(top, score, m.list[i].chunk);
    }
    tq_free(m.mem, m.list);
    return status;
}

toque_status tq_pg_words(tq_rag *store, const char *terms, tq_top *top, toque_error *err) {
    tq_bm25_term *list;
    toque_status status = TOQUE_OK;
    TQ_TRY(tq_bm25_begin(&store->bm25, store->mem, terms, &list, err));
    if (store->bm25.n == 0) goto done;
    /* One view of the store for all of its statements. */
    TQ_GO(tq_pg_exec(store->pg, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", err));
    status = rank(store, list, store->bm25.n, top, err);
    tq_rag_roll_back(store);
done:
    tq_bm25_end(&store->bm25, store->mem, list);
    return status;
}

/* --- vectors --------------------------------------------------------------------------------------------- */

/* f16 values of the server's form; false when it is no halfvec of this length. */
static bool take_halfvec(uint16_t *out, const char *p, int n, int64_t dim) {
    const uint8_t *u = (const uint8_t *)p;
    if (n != 4 + 2 * dim || (u[0] << 8 | u[1]) != dim) return false;
    for (int64_t i = 0; i < dim; i++) out[i] = (uint16_t)(u[4 + 2 * i] << 8 | u[5 + 2 * i]);
    return true;
}

toque_status tq_pg_halves(tq_rag *store, const tq_scored *chunks, size_t n, uint16_t *out, toque_error *err) {
    for (size_t i = 0; i < n; i++, out += store->facts.dim) {
        const tq_number_text document = tq_number_param(tq_chunk_document(chunks[i].chunk)),
                             ordinal = tq_number_param(tq_chunk_ordinal(chunks[i].chunk));
        const tq_pg_param params[2] = {{document.text, strlen(document.text), false},
                                       {ordinal.text, strlen(ordinal.text), false}};
        PGresult *r;
        TQ_TRY(tq_pg_query(store->pg, "SELECT embedding FROM vectors WHERE document = $1 AND ordinal = $2", params, 2,
                           true, &r, err));
        bool good = PQntuples(r) == 1 && take_halfvec(out, PQgetvalue(r, 0, 0), PQgetlength(r, 0, 0), store->facts.dim);
        PQclear(r);
        if (!good)
            return TQ_FAIL(err, EFORMAT, "%s is damaged (vectors of document %s), or was changed while it was read",
                           store->path, document.text);
    }
    return TOQUE_OK;
}

static toque_status score(tq_rag *store, const PGresult *r, const float *query, tq_top *top, toque_error *err) {
    int64_t dim = store->facts.dim;
    uint16_t *half = tq_alloc(store->mem, (size_t)dim, sizeof *half);
    toque_status status = half ? TOQUE_OK : TQ_NOMEM(err);
    for (int i = 0, n = PQntuples(r); i < n && status == TOQUE_OK; i++) {
        float product;
        if (!take_halfvec(half, PQgetvalue(r, i, 2), PQgetlength(r, i, 2), dim)) {
            status = tq_store_damaged(store, "vectors", err);
            break;
        }
        store->ctx->k->rows_f32[TQ_F16](&product, half, (size_t)dim * 2, 1, dim, query);
        tq_top_put(top, product, tq_chunk_id(tq_pg_get64(PQgetvalue(r, i, 0)), tq_pg_get32(PQgetvalue(r, i, 1))));
    }
    tq_free(store->mem, half);
    tq_top_sort(top);
    return status;
}

/* The allowed documents as an array, and how many chunks they have. */
static toque_status list_allowed(tq_rag *store, const tq_bitmap *allowed, tq_buf *ids, int64_t *chunks,
                                 toque_error *err) {
    bool first = true;
    PGresult *r;
    tq_buf_putc(ids, '{');
    for (int64_t i = 0; i < allowed->n; i++) {
        if (!tq_bitmap_has(allowed, i)) continue;
        tq_buf_printf(ids, "%s%lld", first ? "" : ",", (long long)i);
        first = false;
    }
    tq_buf_putc(ids, '}');
    TQ_TRY(tq_buf_status(ids, "a filter", err));
    const tq_pg_param param = {ids->data, ids->len, false};
    TQ_TRY(tq_pg_query(store->pg, "SELECT coalesce(sum(chunks), 0)::bigint FROM documents WHERE id = ANY($1::bigint[])",
                       &param, 1, true, &r, err));
    *chunks = tq_pg_get64(PQgetvalue(r, 0, 0));
    PQclear(r);
    return TOQUE_OK;
}

static toque_status find_nearest(tq_rag *store, const float *query, const tq_bitmap *allowed, size_t k, PGresult **r,
                                 toque_error *err) {
    tq_buf vector, ids;
    char sql[400];
    int64_t chunks = 0;
    tq_buf_init(&vector, store->mem, 1 << 20);
    tq_buf_init(&ids, store->mem, SIZE_MAX / 4);
    tq_pg_put_halfvec(&vector, query, store->facts.dim);
    toque_status status = tq_buf_status(&vector, "a query", err);
    if (status == TOQUE_OK && allowed) status = list_allowed(store, allowed, &ids, &chunks, err);
    snprintf(sql, sizeof sql,
             "SET LOCAL hnsw.ef_search = %zu; SET LOCAL hnsw.iterative_scan = relaxed_order;"
             " SET LOCAL hnsw.max_scan_tuples = 100000",
             k < MAX_EF ? k : MAX_EF);
    if (status == TOQUE_OK) status = tq_pg_exec(store->pg, sql, err);
    const char *from = !allowed         ? "vectors"
                       : chunks > EXACT ? "vectors WHERE document = ANY($2::bigint[])"
                                        : "(SELECT * FROM vectors WHERE document = ANY($2::bigint[]) OFFSET 0) few";
    snprintf(sql, sizeof sql,
             "SELECT document, ordinal, embedding FROM %s ORDER BY embedding <#> $1::halfvec LIMIT %zu", from, k);
    const tq_pg_param params[2] = {{vector.data, vector.len, true}, {ids.data, ids.len, false}};
    if (status == TOQUE_OK) status = tq_pg_query(store->pg, sql, params, allowed ? 2 : 1, true, r, err);
    tq_buf_clear(&vector);
    tq_buf_clear(&ids);
    return status;
}

toque_status tq_pg_nearest(tq_rag *store, const float *query, const tq_bitmap *allowed, tq_top *top, toque_error *err) {
    size_t k = top->k + top->k / 2 < LEAST ? LEAST : top->k + top->k / 2;
    PGresult *r = NULL;
    if (top->k == 0) return TOQUE_OK;
    TQ_TRY(tq_pg_exec(store->pg, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", err));
    toque_status status = find_nearest(store, query, allowed, k, &r, err);
    tq_rag_roll_back(store);
    if (status == TOQUE_OK) status = score(store, r, query, top, err);
    PQclear(r);
    return status;
}

/* --- the index ------------------------------------------------------------------------------------------- */

toque_status tq_pg_settle(tq_rag *store, toque_error *err) {
    int64_t n = 0, indexed;
    char sql[300];
    if (!store->facts.dim) return TOQUE_OK;
    TQ_TRY(tq_rag_number(store, "SELECT count(*) FROM vectors", &n, err));
    TQ_TRY(tq_rag_number(store, "SELECT count(to_regclass('vectors_embedding'))", &indexed, err));
    if (indexed || n < INDEX_FROM) return TOQUE_OK;
    /* The graph fits if there is room for a vector and about 300 bytes of links each. */
    int64_t need = n * (store->facts.dim * 2 + 300) / 1024 + 65536, most = 2 << 20;
    snprintf(sql, sizeof sql, "SET maintenance_work_mem = %lld", (long long)(need < most ? need : most));
    TQ_TRY(tq_pg_exec(store->pg, sql, err));
    return tq_pg_exec(store->pg,
                      "CREATE INDEX IF NOT EXISTS vectors_embedding ON vectors USING hnsw (embedding halfvec_ip_ops);"
                      "ANALYZE vectors",
                      err);
}
