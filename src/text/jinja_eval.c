/* Expressions of templates, evaluated by walking the tree. Every level is counted (tq_j_enter), so that neither a deep
 * tree nor a recursive macro can exhaust the stack. */
#include <string.h>

#include "text/jinja.h"

tq_jval tq_j_lookup(const tq_jrun *j, int32_t name) {
    for (const tq_jframe *f = j->frame; f; f = f->parent)
        for (size_t i = 0; i < f->len; i++)
            if (f->slots[i].name == name) return f->slots[i].value;
    return j->globals[name];
}

static toque_status name(tq_jrun *j, const tq_jnode *n, tq_jval *out) {
    *out = tq_j_lookup(j, n->name);
    if (out->type != TQ_J_MISSING) return TOQUE_OK;
    const tq_jname *id = &j->t->names[n->name];
    return tq_j_undefined(j, out, "'%.*s' is undefined", (int)(id->n < 100 ? id->n : 100), id->s);
}

static toque_status sequence(tq_jrun *j, const tq_jnode *n, tq_jval *out) {
    TQ_TRY(tq_j_list(j, 0, n->kind == TQ_JN_LIST ? TQ_J_LIST : TQ_J_TUPLE, out));
    for (const tq_jnode *e = n->list; e; e = e->next) {
        tq_jval item = {.type = TQ_J_MISSING};
        TQ_TRY(tq_j_eval(j, e, &item));
        TQ_TRY(tq_j_push(j, out, item));
    }
    return TOQUE_OK;
}

static toque_status dict(tq_jrun *j, const tq_jnode *n, tq_jval *out) {
    TQ_TRY(tq_j_dict(j, 0, TQ_J_DICT, out));
    for (const tq_jnode *e = n->list; e; e = e->next) {
        tq_jval key, value;
        TQ_TRY(tq_j_eval(j, e->a, &key));
        TQ_TRY(tq_j_eval(j, e->b, &value));
        TQ_TRY(tq_j_dict_set(j, out->dict, key, value));
    }
    return TOQUE_OK;
}

static toque_status item(tq_jrun *j, const tq_jnode *n, tq_jval *out) {
    tq_jval of, part[3];
    TQ_TRY(tq_j_eval(j, n->a, &of));
    if (n->b->kind != TQ_JN_SLICE) {
        TQ_TRY(tq_j_eval(j, n->b, &part[0]));
        return tq_j_item(j, &of, &part[0], out);
    }
    const tq_jnode *parts[] = {n->b->a, n->b->b, n->b->c};
    for (int i = 0; i < 3; i++) {
        part[i] = tq_j_none();
        if (parts[i]) TQ_TRY(tq_j_eval(j, parts[i], &part[i]));
    }
    return tq_j_slice(j, &of, part, out);
}

static toque_status add_keyword(tq_jrun *j, tq_jargs *args, tq_jval key, tq_jval value) {
    for (size_t i = 0; i < args->n_kw; i++)
        if (tq_jstr_equal(args->kw[i].name.s, key.s))
            return TQ_J_FAIL(j, "the argument '%.*s' is given twice", (int)(key.s->len < 60 ? key.s->len : 60),
                             tq_jstr_data(key.s));
    TQ_J_STEP(j, args->n_kw);
    args->kw[args->n_kw++] = (tq_jkw){key, value};
    return TOQUE_OK;
}

static toque_status spread_list(tq_jrun *j, tq_jargs *args, const tq_jval *v, size_t more) {
    const tq_jlist *items;
    TQ_TRY(tq_j_items(j, v, &items));
    tq_jval *pos = tq_j_alloc(j, args->n + items->len + more, sizeof *pos);
    if (!pos) return tq_j_full(j);
    if (args->n) memcpy(pos, args->pos, args->n * sizeof *pos);
    memcpy(pos + args->n, tq_jlist_items(items), items->len * sizeof *pos);
    args->pos = pos;
    args->n += items->len;
    return TOQUE_OK;
}

static toque_status spread_dict(tq_jrun *j, tq_jargs *args, const tq_jval *v) {
    if (v->type != TQ_J_DICT) return TQ_J_FAIL(j, "** needs a dict, not %s", tq_j_type_name(v));
    tq_jkw *kw = tq_j_alloc(j, args->n_kw + v->dict->len + 1, sizeof *kw);
    if (!kw) return tq_j_full(j);
    if (args->n_kw) memcpy(kw, args->kw, args->n_kw * sizeof *kw);
    args->kw = kw;
    for (size_t i = 0; i < v->dict->len; i++) {
        if (v->dict->keys[i].type != TQ_J_STR) return TQ_J_FAIL(j, "the keys behind ** must be strings");
        TQ_TRY(add_keyword(j, args, v->dict->keys[i], v->dict->values[i]));
    }
    return TOQUE_OK;
}

