/* Search in a store of 200,000 passages with vectors of 384 dimensions (or the number named): writing it, its size,
 * loading its vectors, exact search with its recall against f32, BM25, hybrid, with and without a filter. Vectors lie
 * around 2,000 centres; texts are words drawn by Zipf's law. The best of some runs and the median are printed. The
 * store is made in the folder given and removed. Usage: bench_search [PASSAGES] [THREADS] [FOLDER] */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"
#include "rag/search.h"

enum { DIM = 384, CENTRES = 2000, PER_DOCUMENT = 100, WORDS = 60, QUERIES = 50, K = 10 };

static tq_ctx *ctx;
static toque_error err;

static void must(toque_status status) {
    if (status == TOQUE_OK) return;
    fprintf(stderr, "%s\n", err.message);
    exit(1);
}

static void *get(size_t n, size_t size) {
    void *p = tq_alloc(&ctx->mem, n, size);
    if (!p) exit(1);
    return p;
}

/* centre + noise, length 1 */
static void vector(float *out, const float *centre, tq_rng *rng) {
    double sum = 0;
    for (int i = 0; i < DIM; i++) {
        out[i] = centre[i] + 0.7f * (float)tq_rng_normal(rng);
        sum += (double)out[i] * out[i];
    }
    for (int i = 0; i < DIM; i++) out[i] /= (float)sqrt(sum);
}

static void sentence(tq_buf *text, tq_rng *rng) {
    for (int i = 0; i < WORDS; i++) {
        double u = tq_rng_uniform(rng);
        tq_buf_printf(text, "%sw%d%c", i ? " " : "", (int)(50000 * u * u * u * u), 'a' + (int)tq_rng_below(rng, 3));
    }
}

/* What the searcher embeds: the query of the moment. */
static const float *current;
static toque_status embed(void *self, const char *const *texts, const size_t *lengths, size_t n, float *out,
                          toque_error *e) {
    (void)self, (void)texts, (void)lengths, (void)e;
    for (size_t i = 0; i < n; i++) memcpy(out + i * DIM, current, DIM * sizeof *out);
    return TOQUE_OK;
}

