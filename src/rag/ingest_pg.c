/* Documents from the rows of a SELECT over a PostgreSQL database. The transaction may do nothing but read; rows come
 * some hundred at a time. See ingest.h. */
#include <string.h>

#include "rag/ingest.h"
#include "rag/pg.h"

enum { MOST_COLUMNS = 256 };

static toque_status add_rows(tq_ingester *g, tq_pg *pg, PGresult *r, const char *key, int *column) {
    const char *names[MOST_COLUMNS], *values[MOST_COLUMNS];
    int n = PQnfields(r);
    if (n > MOST_COLUMNS) return TQ_FAIL(g->err, ELIMIT, "the SELECT has more than %d columns", MOST_COLUMNS);
    for (int i = 0; i < n; i++) names[i] = PQfname(r, i);
    if (*column < 0) TQ_TRY(tq_sql_key(names, n, key, column, g->err));
    for (int row = 0, rows = PQntuples(r); row < rows; row++) {
        for (int i = 0; i < n; i++) values[i] = PQgetisnull(r, row, i) ? NULL : PQgetvalue(r, row, i);
        TQ_TRY(tq_ingester_row(g, &(tq_sql_row){names, values, n}, *column, pg->name, "postgresql"));
    }
    return TOQUE_OK;
}

static toque_status add_all(tq_ingester *g, tq_pg *pg, const char *sql, const char *key) {
    tq_buf declare;
    int column = -1;
    tq_buf_init(&declare, pg->mem, SIZE_MAX / 4);
    size_t n = strlen(sql); /* one statement: no semicolon behind it */
    while (n && strchr(" \t\r\n;", sql[n - 1])) n--;
    tq_buf_puts(&declare, "DECLARE toque_rows NO SCROLL CURSOR FOR ");
    tq_buf_put(&declare, sql, n);
    toque_status status = tq_buf_status(&declare, "a SELECT", g->err);
    if (status == TOQUE_OK) status = tq_pg_exec(pg, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", g->err);
    if (status == TOQUE_OK) status = tq_pg_query(pg, declare.data, NULL, 0, false, NULL, g->err);
    for (bool more = true; status == TOQUE_OK && more;) {
        PGresult *r;
        status = tq_pg_query(pg, "FETCH 500 FROM toque_rows", NULL, 0, false, &r, g->err);
        if (status != TOQUE_OK) break;
        more = PQntuples(r) > 0;
        status = add_rows(g, pg, r, key, &column);
        PQclear(r);
    }
    tq_buf_clear(&declare);
    return status;
}

toque_status tq_ingest_pg(const tq_ingest *in, const char *url, const char *sql, const char *key,
                          tq_ingest_counts *counts, toque_error *err) {
    tq_pg *pg;
    tq_ingester g;
    TQ_TRY(tq_pg_connect(&pg, in->store->mem, url, err));
    toque_status status = tq_ingester_init(&g, in, pg->name, counts, err);
    if (status == TOQUE_OK) status = tq_ingester_finish(&g, add_all(&g, pg, sql, key));
    tq_pg_close(pg);
    return status;
}
