/* The order of rows. See order.h. */
#include "train/order.h"

#include "base/rng.h"

toque_status tq_order_init(tq_order *o, tq_mem *mem, size_t n, size_t batch, bool shuffle, uint64_t seed,
                           toque_error *err) {
    *o = (tq_order){.mem = mem, .n = n, .batch = batch, .shuffle = shuffle, .seed = seed, .epoch = -1};
    if (n == 0 || n > UINT32_MAX || batch == 0)
        return TQ_FAIL(err, EINVAL, "cannot train on %zu rows in batches of %zu", n, batch);
    o->steps = (int64_t)((n + batch - 1) / batch);
    o->index = TQ_NEW_ARRAY(mem, uint32_t, n);
    return o->index ? TOQUE_OK : TQ_NOMEM(err);
}

void tq_order_clear(tq_order *o) {
    if (o->mem) tq_free(o->mem, o->index);
    *o = (tq_order){0};
}

/* Fisher-Yates, from the last place down. */
static void lay_epoch(tq_order *o, int64_t epoch) {
    for (size_t i = 0; i < o->n; i++) o->index[i] = (uint32_t)i;
    o->epoch = epoch;
    if (!o->shuffle) return;
    tq_rng rng;
    tq_rng_init(&rng, o->seed, TQ_RNG_SHUFFLE, (uint32_t)epoch, 0);
    for (size_t i = o->n - 1; i > 0; i--) {
        uint32_t j = tq_rng_below(&rng, (uint32_t)i + 1), t = o->index[i];
        o->index[i] = o->index[j];
        o->index[j] = t;
    }
}

int64_t tq_order_rows(tq_order *o, int64_t step, const uint32_t **rows, size_t *n) {
    int64_t epoch = step / o->steps;
    size_t at = (size_t)(step % o->steps) * o->batch;
    if (epoch != o->epoch) lay_epoch(o, epoch);
    *rows = o->index + at;
    *n = o->n - at < o->batch ? o->n - at : o->batch;
    return epoch;
}
