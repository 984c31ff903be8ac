/* safetensors: a JSON header and tensors, mapped and read in place, and written. Offsets, overlaps, gaps, shapes
 * and dtypes are checked at open. Format: the safetensors README ("Format"). */
#ifndef TQ_FILES_SAFETENSORS_H
#define TQ_FILES_SAFETENSORS_H

#include "files/gguf.h" /* tq_tensor */

typedef struct tq_safetensors tq_safetensors;
toque_status tq_safetensors_open(tq_safetensors **st, tq_mem *mem, const char *path, toque_error *err) TQ_MUST;
toque_status tq_safetensors_open_memory(tq_safetensors **st, tq_mem *mem, const uint8_t *data, size_t size,
                                        const char *name, toque_error *err) TQ_MUST;
void tq_safetensors_close(tq_safetensors *st);
uint64_t tq_safetensors_file_bytes(const tq_safetensors *st);
void tq_safetensors_forget(const tq_safetensors *st); /* gives back the memory of what was read */
size_t tq_safetensors_count(const tq_safetensors *st);
/* In the order of the data. F32, F16 and BF16 are usable (type says which); tensors of other dtypes (I64, ...)
 * have type TQ_TYPE_END. 0-d tensors have rows = cols = 1. */
const tq_tensor *tq_safetensors_at(const tq_safetensors *st, size_t i);
const tq_tensor *tq_safetensors_find(const tq_safetensors *st, const char *name);
/* __metadata__ (string to string): NULL when absent. */
const char *tq_safetensors_metadata(const tq_safetensors *st, const char *key);

/* Writes atomically. Tensors are laid out in the order given, header padded with spaces to 8 bytes as the
 * reference library does. dims: shape order. metadata: n_meta pairs key, value. */
typedef struct tq_save_tensor {
    const char *name;
    tq_type type; /* F32, F16, BF16 */
    int n_dims;
    int64_t dims[TQ_MAX_DIMS];
    const void *data;
} tq_save_tensor;
toque_status tq_safetensors_save(tq_mem *mem, const char *path, const tq_save_tensor *tensors, size_t n,
                                 const char *const *metadata, size_t n_meta, toque_error *err) TQ_MUST;

#endif
