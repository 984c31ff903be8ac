/* Statements of templates: tokens to a tree. Bodies are chains of nodes; a block statement reads its body up to one of
 * its closing words. include, import, from, extends, block and autoescape are refused: chat templates stand alone. */
#include <string.h>

#include "text/jinja_parse.h"

toque_status tq_jp_node(tq_jparser *p, tq_jkind kind, tq_jnode **out) {
    tq_jnode *n = tq_arena_alloc(&p->t->arena, 1, sizeof *n);
    if (!n) return TQ_NOMEM(p->err);
    n->kind = (uint8_t)kind;
    n->line = p->at->line;
    n->name = TQ_J_NO_NAME;
    *out = n;
    return TOQUE_OK;
}

static uint32_t hash(const char *s, size_t n) {
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 16777619u;
    return h;
}

static toque_status rehash(tq_jparser *p) {
    tq_template *t = p->t;
    size_t want = t->n_slots ? t->n_slots * 2 : 64;
    uint32_t *slots = tq_arena_alloc(&t->arena, want, sizeof *slots);
    if (!slots) return TQ_NOMEM(p->err);
    t->slots = slots;
    t->n_slots = want;
    for (size_t i = 0; i < t->n_names; i++) {
        size_t at = hash(t->names[i].s, t->names[i].n) & (want - 1);
        while (slots[at]) at = (at + 1) & (want - 1);
        slots[at] = (uint32_t)i + 1;
    }
    return TOQUE_OK;
}

toque_status tq_jp_name(tq_jparser *p, const tq_jtoken *token, int32_t *id) {
    tq_template *t = p->t;
    if (token->kind != TQ_JT_NAME) return tq_jp_unexpected(p, "a name");
    if ((t->n_names + 1) * 2 > t->n_slots) TQ_TRY(rehash(p));
    const char *s = t->source + token->at;
    size_t at = hash(s, token->len) & (t->n_slots - 1);
    for (; t->slots[at]; at = (at + 1) & (t->n_slots - 1)) {
        const tq_jname *known = &t->names[t->slots[at] - 1];
        if (known->n == token->len && memcmp(known->s, s, known->n) == 0) {
            *id = (int32_t)t->slots[at] - 1;
            return TOQUE_OK;
        }
    }
    if (!TQ_GROW(t->mem, t->names, t->n_names, t->cap_names)) return TQ_NOMEM(p->err);
    t->names[t->n_names] = (tq_jname){s, token->len};
    *id = (int32_t)t->n_names++;
    t->slots[at] = (uint32_t)t->n_names;
    return TOQUE_OK;
}

toque_status tq_jp_text(tq_jparser *p, const char *s, size_t n, tq_jval *out) {
    tq_jstr *str = tq_arena_alloc(&p->t->arena, 1, sizeof *str);
    tq_jbytes *bytes = str ? tq_arena_alloc(&p->t->arena, 1, sizeof *bytes) : NULL;
    if (!bytes) return TQ_NOMEM(p->err);
    /* Shared by threads, so nothing may be filled in later: the code points are counted now. */
    *bytes = (tq_jbytes){.data = (char *)(uintptr_t)s, .len = n, .n_spans = 1, .one = {n, tq_j_template_origin}};
    bytes->spans = &bytes->one;
    *str = (tq_jstr){.bytes = bytes, .len = n, .chars = SIZE_MAX};
    tq_jstr_chars(str);
    *out = (tq_jval){.type = TQ_J_STR, .message = -1, .s = str};
    return TOQUE_OK;
}

void tq_jp_tell_unexpected(tq_jparser *p, const char *expected) {
    const tq_jtoken *t = p->at;
    size_t n = t->len < 40 ? t->len : 40;
    if (t->kind == TQ_JT_EOF)
        tq_jinja_fail_at(p->t, t->at, p->err, TOQUE_EFORMAT, "the template ends where %s was expected", expected);
    else
        tq_jinja_fail_at(p->t, t->at, p->err, TOQUE_EFORMAT, "found '%.*s' where %s was expected", (int)n,
                         p->t->source + t->at, expected);
}

