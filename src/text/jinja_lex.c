/* Tokens of a template, with the white-space rules of jinja2 under trim_blocks and lstrip_blocks:
 *   - a newline right after a block tag or comment is dropped (not after {{ }});
 *   - blanks between the start of a line and a block tag or comment are dropped, unless it opens with `{%+`;
 *   - `-` at an edge of a tag drops all white space on that side.
 * The source was normalized before (tq_template_parse). A tag's end is not recognized inside brackets, so that
 * {{ {'a': {}} }} works. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "text/jinja.h"

typedef struct lexer {
    const tq_template *t;
    const char *s;
    size_t n, at;
    uint32_t line;
    size_t counted;  /* `line` is the line of this offset */
    bool line_start; /* the last match ended in a newline */
    tq_jtokens *out;
    toque_error *err;
} lexer;

toque_status tq_jinja_fail_at(const tq_template *t, size_t at, toque_error *err, toque_status code, const char *format,
                              ...) {
    char text[300];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t line = 1, start = 0, column = 1;
    for (size_t i = 0; i < at && i < t->len; i++)
        if (t->source[i] == '\n') line++, start = i + 1;
    for (size_t i = start; i < at && i < t->len; i++) column += ((unsigned char)t->source[i] & 0xC0) != 0x80;
    return tq_fail(err, code, "template %s, line %zu, column %zu: %s", t->name, line, column, text);
}

static toque_status push(lexer *l, tq_jtoken_kind kind, tq_jop op, size_t at, size_t len) {
    if (!TQ_GROW(l->t->mem, l->out->items, l->out->len, l->out->cap)) return TQ_NOMEM(l->err);
    for (; l->counted < at; l->counted++) l->line += l->s[l->counted] == '\n';
    l->out->items[l->out->len++] =
        (tq_jtoken){.kind = (uint8_t)kind, .op = (uint8_t)op, .line = l->line, .at = at, .len = len};
    return TOQUE_OK;
}

static bool starts(const lexer *l, size_t at, const char *text) {
    size_t n = strlen(text);
    return l->n - at >= n && memcmp(l->s + at, text, n) == 0;
}

static size_t skip_space(const lexer *l, size_t at) {
    while (at < l->n) {
        int32_t cp;
        size_t n = tq_j_decode(l->s + at, l->n - at, &cp);
        if (!tq_j_is_space(cp)) break;
        at += n;
    }
    return at;
}

/* Where white space that ends at `end` begins, not before `from`. */
static size_t back_space(const lexer *l, size_t from, size_t end) {
    while (end > from) {
        size_t i = end - 1;
        while (i > from && ((unsigned char)l->s[i] & 0xC0) == 0x80) i--;
        int32_t cp;
        tq_j_decode(l->s + i, end - i, &cp);
        if (!tq_j_is_space(cp)) break;
        end = i;
    }
    return end;
}

/* Text [from, end) before a tag whose opening sign is `sign` (0 for none). */
static toque_status data(lexer *l, size_t from, size_t end, char sign, bool variable) {
    if (sign == '-') {
        end = back_space(l, from, end);
    } else if (sign != '+' && !variable) {
        size_t line = end;
        while (line > from && l->s[line - 1] != '\n') line--;
        if ((line > from || l->line_start) && back_space(l, line, end) == line) end = line;
    }
    return end > from ? push(l, TQ_JT_DATA, TQ_JO_NONE, from, end - from) : TOQUE_OK;
}

static char sign_at(const lexer *l, size_t at) {
    return at < l->n && (l->s[at] == '-' || l->s[at] == '+') ? l->s[at] : 0;
}

/* The end of a block tag or comment at `at` (its text is `end`, two bytes): the offset behind it, or 0. */
static size_t tag_end(const lexer *l, size_t at, const char *end) {
    if (starts(l, at, end)) return at + 2 + (at + 2 < l->n && l->s[at + 2] == '\n');
    if (l->n - at < 3 || !starts(l, at + 1, end)) return 0;
    if (l->s[at] == '-') return skip_space(l, at + 3);
    return l->s[at] == '+' ? at + 3 : 0;
}

/* {% raw %} ... {% endraw %}; `body` is the offset behind the opening tag. */
static toque_status raw_block(lexer *l, size_t opened, size_t body) {
    l->line_start = body > 0 && l->s[body - 1] == '\n';
    l->at = body;
    if (body == l->n) return TOQUE_OK; /* jinja2 lets a template end behind an opening tag */
    for (size_t at = body; at + 2 <= l->n; at++) {
        if (!starts(l, at, "{%")) continue;
        char sign = sign_at(l, at + 2);
        size_t word = skip_space(l, at + 2 + (sign != 0));
        if (!starts(l, word, "endraw")) continue;
        size_t end = tag_end(l, skip_space(l, word + 6), "%}");
        if (!end) continue;
        TQ_TRY(data(l, body, at, sign, false));
        l->at = end;
        l->line_start = l->s[end - 1] == '\n';
        return TOQUE_OK;
    }
    return TQ_JINJA_FAIL(l->t, opened, l->err, EFORMAT, "{%% raw %%} is never closed by {%% endraw %%}");
}

