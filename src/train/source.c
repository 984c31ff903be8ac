/* Data sets as the keys of a run name them. See source.h. */
#include "train/source.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 100 };

static toque_status keep(tq_sources *s, const char **field, const json_t *value, const char *subject, const char *key,
                         toque_error *err) {
    if (!json_is_string(value) || !json_string_length(value))
        return TQ_FAIL(err, EINVAL, "%s: %s must be a text that is not empty", subject, key);
    *field = tq_arena_strndup(&s->arena, json_string_value(value), json_string_length(value));
    return *field ? TOQUE_OK : TQ_NOMEM(err);
}

/* A number, or a text that is one: YAML's scalars are texts. */
static toque_status read_weight(tq_source *source, const json_t *value, const char *subject, toque_error *err) {
    json_t *number = json_is_string(value) ? json_loads(json_string_value(value), JSON_DECODE_ANY, NULL) : NULL;
    const json_t *given = number ? number : value;
    double weight = json_is_number(given) ? json_number_value(given) : NAN;
    json_decref(number);
    if (!(weight > 0 && weight <= 1e6))
        return TQ_FAIL(err, EINVAL, "%s: weight must be a number above 0 and up to 1000000", subject);
    source->weight = weight;
    return TOQUE_OK;
}

static toque_status read_field(tq_sources *s, tq_source *source, const char *key, const json_t *value,
                               const char *subject, toque_error *err) {
    const struct {
        const char *key, **field;
    } texts[] = {{"path", &source->path},
                 {"name", &source->name},
                 {"system", &source->system},
                 {"format", &source->format},
                 {"prompt_column", &source->prompt_column},
                 {"answer_column", &source->answer_column},
                 {"text_column", &source->text_column},
                 {"label_column", &source->label_column}};
    enum { N = sizeof texts / sizeof texts[0] };
    const char *names[N + 1];
    for (size_t i = 0; i < N; i++) {
        if (strcmp(texts[i].key, key) == 0) return keep(s, texts[i].field, value, subject, key, err);
        names[i] = texts[i].key;
    }
    names[N] = "weight";
    if (strcmp(key, "weight") == 0) {
        s->weighted = true;
        return read_weight(source, value, subject, err);
    }
    const char *near = tq_nearest(key, names, N + 1);
    return TQ_FAIL(err, EINVAL, "%s: unknown key %.60s%s%s%s", subject, key, near ? "; did you mean " : "",
                   near ? near : "", near ? "?" : "");
}

static toque_status read_object(tq_sources *s, tq_source *source, const char *text, const char *subject,
                                toque_error *err) {
    json_error_t why;
    json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, &why), *value;
    if (!json_is_object(object)) {
        json_decref(object);
        return TQ_FAIL(err, EINVAL, "%s: not a path, nor an object like {\"path\": \"rows.jsonl\", \"weight\": 2}: %s",
                       subject, why.text);
    }
    toque_status status = TOQUE_OK;
    const char *key;
    json_object_foreach(object, key, value) {
        status = read_field(s, source, key, value, subject, err);
        if (status != TOQUE_OK) break;
    }
    json_decref(object);
    if (status == TOQUE_OK && !source->path) return TQ_FAIL(err, EINVAL, "%s: path is missing", subject);
    return status;
}

static bool is_taken(const tq_sources *s, size_t n, const char *name) {
    for (size_t i = 0; i < s->n; i++)
        if (i != n && s->items[i].name && strcmp(s->items[i].name, name) == 0) return true;
    return false;
}

/* Given names first: they must differ; then the files' own. */
static toque_status name_sources(tq_sources *s, const char *key, toque_error *err) {
    for (size_t i = 0; i < s->n; i++) {
        const char *name = s->items[i].name;
        if (name && is_taken(s, i, name))
            return TQ_FAIL(err, EINVAL, "%s: two data sets have the name \"%.100s\"", key, name);
        if (name && strlen(name) > NAME_BYTES)
            return TQ_FAIL(err, EINVAL, "%s, item %zu: a name has at most %d bytes", key, i + 1, NAME_BYTES);
    }
    for (size_t i = 0; i < s->n; i++) {
        if (s->items[i].name) continue;
        const char *slash = strrchr(s->items[i].path, '/'), *file = slash && slash[1] ? slash + 1 : s->items[i].path;
        char name[NAME_BYTES + 24];
        snprintf(name, sizeof name, "%.100s", file);
        size_t base = strlen(name);
        for (size_t k = 2; is_taken(s, i, name); k++) snprintf(name + base, sizeof name - base, "#%zu", k);
        s->items[i].name = tq_arena_strndup(&s->arena, name, strlen(name));
        if (!s->items[i].name) return TQ_NOMEM(err);
    }
    return TOQUE_OK;
}

