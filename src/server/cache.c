/* The prefix cache: see cache.h. There are some hundreds of entries at most, so they are simply walked. */
#include "server/cache.h"

#include <string.h>

enum { FEWEST = 16 }; /* tokens that are worth an entry */

void tq_cache_init(tq_cache *cache, tq_model *model, size_t limit) {
    *cache = (tq_cache){.model = model, .limit = limit};
}

static void drop(tq_cache *cache, size_t i) {
    tq_mem *mem = &cache->model->ctx->mem;
    tq_cached *c = &cache->items[i];
    cache->bytes -= c->bytes;
    tq_free(mem, c->worn);
    tq_free(mem, c->tokens);
    tq_kv_free(cache->model, c->kv);
    cache->items[i] = cache->items[--cache->n];
}

void tq_cache_clear(tq_cache *cache) {
    while (cache->n) drop(cache, cache->n - 1);
    if (cache->model) tq_free(&cache->model->ctx->mem, cache->items);
    cache->items = NULL;
    cache->cap = 0;
}

static size_t row_bytes(const tq_kv *kv) {
    return (size_t)kv->width * (kv->type == TQ_F16 ? 2 : 4);
}

/* The first n tokens of one cache into another, which then has them. */
static void copy(tq_kv *to, const tq_kv *from, int n) {
    for (int l = 0; l < from->n_layers; l++)
        for (int v = 0; v < 2; v++)
            for (int h = 0; h < from->heads; h++)
                memcpy(tq_kv_at(to, l, v, h, 0), tq_kv_at(from, l, v, h, 0), (size_t)n * row_bytes(from));
    to->length = n;
}

static int common(const tq_cached *c, const char *worn, const tq_token *tokens, int n) {
    if (strcmp(c->worn, worn) != 0) return 0;
    int most = c->n < n ? c->n : n, i = 0;
    while (i < most && c->tokens[i] == tokens[i]) i++;
    return i;
}

int tq_cache_take(tq_cache *cache, const char *worn, const tq_token *tokens, int n, tq_kv *kv) {
    tq_cached *best = NULL;
    int longest = 0;
    for (size_t i = 0; i < cache->n; i++) {
        int k = common(&cache->items[i], worn, tokens, n - 1);
        if (k <= longest) continue;
        longest = k;
        best = &cache->items[i];
    }
    if (!best || longest < FEWEST) return 0;
    best->used = ++cache->clock;
    copy(kv, best->kv, longest);
    return longest;
}

static void drop_oldest(tq_cache *cache) {
    size_t oldest = 0;
    for (size_t i = 1; i < cache->n; i++)
        if (cache->items[i].used < cache->items[oldest].used) oldest = i;
    drop(cache, oldest);
}

void tq_cache_put(tq_cache *cache, const char *worn, const tq_token *tokens, int n, const tq_kv *kv) {
    tq_mem *mem = &cache->model->ctx->mem;
    size_t bytes = (size_t)kv->n_layers * 2 * (size_t)kv->heads * (size_t)n * row_bytes(kv);
    if (n < FEWEST || bytes > cache->limit) return;
    for (size_t i = 0; i < cache->n;) {
        int k = common(&cache->items[i], worn, tokens, n);
        if (k == n) {
            cache->items[i].used = ++cache->clock;
            return;
        }
        if (k == cache->items[i].n) /* the new one holds all of it: an earlier turn of a conversation */
            drop(cache, i);
        else
            i++;
    }
    while (cache->bytes + bytes > cache->limit) drop_oldest(cache);
    tq_cached c = {.n = n, .bytes = bytes, .used = ++cache->clock};
    toque_error err;
    c.worn = tq_strdup(mem, worn);
    c.tokens = tq_alloc(mem, (size_t)n, sizeof *c.tokens);
    if (!c.worn || !c.tokens || !TQ_GROW(mem, cache->items, cache->n, cache->cap) ||
        tq_kv_new(&c.kv, cache->model, n, &err) != TOQUE_OK) { /* a cache may do without */
        tq_free(mem, c.worn);
        tq_free(mem, c.tokens);
        return;
    }
    memcpy(c.tokens, tokens, (size_t)n * sizeof *tokens);
    copy(c.kv, kv, n);
    cache->items[cache->n++] = c;
    cache->bytes += bytes;
}
