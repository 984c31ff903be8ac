/* Operators, attribute access and calls of the template interpreter, with Python's results and the refusals of jinja2's
 * immutable sandbox. Integers have 64 bits; a result beyond is an error, never a wrong number. */
#include <math.h>
#include <string.h>

#include "text/jinja.h"

static toque_status no_operator(tq_jrun *j, const char *op, const tq_jval *a, const tq_jval *b) {
    return TQ_J_FAIL(j, "`%s` is not defined for %s and %s", op, tq_j_type_name(a), tq_j_type_name(b));
}

static toque_status too_large(tq_jrun *j) {
    return TQ_FAIL(j->err, ELIMIT, "an integer result is over 64 bits");
}

static toque_status integer_power(tq_jrun *j, int64_t a, int64_t n, tq_jval *out) {
    int64_t r = 1;
    if (n < 0) {
        if (a == 0) return TQ_J_FAIL(j, "0 cannot be raised to a negative power");
        *out = tq_j_float(pow((double)a, (double)n));
        return TOQUE_OK;
    }
    while (n > 0) {
        if ((n & 1) && __builtin_mul_overflow(r, a, &r)) return too_large(j);
        n >>= 1;
        if (n && __builtin_mul_overflow(a, a, &a)) return too_large(j);
    }
    *out = tq_j_int(r);
    return TOQUE_OK;
}

static toque_status integers(tq_jrun *j, tq_jop op, int64_t a, int64_t b, tq_jval *out) {
    int64_t r = 0;
    bool bad = false;
    if ((op == TQ_JO_DIV || op == TQ_JO_FLOORDIV || op == TQ_JO_MOD) && b == 0) return TQ_J_FAIL(j, "division by zero");
    if ((op == TQ_JO_FLOORDIV || op == TQ_JO_MOD) && b == -1) { /* INT64_MIN / -1 traps */
        if (op == TQ_JO_FLOORDIV) bad = __builtin_sub_overflow((int64_t)0, a, &r);
    } else if (op == TQ_JO_FLOORDIV) {
        r = a / b - ((a % b != 0) && ((a < 0) != (b < 0)));
    } else if (op == TQ_JO_MOD) {
        r = a % b;
        if (r && (r < 0) != (b < 0)) r += b;
    } else if (op == TQ_JO_ADD) {
        bad = __builtin_add_overflow(a, b, &r);
    } else if (op == TQ_JO_SUB) {
        bad = __builtin_sub_overflow(a, b, &r);
    } else if (op == TQ_JO_MUL) {
        bad = __builtin_mul_overflow(a, b, &r);
    } else if (op == TQ_JO_DIV) {
        *out = tq_j_float((double)a / (double)b);
        return TOQUE_OK;
    } else {
        return integer_power(j, a, b, out);
    }
    if (bad) return too_large(j);
    *out = tq_j_int(r);
    return TOQUE_OK;
}

static toque_status floats(tq_jrun *j, tq_jop op, double a, double b, tq_jval *out) {
    double r = 0;
    if ((op == TQ_JO_DIV || op == TQ_JO_FLOORDIV || op == TQ_JO_MOD) && b == 0) return TQ_J_FAIL(j, "division by zero");
    if (op == TQ_JO_ADD) r = a + b;
    if (op == TQ_JO_SUB) r = a - b;
    if (op == TQ_JO_MUL) r = a * b;
    if (op == TQ_JO_DIV) r = a / b;
    if (op == TQ_JO_POW) r = pow(a, b);
    if (op == TQ_JO_POW && ((a == 0 && b < 0) || (isnan(r) && !isnan(a) && !isnan(b))))
        return TQ_J_FAIL(j, "this power is not a real number");
    if (op == TQ_JO_MOD || op == TQ_JO_FLOORDIV) {
        double m = fmod(a, b);
        if (m != 0 && (m < 0) != (b < 0)) m += b;
        if (m == 0) m = copysign(0, b);
        double q = (a - m) / b, whole = floor(q);
        if (q - whole > 0.5) whole += 1; /* q is a whole number but for rounding */
        r = op == TQ_JO_MOD ? m : whole;
    }
    *out = tq_j_float(r);
    return TOQUE_OK;
}

