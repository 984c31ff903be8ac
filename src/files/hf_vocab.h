/* The vocabulary of a tokenizer.json: the model's tokens and the added ones, by id. */
#ifndef TQ_FILES_HF_VOCAB_H
#define TQ_FILES_HF_VOCAB_H

#include "files/hf_impl.h"
#include "files/names.h"

#define TQ_HF_SPACE "\xE2\x96\x81" /* U+2581 */

typedef struct hf_vocab {
    tq_mem *mem;
    bool escaped;   /* U+2581 stands for spaces */
    bool bytes;     /* <0xHH> are byte tokens, and all 256 must be there */
    bool wordpiece; /* stored as GGUF does: U+2581 before a word's beginning, no ## before its continuation */
    uint32_t n;
    tq_string *texts; /* [n] as GGUF stores them; len 0: no token has this id */
    int32_t *kinds;   /* [n] tokenizer.ggml.token_type */
    tq_names names;   /* the tokens' own texts */
    tq_arena arena;
} hf_vocab;

void tq_hf_vocab_init(hf_vocab *v, tq_mem *mem);
void tq_hf_vocab_clear(hf_vocab *v);
/* Reads h->tokenizer's vocabulary and added tokens, checks them and puts them into the metadata. */
toque_status tq_hf_vocab_read(hf_vocab *v, hf_folder *h, toque_error *err) TQ_MUST;
toque_status tq_hf_vocab_merges(hf_vocab *v, hf_folder *h, const json_t *merges, toque_error *err) TQ_MUST;
bool tq_hf_vocab_find(const hf_vocab *v, const char *text, size_t len, uint32_t *id);

#endif
