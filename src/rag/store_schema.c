/* The store's layout and its versions. PRAGMA user_version counts layouts; a step of `migrations` leads from one to the
 * next. Facts stand in the table `facts` as text.
 *
 *   documents   one a source: text is what was extracted, blocks its structure, so that chunks can be made anew without
 *               the source: a block is kind | level << 2 (a byte), page, bytes of text before it since the last block,
 *               bytes of text, the last three as LEB128
 *   metadata    key = value of a document
 *   chunks      ranges of bytes of the text; outside the table a chunk's id is document << 20 | ordinal
 *   vectors     a row a document: f32 scales, int8 values, f16 values of its chunks in order
 *   terms       FTS5 without content: the inverted index over the chunks' passages as terms.h writes them */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "rag/store.h"

enum { APPLICATION_ID = 0x74717267 }; /* "tqrg" */

static const char *const migrations[TQ_RAG_VERSION] = {
    "CREATE TABLE facts(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE documents(id INTEGER PRIMARY KEY AUTOINCREMENT, uri TEXT NOT NULL UNIQUE, root TEXT NOT NULL,"
    " hash TEXT NOT NULL, size INTEGER NOT NULL, mtime INTEGER NOT NULL, format TEXT NOT NULL, title TEXT NOT NULL,"
    " language TEXT NOT NULL, chunks INTEGER NOT NULL, blocks BLOB NOT NULL, text BLOB NOT NULL);"
    "CREATE INDEX documents_root ON documents(root);"
    "CREATE TABLE metadata(document INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE, key TEXT NOT NULL,"
    " value TEXT NOT NULL, PRIMARY KEY(document, key)) WITHOUT ROWID;"
    "CREATE INDEX metadata_key ON metadata(key, value);"
    "CREATE TABLE chunks(document INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE, ordinal INTEGER NOT NULL,"
    " start INTEGER NOT NULL, end INTEGER NOT NULL, context_start INTEGER NOT NULL, context_end INTEGER NOT NULL,"
    " page INTEGER NOT NULL, heading TEXT NOT NULL, PRIMARY KEY(document, ordinal)) WITHOUT ROWID;"
    "CREATE TABLE vectors(document INTEGER PRIMARY KEY REFERENCES documents ON DELETE CASCADE, scales BLOB NOT NULL,"
    " bytes BLOB NOT NULL, halves BLOB NOT NULL);"
    "CREATE VIRTUAL TABLE terms USING fts5(passage, content='', tokenize='ascii');"};

/* X(key, field, conversion of text and number) of the facts that are always there */
#define TEXT_FACTS(X)                                                                                                  \
    X(embedder)                                                                                                        \
    X(hash)                                                                                                            \
    X(pooling)                                                                                                         \
    X(query_prefix)                                                                                                    \
    X(passage_prefix)

static toque_status put_fact(tq_rag *store, const char *key, const char *value, toque_error *err) {
    sqlite3_stmt *s;
    TQ_TRY(tq_sql_prepare(store->db, &s, "INSERT OR REPLACE INTO facts VALUES(?, ?)", err));
    tq_sql_text(s, 1, key);
    tq_sql_text(s, 2, value);
    toque_status status = tq_sql_run(s, err);
    sqlite3_finalize(s);
    return status;
}

static toque_status put_number(tq_rag *store, const char *key, double value, toque_error *err) {
    char text[40];
    snprintf(text, sizeof text, "%.17g", value);
    return put_fact(store, key, text, err);
}

static toque_status migrate(tq_rag *store, int from, toque_error *err) {
    char sql[60];
    for (int v = from; v < TQ_RAG_VERSION; v++) TQ_TRY(tq_sql_exec(store->db, migrations[v], err));
    snprintf(sql, sizeof sql, "PRAGMA user_version = %d", TQ_RAG_VERSION);
    return tq_sql_exec(store->db, sql, err);
}

