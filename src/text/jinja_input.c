/* Values of the template interpreter from JSON: messages, tools, variables. What comes from a message carries the
 * message's index and field, as do all keys, numbers and texts inside it. Texts are borrowed from the JSON. */
#include <string.h>

#include "text/jinja.h"

static toque_status from_object(tq_jrun *j, const json_t *json, tq_origin o, tq_jval *out) {
    const char *key;
    size_t n;
    json_t *item;
    TQ_TRY(tq_j_dict(j, json_object_size(json), TQ_J_DICT, out));
    json_object_keylen_foreach((json_t *)(uintptr_t)json, key, n, item) {
        tq_jdict *d = out->dict;
        if (d->len == d->cap) return TQ_FAIL(j->err, EINTERNAL, "a JSON object changed its size");
        TQ_TRY(tq_j_text(j, key, n, o, &d->keys[d->len]));
        TQ_TRY(tq_j_from_json(j, item, o, &d->values[d->len]));
        d->len++;
    }
    return TOQUE_OK;
}

toque_status tq_j_from_json(tq_jrun *j, const json_t *json, tq_origin o, tq_jval *out) {
    TQ_TRY(tq_j_enter(j));
    switch (json_typeof(json)) {
    case JSON_OBJECT: TQ_TRY(from_object(j, json, o, out)); break;
    case JSON_ARRAY:
        TQ_TRY(tq_j_list(j, json_array_size(json), TQ_J_LIST, out));
        for (size_t i = 0; i < json_array_size(json); i++) {
            tq_jval item;
            TQ_TRY(tq_j_from_json(j, json_array_get(json, i), o, &item));
            TQ_TRY(tq_j_push(j, out, item));
        }
        break;
    case JSON_STRING: TQ_TRY(tq_j_text(j, json_string_value(json), json_string_length(json), o, out)); break;
    case JSON_INTEGER: *out = tq_j_int(json_integer_value(json)); break;
    case JSON_REAL: *out = tq_j_float(json_real_value(json)); break;
    case JSON_TRUE: *out = tq_j_bool(true); break;
    case JSON_FALSE: *out = tq_j_bool(false); break;
    default: *out = tq_j_none();
    }
    out->message = o.message;
    out->field = (uint8_t)o.field;
    tq_j_leave(j);
    return TOQUE_OK;
}

static int16_t field_of(const char *key) {
    static const struct {
        const char *key;
        int16_t field;
    } fields[] = {
        {"role", TQ_FIELD_ROLE},          {"content", TQ_FIELD_CONTENT},     {"reasoning_content", TQ_FIELD_REASONING},
        {"thinking", TQ_FIELD_REASONING}, {"reasoning", TQ_FIELD_REASONING}, {"tool_calls", TQ_FIELD_TOOL_CALLS}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (strcmp(key, fields[i].key) == 0) return fields[i].field;
    return TQ_FIELD_OTHER;
}

static toque_status set_field(tq_jrun *j, tq_jdict *d, const char *key, size_t n, const json_t *json, tq_origin o) {
    tq_jval name, value;
    o.field = field_of(key);
    TQ_TRY(tq_j_text(j, key, n, o, &name));
    TQ_TRY(tq_j_from_json(j, json, o, &value));
    return tq_j_dict_set(j, d, name, value);
}

/* transformers offers a message's reasoning under two names, whichever of three it came under: first "thinking", and
 * last "reasoning_content" (at its own place when the message has it). */
static toque_status message(tq_jrun *j, const json_t *json, tq_origin o, tq_jval *out) {
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    const json_t *reasoning = NULL;
    for (size_t i = 0; i < 3 && !reasoning; i++) {
        reasoning = json_object_get(json, names[i]);
        if (reasoning && json_is_null(reasoning)) reasoning = NULL;
    }
    const char *key;
    size_t n;
    json_t *item;
    TQ_TRY(tq_j_dict(j, json_object_size(json) + 2, TQ_J_DICT, out));
    if (reasoning) TQ_TRY(set_field(j, out->dict, "thinking", 8, reasoning, o));
    json_object_keylen_foreach((json_t *)(uintptr_t)json, key, n, item)
        TQ_TRY(set_field(j, out->dict, key, n, item, o));
    if (reasoning) TQ_TRY(set_field(j, out->dict, "reasoning_content", 17, reasoning, o));
    out->message = o.message;
    out->field = TQ_FIELD_OTHER;
    return TOQUE_OK;
}

toque_status tq_j_messages(tq_jrun *j, const json_t *messages, tq_jval *out) {
    if (!json_is_array(messages)) return TQ_J_FAIL(j, "messages are not an array");
    size_t count = json_array_size(messages);
    if (count > INT32_MAX) return TQ_FAIL(j->err, ELIMIT, "%zu messages are too many", count);
    TQ_TRY(tq_j_list(j, count, TQ_J_LIST, out));
    for (size_t i = 0; i < count; i++) {
        const json_t *one = json_array_get(messages, i);
        tq_jval item;
        if (!json_is_object(one)) return TQ_J_FAIL(j, "message %zu is not an object", i);
        TQ_TRY(message(j, one, (tq_origin){.message = (int32_t)i}, &item));
        TQ_TRY(tq_j_push(j, out, item));
    }
    return TOQUE_OK;
}