/* There is always room for one more keyword (the caller of a call block). */
toque_status tq_j_args(tq_jrun *j, const tq_jnode *list, tq_jargs *args) {
    size_t count = 0;
    for (const tq_jnode *e = list; e; e = e->next) count++;
    memset(args, 0, sizeof *args);
    args->pos = tq_j_alloc(j, count + 1, sizeof *args->pos);
    args->kw = args->pos ? tq_j_alloc(j, count + 1, sizeof *args->kw) : NULL;
    if (!args->kw) return tq_j_full(j);
    for (const tq_jnode *e = list; e; e = e->next) {
        tq_jval v;
        bool wrapped = e->kind == TQ_JN_KWARG || e->kind == TQ_JN_STAR || e->kind == TQ_JN_STARSTAR;
        TQ_TRY(tq_j_eval(j, wrapped ? e->a : e, &v));
        if (e->kind == TQ_JN_KWARG)
            TQ_TRY(add_keyword(j, args, e->value, v));
        else if (e->kind == TQ_JN_STAR)
            TQ_TRY(spread_list(j, args, &v, count));
        else if (e->kind == TQ_JN_STARSTAR)
            TQ_TRY(spread_dict(j, args, &v));
        else
            args->pos[args->n++] = v;
    }
    return TOQUE_OK;
}

static toque_status call(tq_jrun *j, const tq_jnode *n, tq_jval *out) {
    tq_jval f;
    tq_jargs args;
    TQ_TRY(tq_j_eval(j, n->a, &f));
    TQ_TRY(tq_j_args(j, n->list, &args));
    j->line = n->line;
    return tq_j_call(j, &f, &args, out);
}

static toque_status unknown(tq_jrun *j, const char *what, const tq_jnode *n) {
    const tq_jstr *s = n->value.s;
    return TQ_J_FAIL(j, "there is no %s named '%.*s'", what, (int)(s->len < 60 ? s->len : 60), tq_jstr_data(s));
}

toque_status tq_j_filter_node(tq_jrun *j, const tq_jnode *n, const tq_jval *in, tq_jval *out) {
    tq_jval v;
    tq_jargs args;
    TQ_TRY(tq_j_enter(j));
    if (!n->a)
        v = in ? *in : tq_j_none(); /* only a block's filters begin without an operand, and they have a text */
    else if (n->a->kind == TQ_JN_FILTER)
        TQ_TRY(tq_j_filter_node(j, n->a, in, &v));
    else
        TQ_TRY(tq_j_eval(j, n->a, &v));
    TQ_TRY(tq_j_args(j, n->list, &args));
    j->line = n->line;
    if (!n->def) return unknown(j, "filter", n);
    TQ_TRY(tq_j_run_filter(j, n->def, &v, &args, out));
    tq_j_leave(j);
    return TOQUE_OK;
}

static toque_status test(tq_jrun *j, const tq_jnode *n, tq_jval *out) {
    tq_jval v;
    tq_jargs args;
    bool yes;
    TQ_TRY(tq_j_eval(j, n->a, &v));
    TQ_TRY(tq_j_args(j, n->list, &args));
    if (!n->def) return unknown(j, "test", n);
    TQ_TRY(tq_j_run_test(j, n->def, &v, &args, &yes));
    *out = tq_j_bool(yes);
    return TOQUE_OK;
}

static toque_status negative(tq_jrun *j, const tq_jnode *n, tq_jval *out) {
    tq_jval v;
    TQ_TRY(tq_j_eval(j, n->a, &v));
    if (v.type == TQ_J_UNDEFINED) return tq_j_use_undefined(j, &v);
    if (!tq_j_is_number(&v)) return TQ_J_FAIL(j, "a %s has no sign", tq_j_type_name(&v));
    if (v.type == TQ_J_FLOAT) {
        *out = tq_j_float(n->kind == TQ_JN_NEG ? -v.f : v.f);
        return TOQUE_OK;
    }
    tq_jval zero = tq_j_int(0);
    return tq_j_binary(j, n->kind == TQ_JN_NEG ? TQ_JO_SUB : TQ_JO_ADD, &zero, &v, out);
}

