/* Exact search over byte vectors. See vectors.h. Workers scan shares of the rows, each with its own list of the best;
 * the lists are joined in a total order, so the result does not depend on their number. */
#include "rag/vectors.h"

#include <math.h>
#include <string.h>

enum {
    LEAST = 64,  /* candidates at least; half as many again as results wanted */
    BLOCK = 1024 /* rows scored at a time */
};

/* --- loading --------------------------------------------------------------------------------------------------- */

static toque_status allocate(tq_vectors *v, toque_error *err) {
    int64_t rows = 0, documents = 0;
    TQ_TRY(tq_rag_number(v->store, "SELECT count(*) FROM vectors", &documents, err));
    TQ_TRY(tq_rag_number(v->store, "SELECT coalesce(sum(length(scales)), 0) / 4 FROM vectors", &rows, err));
    tq_mem *mem = v->store->mem;
    v->bytes = tq_alloc(mem, (size_t)rows + 1, (size_t)v->width);
    v->scales = tq_alloc(mem, (size_t)rows + 1, sizeof *v->scales);
    v->ids = tq_alloc(mem, (size_t)documents + 1, sizeof *v->ids);
    v->first = tq_zalloc(mem, (size_t)documents + 1, sizeof *v->first);
    v->n = (size_t)rows;
    v->documents = (size_t)documents;
    return v->bytes && v->scales && v->ids && v->first ? TOQUE_OK : TQ_NOMEM(err);
}

static toque_status read_rows(tq_vectors *v, toque_error *err) {
    sqlite3_stmt *s;
    TQ_TRY(tq_sql_prepare(v->store->db, &s, "SELECT document, scales, bytes FROM vectors ORDER BY document", err));
    toque_status status;
    size_t d = 0, at = 0, dim = (size_t)v->dim, width = (size_t)v->width;
    for (bool row;; d++) {
        TQ_GO(tq_sql_step(s, &row, err));
        if (!row) break;
        size_t n = (size_t)sqlite3_column_bytes(s, 1) / sizeof(float);
        if (d == v->documents || at + n > v->n || (size_t)sqlite3_column_bytes(s, 2) != n * dim) {
            status = TQ_FAIL(err, EFORMAT, "%s is damaged (vectors of document %lld), or was changed while it was read",
                             v->store->path, (long long)sqlite3_column_int64(s, 0));
            goto done;
        }
        v->ids[d] = sqlite3_column_int64(s, 0);
        v->first[d] = at;
        memcpy(v->scales + at, sqlite3_column_blob(s, 1), n * sizeof(float));
        const int8_t *bytes = sqlite3_column_blob(s, 2);
        for (size_t i = 0; i < n; i++) {
            memcpy(v->bytes + (at + i) * width, bytes + i * dim, dim);
            memset(v->bytes + (at + i) * width + dim, 0, width - dim);
        }
        at += n;
    }
    v->documents = d;
    v->first[d] = v->n = at;
done:
    sqlite3_finalize(s);
    return status;
}

toque_status tq_vectors_load(tq_vectors *v, tq_rag *store, toque_error *err) {
    int64_t dim = store->facts.dim;
    *v = (tq_vectors){.store = store, .dim = dim, .width = (dim + 31) / 32 * 32};
    if (dim == 0) return TQ_FAIL(err, EINVAL, "%s has no vectors: it was made without an embedder", store->path);
    /* Both in one view of the file. */
    TQ_TRY(tq_sql_exec(store->db, "BEGIN", err));
    toque_status status = allocate(v, err);
    if (status == TOQUE_OK) status = read_rows(v, err);
    sqlite3_exec(store->db, "COMMIT", NULL, NULL, NULL);
    return status;
}

void tq_vectors_clear(tq_vectors *v) {
    if (!v->store) return;
    tq_mem *mem = v->store->mem;
    tq_free(mem, v->bytes);
    tq_free(mem, v->scales);
    tq_free(mem, v->ids);
    tq_free(mem, v->first);
    *v = (tq_vectors){0};
}

/* --- searching ------------------------------------------------------------------------------------------------- */

typedef struct run {
    size_t begin, end; /* rows */
} run;

typedef struct scan {
    const tq_vectors *v;
    const tq_kernels *k;
    const int8_t *query; /* [width] */
    const run *runs;     /* what is allowed, in order */
    size_t n_runs, rows;
    tq_top *tops; /* one a worker */
} scan;

/* The document of a row: the last one whose first row is not behind it. */
static size_t document_of(const tq_vectors *v, size_t row) {
    size_t low = 0, high = v->documents;
    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;
        if (v->first[mid] <= row)
            low = mid;
        else
            high = mid;
    }
    return low;
}

static void scan_run(const scan *s, tq_top *top, float *scores, size_t begin, size_t end) {
    const tq_vectors *v = s->v;
    size_t d = document_of(v, begin);
    for (size_t at = begin; at < end; at += BLOCK) {
        size_t n = end - at < BLOCK ? end - at : BLOCK;
        s->k->scan_i8(scores, v->bytes + at * (size_t)v->width, v->scales + at, (int64_t)n, v->width, s->query);
        float floor = top->n < top->k ? -INFINITY : (float)top->items[0].score;
        for (size_t i = 0; i < n; i++) {
            if (scores[i] < floor) continue;
            while (v->first[d + 1] <= at + i) d++;
            tq_top_put(top, scores[i], tq_chunk_id(v->ids[d], (int64_t)(at + i - v->first[d])));
            if (top->n == top->k) floor = (float)top->items[0].score;
        }
    }
}

