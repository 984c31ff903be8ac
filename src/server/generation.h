/* A request that generates: its fields, prompts and choices, from the body to the last byte of the answer. Chat,
 * completions and messages share it; a shape says how each writes its JSON.
 *
 * Made on the HTTP thread, where the body is read and prompts become tokens; once they are handed over it belongs to
 * the engine's thread, which collects (or streams) text and frees it behind the last choice.
 */
#ifndef TQ_SERVER_GENERATION_H
#define TQ_SERVER_GENERATION_H

#include "infer/stop.h"
#include "server/state.h"

enum { TQ_MOST_TOP = 20, TQ_MOST_CHOICES = 128 };

typedef struct tq_generation tq_generation;

/* A token with its log-probability and the likeliest in its place. */
typedef struct tq_logged {
    tq_token token;
    bool first;  /* of the prompt: nothing stands before it, it has no probability */
    bool prompt; /* it is of the prompt (echo) */
    float logp;
    int n_top;
    tq_token top[TQ_MOST_TOP]; /* the likeliest first */
    float top_logp[TQ_MOST_TOP];
} tq_logged;

typedef struct tq_prompt {
    tq_tokens tokens;
    tq_buf text; /* what the tokens say; for echo */
} tq_prompt;

typedef struct tq_choice {
    tq_generation *g;
    int index;
    tq_prompt *prompt;
    tq_sequence seq;
    tq_detok detok;
    tq_stop stop;
    tq_buf piece, text;
    size_t shown; /* of text, in a stream */
    tq_logged *logs;
    size_t n_logs, cap_logs, logs_shown;
    tq_finish finish;
    size_t offset; /* in characters: of the next token that is shown with its log-probability */
    bool begun, ended;
} tq_choice;

typedef struct tq_shape {
    const char *id; /* prefix of ids */
    /* A piece of a stream: text may be empty; finish NULL while it goes on. Sends whatever events that takes. */
    bool (*piece)(tq_choice *c, const char *text, size_t n, const char *finish);
    bool (*end)(tq_generation *g); /* behind the last piece, [DONE] included */
    json_t *(*whole)(tq_generation *g);
} tq_shape;

/* Fields that all routes share. */
typedef struct tq_ask {
    const char *model, *user;
    json_t *stop, *logit_bias, *stream_options, *lora;
    int64_t n, seed, top_k, repeat_window;
    double temperature, top_p, min_p, typical, repeat_penalty, frequency_penalty, presence_penalty;
    bool stream, ignore_eos;
} tq_ask;
extern const tq_field tq_ask_fields[];
tq_ask tq_ask_default(const tq_server *s);

struct tq_generation {
    tq_exchange *x;
    tq_server *server;
    const tq_shape *shape;
    json_t *body; /* whose strings the fields point to */
    tq_outfit outfit;
    const char *model; /* as the answer names it */
    tq_ask ask;
    char id[64];
    int64_t created;
    int64_t max_tokens; /* -1: what the context leaves */
    int top;            /* of the likeliest tokens; -1: no log-probabilities */
    bool echo, include_usage;
    tq_sampling sampling;
    tq_logit_bias *bias;
    const char **stops;
    size_t n_stops;
    tq_prompt *prompts;
    int n_prompts;
    tq_choice *choices; /* [n_prompts * ask.n] */
    int n_choices, left;
    float *scratch; /* [V] */
    bool failed;
};

void tq_generation_free(tq_generation *g);
/* One more prompt, to be filled by the caller. NULL: no memory. */
tq_prompt *tq_generation_prompt(tq_generation *g);
/* Reads a request's fields and prompts into g; param is the field that an error is about. */
typedef toque_status tq_generation_read(tq_generation *g, char *param, toque_error *err);
/* A request of this shape, from its body (whose reference is taken) to the engine; replies if anything is wrong. */
void tq_generation_run(tq_exchange *x, json_t *body, const tq_shape *shape, tq_generation_read *read);

/* For shapes. */
json_t *tq_usage_json(const tq_generation *g);
const char *tq_finish_reason(const tq_choice *c);
/* A token's text as JSON; bytes that are no UTF-8 alone become U+FFFD, and *bytes, if wanted, gets them as numbers. */
json_t *tq_token_json(const tq_server *s, tq_token token, json_t **bytes);

#endif
