/* Rows for heads: a text and what it is: a label, several, a number, or spans. The text is tokenized as the model takes
 * it alone, with the special tokens that belong to it, and no chat template. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/unicode.h"
#include "train/rows.h"

toque_status tq_row_text(const tq_row *row, const char *column, tq_string *text, toque_error *err) {
    const json_t *v = json_object_get(row->object, column);
    if (!json_is_string(v))
        return TQ_FAIL(err, EFORMAT, "field \"%.80s\" %s: expected a text (--text-column names another)", column,
                       v ? "is not a string" : "is missing");
    *text = (tq_string){json_string_value(v), json_string_length(v)};
    if (text->data[strspn(text->data, " \t\r\n")] == 0)
        return TQ_FAIL(err, EFORMAT, "field \"%.80s\" is empty: fill it in or remove the row", column);
    return TOQUE_OK;
}

static toque_status number_of(tq_dataset *set, const tq_data_options *o, const char *name, int32_t *number,
                              toque_error *err) {
    size_t before = set->n_labels;
    if (name[strspn(name, " \t\r\n")] == 0) return TQ_FAIL(err, EFORMAT, "the label is empty");
    TQ_TRY(tq_dataset_label(set, name, number, err));
    if (set->n_labels == before || !o->closed) return TOQUE_OK;
    return TQ_FAIL(err, EINVAL, "the label \"%.80s\" is none of the %zu that %s", name, before, o->closed);
}

/* A label may be a text, a whole number or true and false. */
static toque_status read_label(tq_dataset *set, const tq_data_options *o, const json_t *v, int32_t *number,
                               toque_error *err) {
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)json_integer_value(v));
    const char *name = json_is_string(v)    ? json_string_value(v)
                       : json_is_integer(v) ? text
                       : json_is_true(v)    ? "true"
                       : json_is_false(v)   ? "false"
                                            : NULL;
    if (!name)
        return TQ_FAIL(err, EFORMAT, "a label must be a text, not %s",
                       v && !json_is_null(v) ? "a list or number with a fraction" : "nothing");
    return number_of(set, o, name, number, err);
}

/* A list of labels; in tables one text with bars between. */
static toque_status read_labels(tq_dataset *set, const tq_data_options *o, const json_t *v, tq_example *e,
                                toque_error *err) {
    size_t n = json_is_string(v) ? json_string_length(v) : json_array_size(v);
    int32_t *list = tq_arena_alloc(&set->arena, n + 1, sizeof *list);
    if (!list) return TQ_NOMEM(err);
    if (!json_is_string(v) && !json_is_array(v))
        return TQ_FAIL(err, EFORMAT, "labels must be a list of texts (in a table: with | between)");
    for (size_t i = 0; json_is_array(v) && i < n; i++) {
        TQ_TRY(read_label(set, o, json_array_get(v, i), &list[e->n_classes], err));
        e->n_classes++;
    }
    const char *p = json_is_string(v) ? json_string_value(v) : "";
    while (*p) {
        size_t len = strcspn(p, "|");
        char *name = tq_arena_strndup(&set->arena, p, len);
        if (!name) return TQ_NOMEM(err);
        TQ_TRY(number_of(set, o, name, &list[e->n_classes], err));
        e->n_classes++;
        p += len + (p[len] != 0);
    }
    for (int i = 0; i < e->n_classes; i++)
        for (int k = 0; k < i; k++)
            if (list[i] == list[k])
                return TQ_FAIL(err, EFORMAT, "the label \"%.80s\" stands twice", set->labels[list[i]]);
    e->classes = list;
    return TOQUE_OK;
}

static toque_status read_value(const json_t *v, float *value, toque_error *err) {
    double x = json_number_value(v);
    const char *s = json_string_value(v);
    char *end = NULL;
    if (s) x = strtod(s, &end);
    if ((!json_is_number(v) && !s) || (s && (end == s || end[strspn(end, " \t")])) || !isfinite((float)x))
        return TQ_FAIL(err, EFORMAT, "the target %s%.60s is no finite number", s ? s : v ? "" : "(missing)", "");
    *value = (float)x;
    return TOQUE_OK;
}

