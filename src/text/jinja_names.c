/* Tests (`is ...`), global functions, and the methods of values other than texts. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "text/jinja.h"

/* ---- tests ---- */

#define TEST(name) static toque_status name(tq_jrun *j, const tq_jval *v, const tq_jval *arg, bool *yes)
#define PLAIN(name, value)                                                                                             \
    TEST(name) {                                                                                                       \
        ((void)j, (void)v, (void)arg);                                                                                 \
        *yes = (value);                                                                                                \
        return TOQUE_OK;                                                                                               \
    }
#define RELATION(name, op)                                                                                             \
    TEST(name) {                                                                                                       \
        return tq_j_relation(j, (op), v, arg, yes);                                                                    \
    }
PLAIN(is_defined, v->type != TQ_J_UNDEFINED)
PLAIN(is_undefined, v->type == TQ_J_UNDEFINED)
PLAIN(is_none, v->type == TQ_J_NONE)
PLAIN(is_boolean, v->type == TQ_J_BOOL)
PLAIN(is_true, v->type == TQ_J_BOOL && v->b)
PLAIN(is_false, v->type == TQ_J_BOOL && !v->b)
PLAIN(is_integer, v->type == TQ_J_INT)
PLAIN(is_float, v->type == TQ_J_FLOAT)
PLAIN(is_number, tq_j_is_number(v))
PLAIN(is_string, v->type == TQ_J_STR)
PLAIN(is_mapping, v->type == TQ_J_DICT)
PLAIN(is_iterable, tq_j_iterable(v))
PLAIN(is_sequence, v->type == TQ_J_UNDEFINED || (v->type >= TQ_J_STR && v->type <= TQ_J_RANGE))
PLAIN(is_callable,
      v->type == TQ_J_UNDEFINED || (v->type >= TQ_J_LOOP && v->type <= TQ_J_METHOD) || v->type == TQ_J_JOINER)
PLAIN(is_escaped, v->type == TQ_J_STR && v->safe)
PLAIN(is_filter, v->type == TQ_J_STR && tq_j_find_filter(tq_jstr_data(v->s), v->s->len))
PLAIN(is_test, v->type == TQ_J_STR && tq_j_find_test(tq_jstr_data(v->s), v->s->len))
RELATION(is_eq, TQ_JO_EQ)
RELATION(is_ne, TQ_JO_NE)
RELATION(is_lt, TQ_JO_LT)
RELATION(is_le, TQ_JO_LE)
RELATION(is_gt, TQ_JO_GT)
RELATION(is_ge, TQ_JO_GE)
RELATION(is_in, TQ_JO_IN)

static toque_status remainder_is(tq_jrun *j, const tq_jval *v, tq_jval by, int64_t what, bool *yes) {
    tq_jval rest, want = tq_j_int(what);
    TQ_TRY(tq_j_binary(j, TQ_JO_MOD, v, &by, &rest));
    return tq_j_equal(j, &rest, &want, yes);
}
TEST(is_odd) {
    (void)arg;
    return remainder_is(j, v, tq_j_int(2), 1, yes);
}
TEST(is_even) {
    (void)arg;
    return remainder_is(j, v, tq_j_int(2), 0, yes);
}
TEST(is_divisibleby) {
    return remainder_is(j, v, *arg, 0, yes);
}

static toque_status cased(tq_jrun *j, const tq_jval *v, bool upper, bool *yes) {
    tq_jval text;
    TQ_TRY(tq_j_str(j, v, &text));
    *yes = tq_j_is_cased(text.s, upper);
    return TOQUE_OK;
}
TEST(is_upper) {
    (void)arg;
    return cased(j, v, true, yes);
}
TEST(is_lower) {
    (void)arg;
    return cased(j, v, false, yes);
}

