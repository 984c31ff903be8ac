/* The data sets of a run: items of the keys `data` and `eval_data`. An item is a path, or an object (a mapping in YAML)
 * of path, name, weight and how its rows are read where that differs from the run's own keys. Also how a run with
 * several data sets mixes them: how many rows of each an epoch takes. */
#ifndef TQ_TRAIN_SOURCE_H
#define TQ_TRAIN_SOURCE_H

#include <jansson.h>

#include "base/option.h"
#include "train/dataset.h"

/* Keys of an object, as the option table lists them. */
#define TQ_SOURCE_KEYS "path|name|weight|system|format|prompt_column|answer_column|text_column|label_column"

typedef enum tq_mixing { TQ_MIX_PROPORTIONAL, TQ_MIX_EQUAL, TQ_MIX_TEMPERATURE } tq_mixing;

typedef struct tq_sources {
    tq_source *items;   /* [n] */
    const char **paths; /* [n] */
    size_t n;
    bool weighted; /* an item gives a weight */
    tq_arena arena;
} tq_sources;

/* EINVAL names the key and the item (from 1). key: "data" or "eval_data", which has no weights. A name that is not
 * given is that of the file, with #2, #3, ... where it stands already. */
toque_status tq_sources_read(tq_sources *s, tq_mem *mem, const char *key, const tq_option_list *list,
                             toque_error *err) TQ_MUST;
void tq_sources_clear(tq_sources *s); /* accepts a zeroed struct */
/* What a result depends on besides the files: all but names and paths. */
json_t *tq_sources_json(const tq_sources *s);
/* take[i] = rows of data set i in an epoch, their sum the sum of rows: shares in the ratio of weight x rows
 * (proportional), weight (equal) or weight x rows^(1 / temperature), whole by largest remainders. EINVAL for a data set
 * without rows or whose share is none. */
toque_status tq_sources_mix(const tq_sources *s, const size_t *rows, tq_mixing mixing, double temperature, size_t *take,
                            toque_error *err) TQ_MUST;

#endif
