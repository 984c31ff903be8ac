/* Merging of neighbouring symbols, the heart of both BPE kinds: the pair with the lowest order merges first, the
 * leftmost of equals, until no pair can. Few symbols are searched through each time, which is fastest where nearly all
 * words are; many go through a heap, so that a text without spaces costs n log n. */
#include "text/tok.h"

#include <string.h>

enum { FEW_SYMBOLS = 48, NO_SYM = UINT32_MAX };

bool tq_tok_syms_reserve(tok_call *call, size_t n) {
    if (n <= call->syms_cap) return true;
    size_t cap = n > call->syms_cap * 2 ? n : call->syms_cap * 2;
    tok_sym *syms = tq_alloc(call->tok->mem, cap, sizeof *syms);
    if (!syms) return false;
    tq_free(call->tok->mem, call->syms);
    call->syms = syms;
    call->syms_cap = cap;
    return true;
}

static size_t merge_few(tok_call *call, const char *text, size_t n, tok_pair_fn pair) {
    tok_sym *s = call->syms;
    for (;;) {
        size_t best = 0;
        uint32_t order = TOK_NO_MERGE;
        for (size_t i = 0; i + 1 < n; i++) {
            if (s[i].order < order) {
                order = s[i].order;
                best = i;
            }
        }
        if (order == TOK_NO_MERGE) return n;
        s[best].id = s[best].merged;
        s[best].len += s[best + 1].len;
        s[best].order = TOK_NO_MERGE;
        memmove(s + best + 1, s + best + 2, (n - best - 2) * sizeof *s);
        n--;
        if (best + 1 < n) pair(call, text, &s[best], &s[best + 1]);
        if (best > 0) pair(call, text, &s[best - 1], &s[best]);
    }
}

static bool before(const tok_heap_item *a, const tok_heap_item *b) {
    return a->order != b->order ? a->order < b->order : a->at < b->at;
}

static void sift_down(tok_heap_item *heap, size_t n, size_t i) {
    tok_heap_item item = heap[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= n) break;
        if (child + 1 < n && before(&heap[child + 1], &heap[child])) child++;
        if (!before(&heap[child], &item)) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = item;
}

static void sift_up(tok_heap_item *heap, size_t i) {
    tok_heap_item item = heap[i];
    while (i > 0 && before(&item, &heap[(i - 1) / 2])) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = item;
}

/* Computes the pair that begins at symbol i and queues it. */
static void queue_pair(tok_call *call, const char *text, tok_pair_fn pair, uint32_t i, size_t *heap_len) {
    tok_sym *s = call->syms;
    s[i].order = TOK_NO_MERGE;
    if (s[i].next == NO_SYM) return;
    pair(call, text, &s[i], &s[s[i].next]);
    if (s[i].order == TOK_NO_MERGE) return;
    call->heap[*heap_len] = (tok_heap_item){.order = s[i].order, .at = i, .merged = s[i].merged};
    sift_up(call->heap, (*heap_len)++);
}

static size_t merge_many(tok_call *call, const char *text, size_t n, tok_pair_fn pair) {
    tok_sym *s = call->syms;
    size_t heap_len = 0;
    for (size_t i = 0; i < n; i++) {
        s[i].prev = i ? (uint32_t)(i - 1) : NO_SYM;
        s[i].next = i + 1 < n ? (uint32_t)(i + 1) : NO_SYM;
        if (i + 1 < n && s[i].order != TOK_NO_MERGE)
            call->heap[heap_len++] = (tok_heap_item){.order = s[i].order, .at = (uint32_t)i, .merged = s[i].merged};
    }
    for (size_t i = heap_len / 2; i-- > 0;) sift_down(call->heap, heap_len, i);
    while (heap_len > 0) {
        tok_heap_item top = call->heap[0];
        call->heap[0] = call->heap[--heap_len];
        if (heap_len) sift_down(call->heap, heap_len, 0);
        tok_sym *left = &s[top.at];
        /* A stale entry: the symbol is gone (len 0) or its pair is another one by now. */
        if (!left->len || left->order != top.order || left->merged != top.merged) continue;
        tok_sym *right = &s[left->next];
        left->id = left->merged;
        left->len += right->len;
        left->next = right->next;
        right->len = 0;
        if (left->next != NO_SYM) s[left->next].prev = top.at;
        /* Each merge takes one entry out and puts at most two in: the heap never holds more than 2 n. */
        queue_pair(call, text, pair, top.at, &heap_len);
        if (left->prev != NO_SYM) queue_pair(call, text, pair, left->prev, &heap_len);
    }
    size_t kept = 0;
    for (uint32_t i = 0; i != NO_SYM; i = s[i].next) s[kept++] = s[i];
    return kept;
}

toque_status tq_tok_merge(tok_call *call, const char *text, size_t *n, tok_pair_fn pair, toque_error *err) {
    if (*n == 0) return TOQUE_OK;
    tok_sym *s = call->syms;
    s[*n - 1].order = TOK_NO_MERGE;
    for (size_t i = 0; i + 1 < *n; i++) pair(call, text, &s[i], &s[i + 1]);
    if (*n <= FEW_SYMBOLS) {
        *n = merge_few(call, text, *n, pair);
        return TOQUE_OK;
    }
    if (call->heap_cap < 2 * *n) {
        tok_heap_item *heap = tq_alloc(call->tok->mem, 2 * *n, sizeof *heap);
        if (!heap) return TQ_NOMEM(err);
        tq_free(call->tok->mem, call->heap);
        call->heap = heap;
        call->heap_cap = 2 * *n;
    }
    *n = merge_many(call, text, *n, pair);
    return TOQUE_OK;
}
