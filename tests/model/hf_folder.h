/* A loaded model of the llama family, written as a Hugging Face folder: config.json, model.safetensors, tokenizer.json
 * and tokenizer_config.json, as transformers would save it. */
#ifndef TEST_HF_FOLDER_H
#define TEST_HF_FOLDER_H

#include "model/model.h"

/* type: F32, F16 or BF16, of the matrices. pre: the JSON of the pre-tokenizer. False with a message on standard
 * error. */
bool hf_folder_write(tq_model *model, const char *dir, tq_type type, const char *pre);

#endif
