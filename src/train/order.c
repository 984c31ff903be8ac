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

toque_status tq_order_mix(tq_order *o, const uint16_t *set_of, const size_t *take, size_t n_sets, toque_error *err) {
    o->take = TQ_NEW_ARRAY(o->mem, size_t, n_sets);
    o->first = TQ_NEW_ARRAY(o->mem, size_t, n_sets + 1);
    o->rows = TQ_NEW_ARRAY(o->mem, uint32_t, o->n);
    o->turn = TQ_NEW_ARRAY(o->mem, uint32_t, o->n);
    if (!o->take || !o->first || !o->rows || !o->turn) return TQ_NOMEM(err);
    size_t at = 0;
    for (size_t s = 0; s < n_sets; s++) {
        o->take[s] = take[s];
        o->first[s] = at;
        for (size_t i = 0; i < o->n; i++)
            if (set_of[i] == s) o->rows[at++] = (uint32_t)i;
    }
    o->first[n_sets] = at;
    o->n_sets = n_sets;
    return TOQUE_OK;
}

void tq_order_clear(tq_order *o) {
    if (!o->mem) return;
    void *blocks[] = {o->index, o->take, o->first, o->rows, o->turn};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) tq_free(o->mem, blocks[i]);
    *o = (tq_order){0};
}

/* Fisher-Yates, from the last place down. */
static void shuffle(uint32_t *index, size_t n, uint64_t seed, uint32_t a, uint32_t b) {
    tq_rng rng;
    tq_rng_init(&rng, seed, TQ_RNG_SHUFFLE, a, b);
    for (size_t i = n; i-- > 1;) {
        uint32_t j = tq_rng_below(&rng, (uint32_t)i + 1), t = index[i];
        index[i] = index[j];
        index[j] = t;
    }
}

/* The epoch's piece of each data set, one behind the other. */
static void draw(tq_order *o, int64_t epoch) {
    size_t at = 0;
    for (size_t s = 0; s < o->n_sets; s++) {
        const size_t n = o->first[s + 1] - o->first[s];
        int64_t turn = -1;
        for (size_t i = 0; i < o->take[s]; i++) {
            uint64_t place = (uint64_t)epoch * o->take[s] + i;
            if ((int64_t)(place / n) != turn) {
                turn = (int64_t)(place / n);
                for (size_t k = 0; k < n; k++) o->turn[k] = o->rows[o->first[s] + k];
                shuffle(o->turn, n, o->seed, (uint32_t)turn, (uint32_t)s + 1);
            }
            o->index[at++] = o->turn[place % n];
        }
    }
}

static void lay_epoch(tq_order *o, int64_t epoch) {
    o->epoch = epoch;
    if (o->n_sets)
        draw(o, epoch);
    else
        for (size_t i = 0; i < o->n; i++) o->index[i] = (uint32_t)i;
    if (o->shuffle) shuffle(o->index, o->n, o->seed, (uint32_t)epoch, 0);
}

int64_t tq_order_rows(tq_order *o, int64_t step, const uint32_t **rows, size_t *n) {
    int64_t epoch = step / o->steps;
    size_t at = (size_t)(step % o->steps) * o->batch;
    if (epoch != o->epoch) lay_epoch(o, epoch);
    *rows = o->index + at;
    *n = o->n - at < o->batch ? o->n - at : o->batch;
    return epoch;
}