static toque_status concat(tq_jrun *j, const tq_jnode *n, tq_jval *out) {
    tq_jval v;
    TQ_TRY(tq_j_eval(j, n->list, &v));
    TQ_TRY(tq_j_str(j, &v, out));
    out->safe = false;
    for (const tq_jnode *e = n->list->next; e; e = e->next) {
        tq_jval text;
        TQ_TRY(tq_j_eval(j, e, &v));
        TQ_TRY(tq_j_str(j, &v, &text));
        TQ_TRY(tq_j_cat(j, out->s, text.s, out));
    }
    return TOQUE_OK;
}

static toque_status compare(tq_jrun *j, const tq_jnode *n, tq_jval *out) {
    tq_jval left, right;
    bool yes = true;
    TQ_TRY(tq_j_eval(j, n->a, &left));
    for (const tq_jnode *e = n->list; e && yes; e = e->next) {
        TQ_TRY(tq_j_eval(j, e->a, &right));
        TQ_TRY(tq_j_relation(j, e->op, &left, &right, &yes));
        left = right;
    }
    *out = tq_j_bool(yes);
    return TOQUE_OK;
}

static toque_status binary(tq_jrun *j, const tq_jnode *n, tq_jval *out) {
    tq_jval a, b;
    TQ_TRY(tq_j_eval(j, n->a, &a));
    TQ_TRY(tq_j_eval(j, n->b, &b));
    j->line = n->line;
    return tq_j_binary(j, n->op, &a, &b, out);
}

static toque_status attr(tq_jrun *j, const tq_jnode *n, tq_jval *out) {
    tq_jval of;
    TQ_TRY(tq_j_eval(j, n->a, &of));
    j->line = n->line;
    return tq_j_attr(j, &of, &n->value, out);
}

static toque_status condition(tq_jrun *j, const tq_jnode *n, tq_jval *out) {
    tq_jval v;
    TQ_TRY(tq_j_eval(j, n->b, &v));
    if (tq_j_true(&v)) return tq_j_eval(j, n->a, out);
    if (n->c) return tq_j_eval(j, n->c, out);
    return tq_j_undefined(j, out, "the inline if has no else, and its condition is false");
}

static toque_status logic(tq_jrun *j, const tq_jnode *n, tq_jval *out) {
    TQ_TRY(tq_j_eval(j, n->a, out));
    if (n->kind == TQ_JN_NOT) {
        *out = tq_j_bool(!tq_j_true(out));
        return TOQUE_OK;
    }
    return tq_j_true(out) == (n->kind == TQ_JN_AND) ? tq_j_eval(j, n->b, out) : TOQUE_OK;
}

static toque_status dispatch(tq_jrun *j, const tq_jnode *n, tq_jval *out) {
    switch ((tq_jkind)n->kind) {
    case TQ_JN_CONST: *out = n->value; return TOQUE_OK;
    case TQ_JN_NAME: return name(j, n, out);
    case TQ_JN_TUPLE:
    case TQ_JN_LIST: return sequence(j, n, out);
    case TQ_JN_DICT: return dict(j, n, out);
    case TQ_JN_ATTR: return attr(j, n, out);
    case TQ_JN_ITEM: return item(j, n, out);
    case TQ_JN_SLICE: return TQ_J_FAIL(j, "a slice cannot be one of several indices");
    case TQ_JN_CALL: return call(j, n, out);
    case TQ_JN_FILTER: return tq_j_filter_node(j, n, NULL, out);
    case TQ_JN_TEST: return test(j, n, out);
    case TQ_JN_NEG:
    case TQ_JN_POS: return negative(j, n, out);
    case TQ_JN_NOT:
    case TQ_JN_AND:
    case TQ_JN_OR: return logic(j, n, out);
    case TQ_JN_BINARY: return binary(j, n, out);
    case TQ_JN_CONCAT: return concat(j, n, out);
    case TQ_JN_COMPARE: return compare(j, n, out);
    case TQ_JN_COND: return condition(j, n, out);
    default: return TQ_FAIL(j->err, EINTERNAL, "node %d is no expression", n->kind);
    }
}

toque_status tq_j_eval(tq_jrun *j, const tq_jnode *n, tq_jval *out) {
    TQ_J_STEP(j, 1);
    TQ_TRY(tq_j_enter(j));
    out->type = TQ_J_MISSING;
    TQ_TRY(dispatch(j, n, out));
    tq_j_leave(j);
    return TOQUE_OK;
}
