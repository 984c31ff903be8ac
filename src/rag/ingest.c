/* The way of a document into the store: compared, parsed, cut, embedded together with others, written. See ingest.h. */
#include "rag/ingest.h"

#include <stdio.h>
#include <string.h>

#include "base/hash.h"

enum {
    BATCH = 64,            /* passages embedded at a time */
    WAIT_CHUNKS = 512,     /* what may wait: this many chunks, */
    WAIT_BYTES = 16 << 20, /* or this much text, */
    WAIT_DOCUMENTS = 64    /* or so many documents */
};

struct tq_pending {
    tq_doc doc;
    tq_chunks chunks;
    char *uri;
    char hash[65 + 64];
    const char *format;
    int64_t size, mtime;
    bool is_new;
};

static void report(const tq_ingester *g, const char *uri, tq_outcome outcome, const char *message) {
    g->counts->documents[outcome]++;
    if (g->in->report) g->in->report(g->in->arg, uri, outcome, message);
}

void tq_ingester_failed(tq_ingester *g, const char *uri, tq_outcome outcome, const char *message) {
    report(g, uri, outcome, message);
}

static void step(const tq_ingester *g) {
    if (g->in->progress) g->in->progress(g->in->arg, g->counts);
}

/* Errors of one document; others end the run. */
static bool is_of_source(toque_status status) {
    return status == TOQUE_EFORMAT || status == TOQUE_EUNSUPPORTED || status == TOQUE_ELIMIT || status == TOQUE_EIO ||
           status == TOQUE_ENOTFOUND || status == TOQUE_EINVAL;
}

toque_status tq_ingester_init(tq_ingester *g, const tq_ingest *in, const char *root, tq_ingest_counts *counts,
                              toque_error *err) {
    *g = (tq_ingester){.in = in, .counts = counts, .err = err, .root = root};
    snprintf(g->tag, sizeof g->tag, "%s%.20s%s%.20s", in->format ? "+format=" : "", in->format ? in->format->name : "",
             in->language ? "+language=" : "", in->language ? in->language : "");
    TQ_TRY(
        tq_rag_run(in->store, "CREATE TEMP TABLE IF NOT EXISTS seen(uri TEXT PRIMARY KEY)", NULL, 0, NULL, NULL, err));
    return tq_rag_run(in->store, "DELETE FROM seen", NULL, 0, NULL, NULL, err);
}

static toque_status see(tq_ingester *g, const char *uri) {
    return tq_rag_run(g->in->store, "INSERT INTO seen VALUES($1) ON CONFLICT DO NOTHING", &uri, 1, NULL, NULL, g->err);
}

/* --- comparing ------------------------------------------------------------------------------------------------- */

static bool same_tag(const tq_ingester *g, const char *hash) {
    return strlen(hash) >= 64 && strcmp(hash + 64, g->tag) == 0;
}

static toque_status unchanged(tq_ingester *g, const tq_source *found, const char *uri, int64_t size, int64_t mtime) {
    if (g->in->n_pairs || found->size != size || found->mtime != mtime)
        TQ_TRY(tq_rag_touch(g->in->store, found->id, size, mtime, g->in->pairs, g->in->n_pairs, g->err));
    report(g, uri, TQ_UNCHANGED, NULL);
    return TOQUE_OK;
}

toque_status tq_ingester_is_same(tq_ingester *g, const char *uri, int64_t size, int64_t mtime, bool *same) {
    tq_source found;
    bool is_there;
    *same = false;
    TQ_TRY(see(g, uri));
    TQ_TRY(tq_rag_find(g->in->store, uri, &found, &is_there, g->err));
    if (!is_there || found.size != size || found.mtime != mtime || !same_tag(g, found.hash)) return TOQUE_OK;
    *same = true;
    return unchanged(g, &found, uri, size, mtime);
}

toque_status tq_ingester_has(tq_ingester *g, const char *uri, const char hash[65], int64_t size, int64_t mtime,
                             bool *same) {
    tq_source found;
    bool is_there;
    *same = false;
    TQ_TRY(see(g, uri));
    TQ_TRY(tq_rag_find(g->in->store, uri, &found, &is_there, g->err));
    if (!is_there || !same_tag(g, found.hash) || strncmp(found.hash, hash, 64) != 0) return TOQUE_OK;
    *same = true;
    return unchanged(g, &found, uri, size, mtime);
}

