/* Architectures: from a GGUF file's metadata to a configuration, and from a configuration to a layer's program. */
#ifndef TQ_MODEL_ARCH_H
#define TQ_MODEL_ARCH_H

#include "model/model.h"

/* Reads and checks the configuration; the vocabulary's size is left to the embedding. */
toque_status tq_config_read(tq_config *config, const tq_gguf *gguf, toque_error *err) TQ_MUST;
/* Writes the in program (embedding, for encoders a norm) and a layer's: the generic block is norm, q k v, attention,
 * o, add, norm, gate up, glu, down, add. */
void tq_program_emit_in(tq_program *program, const tq_config *config);
void tq_program_emit(tq_program *program, const tq_config *config);
/* Finds and checks every weight of the configuration (weights.c); sets config.V, tied and rope_freqs. */
toque_status tq_weights_load(tq_model *model, toque_error *err) TQ_MUST;
/* Panels for decode (panels.c): which weights will have them, and making them, once, before the first such pass. */
toque_status tq_panels_plan(tq_model *model, toque_error *err) TQ_MUST;
toque_status tq_panels_make(tq_model *model, toque_error *err) TQ_MUST;

#endif
