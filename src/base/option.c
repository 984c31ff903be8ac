/* Option tables: finding an option, converting and checking its value, and the command line. See option.h.
 * Numbers are read in the C locale, so "0.5" means the same everywhere. Files are option_yaml.c, help is
 * option_help.c. */
#include "base/option_impl.h"

#include <assert.h>
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MAX_OPTIONS = 256, MAX_NAME = 64 };

/* --- sets -------------------------------------------------------------------------------------- */

void tq_options_init(tq_option_set *set, tq_mem *mem, const tq_option *const *tables, void *const *targets) {
    *set = (tq_option_set){.tables = tables, .targets = targets};
    tq_arena_init(&set->arena, mem, 1024);
}

void tq_options_clear(tq_option_set *set) {
    tq_arena_clear(&set->arena);
    set->positional = NULL;
    set->n_positional = set->cap_positional = 0;
    memset(set->given, 0, sizeof set->given);
}

bool tq_option_is_given(const tq_option_set *set, int index) {
    return set->given[index / 64] >> (index % 64) & 1;
}

void tq_option_set_given(tq_option_set *set, int index) {
    set->given[index / 64] |= (uint64_t)1 << (index % 64);
}

static bool same_name(const char *a, const char *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if ((a[i] == '-' ? '_' : a[i]) != (b[i] == '-' ? '_' : b[i])) return false;
    return true;
}

/* True if name is one of the words in "one|two|three"; *which counts them. */
static bool in_words(const char *words, const char *name, size_t n, int *which) {
    int i = 0;
    for (const char *w = words; w; i++) {
        size_t m = strcspn(w, "|");
        if (m == n && same_name(w, name, n)) {
            *which = i;
            return true;
        }
        w = w[m] ? w + m + 1 : NULL;
    }
    return false;
}

tq_option_place tq_option_find(const tq_option_set *set, const char *name, size_t n) {
    int index = 0, unused;
    for (int t = 0; set->tables[t]; t++)
        for (const tq_option *o = set->tables[t]; o->key; o++, index++) {
            assert(index < MAX_OPTIONS);
            if ((strlen(o->key) == n && same_name(o->key, name, n)) || in_words(o->aliases, name, n, &unused))
                return (tq_option_place){o, (char *)set->targets[t] + o->offset, index};
        }
    return (tq_option_place){0};
}

static tq_option_place find_letter(const tq_option_set *set, char letter) {
    int index = 0;
    for (int t = 0; set->tables[t]; t++)
        for (const tq_option *o = set->tables[t]; o->key; o++, index++)
            if (o->letter == letter) return (tq_option_place){o, (char *)set->targets[t] + o->offset, index};
    return (tq_option_place){0};
}

/* A flag's key behind "no-". */
static tq_option_place find_negated(const tq_option_set *set, const char *name, size_t n) {
    if (n <= 3 || !same_name(name, "no_", 3)) return (tq_option_place){0};
    tq_option_place p = tq_option_find(set, name + 3, n - 3);
    return p.option && p.option->type == TQ_OPT_FLAG ? p : (tq_option_place){0};
}

bool tq_options_given(const tq_option_set *set, const char *key) {
    tq_option_place p = tq_option_find(set, key, strlen(key));
    assert(p.option);
    return p.option && tq_option_is_given(set, p.index);
}

/* --- names that were meant --------------------------------------------------------------------- */

/* Damerau-Levenshtein distance with adjacent transpositions (optimal string alignment), or SIZE_MAX where a name is
 * too long for one of ours. */
