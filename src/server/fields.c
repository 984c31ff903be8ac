/* Reading request fields: see fields.h. */
#include "server/fields.h"

#include <string.h>

#include "base/option.h"

enum { MOST_NAMES = 96 };

static const char *type_name(tq_value_type type) {
    static const char *const names[] = {"true or false", "an integer", "a number",         "a string",
                                        "an object",     "an array",   "any kind of value"};
    return names[type];
}

static const char *kind_of(const json_t *value) {
    static const char *const names[] = {"an object", "an array", "a string", "an integer",
                                        "a number",  "true",     "false",    "null"};
    return names[json_typeof(value)];
}

static toque_status in_range(const tq_field *f, double value, toque_error *err) {
    if ((f->min == 0 && f->max == 0) || (value >= f->min && value <= f->max)) return TOQUE_OK;
    return TQ_FAIL(err, EINVAL, "%s is %.15g; expected %s from %.15g to %.15g", f->key, value, type_name(f->type),
                   f->min, f->max);
}

static toque_status put(const tq_field *f, void *target, json_t *value, toque_error *err) {
    void *at = (char *)target + f->offset;
    switch (f->type) {
    case TQ_VALUE_BOOL:
        if (!json_is_boolean(value)) break;
        *(bool *)at = json_is_true(value);
        return TOQUE_OK;
    case TQ_VALUE_INT:
        if (!json_is_integer(value)) break;
        *(int64_t *)at = json_integer_value(value);
        return in_range(f, (double)json_integer_value(value), err);
    case TQ_VALUE_NUMBER:
        if (!json_is_number(value)) break;
        *(double *)at = json_number_value(value);
        return in_range(f, json_number_value(value), err);
    case TQ_VALUE_TEXT:
        if (!json_is_string(value)) break;
        if (strlen(json_string_value(value)) != json_string_length(value))
            return TQ_FAIL(err, EINVAL, "%s holds a NUL character", f->key);
        *(const char **)at = json_string_value(value);
        return TOQUE_OK;
    case TQ_VALUE_OBJECT:
    case TQ_VALUE_ARRAY:
    case TQ_VALUE_ANY:
        if ((f->type == TQ_VALUE_OBJECT && !json_is_object(value)) ||
            (f->type == TQ_VALUE_ARRAY && !json_is_array(value)))
            break;
        *(json_t **)at = value;
        return TOQUE_OK;
    }
    return TQ_FAIL(err, EINVAL, "%s is %s; expected %s", f->key, kind_of(value), type_name(f->type));
}

static const tq_field *find(const tq_field_table *tables, const char *key, void **target) {
    for (; tables->rows; tables++)
        for (const tq_field *f = tables->rows; f->key; f++)
            if (strcmp(f->key, key) == 0) {
                *target = tables->target;
                return f;
            }
    return NULL;
}

static toque_status unknown(const tq_field_table *tables, const char *key, toque_error *err) {
    const char *names[MOST_NAMES];
    size_t n = 0;
    for (; tables->rows; tables++)
        for (const tq_field *f = tables->rows; f->key && n < MOST_NAMES; f++) names[n++] = f->key;
    const char *near = tq_nearest(key, names, n);
    if (near) return TQ_FAIL(err, EINVAL, "the field %.60s is not supported here; is %s meant?", key, near);
    return TQ_FAIL(err, EINVAL, "the field %.60s is not supported here", key);
}

toque_status tq_fields_read(json_t *body, const tq_field_table *tables, char param[TQ_PARAM], toque_error *err) {
    const char *key;
    json_t *value;
    json_object_foreach(body, key, value) {
        snprintf(param, TQ_PARAM, "%s", key);
        void *target = NULL;
        const tq_field *f = find(tables, key, &target);
        if (!f) return unknown(tables, key, err);
        if (!json_is_null(value)) TQ_TRY(put(f, target, value, err));
    }
    for (; tables->rows; tables++)
        for (const tq_field *f = tables->rows; f->key; f++) {
            json_t *given = json_object_get(body, f->key);
            if (!f->needed || (given && !json_is_null(given))) continue;
            snprintf(param, TQ_PARAM, "%s", f->key);
            return TQ_FAIL(err, EINVAL, "the field %s is missing; expected %s", f->key, type_name(f->type));
        }
    param[0] = 0;
    return TOQUE_OK;
}
