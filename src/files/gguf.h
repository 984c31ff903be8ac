/* GGUF (versions 2 and 3), the file format of llama.cpp: metadata and tensors, mapped and read in place, and
 * written. Every count, length, offset, alignment and product of the input is checked before it is used.
 * Format: the GGUF specification in the ggml documentation. */
#ifndef TQ_FILES_GGUF_H
#define TQ_FILES_GGUF_H

#include "base/io.h"
#include "kernels/kernels.h"

enum { TQ_MAX_DIMS = 4 };

typedef enum tq_gguf_type {
    TQ_GGUF_U8,
    TQ_GGUF_I8,
    TQ_GGUF_U16,
    TQ_GGUF_I16,
    TQ_GGUF_U32,
    TQ_GGUF_I32,
    TQ_GGUF_F32,
    TQ_GGUF_BOOL,
    TQ_GGUF_STRING,
    TQ_GGUF_ARRAY,
    TQ_GGUF_U64,
    TQ_GGUF_I64,
    TQ_GGUF_F64
} tq_gguf_type;

/* Bytes of one value; 0 for STRING, ARRAY and what is no type. */
size_t tq_gguf_type_size(tq_gguf_type type);

typedef struct tq_string { /* not NUL-terminated; points into the map */
    const char *data;
    size_t len;
} tq_string;

typedef struct tq_gguf_value {
    tq_string key;
    tq_gguf_type type;
    tq_gguf_type item;   /* arrays: type of the elements (never ARRAY) */
    uint64_t count;      /* arrays: number of elements; otherwise 1 */
    const uint8_t *data; /* the encoded value or first element, little endian, unaligned */
    uint64_t bytes;      /* of the encoded value or of all elements */
} tq_gguf_value;

/* A tensor as stored: `cols` is the contiguous dimension (GGUF's ne[0]), `rows` the product of the others. */
typedef struct tq_tensor {
    const char *name; /* NUL-terminated, owned by the file */
    tq_type type;
    int n_dims;
    int64_t dims[TQ_MAX_DIMS]; /* GGUF's order for GGUF files: dims[0] = cols; safetensors: shape order, last = cols */
    int64_t rows, cols;
    const void *data; /* into the map */
    size_t bytes;
} tq_tensor;

typedef struct tq_gguf tq_gguf;
/* The whole file stays mapped until close; everything returned below points into it. A tensor of an unknown type is
 * listed with its number as type and bytes = 0; who wants its data checks tq_type_get: vocabulary-only users never
 * meet it. */
toque_status tq_gguf_open(tq_gguf **gguf, tq_mem *mem, const char *path, toque_error *err) TQ_MUST;
/* The same over bytes that the caller keeps alive (tests, fuzzing); name is for messages. */
toque_status tq_gguf_open_memory(tq_gguf **gguf, tq_mem *mem, const uint8_t *data, size_t size, const char *name,
                                 toque_error *err) TQ_MUST;
/* Metadata in memory with the tensors of another file: how a Hugging Face folder is presented (hf.h). block [size] came
 * from tq_gguf_writer_take; block and st (which may be NULL) belong to the result, or are freed on failure. Tensors
 * keep their own names; tq_gguf_is_folder tells. */
struct tq_safetensors;
toque_status tq_gguf_open_folder(tq_gguf **gguf, tq_mem *mem, uint8_t *block, size_t size, struct tq_safetensors *st,
                                 const char *path, toque_error *err) TQ_MUST;
bool tq_gguf_is_folder(const tq_gguf *gguf);
void tq_gguf_close(tq_gguf *gguf);
const char *tq_gguf_path(const tq_gguf *gguf);
/* What is mapped: the file, or a folder's model.safetensors. */
uint64_t tq_gguf_file_bytes(const tq_gguf *gguf);
/* Gives back the memory of what was read; it can be read again, from the file. */
void tq_gguf_forget(const tq_gguf *gguf);