toque_status tq_sources_read(tq_sources *s, tq_mem *mem, const char *key, const tq_option_list *list,
                             toque_error *err) {
    *s = (tq_sources){.n = list->len};
    tq_arena_init(&s->arena, mem, 4096);
    toque_status status = TOQUE_OK;
    s->items = tq_arena_alloc(&s->arena, list->len + 1, sizeof *s->items);
    s->paths = tq_arena_alloc(&s->arena, list->len + 1, sizeof *s->paths);
    if (!s->items || !s->paths) TQ_GO(TQ_NOMEM(err));
    for (size_t i = 0; i < s->n; i++) {
        char subject[40];
        snprintf(subject, sizeof subject, "%s, item %zu", key, i + 1);
        tq_source *source = &s->items[i];
        *source = (tq_source){.weight = 1};
        if (list->items[i][0] == '{')
            TQ_GO(read_object(s, source, list->items[i], subject, err));
        else
            source->path = list->items[i];
        s->paths[i] = source->path;
    }
    if (s->weighted && strcmp(key, "data") != 0)
        TQ_GO(TQ_FAIL(err, EINVAL, "%s: held-out rows have no weight; leave it out", key));
    TQ_GO(name_sources(s, key, err));
done:
    if (status != TOQUE_OK) tq_sources_clear(s);
    return status;
}

void tq_sources_clear(tq_sources *s) {
    if (s->arena.mem) tq_arena_clear(&s->arena);
    *s = (tq_sources){0};
}

json_t *tq_sources_json(const tq_sources *s) {
    json_t *array = json_array();
    for (size_t i = 0; i < s->n; i++) {
        const tq_source *x = &s->items[i];
        json_t *o = json_pack("{s:f, s:s?, s:s?, s:s?, s:s?, s:s?, s:s?}", "weight", x->weight, "system", x->system,
                              "format", x->format, "prompt_column", x->prompt_column, "answer_column", x->answer_column,
                              "text_column", x->text_column, "label_column", x->label_column);
        if (json_array_append_new(array, o) < 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

toque_status tq_sources_mix(const tq_sources *s, const size_t *rows, tq_mixing mixing, double temperature, size_t *take,
                            toque_error *err) {
    double sum = 0;
    size_t all = 0, given = 0;
    double power = mixing == TQ_MIX_PROPORTIONAL ? 1 : mixing == TQ_MIX_EQUAL ? 0 : 1 / temperature;
    for (size_t i = 0; i < s->n; i++) {
        if (!rows[i]) return TQ_FAIL(err, EINVAL, "data set %s has no row to train on: leave it out", s->items[i].name);
        sum += s->items[i].weight * pow((double)rows[i], power);
        all += rows[i];
    }
    for (size_t i = 0; i < s->n; i++) {
        take[i] = (size_t)(s->items[i].weight * pow((double)rows[i], power) / sum * (double)all);
        given += take[i];
    }
    for (; given < all; given++) { /* as many as are missing go to the largest remainders */
        size_t best = 0;
        double most = -INFINITY;
        for (size_t i = 0; i < s->n; i++) {
            double rest = s->items[i].weight * pow((double)rows[i], power) / sum * (double)all - (double)take[i];
            if (rest > most) most = rest, best = i;
        }
        take[best]++;
    }
    for (size_t i = 0; i < s->n; i++)
        if (!take[i])
            return TQ_FAIL(err, EINVAL, "data set %s would get none of the %zu rows of an epoch: raise its weight",
                           s->items[i].name, all);
    return TOQUE_OK;
}
