/* The allocation gateway and arenas. A block carries its size in the 64 bytes before it, so that the
 * counters stay exact without help from the C library. */
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

enum { ALIGN = 64, HUGE_PAGE = 2 << 20 };

void tq_mem_init(tq_mem *mem, size_t limit) {
    memset(mem, 0, sizeof *mem);
    mem->limit = limit;
}

static bool reserve(tq_mem *mem, size_t bytes) {
    unsigned long long call = atomic_fetch_add_explicit(&mem->calls, 1, memory_order_relaxed) + 1;
    if (mem->fail_at && (call == mem->fail_at || (mem->fail_after && call > mem->fail_at))) return false;
    size_t used = atomic_fetch_add_explicit(&mem->used, bytes, memory_order_relaxed) + bytes;
    if (mem->limit && used > mem->limit) {
        atomic_fetch_sub_explicit(&mem->used, bytes, memory_order_relaxed);
        return false;
    }
    size_t peak = atomic_load_explicit(&mem->peak, memory_order_relaxed);
    while (used > peak && !atomic_compare_exchange_weak_explicit(&mem->peak, &peak, used, memory_order_relaxed,
                                                                 memory_order_relaxed)) {}
    return true;
}

/* Large blocks in pages of 2 MB, where the system has them on request: a five-hundredth of the faults and of the
 * entries that address translation must hold. */
static void ask_for_huge_pages(char *p, size_t bytes) {
#ifdef __linux__
    size_t skip = (HUGE_PAGE - (uintptr_t)p % HUGE_PAGE) % HUGE_PAGE;
    if (bytes < 32 * (size_t)HUGE_PAGE) return;
    (void)madvise(p + skip, (bytes - skip) / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE); /* a hint: it may be refused */
#else
    (void)p, (void)bytes;
#endif
}

static void *raw(tq_mem *mem, size_t n, size_t size, bool zero) {
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes) || bytes > SIZE_MAX / 2 - 2 * ALIGN) return NULL;
    if (!reserve(mem, bytes)) return NULL;
    size_t total = (bytes + ALIGN + ALIGN - 1) / ALIGN * ALIGN;
    char *p = NULL;
    /* Large zeroed blocks come from calloc so that untouched pages cost nothing; calloc aligns to 16
     * only, so the block is shifted and the shift kept beside the size. */
    size_t shift = 0;
    if (zero && bytes >= (1u << 20)) {
        p = calloc(1, total + ALIGN);
        if (p) shift = (ALIGN - (uintptr_t)p % ALIGN) % ALIGN;
    } else {
        p = aligned_alloc(ALIGN, total);
        if (p && zero) memset(p + ALIGN, 0, bytes);
    }
    if (!p) {
        atomic_fetch_sub_explicit(&mem->used, bytes, memory_order_relaxed);
        return NULL;
    }
    if (!zero)
        ask_for_huge_pages(p, total); /* zeroed ones may stay untouched in large part: a cache of a long context */
    p += shift;
    ((size_t *)(void *)p)[0] = bytes;
    ((size_t *)(void *)p)[1] = shift;
    return p + ALIGN;
}

void *tq_alloc(tq_mem *mem, size_t n, size_t size) {
    return raw(mem, n, size, false);
}

void *tq_zalloc(tq_mem *mem, size_t n, size_t size) {
    return raw(mem, n, size, true);
}

void *tq_realloc(tq_mem *mem, void *p, size_t n, size_t size) {
    void *q = raw(mem, n, size, false);
    if (!q || !p) return q;
    size_t old = ((size_t *)(void *)((char *)p - ALIGN))[0];
    memcpy(q, p, old < n * size ? old : n * size);
    tq_free(mem, p);
    return q;
}

void tq_free(tq_mem *mem, void *p) {
    if (!p) return;
    char *head = (char *)p - ALIGN;
    atomic_fetch_sub_explicit(&mem->used, ((size_t *)(void *)head)[0], memory_order_relaxed);
    free(head - ((size_t *)(void *)head)[1]);
}

char *tq_strndup(tq_mem *mem, const char *s, size_t n) {
    char *p = n < SIZE_MAX ? tq_alloc(mem, n + 1, 1) : NULL;
    if (!p) return NULL;
    memcpy(p, s, n);
    p[n] = 0;
    return p;
}

char *tq_strdup(tq_mem *mem, const char *s) {
    return tq_strndup(mem, s, strlen(s));
}

bool tq_grow(tq_mem *mem, void **items, size_t len, size_t *cap, size_t size) {
    if (len < *cap) return true;
    size_t want = *cap ? *cap * 2 : 16;
    void *p = tq_realloc(mem, *items, want, size);
    if (!p) return false;
    *items = p;
    *cap = want;
    return true;
}

struct tq_arena_chunk {
    struct tq_arena_chunk *next;
    size_t used, size;
    _Alignas(16) char data[];
};

void tq_arena_init(tq_arena *arena, tq_mem *mem, size_t chunk_size) {
    *arena = (tq_arena){.mem = mem, .head = NULL, .chunk_size = chunk_size};
}

void tq_arena_clear(tq_arena *arena) {
    while (arena->head) {
        struct tq_arena_chunk *next = arena->head->next;
        tq_free(arena->mem, arena->head);
        arena->head = next;
    }
}

void *tq_arena_alloc(tq_arena *arena, size_t n, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes) || bytes > SIZE_MAX / 4) return NULL;
    bytes = (bytes + 15) / 16 * 16;
    struct tq_arena_chunk *c = arena->head;
    if (!c || c->size - c->used < bytes) {
        size_t room = bytes > arena->chunk_size ? bytes : arena->chunk_size;
        c = tq_alloc(arena->mem, 1, sizeof *c + room);
        if (!c) return NULL;
        c->next = arena->head;
        c->used = 0;
        c->size = room;
        arena->head = c;
    }
    void *p = c->data + c->used;
    c->used += bytes;
    memset(p, 0, bytes);
    return p;
}

char *tq_arena_strndup(tq_arena *arena, const char *s, size_t n) {
    char *p = n < SIZE_MAX ? tq_arena_alloc(arena, n + 1, 1) : NULL;
    if (p && n) memcpy(p, s, n);
    return p;
}