static toque_status repeat(tq_jrun *j, const tq_jval *v, int64_t times, tq_jval *out) {
    size_t len = v->type == TQ_J_STR ? v->s->len : v->list->len, total;
    if (times < 0) times = 0;
    if (__builtin_mul_overflow(len, (size_t)times, &total) || total > j->max_bytes)
        return TQ_FAIL(j->err, ELIMIT, "a repetition of %zu by %lld is too large", len, (long long)times);
    TQ_J_STEP(j, total / 16);
    if (!len) times = 0;
    if (v->type == TQ_J_STR) {
        tq_jbytes *b = tq_j_bytes(j, total);
        if (!b) return tq_j_full(j);
        while (times-- > 0) TQ_TRY(tq_j_put_str(j, b, v->s));
        TQ_TRY(tq_j_finish(j, b, out));
        out->safe = v->safe;
        return TOQUE_OK;
    }
    TQ_TRY(tq_j_list(j, total, v->type, out));
    for (; times > 0; times--)
        for (size_t i = 0; i < len; i++) TQ_TRY(tq_j_push(j, out, tq_jlist_items(v->list)[i]));
    return TOQUE_OK;
}

static toque_status add_strings(tq_jrun *j, const tq_jval *a, const tq_jval *b, tq_jval *out) {
    tq_jval left = *a, right = *b;
    bool safe = a->safe || b->safe;
    if (safe && !a->safe) TQ_TRY(tq_j_escape(j, a, &left));
    if (safe && !b->safe) TQ_TRY(tq_j_escape(j, b, &right));
    TQ_TRY(tq_j_cat(j, left.s, right.s, out));
    out->safe = safe;
    return TOQUE_OK;
}

static bool sequence(const tq_jval *v) {
    return v->type == TQ_J_STR || v->type == TQ_J_LIST || v->type == TQ_J_TUPLE;
}

toque_status tq_j_binary(tq_jrun *j, tq_jop op, const tq_jval *a, const tq_jval *b, tq_jval *out) {
    static const char *const names[] = {"", "+", "-", "*", "/", "//", "%", "**"};
    TQ_J_STEP(j, 1);
    if (op == TQ_JO_MOD && a->type == TQ_J_STR) return tq_j_percent(j, a->s, b, out);
    if (a->type == TQ_J_UNDEFINED) return tq_j_use_undefined(j, a);
    if (b->type == TQ_J_UNDEFINED) return tq_j_use_undefined(j, b);
    if (tq_j_is_int(a) && tq_j_is_int(b)) return integers(j, op, tq_j_as_int(a), tq_j_as_int(b), out);
    if (tq_j_is_number(a) && tq_j_is_number(b)) return floats(j, op, tq_j_as_float(a), tq_j_as_float(b), out);
    if (op == TQ_JO_ADD && a->type == b->type) {
        if (a->type == TQ_J_STR) return add_strings(j, a, b, out);
        if (a->type == TQ_J_LIST || a->type == TQ_J_TUPLE) return tq_j_join_lists(j, a, b, out);
    }
    if (op == TQ_JO_MUL && sequence(a) && tq_j_is_int(b)) return repeat(j, a, tq_j_as_int(b), out);
    if (op == TQ_JO_MUL && sequence(b) && tq_j_is_int(a)) return repeat(j, b, tq_j_as_int(a), out);
    return no_operator(j, names[op], a, b);
}

