/* Documents from the rows of tables, and the reading of SQLite's (ingest_pg.c: PostgreSQL's). The other file is opened
 * for reading only, and the SELECT may do nothing but read. See ingest.h. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/hash.h"
#include "base/io.h"
#include "rag/ingest.h"
#include "rag/store_impl.h"

static toque_status make_document(tq_doc *doc, const tq_sql_row *row, int key, toque_error *err) {
    int texts = 0;
    for (int i = 0; i < row->n; i++)
        if (i != key && strcasecmp(row->names[i], "title") != 0 && row->values[i]) texts++;
    for (int i = 0; i < row->n; i++) {
        const char *name = row->names[i], *value = row->values[i] ? row->values[i] : "";
        size_t len = strlen(value); /* a blob's bytes up to its first NUL */
        if (i == key || len == 0) continue;
        if (strcasecmp(name, "title") == 0) {
            tq_doc_title(doc, value, len);
        } else if (texts == 1) { /* one column of text: paragraphs as they are */
            size_t start = doc->text.len;
            tq_buf_put(&doc->text, value, len);
            if (!doc->text.failed) tq_mark_paragraphs(doc, start, doc->text.len);
        } else {
            tq_doc_begin(doc, TQ_BLOCK_TEXT, 0);
            tq_doc_put_flow(doc, name, strlen(name));
            tq_doc_put(doc, ": ", 2);
            tq_doc_put(doc, value, len);
            tq_doc_end(doc);
        }
    }
    return tq_doc_status(doc, err);
}

/* Name and text of every column. */
static toque_status hash_row(tq_mem *mem, const tq_sql_row *row, char hash[65], toque_error *err) {
    tq_sha256 *sha = tq_sha256_new(mem);
    if (!sha) return TQ_NOMEM(err);
    for (int i = 0; i < row->n; i++) {
        const char *name = row->names[i], *value = row->values[i] ? row->values[i] : "";
        tq_sha256_add(sha, name, strlen(name) + 1);
        tq_sha256_add(sha, value, strlen(value) + 1);
    }
    tq_sha256_end(sha, hash);
    return TOQUE_OK;
}

static toque_status offer_row(tq_ingester *g, const tq_sql_row *row, int key, const char *path, const char *format) {
    tq_mem *mem = g->in->store->mem;
    char hash[65];
    bool same;
    tq_buf uri;
    tq_buf_init(&uri, mem, 1 << 16);
    tq_buf_printf(&uri, "%s#%s", path, row->values[key] ? row->values[key] : "");
    toque_status status = tq_buf_status(&uri, "a key", g->err);
    if (status == TOQUE_OK) status = hash_row(mem, row, hash, g->err);
    if (status == TOQUE_OK) status = tq_ingester_has(g, uri.data, hash, 0, 0, &same);
    if (status == TOQUE_OK && !same) {
        tq_doc doc;
        tq_doc_init(&doc, mem);
        status = make_document(&doc, row, key, g->err);
        g->counts->bytes += doc.text.len;
        if (status == TOQUE_OK)
            status = tq_ingester_take(g, uri.data, hash, format, 0, 0, &doc);
        else
            tq_doc_clear(&doc);
    }
    tq_buf_clear(&uri);
    return status;
}

toque_status tq_ingester_row(tq_ingester *g, const tq_sql_row *row, int key, const char *path, const char *format) {
    g->counts->total++;
    toque_status status = offer_row(g, row, key, path, format);
    g->counts->done++;
    if (g->in->progress) g->in->progress(g->in->arg, g->counts);
    if (status == TOQUE_OK && g->in->store->ctx->canceled)
        status = TQ_FAIL(g->err, ECANCELED, "stopped; the same command goes on where it was");
    return status;
}

toque_status tq_sql_key(const char *const *names, int n, const char *key, int *column, toque_error *err) {
    *column = 0;
    if (n < 2) return TQ_FAIL(err, EINVAL, "the SELECT needs a key column and at least one of text");
    for (int i = 0; key && i < n; i++)
        if (strcasecmp(names[i], key) == 0) {
            *column = i;
            return TOQUE_OK;
        }
    return key ? TQ_FAIL(err, EINVAL, "the SELECT has no column '%.60s'", key) : TOQUE_OK;
}

/* --- SQLite ---------------------------------------------------------------------------------------------- */

static toque_status add_rows(tq_ingester *g, sqlite3 *db, const char *path, const char *sql, const char *key) {
    enum { MOST_COLUMNS = 256 };
    const char *names[MOST_COLUMNS], *values[MOST_COLUMNS];
    sqlite3_stmt *s;
    const char *rest;
    int column;
    if (sqlite3_prepare_v2(db, sql, -1, &s, &rest) != SQLITE_OK) return tq_sql_fail(db, g->err);
    toque_status status = TOQUE_OK;
    int n = s ? sqlite3_column_count(s) : 0;
    if (!s || !sqlite3_stmt_readonly(s) || rest[strspn(rest, " \t\r\n;")])
        status = TQ_FAIL(g->err, EINVAL, "--sql takes one SELECT");
    else if (n > MOST_COLUMNS)
        status = TQ_FAIL(g->err, ELIMIT, "the SELECT has more than %d columns", MOST_COLUMNS);
    for (int i = 0; status == TOQUE_OK && i < n; i++) names[i] = sqlite3_column_name(s, i);
    if (status == TOQUE_OK) status = tq_sql_key(names, n, key, &column, g->err);
    for (bool row = true; status == TOQUE_OK;) {
        status = tq_sql_step(s, &row, g->err);
        if (status != TOQUE_OK || !row) break;
        for (int i = 0; i < n; i++) values[i] = (const char *)sqlite3_column_text(s, i);
        status = tq_ingester_row(g, &(tq_sql_row){names, values, n}, column, path, "sqlite");
    }
    sqlite3_finalize(s);
    return status;
}

toque_status tq_ingest_sql(const tq_ingest *in, const char *path, const char *sql, const char *key,
                           tq_ingest_counts *counts, toque_error *err) {
    sqlite3 *db = NULL;
    tq_ingester g;
    if (tq_is_pg(path)) return tq_ingest_pg(in, path, sql, key, counts, err);
    if (!tq_path_exists(path)) return TQ_FAIL(err, ENOTFOUND, "there is no file %s", path);
    toque_status status =
        sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK ? TOQUE_OK : tq_sql_fail(db, err);
    if (status == TOQUE_OK) status = tq_ingester_init(&g, in, path, counts, err);
    if (status == TOQUE_OK) status = tq_ingester_finish(&g, add_rows(&g, db, path, sql, key));
    sqlite3_close(db);
    return status;
}
