/* Fetching a model into the store. A source is one of
 *   hf:OWNER/REPO/FILE.gguf, OWNER/REPO:FILE.gguf   a file of a Hugging Face Hub ($HF_ENDPOINT, default
 *                                                   https://huggingface.co; $HF_TOKEN is sent to that origin only)
 *   https://... or http://...                       a file of any server
 *   a path                                          a local file (tq_store_add_file)
 * The bytes gather in the store's downloads/ and become a model when they are whole, have the right SHA-256 (the one
 * given, else the one that the hub announces) and open as GGUF. */
#ifndef TQ_MODELS_PULL_H
#define TQ_MODELS_PULL_H

#include "base/io.h"

typedef struct tq_pull {
    const char *source;
    const char *name;   /* in the store; NULL: made from the file's name */
    const char *sha256; /* 64 hexadecimal digits that the file must have, or NULL */
    /* false cancels; what arrived is kept and the next pull goes on. total 0: unknown. May be NULL. */
    bool (*progress)(void *arg, uint64_t done, uint64_t total);
    void *arg;
} tq_pull;

/* *name receives the name in the store, owned by the caller. The program has called curl_global_init. */
toque_status tq_pull_model(char **name, tq_mem *mem, const tq_pull *pull, toque_error *err) TQ_MUST;

/* The URL of a source and what model.json notes as its source; *url NULL for a local file. All owned by the caller. */
toque_status tq_pull_url(char **url, char **noted, tq_mem *mem, const char *source, toque_error *err) TQ_MUST;

#endif