toque_status tq_j_relation(tq_jrun *j, tq_jop op, const tq_jval *a, const tq_jval *b, bool *yes) {
    TQ_J_STEP(j, 1);
    if (op == TQ_JO_IN || op == TQ_JO_NOTIN || op == TQ_JO_EQ || op == TQ_JO_NE) {
        if (op == TQ_JO_IN || op == TQ_JO_NOTIN)
            TQ_TRY(tq_j_contains(j, b, a, yes));
        else
            TQ_TRY(tq_j_equal(j, a, b, yes));
        if (op == TQ_JO_NOTIN || op == TQ_JO_NE) *yes = !*yes;
        return TOQUE_OK;
    }
    int order;
    TQ_TRY(tq_j_compare(j, a, b, &order));
    if (order == 2)
        *yes = false; /* not a number */
    else
        *yes = op == TQ_JO_LT ? order < 0 : op == TQ_JO_LE ? order <= 0 : op == TQ_JO_GT ? order > 0 : order >= 0;
    return TOQUE_OK;
}

/* ---- attributes and items ---- */

static toque_status bind_method(tq_jrun *j, const tq_jval *of, const tq_jmethod *method, tq_jval *out) {
    tq_jbound *b = tq_j_alloc(j, 1, sizeof *b);
    if (!b) return tq_j_full(j);
    *b = (tq_jbound){*of, method};
    *out = (tq_jval){.type = TQ_J_METHOD, .message = -1, .bound = b};
    return TOQUE_OK;
}

static toque_status loop_attr(tq_jrun *j, const tq_jloop *l, const tq_jval *name, tq_jval *out, bool *found) {
    int64_t index = (int64_t)l->index0, len = (int64_t)l->items->len;
    const tq_jval *items = tq_jlist_items(l->items);
    *found = true;
    if (tq_jstr_is(name, "index"))
        *out = tq_j_int(index + 1);
    else if (tq_jstr_is(name, "index0"))
        *out = tq_j_int(index);
    else if (tq_jstr_is(name, "revindex"))
        *out = tq_j_int(len - index);
    else if (tq_jstr_is(name, "revindex0"))
        *out = tq_j_int(len - index - 1);
    else if (tq_jstr_is(name, "first"))
        *out = tq_j_bool(index == 0);
    else if (tq_jstr_is(name, "last"))
        *out = tq_j_bool(index + 1 == len);
    else if (tq_jstr_is(name, "length"))
        *out = tq_j_int(len);
    else if (tq_jstr_is(name, "depth"))
        *out = tq_j_int((int64_t)l->depth0 + 1);
    else if (tq_jstr_is(name, "depth0"))
        *out = tq_j_int((int64_t)l->depth0);
    else if (tq_jstr_is(name, "previtem") && index > 0)
        *out = items[index - 1];
    else if (tq_jstr_is(name, "previtem"))
        return tq_j_undefined(j, out, "there is no previous item");
    else if (tq_jstr_is(name, "nextitem") && index + 1 < len)
        *out = items[index + 1];
    else if (tq_jstr_is(name, "nextitem"))
        return tq_j_undefined(j, out, "there is no next item");
    else
        *found = false;
    return TOQUE_OK;
}

static bool one_of(const tq_jval *name, const char *const *names) {
    for (; *names; names++)
        if (tq_jstr_is(name, *names)) return true;
    return false;
}

/* What getattr() of Python finds: methods, a namespace's values, a loop's state; *found is false otherwise. */
static toque_status python_attr(tq_jrun *j, const tq_jval *of, const tq_jval *name, tq_jval *out, bool *found) {
    static const char *const changes_list[] = {"append", "clear",  "pop",    "reverse", "insert",
                                               "sort",   "extend", "remove", NULL};
    static const char *const changes_dict[] = {"clear", "pop", "popitem", "setdefault", "update", NULL};
    const char *s = tq_jstr_data(name->s);
    size_t n = name->s->len;
    *found = true;
    if (of->type == TQ_J_UNDEFINED) return tq_j_use_undefined(j, of);
    if (of->type == TQ_J_NAMESPACE) {
        tq_jval *v;
        TQ_TRY(tq_j_dict_get(j, of->dict, name, &v));
        if (v)
            *out = *v;
        else
            *found = false;
        return TOQUE_OK;
    }
    if (of->type == TQ_J_LOOP) {
        TQ_TRY(loop_attr(j, of->loop, name, out, found));
        if (*found) return TOQUE_OK;
        *found = true;
    }
    const tq_jmethod *method = tq_j_find_method(of->type, s, n);
    if (method) return bind_method(j, of, method, out);
    if ((of->type == TQ_J_LIST && one_of(name, changes_list)) ||
        (of->type == TQ_J_DICT && one_of(name, changes_dict)) ||
        (n > 4 && memcmp(s, "__", 2) == 0 && memcmp(s + n - 2, "__", 2) == 0))
        return tq_j_undefined(j, out, "access to attribute '%.*s' of a %s is unsafe: templates cannot change values",
                              (int)(n < 60 ? n : 60), s, tq_j_type_name(of));
    *found = false;
    return TOQUE_OK;
}

