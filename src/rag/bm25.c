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
        q->idf[i] = tq_bm25_idf((double)rows, (double)df);
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

static int by_text(const void *a, const void *b) {
    const tq_bm25_term *x = a, *y = b;
    int order = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

double tq_bm25_idf(double chunks, double with_term) {
    return log(1 + (chunks - with_term + 0.5) / (with_term + 0.5));
}

toque_status tq_bm25_begin(tq_bm25 *q, tq_mem *mem, const char *terms, tq_bm25_term **list, toque_error *err) {
    size_t n = 0, most = 1;
    for (const char *t = terms; (t = strchr(t, ' ')); t++) most++;
    q->n = 0;
    q->times = tq_alloc(mem, most, sizeof *q->times);
    q->idf = tq_alloc(mem, most, sizeof *q->idf);
    tq_bm25_term *all = *list = tq_alloc(mem, most, sizeof *all);
    if (!q->times || !q->idf || !all || most > INT_MAX) {
        tq_bm25_end(q, mem, all);
        return TQ_NOMEM(err);
    }
    for (const char *t = terms, *blank; (blank = strchr(t, ' ')); t = blank + 1)
        all[n++] = (tq_bm25_term){t, (size_t)(blank - t)};
    if (n) qsort(all, n, sizeof *all, by_text);
    for (size_t i = 0; i < n; i++) {
        if (q->n && by_text(&all[q->n - 1], &all[i]) == 0) {
            q->times[q->n - 1]++;
            continue;
        }
        all[q->n] = all[i];
        q->times[q->n++] = 1;
    }
    return TOQUE_OK;
}

void tq_bm25_end(tq_bm25 *q, tq_mem *mem, tq_bm25_term *list) {
    tq_free(mem, list);
    tq_free(mem, q->times);
    tq_free(mem, q->idf);
    q->times = q->idf = NULL;
}

/* The terms a and b as the query "a" OR "b". */
static toque_status to_query(const tq_bm25 *q, const tq_bm25_term *list, tq_buf *query, toque_error *err) {
    for (int i = 0; i < q->n; i++) {
        tq_buf_puts(query, i ? " OR \"" : "\"");
        tq_buf_put(query, list[i].text, list[i].len);
        tq_buf_putc(query, '"');
    }
    return tq_buf_status(query, "the query", err);
}

toque_status tq_bm25_search(sqlite3 *db, tq_bm25 *bm25, tq_mem *mem, const char *terms, tq_top *top, toque_error *err) {
    tq_buf query;
    sqlite3_stmt *s = NULL;
    tq_bm25_term *list;
    toque_status status;
    TQ_TRY(tq_bm25_begin(bm25, mem, terms, &list, err));
    tq_buf_init(&query, mem, SIZE_MAX / 4);
    TQ_GO(to_query(bm25, list, &query, err));
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
    tq_bm25_end(bm25, mem, list);
    return status;
}
