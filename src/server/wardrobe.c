/* Adapters by name: see wardrobe.h. */
#include "server/wardrobe.h"

#include <string.h>
#include <time.h>

#include "base/hash.h"
#include "model/peft.h"

static void garment_free(tq_wardrobe *w, tq_garment *g) {
    if (!g) return;
    tq_adapter_free(g->adapter);
    tq_free(w->mem, g->name);
    tq_free(w->mem, g->path);
    tq_free(w->mem, g);
}

toque_status tq_wardrobe_init(tq_wardrobe *w, tq_mem *mem, tq_model *model, const char *base, toque_error *err) {
    *w = (tq_wardrobe){.mem = mem, .model = model, .base = base};
    return pthread_mutex_init(&w->lock, NULL) ? TQ_FAIL(err, EIO, "the system gives no lock") : TOQUE_OK;
}

void tq_wardrobe_clear(tq_wardrobe *w) {
    if (!w->mem) return;
    for (size_t i = 0; i < w->n; i++) garment_free(w, w->items[i]);
    tq_free(w->mem, w->items);
    pthread_mutex_destroy(&w->lock);
    *w = (tq_wardrobe){0};
}

/* --- loading ----------------------------------------------------------------------------------------------- */

static toque_status check_name(const char *name, toque_error *err) {
    size_t n = strlen(name);
    if (n > 0 && n <= 100 && strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == n)
        return TOQUE_OK;
    return TQ_FAIL(err, EINVAL,
                   "the adapter's name is '%.120s'; expected up to 100 letters, digits, '.', '_' and '-' (NAME=PATH "
                   "gives another one)",
                   name);
}

static tq_garment *find(const tq_wardrobe *w, const char *name) {
    for (size_t i = 0; i < w->n; i++)
        if (strcmp(w->items[i]->name, name) == 0) return w->items[i];
    return NULL;
}

static bool hash_of(tq_wardrobe *w, const tq_adapter *a, char hex[65]) {
    tq_sha256 *sha = tq_sha256_new(w->mem);
    if (!sha) return false;
    char settings[96];
    int n = snprintf(settings, sizeof settings, "%s %d %a %d", a->kind->name, a->rank, (double)a->alpha, a->rslora);
    tq_sha256_add(sha, settings, (size_t)n);
    for (size_t i = 0; i < a->n_ranges; i++) tq_sha256_add(sha, a->ranges[i].name, strlen(a->ranges[i].name) + 1);
    tq_sha256_add(sha, a->values, a->n * sizeof *a->values);
    tq_sha256_end(sha, hex);
    return true;
}

static toque_status read(tq_wardrobe *w, tq_garment *g, const char *name, const char *path, toque_error *err) {
    g->name = tq_strdup(w->mem, name);
    g->path = tq_strdup(w->mem, path);
    g->loaded = (int64_t)time(NULL);
    if (!g->name || !g->path) return TQ_NOMEM(err);
    TQ_TRY(tq_adapter_load(&g->adapter, w->model, path, err));
    if (g->adapter->n_heads)
        return TQ_FAIL(err, EINVAL, "%.300s answers with a head, which a server of texts would leave out", path);
    tq_hat hat = tq_adapter_hat(g->adapter, 1);
    if (tq_hats_before_tokens(&(tq_hats){.items = &hat, .n = 1}))
        return TQ_FAIL(err, EUNSUPPORTED, "%.300s is a prompt of virtual tokens, which is not served yet", path);
    return hash_of(w, g->adapter, g->hash) ? TOQUE_OK : TQ_NOMEM(err);
}

/* Takes a garment from its place. Under the lock. NULL when it is still worn: its last user frees it. */
static tq_garment *take(tq_wardrobe *w, size_t i) {
    tq_garment *g = w->items[i];
    memmove(w->items + i, w->items + i + 1, (w->n - i - 1) * sizeof *w->items);
    w->n--;
    g->gone = true;
    return g->users ? NULL : g;
}

toque_status tq_wardrobe_load(tq_wardrobe *w, const char *name, const char *path, float scale, bool replace,
                              toque_error *err) {
    TQ_TRY(check_name(name, err));
    tq_garment *g = TQ_NEW(w->mem, tq_garment), *old = NULL;
    if (!g) return TQ_NOMEM(err);
    g->scale = scale;
    toque_status status = read(w, g, name, path, err);
    pthread_mutex_lock(&w->lock);
    bool taken = find(w, name);
    if (status == TOQUE_OK && taken && !replace)
        status = TQ_FAIL(err, EINVAL, "there is an adapter %.100s already; unload it first", name);
    if (status == TOQUE_OK && !TQ_GROW(w->mem, w->items, w->n, w->cap)) status = TQ_NOMEM(err);
    if (status == TOQUE_OK) {
        size_t at = w->n;
        for (size_t i = 0; taken && i < w->n; i++)
            if (strcmp(w->items[i]->name, name) == 0) {
                at = i;
                old = take(w, i);
                break;
            }
        memmove(w->items + at + 1, w->items + at, (w->n - at) * sizeof *w->items);
        w->items[at] = g;
        w->n++;
    }
    pthread_mutex_unlock(&w->lock);
    garment_free(w, old);
    if (status != TOQUE_OK) garment_free(w, g);
    return status;
}

