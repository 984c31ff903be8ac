/* Files: read-only maps, whole reads with a limit, and atomic writing (a temporary file beside the target,
 * fsync, rename, fsync of the folder): the target is either the old one or the new one, never half. */
#ifndef TQ_BASE_IO_H
#define TQ_BASE_IO_H

#include "base/buf.h"
#include "base/error.h"
#include "base/mem.h"

typedef struct tq_map {
    const uint8_t *data; /* NULL for an empty file */
    size_t size;
} tq_map;
toque_status tq_map_open(tq_map *map, const char *path, toque_error *err) TQ_MUST;
void tq_map_close(tq_map *map);
/* Gives back the memory that pages of the map hold; what is read again comes from the file. */
void tq_map_forget(const tq_map *map);

/* The whole file, NUL-terminated, owned by the caller (tq_free). "-" reads standard input.
 * ELIMIT over max bytes. */
toque_status tq_read_file(char **data, size_t *size, tq_mem *mem, const char *path, size_t max,
                          toque_error *err) TQ_MUST;

/* An atomic write in progress. Nothing at `path` changes before commit; commit and abort free it. */
typedef struct tq_out tq_out;
toque_status tq_out_open(tq_out **out, tq_mem *mem, const char *path, toque_error *err) TQ_MUST;
toque_status tq_out_write(tq_out *out, const void *data, size_t n, toque_error *err) TQ_MUST;
uint64_t tq_out_offset(const tq_out *out);
toque_status tq_out_commit(tq_out *out, toque_error *err) TQ_MUST;
void tq_out_abort(tq_out *out); /* accepts NULL */
/* The three in one, for content that is already in memory. */
toque_status tq_write_file(tq_mem *mem, const char *path, const void *data, size_t n, toque_error *err) TQ_MUST;

bool tq_path_exists(const char *path);
bool tq_path_is_dir(const char *path);
/* True if the folder exists and holds anything. */
bool tq_dir_has_entries(const char *path);
/* Makes a folder and its parents; an existing folder is fine. */
toque_status tq_make_dirs(tq_mem *mem, const char *path, toque_error *err) TQ_MUST;
/* "dir/name", owned by the caller; NULL without memory. */
char *tq_path_join(tq_mem *mem, const char *dir, const char *name);

#endif
