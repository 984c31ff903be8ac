/* POST /v1/completions: texts or tokens that are continued as they are, with the log-probabilities of prompts (echo) in
 * the shape that evaluation programs sum up: tokens, token_logprobs (null first), top_logprobs, text_offset. */
#include <string.h>

#include "server/generation.h"
#include "server/tokens.h"

typedef struct completion_fields {
    json_t *prompt;
    int64_t max_tokens, logprobs;
    bool echo;
} completion_fields;

#define AT(field) offsetof(completion_fields, field)
static const tq_field own_fields[] = {{"prompt", TQ_VALUE_ANY, AT(prompt), 0, 0, true},
                                      {"max_tokens", TQ_VALUE_INT, AT(max_tokens), 0, 1e9, false},
                                      {"logprobs", TQ_VALUE_INT, AT(logprobs), 0, TQ_MOST_TOP, false},
                                      {"echo", TQ_VALUE_BOOL, AT(echo), 0, 0, false},
                                      {0}};
#undef AT

enum { DEFAULT_TOKENS = 16 }; /* OpenAI's */

/* --- answers ----------------------------------------------------------------------------------------------- */

/* Puts key: logp; a text that another token has already gets the token's number behind. */
static void put_top(json_t *map, json_t *text, tq_token token, float logp) {
    const char *key = json_string_value(text);
    char other[300];
    if (key && json_object_get(map, key)) {
        snprintf(other, sizeof other, "%.250s token_id:%d", key, token);
        key = other;
    }
    if (key) (void)json_object_set_new(map, key, json_real((double)logp));
    json_decref(text);
}

/* The likeliest tokens and, whether it is one of them or not, the token that stands here. */
static json_t *top_json(const tq_server *s, const tq_logged *log) {
    bool there = false;
    if (log->first) return json_null();
    json_t *map = json_object();
    for (int i = 0; map && i < log->n_top; i++) {
        put_top(map, tq_token_json(s, log->top[i], NULL), log->top[i], log->top_logp[i]);
        there |= log->top[i] == log->token;
    }
    if (map && !there) put_top(map, tq_token_json(s, log->token, NULL), log->token, log->logp);
    return map;
}

static size_t characters(const json_t *text) {
    size_t n = 0;
    for (const char *c = json_string_value(text); c && *c; c++) n += ((unsigned char)*c & 0xC0) != 0x80;
    return n;
}

static json_t *logprobs_json(tq_choice *c, size_t from) {
    const tq_server *s = c->g->server;
    if (c->g->top < 0) return json_null();
    json_t *tokens = json_array(), *logps = json_array(), *tops = json_array(), *offsets = json_array();
    for (size_t i = from; i < c->n_logs; i++) {
        const tq_logged *log = &c->logs[i];
        json_t *text = tq_token_json(s, log->token, NULL);
        (void)json_array_append_new(offsets, json_integer((json_int_t)c->offset));
        c->offset += characters(text);
        (void)json_array_append_new(tokens, text);
        (void)json_array_append_new(logps, log->first ? json_null() : json_real((double)log->logp));
        (void)json_array_append_new(tops, top_json(s, log));
    }
    return json_pack("{s:o, s:o, s:o, s:o}", "tokens", tokens, "token_logprobs", logps, "top_logprobs", tops,
                     "text_offset", offsets);
}

static json_t *choice_json(tq_choice *c, const char *text, size_t n, size_t log_from, const char *finish) {
    return json_pack("{s:i, s:o, s:o, s:s?}", "index", c->index, "text", json_stringn(text, n), "logprobs",
                     logprobs_json(c, log_from), "finish_reason", finish);
}

static json_t *frame(tq_generation *g, json_t *choices, json_t *usage) {
    json_t *value = json_pack("{s:s, s:s, s:I, s:s, s:s, s:o}", "id", g->id, "object", "text_completion", "created",
                              (json_int_t)g->created, "model", g->model, "system_fingerprint", g->server->fingerprint,
                              "choices", choices);
    if (value && usage)
        (void)json_object_set_new(value, "usage", usage);
    else
        json_decref(usage);
    return value;
}

