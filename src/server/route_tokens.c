/* POST /tokenize, /detokenize and /apply-template, GET /tokenizer_info: the model's vocabulary for clients, under the
 * names that llama.cpp's server and lm-eval use for the same things. */
#include <string.h>

#include "server/chat.h"
#include "server/generation.h"
#include "server/tokens.h"

toque_status tq_read_tokens(const tq_server *s, const json_t *array, const char *name, tq_tokens *out,
                            toque_error *err) {
    size_t i, n = json_array_size(array);
    json_t *one;
    tq_token *ids = tq_realloc(s->mem, out->ids, n ? n : 1, sizeof *ids);
    if (!ids) return TQ_NOMEM(err);
    out->ids = ids;
    out->cap = n ? n : 1;
    out->len = 0;
    json_array_foreach(array, i, one) {
        json_int_t id = json_is_integer(one) ? json_integer_value(one) : -1;
        if (id < 0 || id >= s->model->config.V)
            return TQ_FAIL(err, EINVAL, "%s[%zu] is no token of this model; expected an integer from 0 to %d", name, i,
                           s->model->config.V - 1);
        ids[out->len++] = (tq_token)id;
    }
    return TOQUE_OK;
}

toque_status tq_tokens_text(const tq_server *s, const tq_tokens *tokens, tq_buf *out, toque_error *err) {
    tq_detok d;
    tq_detok_init(&d, s->model->tokenizer, s->mem, true);
    bool ok = true;
    for (size_t i = 0; ok && i < tokens->len; i++) ok = tq_detok_feed(&d, tokens->ids[i], out);
    ok = ok && tq_detok_finish(&d, out);
    tq_detok_clear(&d);
    return ok ? TOQUE_OK : TQ_NOMEM(err);
}

/* All models here share the base's vocabulary and template; a name that is none of theirs is refused all the same. */
static toque_status check_model(tq_server *s, const char *model, char *param, toque_error *err) {
    tq_outfit outfit = {0};
    snprintf(param, TQ_PARAM, "model");
    toque_status status = tq_outfit_choose(&outfit, &s->wardrobe, model, NULL, err);
    tq_outfit_clear(&outfit);
    return status;
}

/* --- /tokenize --------------------------------------------------------------------------------------------- */

typedef struct tokenize_fields {
    const char *model;
    json_t *content;
    bool add_special, parse_special, pieces;
} tokenize_fields;

#define AT(field) offsetof(tokenize_fields, field)
static const tq_field tokenize_table[] = {{"content", TQ_VALUE_ANY, AT(content), 0, 0, false},
                                          {"prompt", TQ_VALUE_ANY, AT(content), 0, 0, false},
                                          {"model", TQ_VALUE_TEXT, AT(model), 0, 0, false},
                                          {"add_special", TQ_VALUE_BOOL, AT(add_special), 0, 0, false},
                                          {"add_special_tokens", TQ_VALUE_BOOL, AT(add_special), 0, 0, false},
                                          {"parse_special", TQ_VALUE_BOOL, AT(parse_special), 0, 0, false},
                                          {"with_pieces", TQ_VALUE_BOOL, AT(pieces), 0, 0, false},
                                          {0}};
#undef AT

/* A token as with_pieces shows it: its text, or its bytes where they are no text. */
static json_t *piece_json(const tq_server *s, tq_token token) {
    tq_buf raw;
    tq_buf_init(&raw, s->mem, SIZE_MAX / 2);
    (void)tq_detokenize(s->model->tokenizer, token, false, true, &raw);
    json_t *text = raw.failed ? NULL : json_stringn(raw.data, raw.len); /* NULL for bytes that are not UTF-8 */
    if (!text && !raw.failed) {
        text = json_array();
        for (size_t i = 0; i < raw.len; i++) (void)json_array_append_new(text, json_integer((uint8_t)raw.data[i]));
    }
    tq_buf_clear(&raw);
    return json_pack("{s:i, s:o}", "id", token, "piece", text);
}

static toque_status tokenize(tq_server *s, json_t *body, json_t **reply, char *param, toque_error *err) {
    tokenize_fields f = {.parse_special = true};
    tq_field_table tables[] = {{tokenize_table, &f}, {0}};
    TQ_TRY(tq_fields_read(body, tables, param, err));
    TQ_TRY(check_model(s, f.model, param, err));
    snprintf(param, TQ_PARAM, "content");
    if (!json_is_string(f.content)) return TQ_FAIL(err, EINVAL, "content (or prompt) is missing, or no string");
    tq_tokens tokens = {.mem = s->mem};
    toque_status status = tq_tokenize(s->model->tokenizer, json_string_value(f.content), json_string_length(f.content),
                                      f.add_special, f.parse_special, &tokens, err);
    json_t *list = json_array();
    for (size_t i = 0; status == TOQUE_OK && i < tokens.len; i++)
        (void)json_array_append_new(list, f.pieces ? piece_json(s, tokens.ids[i]) : json_integer(tokens.ids[i]));
    *reply = json_pack("{s:o, s:I, s:i}", "tokens", list, "count", (json_int_t)tokens.len, "max_model_len", s->context);
    tq_tokens_clear(&tokens);
    return status;
}

