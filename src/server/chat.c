/* Messages of requests: see chat.h. */
#include "server/chat.h"

#include <string.h>

static toque_status check_role(const json_t *message, size_t i, const char **role, toque_error *err) {
    static const char *const roles[] = {"system", "developer", "user", "assistant", "tool"};
    *role = json_string_value(json_object_get(message, "role"));
    for (size_t k = 0; *role && k < sizeof roles / sizeof *roles; k++)
        if (strcmp(*role, roles[k]) == 0) return TOQUE_OK;
    return TQ_FAIL(err, EINVAL, "messages[%zu].role is %.40s; expected system, developer, user, assistant or tool", i,
                   *role ? *role : "missing");
}

/* Content in parts, [{"type": "text", "text": ...}], becomes one text. */
static toque_status join_parts(const json_t *parts, size_t i, json_t **text, toque_error *err) {
    size_t k;
    json_t *part;
    tq_mem mem = {0};
    tq_buf buf;
    tq_buf_init(&buf, &mem, SIZE_MAX / 2);
    toque_status status = TOQUE_OK;
    json_array_foreach(parts, k, part) {
        const char *type = json_string_value(json_object_get(part, "type"));
        json_t *own = json_object_get(part, "text");
        if (!type || strcmp(type, "text") != 0 || !json_is_string(own)) {
            status =
                TQ_FAIL(err, EINVAL, "messages[%zu].content[%zu] is of type %.40s; this model reads parts of type text",
                        i, k, type ? type : "(none)");
            break;
        }
        (void)tq_buf_put(&buf, json_string_value(own), json_string_length(own));
    }
    if (status == TOQUE_OK && !(*text = buf.failed ? NULL : json_stringn(buf.data, buf.len))) status = TQ_NOMEM(err);
    tq_buf_clear(&buf);
    return status;
}

/* A copy of a message as templates expect them. What else it has is left to the template. */
static toque_status plain(const json_t *message, size_t i, json_t **out, toque_error *err) {
    const char *role;
    *out = NULL;
    if (!json_is_object(message)) return TQ_FAIL(err, EINVAL, "messages[%zu] is no object", i);
    TQ_TRY(check_role(message, i, &role, err));
    json_t *content = json_object_get(message, "content"), *text = NULL;
    if (json_is_array(content)) {
        TQ_TRY(join_parts(content, i, &text, err));
    } else if (json_is_string(content)) {
        text = json_incref(content);
    } else if ((content && !json_is_null(content)) || strcmp(role, "assistant") != 0) {
        return TQ_FAIL(err, EINVAL, "messages[%zu].content is no string and no array of parts", i);
    }
    json_t *copy = json_copy((json_t *)(uintptr_t)message);
    bool ok = copy && json_object_set_new(copy, "content", text ? text : json_string("")) == 0;
    if (!copy) json_decref(text);
    if (ok && strcmp(role, "developer") == 0) ok = json_object_set_new(copy, "role", json_string("system")) == 0;
    if (!ok) {
        json_decref(copy);
        return TQ_NOMEM(err);
    }
    *out = copy;
    return TOQUE_OK;
}

toque_status tq_chat_tokens(const tq_server *s, const json_t *messages, json_t *vars, bool generation_prompt,
                            tq_tokens *tokens, tq_buf *text, toque_error *err) {
    size_t i;
    json_t *message, *list = json_array();
    tq_rendered rendered = {0};
    toque_status status = TOQUE_OK;
    if (!list) return TQ_NOMEM(err);
    if (json_array_size(messages) == 0) status = TQ_FAIL(err, EINVAL, "messages is empty; send at least one");
    if (status == TOQUE_OK && !s->model->chat_template)
        status = TQ_FAIL(err, EINVAL, "%.200s has no chat template; /v1/completions continues texts", s->name);
    json_array_foreach(messages, i, message) {
        json_t *copy;
        if (status == TOQUE_OK) status = plain(message, i, &copy, err);
        if (status != TOQUE_OK) break;
        if (json_array_append_new(list, copy)) status = TQ_NOMEM(err);
    }
    if (status == TOQUE_OK) status = tq_model_render(s->model, list, NULL, vars, generation_prompt, &rendered, err);
    if (status == TOQUE_OK) status = tq_model_tokenize_rendered(s->model, &rendered, tokens, err);
    if (status == TOQUE_OK && text && !tq_buf_put(text, rendered.text, rendered.len)) status = TQ_NOMEM(err);
    tq_rendered_clear(&rendered);
    json_decref(list);
    return status;
}
