/* POST /v1/chat/completions: messages through the model's chat template, and OpenAI's two shapes of the answer. */
#include <string.h>

#include "server/chat.h"
#include "server/generation.h"

typedef struct chat_fields {
    json_t *messages, *template_vars;
    int64_t max_tokens, top_logprobs;
    bool logprobs;
} chat_fields;

#define AT(field) offsetof(chat_fields, field)
static const tq_field own_fields[] = {{"messages", TQ_VALUE_ARRAY, AT(messages), 0, 0, true},
                                      {"max_tokens", TQ_VALUE_INT, AT(max_tokens), 0, 1e9, false},
                                      {"max_completion_tokens", TQ_VALUE_INT, AT(max_tokens), 0, 1e9, false},
                                      {"logprobs", TQ_VALUE_BOOL, AT(logprobs), 0, 0, false},
                                      {"top_logprobs", TQ_VALUE_INT, AT(top_logprobs), 0, TQ_MOST_TOP, false},
                                      {"chat_template_kwargs", TQ_VALUE_OBJECT, AT(template_vars), 0, 0, false},
                                      {0}};
#undef AT

/* --- answers ----------------------------------------------------------------------------------------------- */

/* One token: its text, log-probability and bytes. */
static json_t *token_json(const tq_server *s, tq_token token, float logp) {
    json_t *bytes = NULL, *text = tq_token_json(s, token, &bytes);
    return json_pack("{s:o, s:f, s:o}", "token", text, "logprob", (double)logp, "bytes", bytes);
}

static json_t *logprobs_json(const tq_choice *c, size_t from) {
    const tq_server *s = c->g->server;
    if (c->g->top < 0) return json_null();
    json_t *content = json_array();
    for (size_t i = from; i < c->n_logs; i++) {
        const tq_logged *log = &c->logs[i];
        json_t *one = token_json(s, log->token, log->logp), *top = json_array();
        for (int k = 0; k < log->n_top; k++)
            (void)json_array_append_new(top, token_json(s, log->top[k], log->top_logp[k]));
        (void)json_object_set_new(one, "top_logprobs", top);
        (void)json_array_append_new(content, one);
    }
    return json_pack("{s:o}", "content", content);
}

static bool chunk(tq_generation *g, json_t *choices, json_t *usage) {
    json_t *value = json_pack("{s:s, s:s, s:I, s:s, s:s, s:o}", "id", g->id, "object", "chat.completion.chunk",
                              "created", (json_int_t)g->created, "model", g->model, "system_fingerprint",
                              g->server->fingerprint, "choices", choices);
    if (value && g->include_usage)
        (void)json_object_set_new(value, "usage", usage);
    else
        json_decref(usage);
    return tq_stream_event(g->x, NULL, value);
}

static bool delta(tq_choice *c, json_t *what, json_t *logprobs, const char *finish) {
    return chunk(c->g,
                 json_pack("[{s:i, s:o, s:o, s:s?}]", "index", c->index, "delta", what, "logprobs", logprobs,
                           "finish_reason", finish),
                 json_null());
}

static bool piece(tq_choice *c, const char *text, size_t n, const char *finish) {
    bool on = true;
    if (!c->begun) on = delta(c, json_pack("{s:s, s:s}", "role", "assistant", "content", ""), json_null(), NULL);
    if (on && (n || c->logs_shown < c->n_logs))
        on = delta(c, json_pack("{s:o}", "content", json_stringn(text, n)), logprobs_json(c, c->logs_shown), NULL);
    if (on && finish) on = delta(c, json_object(), json_null(), finish);
    return on;
}

static bool end(tq_generation *g) {
    bool on = !g->include_usage || chunk(g, json_array(), tq_usage_json(g));
    return on && tq_stream_raw(g->x, "[DONE]");
}

static json_t *whole(tq_generation *g) {
    json_t *choices = json_array();
    for (int i = 0; i < g->n_choices; i++) {
        tq_choice *c = &g->choices[i];
        (void)json_array_append_new(choices, json_pack("{s:i, s:{s:s, s:o, s:n}, s:o, s:s}", "index", c->index,
                                                       "message", "role", "assistant", "content",
                                                       json_stringn(c->text.data, c->text.len), "refusal", "logprobs",
                                                       logprobs_json(c, 0), "finish_reason", tq_finish_reason(c)));
    }
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:o, s:o}", "id", g->id, "object", "chat.completion", "created",
                     (json_int_t)g->created, "model", g->model, "system_fingerprint", g->server->fingerprint, "choices",
                     choices, "usage", tq_usage_json(g));
}

static const tq_shape shape = {.id = "chatcmpl-", .piece = piece, .end = end, .whole = whole};

/* --- the request ------------------------------------------------------------------------------------------- */

static toque_status read(tq_generation *g, char param[TQ_PARAM], toque_error *err) {
    chat_fields f = {.max_tokens = -1, .top_logprobs = -1};
    tq_field_table tables[] = {{own_fields, &f}, {tq_ask_fields, &g->ask}, {0}};
    TQ_TRY(tq_fields_read(g->body, tables, param, err));
    if (f.top_logprobs >= 0 && !f.logprobs) {
        snprintf(param, TQ_PARAM, "top_logprobs");
        return TQ_FAIL(err, EINVAL, "top_logprobs is given without logprobs");
    }
    if (f.logprobs) g->top = f.top_logprobs < 0 ? 0 : (int)f.top_logprobs;
    g->max_tokens = f.max_tokens;
    snprintf(param, TQ_PARAM, "messages");
    tq_prompt *p = tq_generation_prompt(g);
    if (!p) return TQ_NOMEM(err);
    return tq_chat_tokens(g->server, f.messages, f.template_vars, true, &p->tokens, NULL, err);
}

void tq_route_chat(tq_exchange *x, json_t *body) {
    tq_generation_run(x, body, &shape, read);
}
