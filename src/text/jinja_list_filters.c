/* Filters on lists and mappings. Those that are generators in jinja2 give a generator here too (it has no length and
 * is walked once), computed at once. */
#include <string.h>

#include "text/jinja.h"

#define FILTER(name)                                                                                                   \
    static toque_status name(tq_jrun *j, const tq_jval *in, const tq_jval *p, const tq_jargs *args, tq_jval *out)
#define UNUSED ((void)j, (void)in, (void)p, (void)args)

static bool flag(const tq_jval *p) {
    return p->type != TQ_J_MISSING && tq_j_true(p);
}

/* A list of its own with the items of `in`. */
static toque_status copy(tq_jrun *j, const tq_jval *in, tq_jval *out) {
    const tq_jlist *items;
    TQ_TRY(tq_j_items(j, in, &items));
    TQ_TRY(tq_j_list(j, items->len, TQ_J_LIST, out));
    TQ_J_STEP(j, items->len / 4);
    for (size_t i = 0; i < items->len; i++) TQ_TRY(tq_j_push(j, out, tq_jlist_items(items)[i]));
    out->message = in->message;
    out->field = in->field;
    return TOQUE_OK;
}

/* "a.b.0" of an item, by subscription; MISSING or None: the item itself. fallback (MISSING: none) for undefined. */
static toque_status path(tq_jrun *j, tq_jval item, const tq_jval *attribute, const tq_jval *fallback, tq_jval *out) {
    *out = item;
    if (attribute->type == TQ_J_MISSING || attribute->type == TQ_J_NONE) return TOQUE_OK;
    bool use = fallback && fallback->type != TQ_J_MISSING && fallback->type != TQ_J_NONE;
    if (attribute->type != TQ_J_STR) {
        TQ_TRY(tq_j_item(j, &item, attribute, out));
        if (use && out->type == TQ_J_UNDEFINED) *out = *fallback;
        return TOQUE_OK;
    }
    const tq_jstr *s = attribute->s;
    const char *t = tq_jstr_data(s);
    for (size_t from = 0, to; from <= s->len; from = to + 1) {
        tq_jval key;
        bool digits = true;
        int64_t at = 0;
        for (to = from; to < s->len && t[to] != '.'; to++) {
            digits &= t[to] >= '0' && t[to] <= '9' && at < 1000000000;
            if (digits) at = at * 10 + (t[to] - '0');
        }
        TQ_TRY(tq_j_sub(j, s, from, to - from, &key));
        if (digits && to > from) key = tq_j_int(at);
        TQ_TRY(tq_j_item(j, out, &key, out));
        if (use && out->type == TQ_J_UNDEFINED) *out = *fallback;
    }
    return TOQUE_OK;
}

static toque_status ignore_case(tq_jrun *j, tq_jval *v) {
    return v->type == TQ_J_STR ? tq_j_map(j, v->s, tq_j_lower, v) : TOQUE_OK;
}

/* keys[i] = attribute of item i, in lower case unless `cased`. */
static toque_status keys_of(tq_jrun *j, const tq_jlist *items, const tq_jval *attribute, const tq_jval *fallback,
                            bool cased, tq_jval **keys) {
    *keys = tq_j_alloc(j, items->len + 1, sizeof **keys);
    if (!*keys) return tq_j_full(j);
    for (size_t i = 0; i < items->len; i++) {
        TQ_TRY(path(j, tq_jlist_items(items)[i], attribute, fallback, &(*keys)[i]));
        if (!cased) TQ_TRY(ignore_case(j, &(*keys)[i]));
    }
    return TOQUE_OK;
}

/* ---- order ---- */