/* --- the others -------------------------------------------------------------------------------------------- */

static toque_status detokenize(tq_server *s, json_t *body, json_t **reply, char *param, toque_error *err) {
    struct {
        json_t *tokens;
        const char *model;
    } f = {0};
    static const tq_field table[] = {
        {"tokens", TQ_VALUE_ARRAY, 0, 0, 0, true}, {"model", TQ_VALUE_TEXT, sizeof(json_t *), 0, 0, false}, {0}};
    tq_field_table tables[] = {{table, &f}, {0}};
    TQ_TRY(tq_fields_read(body, tables, param, err));
    TQ_TRY(check_model(s, f.model, param, err));
    snprintf(param, TQ_PARAM, "tokens");
    tq_tokens tokens = {.mem = s->mem};
    tq_buf text;
    tq_buf_init(&text, s->mem, SIZE_MAX / 2);
    toque_status status = tq_read_tokens(s, f.tokens, "tokens", &tokens, err);
    if (status == TOQUE_OK) status = tq_tokens_text(s, &tokens, &text, err);
    if (status == TOQUE_OK)
        *reply = json_pack("{s:o, s:o}", "content", json_stringn(text.data, text.len), "prompt",
                           json_stringn(text.data, text.len));
    tq_buf_clear(&text);
    tq_tokens_clear(&tokens);
    return status;
}

typedef struct render_fields {
    json_t *messages, *vars;
    const char *model;
    bool generation_prompt;
} render_fields;

#define AT(field) offsetof(render_fields, field)
static const tq_field render_table[] = {{"messages", TQ_VALUE_ARRAY, AT(messages), 0, 0, true},
                                        {"model", TQ_VALUE_TEXT, AT(model), 0, 0, false},
                                        {"chat_template_kwargs", TQ_VALUE_OBJECT, AT(vars), 0, 0, false},
                                        {"add_generation_prompt", TQ_VALUE_BOOL, AT(generation_prompt), 0, 0, false},
                                        {0}};
#undef AT

static toque_status apply_template(tq_server *s, json_t *body, json_t **reply, char *param, toque_error *err) {
    render_fields f = {.generation_prompt = true};
    tq_field_table tables[] = {{render_table, &f}, {0}};
    TQ_TRY(tq_fields_read(body, tables, param, err));
    TQ_TRY(check_model(s, f.model, param, err));
    snprintf(param, TQ_PARAM, "messages");
    tq_tokens tokens = {.mem = s->mem};
    tq_buf text;
    tq_buf_init(&text, s->mem, SIZE_MAX / 2);
    toque_status status = tq_chat_tokens(s, f.messages, f.vars, f.generation_prompt, &tokens, &text, err);
    if (status == TOQUE_OK)
        *reply = json_pack("{s:o, s:I}", "prompt", json_stringn(text.data, text.len), "tokens", (json_int_t)tokens.len);
    tq_buf_clear(&text);
    tq_tokens_clear(&tokens);
    return status;
}

typedef toque_status answer_fn(tq_server *s, json_t *body, json_t **reply, char *param, toque_error *err);

static void answer(tq_exchange *x, json_t *body, answer_fn *fn) {
    toque_error err = {0};
    char param[TQ_PARAM] = "";
    json_t *reply = NULL;
    toque_status status = fn(tq_server_of(x), body, &reply, param, &err);
    if (status == TOQUE_OK) {
        tq_reply_json(x, 200, reply);
        return;
    }
    json_decref(reply);
    tq_reply_failure(x, status, param[0] ? param : NULL, &err);
}

void tq_route_tokenize(tq_exchange *x, json_t *body) {
    answer(x, body, tokenize);
}

void tq_route_detokenize(tq_exchange *x, json_t *body) {
    answer(x, body, detokenize);
}

void tq_route_apply_template(tq_exchange *x, json_t *body) {
    answer(x, body, apply_template);
}

static json_t *special(const tq_server *s, tq_token token) {
    return token == TQ_NO_TOKEN ? json_null() : tq_token_json(s, token, NULL);
}

void tq_route_tokenizer_info(tq_exchange *x, json_t *body) {
    const tq_server *s = tq_server_of(x);
    const tq_tokenizer *tok = s->model->tokenizer;
    (void)body;
    tq_reply_json(x, 200,
                  json_pack("{s:o, s:o, s:n, s:b, s:s?, s:i}", "bos_token", special(s, tq_tokenizer_bos(tok)),
                            "eos_token", special(s, tq_tokenizer_eos(tok)), "pad_token", "add_bos_token",
                            tq_tokenizer_add_bos(tok), "chat_template", s->model->template_source, "vocab_size",
                            tq_tokenizer_size(tok)));
}
