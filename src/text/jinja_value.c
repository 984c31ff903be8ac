/* Lists, dicts, iteration, equality and order of the template interpreter, as Python defines them. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "text/jinja.h"

const char *tq_j_type_name(const tq_jval *v) {
    static const char *const names[] = {"missing", "Undefined", "NoneType",  "bool",      "int",
                                        "float",   "str",       "list",      "tuple",     "dict",
                                        "range",   "generator", "dict view", "Namespace", "LoopContext",
                                        "Macro",   "function",  "method",    "Cycler",    "Joiner"};
    return names[v->type];
}

bool tq_j_true(const tq_jval *v) {
    switch ((tq_jtype)v->type) {
    case TQ_J_MISSING:
    case TQ_J_UNDEFINED:
    case TQ_J_NONE: return false;
    case TQ_J_BOOL: return v->b;
    case TQ_J_INT: return v->i != 0;
    case TQ_J_FLOAT: return v->f != 0;
    case TQ_J_STR: return v->s->len > 0;
    case TQ_J_LIST:
    case TQ_J_TUPLE: return v->list->len > 0;
    case TQ_J_DICT: return v->dict->len > 0;
    case TQ_J_RANGE: return v->range->len > 0;
    case TQ_J_VIEW: return v->view->dict->len > 0;
    case TQ_J_LOOP: return v->loop->items->len > 0;
    default: return true;
    }
}

toque_status tq_j_undefined(tq_jrun *j, tq_jval *out, const char *format, ...) {
    char text[200];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t n = strlen(text) + 1;
    tq_jundefined *u = tq_j_alloc(j, 1, sizeof *u);
    char *copy = u ? tq_j_alloc(j, n, 1) : NULL;
    if (!copy) return tq_j_full(j);
    memcpy(copy, text, n);
    u->text = copy;
    *out = (tq_jval){.type = TQ_J_UNDEFINED, .message = -1, .undefined = u};
    return TOQUE_OK;
}

toque_status tq_j_use_undefined(tq_jrun *j, const tq_jval *v) {
    return TQ_J_FAIL(j, "%s", v->undefined->text);
}

/* ---- lists ---- */

static toque_status list_of(tq_jrun *j, tq_jarray *array, size_t start, size_t len, uint8_t type, tq_jval *out) {
    tq_jlist *l = tq_j_alloc(j, 1, sizeof *l);
    if (!l) return tq_j_full(j);
    *l = (tq_jlist){array, start, len};
    *out = (tq_jval){.type = type, .message = -1, .list = l};
    return TOQUE_OK;
}

toque_status tq_j_list(tq_jrun *j, size_t cap, tq_jtype type, tq_jval *out) {
    tq_jarray *a = tq_j_alloc(j, 1, sizeof *a);
    if (!a) return tq_j_full(j);
    a->cap = cap < 2 ? 2 : cap;
    a->items = tq_j_alloc(j, a->cap, sizeof *a->items);
    if (!a->items) return tq_j_full(j);
    return list_of(j, a, 0, 0, (uint8_t)type, out);
}

static toque_status array_room(tq_jrun *j, tq_jarray *a, size_t more) {
    if (a->cap - a->len >= more) return TOQUE_OK;
    size_t cap = a->cap * 2 > a->len + more ? a->cap * 2 : a->len + more;
    tq_jval *items = tq_j_alloc(j, cap, sizeof *items);
    if (!items) return tq_j_full(j);
    memcpy(items, a->items, a->len * sizeof *items);
    a->items = items;
    a->cap = cap;
    return TOQUE_OK;
}

toque_status tq_j_push(tq_jrun *j, tq_jval *list, tq_jval item) {
    tq_jarray *a = list->list->array;
    TQ_TRY(array_room(j, a, 1));
    a->items[a->len++] = item;
    list->list->len++;
    return TOQUE_OK;
}

toque_status tq_j_sublist(tq_jrun *j, const tq_jval *v, size_t start, size_t len, tq_jval *out) {
    return list_of(j, v->list->array, v->list->start + start, len, v->type, out);
}

toque_status tq_j_join_lists(tq_jrun *j, const tq_jval *a, const tq_jval *b, tq_jval *out) {
    tq_jarray *array = a->list->array;
    size_t start = a->list->start, n = b->list->len;
    TQ_J_STEP(j, n / 4);
    if (start + a->list->len != array->len) {
        tq_jval fresh;
        TQ_TRY(tq_j_list(j, a->list->len + n, TQ_J_LIST, &fresh));
        TQ_J_STEP(j, a->list->len / 4);
        array = fresh.list->array;
        memcpy(array->items, tq_jlist_items(a->list), a->list->len * sizeof(tq_jval));
        array->len = a->list->len;
        start = 0;
    }
    TQ_TRY(array_room(j, array, n));
    memmove(array->items + array->len, tq_jlist_items(b->list), n * sizeof(tq_jval));
    array->len += n;
    return list_of(j, array, start, a->list->len + n, a->type, out);
}

