/* The embedder of stores without vectors, and what all embedders share. See embedder.h. */
#include "rag/embedder.h"

#include "text/unicode.h"

/* A word is a run of anything but white space; where one is longer than LONG bytes, it counts as several. */
static toque_status words(void *self, const char *text, size_t n, tq_ends *ends, toque_error *err) {
    enum { LONG = 24 };
    (void)self;
    size_t length = 0, step;
    for (size_t at = 0; at < n; at += step) {
        uint32_t cp;
        step = tq_utf8_next(text + at, n - at, &cp);
        bool space = tq_unicode_is_space(cp);
        if (length && (space || length >= LONG)) {
            if (!TQ_GROW(ends->mem, ends->at, ends->len, ends->cap)) return TQ_NOMEM(err);
            ends->at[ends->len++] = (uint32_t)at;
            length = 0;
        }
        if (!space) length += step;
    }
    if (!length) return TOQUE_OK;
    if (!TQ_GROW(ends->mem, ends->at, ends->len, ends->cap)) return TQ_NOMEM(err);
    ends->at[ends->len++] = (uint32_t)n;
    return TOQUE_OK;
}

const tq_rag_embedder tq_rag_embedder_none = {.name = "none",
                                              .hash = "none",
                                              .pooling = "none",
                                              .query_prefix = "",
                                              .passage_prefix = "",
                                              .max_tokens = 1 << 20,
                                              .tokenize = words};

toque_status tq_count_tokens(const tq_rag_embedder *e, tq_mem *mem, const char *text, size_t n, size_t *tokens,
                             toque_error *err) {
    tq_ends ends = {.mem = mem};
    toque_status status = e->tokenize(e->self, text, n, &ends, err);
    *tokens = ends.len;
    tq_free(mem, ends.at);
    return status;
}
