/* SQLite with the project's errors: what went wrong is told with the file and what to do about it. */
#ifndef TQ_RAG_SQL_H
#define TQ_RAG_SQL_H

#include <sqlite3.h>

#include "base/error.h"

/* The error of db's last call, as a sentence. */
toque_status tq_sql_fail(sqlite3 *db, toque_error *err);
toque_status tq_sql_exec(sqlite3 *db, const char *sql, toque_error *err) TQ_MUST;
toque_status tq_sql_prepare(sqlite3 *db, sqlite3_stmt **stmt, const char *sql, toque_error *err) TQ_MUST;
/* Steps; *row tells whether there is one. Without one the statement is reset. */
toque_status tq_sql_step(sqlite3_stmt *stmt, bool *row, toque_error *err) TQ_MUST;
/* Runs a statement that gives no rows, then resets it and its bindings. */
toque_status tq_sql_run(sqlite3_stmt *stmt, toque_error *err) TQ_MUST;

/* Texts and blobs that outlive the statement's next reset. NULL gives an SQL NULL. */
static inline void tq_sql_text(sqlite3_stmt *s, int i, const char *text) {
    sqlite3_bind_text(s, i, text, -1, SQLITE_STATIC);
}
static inline const char *tq_sql_column(sqlite3_stmt *s, int i) {
    const char *text = (const char *)sqlite3_column_text(s, i);
    return text ? text : "";
}

#endif
