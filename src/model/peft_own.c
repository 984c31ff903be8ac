/* Methods that train the model's own tensors: no sites, only a choice of tensors (Hugging Face's parameter names). */
#include "model/peft.h"

const tq_peft tq_peft_full = {
    .name = "full",
    .help = "every tensor of the model, tied embeddings included",
    .keys = "save_dtype",
    .own = "*",
    .lr_small = 2e-5,
    .lr_large = 2e-5,
};

const tq_peft tq_peft_freeze = {
    .name = "freeze",
    .help = "the last layers, or tensors by pattern",
    .keys = "train_layers train_pattern save_dtype",
    .lr_small = 2e-5,
    .lr_large = 2e-5,
};

/* LN tuning (Zhao et al. 2023, "Tuning LayerNorm in Attention"). */
const tq_peft tq_peft_norms = {
    .name = "norms",
    .peft_type = "LN_TUNING",
    .help = "the weights of the norms",
    .keys = "train_modules",
    .own = "*norm.weight",
    .decoders = true,
    .lr_small = 1e-3,
    .lr_large = 1e-3,
};

/* BitFit (Ben Zaken et al. 2021). */
const tq_peft tq_peft_bitfit = {
    .name = "bitfit",
    .help = "the biases, for models that have them",
    .keys = "save_dtype",
    .own = "*.bias",
    .lr_small = 1e-3,
    .lr_large = 1e-3,
};

/* A frozen body: nothing but the objective's head is trained. */
const tq_peft tq_peft_head = {
    .name = "head",
    .help = "only the head of an objective that has one; the body stays as it is",
    .keys = "save_dtype",
    .lr_small = 1e-2,
    .lr_large = 1e-2,
};
