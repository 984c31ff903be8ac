/* An encoder model (infer/embed.h) as the embedder of a store. */
#ifndef TQ_RAG_EMBEDDER_MODEL_H
#define TQ_RAG_EMBEDDER_MODEL_H

#include "kernels/context.h"
#include "rag/embedder.h"

typedef struct tq_rag_model tq_rag_model;

/* path: a GGUF file or Hugging Face folder of an encoder (EUNSUPPORTED for others); name: what a store remembers.
 * The strings are copied. */
toque_status tq_rag_model_open(tq_rag_model **model, tq_ctx *ctx, const char *path, const char *name,
                               const char *query_prefix, const char *passage_prefix, toque_error *err) TQ_MUST;
void tq_rag_model_close(tq_rag_model *model);
/* Valid until close. */
const tq_rag_embedder *tq_rag_model_embedder(const tq_rag_model *model);

#endif