static size_t distance(const char *a, const char *b) {
    size_t n = strlen(a), m = strlen(b);
    if (n >= MAX_NAME || m >= MAX_NAME) return SIZE_MAX;
    size_t rows[3][MAX_NAME + 1];
    size_t *before = rows[0], *last = rows[1], *now = rows[2];
    for (size_t j = 0; j <= m; j++) last[j] = before[j] = j;
    for (size_t i = 1; i <= n; i++) {
        now[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = last[j - 1] + (a[i - 1] != b[j - 1]);
            if (last[j] + 1 < best) best = last[j] + 1;
            if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
        size_t *free_row = before;
        before = last, last = now, now = free_row;
    }
    return last[m];
}

/* Meant are names within a third of their length, or longer names that begin with three letters or more given. */
const char *tq_nearest(const char *name, const char *const *names, size_t n) {
    const char *best = NULL, *longer = NULL;
    size_t length = strlen(name), least = length < 3 ? 1 : length / 3;
    for (size_t i = 0; i < n; i++) {
        size_t d = distance(name, names[i]);
        if (d < least + (best == NULL)) best = names[i], least = d;
        if (!longer && length >= 3 && strncmp(names[i], name, length) == 0) longer = names[i];
    }
    return best ? best : longer;
}

static void spell(char out[MAX_NAME], const char *name, size_t n, bool dashed) {
    if (n >= MAX_NAME) n = MAX_NAME - 1;
    for (size_t i = 0; i < n; i++) out[i] = dashed && name[i] == '_' ? '-' : name[i];
    out[n] = 0;
}

typedef struct name_list {
    char (*names)[MAX_NAME];
    size_t len, cap;
} name_list;

/* Adds key and aliases; without room they are only counted, so that a second call can have enough. */
static void add_names(name_list *list, const tq_option *o, bool dashed) {
    const char *const sources[] = {o->key, o->aliases};
    for (int s = 0; s < 2; s++)
        for (const char *w = sources[s]; w;) {
            size_t m = strcspn(w, "|");
            if (list->len < list->cap) spell(list->names[list->len], w, m, dashed);
            list->len++;
            w = w[m] ? w + m + 1 : NULL;
        }
}

toque_status tq_option_unknown(const tq_option_set *set, const char *name, size_t n, bool dashed, const char *prefix,
                               toque_error *err) {
    const char *dash = dashed ? "--" : "";
    char wanted[MAX_NAME];
    spell(wanted, name, n, dashed);
    name_list list = {0};
    const char **pointers = NULL;
    for (int pass = 0; pass < 2; pass++) {
        list.len = 0;
        for (int t = 0; set->tables[t]; t++)
            for (const tq_option *o = set->tables[t]; o->key; o++) add_names(&list, o, dashed);
        if (pass == 1) break;
        list.cap = list.len;
        list.names = tq_alloc(set->arena.mem, list.cap, sizeof *list.names);
        pointers = tq_alloc(set->arena.mem, list.cap, sizeof *pointers);
        if (!list.names || !pointers) break;
    }
    const char *near = NULL;
    toque_status status;
    if (list.names && pointers) {
        for (size_t i = 0; i < list.len; i++) pointers[i] = list.names[i];
        near = tq_nearest(wanted, pointers, list.len);
        status = TQ_FAIL(err, EINVAL, "%sunknown %s %s%s%s%s%s%s", prefix, dashed ? "option" : "key", dash, wanted,
                         near ? "; did you mean " : "", near ? dash : "", near ? near : "", near ? "?" : "");
    } else {
        status = TQ_NOMEM(err);
    }
    tq_free(set->arena.mem, pointers);
    tq_free(set->arena.mem, list.names);
    return status;
}

/* --- values ------------------------------------------------------------------------------------ */

static bool c_strtod(const char *text, const char **end, double *x) {
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!c) return false;
    char *stop;
    errno = 0;
    *x = strtod_l(text, &stop, c);
    *end = stop;
    bool ok = stop != text && errno != ERANGE;
    freelocale(c);
    return ok;
}

void tq_option_number(double x, char out[40]) {
    if (x == floor(x) && fabs(x) < 1e15) {
        snprintf(out, 40, "%.0f", x);
        return;
    }
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(out, 40, "%.*g", digits, x);
        for (char *p = out; *p; p++)
            if (!strchr("+-.e0123456789infa", *p)) *p = '.'; /* the locale's decimal point */
        const char *end;
        double back;
        if (!c_strtod(out, &end, &back) || back == x) return;
    }
}

static bool is_unbounded(const tq_option *o) {
    return o->min == 0 && o->max == 0;
}

static bool in_range(const tq_option *o, double x) {
    return is_unbounded(o) || (x >= o->min && (o->max < o->min || x <= o->max));
}

