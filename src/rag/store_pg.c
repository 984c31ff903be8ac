/* The store in a PostgreSQL database with pgvector: its schema, its opening, and its place taken by another. It is the
 * schema "toque" of the database, with the tables of store_schema.c but for
 *   documents   terms: how many its chunks have
 *   chunks      terms: how many it has
 *   vectors     a row a chunk: a halfvec; an HNSW index once there are many (store_pg_search.c)
 *   postings    a row a term and document: in how many chunks it is, and for each of them its ordinal less the one
 *               before, how often it is there and the chunk's number of terms, all as LEB128 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "rag/store_pg_impl.h"

enum { LAYOUT = 1 };

static const char schema_sql[] =
    "CREATE TABLE facts(key text PRIMARY KEY, value text NOT NULL);"
    "CREATE TABLE documents(id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, uri text NOT NULL UNIQUE,"
    " root text NOT NULL, hash text NOT NULL, size bigint NOT NULL, mtime bigint NOT NULL, format text NOT NULL,"
    " title text NOT NULL, language text NOT NULL, chunks bigint NOT NULL, terms bigint NOT NULL,"
    " blocks bytea NOT NULL, text bytea NOT NULL);"
    "CREATE INDEX documents_root ON documents(root);"
    "CREATE TABLE metadata(document bigint NOT NULL REFERENCES documents ON DELETE CASCADE, key text NOT NULL,"
    " value text NOT NULL, PRIMARY KEY(document, key));"
    "CREATE INDEX metadata_key ON metadata(key);"
    "CREATE TABLE chunks(document bigint NOT NULL REFERENCES documents ON DELETE CASCADE, ordinal int NOT NULL,"
    " start int NOT NULL, \"end\" int NOT NULL, context_start int NOT NULL, context_end int NOT NULL,"
    " page int NOT NULL, heading text NOT NULL, terms int NOT NULL, PRIMARY KEY(document, ordinal));"
    "CREATE TABLE postings(term text NOT NULL, document bigint NOT NULL, chunks int NOT NULL, list bytea NOT NULL,"
    " PRIMARY KEY(term, document));";

/* --- running --------------------------------------------------------------------------------------------- */

