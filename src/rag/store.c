/* The store: making, opening, checking, and its statements. See store.h. (store_write.c, store_read.c: documents in and
 * out) */
#include "rag/store_impl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"

enum { BUSY_MS = 20000 };

static const char *const texts[TQ_SQL_STATEMENTS] = {
    [TQ_SQL_FIND] = "SELECT id, hash, size, mtime, root FROM documents WHERE uri = ?",
    [TQ_SQL_INSERT_DOCUMENT] =
        "INSERT INTO documents(uri, root, hash, size, mtime, format, title, language, chunks, blocks, text)"
        " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [TQ_SQL_INSERT_PAIR] = "INSERT OR REPLACE INTO metadata VALUES(?, ?, ?)",
    [TQ_SQL_INSERT_CHUNK] = "INSERT INTO chunks VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
    [TQ_SQL_INSERT_VECTORS] = "INSERT INTO vectors VALUES(?, ?, ?, ?)",
    [TQ_SQL_INSERT_TERMS] = "INSERT INTO terms(rowid, passage) VALUES(?, ?)",
    [TQ_SQL_DELETE_TERMS] = "INSERT INTO terms(terms, rowid, passage) VALUES('delete', ?, ?)",
    [TQ_SQL_DELETE_DOCUMENT] = "DELETE FROM documents WHERE id = ?",
    [TQ_SQL_TOUCH] = "UPDATE documents SET size = ?, mtime = ? WHERE id = ?",
    [TQ_SQL_CHUNKS_OF] = "SELECT ordinal, start, end, heading FROM chunks WHERE document = ?",
    [TQ_SQL_TEXT_OF] = "SELECT language, text FROM documents WHERE id = ?",
    [TQ_SQL_DOCUMENT] = "SELECT title, blocks, text FROM documents WHERE id = ?",
    [TQ_SQL_PAIRS_OF] = "SELECT key, value FROM metadata WHERE document = ?",
    [TQ_SQL_FREQUENCY] = "SELECT doc FROM temp.vocabulary WHERE term = ?",
    [TQ_SQL_PASSAGE] =
        "SELECT d.uri, d.title, d.language, c.heading, c.start, c.end, c.context_start, c.context_end, c.page,"
        " substr(d.text, c.start + 1, c.end - c.start),"
        " CASE WHEN c.context_end - c.context_start = c.end - c.start THEN NULL"
        " ELSE substr(d.text, c.context_start + 1, c.context_end - c.context_start) END"
        " FROM chunks c JOIN documents d ON d.id = c.document WHERE c.document = ? AND c.ordinal = ?",
};

toque_status tq_rag_statement(tq_rag *store, int which, sqlite3_stmt **s, toque_error *err) {
    if (!store->statements[which]) TQ_TRY(tq_sql_prepare(store->db, &store->statements[which], texts[which], err));
    *s = store->statements[which];
    sqlite3_reset(*s);
    return TOQUE_OK;
}

/* --- opening --------------------------------------------------------------------------------------------- */