static toque_status comment(lexer *l, size_t opened, size_t body) {
    l->at = body;
    if (body == l->n) return TOQUE_OK;
    for (size_t at = body; at < l->n; at++) {
        size_t end = tag_end(l, at, "#}");
        if (!end) continue;
        l->at = end;
        l->line_start = l->s[end - 1] == '\n';
        return TOQUE_OK;
    }
    return TQ_JINJA_FAIL(l->t, opened, l->err, EFORMAT, "the comment is never closed by #}");
}

/* Behind `{%` and its sign: the offset behind a complete `raw %}`, or 0. */
static size_t raw_open(const lexer *l, size_t at) {
    at = skip_space(l, at);
    if (!starts(l, at, "raw")) return 0;
    at = skip_space(l, at + 3);
    if (starts(l, at, "%}")) return at + 2;
    return starts(l, at, "-%}") ? skip_space(l, at + 3) : 0;
}

static bool digit(const lexer *l, size_t at) {
    return at < l->n && l->s[at] >= '0' && l->s[at] <= '9';
}

/* Digits with single underscores between them; the offset behind. */
static size_t digits(const lexer *l, size_t at) {
    while (digit(l, at) || (at < l->n && l->s[at] == '_' && digit(l, at + 1))) at++;
    return at;
}

static size_t exponent(const lexer *l, size_t at) {
    if (at >= l->n || (l->s[at] | 32) != 'e') return at;
    size_t d = at + 1;
    if (d < l->n && (l->s[d] == '+' || l->s[d] == '-')) d++;
    return digit(l, d) ? digits(l, d) : at;
}

static size_t prefixed(const lexer *l, size_t at) {
    const char *set = NULL;
    char kind = l->n - at > 1 && l->s[at] == '0' ? (char)(l->s[at + 1] | 32) : 0;
    if (kind == 'x') set = "0123456789abcdefABCDEF";
    if (kind == 'o') set = "01234567";
    if (kind == 'b') set = "01";
    if (!set) return at;
    size_t i = at + 2;
    while (i < l->n) {
        size_t c = i + (l->s[i] == '_');
        if (c >= l->n || l->s[c] == 0 || !strchr(set, l->s[c])) break;
        i = c + 1;
    }
    return i > at + 2 ? i : at;
}

static toque_status number(lexer *l) {
    size_t at = l->at, end = digits(l, at);
    bool real = false;
    if (at == 0 || l->s[at - 1] != '.') {
        size_t e = end;
        if (e < l->n && l->s[e] == '.' && digit(l, e + 1)) e = digits(l, e + 1);
        e = exponent(l, e);
        real = e > end;
        if (real) end = e;
    }
    if (!real) {
        size_t p = prefixed(l, at);
        if (p > at) {
            end = p;
        } else if (l->s[at] == '0') { /* 0, 00, ...: a further digit is a token of its own, as in jinja2 */
            end = at + 1;
            while (end < l->n && (l->s[end] == '0' || (l->s[end] == '_' && end + 1 < l->n && l->s[end + 1] == '0')))
                end++;
        }
    }
    TQ_TRY(push(l, real ? TQ_JT_FLOAT : TQ_JT_INT, TQ_JO_NONE, at, end - at));
    l->at = end;
    return TOQUE_OK;
}

static bool name_byte(unsigned char c) {
    return c == '_' || c >= 0x80 || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
}

static toque_status operator_token(lexer *l, char *open, size_t *depth) {
    static const struct {
        char text[3];
        uint8_t op;
    } ops[] = {{"//", TQ_JO_FLOORDIV}, {"**", TQ_JO_POW},     {"==", TQ_JO_EQ},    {"!=", TQ_JO_NE},
               {">=", TQ_JO_GE},       {"<=", TQ_JO_LE},      {"+", TQ_JO_ADD},    {"-", TQ_JO_SUB},
               {"*", TQ_JO_MUL},       {"/", TQ_JO_DIV},      {"%", TQ_JO_MOD},    {"~", TQ_JO_TILDE},
               {"[", TQ_JO_LBRACKET},  {"]", TQ_JO_RBRACKET}, {"(", TQ_JO_LPAREN}, {")", TQ_JO_RPAREN},
               {"{", TQ_JO_LBRACE},    {"}", TQ_JO_RBRACE},   {">", TQ_JO_GT},     {"<", TQ_JO_LT},
               {"=", TQ_JO_ASSIGN},    {".", TQ_JO_DOT},      {":", TQ_JO_COLON},  {"|", TQ_JO_PIPE},
               {",", TQ_JO_COMMA},     {";", TQ_JO_SEMICOLON}};
    size_t i = 0, count = sizeof ops / sizeof *ops;
    while (i < count && !starts(l, l->at, ops[i].text)) i++;
    if (i == count) {
        int32_t cp;
        size_t n = tq_j_decode(l->s + l->at, l->n - l->at, &cp);
        return TQ_JINJA_FAIL(l->t, l->at, l->err, EFORMAT, "unexpected character '%.*s' in a tag", (int)n,
                             l->s + l->at);
    }
    char c = l->s[l->at];
    if (c == '(' || c == '[' || c == '{') {
        if (*depth == TQ_J_MAX_NESTING)
            return TQ_JINJA_FAIL(l->t, l->at, l->err, ELIMIT, "more than %d nested brackets", TQ_J_MAX_NESTING);
        open[(*depth)++] = c == '(' ? ')' : (char)(c + 2);
    } else if (c == ')' || c == ']' || c == '}') {
        if (*depth == 0) return TQ_JINJA_FAIL(l->t, l->at, l->err, EFORMAT, "'%c' closes nothing", c);
        if (open[--*depth] != c)
            return TQ_JINJA_FAIL(l->t, l->at, l->err, EFORMAT, "found '%c' where '%c' must come first", c,
                                 open[*depth]);
    }
    size_t n = strlen(ops[i].text);
    TQ_TRY(push(l, TQ_JT_OP, ops[i].op, l->at, n));
    l->at += n;
    return TOQUE_OK;
}