toque_status tq_j_gen(tq_jrun *j, const tq_jval *list, tq_jval *out) {
    tq_jgen *g = tq_j_alloc(j, 1, sizeof *g);
    if (!g) return tq_j_full(j);
    g->list = list->list;
    *out = (tq_jval){.type = TQ_J_GEN, .message = -1, .gen = g};
    return TOQUE_OK;
}

/* ---- dicts ---- */

enum { SMALL_DICT = 8 };

toque_status tq_j_dict(tq_jrun *j, size_t cap, tq_jtype type, tq_jval *out) {
    tq_jdict *d = tq_j_alloc(j, 1, sizeof *d);
    if (!d) return tq_j_full(j);
    d->cap = cap < 2 ? 2 : cap;
    d->keys = tq_j_alloc(j, d->cap, sizeof *d->keys);
    d->values = d->keys ? tq_j_alloc(j, d->cap, sizeof *d->values) : NULL;
    if (!d->values) return tq_j_full(j);
    *out = (tq_jval){.type = (uint8_t)type, .message = -1, .dict = d};
    return TOQUE_OK;
}

static uint64_t mix(uint64_t h) {
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdULL;
    return h ^ h >> 33;
}

/* Equal values have equal hashes: 1, 1.0 and true are one key. */
static toque_status hash(tq_jrun *j, const tq_jval *v, uint64_t *out) {
    uint64_t h = v->type;
    if (v->type == TQ_J_STR) {
        const char *p = tq_jstr_data(v->s);
        h = 14695981039346656037ULL;
        for (size_t i = 0; i < v->s->len; i++) h = (h ^ (unsigned char)p[i]) * 1099511628211ULL;
        TQ_J_STEP(j, v->s->len / 64);
    } else if (tq_j_is_number(v)) {
        double f = tq_j_as_float(v);
        if (f == 0) f = 0;
        memcpy(&h, &f, sizeof h);
    } else if (v->type == TQ_J_TUPLE) {
        TQ_TRY(tq_j_enter(j));
        for (size_t i = 0; i < v->list->len; i++) {
            uint64_t part;
            TQ_J_STEP(j, 1);
            TQ_TRY(hash(j, &tq_jlist_items(v->list)[i], &part));
            h = mix(h * 31 + part);
        }
        tq_j_leave(j);
    } else if (v->type == TQ_J_LIST || v->type == TQ_J_DICT) {
        return TQ_J_FAIL(j, "a %s cannot be a key of a dict or be counted as unique", tq_j_type_name(v));
    }
    *out = mix(h);
    return TOQUE_OK;
}

static toque_status index_dict(tq_jrun *j, tq_jdict *d) {
    size_t slots = 32;
    while (slots < d->cap * 2) slots *= 2;
    d->index = tq_j_alloc(j, slots, sizeof *d->index);
    if (!d->index) return tq_j_full(j);
    d->slots = slots;
    for (size_t i = 0; i < d->len; i++) {
        uint64_t h;
        TQ_TRY(hash(j, &d->keys[i], &h));
        size_t at = h & (slots - 1);
        for (; d->index[at]; at = (at + 1) & (slots - 1)) TQ_J_STEP(j, 1);
        d->index[at] = (uint32_t)i + 1;
    }
    return TOQUE_OK;
}

/* *position: where the key stands, or d->len; *slot: its place in the index. */
static toque_status seek(tq_jrun *j, tq_jdict *d, const tq_jval *key, size_t *position, size_t *slot) {
    bool equal = false;
    uint64_t h = 0;
    if (key->type != TQ_J_STR || d->len > SMALL_DICT) TQ_TRY(hash(j, key, &h));
    *position = d->len;
    if (d->len <= SMALL_DICT) {
        for (size_t i = 0; i < d->len && !equal; i++) {
            TQ_TRY(tq_j_equal(j, &d->keys[i], key, &equal));
            if (equal) *position = i;
        }
        return TOQUE_OK;
    }
    if (!d->index) TQ_TRY(index_dict(j, d));
    size_t at = h & (d->slots - 1);
    for (; d->index[at]; at = (at + 1) & (d->slots - 1)) {
        TQ_J_STEP(j, 1);
        TQ_TRY(tq_j_equal(j, &d->keys[d->index[at] - 1], key, &equal));
        if (equal) {
            *position = d->index[at] - 1;
            break;
        }
    }
    *slot = at;
    return TOQUE_OK;
}

