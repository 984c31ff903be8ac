/* Expressions of templates, by recursive descent; precedence from loose to tight as in jinja2:
 *   a if b else c · or · and · not · comparisons, in · + - · ~ · * / // % · ** · unary - + · postfix . [] () · | is
 * (so -x|abs is (-x)|abs, and 1 + 2 ~ 3 is 1 + "23"). */
#include <stdlib.h>
#include <string.h>

#include "text/jinja_parse.h"

/* Puts a new node around `a`, at the present token's line. */
static toque_status wrap(tq_jparser *p, tq_jkind kind, tq_jop op, tq_jnode *a, tq_jnode *b, tq_jnode **out) {
    tq_jnode *n;
    TQ_TRY(tq_jp_node(p, kind, &n));
    n->op = (uint8_t)op;
    n->a = a;
    n->b = b;
    *out = n;
    return TOQUE_OK;
}

static toque_status bad_escape(tq_jparser *p, const tq_jtoken *t, size_t offset, const char *what) {
    return TQ_JINJA_FAIL(p->t, t->at + offset, p->err, EFORMAT, "%s in a string", what);
}

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One backslash sequence at s[*i] (behind the backslash), as Python's unicode-escape reads it. */
static toque_status escape(tq_jparser *p, const tq_jtoken *t, const char *s, size_t n, size_t *i, char *to,
                           size_t *len) {
    static const char from[] = "\\'\"abfnrtv", into[] = "\\'\"\a\b\f\n\r\t\v";
    char c = s[*i];
    const char *simple = c ? strchr(from, c) : NULL;
    if (c == '\n') {
        ++*i;
        return TOQUE_OK;
    }
    if (simple) {
        to[(*len)++] = into[simple - from];
        ++*i;
        return TOQUE_OK;
    }
    int32_t cp = 0;
    if (c >= '0' && c <= '7') {
        for (int k = 0; k < 3 && *i < n && s[*i] >= '0' && s[*i] <= '7'; k++) cp = cp * 8 + (s[(*i)++] - '0');
    } else if (c == 'x' || c == 'u' || c == 'U') {
        int count = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        for (int k = 1; k <= count; k++) {
            int d = *i + (size_t)k < n ? hex(s[*i + (size_t)k]) : -1;
            if (d < 0) return bad_escape(p, t, *i, "an incomplete \\x, \\u or \\U escape");
            cp = (int32_t)((uint32_t)cp << 4 | (uint32_t)d);
            if (cp > 0x10FFFF) return bad_escape(p, t, *i, "a code point over U+10FFFF");
        }
        if (cp >= 0xD800 && cp < 0xE000) return bad_escape(p, t, *i, "half a surrogate pair");
        *i += (size_t)count + 1;
    } else if (c == 'N') {
        return bad_escape(p, t, *i, "\\N{name}, which is not supported,");
    } else { /* unknown: the backslash stays */
        to[(*len)++] = '\\';
        return TOQUE_OK;
    }
    *len += tq_j_encode(cp, to + *len);
    return TOQUE_OK;
}

/* The value of one or more adjacent string tokens. No escape gives more bytes than it takes. */
static toque_status string(tq_jparser *p, tq_jval *out) {
    size_t total = 0, len = 0;
    for (const tq_jtoken *t = p->at; t->kind == TQ_JT_STRING; t++) total += t->len;
    char *to = tq_arena_alloc(&p->t->arena, total + 1, 1);
    if (!to) return TQ_NOMEM(p->err);
    for (; p->at->kind == TQ_JT_STRING; p->at++) {
        const char *s = p->t->source + p->at->at;
        size_t n = p->at->len - 1;
        for (size_t i = 1; i < n;) {
            if (s[i] != '\\' || i + 1 >= n) {
                to[len++] = s[i++];
                continue;
            }
            i++;
            TQ_TRY(escape(p, p->at, s, n, &i, to, &len));
        }
    }
    return tq_jp_text(p, to, len, out);
}