toque_status tq_wardrobe_unload(tq_wardrobe *w, const char *name, toque_error *err) {
    tq_garment *old = NULL;
    bool found = false;
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < w->n && !found; i++)
        if (strcmp(w->items[i]->name, name) == 0) {
            old = take(w, i);
            found = true;
        }
    pthread_mutex_unlock(&w->lock);
    garment_free(w, old);
    return found ? TOQUE_OK : TQ_FAIL(err, ENOTFOUND, "there is no adapter %.100s here", name);
}

int tq_wardrobe_max_rank(tq_wardrobe *w) {
    int most = 0;
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < w->n; i++)
        if (w->items[i]->adapter->max_rank > most) most = w->items[i]->adapter->max_rank;
    pthread_mutex_unlock(&w->lock);
    return most;
}

void tq_wardrobe_each(tq_wardrobe *w, void (*fn)(void *arg, size_t id, const tq_garment *g), void *arg) {
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < w->n; i++) fn(arg, i, w->items[i]);
    pthread_mutex_unlock(&w->lock);
}

/* --- wearing ----------------------------------------------------------------------------------------------- */

static toque_status put_on(tq_outfit *o, tq_garment *g, float scale, toque_error *err) {
    if (o->hats.n == TQ_MOST_WORN) return TQ_FAIL(err, EINVAL, "more than %d adapters are worn", TQ_MOST_WORN);
    for (int i = 0; i < o->hats.n; i++)
        if (o->garments[i] == g) return TQ_FAIL(err, EINVAL, "the adapter %.100s is named twice", g->name);
    const tq_hat hat = tq_adapter_hat(g->adapter, scale);
    if (scale != 1 && (g->adapter->weights || hat.prefix))
        return TQ_FAIL(err, EINVAL, "the adapter %.100s can be worn at scale 1 only", g->name);
    for (int i = 0; i < o->hats.n; i++)
        if ((g->adapter->weights && o->garments[i]->adapter->weights) || (hat.prefix && o->items[i].prefix))
            return TQ_FAIL(err, EINVAL, "the adapters %.100s and %.100s cannot be worn together", g->name,
                           o->garments[i]->name);
    g->users++;
    o->garments[o->hats.n] = g;
    o->items[o->hats.n++] = hat;
    size_t n = strlen(o->worn);
    snprintf(o->worn + n, sizeof o->worn - n, "%s*%a;", g->hash, (double)scale);
    return TOQUE_OK;
}

/* One item of a weighted list. */
static toque_status put_item(tq_outfit *o, const json_t *item, size_t i, toque_error *err) {
    const json_t *name = json_object_get(item, "name"), *id = json_object_get(item, "id"),
                 *scale = json_object_get(item, "scale");
    const tq_wardrobe *w = o->wardrobe;
    if (json_object_size(item) != 1 + (scale != NULL) || (!json_is_string(name) && !json_is_integer(id)) ||
        (scale && !json_is_number(scale)))
        return TQ_FAIL(err, EINVAL, "lora[%zu]: expected {\"name\" or \"id\", \"scale\"}", i);
    tq_garment *g = NULL;
    if (name)
        g = find(w, json_string_value(name));
    else if (json_integer_value(id) >= 0 && (size_t)json_integer_value(id) < w->n)
        g = w->items[json_integer_value(id)];
    if (!g)
        return TQ_FAIL(err, ENOTFOUND, "lora[%zu] names no adapter of this server; GET /lora-adapters lists them", i);
    double by = scale ? json_number_value(scale) : 1;
    if (!(by >= -1000 && by <= 1000)) return TQ_FAIL(err, EINVAL, "lora[%zu].scale is not from -1000 to 1000", i);
    return by == 0 ? TOQUE_OK : put_on(o, g, (float)by, err);
}

static toque_status choose(tq_outfit *o, const char *model, const json_t *lora, toque_error *err) {
    const tq_wardrobe *w = o->wardrobe;
    size_t n = strlen(w->base), i;
    json_t *item;
    const char *name = model;
    if (name && strcmp(name, w->base) == 0) name = NULL;
    if (name && strncmp(name, w->base, n) == 0 && name[n] == ':') name += n + 1;
    if (name) {
        tq_garment *g = find(w, name);
        if (!g) return TQ_FAIL(err, ENOTFOUND, "there is no model %.200s here; GET /v1/models lists them", model);
        snprintf(o->name, sizeof o->name, "%.90s:%s", w->base, g->name);
        TQ_TRY(put_on(o, g, g->scale, err));
    } else {
        snprintf(o->name, sizeof o->name, "%.190s", w->base);
    }
    json_array_foreach(lora, i, item) TQ_TRY(put_item(o, item, i, err));
    return TOQUE_OK;
}

toque_status tq_outfit_choose(tq_outfit *o, tq_wardrobe *w, const char *model, const json_t *lora, toque_error *err) {
    *o = (tq_outfit){.wardrobe = w};
    o->hats.items = o->items;
    pthread_mutex_lock(&w->lock);
    toque_status status = choose(o, model, lora, err);
    pthread_mutex_unlock(&w->lock);
    if (status != TOQUE_OK) tq_outfit_clear(o);
    return status;
}

void tq_outfit_clear(tq_outfit *o) {
    tq_wardrobe *w = o->wardrobe;
    if (!w) return;
    for (int i = 0; i < o->hats.n; i++) {
        tq_garment *g = o->garments[i];
        pthread_mutex_lock(&w->lock);
        bool last = --g->users == 0 && g->gone;
        pthread_mutex_unlock(&w->lock);
        if (last) garment_free(w, g);
    }
    o->hats.n = 0;
}
