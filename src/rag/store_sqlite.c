/* The store in an SQLite file: its connection, its statements, and its place taken by another. (store_schema.c: layout;
 * store_write.c: documents in and out) */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "rag/store_impl.h"

enum { BUSY_MS = 20000, MAX_STATEMENTS = sizeof((tq_rag *)0)->statements / sizeof(sqlite3_stmt *) };

/* --- statements ------------------------------------------------------------------------------------------ */

toque_status tq_sqlite_statement(tq_rag *store, const char *sql, sqlite3_stmt **s, toque_error *err) {
    for (int i = 0; i < store->n_statements; i++) {
        *s = store->statements[i];
        if (sqlite3_stmt_busy(*s) || strcmp(sqlite3_sql(*s), sql) != 0) continue;
        sqlite3_reset(*s);
        return TOQUE_OK;
    }
    int at = store->n_statements;
    if (at == MAX_STATEMENTS) /* one that does not run makes room */
        while (--at > 0 && sqlite3_stmt_busy(store->statements[at])) {}
    sqlite3_stmt *made;
    TQ_TRY(tq_sql_prepare(store->db, &made, sql, err));
    if (at < store->n_statements)
        sqlite3_finalize(store->statements[at]);
    else
        store->n_statements++;
    *s = store->statements[at] = made;
    return TOQUE_OK;
}

static toque_status run(tq_rag *store, const char *sql, const char *const *params, int n, tq_row_fn *visit, void *arg,
                        toque_error *err) {
    enum { MOST = 12 };
    const char *text[MOST];
    size_t len[MOST];
    sqlite3_stmt *s;
    bool is_there;
    TQ_TRY(tq_sqlite_statement(store, sql, &s, err));
    for (int i = 0; i < n; i++) tq_sql_text(s, i + 1, params[i]);
    toque_status status = tq_sql_step(s, &is_there, err);
    while (status == TOQUE_OK && is_there) {
        const tq_row row = {text, len, sqlite3_column_count(s) < MOST ? sqlite3_column_count(s) : MOST};
        for (int i = 0; i < row.n; i++) {
            text[i] = tq_sql_column(s, i);
            len[i] = (size_t)sqlite3_column_bytes(s, i);
        }
        if (visit) status = visit(arg, &row, err);
        if (status == TOQUE_OK) status = tq_sql_step(s, &is_there, err);
    }
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
    return status;
}

static toque_status frequency(tq_rag *store, const char *term, size_t n, int64_t *chunks, toque_error *err) {
    static const char sql[] = "SELECT doc FROM temp.vocabulary WHERE term = ?";
    sqlite3_stmt *s;
    bool row;
    if (tq_sqlite_statement(store, sql, &s, NULL) != TOQUE_OK) {
        TQ_TRY(tq_sql_exec(
            store->db, "CREATE VIRTUAL TABLE IF NOT EXISTS temp.vocabulary USING fts5vocab(main, terms, row)", err));
        TQ_TRY(tq_sqlite_statement(store, sql, &s, err));
    }
    sqlite3_bind_text(s, 1, term, (int)n, SQLITE_STATIC);
    TQ_TRY(tq_sql_step(s, &row, err));
    *chunks = row ? sqlite3_column_int64(s, 0) : 0;
    sqlite3_reset(s);
    return TOQUE_OK;
}

static toque_status halves(tq_rag *store, const tq_scored *chunks, size_t n, uint16_t *out, toque_error *err) {
    sqlite3_blob *blob = NULL;
    int bytes = (int)(store->facts.dim * 2);
    toque_status status = TOQUE_OK;
    for (size_t i = 0; i < n && status == TOQUE_OK; i++, out += store->facts.dim) {
        int64_t row = tq_chunk_document(chunks[i].chunk), at = tq_chunk_ordinal(chunks[i].chunk) * bytes;
        int r = blob ? sqlite3_blob_reopen(blob, row)
                     : sqlite3_blob_open(store->db, "main", "vectors", "halves", row, 0, &blob);
        if (r == SQLITE_OK && at + bytes > sqlite3_blob_bytes(blob)) r = SQLITE_CORRUPT;
        if (r == SQLITE_OK) r = sqlite3_blob_read(blob, out, bytes, (int)at);
        if (r != SQLITE_OK)
            status = TQ_FAIL(err, EFORMAT, "%s is damaged (vectors of document %lld), or was changed while it was read",
                             store->path, (long long)row);
    }
    sqlite3_blob_close(blob);
    return status;
}

static toque_status words(tq_rag *store, const char *terms, tq_top *top, toque_error *err) {
    return tq_bm25_search(store->db, &store->bm25, store->mem, terms, top, err);
}

/* --- its place ------------------------------------------------------------------------------------------- */

static void close_store(tq_rag *store) {
    if (!store) return;
    for (int i = 0; i < store->n_statements; i++) sqlite3_finalize(store->statements[i]);
    sqlite3_close(store->db);
    tq_store_free(store);
}

/* PATH.new */
static toque_status beside(const tq_rag *old, tq_buf *name, toque_error *err) {
    tq_buf_init(name, old->mem, 1 << 16);
    tq_buf_printf(name, "%s.new", old->path);
    return tq_buf_status(name, "a name", err);
}