static toque_status number(tq_jparser *p, tq_jval *out) {
    char text[400];
    size_t n = 0;
    const tq_jtoken *t = p->at;
    for (size_t i = 0; i < t->len; i++) {
        if (n + 1 == sizeof text)
            return TQ_JINJA_FAIL(p->t, t->at, p->err, ELIMIT, "a number of more than %zu digits", sizeof text - 1);
        if (p->t->source[t->at + i] != '_') text[n++] = p->t->source[t->at + i];
    }
    text[n] = 0;
    p->at++;
    if (t->kind == TQ_JT_FLOAT) {
        *out = tq_j_float(strtod(text, NULL));
        return TOQUE_OK;
    }
    int base = 10, skip = 0;
    char mark = n > 1 && text[0] == '0' ? (char)(text[1] | 32) : 0;
    if (mark == 'x') base = 16, skip = 2;
    if (mark == 'o') base = 8, skip = 2;
    if (mark == 'b') base = 2, skip = 2;
    int64_t value = 0;
    for (size_t i = (size_t)skip; i < n; i++)
        if (__builtin_mul_overflow(value, base, &value) || __builtin_add_overflow(value, hex(text[i]), &value))
            return TQ_JINJA_FAIL(p->t, t->at, p->err, ELIMIT, "integer %s is over 64 bits", text);
    *out = tq_j_int(value);
    return TOQUE_OK;
}

static void note_name(tq_jparser *p, const tq_jtoken *t) {
    bool var = tq_jp_is_name(p, t, "varargs"), kw = tq_jp_is_name(p, t, "kwargs"), call = tq_jp_is_name(p, t, "caller");
    if (!var && !kw && !call) return;
    for (tq_jmacro_use *m = p->macro; m; m = m->outer) {
        m->node->varargs |= var;
        m->node->kwargs |= kw;
        m->node->caller |= call;
    }
}

static toque_status name(tq_jparser *p, bool nsref, tq_jnode **out) {
    static const char *const word[] = {"true", "True", "false", "False", "none", "None"};
    tq_jnode *n;
    for (size_t i = 0; i < sizeof word / sizeof *word; i++) {
        if (!tq_jp_skip_name(p, word[i])) continue;
        TQ_TRY(tq_jp_node(p, TQ_JN_CONST, &n));
        n->value = i < 4 ? tq_j_bool(i < 2) : tq_j_none();
        *out = n;
        return TOQUE_OK;
    }
    TQ_TRY(tq_jp_node(p, TQ_JN_NAME, &n));
    TQ_TRY(tq_jp_name(p, p->at, &n->name));
    note_name(p, p->at++);
    if (nsref && tq_jp_skip_op(p, TQ_JO_DOT)) {
        if (p->at->kind != TQ_JT_NAME) return tq_jp_unexpected(p, "the name of an attribute");
        n->kind = TQ_JN_NSREF;
        TQ_TRY(tq_jp_text(p, p->t->source + p->at->at, p->at->len, &n->value));
        p->at++;
    }
    *out = n;
    return TOQUE_OK;
}

static toque_status list(tq_jparser *p, tq_jnode **out) {
    tq_jnode *first = NULL, **tail = &first;
    TQ_TRY(tq_jp_node(p, TQ_JN_LIST, out));
    p->at++;
    while (!tq_jp_is_op(p, TQ_JO_RBRACKET)) {
        if (tail != &first) TQ_TRY(tq_jp_expect(p, TQ_JO_COMMA, ", or ]"));
        if (tq_jp_is_op(p, TQ_JO_RBRACKET)) break;
        TQ_TRY(tq_jp_expr(p, tail));
        tail = &(*tail)->next;
    }
    p->at++;
    (*out)->list = first;
    return TOQUE_OK;
}

static toque_status dict(tq_jparser *p, tq_jnode **out) {
    tq_jnode *first = NULL, **tail = &first;
    TQ_TRY(tq_jp_node(p, TQ_JN_DICT, out));
    p->at++;
    while (!tq_jp_is_op(p, TQ_JO_RBRACE)) {
        if (tail != &first) TQ_TRY(tq_jp_expect(p, TQ_JO_COMMA, ", or }"));
        if (tq_jp_is_op(p, TQ_JO_RBRACE)) break;
        TQ_TRY(tq_jp_node(p, TQ_JN_PAIR, tail));
        TQ_TRY(tq_jp_expr(p, &(*tail)->a));
        TQ_TRY(tq_jp_expect(p, TQ_JO_COLON, ": behind a key"));
        TQ_TRY(tq_jp_expr(p, &(*tail)->b));
        tail = &(*tail)->next;
    }
    p->at++;
    (*out)->list = first;
    return TOQUE_OK;
}

static toque_status tuple(tq_jparser *p, bool condexpr, const char *end, bool parens, tq_jnode **out);

