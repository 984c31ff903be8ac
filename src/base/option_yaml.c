/* Options from and to a YAML mapping (YAML 1.1 as libyaml reads it). One flat mapping of scalars and lists of
 * scalars (for a few options, of flat mappings): no anchors, tags, merges or nesting, and a key stands once. libyaml
 * allocates for itself; the values end in the set's arena. See option.h. */
#include "base/io.h"
#include "base/option_impl.h"

#include <stdio.h>
#include <string.h>
#include <yaml.h>

enum { MAX_FILE = 1 << 20, MAX_OPTIONS = 256 };

typedef struct reader {
    tq_option_set *set;
    yaml_parser_t parser;
    yaml_event_t event; /* the current one */
    bool live;          /* event holds something to delete */
    const char *path;
    uint64_t kept[4];      /* options that the command line gave and this file must leave alone */
    int line[MAX_OPTIONS]; /* where an option was set in this file, from 1; 0: not */
    toque_error *err;
} reader;

static int line_of(const reader *r) {
    return (int)r->event.start_mark.line + 1;
}

static toque_status next(reader *r) {
    if (r->live) yaml_event_delete(&r->event);
    r->live = false;
    if (!yaml_parser_parse(&r->parser, &r->event)) {
        if (r->parser.error == YAML_MEMORY_ERROR) return TQ_NOMEM(r->err);
        return TQ_FAIL(r->err, EFORMAT, "%s, line %d: not valid YAML: %s%s%s", r->path,
                       (int)r->parser.problem_mark.line + 1, r->parser.problem ? r->parser.problem : "unreadable",
                       r->parser.context ? " " : "", r->parser.context ? r->parser.context : "");
    }
    r->live = true;
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (r->event.type) {
    case YAML_ALIAS_EVENT: anchor = r->event.data.alias.anchor; break;
    case YAML_SCALAR_EVENT: anchor = r->event.data.scalar.anchor, tag = r->event.data.scalar.tag; break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = r->event.data.sequence_start.anchor, tag = r->event.data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = r->event.data.mapping_start.anchor, tag = r->event.data.mapping_start.tag;
        break;
    default: break;
    }
    if (!anchor && !tag) return TOQUE_OK;
    return TQ_FAIL(r->err, EINVAL, "%s, line %d: %s %.60s is not supported; write the value out", r->path, line_of(r),
                   anchor ? "the anchor" : "the tag", (const char *)(anchor ? anchor : tag));
}

/* A plain empty scalar, ~ or null: "no value", which no option has. */
static bool is_null(const yaml_event_t *e) {
    const char *v = (const char *)e->data.scalar.value;
    return e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (!*v || !strcmp(v, "~") || !strcmp(v, "null") || !strcmp(v, "Null") || !strcmp(v, "NULL"));
}

/* Stores the current scalar as place's value (or its next item). */
static toque_status scalar(reader *r, tq_option_place p, bool keep) {
    const char *value = (const char *)r->event.data.scalar.value;
    char subject[300];
    snprintf(subject, sizeof subject, "%.200s, line %d: %s", r->path, line_of(r), p.option->key);
    if (strlen(value) != r->event.data.scalar.length)
        return TQ_FAIL(r->err, EINVAL, "%s holds a zero byte; remove it", subject);
    if (is_null(&r->event))
        return TQ_FAIL(r->err, EINVAL, "%s has no value; give one, or remove the line to keep the default", subject);
    /* A value that the command line replaces is still checked, in a place that nobody reads. */
    union {
        bool flag;
        int64_t i;
        double x;
        const char *text;
        int choice;
        tq_option_list list;
        uint64_t bytes;
    } unread = {0};
    if (keep) p.value = &unread;
    return tq_option_store(r->set, p, value, subject, r->err);
}

/* A double-quoted scalar, of YAML and of JSON; everything outside ASCII that YAML calls unprintable stays below
 * U+10FFFF as it is. */
static void put_quoted(tq_buf *out, const char *text) {
    tq_buf_putc(out, '"');
    for (const char *s = text; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            tq_buf_printf(out, "\\%c", c);
        else if (c < 0x20 || c == 0x7F)
            tq_buf_printf(out, "\\u%04X", c);
        else
            tq_buf_putc(out, (char)c);
    }
    tq_buf_putc(out, '"');
}

/* The number of a name in "a|b|c", or -1 and the nearest one. */
static int number_of(const char *choices, const char *name, const char *subject, toque_error *err) {
    enum { MOST = 16, BYTES = 40 };
    char names[MOST][BYTES];
    const char *pointers[MOST];
    int n = 0;
    for (const char *c = choices; *c && n < MOST; c += strcspn(c, "|"), c += *c == '|') {
        snprintf(names[n], BYTES, "%.*s", (int)strcspn(c, "|"), c);
        pointers[n] = names[n];
        if (strcmp(names[n], name) == 0) return n;
        n++;
    }
    const char *near = tq_nearest(name, pointers, (size_t)n);
    (void)TQ_FAIL(err, EINVAL, "%s: unknown key %.60s%s%s%s", subject, name, near ? "; did you mean " : "",
                  near ? near : "", near ? "?" : "");
    return -1;
}