/* Several attributes, "age,name", are compared one after the other. */
FILTER(sort) {
    UNUSED;
    tq_jval *keys;
    bool cased = flag(&p[1]);
    TQ_TRY(copy(j, in, out));
    if (p[2].type != TQ_J_STR || tq_jstr_find(p[2].s, 0, ",", 1) == SIZE_MAX) {
        TQ_TRY(keys_of(j, out->list, &p[2], NULL, cased, &keys));
        return tq_j_sort(j, tq_jlist_items(out->list), keys, out->list->len, flag(&p[0]));
    }
    keys = tq_j_alloc(j, out->list->len + 1, sizeof *keys);
    if (!keys) return tq_j_full(j);
    for (size_t i = 0; i < out->list->len; i++) {
        TQ_TRY(tq_j_list(j, 2, TQ_J_LIST, &keys[i]));
        for (size_t from = 0, to; from <= p[2].s->len; from = to + 1) {
            tq_jval one, key;
            to = tq_jstr_find(p[2].s, from, ",", 1);
            if (to == SIZE_MAX) to = p[2].s->len;
            TQ_TRY(tq_j_sub(j, p[2].s, from, to - from, &one));
            TQ_TRY(path(j, tq_jlist_items(out->list)[i], &one, NULL, &key));
            if (!cased) TQ_TRY(ignore_case(j, &key));
            TQ_TRY(tq_j_push(j, &keys[i], key));
        }
    }
    return tq_j_sort(j, tq_jlist_items(out->list), keys, out->list->len, flag(&p[0]));
}

static toque_status pairs(tq_jrun *j, const tq_jval *in, const char *what, tq_jval *out) {
    if (in->type != TQ_J_DICT) return TQ_J_FAIL(j, "%s needs a mapping, not %s", what, tq_j_type_name(in));
    tq_jview view = {.dict = in->dict, .kind = TQ_J_ITEMS};
    tq_jval v = {.type = TQ_J_VIEW, .message = -1, .view = &view};
    return copy(j, &v, out);
}

FILTER(dictsort) {
    UNUSED;
    bool by_value = tq_jstr_is(&p[1], "value");
    if (p[1].type != TQ_J_MISSING && !by_value && !tq_jstr_is(&p[1], "key"))
        return TQ_J_FAIL(j, "dictsort is by key or value");
    if (in->type == TQ_J_UNDEFINED) return tq_j_use_undefined(j, in);
    TQ_TRY(pairs(j, in, "dictsort", out));
    tq_jval *keys, at = tq_j_int(by_value);
    TQ_TRY(keys_of(j, out->list, &at, NULL, flag(&p[0]), &keys));
    return tq_j_sort(j, tq_jlist_items(out->list), keys, out->list->len, flag(&p[2]));
}

static toque_status extreme(tq_jrun *j, const tq_jval *in, const tq_jval *p, bool largest, tq_jval *out) {
    const tq_jlist *items;
    tq_jval *keys;
    size_t best = 0;
    TQ_TRY(tq_j_items(j, in, &items));
    if (!items->len) return tq_j_undefined(j, out, "there is no smallest or largest item of nothing");
    TQ_TRY(keys_of(j, items, &p[1], NULL, flag(&p[0]), &keys));
    for (size_t i = 1; i < items->len; i++) {
        int order;
        TQ_TRY(tq_j_compare(j, &keys[i], &keys[best], &order));
        if (largest ? order > 0 && order != 2 : order < 0) best = i; /* 2: not a number */
    }
    *out = tq_jlist_items(items)[best];
    return TOQUE_OK;
}
FILTER(minimum) {
    UNUSED;
    return extreme(j, in, p, false, out);
}
FILTER(maximum) {
    UNUSED;
    return extreme(j, in, p, true, out);
}

FILTER(unique) {
    UNUSED;
    const tq_jlist *items;
    tq_jval *keys, seen, kept;
    TQ_TRY(tq_j_items(j, in, &items));
    TQ_TRY(keys_of(j, items, &p[1], NULL, flag(&p[0]), &keys));
    TQ_TRY(tq_j_dict(j, 8, TQ_J_DICT, &seen));
    TQ_TRY(tq_j_list(j, 4, TQ_J_LIST, &kept));
    for (size_t i = 0; i < items->len; i++) {
        size_t before = seen.dict->len;
        TQ_TRY(tq_j_dict_set(j, seen.dict, keys[i], keys[i]));
        if (seen.dict->len > before) TQ_TRY(tq_j_push(j, &kept, tq_jlist_items(items)[i]));
    }
    return tq_j_gen(j, &kept, out);
}