bool tq_jp_is_name(const tq_jparser *p, const tq_jtoken *token, const char *name) {
    return token->kind == TQ_JT_NAME && strlen(name) == token->len &&
           memcmp(p->t->source + token->at, name, token->len) == 0;
}

bool tq_jp_is_op(const tq_jparser *p, tq_jop op) {
    return p->at->kind == TQ_JT_OP && p->at->op == op;
}

bool tq_jp_skip_op(tq_jparser *p, tq_jop op) {
    if (!tq_jp_is_op(p, op)) return false;
    p->at++;
    return true;
}

bool tq_jp_skip_name(tq_jparser *p, const char *name) {
    if (!tq_jp_is_name(p, p->at, name)) return false;
    p->at++;
    return true;
}

toque_status tq_jp_expect(tq_jparser *p, tq_jop op, const char *text) {
    return tq_jp_skip_op(p, op) ? TOQUE_OK : tq_jp_unexpected(p, text);
}

toque_status tq_jp_enter(tq_jparser *p) {
    if (++p->depth <= TQ_J_MAX_NESTING) return TOQUE_OK;
    return TQ_JINJA_FAIL(p->t, p->at->at, p->err, ELIMIT, "more than %d nested expressions and blocks",
                         TQ_J_MAX_NESTING);
}

static toque_status block_end(tq_jparser *p) {
    if (p->at->kind != TQ_JT_BLOCK_END) return tq_jp_unexpected(p, "the end of the tag, %}");
    p->at++;
    return TOQUE_OK;
}

static toque_status statement(tq_jparser *p, tq_jnode **out);

/* A body up to a tag that opens with one of `ends` (NULL-terminated; NULL: up to the end of the template). The
 * present token is then that word. */
static toque_status body(tq_jparser *p, const char *const *ends, tq_jnode **out) {
    const tq_jtoken *opened = ends ? p->at - 1 : p->at; /* the end of the opening tag */
    tq_jnode **tail = out;
    *out = NULL;
    TQ_TRY(tq_jp_enter(p));
    for (; p->at->kind != TQ_JT_EOF; tail = &(*tail)->next) {
        uint8_t kind = (p->at++)->kind;
        const tq_jtoken *before = p->at - 1;
        if (kind == TQ_JT_DATA) {
            TQ_TRY(tq_jp_node(p, TQ_JN_DATA, tail));
            (*tail)->line = before->line;
            TQ_TRY(tq_jp_text(p, p->t->source + before->at, before->len, &(*tail)->value));
        } else if (kind == TQ_JT_VAR_BEGIN) {
            TQ_TRY(tq_jp_node(p, TQ_JN_OUTPUT, tail));
            TQ_TRY(tq_jp_tuple(p, true, NULL, &(*tail)->a));
            if (p->at->kind != TQ_JT_VAR_END) return tq_jp_unexpected(p, "the end of the expression, }}");
            p->at++;
        } else {
            for (size_t i = 0; ends && ends[i]; i++) {
                if (!tq_jp_is_name(p, p->at, ends[i])) continue;
                p->depth--;
                return TOQUE_OK;
            }
            TQ_TRY(statement(p, tail));
            TQ_TRY(block_end(p));
            while ((*tail)->next) tail = &(*tail)->next; /* {% print a, b %} gives several nodes */
        }
    }
    if (ends)
        return TQ_JINJA_FAIL(p->t, opened->at, p->err, EFORMAT, "this block is never closed by {%% %s %%}", ends[0]);
    p->depth--;
    return TOQUE_OK;
}

/* The end of the opening tag, the body, and the closing word, of which there is one. */
static toque_status closed_body(tq_jparser *p, const char *end, tq_jnode **out) {
    const char *const ends[] = {end, NULL};
    tq_jp_skip_op(p, TQ_JO_COLON);
    TQ_TRY(block_end(p));
    TQ_TRY(body(p, ends, out));
    p->at++;
    return TOQUE_OK;
}

