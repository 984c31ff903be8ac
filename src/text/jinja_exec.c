/* Statements of templates: output, scopes, loops, macros. Scopes are chains of frames; a name is looked up outwards and
 * set in the innermost. As in jinja2 a loop's body, a macro, with, and the bodies of set, filter, call and generation
 * blocks are scopes of their own (what they set is gone behind them), an if is not. */
#include <string.h>

#include "text/jinja.h"

toque_status tq_j_scope(tq_jrun *j, tq_jframe *parent, tq_jframe **frame) {
    tq_jframe *f = tq_j_alloc(j, 1, sizeof *f);
    if (!f) return tq_j_full(j);
    f->parent = parent;
    *frame = f;
    return TOQUE_OK;
}

toque_status tq_j_assign(tq_jrun *j, int32_t name, tq_jval v) {
    tq_jframe *f = j->frame;
    for (size_t i = 0; i < f->len; i++)
        if (f->slots[i].name == name) {
            f->slots[i].value = v;
            return TOQUE_OK;
        }
    if (f->len == f->cap) {
        size_t cap = f->cap ? f->cap * 2 : 4;
        struct tq_jslot *slots = tq_j_alloc(j, cap, sizeof *slots);
        if (!slots) return tq_j_full(j);
        if (f->len) memcpy(slots, f->slots, f->len * sizeof *slots);
        f->slots = slots;
        f->cap = cap;
    }
    f->slots[f->len++] = (struct tq_jslot){name, v};
    return TOQUE_OK;
}

static toque_status set_attribute(tq_jrun *j, const tq_jnode *n, const tq_jval *v) {
    tq_jval ns = tq_j_lookup(j, n->name);
    const tq_jstr *key = n->value.s;
    if (ns.type != TQ_J_NAMESPACE)
        return TQ_J_FAIL(j, "cannot set the attribute '%.*s' of something that is no namespace",
                         (int)(key->len < 60 ? key->len : 60), tq_jstr_data(key));
    if (key->len && tq_jstr_data(key)[0] == '_')
        return TQ_J_FAIL(j, "an attribute of a namespace cannot begin with an underscore");
    return tq_j_dict_set(j, ns.dict, n->value, *v);
}

static toque_status assign(tq_jrun *j, const tq_jnode *target, const tq_jval *v) {
    if (target->kind == TQ_JN_NAME) return tq_j_assign(j, target->name, *v);
    if (target->kind == TQ_JN_NSREF) return set_attribute(j, target, v);
    const tq_jlist *items;
    size_t i = 0;
    TQ_TRY(tq_j_items(j, v, &items));
    TQ_TRY(tq_j_enter(j));
    for (const tq_jnode *t = target->list; t; t = t->next, i++) {
        if (i == items->len) return TQ_J_FAIL(j, "%zu values are too few to unpack", items->len);
        TQ_TRY(assign(j, t, &tq_jlist_items(items)[i]));
    }
    if (i != items->len) return TQ_J_FAIL(j, "%zu values are too many to unpack into %zu", items->len, i);
    tq_j_leave(j);
    return TOQUE_OK;
}

/* Runs a body in a new scope inside `parent` and catches what it writes. prepared: the scope, or NULL for a new one. */
static toque_status capture(tq_jrun *j, const tq_jnode *list, tq_jframe *parent, tq_jframe *prepared, tq_jval *text) {
    tq_jframe *outer = j->frame, *frame = prepared;
    tq_jbytes *out = j->out, *mine = tq_j_bytes(j, 128);
    if (!mine) return tq_j_full(j);
    if (!frame) TQ_TRY(tq_j_scope(j, parent, &frame));
    j->frame = frame;
    j->out = mine;
    TQ_TRY(tq_j_body(j, list));
    j->frame = outer;
    j->out = out;
    return tq_j_finish(j, mine, text);
}

/* ---- macros ---- */

static toque_status macro_value(tq_jrun *j, const tq_jnode *n, tq_jval *out) {
    tq_jmacro *m = tq_j_alloc(j, 1, sizeof *m);
    if (!m) return tq_j_full(j);
    *m = (tq_jmacro){n, j->frame};
    *out = (tq_jval){.type = TQ_J_MACRO, .message = -1, .macro = m};
    return TOQUE_OK;
}

