/* The prefix cache: keys and values of prompts that were read before. An entry holds what prefill made of a sequence of
 * tokens under certain hats; a new prompt takes over the rows of the longest common beginning. Bounded in bytes, the
 * least recently used goes first. For the engine's thread alone. */
#ifndef TQ_SERVER_CACHE_H
#define TQ_SERVER_CACHE_H

#include "model/model.h"

typedef struct tq_cached {
    char *worn; /* what the hats are, by content */
    tq_token *tokens;
    tq_kv *kv; /* of n tokens exactly */
    int n;
    size_t bytes;
    uint64_t used; /* when, in uses of the cache */
} tq_cached;

typedef struct tq_cache {
    tq_model *model;
    size_t limit, bytes;
    tq_cached *items;
    size_t n, cap;
    uint64_t clock;
} tq_cache;

void tq_cache_init(tq_cache *cache, tq_model *model, size_t limit);
void tq_cache_clear(tq_cache *cache);
/* Copies into the empty kv what is known of the beginning of tokens [n], but not the last one. Returns how many. */
int tq_cache_take(tq_cache *cache, const char *worn, const tq_token *tokens, int n, tq_kv *kv);
/* Remembers the first n tokens of kv. Nothing happens when they are there already, are few, or do not fit. */
void tq_cache_put(tq_cache *cache, const char *worn, const tq_token *tokens, int n, const tq_kv *kv);

#endif
