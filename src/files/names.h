/* A table from names to numbers for the keys and tensors of a file: open addressing, made once at its final
 * size. Names are not copied. Also the rule for what may be a name: it ends up in messages and on terminals. */
#ifndef TQ_FILES_NAMES_H
#define TQ_FILES_NAMES_H

#include "base/mem.h"

typedef struct tq_names {
    tq_mem *mem;
    struct tq_name_slot *slots; /* a power of two of them, at most half used */
    size_t mask;
} tq_names;

/* Room for n names; false without memory. A zeroed struct is a valid empty table. */
bool tq_names_init(tq_names *names, tq_mem *mem, size_t n);
void tq_names_clear(tq_names *names);
/* False if the name is there already. At most the n of init may be added. */
bool tq_names_add(tq_names *names, const char *name, size_t len, size_t index);
/* False if absent. */
bool tq_names_find(const tq_names *names, const char *name, size_t len, size_t *index);

/* Not empty and without control bytes (NUL among them). */
bool tq_name_ok(const char *name, size_t len);
/* FNV-1a, 64 bits. */
uint64_t tq_name_hash(const char *name, size_t len);

#endif