static toque_status start(tq_rag **result, tq_ctx *ctx, const char *path, int flags, toque_error *err) {
    *result = NULL;
    tq_rag *store = TQ_NEW(&ctx->mem, tq_rag);
    if (!store) return TQ_NOMEM(err);
    store->ctx = ctx;
    store->mem = &ctx->mem;
    tq_arena_init(&store->arena, store->mem, 4096);
    store->path = tq_arena_strndup(&store->arena, path, strlen(path));
    toque_status status = store->path ? TOQUE_OK : TQ_NOMEM(err);
    if (status == TOQUE_OK && sqlite3_open_v2(path, &store->db, flags, NULL) != SQLITE_OK)
        status = store->db ? tq_sql_fail(store->db, err) : TQ_NOMEM(err);
    if (status == TOQUE_OK) {
        sqlite3_busy_timeout(store->db, BUSY_MS);
        sqlite3_extended_result_codes(store->db, 1);
        sqlite3_db_config(store->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        sqlite3_db_config(store->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
        status = tq_sql_exec(store->db,
                             "PRAGMA foreign_keys = ON; PRAGMA synchronous = NORMAL;"
                             "PRAGMA cache_size = -65536",
                             err);
    }
    if (status == TOQUE_OK) status = tq_bm25_register(store->db, &store->bm25, err);
    if (status == TOQUE_OK)
        *result = store;
    else
        tq_rag_close(store);
    return status;
}

toque_status tq_rag_open(tq_rag **result, tq_ctx *ctx, const char *path, bool write, toque_error *err) {
    *result = NULL;
    if (!tq_path_exists(path))
        return TQ_FAIL(err, ENOTFOUND, "there is no store %s: make one with toque rag add %s PATH...", path, path);
    if (tq_path_is_dir(path)) return TQ_FAIL(err, EINVAL, "%s is a folder; a store is a file", path);
    tq_rag *store;
    /* A reader of a WAL file writes to the file beside it; where it may not, the file is read as it stands. */
    bool may_write = access(path, W_OK) == 0;
    TQ_TRY(start(&store, ctx, path, write || may_write ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY, err));
    toque_status status = tq_schema_load(store, write, err);
    if (status == TOQUE_OK)
        *result = store;
    else
        tq_rag_close(store);
    return status;
}

/* An empty store in a file of its own, closed again. */
static toque_status make_file(tq_ctx *ctx, const char *path, const tq_rag_embedder *e, const tq_chunk_options *chunk,
                              toque_error *err) {
    tq_rag *store;
    unlink(path); /* of a process that had this number before */
    TQ_TRY(start(&store, ctx, path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, err));
    toque_status status = tq_schema_create(store, e, chunk, err);
    tq_rag_close(store);
    return status;
}

toque_status tq_rag_create(tq_rag **result, tq_ctx *ctx, const char *path, const tq_rag_embedder *e,
                           const tq_chunk_options *chunk, toque_error *err) {
    *result = NULL;
    if (tq_path_exists(path)) return TQ_FAIL(err, EINVAL, "%s is there already", path);
    if (chunk->budget < 16 || chunk->budget > e->max_tokens || chunk->overlap < 0 || chunk->overlap * 2 > chunk->budget)
        return TQ_FAIL(err, EINVAL,
                       "chunks of %d tokens that share %d are not possible: from 16 to %d (what the embedder "
                       "takes), and at most half of it shared",
                       chunk->budget, chunk->overlap, e->max_tokens);
    tq_buf made;
    tq_buf_init(&made, &ctx->mem, 1 << 16);
    tq_buf_printf(&made, "%s.made-%ld", path, (long)getpid());
    toque_status status = tq_buf_status(&made, "a name", err);
    if (status == TOQUE_OK) status = make_file(ctx, made.data, e, chunk, err);
    bool raced = false;
    if (status == TOQUE_OK && link(made.data, path) != 0) {
        raced = errno == EEXIST;
        /* Some file systems have no links. */
        if (!raced && rename(made.data, path) != 0)
            status = TQ_FAIL(err, EIO, "cannot make %s: %s", path, strerror(errno));
    }
    if (!made.failed) unlink(made.data);
    tq_buf_clear(&made);
    if (status == TOQUE_OK) status = tq_rag_open(result, ctx, path, true, err);
    if (status == TOQUE_OK && raced) status = tq_rag_check(*result, e, err);
    if (status == TOQUE_OK) return TOQUE_OK;
    tq_rag_close(*result);
    *result = NULL;
    return status;
}

void tq_rag_close(tq_rag *store) {
    if (!store) return;
    tq_mem *mem = store->mem;
    for (int i = 0; i < TQ_SQL_STATEMENTS; i++) sqlite3_finalize(store->statements[i]);
    for (int i = 0; i < store->n_analyzers; i++) tq_analyzer_free(store->analyzers[i].analyzer);
    sqlite3_close(store->db);
    tq_arena_clear(&store->arena);
    tq_free(mem, store);
}

toque_status tq_rag_check(const tq_rag *store, const tq_rag_embedder *e, toque_error *err) {
    const tq_rag_facts *f = &store->facts;
    const char *what = NULL;
    if (strcmp(f->hash, e->hash) != 0)
        what = "weights or vocabulary";
    else if (f->dim != e->dim)
        what = "dimension";
    else if (strcmp(f->pooling, e->pooling) != 0)
        what = "pooling";
    else if (strcmp(f->query_prefix, e->query_prefix) != 0 || strcmp(f->passage_prefix, e->passage_prefix) != 0)
        what = "prefixes";
    if (!what) return TOQUE_OK;
    return TQ_FAIL(err, EINVAL,
                   "%s was embedded with %s, and %s has other %s: embed it anew with toque rag add %s --reembed "
                   "--embedder %s",
                   store->path, f->embedder, e->name, what, store->path, e->name);
}

toque_status tq_rag_analyzer(tq_rag *store, const char *language, tq_analyzer **a, toque_error *err) {
    enum { MAX = sizeof store->analyzers / sizeof *store->analyzers };
    for (int i = 0; i < store->n_analyzers; i++)
        if (strcmp(store->analyzers[i].language, language) == 0) {
            *a = store->analyzers[i].analyzer;
            return TOQUE_OK;
        }
    if (store->n_analyzers == MAX) tq_analyzer_free(store->analyzers[--store->n_analyzers].analyzer);
    TQ_TRY(tq_analyzer_new(a, store->mem, language, err));
    snprintf(store->analyzers[store->n_analyzers].language, sizeof store->analyzers->language, "%s", language);
    store->analyzers[store->n_analyzers++].analyzer = *a;
    return TOQUE_OK;
}

toque_status tq_rag_number(tq_rag *store, const char *sql, int64_t *n, toque_error *err) {
    sqlite3_stmt *s;
    bool row;
    TQ_TRY(tq_sql_prepare(store->db, &s, sql, err));
    toque_status status = tq_sql_step(s, &row, err);
    if (status == TOQUE_OK) *n = row ? sqlite3_column_int64(s, 0) : 0;
    sqlite3_finalize(s);
    return status;
}