static toque_status create_beside(tq_rag **fresh, tq_rag *old, const tq_rag_embedder *e, const tq_chunk_options *chunk,
                                  toque_error *err) {
    tq_buf name;
    *fresh = NULL;
    toque_status status = beside(old, &name, err);
    /* Nobody may write the old one meanwhile. */
    if (status == TOQUE_OK) status = tq_sql_exec(old->db, "BEGIN IMMEDIATE", err);
    if (status == TOQUE_OK) {
        unlink(name.data);
        status = tq_rag_create(fresh, old->ctx, name.data, e, chunk, err);
    }
    tq_buf_clear(&name);
    return status;
}

static toque_status replace(tq_rag *old, tq_rag *fresh, toque_error *err) {
    tq_buf from, to;
    tq_buf_init(&from, old->mem, 1 << 16);
    tq_buf_init(&to, old->mem, 1 << 16);
    tq_buf_puts(&from, fresh->path);
    tq_buf_puts(&to, old->path);
    toque_status status = from.failed || to.failed ? TQ_NOMEM(err) : TOQUE_OK;
    if (status == TOQUE_OK) status = tq_sql_exec(fresh->db, "PRAGMA wal_checkpoint(TRUNCATE)", err);
    if (status != TOQUE_OK) {
        tq_rag_give_up(old, fresh);
    } else {
        close_store(fresh);
        close_store(old); /* ends its transaction and takes its log away */
        if (rename(from.data, to.data) != 0) {
            status = TQ_FAIL(err, EIO, "cannot rename %s: %s", from.data, strerror(errno));
            unlink(from.data);
        }
    }
    tq_buf_clear(&from);
    tq_buf_clear(&to);
    return status;
}

static void give_up(tq_rag *old, tq_rag *fresh) {
    tq_mem *mem = old->mem;
    char *name = fresh ? tq_strdup(mem, fresh->path) : NULL;
    close_store(old);
    close_store(fresh);
    if (name) unlink(name);
    tq_free(mem, name);
}

static const tq_store_ops sqlite_ops = {
    .close = close_store,
    .run = run,
    .put = tq_sqlite_put,
    .remove = tq_sqlite_remove,
    .frequency = frequency,
    .halves = halves,
    .words = words,
    .create_beside = create_beside,
    .replace = replace,
    .give_up = give_up,
    .begin = "BEGIN IMMEDIATE",
    .glob = "GLOB",
    .is_number = "value GLOB '*[0-9]*' AND value NOT GLOB '*[^-+.0-9eE]*'",
    .collate = "",
};

/* --- opening --------------------------------------------------------------------------------------------- */

static toque_status start(tq_rag **result, tq_ctx *ctx, const char *path, int flags, toque_error *err) {
    *result = NULL;
    tq_rag *store;
    TQ_TRY(tq_store_new(&store, ctx, path, &sqlite_ops, err));
    toque_status status = TOQUE_OK;
    if (sqlite3_open_v2(path, &store->db, flags, NULL) != SQLITE_OK)
        status = store->db ? tq_sql_fail(store->db, err) : TQ_NOMEM(err);
    if (status == TOQUE_OK) {
        sqlite3_busy_timeout(store->db, BUSY_MS);
        sqlite3_extended_result_codes(store->db, 1);
        sqlite3_db_config(store->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        sqlite3_db_config(store->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
        status = tq_sql_exec(store->db,
                             "PRAGMA foreign_keys = ON; PRAGMA synchronous = NORMAL;"
                             "PRAGMA cache_size = -65536; PRAGMA mmap_size = 2147418112",
                             err);
    }
    if (status == TOQUE_OK) status = tq_bm25_register(store->db, &store->bm25, err);
    if (status == TOQUE_OK)
        *result = store;
    else
        close_store(store);
    return status;
}

toque_status tq_sqlite_open(tq_rag **result, tq_ctx *ctx, const char *path, bool write, toque_error *err) {
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
        close_store(store);
    return status;
}

/* An empty store in a file of its own, closed again. */
static toque_status make_file(tq_ctx *ctx, const char *path, const tq_rag_embedder *e, const tq_chunk_options *chunk,
                              toque_error *err) {
    tq_rag *store;
    unlink(path); /* of a process that had this number before */
    TQ_TRY(start(&store, ctx, path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, err));
    toque_status status = tq_schema_create(store, e, chunk, err);
    close_store(store);
    return status;
}

toque_status tq_sqlite_create(tq_rag **result, tq_ctx *ctx, const char *path, const tq_rag_embedder *e,
                              const tq_chunk_options *chunk, toque_error *err) {
    *result = NULL;
    if (tq_path_exists(path)) return TQ_FAIL(err, EINVAL, "%s is there already", path);
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
    if (status == TOQUE_OK) status = tq_sqlite_open(result, ctx, path, true, err);
    if (status == TOQUE_OK && raced) status = tq_rag_check(*result, e, err);
    if (status == TOQUE_OK) return TOQUE_OK;
    close_store(*result);
    *result = NULL;
    return status;
}
