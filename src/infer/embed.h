/* Embeddings: a text becomes one vector by the mean of its rows, its first or its last one, as the model's files say,
 * or the adapter that was tuned for it.
 *
 * Texts are packed as segments into passes without padding, so the order and company of texts changes neither the
 * vectors nor the speed. One thread uses an embedder at a time; the model outlives it.
 */
#ifndef TQ_INFER_EMBED_H
#define TQ_INFER_EMBED_H

#include "model/machine.h"
#include "model/model.h"

typedef struct tq_embedder tq_embedder;
/* hats: worn by every text, or NULL; they outlive the embedder. EUNSUPPORTED for a model that was not made to embed,
 * with no hat that was. */
toque_status tq_embedder_new(tq_embedder **embedder, tq_model *model, const tq_hats *hats, toque_error *err) TQ_MUST;
void tq_embedder_free(tq_embedder *e);
int tq_embedder_dim(const tq_embedder *e);
/* Tokens that a text may have, special ones included. */
int tq_embedder_max_tokens(const tq_embedder *e);

typedef struct tq_embed_stats {
    size_t tokens;    /* computed, special ones included */
    size_t truncated; /* texts that were longer than a text may be */
} tq_embed_stats;

/* out [n, dim] f32, of length 1 where the model's files or a hat say so. A text of more tokens than the model takes is
 * ELIMIT (with its number, counted from 1, and both counts) unless `truncate`, which keeps its beginning and the
 * special tokens around it. Special tokens are not recognized in texts. EINVAL for text that is not UTF-8; ENONFINITE;
 * ECANCELED between passes. stats may be NULL and is added to. */
toque_status tq_embed(tq_embedder *e, const tq_string *texts, size_t n, bool truncate, float *out,
                      tq_embed_stats *stats, toque_error *err) TQ_MUST;

#endif
