/* A whole model of two layers and width 32 with random weights and a byte-level vocabulary, as a GGUF file; and rows of
 * random tokens. Small enough for hundreds of training steps in a test. */
#ifndef TEST_SMALL_MODEL_H
#define TEST_SMALL_MODEL_H

#include "train/dataset.h"

enum { SMALL_IM_START = 256, SMALL_IM_END, SMALL_EOS, SMALL_AB, SMALL_V };

/* Writes the file. False with a message on standard error. */
bool small_model_write(const char *path);
/* "llama" (tied embeddings, no biases; what small_model_write writes) or "qwen2" (a head of its own, biases). */
bool small_model_write_arch(const char *path, const char *arch);
/* A temporary folder that did not exist, and its removal with what the tests put in. */
bool small_folder(char path[64]);
void small_remove(const char *folder);

/* n rows of between 3 and `longest` tokens that follow a rule a small model can learn; owned by set's arena. Some
 * tokens are no targets, and a row's last tokens may be none. */
toque_status small_rows(tq_dataset *set, tq_mem *mem, size_t n, int longest, uint64_t seed);

#endif