TEST(is_sameas) {
    *yes = false;
    if (v->type != arg->type) return TOQUE_OK;
    if (v->type == TQ_J_STR || tq_j_is_number(v) || v->type == TQ_J_NONE) return tq_j_equal(j, v, arg, yes);
    *yes = v->dict == arg->dict;
    return TOQUE_OK;
}

const tq_jtest tq_j_tests[] = {
    {"defined", 0, is_defined},
    {"undefined", 0, is_undefined},
    {"none", 0, is_none},
    {"boolean", 0, is_boolean},
    {"true", 0, is_true},
    {"false", 0, is_false},
    {"integer", 0, is_integer},
    {"float", 0, is_float},
    {"number", 0, is_number},
    {"string", 0, is_string},
    {"mapping", 0, is_mapping},
    {"iterable", 0, is_iterable},
    {"sequence", 0, is_sequence},
    {"callable", 0, is_callable},
    {"escaped", 0, is_escaped},
    {"filter", 0, is_filter},
    {"test", 0, is_test},
    {"odd", 0, is_odd},
    {"even", 0, is_even},
    {"upper", 0, is_upper},
    {"lower", 0, is_lower},
    {"divisibleby", 1, is_divisibleby},
    {"sameas", 1, is_sameas},
    {"in", 1, is_in},
    {"eq", 1, is_eq},
    {"==", 1, is_eq},
    {"equalto", 1, is_eq},
    {"ne", 1, is_ne},
    {"!=", 1, is_ne},
    {"lt", 1, is_lt},
    {"<", 1, is_lt},
    {"lessthan", 1, is_lt},
    {"le", 1, is_le},
    {"<=", 1, is_le},
    {"gt", 1, is_gt},
    {">", 1, is_gt},
    {"greaterthan", 1, is_gt},
    {"ge", 1, is_ge},
    {">=", 1, is_ge},
    {.name = NULL},
};

const tq_jtest *tq_j_find_test(const char *s, size_t n) {
    for (const tq_jtest *t = tq_j_tests; t->name; t++)
        if (strlen(t->name) == n && memcmp(t->name, s, n) == 0) return t;
    return NULL;
}

toque_status tq_j_run_test(tq_jrun *j, const tq_jtest *t, const tq_jval *in, const tq_jargs *args, bool *yes) {
    tq_jval p[TQ_J_PARAMS];
    TQ_J_STEP(j, 1);
    TQ_TRY(tq_j_bind(j, t->name, t->args ? "other" : "", args, p));
    return t->run(j, in, &p[0], yes);
}

/* ---- functions ---- */

#define FUNCTION(name) static toque_status name(tq_jrun *j, const tq_jval *p, const tq_jargs *args, tq_jval *out)

FUNCTION(range) {
    (void)args;
    int64_t start = 0, stop, step, span;
    bool one = p[1].type == TQ_J_MISSING;
    for (int i = 0; i < 3; i++)
        if (p[i].type != TQ_J_MISSING && !tq_j_is_int(&p[i]))
            return TQ_J_FAIL(j, "range needs integers, not %s", tq_j_type_name(&p[i]));
    TQ_TRY(tq_j_int_arg(j, &p[one ? 0 : 1], 0, &stop));
    if (!one) TQ_TRY(tq_j_int_arg(j, &p[0], 0, &start));
    TQ_TRY(tq_j_int_arg(j, &p[2], 1, &step));
    if (step == 0) return TQ_J_FAIL(j, "the step of a range cannot be 0");
    if (__builtin_sub_overflow(stop, start, &span) || span == INT64_MIN || step == INT64_MIN)
        return TQ_FAIL(j->err, ELIMIT, "a range of more than %d numbers", TQ_J_MAX_RANGE);
    uint64_t len = 0;
    if (span && (span < 0) == (step < 0))
        len = ((uint64_t)(span < 0 ? -span : span) - 1) / (uint64_t)(step < 0 ? -step : step) + 1;
    int64_t end;
    if (len > TQ_J_MAX_RANGE || __builtin_mul_overflow((int64_t)len, step, &end) ||
        __builtin_add_overflow(start, end, &end))
        return TQ_FAIL(j->err, ELIMIT, "a range of more than %d numbers", TQ_J_MAX_RANGE);
    tq_jrange *r = tq_j_alloc(j, 1, sizeof *r);
    if (!r) return tq_j_full(j);
    *r = (tq_jrange){start, step, (size_t)len};
    *out = (tq_jval){.type = TQ_J_RANGE, .message = -1, .range = r};
    return TOQUE_OK;
}

