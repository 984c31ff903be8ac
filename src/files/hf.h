/* Hugging Face model folders: config.json, model.safetensors, tokenizer.json and what stands beside them, presented as
 * the GGUF file that they would be converted to, so that everything behind this reads one format. Metadata is
 * translated (hf_config.c, hf_tokenizer.c); tensors stay where they are, under their own names and types.
 *
 * What GGUF has no key for is called toque.*:
 *   toque.tied                   the head is the embedding, whatever tensors there are
 *   toque.rope_freqs             [rope dimensions / 2] divisors of rotary frequencies (GGUF has a tensor for these)
 *   toque.embed.*                normalize, max_tokens: what sentence-transformers' files say
 *   tokenizer.toque.words        [stages] regular expressions that split words, as Hugging Face writes them
 *   tokenizer.toque.*            whole_words, nfc, metaspace, end_ids: see text/tokenizer.c */
#ifndef TQ_FILES_HF_H
#define TQ_FILES_HF_H

#include "files/gguf.h"

typedef enum tq_model_part {
    TQ_MODEL_VOCABULARY, /* tokenizer and chat template only: the architecture may be unknown, tensors absent */
    TQ_MODEL_WHOLE
} tq_model_part;

/* A GGUF file or a Hugging Face folder. A setting of a folder that would change what the model computes and is not
 * supported is EUNSUPPORTED with its file and key. */
toque_status tq_model_file_open(tq_gguf **gguf, tq_mem *mem, const char *path, tq_model_part part,
                                toque_error *err) TQ_MUST;

#endif
