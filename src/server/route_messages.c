/* POST /v1/messages: Anthropic's shape of a chat. */
#include <string.h>

#include "server/chat.h"
#include "server/generation.h"

typedef struct message_fields {
    json_t *messages, *system, *stops;
    int64_t max_tokens;
} message_fields;

#define AT(field) offsetof(message_fields, field)
static const tq_field own_fields[] = {{"messages", TQ_VALUE_ARRAY, AT(messages), 0, 0, true},
                                      {"max_tokens", TQ_VALUE_INT, AT(max_tokens), 1, 1e9, true},
                                      {"system", TQ_VALUE_ANY, AT(system), 0, 0, false},
                                      {"stop_sequences", TQ_VALUE_ARRAY, AT(stops), 0, 0, false},
                                      {0}};
#undef AT
#define AT(field) offsetof(tq_ask, field)
static const tq_field ask_fields[] = {{"model", TQ_VALUE_TEXT, AT(model), 0, 0, false},
                                      {"stream", TQ_VALUE_BOOL, AT(stream), 0, 0, false},
                                      {"temperature", TQ_VALUE_NUMBER, AT(temperature), 0, 100, false},
                                      {"top_p", TQ_VALUE_NUMBER, AT(top_p), 0, 1, false},
                                      {"top_k", TQ_VALUE_INT, AT(top_k), 0, 1e9, false},
                                      {0}};
#undef AT

static const char *stop_reason(const tq_choice *c) {
    return c->finish == TQ_FINISH_LENGTH ? "max_tokens" : c->stop.met ? "stop_sequence" : "end_turn";
}

static json_t *usage(const tq_generation *g) {
    const tq_choice *c = &g->choices[0];
    return json_pack("{s:i, s:i, s:i}", "input_tokens", c->seq.n - c->seq.reused, "cache_read_input_tokens",
                     c->seq.reused, "output_tokens", c->seq.drawn);
}

static json_t *message(tq_generation *g, json_t *content, const char *reason, const char *stop) {
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:s?, s:s?, s:o}", "id", g->id, "type", "message", "role", "assistant",
                     "model", g->model, "content", content, "stop_reason", reason, "stop_sequence", stop, "usage",
                     usage(g));
}

static json_t *whole(tq_generation *g) {
    tq_choice *c = &g->choices[0];
    json_t *content = json_pack("[{s:s, s:o}]", "type", "text", "text", json_stringn(c->text.data, c->text.len));
    return message(g, content, stop_reason(c), c->stop.which);
}

static bool event(tq_generation *g, const char *name, json_t *value) {
    if (value) (void)json_object_set_new(value, "type", json_string(name));
    return tq_stream_event(g->x, name, value);
}

static bool piece(tq_choice *c, const char *text, size_t n, const char *finish) {
    tq_generation *g = c->g;
    bool on = true;
    if (!c->begun) {
        on = event(g, "message_start", json_pack("{s:o}", "message", message(g, json_array(), NULL, NULL))) &&
             event(g, "content_block_start",
                   json_pack("{s:i, s:{s:s, s:s}}", "index", 0, "content_block", "type", "text", "text", ""));
    }
    if (on && n)
        on = event(
            g, "content_block_delta",
            json_pack("{s:i, s:{s:s, s:o}}", "index", 0, "delta", "type", "text_delta", "text", json_stringn(text, n)));
    if (on && finish)
        on = event(g, "content_block_stop", json_pack("{s:i}", "index", 0)) &&
             event(g, "message_delta",
                   json_pack("{s:{s:s, s:s?}, s:o}", "delta", "stop_reason", stop_reason(c), "stop_sequence",
                             c->stop.which, "usage", usage(g)));
    return on;
}

static bool end(tq_generation *g) {
    return event(g, "message_stop", json_object());
}

static const tq_shape shape = {.id = "msg_", .piece = piece, .end = end, .whole = whole};

static toque_status read(tq_generation *g, char param[TQ_PARAM], toque_error *err) {
    message_fields f = {0};
    tq_field_table tables[] = {{own_fields, &f}, {ask_fields, &g->ask}, {0}};
    TQ_TRY(tq_fields_read(g->body, tables, param, err));
    g->max_tokens = f.max_tokens;
    g->ask.stop = f.stops;
    snprintf(param, TQ_PARAM, "messages");
    json_t *all = json_copy(f.messages);
    if (f.system) (void)json_array_insert_new(all, 0, json_pack("{s:s, s:O}", "role", "system", "content", f.system));
    tq_prompt *p = tq_generation_prompt(g);
    toque_status status = all && p ? TOQUE_OK : TQ_NOMEM(err);
    if (status == TOQUE_OK) status = tq_chat_tokens(g->server, all, NULL, true, &p->tokens, NULL, err);
    json_decref(all);
    return status;
}

void tq_route_messages(tq_exchange *x, json_t *body) {
    tq_generation_run(x, body, &shape, read);
}