static toque_status subscript(tq_jrun *j, const tq_jval *of, const tq_jval *key, tq_jval *out, bool *found) {
    *found = false;
    if (of->type == TQ_J_UNDEFINED) return tq_j_use_undefined(j, of);
    if (of->type == TQ_J_DICT) {
        tq_jval *v;
        if (key->type == TQ_J_LIST || key->type == TQ_J_DICT) return TOQUE_OK;
        TQ_TRY(tq_j_dict_get(j, of->dict, key, &v));
        if (v) *out = *v;
        *found = v != NULL;
        return TOQUE_OK;
    }
    if (!tq_j_is_int(key) || (!sequence(of) && of->type != TQ_J_RANGE)) return TOQUE_OK;
    size_t len;
    bool known;
    TQ_TRY(tq_j_len(j, of, &len, &known));
    int64_t at = tq_j_as_int(key);
    if (at < 0) at += (int64_t)len;
    if (at < 0 || at >= (int64_t)len) return TOQUE_OK;
    *found = true;
    if (of->type == TQ_J_RANGE)
        *out = tq_j_int(of->range->start + at * of->range->step);
    else if (of->type != TQ_J_STR)
        *out = tq_jlist_items(of->list)[at];
    if (of->type != TQ_J_STR) return TOQUE_OK;
    size_t start = tq_jstr_offset(of->s, (size_t)at);
    int32_t cp;
    TQ_J_STEP(j, len == of->s->len ? 0 : start / 16);
    size_t n = tq_j_decode(tq_jstr_data(of->s) + start, of->s->len - start, &cp);
    TQ_TRY(tq_j_sub(j, of->s, start, n, out));
    out->safe = of->safe;
    return TOQUE_OK;
}

static toque_status missing(tq_jrun *j, const tq_jval *of, const tq_jval *key, tq_jval *out) {
    if (key->type == TQ_J_STR)
        return tq_j_undefined(j, out, "'%s object' has no attribute '%.*s'", tq_j_type_name(of),
                              (int)(key->s->len < 100 ? key->s->len : 100), tq_jstr_data(key->s));
    if (tq_j_is_int(key))
        return tq_j_undefined(j, out, "%s object has no element %lld", tq_j_type_name(of), (long long)tq_j_as_int(key));
    return tq_j_undefined(j, out, "%s object has no such element", tq_j_type_name(of));
}

toque_status tq_j_attr(tq_jrun *j, const tq_jval *of, const tq_jval *name, tq_jval *out) {
    bool found;
    TQ_J_STEP(j, 1);
    TQ_TRY(python_attr(j, of, name, out, &found));
    if (!found) TQ_TRY(subscript(j, of, name, out, &found));
    return found ? TOQUE_OK : missing(j, of, name, out);
}

toque_status tq_j_item(tq_jrun *j, const tq_jval *of, const tq_jval *key, tq_jval *out) {
    bool found;
    TQ_J_STEP(j, 1);
    TQ_TRY(subscript(j, of, key, out, &found));
    if (!found && key->type == TQ_J_STR) TQ_TRY(python_attr(j, of, key, out, &found));
    return found ? TOQUE_OK : missing(j, of, key, out);
}

