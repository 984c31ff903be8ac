/* The table of names. See names.h. Hostile names may be made to collide: the readers limit how many there are,
 * and a full comparison happens only where all 64 bits of the hash agree. */
#include "files/names.h"

#include <assert.h>
#include <string.h>

struct tq_name_slot {
    const char *name; /* NULL: free */
    size_t len, index;
    uint64_t hash;
};

/* FNV-1a, 64 bits (Fowler, Noll, Vo). */
uint64_t tq_name_hash(const char *s, size_t n) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ (uint8_t)s[i]) * 0x100000001b3u;
    return h;
}

bool tq_names_init(tq_names *names, tq_mem *mem, size_t n) {
    *names = (tq_names){.mem = mem};
    if (n > SIZE_MAX / 8) return false;
    size_t size = 8;
    while (size < n * 2) size *= 2;
    names->slots = TQ_NEW_ARRAY(mem, struct tq_name_slot, size);
    names->mask = size - 1;
    return names->slots != NULL;
}

void tq_names_clear(tq_names *names) {
    if (names->slots) tq_free(names->mem, names->slots);
    *names = (tq_names){.mem = names->mem};
}

/* The slot that holds the name, or the free one where it belongs. */
static struct tq_name_slot *slot_of(const tq_names *names, const char *name, size_t len, uint64_t hash) {
    for (size_t i = hash & names->mask;; i = (i + 1) & names->mask) {
        struct tq_name_slot *s = &names->slots[i];
        if (!s->name || (s->hash == hash && s->len == len && memcmp(s->name, name, len) == 0)) return s;
    }
}

bool tq_names_add(tq_names *names, const char *name, size_t len, size_t index) {
    assert(names->slots);
    uint64_t hash = tq_name_hash(name, len);
    struct tq_name_slot *s = slot_of(names, name, len, hash);
    if (s->name) return false;
    *s = (struct tq_name_slot){.name = name, .len = len, .index = index, .hash = hash};
    return true;
}

bool tq_names_find(const tq_names *names, const char *name, size_t len, size_t *index) {
    if (!names->slots) return false;
    const struct tq_name_slot *s = slot_of(names, name, len, tq_name_hash(name, len));
    if (!s->name) return false;
    *index = s->index;
    return true;
}

bool tq_name_ok(const char *name, size_t len) {
    for (size_t i = 0; i < len; i++)
        if ((uint8_t)name[i] < 0x20 || name[i] == 0x7f) return false;
    return len > 0;
}