size_t tq_gguf_n_values(const tq_gguf *gguf);
const tq_gguf_value *tq_gguf_value_at(const tq_gguf *gguf, size_t i);
const tq_gguf_value *tq_gguf_find(const tq_gguf *gguf, const char *key); /* NULL: absent; hashed look-up */
/* Typed reads. A key that is absent leaves *out as it was and returns OK; a key of another type is EFORMAT. Integers
 * of any width are accepted when the value fits; bool is 0 or 1. */
toque_status tq_gguf_u32(const tq_gguf *gguf, const char *key, uint32_t *out, toque_error *err) TQ_MUST;
toque_status tq_gguf_f32(const tq_gguf *gguf, const char *key, float *out, toque_error *err) TQ_MUST;
toque_status tq_gguf_bool(const tq_gguf *gguf, const char *key, bool *out, toque_error *err) TQ_MUST;
toque_status tq_gguf_str(const tq_gguf *gguf, const char *key, tq_string *out, toque_error *err) TQ_MUST;
/* Iterates an array of strings: start with *at = value->data; false at the end. Lengths were checked at open. */
bool tq_gguf_next_string(const tq_gguf_value *value, const uint8_t **at, tq_string *out);
/* Element i of a numeric array as a number (bool as 0/1). */
double tq_gguf_number_at(const tq_gguf_value *value, uint64_t i);

size_t tq_gguf_n_tensors(const tq_gguf *gguf);
const tq_tensor *tq_gguf_tensor_at(const tq_gguf *gguf, size_t i); /* type may be unknown: check tq_type_get */
/* NULL and no error when absent. */
const tq_tensor *tq_gguf_find_tensor(const tq_gguf *gguf, const char *name);

/* Writing (version 3, alignment 32), atomically. Declare all metadata and tensors, then the data in order. */
typedef struct tq_gguf_writer tq_gguf_writer;
toque_status tq_gguf_writer_new(tq_gguf_writer **w, tq_mem *mem, const char *path, toque_error *err) TQ_MUST;
toque_status tq_gguf_put_str(tq_gguf_writer *w, const char *key, const char *s, size_t n, toque_error *err) TQ_MUST;
toque_status tq_gguf_put_u32(tq_gguf_writer *w, const char *key, uint32_t v, toque_error *err) TQ_MUST;
toque_status tq_gguf_put_f32(tq_gguf_writer *w, const char *key, float v, toque_error *err) TQ_MUST;
toque_status tq_gguf_put_bool(tq_gguf_writer *w, const char *key, bool v, toque_error *err) TQ_MUST;
/* Copies a value as it is encoded (from another file). general.alignment is left out: it describes the other file. */
toque_status tq_gguf_put_value(tq_gguf_writer *w, const tq_gguf_value *value, toque_error *err) TQ_MUST;
toque_status tq_gguf_put_strings(tq_gguf_writer *w, const char *key, const tq_string *s, size_t n,
                                 toque_error *err) TQ_MUST;
toque_status tq_gguf_put_numbers(tq_gguf_writer *w, const char *key, tq_gguf_type item, const void *data, size_t n,
                                 toque_error *err) TQ_MUST;
toque_status tq_gguf_put_tensor(tq_gguf_writer *w, const char *name, tq_type type, int n_dims, const int64_t *dims,
                                toque_error *err) TQ_MUST; /* dims[0] = cols */
/* The next declared tensor's bytes; n must be its size. The first call writes the header. */
toque_status tq_gguf_write_data(tq_gguf_writer *w, const void *data, size_t n, toque_error *err) TQ_MUST;
toque_status tq_gguf_writer_commit(tq_gguf_writer *w, toque_error *err) TQ_MUST; /* frees; EINVAL if data is missing */
void tq_gguf_writer_abort(tq_gguf_writer *w);
/* Metadata without tensors, in memory: a writer made with path NULL takes declarations only, and this gives the file's
 * bytes (tq_free) and frees the writer, on failure too. */
toque_status tq_gguf_writer_take(tq_gguf_writer *w, uint8_t **data, size_t *size, toque_error *err) TQ_MUST;

#endif