/* --- embedding and writing ------------------------------------------------------------------------------------- */

/* A passage that waits for its vector. */
typedef struct passage {
    size_t number; /* among all */
    char *text;
    size_t n;
} passage;

static int by_length(const void *a, const void *b) {
    const passage *x = a, *y = b;
    if (x->n != y->n) return x->n < y->n ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

/* Vector i of out belongs to passage number i. Passages of like lengths are embedded together. */
static toque_status embed_sorted(const tq_ingest *in, passage *list, size_t n, float *out, toque_error *err) {
    const tq_rag_embedder *e = in->embedder;
    const char *texts[BATCH];
    size_t lengths[BATCH], dim = (size_t)e->dim;
    float *batch = tq_alloc(in->store->mem, BATCH * dim, sizeof *batch);
    if (!batch) return TQ_NOMEM(err);
    toque_status status = TOQUE_OK;
    if (n) qsort(list, n, sizeof *list, by_length);
    for (size_t at = 0; at < n && status == TOQUE_OK; at += BATCH) {
        size_t k = n - at < BATCH ? n - at : BATCH;
        for (size_t i = 0; i < k; i++) {
            texts[i] = list[at + i].text;
            lengths[i] = list[at + i].n;
        }
        status = e->embed(e->self, texts, lengths, k, batch, err);
        for (size_t i = 0; i < k && status == TOQUE_OK; i++)
            memcpy(out + list[at + i].number * dim, batch + i * dim, dim * sizeof *out);
        if (status == TOQUE_OK && in->store->ctx->canceled)
            status = TQ_FAIL(err, ECANCELED, "stopped; the same command goes on where it was");
    }
    tq_free(in->store->mem, batch);
    return status;
}

/* Appends the passages of a document. */
static toque_status list_passages(const tq_ingest *in, const tq_doc *doc, const tq_chunks *chunks, passage *list,
                                  size_t *n, toque_error *err) {
    for (size_t i = 0; i < chunks->n; i++) {
        const tq_chunk *c = &chunks->items[i];
        tq_buf b;
        tq_buf_init(&b, in->store->mem, SIZE_MAX / 4);
        tq_buf_puts(&b, in->embedder->passage_prefix);
        tq_passage(&b, chunks->headings.data + c->heading, doc->text.data + c->start, c->end - c->start);
        size_t length = b.len;
        list[*n] = (passage){*n, tq_buf_take(&b), length};
        tq_buf_clear(&b);
        if (!list[*n].text) return TQ_NOMEM(err);
        ++*n;
    }
    return TOQUE_OK;
}

/* The vectors of all waiting chunks, in order. */
static toque_status embed_waiting(tq_ingester *g, float *vectors) {
    tq_mem *mem = g->in->store->mem;
    size_t n = 0;
    passage *list = tq_zalloc(mem, g->waiting_chunks + 1, sizeof *list);
    toque_status status = list ? TOQUE_OK : TQ_NOMEM(g->err);
    for (size_t d = 0; d < g->n_waiting && status == TOQUE_OK; d++)
        status = list_passages(g->in, &g->waiting[d].doc, &g->waiting[d].chunks, list, &n, g->err);
    if (status == TOQUE_OK) status = embed_sorted(g->in, list, n, vectors, g->err);
    for (size_t i = 0; i < n; i++) tq_free(mem, list[i].text);
    tq_free(mem, list);
    return status;
}

toque_status tq_embed_chunks(const tq_ingest *in, const tq_doc *doc, const tq_chunks *chunks, float *out,
                             toque_error *err) {
    size_t n = 0;
    passage *list = tq_zalloc(in->store->mem, chunks->n + 1, sizeof *list);
    toque_status status = list ? list_passages(in, doc, chunks, list, &n, err) : TQ_NOMEM(err);
    if (status == TOQUE_OK) status = embed_sorted(in, list, n, out, err);
    for (size_t i = 0; i < n; i++) tq_free(in->store->mem, list[i].text);
    tq_free(in->store->mem, list);
    return status;
}

static void drop(tq_ingester *g, tq_pending *p) {
    tq_doc_clear(&p->doc);
    tq_chunks_clear(&p->chunks);
    tq_free(g->in->store->mem, p->uri);
}

static toque_status write_waiting(tq_ingester *g, const float *vectors) {
    tq_rag *store = g->in->store;
    size_t at = 0;
    for (size_t i = 0; i < g->n_waiting; i++) {
        const tq_pending *p = &g->waiting[i];
        const char *language = g->in->language;
        if (!language) language = tq_detect_language(p->doc.text.data, p->doc.text.len);
        const tq_source source = {.uri = p->uri,
                                  .root = g->root,
                                  .hash = p->hash,
                                  .format = p->format,
                                  .title = p->doc.title ? p->doc.title : "",
                                  .language = language,
                                  .size = p->size,
                                  .mtime = p->mtime};
        TQ_TRY(tq_rag_put(store, &source, &p->doc, &p->chunks, vectors ? vectors + at * (size_t)store->facts.dim : NULL,
                          g->in->pairs, g->in->n_pairs, g->err));
        at += p->chunks.n;
        g->counts->chunks += p->chunks.n;
        report(g, p->uri, p->is_new ? TQ_ADDED : TQ_CHANGED, p->chunks.n ? NULL : "it holds no text");
        step(g);
    }
    return TOQUE_OK;
}

static toque_status flush(tq_ingester *g) {
    tq_mem *mem = g->in->store->mem;
    float *vectors = NULL;
    toque_status status = TOQUE_OK;
    if (g->in->embedder->dim && g->waiting_chunks) {
        vectors = tq_alloc(mem, g->waiting_chunks * (size_t)g->in->embedder->dim, sizeof *vectors);
        status = vectors ? embed_waiting(g, vectors) : TQ_NOMEM(g->err);
    }
    if (status == TOQUE_OK) status = write_waiting(g, vectors);
    tq_free(mem, vectors);
    for (size_t i = 0; i < g->n_waiting; i++) drop(g, &g->waiting[i]);
    g->n_waiting = g->waiting_chunks = g->waiting_bytes = 0;
    return status;
}

/* --- taking documents ------------------------------------------------------------------------------------------ */

/* The passages must fit the embedder: what is cut at a token may have become one or two more. */
static toque_status check_lengths(tq_ingester *g, const tq_pending *p) {
    const tq_rag_embedder *e = g->in->embedder;
    for (size_t i = 0; i < p->chunks.n && e->dim; i++) {
        const tq_chunk *c = &p->chunks.items[i];
        tq_buf b;
        size_t tokens = 0;
        if (c->end - c->start + 1000 < (size_t)e->max_tokens) continue; /* a token has at least a byte */
        tq_buf_init(&b, g->in->store->mem, SIZE_MAX / 4);
        tq_buf_puts(&b, e->passage_prefix);
        tq_passage(&b, p->chunks.headings.data + c->heading, p->doc.text.data + c->start, c->end - c->start);
        toque_status status = tq_buf_status(&b, "a passage", g->err);
        if (status == TOQUE_OK) status = tq_count_tokens(e, g->in->store->mem, b.data, b.len, &tokens, g->err);
        tq_buf_clear(&b);
        TQ_TRY(status);
        if (tokens > (size_t)e->max_tokens)
            return TQ_FAIL(g->err, ELIMIT,
                           "its passage at byte %u has %zu tokens, and the embedder takes %d: make the "
                           "store with a smaller --chunk-tokens",
                           c->start, tokens, e->max_tokens);
    }
    return TOQUE_OK;
}

toque_status tq_ingester_take(tq_ingester *g, const char *uri, const char hash[65], const char *format, int64_t size,
                              int64_t mtime, tq_doc *doc) {
    tq_rag *store = g->in->store;
    tq_source found;
    tq_pending p = {.doc = *doc, .uri = tq_strdup(store->mem, uri), .format = format, .size = size, .mtime = mtime};
    bool is_there;
    toque_status status = p.uri ? TOQUE_OK : TQ_NOMEM(g->err);
    snprintf(p.hash, sizeof p.hash, "%s%s", hash, g->tag);
    if (status == TOQUE_OK) status = tq_rag_find(store, uri, &found, &is_there, g->err);
    if (status == TOQUE_OK) {
        p.is_new = !is_there;
        status = tq_chunks_make(&p.chunks, store->mem, &p.doc, g->in->embedder, &store->facts.chunk, g->err);
        if (status == TOQUE_OK) status = check_lengths(g, &p);
        if (is_of_source(status)) {
            report(g, uri, TQ_FAILED, g->err ? g->err->message : "");
            drop(g, &p);
            return TOQUE_OK;
        }
    }
    if (status == TOQUE_OK && !TQ_GROW(store->mem, g->waiting, g->n_waiting, g->cap_waiting)) status = TQ_NOMEM(g->err);
    if (status != TOQUE_OK) {
        drop(g, &p);
        return status;
    }
    g->waiting[g->n_waiting++] = p;
    g->waiting_chunks += p.chunks.n;
    g->waiting_bytes += p.doc.text.len;
    if (g->waiting_chunks < WAIT_CHUNKS && g->waiting_bytes < WAIT_BYTES && g->n_waiting < WAIT_DOCUMENTS)
        return TOQUE_OK;
    return flush(g);
}

toque_status tq_ingester_offer(tq_ingester *g, const char *uri, const char *name, const char *data, size_t n,
                               int64_t size, int64_t mtime, bool skip_unknown) {
    tq_mem *mem = g->in->store->mem;
    char hash[65];
    bool same;
    tq_sha256 *sha = tq_sha256_new(mem);
    if (!sha) return TQ_NOMEM(g->err);
    tq_sha256_add(sha, data, n);
    tq_sha256_end(sha, hash);
    TQ_TRY(tq_ingester_has(g, uri, hash, size, mtime, &same));
    if (same) return TOQUE_OK;
    tq_doc doc;
    toque_error fault = {0};
    const tq_format *format = NULL;
    tq_doc_init(&doc, mem);
    toque_status status = tq_parse(&doc, name, data, n, g->in->format, &format, &fault);
    g->counts->bytes += n;
    if (status == TOQUE_OK) return tq_ingester_take(g, uri, hash, format->name, size, mtime, &doc);
    tq_doc_clear(&doc);
    if (!is_of_source(status)) {
        if (g->err) *g->err = fault;
        return status;
    }
    report(g, uri, !format && skip_unknown ? TQ_SKIPPED : TQ_FAILED, fault.message);
    return TOQUE_OK;
}

/* --- the end --------------------------------------------------------------------------------------------------- */

typedef struct missing {
    tq_mem *mem;
    int64_t id;
    char *uri;
} missing;

static toque_status take_missing(void *arg, const tq_row *row, toque_error *err) {
    missing *m = arg;
    m->id = tq_row_number(row, 0);
    m->uri = tq_strdup(m->mem, row->text[1]);
    return m->uri ? TOQUE_OK : TQ_NOMEM(err);
}

/* Documents of this root that were not seen. */
static toque_status remove_missing(tq_ingester *g) {
    tq_rag *store = g->in->store;
    for (;;) {
        missing m = {.mem = store->mem};
        TQ_TRY(tq_rag_run(store,
                          "SELECT id, uri FROM documents WHERE root = $1 AND uri NOT IN (SELECT uri FROM seen) LIMIT 1",
                          &g->root, 1, take_missing, &m, g->err));
        if (!m.uri) return TOQUE_OK;
        toque_status status = tq_rag_remove(store, m.id, g->err);
        if (status == TOQUE_OK) report(g, m.uri, TQ_REMOVED, NULL);
        tq_free(store->mem, m.uri);
        TQ_TRY(status);
    }
}

toque_status tq_ingester_finish(tq_ingester *g, toque_status status) {
    if (status == TOQUE_OK) status = flush(g);
    if (status == TOQUE_OK) status = remove_missing(g);
    for (size_t i = 0; i < g->n_waiting; i++) drop(g, &g->waiting[i]);
    tq_free(g->in->store->mem, g->waiting);
    return status;
}
