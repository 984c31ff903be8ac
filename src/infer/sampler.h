/* Sampling: from a row of logits to the next token.
 *
 * The steps run in the order of the list in sampler.c, which is llama.cpp's: logit bias, penalties, top-k, typical,
 * top-p, min-p, temperature. So the truncations look at the model's own distribution, and a high temperature never lets
 * in what they cut off. (Hugging Face applies the temperature first: with temperature 1, and for greedy or plain
 * temperature sampling, both orders are the same thing.)
 *
 * A draw depends on seed, stream and position alone, never on how many draws came before: an answer that is resumed
 * half way continues with the tokens it would have had. The memory is taken in tq_sampler_new; drawing takes none.
 */
#ifndef TQ_INFER_SAMPLER_H
#define TQ_INFER_SAMPLER_H

#include "base/error.h"
#include "base/mem.h"
#include "kernels/kernels.h"
#include "text/tokenizer.h"

typedef struct tq_logit_bias {
    tq_token token;
    float value; /* added to the token's logit; -INFINITY: never drawn */
} tq_logit_bias;

typedef struct tq_sampling {
    double temperature;       /* 0: greedy, ties to the lowest id */
    int64_t top_k;            /* keep the k likeliest; 0: all */
    double top_p;             /* the smallest set of likeliest tokens with at least this much probability; 1: all */
    double min_p;             /* at least this share of the likeliest one's probability; 0: all */
    double typical;           /* locally typical sampling (Meister et al. 2023); 1: off */
    double repeat_penalty;    /* of tokens in the window: a positive logit is divided by it, a negative one multiplied
                                 (Keskar et al. 2019); 1: off */
    double frequency_penalty; /* subtracted for every time that the token occurs in the window; 0: off */
    double presence_penalty;  /* subtracted once if it occurs; 0: off */
    int64_t penalty_window;   /* the last tokens, prompt included; -1: all */
    uint64_t seed;
    const tq_logit_bias *bias; /* copied */
    size_t n_bias;
} tq_sampling;

/* Everything off: greedy. penalty_window 64. */
tq_sampling tq_sampling_default(void);
/* EINVAL names the value that is out of its range. */
toque_status tq_sampling_check(const tq_sampling *o, int32_t vocabulary, toque_error *err) TQ_MUST;

typedef struct tq_sampler tq_sampler;
toque_status tq_sampler_new(tq_sampler **sampler, tq_mem *mem, const tq_kernels *k, const tq_sampling *o,
                            int32_t vocabulary, toque_error *err) TQ_MUST;
void tq_sampler_free(tq_sampler *sampler);

/* The token at `position` of sequence `stream` from logits [V] (unchanged), after the tokens past [n_past]. logp may
 * be NULL; otherwise it gets the token's log-probability under the logits as they are, before any step.
 * TQ_NO_TOKEN when no token can be drawn: all are banned, or a logit is not a number or +infinity. */
tq_token tq_sampler_draw(tq_sampler *sampler, const float *logits, const tq_token *past, size_t n_past, uint32_t stream,
                         uint32_t position, double *logp);

/* One token of the distribution that is drawn from; for tests and explanations. */
typedef struct tq_candidate {
    float logit; /* after bias and penalties */
    float key;   /* what the running step orders by */
    float p;     /* probability; after tq_sampler_candidates: of being drawn */
    tq_token id;
} tq_candidate;
/* The tokens that a draw would choose from, with their probabilities: *n of them, valid until the next call. With
 * temperature 0 it is the one. NULL in the cases in which a draw gives TQ_NO_TOKEN. */
const tq_candidate *tq_sampler_candidates(tq_sampler *sampler, const float *logits, const tq_token *past, size_t n_past,
                                          int32_t *n);

#endif
