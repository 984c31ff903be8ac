/* Between mask.c and mask_row.c. */
#ifndef TQ_TRAIN_MASK_IMPL_H
#define TQ_TRAIN_MASK_IMPL_H

#include "train/mask.h"

/* target[i] = 1 for the tokens whose bytes all lie in a turn's span (and in {% generation %} where the template has
 * it). bytes [r->len] is scratch. Returns how many. */
int tq_mask_mark(const tq_rendered *r, const tq_tokens *tokens, const tq_turn *turns, size_t n_turns, uint8_t *bytes,
                 uint8_t *target);

#endif