/* Python's slice.indices(): clips start and stop; *count items from *start in steps of step. */
static void clip(const tq_jval part[3], int64_t len, int64_t step, int64_t *start, size_t *count) {
    int64_t low = step < 0 ? -1 : 0, high = step < 0 ? len - 1 : len,
            bound[2] = {step < 0 ? high : low, step < 0 ? low : high};
    for (int i = 0; i < 2; i++) {
        if (part[i].type == TQ_J_NONE) continue;
        int64_t v = tq_j_as_int(&part[i]);
        if (v < 0) v = v < -len ? low : v + len;
        if (v < low) v = low;
        bound[i] = v > high ? high : v;
    }
    *start = bound[0];
    *count = 0;
    if (step > 0 && bound[1] > bound[0]) *count = (size_t)((bound[1] - bound[0] - 1) / step + 1);
    if (step < 0 && bound[0] > bound[1]) *count = (size_t)((bound[0] - bound[1] - 1) / -step + 1);
}

static toque_status slice_string(tq_jrun *j, tq_jstr *s, int64_t start, int64_t step, size_t count, tq_jval *out) {
    TQ_J_STEP(j, s->chars == s->len ? 0 : s->len / 16);
    if (step == 1 || count < 2) {
        size_t from = tq_jstr_offset(s, (size_t)(start < 0 ? 0 : start));
        size_t to = count ? tq_jstr_offset(s, (size_t)start + count) : from;
        return tq_j_sub(j, s, from, to - from, out);
    }
    size_t *offsets = tq_j_alloc(j, s->chars + 1, sizeof *offsets), n = 0;
    tq_jbytes *b = offsets ? tq_j_bytes(j, s->len) : NULL;
    if (!b) return tq_j_full(j);
    for (size_t i = 0; i < s->len; i++)
        if (((unsigned char)tq_jstr_data(s)[i] & 0xC0) != 0x80) offsets[n++] = i;
    offsets[n] = s->len;
    for (size_t i = 0; i < count; i++, start += step)
        TQ_TRY(tq_j_put_part(j, b, s, offsets[start], offsets[start + 1] - offsets[start]));
    return tq_j_finish(j, b, out);
}

toque_status tq_j_slice(tq_jrun *j, const tq_jval *of, const tq_jval part[3], tq_jval *out) {
    for (int i = 0; i < 3; i++)
        if (part[i].type != TQ_J_NONE && !tq_j_is_int(&part[i]))
            return TQ_J_FAIL(j, "a slice needs integers, not %s", tq_j_type_name(&part[i]));
    int64_t step = part[2].type == TQ_J_NONE ? 1 : tq_j_as_int(&part[2]), start;
    size_t len, count;
    bool known;
    if (of->type == TQ_J_UNDEFINED) return tq_j_use_undefined(j, of);
    if (!sequence(of) && of->type != TQ_J_RANGE) return TQ_J_FAIL(j, "a %s cannot be sliced", tq_j_type_name(of));
    if (step == 0) return TQ_J_FAIL(j, "the step of a slice cannot be 0");
    if (step < -INT64_MAX) step = -INT64_MAX;
    TQ_TRY(tq_j_len(j, of, &len, &known));
    clip(part, (int64_t)len, step, &start, &count);
    if (of->type == TQ_J_STR) {
        TQ_TRY(slice_string(j, of->s, start, step, count, out));
        out->safe = of->safe;
        return TOQUE_OK;
    }
    if (of->type == TQ_J_RANGE) {
        tq_jrange *r = tq_j_alloc(j, 1, sizeof *r);
        if (!r) return tq_j_full(j);
        *r = (tq_jrange){of->range->start + start * of->range->step, count > 1 ? of->range->step * step : 1, count};
        *out = (tq_jval){.type = TQ_J_RANGE, .message = -1, .range = r};
        return TOQUE_OK;
    }
    if (step == 1 || count < 2) {
        TQ_TRY(tq_j_sublist(j, of, (size_t)(start < 0 ? 0 : start), count, out));
    } else {
        TQ_J_STEP(j, count / 4);
        TQ_TRY(tq_j_list(j, count, of->type, out));
        for (size_t i = 0; i < count; i++, start += step) TQ_TRY(tq_j_push(j, out, tq_jlist_items(of->list)[start]));
    }
    out->message = of->message;
    out->field = of->field;
    return TOQUE_OK;
}