static uint64_t write_store(tq_rag *store, const float *centres, float *all, size_t n) {
    uint64_t bytes = 0;
    for (size_t at = 0, d = 0; at < n; at += PER_DOCUMENT, d++) {
        tq_rng rng;
        tq_doc doc;
        char uri[40], group[8];
        tq_chunks chunks = {.mem = &ctx->mem};
        tq_rng_init(&rng, 1, TQ_RNG_SAMPLE, (uint32_t)d, 0);
        tq_doc_init(&doc, &ctx->mem);
        tq_buf_init(&chunks.headings, &ctx->mem, 100);
        tq_buf_putc(&chunks.headings, 0);
        for (size_t i = 0; i < PER_DOCUMENT && at + i < n; i++) {
            vector(all + (at + i) * DIM, centres + tq_rng_below(&rng, CENTRES) * DIM, &rng);
            tq_doc_begin(&doc, TQ_BLOCK_TEXT, 0);
            sentence(&doc.text, &rng);
            tq_doc_end(&doc);
            if (!TQ_GROW(&ctx->mem, chunks.items, chunks.n, chunks.cap)) exit(1);
            const tq_block *b = &doc.blocks[doc.n - 1];
            chunks.items[chunks.n++] = (tq_chunk){b->start, b->end, b->start, b->end, 0, 0};
        }
        must(tq_doc_status(&doc, &err));
        snprintf(uri, sizeof uri, "document%zu.txt", d);
        snprintf(group, sizeof group, "%zu", d % 20);
        const tq_source source = {.uri = uri, .root = uri, .hash = "0", .format = "text", .title = "", .language = ""};
        const tq_doc_pair pair = {(char *)"group", group};
        must(tq_rag_put(store, &source, &doc, &chunks, all + at * DIM, &pair, 1, &err));
        bytes += doc.text.len;
        tq_chunks_clear(&chunks);
        tq_doc_clear(&doc);
    }
    return bytes;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void print_times(const char *what, double *s, size_t n) {
    qsort(s, n, sizeof *s, ascending);
    printf("%-34s best %7.2f ms, median %7.2f ms\n", what, 1e3 * s[0], 1e3 * s[n / 2]);
}

/* Share of the f32 top K that the search finds. */
static double recall(const float *all, size_t n, const float *query, const tq_top *top) {
    tq_scored items[K];
    tq_top best = {.items = items, .k = K};
    for (size_t i = 0; i < n; i++)
        tq_top_put(&best, ctx->k->dot(all + i * DIM, query, DIM),
                   tq_chunk_id((int64_t)(i / PER_DOCUMENT) + 1, (int64_t)(i % PER_DOCUMENT)));
    int found = 0;
    for (size_t i = 0; i < best.n; i++)
        for (size_t j = 0; j < top->n; j++) found += best.items[i].chunk == top->items[j].chunk;
    return (double)found / K;
}

static void bench_vectors(tq_rag *store, const float *all, const float *queries, size_t n) {
    tq_vectors v;
    double times[QUERIES * 4], found = 0, start = tq_now();
    must(tq_vectors_load(&v, store, &err));
    printf("%-34s %.0f ms\n", "loading the vectors", 1e3 * (tq_now() - start));
    for (int r = 0; r < QUERIES * 4; r++) {
        tq_scored items[K];
        tq_top top = {.items = items, .k = K};
        const float *q = queries + r % QUERIES * DIM;
        start = tq_now();
        must(tq_vectors_search(&v, q, NULL, &top, &err));
        times[r] = tq_now() - start;
        if (r < QUERIES) found += recall(all, n, q, &top);
    }
    print_times("exact search, top 10", times, QUERIES * 4);
    printf("%-34s %.4f\n", "recall against f32", found / QUERIES);
    tq_vectors_clear(&v);
}

static void bench_search(tq_rag *store, const tq_rag_embedder *e, const float *queries, tq_search_mode mode,
                         const char *filter, const char *what) {
    tq_searcher s;
    double times[QUERIES];
    tq_search_options o = tq_search_defaults();
    o.mode = mode;
    o.k = K;
    o.filters = &filter;
    o.n_filters = filter ? 1 : 0;
    must(tq_searcher_init(&s, store, e, &err));
    for (int r = -1; r < QUERIES; r++) {
        tq_rng rng;
        tq_hits hits;
        char text[100];
        tq_rng_init(&rng, 5, TQ_RNG_SAMPLE, (uint32_t)(r + 1), 0);
        text[0] = 0;
        for (int w = 0; w < 5; w++) {
            double u = tq_rng_uniform(&rng);
            snprintf(text + strlen(text), sizeof text - strlen(text), "w%d%c ", (int)(50000 * u * u * u * u),
                     'a' + (int)tq_rng_below(&rng, 3));
        }
        current = queries + (r < 0 ? 0 : r) * DIM;
        double start = tq_now();
        must(tq_search(&s, &hits, text, &o, &err));
        if (r >= 0) times[r] = tq_now() - start; /* the first loads the vectors */
        tq_hits_clear(&hits);
    }
    print_times(what, times, QUERIES);
    tq_searcher_clear(&s);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    size_t n = argc > 1 ? strtoul(argv[1], NULL, 10) : 200000;
    char path[4096];
    struct stat st;
    snprintf(path, sizeof path, "%s/bench-search.db", argc > 3 ? argv[3] : ".");
    must(tq_ctx_new(&ctx, argc > 2 ? (int)strtol(argv[2], NULL, 10) : 0, 0, "f32", &err));
    printf("%zu passages, %d dimensions, %d threads, %s\n", n, DIM, tq_pool_threads(ctx->pool), ctx->k->isa);
    const tq_rag_embedder e = {.name = "bench",
                               .hash = "bench",
                               .pooling = "none",
                               .query_prefix = "",
                               .passage_prefix = "",
                               .dim = DIM,
                               .max_tokens = 1 << 20,
                               .embed = embed,
                               .tokenize = tq_rag_embedder_none.tokenize};
    const tq_chunk_options chunk = {TQ_CHUNK_PASSAGE, 256, 0};
    float *centres = get(CENTRES * DIM, 4), *all = get(n * DIM, 4), *queries = get(QUERIES * DIM, 4);
    tq_rng rng;
    tq_rng_init(&rng, 2, TQ_RNG_SAMPLE, 0, 0);
    for (int i = 0; i < CENTRES * DIM; i++) centres[i] = (float)tq_rng_normal(&rng);
    for (int i = 0; i < QUERIES; i++) vector(queries + i * DIM, centres + tq_rng_below(&rng, CENTRES) * DIM, &rng);
    tq_rag *store;
    must(tq_rag_create(&store, ctx, path, &e, &chunk, &err));
    double start = tq_now();
    uint64_t text = write_store(store, centres, all, n);
    double seconds = tq_now() - start;
    tq_rag_close(store);
    if (stat(path, &st) != 0) return 1;
    double parts = (double)text + (double)n * DIM * 3;
    printf("%-34s %.0f passages/s (making them included)\n", "writing", (double)n / seconds);
    printf("%-34s %.1f MB, %.3f of text + int8 + f16\n", "the file", (double)st.st_size / 1e6,
           (double)st.st_size / parts);
    must(tq_rag_open(&store, ctx, path, false, &err));
    bench_vectors(store, all, queries, n);
    bench_search(store, &e, queries, TQ_SEARCH_VECTOR, NULL, "rag search by vectors");
    bench_search(store, &e, queries, TQ_SEARCH_VECTOR, "group=3", "the same, a filter keeping 5 %");
    bench_search(store, &e, queries, TQ_SEARCH_BM25, NULL, "rag search by BM25, 5 words");
    bench_search(store, &e, queries, TQ_SEARCH_HYBRID, NULL, "rag search hybrid");
    bench_search(store, &e, queries, TQ_SEARCH_HYBRID, "group=3", "the same, a filter keeping 5 %");
    tq_rag_close(store);
    unlink(path);
    tq_free(&ctx->mem, centres);
    tq_free(&ctx->mem, all);
    tq_free(&ctx->mem, queries);
    tq_ctx_free(ctx);
    return 0;
}