/* The same in a scope of its own: unknown filters are refused again, and for functions loops cannot be left. */
static toque_status scoped_body(tq_jparser *p, const char *end, bool function, tq_jnode **out) {
    bool soft = p->soft;
    int loops = p->loops;
    p->soft = false;
    if (function) p->loops = 0;
    TQ_TRY(closed_body(p, end, out));
    p->soft = soft;
    p->loops = loops;
    return TOQUE_OK;
}

/* What a value can be assigned to: a name, a tuple of them, with nsref also namespace.attribute. */
static toque_status target(tq_jparser *p, bool nsref, tq_jnode **out) {
    const tq_jtoken *from = p->at;
    tq_jnode *first = NULL, **tail = &first;
    bool many = false;
    TQ_TRY(tq_jp_enter(p));
    do {
        if (p->at->kind == TQ_JT_BLOCK_END || tq_jp_is_op(p, TQ_JO_RPAREN) || tq_jp_is_name(p, p->at, "in")) break;
        if (tq_jp_skip_op(p, TQ_JO_LPAREN)) {
            TQ_TRY(target(p, nsref, tail));
            TQ_TRY(tq_jp_expect(p, TQ_JO_RPAREN, ")"));
        } else {
            TQ_TRY(tq_jp_primary(p, nsref, tail));
        }
        if ((*tail)->kind != TQ_JN_NAME && (*tail)->kind != TQ_JN_NSREF && (*tail)->kind != TQ_JN_TUPLE)
            return TQ_JINJA_FAIL(p->t, from->at, p->err, EFORMAT, "only a name can be assigned to");
        tail = &(*tail)->next;
        if (!tq_jp_is_op(p, TQ_JO_COMMA)) break;
        many = true;
    } while (tq_jp_skip_op(p, TQ_JO_COMMA));
    if (!first) return tq_jp_unexpected(p, "a name to assign to");
    *out = first;
    if (many) {
        TQ_TRY(tq_jp_node(p, TQ_JN_TUPLE, out));
        (*out)->list = first;
    }
    p->depth--;
    return TOQUE_OK;
}

static toque_status parse_for(tq_jparser *p, tq_jnode *n) {
    static const char *const ends[] = {"endfor", "else", NULL};
    n->kind = TQ_JN_FOR;
    TQ_TRY(target(p, false, &n->a));
    if (!tq_jp_skip_name(p, "in")) return tq_jp_unexpected(p, "`in`");
    TQ_TRY(tq_jp_tuple(p, false, "recursive", &n->b));
    bool soft = p->soft;
    p->soft = false;
    if (tq_jp_skip_name(p, "if")) TQ_TRY(tq_jp_expr(p, &n->c));
    n->recursive = tq_jp_skip_name(p, "recursive");
    tq_jp_skip_op(p, TQ_JO_COLON);
    TQ_TRY(block_end(p));
    p->loops++;
    TQ_TRY(body(p, ends, &n->list));
    p->loops--;
    if (tq_jp_is_name(p, p->at++, "else")) TQ_TRY(closed_body(p, "endfor", &n->otherwise));
    p->soft = soft;
    return TOQUE_OK;
}

/* elif is an IF alone in the else branch. */
static toque_status parse_if(tq_jparser *p, tq_jnode *n) {
    static const char *const ends[] = {"endif", "elif", "else", NULL};
    bool soft = p->soft;
    p->soft = true;
    for (;;) {
        n->kind = TQ_JN_IF;
        TQ_TRY(tq_jp_tuple(p, false, NULL, &n->a));
        tq_jp_skip_op(p, TQ_JO_COLON);
        TQ_TRY(block_end(p));
        TQ_TRY(body(p, ends, &n->list));
        if (!tq_jp_skip_name(p, "elif")) break;
        TQ_TRY(tq_jp_node(p, TQ_JN_IF, &n->otherwise));
        n = n->otherwise;
    }
    if (tq_jp_is_name(p, p->at++, "else")) TQ_TRY(closed_body(p, "endif", &n->otherwise));
    p->soft = soft;
    return TOQUE_OK;
}

