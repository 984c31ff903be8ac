/* Messages: the checks and small conversions between what people store and what chat templates read. */
#include <math.h>
#include <string.h>

#include "train/rows_impl.h"

static const char *const roles[] = {"system", "developer", "user", "assistant", "tool", "function"};

static bool known_role(const char *role) {
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++)
        if (strcmp(role, roles[i]) == 0) return true;
    return false;
}

/* [{"type": "text", "text": ...}] as one string: most templates read nothing else. */
static toque_status join_parts(json_t **out, tq_mem *mem, const json_t *parts, toque_error *err) {
    size_t n = 0, i;
    json_t *part, *text;
    json_array_foreach(parts, i, part) {
        const char *type = json_string_value(json_object_get(part, "type"));
        text = json_object_get(part, "text");
        if (type && strcmp(type, "text") != 0)
            return TQ_FAIL(err, EUNSUPPORTED, "content part %zu is of the type \"%.40s\": only text can be read", i + 1,
                           type);
        if (!json_is_string(text))
            return TQ_FAIL(err, EFORMAT, "content part %zu must be {\"type\": \"text\", \"text\": \"...\"}", i + 1);
        n += json_string_length(text) + 1;
    }
    char *all = tq_alloc(mem, n + 1, 1), *to = all;
    if (!all) return TQ_NOMEM(err);
    json_array_foreach(parts, i, part) {
        text = json_object_get(part, "text");
        if (i) *to++ = '\n';
        memcpy(to, json_string_value(text), json_string_length(text));
        to += json_string_length(text);
    }
    *out = json_stringn(all, (size_t)(to - all));
    tq_free(mem, all);
    return *out ? TOQUE_OK : TQ_NOMEM(err);
}

/* Arguments are text on OpenAI's wire and objects in templates ("arguments | tojson"). */
static toque_status fix_calls(json_t *message, toque_error *err) {
    json_t *calls = json_object_get(message, "tool_calls"), *copy;
    if (!calls || json_is_null(calls)) {
        json_object_del(message, "tool_calls");
        return TOQUE_OK;
    }
    if (!json_is_array(calls))
        return TQ_FAIL(err, EFORMAT, "\"tool_calls\" must be an array, not %s", tq_rows_type_name(calls));
    if (json_array_size(calls) == 0) {
        json_object_del(message, "tool_calls");
        return TOQUE_OK;
    }
    copy = json_deep_copy(calls);
    if (json_object_set_new(message, "tool_calls", copy)) return TQ_NOMEM(err);
    size_t i;
    json_t *call;
    json_array_foreach(copy, i, call) {
        json_t *function = json_object_get(call, "function");
        if (!function) function = call; /* {"name", "arguments"} without OpenAI's wrapper */
        json_t *name = json_object_get(function, "name"), *arguments = json_object_get(function, "arguments");
        if (!json_is_string(name) || (arguments && !json_is_string(arguments) && !json_is_object(arguments)))
            return TQ_FAIL(err, EFORMAT,
                           "tool call %zu must be {\"type\": \"function\", \"function\": {\"name\": \"...\", "
                           "\"arguments\": {...}}}",
                           i + 1);
        if (!json_is_string(arguments)) continue;
        json_t *parsed = json_loads(json_string_value(arguments), JSON_REJECT_DUPLICATES, NULL);
        if (!json_is_object(parsed)) { /* left as text: the template may want just that */
            json_decref(parsed);
            continue;
        }
        if (json_object_set_new(function, "arguments", parsed)) return TQ_NOMEM(err);
    }
    return TOQUE_OK;
}

/* "train": false, or "weight", of which OpenAI knows 0 and 1. Other weights are of what is learned. */
static toque_status take_weight(json_t *message, const char *role, float *turn, toque_error *err) {
    json_t *train = json_object_get(message, "train"), *weight = json_object_get(message, "weight");
    if (train && !json_is_boolean(train)) return TQ_FAIL(err, EFORMAT, "\"train\" must be true or false");
    double w = json_number_value(weight);
    if (weight && (!json_is_number(weight) || !(w >= 0) || !isfinite((float)w)))
        return TQ_FAIL(err, EFORMAT, "\"weight\" of a message must be a number, 0 (not learned) or above");
    if (weight && w != 0 && w != 1 && strcmp(role, "assistant") != 0)
        return TQ_FAIL(err, EFORMAT, "\"weight\" is %g in a message of role %s: only the assistant's are learned", w,
                       role);
    if (turn) *turn = json_is_false(train) ? 0 : weight ? (float)w : 1;
    json_object_del(message, "train");
    json_object_del(message, "weight");
    return TOQUE_OK;
}

