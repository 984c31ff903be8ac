/* The engine: one thread that owns the model and runs many sequences at a time.
 *
 * Sequences wait in a queue, are admitted to slots, and share passes: a prefill pass takes a chunk of every prompt that
 * is still being read, a decode pass one row of every answer. Passes alternate, so that a long prompt does not hold up
 * answers and answers do not hold up a prompt. Hats belong to segments, so base and adapters mix in one pass; adapters
 * with own tensors take passes of their own. What runs in company never changes what a sequence says
 * (docs/architecture.md: Threads and bits), and only prefill's entries are reused, so the same request gives the same
 * bytes at any time. Other work on the model (embedding, loading an adapter) is a call that the engine makes between
 * passes.
 */
#ifndef TQ_SERVER_ENGINE_H
#define TQ_SERVER_ENGINE_H

#include "infer/generate.h"

/* One sequence: a prompt and what is drawn behind it. Made and freed by the caller, who keeps it until on_end. The
 * functions are called on the engine's thread. */
typedef struct tq_sequence {
    const tq_token *prompt; /* [n], checked by the caller: ids below V */
    int n, max_tokens;      /* max_tokens 0: the prompt alone */
    const tq_hats *hats;    /* NULL: the base */
    const char *worn;       /* names the hats by content: the key of the prefix cache */
    const tq_sampling *sampling;
    uint32_t stream;             /* number of this sequence among those of one seed */
    bool ignore_eos;             /* end tokens are never drawn */
    bool want_logp;              /* on_token is given the token's log-probability */
    const atomic_bool *canceled; /* looked at between passes */
    /* Logits of all rows but the last of the prompt, in order: logits [n, V] of what follows tokens first .. first+n-1;
     * NULL: not wanted. */
    void (*on_prompt)(void *arg, int first, int n, const float *logits);
    /* A token was drawn from logits [V]. False: the answer ends here. */
    bool (*on_token)(void *arg, tq_token token, double logp, const float *logits);
    /* The end, once. status is not OK: err says why. */
    void (*on_end)(void *arg, tq_finish finish, toque_status status, const toque_error *err);
    void *arg;

    /* set by the engine */
    int reused; /* tokens of the prompt that came from the cache */
    int drawn;
    double queued, started, first; /* when it was submitted, admitted, and its first token drawn */

    /* the engine's own */
    struct tq_sequence *next;
    tq_token *tokens; /* [n + max_tokens] */
    tq_kv *kv;
    tq_sampler *sampler;
    bool ended;
} tq_sequence;

/* Work on the model between passes. step is called until it returns false; the caller is told in step. */
typedef struct tq_call {
    bool (*step)(void *arg);
    void *arg;
    struct tq_call *next;
} tq_call;

typedef struct tq_engine_options {
    int slots;          /* sequences at a time, at most TQ_DECODE_ROWS */
    int max_rank;       /* of the adapters that will be worn; tq_engine_set_rank raises it */
    int queue;          /* sequences that may wait */
    size_t cache_bytes; /* of the prefix cache */
} tq_engine_options;

typedef struct tq_engine_stats {
    uint64_t prompt_tokens, reused_tokens, drawn_tokens, passes, decode_passes, decode_rows;
    int running, waiting;
    size_t cache_bytes;
    double busy; /* seconds in passes */
} tq_engine_stats;

typedef struct tq_engine tq_engine;
toque_status tq_engine_new(tq_engine **engine, tq_model *model, const tq_engine_options *o, toque_error *err) TQ_MUST;
/* Ends what still runs (canceled) and the thread. */
void tq_engine_free(tq_engine *e);
/* All n of them, or EBUSY when they do not fit the queue. */
toque_status tq_engine_submit(tq_engine *e, tq_sequence *const *sequences, int n, toque_error *err) TQ_MUST;
/* EBUSY once the engine stops. */
toque_status tq_engine_call(tq_engine *e, tq_call *call, toque_error *err) TQ_MUST;
/* Wakes the engine to look at `canceled` again. */
void tq_engine_poke(tq_engine *e);
void tq_engine_get_stats(tq_engine *e, tq_engine_stats *stats);
/* On the engine's thread only (in a call): makes room for adapters of this rank. */
toque_status tq_engine_set_rank(tq_engine *e, int max_rank, toque_error *err) TQ_MUST;

#endif