/* --- spans ------------------------------------------------------------------------------------------------- */
typedef struct span {
    size_t start, end; /* bytes */
    const char *label;
} span;

/* The byte of character number `at`, or n + 1 behind the end. */
static size_t byte_of(const tq_string *text, json_int_t at) {
    json_int_t count = 0;
    for (size_t i = 0; i < text->len; i++) {
        if (((unsigned char)text->data[i] & 0xC0) == 0x80) continue;
        if (count++ == at) return i;
    }
    return count == at ? text->len : text->len + 1;
}

static toque_status read_span(const tq_string *text, const json_t *o, span *s, toque_error *err) {
    const json_t *start = json_object_get(o, "start"), *end = json_object_get(o, "end");
    s->label = json_string_value(json_object_get(o, "label"));
    if (!json_is_integer(start) || !json_is_integer(end) || !s->label || !*s->label)
        return TQ_FAIL(err, EFORMAT, "a span needs \"start\", \"end\" (whole numbers) and \"label\" (a text)");
    json_int_t a = json_integer_value(start), b = json_integer_value(end);
    s->start = a < 0 ? text->len + 1 : byte_of(text, a);
    s->end = b < 0 ? text->len + 1 : byte_of(text, b);
    if (a >= b || s->end > text->len)
        return TQ_FAIL(err, EFORMAT,
                       "the span %lld to %lld is not within the text: start and end count characters, "
                       "end stands behind the last",
                       (long long)a, (long long)b);
    return TOQUE_OK;
}

static int by_start(const void *a, const void *b) {
    const span *x = a, *y = b;
    return (x->start > y->start) - (x->start < y->start);
}

static toque_status read_spans(tq_dataset *set, const tq_string *text, const json_t *v, span **spans, size_t *n,
                               toque_error *err) {
    if (!json_is_array(v))
        return TQ_FAIL(err, EFORMAT,
                       "spans must be a list of {\"start\", \"end\", \"label\"}, empty where there are none");
    *n = json_array_size(v);
    *spans = tq_arena_alloc(&set->arena, *n + 1, sizeof **spans);
    if (!*spans) return TQ_NOMEM(err);
    for (size_t i = 0; i < *n; i++) TQ_TRY(read_span(text, json_array_get(v, i), &(*spans)[i], err));
    qsort(*spans, *n, sizeof **spans, by_start);
    for (size_t i = 1; i < *n; i++)
        if ((*spans)[i].start < (*spans)[i - 1].end)
            return TQ_FAIL(err, EFORMAT, "spans overlap: \"%.60s\" and \"%.60s\"; each character can be in one",
                           (*spans)[i - 1].label, (*spans)[i].label);
    return TOQUE_OK;
}

/* B-LABEL or I-LABEL; a new label gets both at once. */
static toque_status tag_of(tq_dataset *set, const tq_data_options *o, const char *label, bool inside, int32_t *number,
                           toque_error *err) {
    char name[2][200];
    for (int i = o->io; i < 2; i++)
        if (snprintf(name[i], sizeof name[i], "%c-%s", "BI"[i], label) >= (int)sizeof name[i])
            return TQ_FAIL(err, EFORMAT, "the label \"%.60s...\" is too long", label);
    int32_t both[2] = {0};
    for (int i = o->io; i < 2; i++) TQ_TRY(number_of(set, o, name[i], &both[i], err));
    *number = both[inside || o->io];
    return TOQUE_OK;
}

/* A token's class is that of the first span that it shares a character with, spaces in front of it apart. A span that
 * gets no token so is counted. */
