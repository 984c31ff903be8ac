/* BM25 as an auxiliary function of FTS5. See bm25.h. */
#include "rag/bm25.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int count_row(const Fts5ExtensionApi *api, Fts5Context *fts, void *arg) {
    (void)api;
    (void)fts;
    ++*(int64_t *)arg;
    return SQLITE_OK;
}

static int prepare(tq_bm25 *q, const Fts5ExtensionApi *api, Fts5Context *fts) {
    sqlite3_int64 rows = 0, tokens = 0;
    int r = api->xRowCount(fts, &rows);
    if (r == SQLITE_OK) r = api->xColumnTotalSize(fts, -1, &tokens);
    q->mean_length = rows > 0 ? (double)tokens / (double)rows : 0;
    for (int i = 0, n = api->xPhraseCount(fts); r == SQLITE_OK && i < n && i < q->n; i++) {
        int64_t df = 0;
        r = api->xQueryPhrase(fts, i, &df, count_row);
        q->idf[i] = log(1 + ((double)rows - (double)df + 0.5) / ((double)df + 0.5));
    }
    q->ready = r == SQLITE_OK;
    return r;
}

static void rank(const Fts5ExtensionApi *api, Fts5Context *fts, sqlite3_context *out, int n_args,
                 sqlite3_value **args) {
    (void)n_args;
    (void)args;
    tq_bm25 *q = api->xUserData(fts);
    int r = SQLITE_OK, length = 0;
    if (!q->ready) r = prepare(q, api, fts);
    if (r == SQLITE_OK && q->allowed && !tq_bitmap_has(q->allowed, tq_chunk_document(api->xRowid(fts)))) {
        sqlite3_result_null(out);
        return;
    }
    if (r == SQLITE_OK) r = api->xColumnSize(fts, 0, &length);
    double score = 0, norm = q->k1 * (1 - q->b + q->b * length / q->mean_length);
    for (int i = 0, n = api->xPhraseCount(fts); r == SQLITE_OK && i < n && i < q->n; i++) {
        Fts5PhraseIter it;
        int column, offset, tf = 0;
        r = api->xPhraseFirst(fts, i, &it, &column, &offset);
        for (; r == SQLITE_OK && column >= 0; api->xPhraseNext(fts, &it, &column, &offset)) tf++;
        if (tf) score += q->times[i] * q->idf[i] * tf / (tf + norm);
    }
    if (r == SQLITE_OK)
        sqlite3_result_double(out, score);
    else
        sqlite3_result_error_code(out, r);
}

toque_status tq_bm25_register(sqlite3 *db, tq_bm25 *bm25, toque_error *err) {
    fts5_api *api = NULL;
    sqlite3_stmt *s;
    if (sqlite3_prepare_v2(db, "SELECT fts5(?1)", -1, &s, NULL) != SQLITE_OK)
        return TQ_FAIL(err, EUNSUPPORTED, "this system's SQLite is built without FTS5");
    sqlite3_bind_pointer(s, 1, &api, "fts5_api_ptr", NULL);
    sqlite3_step(s);
    sqlite3_finalize(s);
    if (!api || api->xCreateFunction(api, "tq_bm25", bm25, rank, NULL) != SQLITE_OK)
        return TQ_FAIL(err, EUNSUPPORTED, "this system's SQLite gives no access to FTS5");
    return TOQUE_OK;
}

typedef struct term {
    const char *at;
    size_t len;
} term;

static int by_text(const void *a, const void *b) {
    const term *x = a, *y = b;
    int order = memcmp(x->at, y->at, x->len < y->len ? x->len : y->len);
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

/* "b a b " as the query "a" OR "b", with how often each stands there. */
static toque_status to_query(tq_bm25 *q, tq_mem *mem, const char *terms, tq_buf *query, toque_error *err) {
    size_t n = 0, most = 1;
    for (const char *t = terms; (t = strchr(t, ' ')); t++) most++;
    q->n = 0;
    q->times = tq_alloc(mem, most, sizeof *q->times);
    q->idf = tq_alloc(mem, most, sizeof *q->idf);
    term *list = tq_alloc(mem, most, sizeof *list);
    toque_status status = q->times && q->idf && list && most <= INT_MAX ? TOQUE_OK : TQ_NOMEM(err);
    if (status != TOQUE_OK) goto done;
    for (const char *t = terms, *blank; (blank = strchr(t, ' ')); t = blank + 1)
        list[n++] = (term){t, (size_t)(blank - t)};
    if (n) qsort(list, n, sizeof *list, by_text);
    for (size_t i = 0; i < n; i++) {
        if (i && by_text(&list[i - 1], &list[i]) == 0) {
            q->times[q->n - 1]++;
            continue;
        }
        tq_buf_puts(query, i ? " OR \"" : "\"");
        tq_buf_put(query, list[i].at, list[i].len);
        tq_buf_putc(query, '"');
        q->times[q->n++] = 1;
    }
    status = tq_buf_status(query, "the query", err);
done:
    tq_free(mem, list);
    return status;
}

toque_status tq_bm25_search(sqlite3 *db, tq_bm25 *bm25, tq_mem *mem, const char *terms, tq_top *top, toque_error *err) {
    tq_buf query;
    sqlite3_stmt *s = NULL;
    toque_status status;
    tq_buf_init(&query, mem, SIZE_MAX / 4);
    TQ_GO(to_query(bm25, mem, terms, &query, err));
    if (!bm25->n) goto done;
    bm25->ready = false;
    TQ_GO(tq_sql_prepare(db, &s, "SELECT rowid, tq_bm25(terms) FROM terms WHERE terms MATCH ?", err));
    tq_sql_text(s, 1, query.data);
    for (bool row;;) {
        TQ_GO(tq_sql_step(s, &row, err));
        if (!row) break;
        if (sqlite3_column_type(s, 1) != SQLITE_NULL)
            tq_top_put(top, sqlite3_column_double(s, 1), sqlite3_column_int64(s, 0));
    }
done:
    sqlite3_finalize(s);
    tq_buf_clear(&query);
    tq_free(mem, bm25->times);
    tq_free(mem, bm25->idf);
    bm25->times = bm25->idf = NULL;
    return status;
}
