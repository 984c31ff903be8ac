/* SQLite's errors as ours. See sql.h. */
#include "rag/sql.h"

toque_status tq_sql_fail(sqlite3 *db, toque_error *err) {
    const char *path = sqlite3_db_filename(db, "main"), *message = sqlite3_errmsg(db);
    if (!path || !*path) path = "the store";
    switch (sqlite3_errcode(db) & 0xff) {
    case SQLITE_NOMEM: return TQ_NOMEM(err);
    case SQLITE_NOTADB:
        return TQ_FAIL(err, EFORMAT, "%s is no store: it is not an SQLite file; name another file", path);
    case SQLITE_CORRUPT:
        return TQ_FAIL(err, EFORMAT,
                       "%s is damaged (%s): put back a copy of it, or remove it and add its documents anew", path,
                       message);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return TQ_FAIL(err, EBUSY, "%s is being written by another process: try again when it is done", path);
    case SQLITE_FULL: return TQ_FAIL(err, EIO, "%s: the disk is full; what was added before is kept", path);
    case SQLITE_READONLY: return TQ_FAIL(err, EIO, "%s cannot be written: check its permissions and folder", path);
    case SQLITE_CANTOPEN: return TQ_FAIL(err, EIO, "%s cannot be opened: check that its folder exists", path);
    case SQLITE_IOERR: return TQ_FAIL(err, EIO, "%s: reading or writing failed (%s)", path, message);
    default: return TQ_FAIL(err, EFORMAT, "%s: %s", path, message);
    }
}

toque_status tq_sql_exec(sqlite3 *db, const char *sql, toque_error *err) {
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? TOQUE_OK : tq_sql_fail(db, err);
}

toque_status tq_sql_prepare(sqlite3 *db, sqlite3_stmt **stmt, const char *sql, toque_error *err) {
    *stmt = NULL;
    return sqlite3_prepare_v2(db, sql, -1, stmt, NULL) == SQLITE_OK ? TOQUE_OK : tq_sql_fail(db, err);
}

toque_status tq_sql_step(sqlite3_stmt *stmt, bool *row, toque_error *err) {
    int r = sqlite3_step(stmt);
    *row = r == SQLITE_ROW;
    if (r == SQLITE_ROW) return TOQUE_OK;
    toque_status status = r == SQLITE_DONE ? TOQUE_OK : tq_sql_fail(sqlite3_db_handle(stmt), err);
    sqlite3_reset(stmt);
    return status;
}

toque_status tq_sql_run(sqlite3_stmt *stmt, toque_error *err) {
    bool row;
    toque_status status = tq_sql_step(stmt, &row, err);
    sqlite3_reset(stmt);
    sqlite3_clear_bindings(stmt);
    return status;
}