toque_status tq_jp_primary(tq_jparser *p, bool nsref, tq_jnode **out) {
    if (p->at->kind == TQ_JT_NAME) return name(p, nsref, out);
    if (tq_jp_is_op(p, TQ_JO_LBRACKET)) return list(p, out);
    if (tq_jp_is_op(p, TQ_JO_LBRACE)) return dict(p, out);
    if (tq_jp_skip_op(p, TQ_JO_LPAREN)) {
        TQ_TRY(tuple(p, true, NULL, true, out));
        return tq_jp_expect(p, TQ_JO_RPAREN, ")");
    }
    bool text = p->at->kind == TQ_JT_STRING;
    if (!text && p->at->kind != TQ_JT_INT && p->at->kind != TQ_JT_FLOAT) return tq_jp_unexpected(p, "an expression");
    TQ_TRY(tq_jp_node(p, TQ_JN_CONST, out));
    return text ? string(p, &(*out)->value) : number(p, &(*out)->value);
}

/* What stands in [ ]: an index or a slice. */
static toque_status subscript(tq_jparser *p, tq_jnode **out) {
    tq_jnode *part[3] = {NULL, NULL, NULL};
    if (!tq_jp_is_op(p, TQ_JO_COLON)) {
        TQ_TRY(tq_jp_expr(p, &part[0]));
        if (!tq_jp_is_op(p, TQ_JO_COLON)) {
            *out = part[0];
            return TOQUE_OK;
        }
    }
    for (int i = 1; i < 3 && tq_jp_skip_op(p, TQ_JO_COLON); i++)
        if (!tq_jp_is_op(p, TQ_JO_COLON) && !tq_jp_is_op(p, TQ_JO_RBRACKET) && !tq_jp_is_op(p, TQ_JO_COMMA))
            TQ_TRY(tq_jp_expr(p, &part[i]));
    TQ_TRY(wrap(p, TQ_JN_SLICE, TQ_JO_NONE, part[0], part[1], out));
    (*out)->c = part[2];
    return TOQUE_OK;
}

/* The arguments of a call, behind its "(": positional, *list, name=value, **mapping. */
static toque_status arguments(tq_jparser *p, tq_jnode **out) {
    tq_jnode **tail = out;
    *out = NULL;
    int stage = 0; /* 0 positional, 1 named, 2 behind *x, 3 behind **x */
    while (!tq_jp_skip_op(p, TQ_JO_RPAREN)) {
        if (tail != out) TQ_TRY(tq_jp_expect(p, TQ_JO_COMMA, ", or )"));
        if (tq_jp_skip_op(p, TQ_JO_RPAREN)) break;
        int kind = 0;
        if (tq_jp_is_op(p, TQ_JO_MUL)) kind = 2;
        if (tq_jp_is_op(p, TQ_JO_POW)) kind = 3;
        if (p->at->kind == TQ_JT_NAME && p->at[1].kind == TQ_JT_OP && p->at[1].op == TQ_JO_ASSIGN) kind = 1;
        if (stage == 3 || (kind == 0 && stage) || (kind == 2 && stage == 2))
            return tq_jp_unexpected(p, "arguments in the order positional, name=value, *list, **mapping");
        if (kind > stage) stage = kind;
        if (kind == 0) {
            TQ_TRY(tq_jp_expr(p, tail));
            /* The chain goes through next, which a shared node could not do; expressions are never shared. */
        } else {
            static const tq_jkind kinds[] = {TQ_JN_CONST, TQ_JN_KWARG, TQ_JN_STAR, TQ_JN_STARSTAR};
            tq_jnode *n;
            TQ_TRY(tq_jp_node(p, kinds[kind], &n));
            if (kind == 1) {
                TQ_TRY(tq_jp_text(p, p->t->source + p->at->at, p->at->len, &n->value));
                p->at++;
            }
            p->at++;
            TQ_TRY(tq_jp_expr(p, &n->a));
            *tail = n;
        }
        tail = &(*tail)->next;
    }
    return TOQUE_OK;
}

static toque_status call(tq_jparser *p, tq_jnode **n) {
    p->at++;
    TQ_TRY(wrap(p, TQ_JN_CALL, TQ_JO_NONE, *n, NULL, n));
    return arguments(p, &(*n)->list);
}

