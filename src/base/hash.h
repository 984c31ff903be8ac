/* SHA-256, over the system's crypto library. */
#ifndef TQ_BASE_HASH_H
#define TQ_BASE_HASH_H

#include "base/error.h"
#include "base/mem.h"

typedef struct tq_sha256 tq_sha256;
tq_sha256 *tq_sha256_new(tq_mem *mem); /* NULL without memory */
void tq_sha256_add(tq_sha256 *sha, const void *data, size_t n);
/* Writes 64 hexadecimal digits and a NUL, and frees. */
void tq_sha256_end(tq_sha256 *sha, char hex[65]);
/* The hash of a whole file, read in pieces. */
toque_status tq_sha256_file(tq_mem *mem, const char *path, char hex[65], toque_error *err) TQ_MUST;

#endif