static int nibble(char c) {
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

static toque_status run(tq_rag *store, const char *sql, const char *const *params, int n, tq_row_fn *visit, void *arg,
                        toque_error *err) {
    enum { MOST = 12, BYTEA = 17 };
    tq_pg_param list[MOST];
    const char *text[MOST];
    size_t len[MOST];
    PGresult *r;
    for (int i = 0; i < n; i++) list[i] = (tq_pg_param){params[i], strlen(params[i]), false};
    TQ_TRY(tq_pg_query(store->pg, sql, list, n, false, &r, err));
    toque_status status = TOQUE_OK;
    int columns = PQnfields(r) < MOST ? PQnfields(r) : MOST;
    for (int i = 0, rows = PQntuples(r); visit && i < rows && status == TOQUE_OK; i++) {
        for (int j = 0; j < columns; j++) {
            char *value = PQgetvalue(r, i, j);
            len[j] = (size_t)PQgetlength(r, i, j);
            text[j] = value;
            if (PQftype(r, j) != BYTEA || len[j] < 2) continue;
            len[j] = (len[j] - 2) / 2; /* "\x" and two digits a byte, decoded in place */
            for (size_t k = 0; k < len[j]; k++)
                value[k] = (char)(nibble(value[2 + 2 * k]) << 4 | nibble(value[3 + 2 * k]));
            value[len[j]] = 0;
        }
        status = visit(arg, &(tq_row){text, len, columns}, err);
    }
    PQclear(r);
    return status;
}

static toque_status frequency(tq_rag *store, const char *term, size_t n, int64_t *chunks, toque_error *err) {
    PGresult *r;
    const tq_pg_param param = {term, n, true};
    TQ_TRY(tq_pg_query(store->pg, "SELECT coalesce(sum(chunks), 0)::bigint FROM postings WHERE term = $1", &param, 1,
                       true, &r, err));
    *chunks = tq_pg_get64(PQgetvalue(r, 0, 0));
    PQclear(r);
    return TOQUE_OK;
}

static void close_store(tq_rag *store) {
    if (!store) return;
    tq_pg_close(store->pg);
    tq_store_free(store);
}

static toque_status create_beside(tq_rag **fresh, tq_rag *old, const tq_rag_embedder *e, const tq_chunk_options *chunk,
                                  toque_error *err);
static toque_status replace(tq_rag *old, tq_rag *fresh, toque_error *err);
static void give_up(tq_rag *old, tq_rag *fresh);

static const tq_store_ops pg_ops = {
    .close = close_store,
    .run = run,
    .put = tq_pg_put,
    .remove = tq_pg_remove,
    .frequency = frequency,
    .halves = tq_pg_halves,
    .words = tq_pg_words,
    .nearest = tq_pg_nearest,
    .settle = tq_pg_settle,
    .create_beside = create_beside,
    .replace = replace,
    .give_up = give_up,
    .begin = "BEGIN",
    .glob = "~",
    .is_number = "value ~ '^[-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]+)?$'",
    .collate = " COLLATE \"C\"",
    .regex = true,
};

/* --- opening --------------------------------------------------------------------------------------------- */

/* A connection whose tables are those of a schema. */
static toque_status start(tq_rag **result, tq_ctx *ctx, const char *url, const char *schema, toque_error *err) {
    tq_rag *store;
    *result = NULL;
    TQ_TRY(tq_store_new(&store, ctx, url, &pg_ops, err));
    toque_status status = tq_pg_connect(&store->pg, store->mem, url, err);
    if (status == TOQUE_OK) {
        char scratch[60], sql[120];
        snprintf(store->pg->schema, sizeof store->pg->schema, "%s", schema);
        snprintf(scratch, sizeof scratch, ".toque-%ld", (long)getpid());
        store->path = tq_arena_strndup(&store->arena, store->pg->name, strlen(store->pg->name));
        store->scratch = tq_arena_strndup(&store->arena, scratch, strlen(scratch));
        /* pgvector may be in any schema of the database. */
        snprintf(sql, sizeof sql, "SET search_path = %s, public", schema);
        status = store->path && store->scratch ? tq_pg_exec(store->pg, sql, err) : TQ_NOMEM(err);
    }
    if (status == TOQUE_OK)
        status = tq_pg_exec(store->pg,
                            "SELECT set_config('search_path', current_setting('search_path') || ', ' ||"
                            " quote_ident(n.nspname), false) FROM pg_extension e JOIN pg_namespace n"
                            " ON n.oid = e.extnamespace WHERE e.extname = 'vector'",
                            err);
    if (status == TOQUE_OK)
        *result = store;
    else
        close_store(store);
    return status;
}

static toque_status is_there(tq_rag *store, bool *yes, toque_error *err) {
    char sql[120];
    int64_t n;
    snprintf(sql, sizeof sql, "SELECT count(*) FROM pg_tables WHERE schemaname = '%s' AND tablename = 'facts'",
             store->pg->schema);
    TQ_TRY(tq_rag_number(store, sql, &n, err));
    *yes = n > 0;
    return TOQUE_OK;
}

static toque_status load(tq_rag *store, toque_error *err) {
    int64_t layout;
    TQ_TRY(tq_rag_number(store, "SELECT value FROM facts WHERE key = 'layout'", &layout, err));
    if (layout > LAYOUT)
        return TQ_FAIL(err, EUNSUPPORTED,
                       "%s has layout %lld, made by a newer toque; this one knows up to %d: use the newer one",
                       store->path, (long long)layout, LAYOUT);
    if (layout < 1) return tq_store_damaged(store, "no layout", err);
    return tq_facts_read(store, err);
}

toque_status tq_pg_open(tq_rag **result, tq_ctx *ctx, const char *url, toque_error *err) {
    tq_rag *store;
    bool yes = false;
    *result = NULL;
    TQ_TRY(start(&store, ctx, url, "toque", err));
    toque_status status = is_there(store, &yes, err);
    if (status == TOQUE_OK && !yes)
        status = TQ_FAIL(err, ENOTFOUND, "there is no store in %s: make one with toque rag add %s PATH...", store->path,
                         store->path);
    if (status == TOQUE_OK) status = load(store, err);
    if (status == TOQUE_OK)
        *result = store;
    else
        close_store(store);
    return status;
}

/* --- making ---------------------------------------------------------------------------------------------- */

static toque_status check_extension(tq_rag *store, toque_error *err) {
    int64_t version;
    toque_status status = tq_pg_exec(store->pg, "CREATE EXTENSION IF NOT EXISTS vector", err);
    if (status != TOQUE_OK)
        return tq_error_prefix(err, status, "the database needs the extension pgvector, 0.8 or newer");
    TQ_TRY(tq_rag_number(store,
                         "SELECT split_part(extversion, '.', 1)::int * 1000 + split_part(extversion, '.', 2)::int"
                         " FROM pg_extension WHERE extname = 'vector'",
                         &version, err));
    if (version >= 8) return TOQUE_OK;
    return TQ_FAIL(err, EUNSUPPORTED,
                   "%s has pgvector %lld.%lld, and 0.8 or newer is needed: ALTER EXTENSION vector UPDATE", store->path,
                   (long long)(version / 1000), (long long)(version % 1000));
}

static toque_status make_tables(tq_rag *store, const tq_rag_embedder *e, const tq_chunk_options *chunk,
                                toque_error *err) {
    char sql[300];
    snprintf(sql, sizeof sql, "CREATE SCHEMA IF NOT EXISTS %s", store->pg->schema);
    TQ_TRY(tq_pg_exec(store->pg, sql, err));
    TQ_TRY(tq_pg_exec(store->pg, schema_sql, err));
    if (e->dim) {
        snprintf(sql, sizeof sql,
                 "CREATE TABLE vectors(document bigint NOT NULL REFERENCES documents ON DELETE CASCADE,"
                 " ordinal int NOT NULL, embedding halfvec(%d) NOT NULL, PRIMARY KEY(document, ordinal))",
                 e->dim);
        TQ_TRY(tq_pg_exec(store->pg, sql, err));
    }
    snprintf(sql, sizeof sql, "INSERT INTO facts VALUES('layout', '%d')", LAYOUT);
    TQ_TRY(tq_pg_exec(store->pg, sql, err));
    return tq_facts_write(store, e, chunk, err);
}

static toque_status create_in(tq_rag **result, tq_ctx *ctx, const char *url, const char *schema,
                              const tq_rag_embedder *e, const tq_chunk_options *chunk, toque_error *err) {
    tq_rag *store;
    bool yes = false;
    *result = NULL;
    if (e->dim > 4000)
        return TQ_FAIL(err, EUNSUPPORTED,
                       "%s has %d dimensions, and pgvector indexes up to 4000: use a store in a file", e->name, e->dim);
    TQ_TRY(start(&store, ctx, url, schema, err));
    toque_status status =
        tq_pg_exec(store->pg, "BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('toque', 0))", err);
    if (status == TOQUE_OK) status = check_extension(store, err);
    if (status == TOQUE_OK) status = is_there(store, &yes, err); /* of another process, meanwhile */
    if (status == TOQUE_OK && !yes) status = make_tables(store, e, chunk, err);
    if (status == TOQUE_OK) status = tq_pg_exec(store->pg, "COMMIT", err);
    if (status == TOQUE_OK) status = load(store, err);
    if (status == TOQUE_OK && yes) status = tq_rag_check(store, e, err);
    if (status == TOQUE_OK)
        *result = store;
    else
        close_store(store);
    return status;
}

toque_status tq_pg_create(tq_rag **store, tq_ctx *ctx, const char *url, const tq_rag_embedder *e,
                          const tq_chunk_options *chunk, toque_error *err) {
    return create_in(store, ctx, url, "toque", e, chunk, err);
}

/* --- its place ------------------------------------------------------------------------------------------- */

static toque_status create_beside(tq_rag **fresh, tq_rag *old, const tq_rag_embedder *e, const tq_chunk_options *chunk,
                                  toque_error *err) {
    *fresh = NULL;
    TQ_TRY(tq_pg_exec(old->pg, "DROP SCHEMA IF EXISTS toque_new CASCADE", err));
    /* Until the end of this transaction others may read the old one, not write it. */
    TQ_TRY(tq_pg_exec(old->pg, "BEGIN; LOCK TABLE documents IN EXCLUSIVE MODE", err));
    return create_in(fresh, old->ctx, old->pg->url, "toque_new", e, chunk, err);
}

static toque_status replace(tq_rag *old, tq_rag *fresh, toque_error *err) {
    close_store(fresh);
    toque_status status =
        tq_pg_exec(old->pg, "DROP SCHEMA toque CASCADE; ALTER SCHEMA toque_new RENAME TO toque; COMMIT", err);
    if (status != TOQUE_OK) {
        give_up(old, NULL);
        return status;
    }
    close_store(old);
    return TOQUE_OK;
}

static void give_up(tq_rag *old, tq_rag *fresh) {
    toque_error ignored;
    close_store(fresh);
    tq_rag_roll_back(old);
    if (tq_pg_exec(old->pg, "DROP SCHEMA IF EXISTS toque_new CASCADE", &ignored) != TOQUE_OK) {} /* the next one does */
    close_store(old);
}