/* dict(mapping or pairs, name=value...) */
static toque_status make_dict(tq_jrun *j, const tq_jargs *args, tq_jtype type, tq_jval *out) {
    TQ_TRY(tq_j_dict(j, args->n_kw, type, out));
    if (args->n > 1) return TQ_J_FAIL(j, "dict takes at most 1 positional argument, not %zu", args->n);
    if (args->n && (args->pos[0].type == TQ_J_DICT || args->pos[0].type == TQ_J_NAMESPACE)) {
        const tq_jdict *d = args->pos[0].dict;
        for (size_t i = 0; i < d->len; i++) TQ_TRY(tq_j_dict_set(j, out->dict, d->keys[i], d->values[i]));
    } else if (args->n) {
        const tq_jlist *all, *pair;
        TQ_TRY(tq_j_items(j, &args->pos[0], &all));
        for (size_t i = 0; i < all->len; i++) {
            TQ_TRY(tq_j_items(j, &tq_jlist_items(all)[i], &pair));
            if (pair->len != 2) return TQ_J_FAIL(j, "dict needs pairs");
            TQ_TRY(tq_j_dict_set(j, out->dict, tq_jlist_items(pair)[0], tq_jlist_items(pair)[1]));
        }
    }
    for (size_t i = 0; i < args->n_kw; i++) TQ_TRY(tq_j_dict_set(j, out->dict, args->kw[i].name, args->kw[i].value));
    return TOQUE_OK;
}
FUNCTION(dict) {
    (void)p;
    return make_dict(j, args, TQ_J_DICT, out);
}
FUNCTION(namespace) {
    (void)p;
    TQ_TRY(make_dict(j, args, TQ_J_NAMESPACE, out));
    for (size_t i = 0; i < out->dict->len; i++) {
        const tq_jval *key = &out->dict->keys[i];
        if (key->type == TQ_J_STR && key->s->len && tq_jstr_data(key->s)[0] == '_')
            return TQ_J_FAIL(j, "an attribute of a namespace cannot begin with an underscore");
    }
    return TOQUE_OK;
}

FUNCTION(raise_exception) {
    (void)args;
    (void)out;
    tq_jval text;
    TQ_TRY(tq_j_str(j, &p[0], &text));
    return TQ_J_FAIL(j, "%.*s", (int)(text.s->len < 500 ? text.s->len : 500), tq_jstr_data(text.s));
}

/* datetime.now().strftime(format): a time without a zone, so %z and %Z are empty; %f are microseconds. */
FUNCTION(strftime_now) {
    (void)args;
    TQ_TRY(tq_j_str_arg(j, &p[0], "strftime_now"));
    char format[600], text[2000];
    size_t n = 0;
    const char *s = tq_jstr_data(p[0].s);
    for (size_t i = 0; i < p[0].s->len; i++) {
        const char *plain = NULL;
        if (n + 8 > sizeof format) return TQ_FAIL(j->err, ELIMIT, "a format of more than %zu bytes", sizeof format);
        if (s[i] == 0) return TQ_J_FAIL(j, "the format of a date holds a NUL byte");
        if (s[i] == '%' && i + 1 < p[0].s->len) {
            char c = s[++i];
            plain = c == 'f' ? "000000" : c == 'z' || c == 'Z' ? "" : NULL;
            if (!plain) {
                if (c >= '0' && c <= '9')
                    return TQ_J_FAIL(j, "the format of a date has a width, which is not supported");
                format[n++] = '%';
                format[n++] = c;
            }
        } else {
            format[n++] = s[i];
        }
        if (plain) n += (size_t)snprintf(format + n, sizeof format - n, "%s", plain);
    }
    format[n] = 0;
    time_t now = j->options->now ? (time_t)j->options->now : time(NULL);
    struct tm tm;
    if (!localtime_r(&now, &tm)) return TQ_J_FAIL(j, "the time %lld is out of range", (long long)now);
    size_t len = n ? strftime(text, sizeof text, format, &tm) : 0;
    return tq_j_text_copy(j, text, len, tq_j_template_origin, out);
}