static toque_status parse_set(tq_jparser *p, tq_jnode *n) {
    TQ_TRY(target(p, true, &n->a));
    if (tq_jp_skip_op(p, TQ_JO_ASSIGN)) {
        n->kind = TQ_JN_SET;
        return tq_jp_tuple(p, true, NULL, &n->b);
    }
    n->kind = TQ_JN_SETBLOCK;
    TQ_TRY(tq_jp_filters(p, NULL, false, &n->b));
    return scoped_body(p, "endset", false, &n->list);
}

/* (a, b=1): a chain of NAME nodes, defaults in b. */
static toque_status signature(tq_jparser *p, tq_jnode **out) {
    tq_jnode **tail = out;
    bool defaults = false;
    TQ_TRY(tq_jp_expect(p, TQ_JO_LPAREN, "( and the parameters"));
    while (!tq_jp_is_op(p, TQ_JO_RPAREN)) {
        if (tail != out) TQ_TRY(tq_jp_expect(p, TQ_JO_COMMA, ", or )"));
        TQ_TRY(tq_jp_node(p, TQ_JN_NAME, tail));
        TQ_TRY(tq_jp_name(p, p->at, &(*tail)->name));
        TQ_TRY(tq_jp_text(p, p->t->source + p->at->at, p->at->len, &(*tail)->value));
        p->at++;
        if (tq_jp_skip_op(p, TQ_JO_ASSIGN)) {
            TQ_TRY(tq_jp_expr(p, &(*tail)->b));
            defaults = true;
        } else if (defaults) {
            return tq_jp_unexpected(p, "a default, as for the parameter before");
        }
        tail = &(*tail)->next;
    }
    p->at++;
    return TOQUE_OK;
}

/* Behind the parameters; notes which special names the body uses. */
static toque_status macro_body(tq_jparser *p, tq_jnode *n, const char *end) {
    tq_jmacro_use use = {.outer = p->macro, .node = n};
    p->macro = &use;
    TQ_TRY(scoped_body(p, end, true, &n->list));
    p->macro = use.outer;
    return TOQUE_OK;
}

static toque_status parse_macro(tq_jparser *p, tq_jnode *n) {
    n->kind = TQ_JN_MACRO;
    TQ_TRY(tq_jp_name(p, p->at, &n->name));
    TQ_TRY(tq_jp_text(p, p->t->source + p->at->at, p->at->len, &n->value));
    p->at++;
    TQ_TRY(signature(p, &n->params));
    return macro_body(p, n, "endmacro");
}

static toque_status parse_call(tq_jparser *p, tq_jnode *n) {
    n->kind = TQ_JN_CALLBLOCK;
    TQ_TRY(tq_jp_text(p, "caller", 6, &n->value));
    if (tq_jp_is_op(p, TQ_JO_LPAREN)) TQ_TRY(signature(p, &n->params));
    TQ_TRY(tq_jp_expr(p, &n->a));
    if (n->a->kind != TQ_JN_CALL) return tq_jp_unexpected(p, "a call of a macro before the end of the tag");
    return macro_body(p, n, "endcall");
}

static toque_status parse_with(tq_jparser *p, tq_jnode *n) {
    n->kind = TQ_JN_WITH;
    tq_jnode **tail = &n->params;
    while (p->at->kind != TQ_JT_BLOCK_END) {
        if (n->params) TQ_TRY(tq_jp_expect(p, TQ_JO_COMMA, ", or the end of the tag"));
        TQ_TRY(tq_jp_node(p, TQ_JN_SET, tail));
        if (tq_jp_is_op(p, TQ_JO_LPAREN))
            TQ_TRY(target(p, false, &(*tail)->a));
        else
            TQ_TRY(tq_jp_primary(p, false, &(*tail)->a));
        if ((*tail)->a->kind != TQ_JN_NAME && (*tail)->a->kind != TQ_JN_TUPLE)
            return tq_jp_unexpected(p, "name = value");
        TQ_TRY(tq_jp_expect(p, TQ_JO_ASSIGN, "="));
        TQ_TRY(tq_jp_expr(p, &(*tail)->b));
        tail = &(*tail)->next;
    }
    return scoped_body(p, "endwith", false, &n->list);
}

