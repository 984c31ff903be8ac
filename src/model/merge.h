/* Merging: a base and the adapters worn on it become one GGUF file. What an adapter does to a linear map is linear, so
 * the merged weight is read off its hooks: column i is what base and hats make of unit vector i, less what they make of
 * zero. So every kind that acts at linear maps or replaces tensors can be merged, and no kind has code for it. */
#ifndef TQ_MODEL_MERGE_H
#define TQ_MODEL_MERGE_H

#include "model/adapter.h"

/* type: of matrices, F32, F16, BF16 or Q8_0; vectors stay F32. Tokenizer, template and all other metadata are the
 * base's. EUNSUPPORTED for kinds that cannot be merged and for bases that are folders; EINVAL for an adapter that was
 * trained on another base, or when weights do not fit the type. Nothing is left at path then. */
toque_status tq_merge(tq_model *model, const tq_hats *hats, tq_type type, const char *path, toque_error *err) TQ_MUST;

#endif