toque_status tq_schema_create(tq_rag *store, const tq_rag_embedder *e, const tq_chunk_options *chunk,
                              toque_error *err) {
    char sql[60];
    snprintf(sql, sizeof sql, "PRAGMA application_id = %d", APPLICATION_ID);
    TQ_TRY(tq_sql_exec(store->db, "PRAGMA journal_mode = WAL; BEGIN IMMEDIATE", err));
    TQ_TRY(tq_sql_exec(store->db, sql, err));
    TQ_TRY(migrate(store, 0, err));
    TQ_TRY(put_fact(store, "embedder", e->name, err));
    TQ_TRY(put_fact(store, "hash", e->hash, err));
    TQ_TRY(put_fact(store, "pooling", e->pooling, err));
    TQ_TRY(put_fact(store, "query_prefix", e->query_prefix, err));
    TQ_TRY(put_fact(store, "passage_prefix", e->passage_prefix, err));
    TQ_TRY(put_number(store, "dim", e->dim, err));
    TQ_TRY(put_number(store, "max_tokens", e->max_tokens, err));
    TQ_TRY(put_number(store, "chunker", TQ_CHUNKER_VERSION, err));
    TQ_TRY(put_number(store, "terms", TQ_TERMS_VERSION, err));
    TQ_TRY(put_number(store, "chunk_mode", (double)chunk->mode, err));
    TQ_TRY(put_number(store, "chunk_budget", chunk->budget, err));
    TQ_TRY(put_number(store, "chunk_overlap", chunk->overlap, err));
    return tq_sql_exec(store->db, "COMMIT", err);
}