FILTER(groupby) {
    UNUSED;
    tq_jval sorted, *keys;
    TQ_TRY(copy(j, in, &sorted));
    const tq_jlist *l = sorted.list;
    TQ_TRY(keys_of(j, l, &p[0], &p[1], flag(&p[2]), &keys));
    TQ_TRY(tq_j_sort(j, tq_jlist_items(l), keys, l->len, false));
    TQ_TRY(tq_j_list(j, 4, TQ_J_LIST, out));
    for (size_t from = 0, to; from < l->len; from = to) {
        bool equal = true;
        tq_jval group, name, items;
        for (to = from + 1; to < l->len; to++) {
            TQ_TRY(tq_j_equal(j, &keys[from], &keys[to], &equal));
            if (!equal) break;
        }
        TQ_TRY(path(j, tq_jlist_items(l)[from], &p[0], &p[1], &name));
        TQ_TRY(tq_j_sublist(j, &sorted, from, to - from, &items));
        TQ_TRY(tq_j_list(j, 2, TQ_J_TUPLE, &group));
        TQ_TRY(tq_j_push(j, &group, name));
        TQ_TRY(tq_j_push(j, &group, items));
        TQ_TRY(tq_j_push(j, out, group));
    }
    return TOQUE_OK;
}

FILTER(reverse) {
    UNUSED;
    if (in->type == TQ_J_STR) {
        const tq_jval part[3] = {tq_j_none(), tq_j_none(), tq_j_int(-1)};
        return tq_j_slice(j, in, part, out);
    }
    tq_jval list;
    TQ_TRY(copy(j, in, &list));
    tq_jval *v = tq_jlist_items(list.list);
    for (size_t a = 0, b = list.list->len; a + 1 < b; a++) {
        tq_jval t = v[a];
        v[a] = v[--b];
        v[b] = t;
    }
    return tq_j_gen(j, &list, out);
}

/* ---- choice ---- */

FILTER(first) {
    UNUSED;
    const tq_jlist *items;
    TQ_TRY(tq_j_items(j, in, &items));
    if (!items->len) return tq_j_undefined(j, out, "there is no first item of nothing");
    *out = tq_jlist_items(items)[0];
    if (in->type == TQ_J_GEN) in->gen->next = in->gen->list->len - items->len + 1;
    return TOQUE_OK;
}

FILTER(last) {
    UNUSED;
    const tq_jlist *items;
    if (in->type == TQ_J_GEN) return TQ_J_FAIL(j, "a generator has no last item before `list`");
    TQ_TRY(tq_j_items(j, in, &items));
    if (!items->len) return tq_j_undefined(j, out, "there is no last item of nothing");
    *out = tq_jlist_items(items)[items->len - 1];
    return TOQUE_OK;
}

FILTER(list) {
    UNUSED;
    return copy(j, in, out);
}

FILTER(items) {
    UNUSED;
    tq_jval all;
    if (in->type == TQ_J_UNDEFINED)
        TQ_TRY(tq_j_list(j, 0, TQ_J_LIST, &all));
    else
        TQ_TRY(pairs(j, in, "items", &all));
    return tq_j_gen(j, &all, out);
}

