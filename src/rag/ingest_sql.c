/* Documents from the rows of an SQLite table. The other file is opened for reading only, and the SELECT may do nothing
 * but read. See ingest.h. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/hash.h"
#include "base/io.h"
#include "rag/ingest.h"

static toque_status make_document(tq_doc *doc, sqlite3_stmt *s, int key, toque_error *err) {
    int n = sqlite3_column_count(s), texts = 0;
    for (int i = 0; i < n; i++) {
        bool title = strcasecmp(sqlite3_column_name(s, i), "title") == 0;
        if (i != key && !title && sqlite3_column_type(s, i) != SQLITE_NULL) texts++;
    }
    for (int i = 0; i < n; i++) {
        const char *name = sqlite3_column_name(s, i), *value = tq_sql_column(s, i);
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

/* Name, type and bytes of every column. */
static toque_status hash_row(tq_mem *mem, sqlite3_stmt *s, char hash[65], toque_error *err) {
    tq_sha256 *sha = tq_sha256_new(mem);
    if (!sha) return TQ_NOMEM(err);
    for (int i = 0; i < sqlite3_column_count(s); i++) {
        const char *name = sqlite3_column_name(s, i), *value = tq_sql_column(s, i);
        tq_sha256_add(sha, name, strlen(name) + 1);
        tq_sha256_add(sha, value, strlen(value) + 1);
    }
    tq_sha256_end(sha, hash);
    return TOQUE_OK;
}

static toque_status add_row(tq_ingester *g, sqlite3_stmt *s, int key, const char *path) {
    tq_mem *mem = g->in->store->mem;
    char hash[65];
    bool same;
    tq_buf uri;
    tq_buf_init(&uri, mem, 1 << 16);
    tq_buf_printf(&uri, "%s#%s", path, tq_sql_column(s, key));
    toque_status status = tq_buf_status(&uri, "a key", g->err);
    if (status == TOQUE_OK) status = hash_row(mem, s, hash, g->err);
    if (status == TOQUE_OK) status = tq_ingester_has(g, uri.data, hash, 0, 0, &same);
    if (status == TOQUE_OK && !same) {
        tq_doc doc;
        tq_doc_init(&doc, mem);
        status = make_document(&doc, s, key, g->err);
        g->counts->bytes += doc.text.len;
        if (status == TOQUE_OK)
            status = tq_ingester_take(g, uri.data, hash, "sqlite", 0, 0, &doc);
        else
            tq_doc_clear(&doc);
    }
    tq_buf_clear(&uri);
    return status;
}

static toque_status find_key(sqlite3_stmt *s, const char *key, int *column, toque_error *err) {
    int n = sqlite3_column_count(s);
    *column = 0;
    if (n < 2) return TQ_FAIL(err, EINVAL, "the SELECT needs a key column and at least one of text");
    for (int i = 0; key && i < n; i++)
        if (strcasecmp(sqlite3_column_name(s, i), key) == 0) {
            *column = i;
            return TOQUE_OK;
        }
    return key ? TQ_FAIL(err, EINVAL, "the SELECT has no column '%.60s'", key) : TOQUE_OK;
}

static toque_status add_rows(tq_ingester *g, sqlite3 *db, const char *path, const char *sql, const char *key) {
    sqlite3_stmt *s;
    const char *rest;
    int column;
    if (sqlite3_prepare_v2(db, sql, -1, &s, &rest) != SQLITE_OK) return tq_sql_fail(db, g->err);
    toque_status status = TOQUE_OK;
    if (!s || !sqlite3_stmt_readonly(s) || rest[strspn(rest, " \t\r\n;")])
        status = TQ_FAIL(g->err, EINVAL, "--sql takes one SELECT");
    if (status == TOQUE_OK) status = find_key(s, key, &column, g->err);
    for (bool row = true; status == TOQUE_OK;) {
        status = tq_sql_step(s, &row, g->err);
        if (status != TOQUE_OK || !row) break;
        g->counts->total++;
        status = add_row(g, s, column, path);
        g->counts->done++;
        if (g->in->progress) g->in->progress(g->in->arg, g->counts);
        if (status == TOQUE_OK && g->in->store->ctx->canceled)
            status = TQ_FAIL(g->err, ECANCELED, "stopped; the same command goes on where it was");
    }
    sqlite3_finalize(s);
    return status;
}

toque_status tq_ingest_sql(const tq_ingest *in, const char *path, const char *sql, const char *key,
                           tq_ingest_counts *counts, toque_error *err) {
    sqlite3 *db = NULL;
    tq_ingester g;
    if (!tq_path_exists(path)) return TQ_FAIL(err, ENOTFOUND, "there is no file %s", path);
    toque_status status =
        sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK ? TOQUE_OK : tq_sql_fail(db, err);
    if (status == TOQUE_OK) status = tq_ingester_init(&g, in, path, counts, err);
    if (status == TOQUE_OK) status = tq_ingester_finish(&g, add_rows(&g, db, path, sql, key));
    sqlite3_close(db);
    return status;
}
