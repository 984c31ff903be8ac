/* Documents into the PostgreSQL store and out of it: one transaction each, its rows by COPY. Writers of different
 * documents do not wait for each other; those of one document do (an advisory lock on its name). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/half.h"
#include "rag/store_pg_impl.h"

/* --- postings -------------------------------------------------------------------------------------------- */

/* A term where it stands. */
typedef struct occurrence {
    const char *all; /* the text that holds it */
    uint32_t at, len, ordinal;
} occurrence;

typedef struct indexing {
    tq_mem *mem;
    tq_buf passage, terms; /* terms: those of all chunks, each with a blank behind */
    occurrence *list;
    size_t n, cap;
    uint32_t *lengths; /* [chunks] */
    int64_t total;
} indexing;

static toque_status indexing_init(indexing *x, tq_mem *mem, size_t chunks, toque_error *err) {
    *x = (indexing){.mem = mem};
    tq_buf_init(&x->passage, mem, SIZE_MAX / 4);
    tq_buf_init(&x->terms, mem, SIZE_MAX / 4);
    x->lengths = tq_zalloc(mem, chunks + 1, sizeof *x->lengths);
    return x->lengths ? TOQUE_OK : TQ_NOMEM(err);
}

static void indexing_clear(indexing *x) {
    tq_buf_clear(&x->passage);
    tq_buf_clear(&x->terms);
    tq_free(x->mem, x->list);
    tq_free(x->mem, x->lengths);
}

static toque_status add_chunk(indexing *x, tq_analyzer *a, uint32_t ordinal, const char *heading, const char *text,
                              size_t n, toque_error *err) {
    size_t from = x->terms.len, count = 0;
    tq_buf_reset(&x->passage);
    if (!tq_passage(&x->passage, heading, text, n)) return tq_buf_status(&x->passage, "a passage", err);
    TQ_TRY(tq_terms(a, x->passage.data, x->passage.len, &x->terms, &count, err));
    x->lengths[ordinal] = (uint32_t)count;
    x->total += (int64_t)count;
    for (size_t at = from; at < x->terms.len;) {
        size_t len = (size_t)((char *)memchr(x->terms.data + at, ' ', x->terms.len - at) - (x->terms.data + at));
        if (!TQ_GROW(x->mem, x->list, x->n, x->cap)) return TQ_NOMEM(err);
        x->list[x->n++] = (occurrence){.at = (uint32_t)at, .len = (uint32_t)len, .ordinal = ordinal};
        at += len + 1;
    }
    return TOQUE_OK;
}

static int by_term(const void *a, const void *b) {
    const occurrence *x = a, *y = b;
    int order = memcmp(x->all + x->at, y->all + y->at, x->len < y->len ? x->len : y->len);
    if (order) return order;
    if (x->len != y->len) return x->len < y->len ? -1 : 1;
    return x->ordinal < y->ordinal ? -1 : x->ordinal > y->ordinal;
}

static bool same_term(const occurrence *x, const occurrence *y) {
    return x->len == y->len && memcmp(x->all + x->at, y->all + y->at, x->len) == 0;
}

static void sort_terms(indexing *x) {
    for (size_t i = 0; i < x->n; i++) x->list[i].all = x->terms.data;
    if (x->n) qsort(x->list, x->n, sizeof *x->list, by_term);
}

static void put_number(tq_buf *out, uint32_t n) {
    for (; n > 127; n >>= 7) tq_buf_putc(out, (char)((n & 127) | 128));
    tq_buf_putc(out, (char)n);
}