/* Takes the keyword out of the arguments; MISSING if it is not there. */
static tq_jval take_keyword(tq_jargs *args, const char *s, size_t n) {
    for (size_t i = 0; i < args->n_kw; i++) {
        const tq_jstr *name = args->kw[i].name.s;
        if (name->len != n || memcmp(tq_jstr_data(name), s, n) != 0) continue;
        tq_jval v = args->kw[i].value;
        memmove(args->kw + i, args->kw + i + 1, (args->n_kw - i - 1) * sizeof *args->kw);
        args->n_kw--;
        return v;
    }
    return (tq_jval){.type = TQ_J_MISSING};
}

/* What is left over: caller, kwargs, varargs, as far as the body uses them. */
static toque_status special_arguments(tq_jrun *j, const tq_jnode *n, tq_jargs *args, size_t used, bool has_caller) {
    tq_jval v;
    if (n->caller && !has_caller) {
        v = take_keyword(args, "caller", 6);
        if (v.type == TQ_J_MISSING || v.type == TQ_J_NONE) TQ_TRY(tq_j_undefined(j, &v, "no caller is defined"));
        TQ_TRY(tq_j_assign(j, j->t->caller, v));
    }
    if (n->kwargs) {
        TQ_TRY(tq_j_dict(j, args->n_kw, TQ_J_DICT, &v));
        for (size_t i = 0; i < args->n_kw; i++) TQ_TRY(tq_j_dict_set(j, v.dict, args->kw[i].name, args->kw[i].value));
        TQ_TRY(tq_j_assign(j, j->t->kwargs, v));
    } else if (args->n_kw) {
        const tq_jstr *name = args->kw[0].name.s;
        return TQ_J_FAIL(j, "macro '%.*s' has no parameter '%.*s'", (int)(n->value.s->len < 60 ? n->value.s->len : 60),
                         tq_jstr_data(n->value.s), (int)(name->len < 60 ? name->len : 60), tq_jstr_data(name));
    }
    if (n->varargs) {
        TQ_TRY(tq_j_list(j, args->n - used, TQ_J_TUPLE, &v));
        for (size_t i = used; i < args->n; i++) TQ_TRY(tq_j_push(j, &v, args->pos[i]));
        TQ_TRY(tq_j_assign(j, j->t->varargs, v));
    } else if (args->n > used) {
        return TQ_J_FAIL(j, "macro '%.*s' takes not more than %zu arguments",
                         (int)(n->value.s->len < 60 ? n->value.s->len : 60), tq_jstr_data(n->value.s), used);
    }
    return TOQUE_OK;
}

/* In the macro's scope: its parameters, then the defaults, which may use earlier parameters. */
static toque_status bind_parameters(tq_jrun *j, const tq_jnode *n, const tq_jargs *given) {
    tq_jargs args = *given;
    size_t used = 0;
    bool has_caller = false;
    args.kw = tq_j_alloc(j, given->n_kw + 1, sizeof *args.kw);
    if (!args.kw) return tq_j_full(j);
    if (given->n_kw) memcpy(args.kw, given->kw, given->n_kw * sizeof *args.kw);
    for (const tq_jnode *p = n->params; p; p = p->next) {
        tq_jval v = used < args.n ? args.pos[used++] : take_keyword(&args, tq_jstr_data(p->value.s), p->value.s->len);
        has_caller |= p->name == j->t->caller;
        TQ_TRY(tq_j_assign(j, p->name, v));
    }
    TQ_TRY(special_arguments(j, n, &args, used, has_caller));
    for (const tq_jnode *p = n->params; p; p = p->next) {
        tq_jval v = tq_j_lookup(j, p->name);
        if (v.type != TQ_J_MISSING) continue;
        if (p->b)
            TQ_TRY(tq_j_eval(j, p->b, &v));
        else
            TQ_TRY(tq_j_undefined(j, &v, "parameter '%.*s' was not provided",
                                  (int)(p->value.s->len < 60 ? p->value.s->len : 60), tq_jstr_data(p->value.s)));
        TQ_TRY(tq_j_assign(j, p->name, v));
    }
    return TOQUE_OK;
}