static toque_status postfix(tq_jparser *p, tq_jnode **n) {
    for (;;) {
        if (tq_jp_is_op(p, TQ_JO_LPAREN)) {
            TQ_TRY(call(p, n));
        } else if (tq_jp_skip_op(p, TQ_JO_DOT)) {
            bool word = p->at->kind == TQ_JT_NAME;
            if (!word && p->at->kind != TQ_JT_INT) return tq_jp_unexpected(p, "a name or number behind the dot");
            if (word) {
                TQ_TRY(wrap(p, TQ_JN_ATTR, TQ_JO_NONE, *n, NULL, n));
                TQ_TRY(tq_jp_text(p, p->t->source + p->at->at, p->at->len, &(*n)->value));
                p->at++;
            } else {
                TQ_TRY(wrap(p, TQ_JN_ITEM, TQ_JO_NONE, *n, NULL, n));
                TQ_TRY(tq_jp_primary(p, false, &(*n)->b));
            }
        } else if (tq_jp_skip_op(p, TQ_JO_LBRACKET)) {
            TQ_TRY(wrap(p, TQ_JN_ITEM, TQ_JO_NONE, *n, NULL, n));
            TQ_TRY(subscript(p, &(*n)->b));
            if (tq_jp_is_op(p, TQ_JO_COMMA)) {
                tq_jnode *many, **tail;
                TQ_TRY(tq_jp_node(p, TQ_JN_TUPLE, &many));
                many->list = (*n)->b;
                tail = &many->list->next;
                while (tq_jp_skip_op(p, TQ_JO_COMMA)) {
                    TQ_TRY(subscript(p, tail));
                    tail = &(*tail)->next;
                }
                (*n)->b = many;
            }
            TQ_TRY(tq_jp_expect(p, TQ_JO_RBRACKET, "]"));
        } else {
            return TOQUE_OK;
        }
    }
}

/* The dotted name of a filter or test. */
static toque_status dotted(tq_jparser *p, const char **s, size_t *n) {
    const tq_jtoken *from = p->at;
    if (from->kind != TQ_JT_NAME) return tq_jp_unexpected(p, "a name");
    p->at++;
    while (tq_jp_is_op(p, TQ_JO_DOT) && p->at[1].kind == TQ_JT_NAME) p->at += 2;
    *s = p->t->source + from->at;
    *n = p->at[-1].at + p->at[-1].len - from->at;
    return TOQUE_OK;
}

/* An unknown filter or test is refused at the end of parsing, unless it stands in a branch that may never run. */
static void unknown(tq_jparser *p, const tq_jtoken *token) {
    if (!p->soft && !p->unknown) p->unknown = token;
}

toque_status tq_jp_filters(tq_jparser *p, tq_jnode *in, bool first, tq_jnode **out) {
    *out = in;
    while (first || tq_jp_skip_op(p, TQ_JO_PIPE)) {
        first = false;
        const char *s;
        size_t n;
        const tq_jtoken *token = p->at;
        TQ_TRY(dotted(p, &s, &n));
        TQ_TRY(wrap(p, TQ_JN_FILTER, TQ_JO_NONE, *out, NULL, out));
        tq_jnode *f = *out;
        f->def = tq_j_find_filter(s, n);
        TQ_TRY(tq_jp_text(p, s, n, &f->value));
        if (!f->def) unknown(p, token);
        if (tq_jp_skip_op(p, TQ_JO_LPAREN)) TQ_TRY(arguments(p, &f->list));
    }
    return TOQUE_OK;
}

/* Behind `is`. */
static toque_status test(tq_jparser *p, tq_jnode **n) {
    bool negated = tq_jp_skip_name(p, "not");
    const tq_jtoken *token = p->at;
    const char *s;
    size_t len;
    TQ_TRY(dotted(p, &s, &len));
    TQ_TRY(wrap(p, TQ_JN_TEST, TQ_JO_NONE, *n, NULL, n));
    tq_jnode *t = *n;
    t->def = tq_j_find_test(s, len);
    TQ_TRY(tq_jp_text(p, s, len, &t->value));
    if (!t->def) unknown(p, token);
    uint8_t kind = p->at->kind;
    bool operand = kind == TQ_JT_STRING || kind == TQ_JT_INT || kind == TQ_JT_FLOAT || tq_jp_is_op(p, TQ_JO_LBRACKET) ||
                   tq_jp_is_op(p, TQ_JO_LBRACE) || kind == TQ_JT_NAME;
    if (tq_jp_skip_op(p, TQ_JO_LPAREN)) {
        TQ_TRY(arguments(p, &t->list));
    } else if (operand && !tq_jp_is_name(p, p->at, "else") && !tq_jp_is_name(p, p->at, "or") &&
               !tq_jp_is_name(p, p->at, "and")) {
        if (tq_jp_is_name(p, p->at, "is")) return tq_jp_unexpected(p, "no second `is` (put the first in parentheses)");
        TQ_TRY(tq_jp_primary(p, false, &t->list));
        TQ_TRY(postfix(p, &t->list));
    }
    return negated ? wrap(p, TQ_JN_NOT, TQ_JO_NONE, *n, NULL, n) : TOQUE_OK;
}

