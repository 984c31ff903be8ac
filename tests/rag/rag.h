/* What tests of stores share: a context, a path that is removed, documents from text. */
#ifndef TQ_TESTS_RAG_RAG_H
#define TQ_TESTS_RAG_RAG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* clang-format off */
#include <cmocka.h>
/* clang-format on */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bag.h"
#include "rag/search.h"

static toque_error ok_error, *const err = &ok_error;
#define OK(call)                                                                                                       \
    do {                                                                                                               \
        if ((call) != TOQUE_OK) fail_msg("%s: %s", #call, ok_error.message);                                           \
    } while (0)

static tq_ctx *ctx;
static size_t own; /* bytes of the context itself */
static char folder[] = "rag-test-XXXXXX", store_path[64];

static int set_up(void **state) {
    (void)state;
    OK(tq_ctx_new(&ctx, 2, 0, "f32", err));
    own = ctx->mem.used;
    if (!folder[0] || !mkdtemp(folder)) return -1;
    snprintf(store_path, sizeof store_path, "%s/store.db", folder);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    assert_int_equal(ctx->mem.used, own);
    tq_ctx_free(ctx);
    return rmdir(folder);
}

static void remove_store(void) {
    static const char *const ends[] = {"", "-wal", "-shm"};
    char path[80];
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s%s", store_path, ends[i]);
        unlink(path);
    }
}

/* A document of paragraphs, "# " in front of a line makes it a heading, put into the store. */
static inline void put(tq_rag *store, const tq_rag_embedder *e, const char *uri, const char *language, const char *text,
                       const tq_doc_pair *pairs, size_t n_pairs) {
    tq_doc doc;
    tq_chunks chunks;
    tq_doc_init(&doc, store->mem);
    for (const char *p = text; *p;) {
        const char *end = strstr(p, "\n\n");
        size_t n = end ? (size_t)(end - p) : strlen(p);
        bool heading = strncmp(p, "# ", 2) == 0;
        tq_doc_begin(&doc, heading ? TQ_BLOCK_HEADING : TQ_BLOCK_TEXT, heading);
        tq_doc_put(&doc, heading ? p + 2 : p, heading ? n - 2 : n);
        p += n + (end ? 2 : 0);
    }
    OK(tq_doc_status(&doc, err));
    OK(tq_chunks_make(&chunks, store->mem, &doc, e, &store->facts.chunk, err));
    float *v = NULL;
    if (e->dim) {
        v = test_calloc(chunks.n * (size_t)e->dim + 1, sizeof *v);
        for (size_t i = 0; i < chunks.n; i++) {
            tq_buf b;
            tq_buf_init(&b, store->mem, 1 << 20);
            const tq_chunk *c = &chunks.items[i];
            tq_passage(&b, chunks.headings.data + c->heading, doc.text.data + c->start, c->end - c->start);
            const char *data = b.data;
            OK(e->embed(e->self, &data, &b.len, 1, v + i * (size_t)e->dim, err));
            tq_buf_clear(&b);
        }
    }
    const tq_source source = {.uri = uri, .root = uri, .hash = "0", .format = "txt", .title = "", .language = language};
    OK(tq_rag_put(store, &source, &doc, &chunks, v, pairs, n_pairs, err));
    test_free(v);
    tq_chunks_clear(&chunks);
    tq_doc_clear(&doc);
}

#endif