toque_status tq_j_dict_get(tq_jrun *j, tq_jdict *d, const tq_jval *key, tq_jval **found) {
    size_t at, slot;
    TQ_TRY(seek(j, d, key, &at, &slot));
    *found = at < d->len ? &d->values[at] : NULL;
    return TOQUE_OK;
}

toque_status tq_j_dict_find(tq_jrun *j, tq_jdict *d, const char *key, tq_jval **found) {
    tq_jbytes b = {.data = (char *)(uintptr_t)key, .len = strlen(key), .n_spans = 1, .spans = &b.one};
    tq_jstr s = {.bytes = &b, .len = b.len};
    tq_jval v = {.type = TQ_J_STR, .message = -1, .s = &s};
    return tq_j_dict_get(j, d, &v, found);
}

toque_status tq_j_dict_set(tq_jrun *j, tq_jdict *d, tq_jval key, tq_jval value) {
    size_t at, slot = 0;
    TQ_J_STEP(j, 1);
    TQ_TRY(seek(j, d, &key, &at, &slot));
    if (at < d->len) {
        d->values[at] = value;
        return TOQUE_OK;
    }
    if (d->len == d->cap) {
        size_t cap = d->cap * 2;
        tq_jval *keys = tq_j_alloc(j, cap, sizeof *keys), *values = keys ? tq_j_alloc(j, cap, sizeof *values) : NULL;
        if (!values) return tq_j_full(j);
        memcpy(keys, d->keys, d->len * sizeof *keys);
        memcpy(values, d->values, d->len * sizeof *values);
        d->keys = keys;
        d->values = values;
        d->cap = cap;
        d->index = NULL; /* made again, larger, by the next search */
    }
    d->keys[d->len] = key;
    d->values[d->len] = value;
    if (d->index) d->index[slot] = (uint32_t)d->len + 1;
    d->len++;
    return TOQUE_OK;
}

/* ---- equality and order ---- */

static toque_status equal_dicts(tq_jrun *j, tq_jdict *a, tq_jdict *b, bool *equal) {
    *equal = a->len == b->len;
    for (size_t i = 0; i < a->len && *equal; i++) {
        tq_jval *other;
        TQ_J_STEP(j, 1);
        TQ_TRY(tq_j_dict_get(j, b, &a->keys[i], &other));
        *equal = other != NULL;
        if (other) TQ_TRY(tq_j_equal(j, &a->values[i], other, equal));
    }
    return TOQUE_OK;
}

toque_status tq_j_equal(tq_jrun *j, const tq_jval *a, const tq_jval *b, bool *equal) {
    *equal = false;
    if (tq_j_is_number(a) && tq_j_is_number(b)) {
        *equal =
            tq_j_is_int(a) && tq_j_is_int(b) ? tq_j_as_int(a) == tq_j_as_int(b) : tq_j_as_float(a) == tq_j_as_float(b);
        return TOQUE_OK;
    }
    if (a->type != b->type) return TOQUE_OK;
    if (a->type == TQ_J_STR) {
        TQ_J_STEP(j, a->s->len == b->s->len ? a->s->len / 64 : 0);
        *equal = tq_jstr_equal(a->s, b->s);
    } else if (a->type == TQ_J_LIST || a->type == TQ_J_TUPLE) {
        *equal = a->list->len == b->list->len;
        if (a->list == b->list || !*equal) return TOQUE_OK;
        TQ_TRY(tq_j_enter(j));
        for (size_t i = 0; i < a->list->len && *equal; i++) {
            TQ_J_STEP(j, 1);
            TQ_TRY(tq_j_equal(j, &tq_jlist_items(a->list)[i], &tq_jlist_items(b->list)[i], equal));
        }
        tq_j_leave(j);
    } else if (a->type == TQ_J_DICT) {
        TQ_TRY(tq_j_enter(j));
        TQ_TRY(equal_dicts(j, a->dict, b->dict, equal));
        tq_j_leave(j);
    } else if (a->type == TQ_J_RANGE) {
        const tq_jrange *x = a->range, *y = b->range;
        *equal = x->len == y->len && (!x->len || (x->start == y->start && (x->len == 1 || x->step == y->step)));
    } else {
        *equal = a->type == TQ_J_NONE || a->type == TQ_J_UNDEFINED || a->dict == b->dict;
    }
    return TOQUE_OK;
}