FILTER(map) {
    UNUSED;
    const tq_jlist *all;
    const tq_jfilter *f = NULL;
    tq_jval result, attribute = {.type = TQ_J_MISSING}, fallback = {.type = TQ_J_MISSING};
    tq_jargs rest = *args;
    if (args->n) {
        TQ_TRY(tq_j_str_arg(j, &args->pos[0], "map"));
        f = tq_j_find_filter(tq_jstr_data(args->pos[0].s), args->pos[0].s->len);
        if (!f) return TQ_J_FAIL(j, "map names a filter that does not exist");
        rest.pos++;
        rest.n--;
    } else {
        tq_jval bound[TQ_J_PARAMS];
        TQ_TRY(tq_j_bind(j, "map", "attribute ?default", args, bound));
        attribute = bound[0];
        fallback = bound[1];
    }
    TQ_TRY(tq_j_items(j, in, &all));
    TQ_TRY(tq_j_list(j, all->len, TQ_J_LIST, &result));
    for (size_t i = 0; i < all->len; i++) {
        tq_jval v;
        if (f)
            TQ_TRY(tq_j_run_filter(j, f, &tq_jlist_items(all)[i], &rest, &v));
        else
            TQ_TRY(path(j, tq_jlist_items(all)[i], &attribute, &fallback, &v));
        TQ_TRY(tq_j_push(j, &result, v));
    }
    return tq_j_gen(j, &result, out);
}

/* select, reject and their attr variants: the items (their attribute) for which the test says `want`. */
static toque_status choose(tq_jrun *j, const tq_jval *in, const tq_jargs *args, bool attr, bool want, tq_jval *out) {
    const tq_jlist *all;
    const tq_jtest *test = NULL;
    tq_jval kept, attribute = {.type = TQ_J_MISSING};
    tq_jargs rest = *args;
    if (attr) {
        if (!rest.n) return TQ_J_FAIL(j, "selectattr and rejectattr need the name of an attribute");
        attribute = *rest.pos++;
        rest.n--;
    }
    if (rest.n) {
        TQ_TRY(tq_j_str_arg(j, rest.pos, "select"));
        test = tq_j_find_test(tq_jstr_data(rest.pos->s), rest.pos->s->len);
        if (!test) return TQ_J_FAIL(j, "select names a test that does not exist");
        rest.pos++;
        rest.n--;
    }
    TQ_TRY(tq_j_list(j, 4, TQ_J_LIST, &kept));
    if (tq_j_true(in)) {
        TQ_TRY(tq_j_items(j, in, &all));
        for (size_t i = 0; i < all->len; i++) {
            tq_jval v;
            TQ_J_STEP(j, 1);
            TQ_TRY(path(j, tq_jlist_items(all)[i], &attribute, NULL, &v));
            bool yes = tq_j_true(&v);
            if (test) TQ_TRY(tq_j_run_test(j, test, &v, &rest, &yes));
            if (yes == want) TQ_TRY(tq_j_push(j, &kept, tq_jlist_items(all)[i]));
        }
    }
    return tq_j_gen(j, &kept, out);
}
FILTER(select_) {
    UNUSED;
    return choose(j, in, args, false, true, out);
}
FILTER(reject) {
    UNUSED;
    return choose(j, in, args, false, false, out);
}
FILTER(selectattr) {
    UNUSED;
    return choose(j, in, args, true, true, out);
}
FILTER(rejectattr) {
    UNUSED;
    return choose(j, in, args, true, false, out);
}

/* ---- sums and pieces ---- */

FILTER(join) {
    UNUSED;
    const tq_jlist *all;
    tq_jval between;
    tq_jbytes *b = tq_j_bytes(j, 64);
    if (!b) return tq_j_full(j);
    TQ_TRY(tq_j_text(j, "", 0, tq_j_template_origin, &between));
    if (p[0].type != TQ_J_MISSING) TQ_TRY(tq_j_str(j, &p[0], &between));
    TQ_TRY(tq_j_items(j, in, &all));
    for (size_t i = 0; i < all->len; i++) {
        tq_jval v;
        TQ_J_STEP(j, 1);
        if (i) TQ_TRY(tq_j_put_str(j, b, between.s));
        TQ_TRY(path(j, tq_jlist_items(all)[i], &p[1], NULL, &v));
        TQ_TRY(tq_j_put_value(j, b, &v));
    }
    return tq_j_finish(j, b, out);
}

