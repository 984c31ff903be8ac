/* Holding rows out for evaluation: chosen by a random key per row, so that the choice depends on the seed and the row's
 * number alone; stratified by file and label with the largest-remainder rule. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "train/dataset.h"

typedef struct unit { /* a row: its examples move together */
    uint16_t file;
    int32_t label;
    uint64_t key;
    uint32_t row;
    size_t first, n;
} unit;

static int by_label_and_key(const void *a, const void *b) {
    const unit *x = a, *y = b;
    if (x->file != y->file) return x->file < y->file ? -1 : 1;
    if (x->label != y->label) return x->label < y->label ? -1 : 1;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

static size_t collect(const tq_dataset *set, uint64_t seed, unit *units) {
    size_t n = 0;
    for (size_t i = 0; i < set->n; i++) {
        const tq_example *e = &set->examples[i];
        if (n && units[n - 1].row == e->row) {
            units[n - 1].n++;
            continue;
        }
        tq_rng rng;
        tq_rng_init(&rng, seed, TQ_RNG_SPLIT, e->row, 0);
        uint64_t high = tq_rng_u32(&rng);
        units[n++] = (unit){.file = e->file,
                            .label = e->label,
                            .key = high << 32 | tq_rng_u32(&rng),
                            .row = e->row,
                            .first = i,
                            .n = 1};
    }
    return n;
}

typedef struct stratum {
    size_t first, n, take;
    double rest; /* of its quota, after the whole part */
} stratum;

/* How many of each stratum: the whole part of its quota, then one more for the largest remainders. */
static void share_out(stratum *s, size_t n_strata, size_t take, size_t n) {
    size_t given = 0;
    for (size_t i = 0; i < n_strata; i++) {
        double quota = (double)take * (double)s[i].n / (double)n;
        s[i].take = (size_t)quota;
        s[i].rest = quota - (double)s[i].take;
        given += s[i].take;
    }
    for (; given < take; given++) {
        stratum *best = NULL;
        for (size_t i = 0; i < n_strata; i++)
            if (s[i].take < s[i].n && (!best || s[i].rest > best->rest)) best = &s[i];
        if (!best) return;
        best->take++;
        best->rest -= 1;
    }
}

static toque_status mark_held(tq_mem *mem, unit *units, size_t n, size_t take, bool *held, toque_error *err) {
    qsort(units, n, sizeof *units, by_label_and_key);
    stratum *s = TQ_NEW_ARRAY(mem, stratum, n + 1);
    if (!s) return TQ_NOMEM(err);
    size_t n_strata = 0;
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || units[i].file != units[i - 1].file || units[i].label != units[i - 1].label)
            s[n_strata++] = (stratum){.first = i};
        s[n_strata - 1].n++;
    }
    share_out(s, n_strata, take, n);
    for (size_t i = 0; i < n_strata; i++)
        for (size_t k = 0; k < s[i].take; k++) {
            const unit *u = &units[s[i].first + k];
            memset(held + u->first, 1, u->n);
        }
    tq_free(mem, s);
    return TOQUE_OK;
}

static void move(tq_dataset *set, tq_dataset *out, const bool *held) {
    size_t left = 0;
    set->n_tokens = set->n_targets = 0;
    for (size_t i = 0; i < set->n; i++) {
        tq_dataset *to = held[i] ? out : set;
        to->n_tokens += (size_t)set->examples[i].n;
        to->n_targets += (size_t)set->examples[i].n_targets;
        if (held[i]) {
            if (set->examples[i].n > out->longest) out->longest = set->examples[i].n;
            out->examples[out->n++] = set->examples[i];
        } else {
            set->examples[left++] = set->examples[i];
        }
    }
    set->n = left;
}

toque_status tq_dataset_split(tq_dataset *set, tq_dataset *held_out, double share, size_t most, uint64_t seed,
                              toque_error *err) {
    tq_mem *mem = set->mem;
    *held_out = (tq_dataset){.mem = mem};
    tq_buf_init(&held_out->notes, mem, 1 << 20);
    if (!(share >= 0 && share < 1)) return TQ_FAIL(err, EINVAL, "a share of %g rows to hold out: 0 to below 1", share);
    toque_status status = TOQUE_OK;
    unit *units = TQ_NEW_ARRAY(mem, unit, set->n + 1);
    bool *held = TQ_NEW_ARRAY(mem, bool, set->n + 1);
    held_out->examples = TQ_NEW_ARRAY(mem, tq_example, set->n + 1);
    held_out->cap = set->n + 1;
    if (!units || !held || !held_out->examples) {
        status = TQ_NOMEM(err);
        goto done;
    }
    size_t n = collect(set, seed, units), take = (size_t)llround(share * (double)n);
    if (take > most) take = most;
    if (n > 0 && take >= n) take = n - 1; /* something must be left to learn from */
    TQ_GO(mark_held(mem, units, n, take, held, err));
    move(set, held_out, held);
    held_out->n_rows = take;
    memcpy(held_out->hash, set->hash, sizeof set->hash);
done:
    tq_free(mem, units);
    tq_free(mem, held);
    if (status != TOQUE_OK) tq_dataset_clear(held_out);
    return status;
}
