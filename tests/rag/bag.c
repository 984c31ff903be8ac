/* See bag.h. */
#include "bag.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

static bool is_word(char c) {
    return isalnum((unsigned char)c) || (unsigned char)c >= 0x80;
}

static toque_status tokenize(void *self, const char *text, size_t n, tq_ends *ends, toque_error *err) {
    (void)self;
    for (size_t i = 0; i < n;) {
        size_t len = 0;
        if (isspace((unsigned char)text[i])) {
            i++;
            continue;
        }
        if (!is_word(text[i])) len = 1;
        while (len < 4 && i + len < n && is_word(text[i + len]) && (len == 0 || is_word(text[i]))) len++;
        while (i + len < n && ((unsigned char)text[i + len] & 0xc0) == 0x80) len++; /* whole characters */
        i += len ? len : 1;
        if (!TQ_GROW(ends->mem, ends->at, ends->len, ends->cap)) return TQ_NOMEM(err);
        ends->at[ends->len++] = (uint32_t)i;
    }
    return TOQUE_OK;
}

static void add_word(float *out, int dim, const char *word, size_t n) {
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < n; i++) h = (h ^ (uint64_t)tolower((unsigned char)word[i])) * 1099511628211u;
    for (int i = 0; i < dim; i++) {
        h ^= h << 13;
        h ^= h >> 7;
        h ^= h << 17;
        out[i] += (float)(int32_t)(h >> 32) / 2147483648.0f;
    }
}

static toque_status embed(void *self, const char *const *texts, const size_t *lengths, size_t n, float *out,
                          toque_error *err) {
    (void)err;
    bag *b = self;
    b->calls++;
    b->texts += n;
    memset(out, 0, n * (size_t)b->dim * sizeof *out);
    for (size_t t = 0; t < n; t++, out += b->dim) {
        const char *text = texts[t];
        for (size_t i = 0; i < lengths[t];) {
            size_t len = 0;
            while (i + len < lengths[t] && is_word(text[i + len])) len++;
            if (len) add_word(out, b->dim, text + i, len);
            i += len + 1;
        }
        double sum = 1e-12;
        for (int i = 0; i < b->dim; i++) sum += (double)out[i] * out[i];
        for (int i = 0; i < b->dim; i++) out[i] /= (float)sqrt(sum);
    }
    return TOQUE_OK;
}

tq_rag_embedder bag_embedder(bag *b, int dim, int max_tokens) {
    *b = (bag){.dim = dim};
    return (tq_rag_embedder){.self = b,
                             .name = "bag",
                             .hash = "b46",
                             .pooling = "sum",
                             .query_prefix = "",
                             .passage_prefix = "",
                             .dim = dim,
                             .max_tokens = max_tokens,
                             .embed = embed,
                             .tokenize = tokenize};
}