/* ---- calls ---- */

/* Position of `name` among the parameters, or -1. */
static int parameter(const char *params, const tq_jval *name) {
    int at = 0;
    for (const char *p = params; *p; at++) {
        if (*p == '?') p++;
        size_t n = strcspn(p, " ");
        if (name->s->len == n && memcmp(p, tq_jstr_data(name->s), n) == 0) return at;
        p += n;
        p += *p == ' ';
    }
    return -1;
}

toque_status tq_j_bind(tq_jrun *j, const char *what, const char *params, const tq_jargs *args,
                       tq_jval out[TQ_J_PARAMS]) {
    size_t count = 0, needed = 0;
    bool optional = false;
    for (int i = 0; i < TQ_J_PARAMS; i++) out[i] = (tq_jval){.type = TQ_J_MISSING};
    if (*params == '*') return TOQUE_OK;
    for (const char *p = params; *p; p += strcspn(p, " "), p += *p == ' ') {
        if (*p == '?') optional = true;
        count++;
        needed += !optional;
    }
    if (args->n > count) return TQ_J_FAIL(j, "%s takes at most %zu arguments, not %zu", what, count, args->n);
    for (size_t i = 0; i < args->n; i++) out[i] = args->pos[i];
    for (size_t i = 0; i < args->n_kw; i++) {
        const tq_jval *name = &args->kw[i].name;
        int at = parameter(params, name);
        if (at < 0)
            return TQ_J_FAIL(j, "%s has no parameter '%.*s'", what, (int)(name->s->len < 60 ? name->s->len : 60),
                             tq_jstr_data(name->s));
        if (out[at].type != TQ_J_MISSING) return TQ_J_FAIL(j, "%s got a parameter twice", what);
        out[at] = args->kw[i].value;
    }
    for (size_t i = 0; i < needed; i++)
        if (out[i].type == TQ_J_MISSING) return TQ_J_FAIL(j, "%s needs %zu arguments", what, needed);
    return TOQUE_OK;
}

static toque_status join_next(tq_jrun *j, tq_jcycler *c, tq_jval *out) {
    if (!c->next++) return tq_j_text(j, "", 0, tq_j_template_origin, out);
    *out = tq_jlist_items(c->items)[0];
    return TOQUE_OK;
}

toque_status tq_j_call(tq_jrun *j, const tq_jval *f, const tq_jargs *args, tq_jval *out) {
    tq_jval p[TQ_J_PARAMS];
    toque_status status = TOQUE_OK;
    TQ_J_STEP(j, 2);
    TQ_TRY(tq_j_enter(j));
    switch ((tq_jtype)f->type) {
    case TQ_J_UNDEFINED: return tq_j_use_undefined(j, f);
    case TQ_J_MACRO: status = tq_j_call_macro(j, f->macro, args, out); break;
    case TQ_J_FUNC:
        TQ_TRY(tq_j_bind(j, f->func->name, f->func->params, args, p));
        status = f->func->run(j, p, args, out);
        break;
    case TQ_J_METHOD:
        TQ_TRY(tq_j_bind(j, f->bound->method->name, f->bound->method->params, args, p));
        status = f->bound->method->run(j, &f->bound->self, p, args, out);
        break;
    case TQ_J_LOOP:
        TQ_TRY(tq_j_bind(j, "loop", "iterable", args, p));
        status = tq_j_loop_again(j, f->loop, &p[0], out);
        break;
    case TQ_J_JOINER:
        TQ_TRY(tq_j_bind(j, "joiner", "", args, p));
        status = join_next(j, f->cycler, out);
        break;
    default: return TQ_J_FAIL(j, "a %s cannot be called", tq_j_type_name(f));
    }
    tq_j_leave(j);
    return status;
}