static toque_status unary(tq_jparser *p, bool filters, tq_jnode **out) {
    TQ_TRY(tq_jp_enter(p));
    if (tq_jp_is_op(p, TQ_JO_SUB) || tq_jp_is_op(p, TQ_JO_ADD)) {
        bool minus = p->at->op == TQ_JO_SUB;
        tq_jnode *a;
        p->at++;
        TQ_TRY(unary(p, false, &a));
        TQ_TRY(wrap(p, minus ? TQ_JN_NEG : TQ_JN_POS, TQ_JO_NONE, a, NULL, out));
    } else {
        TQ_TRY(tq_jp_primary(p, false, out));
    }
    TQ_TRY(postfix(p, out));
    while (filters) {
        if (tq_jp_is_op(p, TQ_JO_PIPE))
            TQ_TRY(tq_jp_filters(p, *out, false, out));
        else if (tq_jp_skip_name(p, "is"))
            TQ_TRY(test(p, out));
        else if (tq_jp_is_op(p, TQ_JO_LPAREN))
            TQ_TRY(call(p, out));
        else
            break;
    }
    p->depth--;
    return TOQUE_OK;
}

static toque_status power(tq_jparser *p, tq_jnode **out) {
    TQ_TRY(unary(p, true, out));
    while (tq_jp_skip_op(p, TQ_JO_POW)) {
        tq_jnode *b;
        TQ_TRY(unary(p, true, &b));
        TQ_TRY(wrap(p, TQ_JN_BINARY, TQ_JO_POW, *out, b, out));
    }
    return TOQUE_OK;
}

static toque_status product(tq_jparser *p, tq_jnode **out) {
    TQ_TRY(power(p, out));
    while (tq_jp_is_op(p, TQ_JO_MUL) || tq_jp_is_op(p, TQ_JO_DIV) || tq_jp_is_op(p, TQ_JO_FLOORDIV) ||
           tq_jp_is_op(p, TQ_JO_MOD)) {
        tq_jop op = (p->at++)->op;
        tq_jnode *b;
        TQ_TRY(power(p, &b));
        TQ_TRY(wrap(p, TQ_JN_BINARY, op, *out, b, out));
    }
    return TOQUE_OK;
}

static toque_status concat(tq_jparser *p, tq_jnode **out) {
    TQ_TRY(product(p, out));
    if (!tq_jp_is_op(p, TQ_JO_TILDE)) return TOQUE_OK;
    tq_jnode *n, **tail;
    TQ_TRY(tq_jp_node(p, TQ_JN_CONCAT, &n));
    n->list = *out;
    tail = &n->list->next;
    while (tq_jp_skip_op(p, TQ_JO_TILDE)) {
        TQ_TRY(product(p, tail));
        tail = &(*tail)->next;
    }
    *out = n;
    return TOQUE_OK;
}

static toque_status sum(tq_jparser *p, tq_jnode **out) {
    TQ_TRY(concat(p, out));
    while (tq_jp_is_op(p, TQ_JO_ADD) || tq_jp_is_op(p, TQ_JO_SUB)) {
        tq_jop op = (p->at++)->op;
        tq_jnode *b;
        TQ_TRY(concat(p, &b));
        TQ_TRY(wrap(p, TQ_JN_BINARY, op, *out, b, out));
    }
    return TOQUE_OK;
}

