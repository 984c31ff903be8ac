/* Generation: prompt tokens in, an answer out, token by token. One path serves the program, the server and rollouts. */
#ifndef TQ_INFER_GENERATE_H
#define TQ_INFER_GENERATE_H

#include "infer/sampler.h"
#include "infer/session.h"

typedef enum tq_finish {
    TQ_FINISH_STOP,    /* an end token or a stop string */
    TQ_FINISH_LENGTH,  /* max_tokens, or the context is full */
    TQ_FINISH_CANCELED /* by the caller or the context */
} tq_finish;
/* "stop", "length" or "canceled". */
const char *tq_finish_name(tq_finish finish);

typedef struct tq_generate_options {
    int max_tokens;          /* 0: until the context is full. More than what is left of the context: ELIMIT */
    bool ignore_eos;         /* tokens that end an answer are never drawn */
    bool prefill_only;       /* reuse only what prefill made (set it when a seed was given) */
    uint32_t stream;         /* number of this answer among those of one seed */
    const char *const *stop; /* stop strings, not part of the answer */
    size_t n_stop;
    /* Called with every piece of the answer, in whole UTF-8 characters; false ends it (canceled). May be NULL. */
    bool (*on_text)(void *arg, const char *text, size_t n);
    void *arg;
} tq_generate_options;

typedef struct tq_generated {
    tq_buf text;               /* the answer */
    tq_tokens tokens;          /* drawn, the end token included */
    int prompt_tokens, reused; /* reused: of the prompt, from the cache */
    double prompt_seconds;     /* until the first token could be drawn */
    double completion_seconds; /* from there to the end */
    double logprob;            /* of the drawn tokens, under the model */
    tq_finish finish;
} tq_generated;
void tq_generated_init(tq_generated *g, tq_mem *mem);
void tq_generated_clear(tq_generated *g);

/* Continues prompt [n]. On ECANCELED from the context the answer so far is in g and the status is OK with
 * TQ_FINISH_CANCELED. ENONFINITE when the logits hold no drawable token. */
toque_status tq_generate(tq_session *s, const tq_token *prompt, int n, const tq_hats *hats, const tq_sampling *sampling,
                         const tq_generate_options *o, tq_generated *g, toque_error *err) TQ_MUST;

#endif