toque_status tq_j_call_macro(tq_jrun *j, const tq_jmacro *m, const tq_jargs *args, tq_jval *out) {
    tq_jframe *outer = j->frame, *frame = NULL;
    uint32_t line = j->line;
    TQ_TRY(tq_j_scope(j, m->closure, &frame));
    j->frame = frame;
    TQ_TRY(bind_parameters(j, m->node, args));
    TQ_TRY(capture(j, m->node->list, NULL, frame, out));
    j->frame = outer;
    j->line = line;
    return TOQUE_OK;
}

static toque_status call_block(tq_jrun *j, const tq_jnode *n) {
    tq_jval f, text;
    tq_jargs args;
    TQ_TRY(tq_j_eval(j, n->a->a, &f));
    TQ_TRY(tq_j_args(j, n->a->list, &args)); /* leaves room for one more keyword */
    args.kw[args.n_kw].name = n->value;
    TQ_TRY(macro_value(j, n, &args.kw[args.n_kw++].value));
    TQ_TRY(tq_j_call(j, &f, &args, &text));
    return tq_j_put_value(j, j->out, &text);
}

/* ---- loops ---- */

static toque_status filtered(tq_jrun *j, const tq_jnode *n, const tq_jlist **items) {
    tq_jval kept, yes;
    tq_jframe *outer = j->frame, *frame = NULL;
    TQ_TRY(tq_j_list(j, 0, TQ_J_LIST, &kept));
    TQ_TRY(tq_j_scope(j, outer, &frame));
    j->frame = frame;
    for (size_t i = 0; i < (*items)->len; i++) {
        frame->len = 0;
        TQ_TRY(assign(j, n->a, &tq_jlist_items(*items)[i]));
        TQ_TRY(tq_j_eval(j, n->c, &yes));
        if (tq_j_true(&yes)) TQ_TRY(tq_j_push(j, &kept, tq_jlist_items(*items)[i]));
    }
    j->frame = outer;
    *items = kept.list;
    return TOQUE_OK;
}

/* Runs the loop in j->frame, which is its outer scope. */
static toque_status run_loop(tq_jrun *j, const tq_jnode *n, const tq_jval *over, size_t depth0) {
    tq_jframe *outer = j->frame, *frame = NULL;
    const tq_jlist *items;
    tq_jval loop = {.type = TQ_J_LOOP, .message = -1};
    TQ_TRY(tq_j_items(j, over, &items));
    if (n->c) TQ_TRY(filtered(j, n, &items));
    TQ_TRY(tq_j_scope(j, outer, &frame));
    loop.loop = tq_j_alloc(j, 1, sizeof *loop.loop);
    if (!loop.loop) return tq_j_full(j);
    *loop.loop = (tq_jloop){.items = items, .depth0 = depth0, .recursive = n->recursive ? n : NULL, .outer = outer};
    j->frame = frame;
    for (size_t i = 0; i < items->len; i++) {
        frame->len = 0;
        loop.loop->index0 = i;
        if (j->t->loop != TQ_J_NO_NAME) TQ_TRY(tq_j_assign(j, j->t->loop, loop));
        TQ_TRY(assign(j, n->a, &tq_jlist_items(items)[i]));
        TQ_TRY(tq_j_body(j, n->list));
        bool leave = j->flow == TQ_J_BREAK;
        j->flow = TQ_J_GO;
        if (leave) break;
    }
    j->frame = outer;
    if (items->len || !n->otherwise) return TOQUE_OK;
    TQ_TRY(tq_j_scope(j, outer, &j->frame));
    TQ_TRY(tq_j_body(j, n->otherwise));
    j->frame = outer;
    return TOQUE_OK;
}

toque_status tq_j_loop_again(tq_jrun *j, const tq_jloop *loop, const tq_jval *items, tq_jval *out) {
    if (!loop->recursive) return TQ_J_FAIL(j, "only a loop marked `recursive` can be called");
    tq_jframe *frame = j->frame;
    tq_jbytes *outer = j->out, *mine = tq_j_bytes(j, 128);
    if (!mine) return tq_j_full(j);
    j->frame = loop->outer;
    j->out = mine;
    TQ_TRY(run_loop(j, loop->recursive, items, loop->depth0 + 1));
    j->frame = frame;
    j->out = outer;
    return tq_j_finish(j, mine, out);
}

/* ---- the rest ---- */