toque_status tq_rag_remember_threshold(tq_rag *store, double threshold, double auc, int64_t pairs, toque_error *err) {
    TQ_TRY(tq_sql_exec(store->db, "BEGIN IMMEDIATE", err));
    toque_status status;
    TQ_GO(put_number(store, "threshold", threshold, err));
    TQ_GO(put_number(store, "threshold_auc", auc, err));
    TQ_GO(put_number(store, "threshold_pairs", (double)pairs, err));
    TQ_GO(tq_sql_exec(store->db, "COMMIT", err));
    store->facts.calibrated = true;
    store->facts.threshold = threshold;
    store->facts.auc = auc;
    store->facts.pairs = pairs;
    return TOQUE_OK;
done:
    sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

toque_status tq_rag_remember_writing(tq_rag *store, const char *writer, double quote, double write, double p,
                                     int64_t questions, toque_error *err) {
    char *id = tq_arena_strndup(&store->arena, writer, strlen(writer));
    if (!id) return TQ_NOMEM(err);
    TQ_TRY(tq_sql_exec(store->db, "BEGIN IMMEDIATE", err));
    toque_status status;
    TQ_GO(put_fact(store, "writer", writer, err));
    TQ_GO(put_number(store, "quote_score", quote, err));
    TQ_GO(put_number(store, "write_score", write, err));
    TQ_GO(put_number(store, "write_p", p, err));
    TQ_GO(put_number(store, "write_questions", (double)questions, err));
    TQ_GO(tq_sql_exec(store->db, "COMMIT", err));
    tq_rag_facts *f = &store->facts;
    f->writer = id;
    f->quote_score = quote;
    f->write_score = write;
    f->write_p = p;
    f->write_questions = questions;
    return TOQUE_OK;
done:
    sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

toque_status tq_rag_forget_threshold(tq_rag *store, toque_error *err) {
    store->facts.calibrated = false;
    return tq_sql_exec(store->db, "DELETE FROM facts WHERE key GLOB 'threshold*'", err);
}

static toque_status damaged(const tq_rag *store, const char *what, toque_error *err) {
    return TQ_FAIL(err, EFORMAT, "%s is damaged (%s): put back a copy of it, or remove it and add its documents anew",
                   store->path, what);
}

static toque_status read_facts(tq_rag *store, toque_error *err) {
    enum {
        DIM,
        MAX_TOKENS,
        CHUNKER,
        TERMS,
        MODE,
        BUDGET,
        OVERLAP,
        THRESHOLD,
        AUC,
        PAIRS,
        QUOTE_SCORE,
        WRITE_SCORE,
        WRITE_P,
        WRITE_QUESTIONS,
        NUMBERS
    };
    static const char *const keys[NUMBERS] = {"dim",           "max_tokens",      "chunker",       "terms",
                                              "chunk_mode",    "chunk_budget",    "chunk_overlap", "threshold",
                                              "threshold_auc", "threshold_pairs", "quote_score",   "write_score",
                                              "write_p",       "write_questions"};
    double number[NUMBERS];
    unsigned given = 0;
    tq_rag_facts *f = &store->facts;
    sqlite3_stmt *s;
    TQ_TRY(tq_sql_prepare(store->db, &s, "SELECT key, value, CAST(value AS REAL) FROM facts", err));
    toque_status status;
    for (bool row;;) {
        TQ_GO(tq_sql_step(s, &row, err));
        if (!row) break;
        const char *key = tq_sql_column(s, 0), *value = tq_sql_column(s, 1);
        for (int i = 0; i < NUMBERS; i++)
            if (strcmp(key, keys[i]) == 0) number[i] = sqlite3_column_double(s, 2), given |= 1u << i;
#define X(field)                                                                                                       \
    if (strcmp(key, #field) == 0 && !(f->field = tq_arena_strndup(&store->arena, value, strlen(value)))) {             \
        status = TQ_NOMEM(err);                                                                                        \
        goto done;                                                                                                     \
    }
        TEXT_FACTS(X)
        X(writer)
#undef X
    }
    unsigned writing = 15u << QUOTE_SCORE;
    if (!f->writer || (given & writing) != writing) f->writer = "";
    unsigned needed = (1u << THRESHOLD) - 1;
#define X(field) || !f->field
    if ((given & needed) != needed TEXT_FACTS(X)) status = damaged(store, "facts are missing", err);
#undef X
    if (status != TOQUE_OK) goto done;
    for (int i = 0; i < THRESHOLD && status == TOQUE_OK; i++)
        if (!(number[i] >= 0 && number[i] <= 1e8)) status = damaged(store, keys[i], err);
    if (status != TOQUE_OK) goto done;
    if (number[CHUNKER] > TQ_CHUNKER_VERSION || number[TERMS] > TQ_TERMS_VERSION) {
        status =
            TQ_FAIL(err, EUNSUPPORTED,
                    "%s was made by a newer toque: use that one, or add its documents to a new store", store->path);
        goto done;
    }
    f->dim = (int64_t)number[DIM];
    f->max_tokens = (int64_t)number[MAX_TOKENS];
    f->chunk = (tq_chunk_options){(tq_chunk_mode)(int)number[MODE], (int)number[BUDGET], (int)number[OVERLAP]};
    if (f->chunk.mode > TQ_CHUNK_PARENT || f->dim > 1 << 16) status = damaged(store, "facts out of range", err);
    if (*f->writer) {
        f->quote_score = number[QUOTE_SCORE];
        f->write_score = number[WRITE_SCORE];
        f->write_p = number[WRITE_P];
        f->write_questions = (int64_t)number[WRITE_QUESTIONS];
    }
    f->calibrated = given >> THRESHOLD & 1 && given >> AUC & 1 && given >> PAIRS & 1;
    if (f->calibrated) {
        f->threshold = number[THRESHOLD];
        f->auc = number[AUC];
        f->pairs = (int64_t)number[PAIRS];
    }
done:
    sqlite3_finalize(s);
    return status;
}

toque_status tq_schema_load(tq_rag *store, bool write, toque_error *err) {
    int64_t id, version;
    TQ_TRY(tq_rag_number(store, "PRAGMA application_id", &id, err));
    TQ_TRY(tq_rag_number(store, "PRAGMA user_version", &version, err));
    if (id != APPLICATION_ID)
        return TQ_FAIL(err, EFORMAT, "%s is an SQLite file, but no store: name another file", store->path);
    if (version > TQ_RAG_VERSION)
        return TQ_FAIL(err, EUNSUPPORTED,
                       "%s has layout %" PRId64 ", made by a newer toque; this one knows up to %d: use the newer one",
                       store->path, version, TQ_RAG_VERSION);
    if (version < 1) return damaged(store, "no layout", err);
    if (version < TQ_RAG_VERSION) {
        if (!write)
            return TQ_FAIL(err, EUNSUPPORTED,
                           "%s has the older layout %" PRId64 ": bring it up to date with "
                           "toque rag add %s",
                           store->path, version, store->path);
        TQ_TRY(tq_sql_exec(store->db, "BEGIN IMMEDIATE", err));
        TQ_TRY(migrate(store, (int)version, err));
        TQ_TRY(tq_sql_exec(store->db, "COMMIT", err));
    }
    return read_facts(store, err);
}