static void scan_job(tq_worker *w, void *arg) {
    const scan *s = arg;
    int64_t begin, end;
    tq_share(w, (int64_t)s->rows, 64, &begin, &end);
    size_t passed = 0; /* allowed rows before this run */
    for (size_t r = 0; r < s->n_runs && (int64_t)passed < end; r++) {
        size_t n = s->runs[r].end - s->runs[r].begin;
        int64_t from = begin > (int64_t)passed ? begin - (int64_t)passed : 0;
        int64_t to = end < (int64_t)(passed + n) ? end - (int64_t)passed : (int64_t)n;
        if (from < to)
            scan_run(s, &s->tops[w->id], w->scratch, s->runs[r].begin + (size_t)from, s->runs[r].begin + (size_t)to);
        passed += n;
    }
}

/* The allowed rows as runs. */
static toque_status list_runs(const tq_vectors *v, const tq_bitmap *allowed, run **runs, scan *s, toque_error *err) {
    size_t cap = allowed ? v->documents + 1 : 1;
    *runs = tq_alloc(v->store->mem, cap, sizeof **runs);
    if (!*runs) return TQ_NOMEM(err);
    s->runs = *runs;
    if (!allowed) {
        (*runs)[0] = (run){0, v->n};
        s->n_runs = v->n > 0;
        s->rows = v->n;
        return TOQUE_OK;
    }
    for (size_t d = 0; d < v->documents; d++) {
        if (!tq_bitmap_has(allowed, v->ids[d])) continue;
        if (s->n_runs && (*runs)[s->n_runs - 1].end == v->first[d])
            (*runs)[s->n_runs - 1].end = v->first[d + 1];
        else
            (*runs)[s->n_runs++] = (run){v->first[d], v->first[d + 1]};
        s->rows += v->first[d + 1] - v->first[d];
    }
    return TOQUE_OK;
}

/* Scores the candidates in f32 from the f16 copies. */
static toque_status rescore(const tq_vectors *v, const float *query, const tq_top *candidates, tq_top *top,
                            uint16_t *half, toque_error *err) {
    TQ_TRY(tq_rag_halves(v->store, candidates->items, candidates->n, half, err));
    for (size_t i = 0; i < candidates->n; i++, half += v->dim) {
        float score;
        v->store->ctx->k->rows_f32[TQ_F16](&score, half, (size_t)v->dim * 2, 1, v->dim, query);
        tq_top_put(top, score, candidates->items[i].chunk);
    }
    tq_top_sort(top);
    return TOQUE_OK;
}

toque_status tq_vectors_search(const tq_vectors *v, const float *query, const tq_bitmap *allowed, tq_top *top,
                               toque_error *err) {
    tq_ctx *ctx = v->store->ctx;
    size_t threads = (size_t)tq_pool_threads(ctx->pool), k = top->k + top->k / 2 < LEAST ? LEAST : top->k + top->k / 2;
    if (top->k == 0 || v->n == 0) return TOQUE_OK;
    scan s = {.v = v, .k = ctx->k};
    run *runs = NULL;
    int8_t *bytes = tq_zalloc(&ctx->mem, (size_t)v->width, 1);
    tq_top *tops = tq_zalloc(&ctx->mem, threads, sizeof *tops);
    tq_scored *items = tq_alloc(&ctx->mem, threads * k, sizeof *items);
    uint16_t *half = tq_alloc(&ctx->mem, k * (size_t)v->dim, sizeof *half);
    toque_status status = bytes && tops && items && half ? TOQUE_OK : TQ_NOMEM(err);
    if (status == TOQUE_OK) status = list_runs(v, allowed, &runs, &s, err);
    if (status != TOQUE_OK) goto done;
    float most = 0;
    for (int64_t i = 0; i < v->dim; i++) most = fabsf(query[i]) > most ? fabsf(query[i]) : most;
    for (int64_t i = 0; i < v->dim && most > 0; i++) bytes[i] = (int8_t)lrintf(query[i] * (127 / most));
    for (size_t i = 0; i < threads; i++) tops[i] = (tq_top){.items = items + i * k, .k = k};
    s.query = bytes;
    s.tops = tops;
    tq_pool_run(ctx->pool, scan_job, &s);
    for (size_t i = 1; i < threads; i++)
        for (size_t j = 0; j < tops[i].n; j++) tq_top_put(&tops[0], tops[i].items[j].score, tops[i].items[j].chunk);
    tq_top_sort(&tops[0]);
    status = rescore(v, query, &tops[0], top, half, err);
done:
    tq_free(&ctx->mem, runs);
    tq_free(&ctx->mem, bytes);
    tq_free(&ctx->mem, tops);
    tq_free(&ctx->mem, items);
    tq_free(&ctx->mem, half);
    return status;
}
