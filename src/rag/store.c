/* The store: what both kinds share of opening, checking and asking. See store.h. (store_sqlite.c, store_pg.c: the
 * kinds; store_read.c: documents out of it) */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rag/store_impl.h"

toque_status tq_store_new(tq_rag **result, tq_ctx *ctx, const char *path, const tq_store_ops *ops, toque_error *err) {
    tq_rag *store = TQ_NEW(&ctx->mem, tq_rag);
    *result = NULL;
    if (!store) return TQ_NOMEM(err);
    store->ctx = ctx;
    store->mem = &ctx->mem;
    store->ops = ops;
    tq_arena_init(&store->arena, store->mem, 4096);
    tq_arena_init(&store->found, store->mem, 4096);
    store->path = store->scratch = tq_arena_strndup(&store->arena, path, strlen(path));
    if (store->path) {
        *result = store;
        return TOQUE_OK;
    }
    tq_store_free(store);
    return TQ_NOMEM(err);
}

void tq_store_free(tq_rag *store) {
    tq_mem *mem = store->mem;
    for (int i = 0; i < store->n_analyzers; i++) tq_analyzer_free(store->analyzers[i].analyzer);
    tq_arena_clear(&store->arena);
    tq_arena_clear(&store->found);
    tq_free(mem, store);
}

bool tq_is_pg(const char *path) {
    return strncmp(path, "postgresql://", 13) == 0 || strncmp(path, "postgres://", 11) == 0;
}

toque_status tq_rag_open(tq_rag **store, tq_ctx *ctx, const char *path, bool write, toque_error *err) {
    return tq_is_pg(path) ? tq_pg_open(store, ctx, path, err) : tq_sqlite_open(store, ctx, path, write, err);
}

toque_status tq_rag_create(tq_rag **store, tq_ctx *ctx, const char *path, const tq_rag_embedder *e,
                           const tq_chunk_options *chunk, toque_error *err) {
    *store = NULL;
    if (chunk->budget < 16 || chunk->budget > e->max_tokens || chunk->overlap < 0 || chunk->overlap * 2 > chunk->budget)
        return TQ_FAIL(err, EINVAL,
                       "chunks of %d tokens that share %d are not possible: from 16 to %d (what the embedder "
                       "takes), and at most half of it shared",
                       chunk->budget, chunk->overlap, e->max_tokens);
    return tq_is_pg(path) ? tq_pg_create(store, ctx, path, e, chunk, err)
                          : tq_sqlite_create(store, ctx, path, e, chunk, err);
}

void tq_rag_close(tq_rag *store) {
    if (store) store->ops->close(store);
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

toque_status tq_store_damaged(const tq_rag *store, const char *what, toque_error *err) {
    return TQ_FAIL(err, EFORMAT, "%s is damaged (%s): put back a copy of it, or remove it and add its documents anew",
                   store->path, what);
}

/* --- asking ---------------------------------------------------------------------------------------------- */

toque_status tq_rag_run(tq_rag *store, const char *sql, const char *const *params, int n, tq_row_fn *visit, void *arg,
                        toque_error *err) {
    return store->ops->run(store, sql, params, n, visit, arg, err);
}

void tq_rag_roll_back(tq_rag *store) {
    toque_error ignored;
    if (tq_rag_run(store, "ROLLBACK", NULL, 0, NULL, NULL, &ignored) != TOQUE_OK) return; /* it ended by itself */
}

int64_t tq_row_number(const tq_row *row, int column) {
    return strtoll(row->text[column], NULL, 10);
}

tq_number_text tq_number_param(int64_t n) {
    tq_number_text t;
    snprintf(t.text, sizeof t.text, "%" PRId64, n);
    return t;
}

static toque_status take_number(void *arg, const tq_row *row, toque_error *err) {
    (void)err;
    *(int64_t *)arg = tq_row_number(row, 0);
    return TOQUE_OK;
}

toque_status tq_rag_number(tq_rag *store, const char *sql, int64_t *n, toque_error *err) {
    *n = 0;
    return tq_rag_run(store, sql, NULL, 0, take_number, n, err);
}

/* --- what the kinds do ----------------------------------------------------------------------------------- */

toque_status tq_rag_put(tq_rag *store, const tq_source *source, const tq_doc *doc, const tq_chunks *chunks,
                        const float *vectors, const tq_doc_pair *pairs, size_t n_pairs, toque_error *err) {
    if (chunks->n >= 1 << TQ_CHUNK_BITS)
        return TQ_FAIL(err, ELIMIT, "the document has %zu chunks, more than %d: split it", chunks->n,
                       1 << TQ_CHUNK_BITS);
    return store->ops->put(store, source, doc, chunks, vectors, pairs, n_pairs, err);
}

toque_status tq_rag_remove(tq_rag *store, int64_t document, toque_error *err) {
    return store->ops->remove(store, document, err);
}

toque_status tq_rag_frequency(tq_rag *store, const char *term, size_t n, int64_t *chunks, toque_error *err) {
    return store->ops->frequency(store, term, n, chunks, err);
}

toque_status tq_rag_halves(tq_rag *store, const tq_scored *chunks, size_t n, uint16_t *out, toque_error *err) {
    return store->ops->halves(store, chunks, n, out, err);
}

toque_status tq_rag_settle(tq_rag *store, toque_error *err) {
    return store->ops->settle ? store->ops->settle(store, err) : TOQUE_OK;
}

toque_status tq_rag_create_beside(tq_rag **fresh, tq_rag *old, const tq_rag_embedder *e, const tq_chunk_options *chunk,
                                  toque_error *err) {
    return old->ops->create_beside(fresh, old, e, chunk, err);
}

toque_status tq_rag_replace(tq_rag *old, tq_rag *fresh, toque_error *err) {
    return old->ops->replace(old, fresh, err);
}

void tq_rag_give_up(tq_rag *old, tq_rag *fresh) {
    if (old) old->ops->give_up(old, fresh);
}