static toque_status fix_content(tq_mem *mem, json_t *message, const char *role, toque_error *err) {
    json_t *content = json_object_get(message, "content"), *joined;
    if (json_is_array(content)) {
        TQ_TRY(join_parts(&joined, mem, content, err));
        if (json_object_set_new(message, "content", joined)) return TQ_NOMEM(err);
        content = json_object_get(message, "content");
    }
    bool calls = json_object_get(message, "tool_calls") != NULL;
    if ((!content || json_is_null(content)) && calls) {
        if (json_object_set_new(message, "content", json_string(""))) return TQ_NOMEM(err);
        return TOQUE_OK;
    }
    if (!json_is_string(content))
        return TQ_FAIL(err, EFORMAT, "\"content\" must be a string or an array of parts, not %s",
                       tq_rows_type_name(content));
    const char *s = json_string_value(content);
    bool reasons = json_is_string(json_object_get(message, "reasoning_content")) ||
                   json_is_string(json_object_get(message, "thinking"));
    if (strcmp(role, "assistant") == 0 && !calls && !reasons && s[strspn(s, " \t\r\n")] == 0)
        return TQ_FAIL(err, EFORMAT, "the assistant's answer is empty: fill it in or remove the row");
    return TOQUE_OK;
}

static toque_status fix_message(tq_mem *mem, json_t *message, float *turn, toque_error *err) {
    const char *role = json_string_value(json_object_get(message, "role"));
    char found[300];
    if (!role)
        return TQ_FAIL(err, EFORMAT, "\"role\" is missing or no string; there is: %s",
                       tq_rows_list(message, found, sizeof found));
    if (!known_role(role))
        return TQ_FAIL(err, EFORMAT, "role \"%.40s\" is unknown: system, developer, user, assistant, tool or function",
                       role);
    TQ_TRY(take_weight(message, role, turn, err));
    TQ_TRY(fix_calls(message, err));
    return fix_content(mem, message, role, err);
}

toque_status tq_messages_normalize(json_t **out, tq_mem *mem, json_t *messages, float *turns, toque_error *err) {
    *out = NULL;
    if (!json_is_array(messages))
        return TQ_FAIL(err, EFORMAT, "messages must be an array, not %s", tq_rows_type_name(messages));
    if (json_array_size(messages) == 0) return TQ_FAIL(err, EFORMAT, "the array of messages is empty");
    json_t *list = json_array(), *message;
    toque_status status = list ? TOQUE_OK : TQ_NOMEM(err);
    size_t i;
    json_array_foreach(messages, i, message) {
        if (status != TOQUE_OK) break;
        if (!json_is_object(message)) {
            status = TQ_FAIL(err, EFORMAT, "message %zu must be an object, not %s", i + 1, tq_rows_type_name(message));
            break;
        }
        json_t *copy = json_copy(message);
        if (json_array_append_new(list, copy)) {
            status = TQ_NOMEM(err);
            break;
        }
        status = fix_message(mem, copy, turns ? turns + i : NULL, err);
        if (status != TOQUE_OK) tq_error_prefix(err, status, "message %zu", i + 1);
    }
    if (status == TOQUE_OK)
        *out = list;
    else
        json_decref(list);
    return status;
}

toque_status tq_rows_sharegpt(json_t **out, json_t *turns, toque_error *err) {
    static const char *const names[][2] = {{"human", "user"},          {"user", "user"},       {"gpt", "assistant"},
                                           {"assistant", "assistant"}, {"model", "assistant"}, {"chatgpt", "assistant"},
                                           {"system", "system"},       {"tool", "tool"},       {"observation", "tool"}};
    *out = NULL;
    if (!json_is_array(turns))
        return TQ_FAIL(err, EFORMAT, "field \"conversations\" must be an array, not %s", tq_rows_type_name(turns));
    json_t *list = json_array(), *turn;
    if (!list) return TQ_NOMEM(err);
    toque_status status = TOQUE_OK;
    size_t i;
    json_array_foreach(turns, i, turn) {
        json_t *message = json_copy(turn), *from = json_object_get(turn, "from"),
               *value = json_object_get(turn, "value");
        if (!from) from = json_object_get(turn, "role"); /* some sets keep OpenAI's names inside */
        if (!value) value = json_object_get(turn, "content");
        const char *role = NULL;
        for (size_t k = 0; json_is_string(from) && k < sizeof names / sizeof names[0]; k++)
            if (strcmp(names[k][0], json_string_value(from)) == 0) role = names[k][1];
        if (!role || !json_is_string(value)) {
            status = TQ_FAIL(err, EFORMAT,
                             "turn %zu must be {\"from\": human, gpt, system or tool, \"value\": \"...\"}", i + 1);
            json_decref(message);
            break;
        }
        json_object_del(message, "from");
        json_object_del(message, "value");
        int bad = json_object_set_new(message, "role", json_string(role)) | json_object_set(message, "content", value);
        bad |= json_array_append_new(list, message);
        if (bad) {
            status = TQ_NOMEM(err);
            break;
        }
    }
    if (status == TOQUE_OK)
        *out = list;
    else
        json_decref(list);
    return status;
}