static toque_status copy_postings(tq_rag *store, int64_t document, indexing *x, toque_error *err) {
    tq_buf rows, list;
    tq_buf_init(&rows, x->mem, SIZE_MAX / 4);
    tq_buf_init(&list, x->mem, SIZE_MAX / 4);
    sort_terms(x);
    for (size_t i = 0, next; i < x->n; i = next) {
        int32_t chunks = 0;
        uint32_t last = 0;
        tq_buf_reset(&list);
        for (next = i; next < x->n && same_term(&x->list[i], &x->list[next]); chunks++) {
            uint32_t ordinal = x->list[next].ordinal, times = 0;
            for (; next < x->n && x->list[next].ordinal == ordinal && same_term(&x->list[i], &x->list[next]); next++)
                times++;
            put_number(&list, ordinal - last);
            put_number(&list, times);
            put_number(&list, x->lengths[ordinal]);
            last = ordinal;
        }
        tq_pg_put16(&rows, 4);
        tq_pg_bytes(&rows, x->terms.data + x->list[i].at, x->list[i].len);
        tq_pg_int8(&rows, document);
        tq_pg_int4(&rows, chunks);
        tq_pg_bytes(&rows, list.data, list.len);
    }
    toque_status status = tq_buf_status(&list, "postings", err);
    if (status == TOQUE_OK) status = tq_pg_copy(store->pg, "postings(term, document, chunks, list)", &rows, err);
    tq_buf_clear(&rows);
    tq_buf_clear(&list);
    return status;
}

/* --- out ------------------------------------------------------------------------------------------------- */

/* The document's terms again, from its own text: they name its postings. */
static toque_status index_again(tq_rag *store, int64_t document, const char *language, const tq_doc *doc, indexing *x,
                                toque_error *err) {
    const tq_number_text id = tq_number_param(document);
    const tq_pg_param param = {id.text, strlen(id.text), false};
    tq_analyzer *a;
    PGresult *r;
    TQ_TRY(tq_rag_analyzer(store, language, &a, err));
    TQ_TRY(tq_pg_query(store->pg, "SELECT start, \"end\", heading FROM chunks WHERE document = $1 ORDER BY ordinal",
                       &param, 1, false, &r, err));
    int n = PQntuples(r);
    toque_status status = indexing_init(x, store->mem, (size_t)n, err);
    for (int i = 0; i < n && status == TOQUE_OK; i++) {
        int64_t from = strtoll(PQgetvalue(r, i, 0), NULL, 10), to = strtoll(PQgetvalue(r, i, 1), NULL, 10);
        if (from < 0 || to < from || to > (int64_t)doc->text.len)
            status = tq_store_damaged(store, "a chunk lies outside its document", err);
        else
            status = add_chunk(x, a, (uint32_t)i, PQgetvalue(r, i, 2), doc->text.data + from, (size_t)(to - from), err);
    }
    PQclear(r);
    return status;
}

/* An array of texts, as the server reads it. */
static void put_array(tq_buf *out, indexing *x) {
    sort_terms(x);
    tq_buf_putc(out, '{');
    for (size_t i = 0; i < x->n; i++) {
        if (i && same_term(&x->list[i - 1], &x->list[i])) continue;
        tq_buf_puts(out, i ? ",\"" : "\"");
        tq_buf_put(out, x->terms.data + x->list[i].at, x->list[i].len); /* letters and digits: nothing to escape */
        tq_buf_putc(out, '"');
    }
    tq_buf_putc(out, '}');
}

typedef struct language_of {
    char text[8];
} language_of;

static toque_status take_language(void *arg, const tq_row *row, toque_error *err) {
    (void)err;
    snprintf(((language_of *)arg)->text, sizeof((language_of *)arg)->text, "%s", row->text[0]);
    return TOQUE_OK;
}

/* Inside a transaction. */
static toque_status take_out(tq_rag *store, int64_t document, toque_error *err) {
    const tq_number_text id = tq_number_param(document);
    const char *const ids[1] = {id.text};
    language_of language = {""};
    tq_doc doc;
    tq_buf terms;
    indexing x = {.mem = store->mem};
    tq_doc_init(&doc, store->mem);
    tq_buf_init(&terms, store->mem, SIZE_MAX / 4);
    toque_status status = tq_rag_document(store, document, false, &doc, err);
    if (status == TOQUE_ENOTFOUND) { /* gone already */
        tq_doc_clear(&doc);
        return TOQUE_OK;
    }
    if (status == TOQUE_OK)
        status =
            tq_rag_run(store, "SELECT language FROM documents WHERE id = $1", ids, 1, take_language, &language, err);
    if (status == TOQUE_OK) status = index_again(store, document, language.text, &doc, &x, err);
    if (status == TOQUE_OK) {
        put_array(&terms, &x);
        status = tq_buf_status(&terms, "terms", err);
    }
    if (status == TOQUE_OK) {
        const char *const params[2] = {id.text, terms.data};
        status = tq_rag_run(store, "DELETE FROM postings WHERE document = $1 AND term = ANY($2::text[])", params, 2,
                            NULL, NULL, err);
    }
    if (status == TOQUE_OK) status = tq_rag_run(store, "DELETE FROM documents WHERE id = $1", ids, 1, NULL, NULL, err);
    indexing_clear(&x);
    tq_buf_clear(&terms);
    tq_doc_clear(&doc);
    return status;
}

