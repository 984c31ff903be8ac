/* What the files of the store share: its prepared statements. */
#ifndef TQ_RAG_STORE_IMPL_H
#define TQ_RAG_STORE_IMPL_H

#include "rag/store.h"

/* Statements that are prepared once. */
enum {
    TQ_SQL_FIND,
    TQ_SQL_INSERT_DOCUMENT,
    TQ_SQL_INSERT_PAIR,
    TQ_SQL_INSERT_CHUNK,
    TQ_SQL_INSERT_VECTORS,
    TQ_SQL_INSERT_TERMS,
    TQ_SQL_DELETE_TERMS,
    TQ_SQL_DELETE_DOCUMENT,
    TQ_SQL_TOUCH,
    TQ_SQL_CHUNKS_OF,
    TQ_SQL_TEXT_OF,
    TQ_SQL_PASSAGE,
    TQ_SQL_DOCUMENT,
    TQ_SQL_PAIRS_OF,
    TQ_SQL_FREQUENCY,
    TQ_SQL_STATEMENTS
};

/* The statement, prepared at its first use and reset; the store's. */
toque_status tq_rag_statement(tq_rag *store, int which, sqlite3_stmt **s, toque_error *err) TQ_MUST;

#endif