static bool piece(tq_choice *c, const char *text, size_t n, const char *finish) {
    tq_generation *g = c->g;
    json_t *choices = json_pack("[o]", choice_json(c, text, n, c->logs_shown, finish));
    return tq_stream_event(g->x, NULL, frame(g, choices, g->include_usage ? json_null() : NULL));
}

static bool end(tq_generation *g) {
    bool on = !g->include_usage || tq_stream_event(g->x, NULL, frame(g, json_array(), tq_usage_json(g)));
    return on && tq_stream_raw(g->x, "[DONE]");
}

static json_t *whole(tq_generation *g) {
    json_t *choices = json_array();
    for (int i = 0; i < g->n_choices; i++) {
        tq_choice *c = &g->choices[i];
        (void)json_array_append_new(choices, choice_json(c, c->text.data, c->text.len, 0, tq_finish_reason(c)));
    }
    return frame(g, choices, tq_usage_json(g));
}

static const tq_shape shape = {.id = "cmpl-", .piece = piece, .end = end, .whole = whole};

/* --- the request ------------------------------------------------------------------------------------------- */

/* A prompt as text or as tokens. */
static toque_status add_prompt(tq_generation *g, const json_t *value, toque_error *err) {
    const tq_tokenizer *tok = g->server->model->tokenizer;
    tq_prompt *p = tq_generation_prompt(g);
    if (!p) return TQ_NOMEM(err);
    if (json_is_string(value)) {
        const char *text = json_string_value(value);
        size_t n = json_string_length(value);
        TQ_TRY(tq_tokenize(tok, text, n, true, true, &p->tokens, err));
        if (tq_tokenizer_add_eos(tok) && p->tokens.len) p->tokens.len--; /* an end is nothing to continue */
        return tq_buf_put(&p->text, text, n) ? TOQUE_OK : TQ_NOMEM(err);
    }
    if (!json_is_array(value)) return TQ_FAIL(err, EINVAL, "a prompt is a string or an array of tokens");
    TQ_TRY(tq_read_tokens(g->server, value, "prompt", &p->tokens, err));
    return tq_tokens_text(g->server, &p->tokens, &p->text, err);
}

/* One prompt, or several: strings, or arrays of tokens. */
static toque_status add_prompts(tq_generation *g, const json_t *value, toque_error *err) {
    const json_t *first = json_array_get(value, 0);
    if (!json_is_string(first) && !json_is_array(first)) return add_prompt(g, value, err);
    if (json_array_size(value) > TQ_MOST_CHOICES)
        return TQ_FAIL(err, EINVAL, "%zu prompts are given; at most %d are taken", json_array_size(value),
                       TQ_MOST_CHOICES);
    size_t i;
    json_t *one;
    json_array_foreach(value, i, one) TQ_TRY(add_prompt(g, one, err));
    return TOQUE_OK;
}

static toque_status read(tq_generation *g, char param[TQ_PARAM], toque_error *err) {
    completion_fields f = {.max_tokens = DEFAULT_TOKENS, .logprobs = -1};
    tq_field_table tables[] = {{own_fields, &f}, {tq_ask_fields, &g->ask}, {0}};
    TQ_TRY(tq_fields_read(g->body, tables, param, err));
    g->top = (int)f.logprobs;
    g->max_tokens = f.max_tokens;
    g->echo = f.echo;
    if (f.echo && g->ask.stream) {
        snprintf(param, TQ_PARAM, "echo");
        return TQ_FAIL(err, EINVAL, "echo is not supported in streams");
    }
    snprintf(param, TQ_PARAM, "prompt");
    return add_prompts(g, f.prompt, err);
}

void tq_route_completions(tq_exchange *x, json_t *body) {
    tq_generation_run(x, body, &shape, read);
}