static toque_status run_if(tq_jrun *j, const tq_jnode *n) {
    for (;;) {
        tq_jval yes;
        TQ_TRY(tq_j_eval(j, n->a, &yes));
        if (tq_j_true(&yes)) return tq_j_body(j, n->list);
        if (!n->otherwise || n->otherwise->kind != TQ_JN_IF || n->otherwise->next) return tq_j_body(j, n->otherwise);
        n = n->otherwise; /* elif */
        j->line = n->line;
    }
}

static toque_status run_with(tq_jrun *j, const tq_jnode *n) {
    tq_jframe *outer = j->frame, *frame = NULL;
    TQ_TRY(tq_j_scope(j, outer, &frame));
    for (const tq_jnode *p = n->params; p; p = p->next) {
        tq_jval v;
        TQ_TRY(tq_j_eval(j, p->b, &v)); /* in the outer scope */
        j->frame = frame;
        TQ_TRY(assign(j, p->a, &v));
        j->frame = outer;
    }
    j->frame = frame;
    TQ_TRY(tq_j_body(j, n->list));
    j->frame = outer;
    return TOQUE_OK;
}

/* The body's text, with the same origins but inside a generation block. */
static toque_status generation(tq_jrun *j, const tq_jnode *n) {
    tq_jval text;
    TQ_TRY(capture(j, n->list, j->frame, NULL, &text));
    for (size_t at = 0, end; at < text.s->len; at = end) {
        tq_origin o = tq_jstr_origin(text.s, at, &end);
        o.generation = 1;
        TQ_TRY(tq_j_put(j, j->out, tq_jstr_data(text.s) + at, end - at, o));
    }
    return TOQUE_OK;
}

/* {% set x %}...{% endset %} and {% filter f %}...{% endfilter %}: the body's text through the filters, if any. */
static toque_status block_text(tq_jrun *j, const tq_jnode *n, const tq_jnode *filters, tq_jval *out) {
    tq_jval text;
    TQ_TRY(capture(j, n->list, j->frame, NULL, &text));
    if (filters && j->flow == TQ_J_GO) return tq_j_filter_node(j, filters, &text, out);
    *out = text;
    return TOQUE_OK;
}

static toque_status run(tq_jrun *j, const tq_jnode *n) {
    tq_jval v;
    switch ((tq_jkind)n->kind) {
    case TQ_JN_DATA: return tq_j_put_str(j, j->out, n->value.s);
    case TQ_JN_OUTPUT: TQ_TRY(tq_j_eval(j, n->a, &v)); return tq_j_put_value(j, j->out, &v);
    case TQ_JN_IF: return run_if(j, n);
    case TQ_JN_FOR: TQ_TRY(tq_j_eval(j, n->b, &v)); return run_loop(j, n, &v, 0);
    case TQ_JN_SET: TQ_TRY(tq_j_eval(j, n->b, &v)); return assign(j, n->a, &v);
    case TQ_JN_SETBLOCK: TQ_TRY(block_text(j, n, n->b, &v)); return j->flow == TQ_J_GO ? assign(j, n->a, &v) : TOQUE_OK;
    case TQ_JN_FILTERBLOCK:
        TQ_TRY(block_text(j, n, n->a, &v));
        return j->flow == TQ_J_GO ? tq_j_put_value(j, j->out, &v) : TOQUE_OK;
    case TQ_JN_MACRO: TQ_TRY(macro_value(j, n, &v)); return tq_j_assign(j, n->name, v);
    case TQ_JN_CALLBLOCK: return call_block(j, n);
    case TQ_JN_WITH: return run_with(j, n);
    case TQ_JN_GENERATION: return generation(j, n);
    case TQ_JN_BREAK: j->flow = TQ_J_BREAK; return TOQUE_OK;
    case TQ_JN_CONTINUE: j->flow = TQ_J_CONTINUE; return TOQUE_OK;
    default: return TQ_FAIL(j->err, EINTERNAL, "node %d is no statement", n->kind);
    }
}

toque_status tq_j_body(tq_jrun *j, const tq_jnode *list) {
    TQ_TRY(tq_j_enter(j));
    for (const tq_jnode *n = list; n && j->flow == TQ_J_GO; n = n->next) {
        TQ_J_STEP(j, 1);
        j->line = n->line;
        TQ_TRY(run(j, n));
    }
    tq_j_leave(j);
    return TOQUE_OK;
}