static toque_status read_tags(tq_dataset *set, const tq_data_options *o, const tq_string *text, const json_t *v,
                              const tq_tokens *list, tq_example *e, toque_error *err) {
    span *spans;
    size_t n, at = 0;
    int32_t *classes = tq_arena_alloc(&set->arena, list->len, sizeof *classes), number;
    if (!classes) return TQ_NOMEM(err);
    TQ_TRY(tq_dataset_label(set, "O", &number, err));
    TQ_TRY(read_spans(set, text, v, &spans, &n, err));
    bool begun = false;
    e->n_targets = 0;
    for (size_t t = 0; t < list->len; t++) {
        size_t a = list->start[t], b = list->end[t];
        while (a < b && strchr(" \t\r\n", text->data[a])) a++;
        classes[t] = a < b ? 0 : -1;
        e->n_targets += a < b;
        for (; at < n && spans[at].end <= a; at++, begun = false) set->n_lost_spans += !begun;
        if (a >= b || at >= n || spans[at].start >= b) continue;
        TQ_TRY(tag_of(set, o, spans[at].label, begun, &classes[t], err));
        begun = true;
    }
    for (; at < n; at++, begun = false) set->n_lost_spans += !begun;
    e->classes = classes;
    e->n_classes = e->n;
    return TOQUE_OK;
}

static toque_status read_truth(tq_dataset *set, const tq_data_options *o, const tq_row *row, const tq_string *text,
                               const tq_tokens *list, tq_example *e, toque_error *err) {
    const json_t *v = json_object_get(row->object, o->label_column);
    if (!v) return TQ_FAIL(err, EFORMAT, "field \"%.80s\" is missing (--label-column names another)", o->label_column);
    switch (o->head) {
    case TQ_HEAD_CLASS: return read_label(set, o, v, &e->label, err);
    case TQ_HEAD_LABELS: return read_labels(set, o, v, e, err);
    case TQ_HEAD_VALUE: return read_value(v, &e->value, err);
    case TQ_HEAD_TAGS: break;
    }
    if (!json_is_string(v)) return read_tags(set, o, text, v, list, e, err);
    json_t *parsed = json_loads(json_string_value(v), JSON_REJECT_DUPLICATES, NULL); /* a table's column */
    toque_status status = read_tags(set, o, text, parsed, list, e, err);
    json_decref(parsed);
    return status;
}

toque_status tq_dataset_add_fields(tq_dataset *set, tq_model *model, const tq_data_options *o, const tq_row *row,
                                   uint16_t file, toque_error *err) {
    tq_string text;
    tq_tokens list = {.mem = set->mem, .want_offsets = true};
    tq_example e = {.weight = row->weight,
                    .row = (uint32_t)set->n_rows,
                    .line = row->line,
                    .file = file,
                    .label = -1,
                    .n_targets = 1,
                    .read = true};
    const size_t lost = set->n_lost_spans;
    TQ_TRY(tq_row_text(row, o->text_column, &text, err));
    toque_status status = tq_tokenize(model->tokenizer, text.data, text.len, true, false, &list, err);
    if (status != TOQUE_OK) goto done;
    e.n = (int)list.len;
    if (!e.n) TQ_GO(TQ_FAIL(err, EFORMAT, "the text has no tokens"));
    TQ_GO(read_truth(set, o, row, &text, &list, &e, err));
    if (e.n > set->longest) set->longest = e.n;
    if (o->max_length > 0 && e.n > o->max_length) {
        set->n_too_long++;
        set->n_lost_spans = lost;
        goto done;
    }
    if (!TQ_GROW(set->mem, set->examples, set->n, set->cap)) TQ_GO(TQ_NOMEM(err));
    e.tokens = tq_arena_alloc(&set->arena, list.len, sizeof *e.tokens);
    if (!e.tokens) TQ_GO(TQ_NOMEM(err));
    memcpy(e.tokens, list.ids, list.len * sizeof *e.tokens);
    set->examples[set->n++] = e;
    set->n_tokens += list.len;
    set->n_targets += (size_t)e.n_targets;
done:
    tq_tokens_clear(&list);
    return status;
}