static int sign(bool less, bool greater) {
    return less ? -1 : greater;
}

toque_status tq_j_compare(tq_jrun *j, const tq_jval *a, const tq_jval *b, int *order) {
    if (a->type == TQ_J_UNDEFINED) return tq_j_use_undefined(j, a);
    if (b->type == TQ_J_UNDEFINED) return tq_j_use_undefined(j, b);
    TQ_J_STEP(j, 1);
    if (tq_j_is_int(a) && tq_j_is_int(b)) {
        *order = sign(tq_j_as_int(a) < tq_j_as_int(b), tq_j_as_int(a) > tq_j_as_int(b));
    } else if (tq_j_is_number(a) && tq_j_is_number(b)) {
        double x = tq_j_as_float(a), y = tq_j_as_float(b);
        *order = isnan(x) || isnan(y) ? 2 : sign(x<y, x> y); /* 2: neither, which tq_j_relation knows */
    } else if (a->type == TQ_J_STR && b->type == TQ_J_STR) {
        size_t n = a->s->len < b->s->len ? a->s->len : b->s->len;
        TQ_J_STEP(j, n / 64);
        int c = n ? memcmp(tq_jstr_data(a->s), tq_jstr_data(b->s), n) : 0;
        *order = c ? c : sign(a->s->len<b->s->len, a->s->len> b->s->len);
    } else if (a->type == b->type && (a->type == TQ_J_LIST || a->type == TQ_J_TUPLE)) {
        size_t n = a->list->len < b->list->len ? a->list->len : b->list->len;
        *order = sign(a->list->len<b->list->len, a->list->len> b->list->len);
        TQ_TRY(tq_j_enter(j));
        for (size_t i = 0; i < n; i++) {
            const tq_jval *x = &tq_jlist_items(a->list)[i], *y = &tq_jlist_items(b->list)[i];
            bool equal;
            TQ_TRY(tq_j_equal(j, x, y, &equal));
            if (equal) continue;
            TQ_TRY(tq_j_compare(j, x, y, order));
            break;
        }
        tq_j_leave(j);
    } else {
        return TQ_J_FAIL(j, "a %s and a %s have no order", tq_j_type_name(a), tq_j_type_name(b));
    }
    return TOQUE_OK;
}

toque_status tq_j_contains(tq_jrun *j, const tq_jval *in, const tq_jval *what, bool *yes) {
    *yes = false;
    if (in->type == TQ_J_STR) {
        if (what->type != TQ_J_STR) return TQ_J_FAIL(j, "`in` a str needs a str, not %s", tq_j_type_name(what));
        TQ_J_STEP(j, in->s->len / 64);
        *yes = tq_jstr_find(in->s, 0, tq_jstr_data(what->s), what->s->len) != SIZE_MAX;
        return TOQUE_OK;
    }
    if (in->type == TQ_J_DICT || (in->type == TQ_J_VIEW && in->view->kind == TQ_J_KEYS)) {
        tq_jval *found;
        TQ_TRY(
            tq_j_dict_get(j, in->type == TQ_J_DICT ? in->dict : (tq_jdict *)(uintptr_t)in->view->dict, what, &found));
        *yes = found != NULL;
        return TOQUE_OK;
    }
    const tq_jlist *items;
    TQ_TRY(tq_j_items(j, in, &items));
    for (size_t i = 0; i < items->len && !*yes; i++) {
        TQ_J_STEP(j, 1);
        TQ_TRY(tq_j_equal(j, &tq_jlist_items(items)[i], what, yes));
    }
    return TOQUE_OK;
}

/* Stable merge sort: width 1, 2, 4, ... between the arrays and a spare pair. */
toque_status tq_j_sort(tq_jrun *j, tq_jval *items, tq_jval *keys, size_t n, bool reverse) {
    tq_jval *spare_i = tq_j_alloc(j, n, sizeof *items), *spare_k = spare_i ? tq_j_alloc(j, n, sizeof *keys) : NULL;
    if (!spare_k) return tq_j_full(j);
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t from = 0; from < n; from += 2 * width) {
            size_t mid = from + width < n ? from + width : n, end = mid + width < n ? mid + width : n;
            size_t a = from, b = mid;
            for (size_t to = from; to < end; to++) {
                bool right = a == mid;
                if (a < mid && b < end) {
                    int order;
                    if (reverse)
                        TQ_TRY(tq_j_compare(j, &keys[a], &keys[b], &order));
                    else
                        TQ_TRY(tq_j_compare(j, &keys[b], &keys[a], &order));
                    right = order < 0;
                }
                size_t take = right ? b++ : a++;
                spare_i[to] = items[take];
                spare_k[to] = keys[take];
            }
        }
        memcpy(items, spare_i, n * sizeof *items);
        memcpy(keys, spare_k, n * sizeof *keys);
    }
    return TOQUE_OK;
}

