/* Fields of request bodies, as tables: name, type, range, and where the value goes. A field that no table knows is
 * refused by name, and so is a value of another type; null is the same as leaving a field out. */
#ifndef TQ_SERVER_FIELDS_H
#define TQ_SERVER_FIELDS_H

#include <jansson.h>

#include "base/error.h"

typedef enum tq_value_type {
    TQ_VALUE_BOOL,   /* bool */
    TQ_VALUE_INT,    /* int64_t */
    TQ_VALUE_NUMBER, /* double */
    TQ_VALUE_TEXT,   /* const char *, borrowed; without NUL characters */
    TQ_VALUE_OBJECT, /* json_t *, borrowed */
    TQ_VALUE_ARRAY,
    TQ_VALUE_ANY
} tq_value_type;

typedef struct tq_field {
    const char *key; /* NULL ends a table */
    tq_value_type type;
    size_t offset;
    double min, max; /* INT, NUMBER */
    bool needed;
} tq_field;

typedef struct tq_field_table {
    const tq_field *rows; /* NULL ends the list */
    void *target;
} tq_field_table;

enum { TQ_PARAM = 64 };
/* EINVAL, with the field's name in param. */
toque_status tq_fields_read(json_t *body, const tq_field_table *tables, char param[TQ_PARAM], toque_error *err) TQ_MUST;

#endif