/* --- in -------------------------------------------------------------------------------------------------- */

static toque_status put_document(tq_rag *store, const tq_source *src, const tq_doc *doc, size_t n_chunks, int64_t terms,
                                 int64_t *document, toque_error *err) {
    const char *const texts[6] = {src->uri, src->root, src->hash, src->format, src->title, src->language};
    const tq_number_text numbers[4] = {tq_number_param(src->size), tq_number_param(src->mtime),
                                       tq_number_param((int64_t)n_chunks), tq_number_param(terms)};
    tq_pg_param params[12];
    tq_buf blocks;
    PGresult *r;
    tq_buf_init(&blocks, store->mem, SIZE_MAX / 4);
    tq_blocks_write(&blocks, doc);
    for (int i = 0; i < 6; i++) params[i] = (tq_pg_param){texts[i], strlen(texts[i]), false};
    for (int i = 0; i < 4; i++) params[6 + i] = (tq_pg_param){numbers[i].text, strlen(numbers[i].text), false};
    params[10] = (tq_pg_param){blocks.data ? blocks.data : "", blocks.len, true};
    params[11] = (tq_pg_param){doc->text.data ? doc->text.data : "", doc->text.len, true};
    toque_status status = tq_buf_status(&blocks, "blocks", err);
    if (status == TOQUE_OK)
        status = tq_pg_query(store->pg,
                             "INSERT INTO documents(uri, root, hash, format, title, language, size, mtime, chunks,"
                             " terms, blocks, text) VALUES($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
                             " RETURNING id",
                             params, 12, true, &r, err);
    tq_buf_clear(&blocks);
    TQ_TRY(status);
    *document = tq_pg_get64(PQgetvalue(r, 0, 0));
    PQclear(r);
    return TOQUE_OK;
}

static toque_status copy_chunks(tq_rag *store, int64_t document, const tq_chunks *chunks, const indexing *x,
                                toque_error *err) {
    tq_buf rows, clean;
    tq_buf_init(&rows, store->mem, SIZE_MAX / 4);
    tq_buf_init(&clean, store->mem, SIZE_MAX / 4);
    for (size_t i = 0; i < chunks->n; i++) {
        const tq_chunk *c = &chunks->items[i];
        const char *heading = chunks->headings.data + c->heading;
        size_t n = strlen(heading);
        const int32_t numbers[6] = {
            (int32_t)i, (int32_t)c->start, (int32_t)c->end, (int32_t)c->context_start, (int32_t)c->context_end,
            c->page};
        tq_pg_put16(&rows, 9);
        tq_pg_int8(&rows, document);
        for (int j = 0; j < 6; j++) tq_pg_int4(&rows, numbers[j]);
        heading = tq_pg_clean(&clean, heading, &n);
        tq_pg_bytes(&rows, heading, n);
        tq_pg_int4(&rows, (int32_t)x->lengths[i]);
    }
    toque_status status = tq_buf_status(&clean, "a heading", err);
    if (status == TOQUE_OK)
        status = tq_pg_copy(
            store->pg, "chunks(document, ordinal, start, \"end\", context_start, context_end, page, heading, terms)",
            &rows, err);
    tq_buf_clear(&rows);
    tq_buf_clear(&clean);
    return status;
}

void tq_pg_put_halfvec(tq_buf *out, const float *x, int64_t dim) {
    tq_pg_put16(out, (uint16_t)dim);
    tq_pg_put16(out, 0);
    for (int64_t i = 0; i < dim; i++) tq_pg_put16(out, tq_float_to_half(x[i]));
}