FILTER(sum) {
    UNUSED;
    const tq_jlist *all;
    TQ_TRY(tq_j_items(j, in, &all));
    *out = p[1].type == TQ_J_MISSING ? tq_j_int(0) : p[1];
    if (out->type == TQ_J_STR) return TQ_J_FAIL(j, "sum cannot add texts: use join");
    for (size_t i = 0; i < all->len; i++) {
        tq_jval v;
        TQ_TRY(path(j, tq_jlist_items(all)[i], &p[0], NULL, &v));
        TQ_TRY(tq_j_binary(j, TQ_JO_ADD, out, &v, out));
    }
    return TOQUE_OK;
}

static toque_status fill(tq_jrun *j, tq_jval *piece, size_t until, const tq_jval *with) {
    if (with->type == TQ_J_MISSING || with->type == TQ_J_NONE) return TOQUE_OK;
    while (piece->list->len < until) {
        TQ_J_STEP(j, 1);
        TQ_TRY(tq_j_push(j, piece, *with));
    }
    return TOQUE_OK;
}

FILTER(batch) {
    UNUSED;
    tq_jval all, pieces, piece;
    int64_t n;
    TQ_TRY(tq_j_int_arg(j, &p[0], 0, &n));
    if (n < 1) return TQ_J_FAIL(j, "batch needs a size of at least 1");
    TQ_TRY(copy(j, in, &all));
    TQ_TRY(tq_j_list(j, 4, TQ_J_LIST, &pieces));
    for (size_t from = 0; from < all.list->len; from += (size_t)n) {
        size_t left = all.list->len - from;
        tq_jval part;
        TQ_TRY(tq_j_sublist(j, &all, from, left < (size_t)n ? left : (size_t)n, &part));
        TQ_TRY(copy(j, &part, &piece));
        TQ_TRY(fill(j, &piece, (size_t)n, &p[1]));
        TQ_TRY(tq_j_push(j, &pieces, piece));
    }
    return tq_j_gen(j, &pieces, out);
}

FILTER(slice) {
    UNUSED;
    tq_jval all, pieces, piece, part;
    int64_t n;
    TQ_TRY(tq_j_int_arg(j, &p[0], 0, &n));
    if (n < 1 || n > TQ_J_MAX_RANGE) return TQ_J_FAIL(j, "slice needs a number of pieces from 1 to %d", TQ_J_MAX_RANGE);
    TQ_TRY(copy(j, in, &all));
    TQ_TRY(tq_j_list(j, (size_t)n, TQ_J_LIST, &pieces));
    size_t each = all.list->len / (size_t)n, longer = all.list->len % (size_t)n, from = 0;
    for (size_t i = 0; i < (size_t)n; i++) {
        size_t len = each + (i < longer);
        TQ_J_STEP(j, 1);
        TQ_TRY(tq_j_sublist(j, &all, from, len, &part));
        TQ_TRY(copy(j, &part, &piece));
        if (i >= longer) TQ_TRY(fill(j, &piece, len + 1, &p[1]));
        TQ_TRY(tq_j_push(j, &pieces, piece));
        from += len;
    }
    return tq_j_gen(j, &pieces, out);
}

const tq_jfilter tq_j_list_filters[] = {
    {"sort", "?reverse case_sensitive attribute", sort},
    {"dictsort", "?case_sensitive by reverse", dictsort},
    {"min", "?case_sensitive attribute", minimum},
    {"max", "?case_sensitive attribute", maximum},
    {"unique", "?case_sensitive attribute", unique},
    {"groupby", "attribute ?default case_sensitive", groupby},
    {"reverse", "", reverse},
    {"first", "", first},
    {"last", "", last},
    {"list", "", list},
    {"items", "", items},
    {"map", "*", map},
    {"select", "*", select_},
    {"reject", "*", reject},
    {"selectattr", "*", selectattr},
    {"rejectattr", "*", rejectattr},
    {"join", "?d attribute", join},
    {"sum", "?attribute start", sum},
    {"batch", "linecount ?fill_with", batch},
    {"slice", "slices ?fill_with", slice},
    {.name = NULL},
};
