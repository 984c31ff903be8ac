/* Option tables: one description of a command's or method's options makes its flags, recipe keys (--config), JSON
 * keys, validation, --help and shell completion. A key is spelled key_name in files and --key-name as a flag. An
 * unknown key is an error that names the nearest known one. Values land in the caller's struct by offset. */
#ifndef TQ_BASE_OPTION_H
#define TQ_BASE_OPTION_H

#include "base/error.h"
#include "base/mem.h"

typedef enum tq_option_type {
    TQ_OPT_FLAG,   /* bool; --name or --no-name; YAML true/false/on/off */
    TQ_OPT_INT,    /* int64_t, with min and max */
    TQ_OPT_NUMBER, /* double, with min and max */
    TQ_OPT_TEXT,   /* const char *, owned by the set's arena */
    TQ_OPT_CHOICE, /* int: index into choices ("a|b|c") */
    /* tq_option_list: a flag that may be repeated; YAML: a string or a list of strings. With `choices` an item may be a
     * mapping of these keys to scalars: it is stored as a JSON object of strings. */
    TQ_OPT_LIST,
    TQ_OPT_BYTES /* uint64_t: 500M, 2G (powers of 1000), 1Gi (1024) */
} tq_option_type;

typedef struct tq_option_list {
    const char **items;
    size_t len, cap;
} tq_option_list;

typedef struct tq_option {
    const char *key; /* "batch_size"; NULL ends a table */
    char letter;     /* 'm' for -m, or 0 */
    tq_option_type type;
    size_t offset;        /* of the value in the caller's struct */
    const char *fallback; /* default as text ("8", "cosine", "on"), or NULL: the struct's value stays */
    double min, max;      /* INT, NUMBER; both 0: unbounded */
    const char *choices;  /* CHOICE: "constant|linear|cosine"; LIST: keys of an item that is a mapping, or NULL */
    const char *value;    /* placeholder in help: "FILE", "N"; NULL: by type */
    const char *aliases;  /* "learning_rate|lora_r": other spellings that are accepted, or NULL */
    const char *help;     /* one line */
} tq_option;

/* What a run of the parser leaves behind. */
typedef struct tq_option_set {
    const tq_option *const *tables; /* NULL-terminated list of tables (command's own, then common ones) */
    void *const *targets;           /* one struct for each table */
    tq_arena arena;                 /* owns TEXT and LIST values */
    const char **positional;        /* arguments that are no options */
    size_t n_positional, cap_positional;
    uint64_t given[4]; /* bit i: option i (counted through all tables) was set explicitly */
} tq_option_set;

void tq_options_init(tq_option_set *set, tq_mem *mem, const tq_option *const *tables, void *const *targets);
void tq_options_clear(tq_option_set *set);
/* Puts every default into its target. */
toque_status tq_options_defaults(tq_option_set *set, toque_error *err) TQ_MUST;
/* One key = value, as text; where names the source in messages ("--lr", "recipe.yaml, line 3"). */
toque_status tq_options_put(tq_option_set *set, const char *key, const char *value, const char *where,
                            toque_error *err) TQ_MUST;
/* Command line: --key value, --key=value, -k value, -kvalue, --flag, --no-flag; options may stand before or after
 * positional arguments, "--" ends them. "-" alone is positional. Negative numbers are values. */
toque_status tq_options_parse(tq_option_set *set, int argc, char **argv, toque_error *err) TQ_MUST;
/* A YAML mapping (libyaml). Keys given on the command line stay as they are when `weaker`. */
toque_status tq_options_yaml(tq_option_set *set, const char *path, bool weaker, toque_error *err) TQ_MUST;
/* True if the key was set by a flag or file, not by default. The key must exist. */
bool tq_options_given(const tq_option_set *set, const char *key);

#include "base/buf.h"
/* The options part of --help: aligned columns, defaults and ranges. */
bool tq_options_help(const tq_option_set *set, tq_buf *out);
/* All resolved keys of table i as YAML ("key: value" lines), for recipe.yaml. */
bool tq_options_to_yaml(const tq_option_set *set, int table, tq_buf *out);
/* The nearest of n names to `name` by edit distance when near enough to be meant, else NULL. */
const char *tq_nearest(const char *name, const char *const *names, size_t n);

#endif
