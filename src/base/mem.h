/* The one allocation gateway. A `tq_mem` belongs to a context: it counts, limits and, for tests, fails
 * on purpose. Sizes are overflow-checked products; blocks are aligned to 64 bytes. A NULL result means
 * that nothing was changed; the caller turns it into TQ_NOMEM(err). Thread-safe. */
#ifndef TQ_BASE_MEM_H
#define TQ_BASE_MEM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct tq_mem {
    size_t limit;               /* bytes in use that may not be passed; 0 = none */
    atomic_size_t used, peak;   /* bytes now, and the most there ever were */
    atomic_ullong calls;        /* allocations and growths asked for so far */
    unsigned long long fail_at; /* the call with this number (from 1) fails; 0 = none */
    bool fail_after;            /* every later one too */
} tq_mem;

/* No limit, no faults. A zeroed struct is also valid. */
void tq_mem_init(tq_mem *mem, size_t limit);

/* n * size bytes, uninitialized (tq_alloc) or zero (tq_zalloc). A product of 0 gives a valid pointer. */
void *tq_alloc(tq_mem *mem, size_t n, size_t size);
void *tq_zalloc(tq_mem *mem, size_t n, size_t size);
/* Grows or shrinks to n * size bytes; on NULL the old block is unchanged. p may be NULL. */
void *tq_realloc(tq_mem *mem, void *p, size_t n, size_t size);
/* Accepts NULL. mem must be the gateway that the block came from. */
void tq_free(tq_mem *mem, void *p);
char *tq_strndup(tq_mem *mem, const char *s, size_t n);
char *tq_strdup(tq_mem *mem, const char *s);

#define TQ_NEW(mem, type) ((type *)tq_zalloc((mem), 1, sizeof(type)))
#define TQ_NEW_ARRAY(mem, type, n) ((type *)tq_zalloc((mem), (size_t)(n), sizeof(type)))

/* Makes room for one more element in a growing array: doubles *cap when len == cap. False: no memory. */
bool tq_grow(tq_mem *mem, void **items, size_t len, size_t *cap, size_t size);
#define TQ_GROW(mem, items, len, cap) tq_grow((mem), (void **)&(items), (len), &(cap), sizeof *(items))

/* A bump allocator for many small things with one lifetime (parse trees, vocabularies). */
typedef struct tq_arena {
    tq_mem *mem;
    struct tq_arena_chunk *head;
    size_t chunk_size;
} tq_arena;
void tq_arena_init(tq_arena *arena, tq_mem *mem, size_t chunk_size);
void tq_arena_clear(tq_arena *arena);                         /* frees everything; the arena may be used again */
void *tq_arena_alloc(tq_arena *arena, size_t n, size_t size); /* zeroed, aligned to 16 bytes, or NULL */
char *tq_arena_strndup(tq_arena *arena, const char *s, size_t n);

#endif
