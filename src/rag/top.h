/* Small things that the stages of a search share: the best K of many scored chunks, sets of documents, and how a
 * chunk's id tells its document. */
#ifndef TQ_RAG_TOP_H
#define TQ_RAG_TOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

enum { TQ_CHUNK_BITS = 20 }; /* chunks of a document are numbered below 2^20 */
static inline int64_t tq_chunk_id(int64_t document, int64_t ordinal) {
    return document << TQ_CHUNK_BITS | ordinal;
}
static inline int64_t tq_chunk_document(int64_t chunk) {
    return chunk >> TQ_CHUNK_BITS;
}
static inline int64_t tq_chunk_ordinal(int64_t chunk) {
    return chunk & ((1 << TQ_CHUNK_BITS) - 1);
}

/* A set of documents by id. */
typedef struct tq_bitmap {
    uint64_t *words;
    int64_t n; /* ids below it may be in the set */
} tq_bitmap;
static inline bool tq_bitmap_has(const tq_bitmap *b, int64_t i) {
    return i >= 0 && i < b->n && (b->words[i / 64] >> i % 64 & 1);
}

typedef struct tq_scored {
    double score;
    int64_t chunk;
} tq_scored;

/* The k best: a heap whose first item is the worst of them. Of two with one score the lower id is the better, so the
 * result does not depend on the order of coming. */
typedef struct tq_top {
    tq_scored *items; /* [k], the caller's */
    size_t k, n;
} tq_top;

static inline bool tq_better(tq_scored a, tq_scored b) {
    return a.score > b.score || (a.score == b.score && a.chunk < b.chunk);
}

static inline void tq_top_put(tq_top *t, double score, int64_t chunk) {
    tq_scored s = {score, chunk};
    size_t i;
    if (t->n < t->k) {
        for (i = t->n++; i > 0 && tq_better(t->items[(i - 1) / 2], s); i = (i - 1) / 2)
            t->items[i] = t->items[(i - 1) / 2];
        t->items[i] = s;
        return;
    }
    if (t->k == 0 || !tq_better(s, t->items[0])) return;
    for (i = 0;;) {
        size_t c = 2 * i + 1;
        if (c >= t->n) break;
        if (c + 1 < t->n && tq_better(t->items[c], t->items[c + 1])) c++;
        if (!tq_better(s, t->items[c])) break;
        t->items[i] = t->items[c];
        i = c;
    }
    t->items[i] = s;
}

static inline int tq_scored_order(const void *a, const void *b) {
    const tq_scored *x = a, *y = b;
    return tq_better(*x, *y) ? -1 : tq_better(*y, *x) ? 1 : 0;
}
/* Best first; the heap is used up. */
static inline void tq_top_sort(tq_top *t) {
    if (t->n) qsort(t->items, t->n, sizeof *t->items, tq_scored_order);
}

#endif