void tq_option_expected(const tq_option *o, char *out, size_t size) {
    static const char *const kinds[] = {[TQ_OPT_FLAG] = "on or off",
                                        [TQ_OPT_INT] = "a whole number",
                                        [TQ_OPT_NUMBER] = "a number",
                                        [TQ_OPT_TEXT] = "a text",
                                        [TQ_OPT_CHOICE] = "one of ",
                                        [TQ_OPT_LIST] = "a text",
                                        [TQ_OPT_BYTES] = "a size (500M, 2G, 1Gi)"};
    if (o->type == TQ_OPT_CHOICE) {
        size_t n = (size_t)snprintf(out, size, "one of ");
        for (const char *c = o->choices; *c && n + 3 < size; c++) {
            if (*c == '|') out[n++] = ',';
            out[n++] = *c == '|' ? ' ' : *c;
        }
        out[n < size ? n : size - 1] = 0;
        return;
    }
    bool ranged = (o->type == TQ_OPT_INT || o->type == TQ_OPT_NUMBER || o->type == TQ_OPT_BYTES) && !is_unbounded(o);
    char min[40], max[40];
    tq_option_number(o->min, min);
    tq_option_number(o->max, max);
    if (!ranged)
        snprintf(out, size, "%s", kinds[o->type]);
    else if (o->max < o->min || isinf(o->max))
        snprintf(out, size, "%s of at least %s", kinds[o->type], min);
    else if (isinf(o->min))
        snprintf(out, size, "%s of at most %s", kinds[o->type], max);
    else
        snprintf(out, size, "%s from %s to %s", kinds[o->type], min, max);
}

/* Decimal digits with an optional sign, nothing else. */
static bool read_int(const char *text, int64_t *x) {
    const char *p = text + (*text == '-' || *text == '+');
    if (!*p || p[strspn(p, "0123456789")]) return false;
    errno = 0;
    *x = strtoll(text, NULL, 10);
    return errno != ERANGE;
}

/* No blanks, hexadecimal, infinities or NaN. */
static bool read_number(const char *text, double *x) {
    const char *end;
    return *text && !text[strspn(text, "+-.eE0123456789")] && c_strtod(text, &end, x) && !*end && isfinite(*x);
}

static bool read_bytes(const char *text, uint64_t *bytes) {
    static const char units[] = "kMGTP";
    const char *end;
    double x;
    size_t digits = strspn(text, "0123456789.");
    if (!digits || !c_strtod(text, &end, &x) || end != text + digits) return false;
    bool whole = x == floor(x);
    if (*end) {
        const char *unit = strchr(units, *end == 'K' ? 'k' : *end);
        if (unit) {
            end++;
            double base = *end == 'i' ? 1024 : 1000;
            if (*end == 'i') end++;
            x *= pow(base, (double)(unit - units + 1));
            whole = true; /* 1.3k is fine, 1.3 bytes are not */
        }
        if (*end == 'B') end++;
    }
    if (*end || !whole || !(x < 0x1p62)) return false;
    *bytes = (uint64_t)(x + 0.5);
    return true;
}

static bool read_flag(const char *text, bool *x) {
    static const char *const on[] = {"on", "true", "yes", "1"}, *const off[] = {"off", "false", "no", "0"};
    for (size_t i = 0; i < 4; i++) {
        if (strcasecmp(text, on[i]) == 0) return *x = true, true;
        if (strcasecmp(text, off[i]) == 0) return *x = false, true;
    }
    return false;
}

/* Arrays that grow inside the arena: the old ones stay behind until it is cleared. */
static bool arena_push(tq_arena *arena, const char ***items, size_t *len, size_t *cap, const char *item) {
    if (*len == *cap) {
        size_t want = *cap ? *cap * 2 : 8;
        const char **p = tq_arena_alloc(arena, want, sizeof *p);
        if (!p) return false;
        if (*len) memcpy(p, *items, *len * sizeof *p);
        *items = p;
        *cap = want;
    }
    (*items)[(*len)++] = item;
    return true;
}

