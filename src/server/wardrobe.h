/* The adapters that a server has, by name, and what a request wears of them.
 *
 * A request names a model: the base, base:NAME (NAME alone is understood too), and may wear a weighted list instead
 * (the field lora). What is worn is kept for the request: an adapter that is unloaded meanwhile is freed behind the
 * last one that wears it. Reading and freeing happen on the engine's thread; names are looked up on any.
 */
#ifndef TQ_SERVER_WARDROBE_H
#define TQ_SERVER_WARDROBE_H

#include <jansson.h>
#include <pthread.h>

#include "model/adapter.h"

enum { TQ_MOST_WORN = 8 };

typedef struct tq_garment {
    char *name, *path;
    tq_adapter *adapter;
    char hash[65]; /* of what it does: kind, settings and values */
    float scale;   /* as the base:NAME model */
    int64_t loaded;
    int users;
    bool gone; /* unloaded: freed when nobody uses it */
} tq_garment;

typedef struct tq_wardrobe {
    tq_mem *mem;
    tq_model *model;
    const char *base; /* its name */
    pthread_mutex_t lock;
    tq_garment **items;
    size_t n, cap;
} tq_wardrobe;

/* What one request wears. */
typedef struct tq_outfit {
    tq_wardrobe *wardrobe;
    tq_garment *garments[TQ_MOST_WORN];
    tq_hat items[TQ_MOST_WORN];
    tq_hats hats; /* over items; compared by address, so an outfit stays where it is */
    char worn[TQ_MOST_WORN * 84];
    char name[200]; /* of the model, as answers call it */
} tq_outfit;

toque_status tq_wardrobe_init(tq_wardrobe *w, tq_mem *mem, tq_model *model, const char *base, toque_error *err) TQ_MUST;
void tq_wardrobe_clear(tq_wardrobe *w);
/* Reads an adapter and hangs it up under a name. EINVAL for a name that is taken or that has other characters than
 * letters, digits, '.', '_' and '-'; one with a head is refused. replace: one of that name makes room (SIGHUP). */
toque_status tq_wardrobe_load(tq_wardrobe *w, const char *name, const char *path, float scale, bool replace,
                              toque_error *err) TQ_MUST;
toque_status tq_wardrobe_unload(tq_wardrobe *w, const char *name, toque_error *err) TQ_MUST;
int tq_wardrobe_max_rank(tq_wardrobe *w);
/* Dresses a request. model: NULL is the base; lora: NULL or [{"name" | "id", "scale"}]. ENOTFOUND for an unknown name.
 */
toque_status tq_outfit_choose(tq_outfit *o, tq_wardrobe *w, const char *model, const json_t *lora,
                              toque_error *err) TQ_MUST;
void tq_outfit_clear(tq_outfit *o);
/* Calls fn for each adapter, under the wardrobe's lock. */
void tq_wardrobe_each(tq_wardrobe *w, void (*fn)(void *arg, size_t id, const tq_garment *g), void *arg);

#endif