static toque_status make_cycler(tq_jrun *j, tq_jtype type, const tq_jval *items, tq_jval *out) {
    tq_jcycler *c = tq_j_alloc(j, 1, sizeof *c);
    if (!c) return tq_j_full(j);
    c->items = items->list;
    *out = (tq_jval){.type = (uint8_t)type, .message = -1, .cycler = c};
    return TOQUE_OK;
}
FUNCTION(cycler) {
    (void)p;
    tq_jval items;
    if (!args->n || args->n_kw) return TQ_J_FAIL(j, "cycler needs items");
    TQ_TRY(tq_j_list(j, args->n, TQ_J_TUPLE, &items));
    for (size_t i = 0; i < args->n; i++) TQ_TRY(tq_j_push(j, &items, args->pos[i]));
    return make_cycler(j, TQ_J_CYCLER, &items, out);
}
FUNCTION(joiner) {
    (void)args;
    tq_jval items, between = p[0];
    if (between.type == TQ_J_MISSING) TQ_TRY(tq_j_text(j, ", ", 2, tq_j_template_origin, &between));
    TQ_TRY(tq_j_list(j, 1, TQ_J_TUPLE, &items));
    TQ_TRY(tq_j_push(j, &items, between));
    return make_cycler(j, TQ_J_JOINER, &items, out);
}

const tq_jfunc tq_j_functions[] = {
    {"range", "start ?stop step", range},
    {"dict", "*", dict},
    {"namespace", "*", namespace},
    {"raise_exception", "message", raise_exception},
    {"strftime_now", "format", strftime_now},
    {"cycler", "*", cycler},
    {"joiner", "?sep", joiner},
    {.name = NULL},
};

/* ---- methods ---- */

#define METHOD(name)                                                                                                   \
    static toque_status name(tq_jrun *j, const tq_jval *self, const tq_jval *p, const tq_jargs *args, tq_jval *out)
#define UNUSED ((void)j, (void)self, (void)p, (void)args)

METHOD(dict_get) {
    UNUSED;
    tq_jval *found;
    TQ_TRY(tq_j_dict_get(j, self->dict, &p[0], &found));
    *out = found ? *found : p[1].type == TQ_J_MISSING ? tq_j_none() : p[1];
    return TOQUE_OK;
}
static toque_status view(tq_jrun *j, const tq_jval *self, tq_jview_kind kind, tq_jval *out) {
    tq_jview *v = tq_j_alloc(j, 1, sizeof *v);
    if (!v) return tq_j_full(j);
    *v = (tq_jview){.dict = self->dict, .kind = kind};
    *out = (tq_jval){.type = TQ_J_VIEW, .message = self->message, .field = self->field, .view = v};
    return TOQUE_OK;
}
METHOD(dict_items) {
    UNUSED;
    return view(j, self, TQ_J_ITEMS, out);
}
METHOD(dict_keys) {
    UNUSED;
    return view(j, self, TQ_J_KEYS, out);
}
METHOD(dict_values) {
    UNUSED;
    return view(j, self, TQ_J_VALUES, out);
}
METHOD(same) { /* values do not change, so a copy is the value itself */
    UNUSED;
    *out = *self;
    return TOQUE_OK;
}

