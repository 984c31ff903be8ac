/* PostgreSQL through libpq, with the project's errors: a connection by URL, statements, rows. Passwords never stand in
 * messages. Texts that go in are UTF-8 without NUL: what is not becomes U+FFFD. (Only in builds with libpq.) */
#ifndef TQ_RAG_PG_H
#define TQ_RAG_PG_H

#include <libpq-fe.h>

#include "base/buf.h"

typedef struct tq_pg {
    tq_mem *mem;
    PGconn *conn;
    char *url, *name; /* name: the URL without its password */
    char schema[24];
} tq_pg;

toque_status tq_pg_connect(tq_pg **pg, tq_mem *mem, const char *url, toque_error *err) TQ_MUST;
void tq_pg_close(tq_pg *pg);

/* A parameter: a text with a NUL behind, or bytes in the server's binary form (of a text, its bytes). */
typedef struct tq_pg_param {
    const char *data;
    size_t len;
    bool binary;
} tq_pg_param;
/* Runs a statement of at most 16 parameters. result may be NULL; else PQclear it. */
toque_status tq_pg_query(tq_pg *pg, const char *sql, const tq_pg_param *params, int n, bool binary, PGresult **result,
                         toque_error *err) TQ_MUST;
/* Statements without parameters, one or several. */
toque_status tq_pg_exec(tq_pg *pg, const char *sql, toque_error *err) TQ_MUST;
/* The text, or a copy in buf in which what is no UTF-8 is replaced; *n its length. */
const char *tq_pg_clean(tq_buf *buf, const char *text, size_t *n);

/* ---- COPY in binary ---------------------------------------------------------------------------------------------- */
void tq_pg_put16(tq_buf *out, uint16_t x);
void tq_pg_put32(tq_buf *out, uint32_t x);
void tq_pg_put64(tq_buf *out, uint64_t x);
/* Fields of 4 and 8 bytes, and of any. */
void tq_pg_int4(tq_buf *out, int32_t x);
void tq_pg_int8(tq_buf *out, int64_t x);
void tq_pg_bytes(tq_buf *out, const void *data, size_t n);
int64_t tq_pg_get64(const char *p);
int32_t tq_pg_get32(const char *p);
/* rows: each a count of fields (tq_pg_put16) and as many fields. */
toque_status tq_pg_copy(tq_pg *pg, const char *into, const tq_buf *rows, toque_error *err) TQ_MUST;

#endif
