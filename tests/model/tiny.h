/* Tiny random models of every family (data/families.txt, made by tools/reference/tiny_models.py) as Hugging Face
 * folders, with what transformers computes with them. */
#ifndef TEST_TINY_H
#define TEST_TINY_H

#include "model/model.h"

enum { TINY_TOKENS = 14, TINY_TENSORS = 80, TINY_VALUES = 64 };

typedef struct tiny {
    char family[16], dir[64];
    int32_t tokens[TINY_TOKENS];
    struct tiny_tensor {
        char name[96];
        int rows, cols; /* rows 0: a vector */
        double base, scale, gradient;
        bool has_gradient;
    } tensors[TINY_TENSORS];
    int n_tensors;
    double values[TINY_VALUES]; /* log-probabilities of tokens 1 ..., or the mean of an encoder's rows */
    int n_values;
    bool encoder;
} tiny;

/* Number i of the sequence called `name`, in [-1/2, 1/2). */
double tiny_number(const char *name, uint32_t i);
/* Reads a family and writes its folder under a fresh temporary name, with a tokenizer of tests/text/data/hf. False with
 * a message on standard error. */
bool tiny_write(tiny *t, const char *family, const char *families_path, const char *tokenizers);
void tiny_remove(tiny *t);

#endif