METHOD(list_count) {
    UNUSED;
    int64_t n = 0;
    for (size_t i = 0; i < self->list->len; i++) {
        bool equal;
        TQ_J_STEP(j, 1);
        TQ_TRY(tq_j_equal(j, &tq_jlist_items(self->list)[i], &p[0], &equal));
        n += equal;
    }
    *out = tq_j_int(n);
    return TOQUE_OK;
}
METHOD(list_index) {
    UNUSED;
    for (size_t i = 0; i < self->list->len; i++) {
        bool equal;
        TQ_J_STEP(j, 1);
        TQ_TRY(tq_j_equal(j, &tq_jlist_items(self->list)[i], &p[0], &equal));
        if (!equal) continue;
        *out = tq_j_int((int64_t)i);
        return TOQUE_OK;
    }
    return TQ_J_FAIL(j, "the value is not in the list");
}

METHOD(float_is_integer) {
    UNUSED;
    *out = tq_j_bool(self->f == (double)(int64_t)(self->f > -9e18 && self->f < 9e18 ? self->f : 0) || self->f >= 9e18 ||
                     self->f <= -9e18);
    return TOQUE_OK;
}

METHOD(loop_cycle) {
    UNUSED;
    if (!args->n || args->n_kw) return TQ_J_FAIL(j, "loop.cycle needs items");
    *out = args->pos[self->loop->index0 % args->n];
    return TOQUE_OK;
}
METHOD(loop_changed) {
    UNUSED;
    tq_jval now;
    bool equal = false;
    TQ_TRY(tq_j_list(j, args->n, TQ_J_TUPLE, &now));
    for (size_t i = 0; i < args->n; i++) TQ_TRY(tq_j_push(j, &now, args->pos[i]));
    if (self->loop->changed_set) TQ_TRY(tq_j_equal(j, &self->loop->changed, &now, &equal));
    self->loop->changed = now;
    self->loop->changed_set = true;
    *out = tq_j_bool(!equal);
    return TOQUE_OK;
}

METHOD(cycler_next) {
    UNUSED;
    tq_jcycler *c = self->cycler;
    *out = tq_jlist_items(c->items)[c->next];
    c->next = (c->next + 1) % c->items->len;
    return TOQUE_OK;
}
METHOD(cycler_reset) {
    UNUSED;
    self->cycler->next = 0;
    *out = tq_j_none();
    return TOQUE_OK;
}

const tq_jmethod tq_j_other_methods[] = {
    {TQ_J_DICT, "get", "key ?default", dict_get},
    {TQ_J_DICT, "items", "", dict_items},
    {TQ_J_DICT, "keys", "", dict_keys},
    {TQ_J_DICT, "values", "", dict_values},
    {TQ_J_DICT, "copy", "", same},
    {TQ_J_LIST, "count", "value", list_count},
    {TQ_J_LIST, "index", "value", list_index},
    {TQ_J_LIST, "copy", "", same},
    {TQ_J_TUPLE, "count", "value", list_count},
    {TQ_J_TUPLE, "index", "value", list_index},
    {TQ_J_FLOAT, "is_integer", "", float_is_integer},
    {TQ_J_LOOP, "cycle", "*", loop_cycle},
    {TQ_J_LOOP, "changed", "*", loop_changed},
    {TQ_J_CYCLER, "next", "", cycler_next},
    {TQ_J_CYCLER, "reset", "", cycler_reset},
    {.name = NULL},
};

const tq_jmethod *tq_j_find_method(tq_jtype of, const char *s, size_t n) {
    const tq_jmethod *table = of == TQ_J_STR ? tq_j_text_methods : tq_j_other_methods;
    for (; table->name; table++)
        if (table->of == of && strlen(table->name) == n && memcmp(table->name, s, n) == 0) return table;
    return NULL;
}
