/* The store's layout and its versions. PRAGMA user_version counts layouts; a step of `migrations` leads from one to the
 * next. Facts stand in the table `facts` as text (store_facts.c).
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

#include "rag/store_impl.h"

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
    TQ_TRY(tq_facts_write(store, e, chunk, err));
    return tq_sql_exec(store->db, "COMMIT", err);
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
    if (version < 1) return tq_store_damaged(store, "no layout", err);
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
    return tq_facts_read(store, err);
}