static toque_status store_text(tq_option_set *set, tq_option_place p, const char *text, toque_error *err) {
    const char *copy = tq_arena_strndup(&set->arena, text, strlen(text));
    if (!copy) return TQ_NOMEM(err);
    if (p.option->type == TQ_OPT_TEXT) {
        *(const char **)p.value = copy;
        return TOQUE_OK;
    }
    tq_option_list *list = p.value;
    return arena_push(&set->arena, &list->items, &list->len, &list->cap, copy) ? TOQUE_OK : TQ_NOMEM(err);
}

/* Free text may be empty; a file, a folder or a name may not. */
static bool may_be_empty(const tq_option *o) {
    return (o->type == TQ_OPT_TEXT || o->type == TQ_OPT_LIST) && (!o->value || strcmp(o->value, "TEXT") == 0);
}

toque_status tq_option_store(tq_option_set *set, tq_option_place p, const char *text, const char *subject,
                             toque_error *err) {
    const tq_option *o = p.option;
    char expected[300];
    tq_option_expected(o, expected, sizeof expected);
    if (!*text && !may_be_empty(o)) {
        bool is_name = o->type == TQ_OPT_TEXT || o->type == TQ_OPT_LIST;
        return TQ_FAIL(err, EINVAL, "%s expects %s, but its value is empty", subject, is_name ? o->value : expected);
    }
    bool ok = false;
    int64_t i = 0;
    double x = 0;
    uint64_t bytes = 0;
    switch (o->type) {
    case TQ_OPT_FLAG: ok = read_flag(text, p.value); break;
    case TQ_OPT_INT:
        ok = read_int(text, &i) && in_range(o, (double)i);
        if (ok) *(int64_t *)p.value = i;
        break;
    case TQ_OPT_NUMBER:
        ok = read_number(text, &x) && in_range(o, x);
        if (ok) *(double *)p.value = x;
        break;
    case TQ_OPT_BYTES:
        ok = read_bytes(text, &bytes) && in_range(o, (double)bytes);
        if (ok) *(uint64_t *)p.value = bytes;
        break;
    case TQ_OPT_CHOICE: {
        int which;
        ok = in_words(o->choices, text, strlen(text), &which);
        if (ok) *(int *)p.value = which;
        break;
    }
    case TQ_OPT_TEXT:
    case TQ_OPT_LIST: return store_text(set, p, text, err);
    }
    if (ok) return TOQUE_OK;
    return TQ_FAIL(err, EINVAL, "%s expects %s, not '%.60s'", subject, expected, text);
}

static void clear_list(tq_option_place p) {
    if (p.option->type == TQ_OPT_LIST) *(tq_option_list *)p.value = (tq_option_list){0};
}

toque_status tq_options_defaults(tq_option_set *set, toque_error *err) {
    for (int t = 0; set->tables[t]; t++)
        for (const tq_option *o = set->tables[t]; o->key; o++) {
            tq_option_place p = {o, (char *)set->targets[t] + o->offset, 0};
            clear_list(p);
            if (o->fallback) TQ_TRY(tq_option_store(set, p, o->fallback, o->key, err));
        }
    return TOQUE_OK;
}

/* The first explicit value of a list replaces its default. */
static toque_status give(tq_option_set *set, tq_option_place p, const char *text, const char *subject,
                         toque_error *err) {
    if (!tq_option_is_given(set, p.index)) clear_list(p);
    TQ_TRY(tq_option_store(set, p, text, subject, err));
    tq_option_set_given(set, p.index);
    return TOQUE_OK;
}

toque_status tq_options_put(tq_option_set *set, const char *key, const char *value, const char *where,
                            toque_error *err) {
    char subject[300];
    bool flag = *where == '-';
    snprintf(subject, sizeof subject, "%.200s: ", where);
    tq_option_place p = tq_option_find(set, key, strlen(key));
    if (!p.option) return tq_option_unknown(set, key, strlen(key), flag, flag ? "" : subject, err);
    if (flag)
        snprintf(subject, sizeof subject, "option %.200s", where);
    else
        snprintf(subject, sizeof subject, "%.200s: %s", where, p.option->key);
    return give(set, p, value, subject, err);
}

/* --- the command line -------------------------------------------------------------------------- */

typedef struct cursor {
    int at, argc;
    char **argv;
} cursor;

static bool is_number(const char *text) {
    double x;
    return read_number(text, &x);
}

