/* What option.c, option_yaml.c and option_help.c share and nobody else sees: where an option stands and
 * how a text becomes its value. */
#ifndef TQ_BASE_OPTION_IMPL_H
#define TQ_BASE_OPTION_IMPL_H

#include "base/option.h"

/* An option found in a set. */
typedef struct tq_option_place {
    const tq_option *option; /* NULL: no such option */
    void *value;             /* in the caller's struct */
    int index;               /* counted through all tables: its bit in `given` */
} tq_option_place;

/* By key or alias; '-' and '_' are the same letter. */
tq_option_place tq_option_find(const tq_option_set *set, const char *name, size_t n);
/* Converts, checks and stores. subject opens the message: "option --lr" or "recipe.yaml, line 3: lr".
 * A list gets one more item. Does not touch `given`. */
toque_status tq_option_store(tq_option_set *set, tq_option_place place, const char *text, const char *subject,
                             toque_error *err) TQ_MUST;
/* "prefix: unknown key lerning_rate; did you mean learning_rate?" dashed: as a flag. */
toque_status tq_option_unknown(const tq_option_set *set, const char *name, size_t n, bool dashed, const char *prefix,
                               toque_error *err) TQ_MUST;
bool tq_option_is_given(const tq_option_set *set, int index);
void tq_option_set_given(tq_option_set *set, int index);
/* Writes what values are allowed: "a whole number from 1 to 1024", "one of a, b or c". */
void tq_option_expected(const tq_option *o, char *out, size_t size);
/* Formats with the shortest digits that read back as the same double, whatever the locale. */
void tq_option_number(double x, char out[40]);

#endif