static toque_status parse_leave(tq_jparser *p, tq_jnode *n, tq_jkind kind) {
    n->kind = (uint8_t)kind;
    if (!p->loops) return TQ_JINJA_FAIL(p->t, p->at[-1].at, p->err, EFORMAT, "this stands outside of a loop");
    return TOQUE_OK;
}

static toque_status parse_print(tq_jparser *p, tq_jnode *n) {
    n->kind = TQ_JN_OUTPUT;
    for (;;) {
        TQ_TRY(tq_jp_expr(p, &n->a));
        if (!tq_jp_skip_op(p, TQ_JO_COMMA)) return TOQUE_OK;
        TQ_TRY(tq_jp_node(p, TQ_JN_OUTPUT, &n->next));
        n = n->next;
    }
}

static toque_status statement(tq_jparser *p, tq_jnode **out) {
    static const char *const refused[] = {"include", "import", "from", "extends", "block", "autoescape"};
    if (p->at->kind != TQ_JT_NAME) return tq_jp_unexpected(p, "the name of a tag");
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (tq_jp_is_name(p, p->at, refused[i]))
            return TQ_JINJA_FAIL(p->t, p->at->at, p->err, EUNSUPPORTED,
                                 "{%% %s %%} is not supported: a chat template must stand alone", refused[i]);
    tq_jnode *n;
    TQ_TRY(tq_jp_node(p, TQ_JN_IF, &n));
    *out = n;
    if (tq_jp_skip_name(p, "for")) return parse_for(p, n);
    if (tq_jp_skip_name(p, "if")) return parse_if(p, n);
    if (tq_jp_skip_name(p, "set")) return parse_set(p, n);
    if (tq_jp_skip_name(p, "macro")) return parse_macro(p, n);
    if (tq_jp_skip_name(p, "call")) return parse_call(p, n);
    if (tq_jp_skip_name(p, "with")) return parse_with(p, n);
    if (tq_jp_skip_name(p, "print")) return parse_print(p, n);
    if (tq_jp_skip_name(p, "break")) return parse_leave(p, n, TQ_JN_BREAK);
    if (tq_jp_skip_name(p, "continue")) return parse_leave(p, n, TQ_JN_CONTINUE);
    if (tq_jp_skip_name(p, "filter")) {
        n->kind = TQ_JN_FILTERBLOCK;
        TQ_TRY(tq_jp_filters(p, NULL, true, &n->a));
        return scoped_body(p, "endfilter", false, &n->list);
    }
    if (tq_jp_skip_name(p, "generation")) {
        n->kind = TQ_JN_GENERATION;
        p->t->has_generation = true;
        return scoped_body(p, "endgeneration", true, &n->list);
    }
    return tq_jp_unexpected(p, "a known tag that fits here");
}

toque_status tq_jinja_parse(tq_template *t, toque_error *err) {
    tq_jtokens tokens = {0};
    toque_status status = tq_jinja_lex(t, &tokens, err);
    if (status == TOQUE_OK) {
        tq_jparser p = {.t = t, .at = tokens.items, .err = err};
        status = body(&p, NULL, &t->body);
        if (status == TOQUE_OK && p.unknown)
            status = TQ_JINJA_FAIL(t, p.unknown->at, err, EFORMAT, "there is no filter or test named '%.*s'",
                                   (int)(p.unknown->len < 60 ? p.unknown->len : 60), t->source + p.unknown->at);
    }
    tq_free(t->mem, tokens.items);
    return status;
}