static bool comparison(tq_jparser *p, tq_jop *op) {
    if (p->at->kind == TQ_JT_OP && p->at->op >= TQ_JO_EQ && p->at->op <= TQ_JO_GE) {
        *op = (p->at++)->op;
        return true;
    }
    if (tq_jp_skip_name(p, "in")) {
        *op = TQ_JO_IN;
        return true;
    }
    if (!tq_jp_is_name(p, p->at, "not") || !tq_jp_is_name(p, p->at + 1, "in")) return false;
    p->at += 2;
    *op = TQ_JO_NOTIN;
    return true;
}

static toque_status compare(tq_jparser *p, tq_jnode **out) {
    TQ_TRY(sum(p, out));
    tq_jnode *n = NULL, **tail = NULL;
    tq_jop op;
    while (comparison(p, &op)) {
        if (!n) {
            TQ_TRY(wrap(p, TQ_JN_COMPARE, TQ_JO_NONE, *out, NULL, &n));
            tail = &n->list;
        }
        tq_jnode *b;
        TQ_TRY(sum(p, &b));
        TQ_TRY(wrap(p, TQ_JN_OPERAND, op, b, NULL, tail));
        tail = &(*tail)->next;
    }
    if (n) *out = n;
    return TOQUE_OK;
}

static toque_status negation(tq_jparser *p, tq_jnode **out) {
    int count = 0;
    while (tq_jp_skip_name(p, "not")) count = count == 2 ? 1 : count + 1; /* not not not x is not x */
    TQ_TRY(compare(p, out));
    while (count--) TQ_TRY(wrap(p, TQ_JN_NOT, TQ_JO_NONE, *out, NULL, out));
    return TOQUE_OK;
}

static toque_status conjunction(tq_jparser *p, tq_jnode **out) {
    TQ_TRY(negation(p, out));
    while (tq_jp_skip_name(p, "and")) {
        tq_jnode *b;
        TQ_TRY(negation(p, &b));
        TQ_TRY(wrap(p, TQ_JN_AND, TQ_JO_NONE, *out, b, out));
    }
    return TOQUE_OK;
}

static toque_status disjunction(tq_jparser *p, tq_jnode **out) {
    TQ_TRY(conjunction(p, out));
    while (tq_jp_skip_name(p, "or")) {
        tq_jnode *b;
        TQ_TRY(conjunction(p, &b));
        TQ_TRY(wrap(p, TQ_JN_OR, TQ_JO_NONE, *out, b, out));
    }
    return TOQUE_OK;
}

/* All parts of a conditional expression are branches that may never run, also the one before the `if`. */
static toque_status expression(tq_jparser *p, bool condexpr, tq_jnode **out) {
    TQ_TRY(tq_jp_enter(p));
    const tq_jtoken *unknown_before = p->unknown;
    TQ_TRY(disjunction(p, out));
    while (condexpr && tq_jp_skip_name(p, "if")) {
        tq_jnode *n;
        bool soft = p->soft;
        p->soft = true;
        p->unknown = unknown_before;
        TQ_TRY(tq_jp_node(p, TQ_JN_COND, &n));
        n->a = *out;
        TQ_TRY(disjunction(p, &n->b));
        if (tq_jp_skip_name(p, "else")) TQ_TRY(expression(p, true, &n->c));
        p->soft = soft;
        *out = n;
    }
    p->depth--;
    return TOQUE_OK;
}

toque_status tq_jp_expr(tq_jparser *p, tq_jnode **out) {
    return expression(p, true, out);
}

static toque_status tuple(tq_jparser *p, bool condexpr, const char *end, bool parens, tq_jnode **out) {
    tq_jnode *first = NULL, **tail = &first;
    bool many = false;
    for (;;) {
        if (p->at->kind == TQ_JT_VAR_END || p->at->kind == TQ_JT_BLOCK_END || tq_jp_is_op(p, TQ_JO_RPAREN) ||
            (end && tq_jp_is_name(p, p->at, end)))
            break;
        TQ_TRY(expression(p, condexpr, tail));
        tail = &(*tail)->next;
        if (!tq_jp_skip_op(p, TQ_JO_COMMA)) break;
        many = true;
    }
    if (!first && !parens) return tq_jp_unexpected(p, "an expression");
    *out = first;
    if (first && !many) return TOQUE_OK;
    TQ_TRY(tq_jp_node(p, TQ_JN_TUPLE, out));
    (*out)->list = first;
    return TOQUE_OK;
}

toque_status tq_jp_tuple(tq_jparser *p, bool condexpr, const char *end, tq_jnode **out) {
    return tuple(p, condexpr, end, false, out);
}