static toque_status string_token(lexer *l) {
    char quote = l->s[l->at];
    for (size_t i = l->at + 1; i < l->n; i++) {
        if (l->s[i] == '\\') {
            i++;
        } else if (l->s[i] == quote) {
            TQ_TRY(push(l, TQ_JT_STRING, TQ_JO_NONE, l->at, i + 1 - l->at));
            l->at = i + 1;
            return TOQUE_OK;
        }
    }
    return TQ_JINJA_FAIL(l->t, l->at, l->err, EFORMAT, "the string has no closing %c", quote);
}

/* The end of {{ }} or {% %} at l->at: the offset behind it, or 0. */
static size_t close_at(const lexer *l, bool variable) {
    if (!variable) return tag_end(l, l->at, "%}");
    if (starts(l, l->at, "}}")) return l->at + 2;
    return starts(l, l->at, "-}}") ? skip_space(l, l->at + 3) : 0;
}

/* The inside of {{ }} or {% %}. */
static toque_status tag(lexer *l, size_t opened, bool variable) {
    char open[TQ_J_MAX_NESTING];
    size_t depth = 0;
    while (l->at < l->n) {
        size_t end = depth ? 0 : close_at(l, variable);
        if (end) {
            TQ_TRY(push(l, variable ? TQ_JT_VAR_END : TQ_JT_BLOCK_END, TQ_JO_NONE, l->at, end - l->at));
            l->at = end;
            l->line_start = l->s[end - 1] == '\n';
            return TOQUE_OK;
        }
        size_t space = skip_space(l, l->at);
        unsigned char c = (unsigned char)l->s[l->at];
        if (space > l->at) {
            l->at = space;
        } else if (c >= '0' && c <= '9') {
            TQ_TRY(number(l));
        } else if (name_byte(c)) {
            size_t from = l->at;
            while (l->at < l->n && name_byte((unsigned char)l->s[l->at])) l->at++;
            TQ_TRY(push(l, TQ_JT_NAME, TQ_JO_NONE, from, l->at - from));
        } else if (c == '\'' || c == '"') {
            TQ_TRY(string_token(l));
        } else {
            TQ_TRY(operator_token(l, open, &depth));
        }
    }
    return TQ_JINJA_FAIL(l->t, opened, l->err, EFORMAT, "this tag is never closed by %s", variable ? "}}" : "%}");
}

toque_status tq_jinja_lex(const tq_template *t, tq_jtokens *tokens, toque_error *err) {
    lexer l = {.t = t, .s = t->source, .n = t->len, .line = 1, .line_start = true, .out = tokens, .err = err};
    while (l.at < l.n) {
        size_t from = l.at, open = from;
        while (open < l.n && !(l.s[open] == '{' && open + 1 < l.n &&
                               (l.s[open + 1] == '%' || l.s[open + 1] == '{' || l.s[open + 1] == '#')))
            open++;
        if (open == l.n) {
            TQ_TRY(push(&l, TQ_JT_DATA, TQ_JO_NONE, from, open - from));
            break;
        }
        char kind = l.s[open + 1], sign = sign_at(&l, open + 2);
        size_t behind = open + 2 + (sign != 0);
        TQ_TRY(data(&l, from, open, sign, kind == '{'));
        size_t raw = kind == '%' ? raw_open(&l, behind) : 0;
        if (raw) {
            TQ_TRY(raw_block(&l, open, raw));
        } else if (kind == '#') {
            TQ_TRY(comment(&l, open, behind));
        } else {
            l.at = behind;
            TQ_TRY(push(&l, kind == '{' ? TQ_JT_VAR_BEGIN : TQ_JT_BLOCK_BEGIN, TQ_JO_NONE, open, behind - open));
            TQ_TRY(tag(&l, open, kind == '{'));
        }
    }
    return push(&l, TQ_JT_EOF, TQ_JO_NONE, l.n, 0);
}