/* The pairs of an item that is a mapping, as JSON; the event is its start. */
static toque_status pairs(reader *r, const tq_option *o, tq_buf *out) {
    uint64_t seen = 0;
    tq_buf_putc(out, '{');
    for (;;) {
        char subject[300];
        TQ_TRY(next(r));
        if (r->event.type == YAML_MAPPING_END_EVENT) break;
        snprintf(subject, sizeof subject, "%.200s, line %d: %s", r->path, line_of(r), o->key);
        if (r->event.type != YAML_SCALAR_EVENT)
            return TQ_FAIL(r->err, EINVAL, "%s: a key must be a plain name", subject);
        int number = number_of(o->choices, (const char *)r->event.data.scalar.value, subject, r->err);
        if (number < 0) return TOQUE_EINVAL;
        if (seen >> number & 1)
            return TQ_FAIL(r->err, EINVAL, "%s: %s stands twice in an item", subject,
                           (const char *)r->event.data.scalar.value);
        tq_buf_puts(out, seen ? ", " : "");
        seen |= (uint64_t)1 << number;
        put_quoted(out, (const char *)r->event.data.scalar.value);
        tq_buf_puts(out, ": ");
        TQ_TRY(next(r));
        if (r->event.type != YAML_SCALAR_EVENT || is_null(&r->event) ||
            strlen((const char *)r->event.data.scalar.value) != r->event.data.scalar.length)
            return TQ_FAIL(r->err, EINVAL, "%s: a key of an item takes one plain value", subject);
        put_quoted(out, (const char *)r->event.data.scalar.value);
    }
    tq_buf_putc(out, '}');
    return TOQUE_OK;
}

static toque_status mapping_item(reader *r, tq_option_place p, bool keep) {
    char subject[300];
    snprintf(subject, sizeof subject, "%.200s, line %d: %s", r->path, line_of(r), p.option->key);
    tq_buf json;
    tq_buf_init(&json, r->set->arena.mem, MAX_FILE);
    tq_option_list unread = {0}; /* the command line's replaces it, but it is checked */
    if (keep) p.value = &unread;
    toque_status status = pairs(r, p.option, &json);
    if (status == TOQUE_OK) status = tq_buf_status(&json, p.option->key, r->err);
    if (status == TOQUE_OK) status = tq_option_store(r->set, p, json.data, subject, r->err);
    tq_buf_clear(&json);
    return status;
}

/* The value of an option: the next event or, for a list, the next events. */
static toque_status value_of(reader *r, tq_option_place p) {
    bool keep = r->kept[p.index / 64] >> (p.index % 64) & 1;
    const char *key = p.option->key;
    if (p.option->type == TQ_OPT_LIST && !keep) *(tq_option_list *)p.value = (tq_option_list){0};
    TQ_TRY(next(r));
    switch (r->event.type) {
    case YAML_SCALAR_EVENT: TQ_TRY(scalar(r, p, keep)); break;
    case YAML_SEQUENCE_START_EVENT:
        if (p.option->type != TQ_OPT_LIST)
            return TQ_FAIL(r->err, EINVAL, "%s, line %d: %s takes one value, not a list", r->path, line_of(r), key);
        for (;;) {
            TQ_TRY(next(r));
            if (r->event.type == YAML_SEQUENCE_END_EVENT) break;
            if (r->event.type == YAML_MAPPING_START_EVENT && p.option->choices) {
                TQ_TRY(mapping_item(r, p, keep));
                continue;
            }
            if (r->event.type != YAML_SCALAR_EVENT)
                return TQ_FAIL(r->err, EINVAL, "%s, line %d: an item of %s must be a plain value", r->path, line_of(r),
                               key);
            TQ_TRY(scalar(r, p, keep));
        }
        break;
    default:
        return TQ_FAIL(r->err, EINVAL, "%s, line %d: %s holds a nested mapping; put its keys at the top level", r->path,
                       line_of(r), key);
    }
    tq_option_set_given(r->set, p.index);
    return TOQUE_OK;
}

static toque_status mapping(reader *r) {
    for (;;) {
        TQ_TRY(next(r));
        if (r->event.type == YAML_MAPPING_END_EVENT) return TOQUE_OK;
        char prefix[300];
        snprintf(prefix, sizeof prefix, "%.200s, line %d: ", r->path, line_of(r));
        if (r->event.type != YAML_SCALAR_EVENT) return TQ_FAIL(r->err, EINVAL, "%sa key must be a plain name", prefix);
        const char *name = (const char *)r->event.data.scalar.value;
        tq_option_place p = tq_option_find(r->set, name, strlen(name));
        if (!p.option) return tq_option_unknown(r->set, name, strlen(name), false, prefix, r->err);
        if (r->line[p.index])
            return TQ_FAIL(r->err, EINVAL, "%s%s is already set in line %d", prefix, p.option->key, r->line[p.index]);
        r->line[p.index] = line_of(r);
        TQ_TRY(value_of(r, p));
    }
}

