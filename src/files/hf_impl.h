/* The inside of the folder reader (hf.h): what was read, and where metadata goes. */
#ifndef TQ_FILES_HF_IMPL_H
#define TQ_FILES_HF_IMPL_H

#include <jansson.h>

#include "files/hf.h"

typedef struct hf_folder {
    tq_mem *mem;
    const char *dir;
    /* NULL: there is no such file. All numbers are reals. */
    json_t *config, *generation, *tokenizer, *tokenizer_config;
    tq_gguf_writer *w;
    char arch[64]; /* model_type: the prefix of its keys */
} hf_folder;

/* DIR/name as JSON, or NULL when the file is absent. Must be an object, or with `array` an array. */
toque_status tq_hf_read(const hf_folder *h, const char *name, size_t max, bool array, json_t **out,
                        toque_error *err) TQ_MUST;
/* config.json's settings of the architecture. */
toque_status tq_hf_config(hf_folder *h, toque_error *err) TQ_MUST;
/* modules.json and what it names, if it is there: how sentence-transformers pools. */
toque_status tq_hf_pooling(hf_folder *h, toque_error *err) TQ_MUST;
/* tokenizer.json, special ids. */
toque_status tq_hf_tokenizer(hf_folder *h, toque_error *err) TQ_MUST;

/* A whole number in [0, max]; false for everything else. */
static inline bool tq_hf_whole(const json_t *j, double max, uint32_t *out) {
    double v = json_is_number(j) ? json_number_value(j) : -1;
    if (!(v >= 0 && v <= max) || v != (double)(uint32_t)v) return false;
    *out = (uint32_t)v;
    return true;
}
/* Absent, null, false, 0, "", [] or {}. */
static inline bool tq_hf_empty(const json_t *j) {
    return !j || json_is_null(j) || json_is_false(j) || (json_is_number(j) && !(json_number_value(j) != 0)) ||
           (json_is_string(j) && !json_string_length(j)) || (json_is_array(j) && !json_array_size(j)) ||
           (json_is_object(j) && !json_object_size(j));
}

#endif