/* True if the argument is spelled like one of the set's options: then a value before it was forgotten. */
static bool is_option(const tq_option_set *set, const char *arg) {
    if (arg[0] != '-' || !arg[1]) return false;
    if (arg[1] != '-') return !is_number(arg) && !arg[2] && find_letter(set, arg[1]).option;
    size_t n = strcspn(arg + 2, "=");
    return !n || tq_option_find(set, arg + 2, n).option || find_negated(set, arg + 2, n).option;
}

static toque_status next_value(const tq_option_set *set, cursor *c, const char *name, const tq_option *o,
                               const char **value, toque_error *err) {
    char expected[300];
    tq_option_expected(o, expected, sizeof expected);
    if (c->at + 1 >= c->argc) return TQ_FAIL(err, EINVAL, "option %s needs a value: %s", name, expected);
    const char *next = c->argv[c->at + 1];
    if (is_option(set, next))
        return TQ_FAIL(err, EINVAL, "option %s needs a value, but %.60s follows (write %s%s%.60s if it is meant)", name,
                       next, name, name[1] == '-' ? "=" : "", next);
    c->at++;
    *value = next;
    return TOQUE_OK;
}

static toque_status parse_long(tq_option_set *set, cursor *c, toque_error *err) {
    const char *arg = c->argv[c->at] + 2, *value = strchr(arg, '=');
    size_t n = value ? (size_t)(value++ - arg) : strlen(arg);
    tq_option_place p = tq_option_find(set, arg, n);
    tq_option_place negated = p.option ? (tq_option_place){0} : find_negated(set, arg, n);
    if (!p.option && !negated.option) return tq_option_unknown(set, arg, n, true, "", err);
    char name[MAX_NAME + 2] = "--", subject[MAX_NAME + 16];
    spell(name + 2, arg, n, true);
    snprintf(subject, sizeof subject, "option %s", name);
    if (negated.option) {
        if (value) return TQ_FAIL(err, EINVAL, "%s takes no value", subject);
        return give(set, negated, "off", subject, err);
    }
    if (!value && p.option->type == TQ_OPT_FLAG) {
        const char *next = c->at + 1 < c->argc ? c->argv[c->at + 1] : "";
        bool word = !strcmp(next, "on") || !strcmp(next, "off") || !strcmp(next, "true") || !strcmp(next, "false");
        if (word) c->at++;
        value = word ? next : "on";
    }
    if (!value) TQ_TRY(next_value(set, c, name, p.option, &value, err));
    return give(set, p, value, subject, err);
}

static toque_status parse_short(tq_option_set *set, cursor *c, toque_error *err) {
    const char *arg = c->argv[c->at], *value = arg[2] ? arg + 2 : NULL;
    tq_option_place p = find_letter(set, arg[1]);
    if (!p.option) return TQ_FAIL(err, EINVAL, "unknown option %.60s", arg);
    const char name[3] = {'-', arg[1], 0};
    char subject[16];
    snprintf(subject, sizeof subject, "option %s", name);
    if (p.option->type == TQ_OPT_FLAG) {
        if (value) return TQ_FAIL(err, EINVAL, "%s takes no value, but '%.60s' follows it", subject, value);
        value = "on";
    }
    if (!value) TQ_TRY(next_value(set, c, name, p.option, &value, err));
    return give(set, p, value, subject, err);
}

toque_status tq_options_parse(tq_option_set *set, int argc, char **argv, toque_error *err) {
    bool ended = false;
    for (cursor c = {0, argc, argv}; c.at < argc; c.at++) {
        const char *arg = argv[c.at];
        bool option = !ended && arg[0] == '-' && arg[1];
        if (option && strcmp(arg, "--") == 0)
            ended = true;
        else if (option && arg[1] == '-')
            TQ_TRY(parse_long(set, &c, err));
        else if (option && (!is_number(arg) || find_letter(set, arg[1]).option))
            TQ_TRY(parse_short(set, &c, err));
        else if (!arena_push(&set->arena, &set->positional, &set->n_positional, &set->cap_positional, arg))
            return TQ_NOMEM(err);
    }
    return TOQUE_OK;
}