static toque_status document(reader *r) {
    TQ_TRY(next(r)); /* stream start */
    TQ_TRY(next(r));
    if (r->event.type == YAML_STREAM_END_EVENT) return TOQUE_OK; /* nothing but comments */
    TQ_TRY(next(r));
    bool empty = r->event.type == YAML_SCALAR_EVENT && is_null(&r->event);
    if (!empty && r->event.type != YAML_MAPPING_START_EVENT)
        return TQ_FAIL(r->err, EINVAL, "%s, line %d: expected lines of the form \"key: value\"", r->path, line_of(r));
    if (!empty) TQ_TRY(mapping(r));
    TQ_TRY(next(r)); /* document end */
    TQ_TRY(next(r));
    if (r->event.type == YAML_STREAM_END_EVENT) return TOQUE_OK;
    return TQ_FAIL(r->err, EINVAL, "%s, line %d: a second document begins; one is expected", r->path, line_of(r));
}

toque_status tq_options_yaml(tq_option_set *set, const char *path, bool weaker, toque_error *err) {
    char *text;
    size_t size;
    TQ_TRY(tq_read_file(&text, &size, set->arena.mem, path, MAX_FILE, err));
    reader r = {.set = set, .path = strcmp(path, "-") == 0 ? "standard input" : path, .err = err};
    if (weaker) memcpy(r.kept, set->given, sizeof r.kept);
    toque_status status;
    if (yaml_parser_initialize(&r.parser)) {
        yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, size);
        status = document(&r);
        if (r.live) yaml_event_delete(&r.event);
        yaml_parser_delete(&r.parser);
    } else {
        status = TQ_NOMEM(err);
    }
    tq_free(set->arena.mem, text);
    return status;
}

/* --- writing ----------------------------------------------------------------------------------- */

/* Length of the UTF-8 sequence at s, or 0 where there is none (RFC 3629: no overlong forms, no surrogates). */
static int utf8_length(const unsigned char *s) {
    if (s[0] < 0x80) return 1;
    int n = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    if (s[0] < 0xC2 || s[0] > 0xF4) return 0;
    for (int i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    bool bad = (s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) || (s[0] == 0xF0 && s[1] < 0x90) ||
               (s[0] == 0xF4 && s[1] > 0x8F);
    return bad ? 0 : n;
}

static bool is_utf8(const char *text) {
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        int n = utf8_length(s);
        if (!n) return false;
        s += n;
    }
    return true;
}

static void put_choice(tq_buf *out, const char *choices, int which) {
    for (; which > 0; which--) choices += strcspn(choices, "|") + 1;
    tq_buf_put(out, choices, strcspn(choices, "|"));
}

/* The value behind "key: "; false if YAML cannot say it. */
static bool put_value(tq_buf *out, const tq_option *o, const void *value) {
    char number[40];
    const tq_option_list *list = value;
    const char *text;
    switch (o->type) {
    case TQ_OPT_FLAG: tq_buf_puts(out, *(const bool *)value ? "true" : "false"); break;
    case TQ_OPT_INT: tq_buf_printf(out, "%lld", (long long)*(const int64_t *)value); break;
    case TQ_OPT_NUMBER:
        tq_option_number(*(const double *)value, number);
        tq_buf_puts(out, number);
        break;
    case TQ_OPT_BYTES: tq_buf_printf(out, "%llu", (unsigned long long)*(const uint64_t *)value); break;
    case TQ_OPT_CHOICE: put_choice(out, o->choices, *(const int *)value); break;
    case TQ_OPT_TEXT:
        text = *(const char *const *)value;
        if (!is_utf8(text)) return false;
        put_quoted(out, text);
        break;
    case TQ_OPT_LIST:
        for (size_t i = 0; i < list->len; i++)
            if (!is_utf8(list->items[i])) return false;
        for (size_t i = 0; i < list->len; i++) {
            tq_buf_puts(out, i ? ", " : "[");
            put_quoted(out, list->items[i]);
        }
        tq_buf_puts(out, list->len ? "]" : "[]");
        break;
    }
    return true;
}

bool tq_options_to_yaml(const tq_option_set *set, int table, tq_buf *out) {
    for (const tq_option *o = set->tables[table]; o->key; o++) {
        const void *value = (const char *)set->targets[table] + o->offset;
        if (o->type == TQ_OPT_TEXT && !*(const char *const *)value) continue; /* not set */
        size_t start = out->len;
        tq_buf_printf(out, "%s: ", o->key);
        if (!put_value(out, o, value) && !out->failed) {
            out->len = start;
            tq_buf_printf(out, "# %s: left out, its value is not UTF-8", o->key);
        }
        tq_buf_putc(out, '\n');
    }
    return !out->failed;
}
