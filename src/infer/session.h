/* A session: one sequence's tokens, its KV cache and the machine that runs it.
 *
 * `sync` is given the whole sequence and computes only what the cache does not hold yet. Entries of the cache are
 * reused when their tokens and hats are the same; each remembers whether prefill or decode made it (the two round
 * differently), and who needs results that do not depend on history (a seed was given, scoring) reuses prefill's only.
 * One thread uses a session at a time. The model and the adapters worn outlive it.
 */
#ifndef TQ_INFER_SESSION_H
#define TQ_INFER_SESSION_H

#include "model/machine.h"
#include "model/model.h"

enum { TQ_PREFILL_ROWS = 512 }; /* of one pass */

typedef struct tq_session tq_session;
/* context: tokens that fit; 0: all that the model allows. max_rank: of the adapters that will be worn. ELIMIT when
 * context is more than the model was made for. */
toque_status tq_session_new(tq_session **session, tq_model *model, int context, int max_rank, toque_error *err) TQ_MUST;
void tq_session_free(tq_session *session);

/* Makes tokens [n] the session's sequence, worn hats included (NULL: the base), and computes the logits of what
 * follows. ELIMIT with both numbers when n is over the context; ECANCELED when the context was canceled between two
 * chunks (what was computed stays usable); EINVAL for an empty sequence or ids outside the vocabulary. */
toque_status tq_session_sync(tq_session *s, const tq_token *tokens, int n, const tq_hats *hats, bool prefill_only,
                             toque_error *err) TQ_MUST;
/* Appends a token and computes the logits of what follows it, with the hats of the last sync. */
toque_status tq_session_decode(tq_session *s, tq_token token, toque_error *err) TQ_MUST;
/* [V] of the last sync or decode; valid until the next. */
const float *tq_session_logits(const tq_session *s);

/* Tokens that fit with these hats: a prompt's rows count only against what the model allows. */
int tq_session_context(const tq_session *s, const tq_hats *hats);
int tq_session_length(const tq_session *s);
const tq_token *tq_session_tokens(const tq_session *s);
/* How many of the tokens of the last sync came from the cache. */
int tq_session_reused(const tq_session *s);
tq_model *tq_session_model(const tq_session *s);
/* Forgets everything. Needed before an adapter that the session has worn is freed or trained on. */
void tq_session_reset(tq_session *s);

#endif
