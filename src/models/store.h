/* The model store: models that commands find by name. It is a folder, $TOQUE_HOME, else $XDG_DATA_HOME/toque, else
 * ~/.local/share/toque, with models/NAME/model.gguf or a Hugging Face folder models/NAME/model/, and beside it
 * model.json (name, source, sha256, size, date). A model appears there whole or not at all: its folder is made under
 * another name and renamed. */
#ifndef TQ_MODELS_STORE_H
#define TQ_MODELS_STORE_H

#include "base/io.h"

typedef struct tq_store_entry {
    char *name, *path;            /* path: of the GGUF file or folder */
    char *source, *sha256, *date; /* "" where model.json is missing or does not say */
    uint64_t size;
} tq_store_entry;
typedef struct tq_store_list {
    tq_mem *mem;
    tq_store_entry *items; /* by name */
    size_t n, cap;
} tq_store_list;

/* The store's folder, which need not exist. Owned by the caller, like all strings below. */
toque_status tq_store_dir(char **dir, tq_mem *mem, toque_error *err) TQ_MUST;
/* What -m means: a path that exists is itself, a name is looked up. ENOTFOUND lists the names there are. */
toque_status tq_store_resolve(char **path, tq_mem *mem, const char *name, toque_error *err) TQ_MUST;
/* A store that does not exist is empty. Free with tq_store_list_free, after a failure too. */
toque_status tq_store_list_all(tq_store_list *list, tq_mem *mem, toque_error *err) TQ_MUST;
void tq_store_list_free(tq_store_list *list);
toque_status tq_store_remove(tq_mem *mem, const char *name, toque_error *err) TQ_MUST;

/* Letters, digits, '.', '_', '-'; at most 120; it does not begin with '.' or '-'. */
bool tq_store_name_ok(const char *name);
/* A name for a file: its last part without ".gguf", other characters replaced by '-'. NULL without memory. */
char *tq_store_name_of(tq_mem *mem, const char *path);
/* OK if a model may be added under this name: EINVAL for a bad or taken name. */
toque_status tq_store_check_new(tq_mem *mem, const char *name, toque_error *err) TQ_MUST;

/* Adds a local file, which must open as GGUF: as a hard link where the file system can (the file must then not be
 * changed in place), else as a copy. name NULL: tq_store_name_of(path). *stored (may be NULL) receives the name. */
toque_status tq_store_add_file(char **stored, tq_mem *mem, const char *path, const char *name,
                               toque_error *err) TQ_MUST;
/* The same for a file within the store's own file system, which is moved; its hash is known. */
toque_status tq_store_adopt(tq_mem *mem, const char *path, const char *name, const char *source, const char *sha256,
                            toque_error *err) TQ_MUST;

#endif