/* ---- iteration ---- */

toque_status tq_j_len(tq_jrun *j, const tq_jval *v, size_t *len, bool *known) {
    (void)j;
    *known = true;
    switch ((tq_jtype)v->type) {
    case TQ_J_UNDEFINED: *len = 0; break;
    case TQ_J_STR: *len = tq_jstr_chars(v->s); break;
    case TQ_J_LIST:
    case TQ_J_TUPLE: *len = v->list->len; break;
    case TQ_J_DICT: *len = v->dict->len; break;
    case TQ_J_RANGE: *len = v->range->len; break;
    case TQ_J_VIEW: *len = v->view->dict->len; break;
    case TQ_J_LOOP: *len = v->loop->items->len; break;
    default: *known = false; *len = 0;
    }
    return TOQUE_OK;
}

bool tq_j_iterable(const tq_jval *v) {
    return v->type == TQ_J_UNDEFINED || (v->type >= TQ_J_STR && v->type <= TQ_J_VIEW) || v->type == TQ_J_LOOP;
}

static toque_status characters(tq_jrun *j, tq_jstr *s, tq_jval *list) {
    TQ_TRY(tq_j_list(j, tq_jstr_chars(s), TQ_J_LIST, list));
    const char *p = tq_jstr_data(s);
    for (size_t i = 0, n; i < s->len; i += n) {
        int32_t cp;
        tq_jval c;
        n = tq_j_decode(p + i, s->len - i, &cp);
        TQ_TRY(tq_j_sub(j, s, i, n, &c));
        TQ_TRY(tq_j_push(j, list, c));
    }
    return TOQUE_OK;
}

static toque_status view_items(tq_jrun *j, const tq_jdict *d, tq_jview_kind kind, tq_jval *list) {
    TQ_TRY(tq_j_list(j, d->len, TQ_J_LIST, list));
    for (size_t i = 0; i < d->len; i++) {
        tq_jval item = kind == TQ_J_KEYS ? d->keys[i] : d->values[i];
        if (kind == TQ_J_ITEMS) {
            TQ_TRY(tq_j_list(j, 2, TQ_J_TUPLE, &item));
            TQ_TRY(tq_j_push(j, &item, d->keys[i]));
            TQ_TRY(tq_j_push(j, &item, d->values[i]));
        }
        TQ_TRY(tq_j_push(j, list, item));
    }
    return TOQUE_OK;
}

toque_status tq_j_items(tq_jrun *j, const tq_jval *v, const tq_jlist **items) {
    tq_jval list = {.type = TQ_J_MISSING};
    switch ((tq_jtype)v->type) {
    case TQ_J_LIST:
    case TQ_J_TUPLE: *items = v->list; return TOQUE_OK;
    case TQ_J_UNDEFINED: TQ_TRY(tq_j_list(j, 0, TQ_J_LIST, &list)); break;
    case TQ_J_STR: TQ_TRY(characters(j, v->s, &list)); break;
    case TQ_J_DICT: TQ_TRY(view_items(j, v->dict, TQ_J_KEYS, &list)); break;
    case TQ_J_VIEW: TQ_TRY(view_items(j, v->view->dict, v->view->kind, &list)); break;
    case TQ_J_RANGE:
        TQ_TRY(tq_j_list(j, v->range->len, TQ_J_LIST, &list));
        for (size_t i = 0; i < v->range->len; i++)
            TQ_TRY(tq_j_push(j, &list, tq_j_int(v->range->start + (int64_t)i * v->range->step)));
        break;
    case TQ_J_GEN:
        list.type = TQ_J_LIST;
        list.list = v->gen->list;
        TQ_TRY(tq_j_sublist(j, &list, v->gen->next, v->gen->list->len - v->gen->next, &list));
        v->gen->next = v->gen->list->len;
        break;
    default: return TQ_J_FAIL(j, "a %s cannot be iterated", tq_j_type_name(v));
    }
    TQ_J_STEP(j, list.list->len / 4);
    *items = list.list;
    return TOQUE_OK;
}