static toque_status copy_vectors(tq_rag *store, int64_t document, const float *v, size_t n, toque_error *err) {
    tq_buf rows;
    int64_t dim = store->facts.dim;
    for (size_t i = 0; i < n * (size_t)dim; i++)
        if (!isfinite(v[i])) return TQ_FAIL(err, ENONFINITE, "the embedder gave a vector that is not finite");
    tq_buf_init(&rows, store->mem, SIZE_MAX / 4);
    for (size_t i = 0; i < n; i++) {
        tq_pg_put16(&rows, 3);
        tq_pg_int8(&rows, document);
        tq_pg_int4(&rows, (int32_t)i);
        tq_pg_put32(&rows, (uint32_t)(4 + 2 * dim));
        tq_pg_put_halfvec(&rows, v + i * (size_t)dim, dim);
    }
    toque_status status = tq_pg_copy(store->pg, "vectors(document, ordinal, embedding)", &rows, err);
    tq_buf_clear(&rows);
    return status;
}

static toque_status put_pairs(tq_rag *store, int64_t document, const tq_doc_pair *pairs, size_t n, toque_error *err) {
    const tq_number_text id = tq_number_param(document);
    for (size_t i = 0; i < n; i++) {
        const char *const params[3] = {id.text, pairs[i].key, pairs[i].value};
        TQ_TRY(tq_rag_run(store,
                          "INSERT INTO metadata VALUES($1, $2, $3)"
                          " ON CONFLICT (document, key) DO UPDATE SET value = excluded.value",
                          params, 3, NULL, NULL, err));
    }
    return TOQUE_OK;
}

static toque_status index_chunks(tq_rag *store, const char *language, const tq_doc *doc, const tq_chunks *chunks,
                                 indexing *x, toque_error *err) {
    tq_analyzer *a;
    TQ_TRY(tq_rag_analyzer(store, language, &a, err));
    TQ_TRY(indexing_init(x, store->mem, chunks->n, err));
    for (size_t i = 0; i < chunks->n; i++) {
        const tq_chunk *c = &chunks->items[i];
        TQ_TRY(add_chunk(x, a, (uint32_t)i, chunks->headings.data + c->heading, doc->text.data + c->start,
                         c->end - c->start, err));
    }
    return TOQUE_OK;
}

/* Ends a transaction with what came of it. */
static toque_status finish(tq_rag *store, toque_status status, toque_error *err) {
    if (status == TOQUE_OK) status = tq_rag_run(store, "COMMIT", NULL, 0, NULL, NULL, err);
    if (status != TOQUE_OK) tq_rag_roll_back(store);
    return status;
}

toque_status tq_pg_put(tq_rag *store, const tq_source *src, const tq_doc *doc, const tq_chunks *chunks,
                       const float *vectors, const tq_doc_pair *pairs, size_t n_pairs, toque_error *err) {
    tq_source old;
    bool is_there;
    int64_t document;
    indexing x = {.mem = store->mem};
    toque_status status = index_chunks(store, src->language, doc, chunks, &x, err);
    if (status != TOQUE_OK) {
        indexing_clear(&x);
        return status;
    }
    TQ_GO(tq_rag_run(store, "BEGIN", NULL, 0, NULL, NULL, err));
    TQ_GO(tq_rag_run(store, "SELECT pg_advisory_xact_lock(hashtextextended($1, 1))", &src->uri, 1, NULL, NULL, err));
    TQ_GO(tq_rag_find(store, src->uri, &old, &is_there, err));
    if (is_there) TQ_GO(take_out(store, old.id, err));
    TQ_GO(put_document(store, src, doc, chunks->n, x.total, &document, err));
    TQ_GO(put_pairs(store, document, doc->pairs, doc->n_pairs, err));
    TQ_GO(put_pairs(store, document, pairs, n_pairs, err));
    TQ_GO(copy_chunks(store, document, chunks, &x, err));
    TQ_GO(copy_postings(store, document, &x, err));
    if (vectors && chunks->n) TQ_GO(copy_vectors(store, document, vectors, chunks->n, err));
done:
    indexing_clear(&x);
    return finish(store, status, err);
}

toque_status tq_pg_remove(tq_rag *store, int64_t document, toque_error *err) {
    TQ_TRY(tq_rag_run(store, "BEGIN", NULL, 0, NULL, NULL, err));
    return finish(store, take_out(store, document, err), err);
}
