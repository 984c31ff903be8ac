/* API keys. A key file has one key a line, as it is or as sha256:HEX of it, with a name behind it if wanted (for the
 * audit log); # begins a comment. Only hashes are kept, and they are compared in constant time. */
#ifndef TQ_SERVER_KEYS_H
#define TQ_SERVER_KEYS_H

#include "base/error.h"
#include "base/mem.h"

typedef struct tq_key {
    char hash[65];
    char name[48];
} tq_key;

typedef struct tq_keys {
    tq_mem *mem;
    tq_key *items;
    size_t n, cap;
} tq_keys;

/* EFORMAT for a line that is no key; a file without keys is an error too. */
toque_status tq_keys_read(tq_keys *keys, tq_mem *mem, const char *path, toque_error *err) TQ_MUST;
void tq_keys_clear(tq_keys *keys);
/* The name of the key, "" if it has none; NULL: it is not one of them. key may be NULL. */
const char *tq_keys_find(const tq_keys *keys, const char *key);

#endif
