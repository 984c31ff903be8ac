/* Translating regular expressions. See regex.h. The two dialects differ, for what tokenizers use, in: \s and \d (all of
 * Unicode there), \uXXXX, ^ and $ (at every line there), \h (a hexadecimal digit there), script names (script
 * extensions by default here), and && and [ inside classes (intersection and nesting there). */
#include "text/regex.h"

#include <string.h>

#include "text/unicode.h"

typedef struct scan {
    const char *re;
    size_t n, at;
    tq_buf *out;
    toque_error *err;
} scan;

static toque_status fail_at(const scan *s, size_t at, const char *what) {
    size_t shown = s->n - at < 20 ? s->n - at : 20;
    return TQ_FAIL(s->err, EUNSUPPORTED,
                   "the pre-tokenizer's regular expression has %s at byte %zu ('%.*s'), which is "
                   "not supported",
                   what, at, (int)shown, s->re + at);
}

/* \p{Name}: general categories mean the same; a script's name is that script alone. */
static toque_status property(scan *s, size_t at) {
    static const char *const scripts[] = {"Han",        "Hiragana", "Katakana", "Hangul",  "Latin",
                                          "Greek",      "Cyrillic", "Arabic",   "Hebrew",  "Thai",
                                          "Devanagari", "Bengali",  "Tamil",    "Armenian"};
    char kind = s->re[s->at++];
    const char *close = s->at < s->n && s->re[s->at] == '{' ? memchr(s->re + s->at, '}', s->n - s->at) : NULL;
    if (!close) return fail_at(s, at, "a property without braces");
    const char *name = s->re + s->at + 1;
    size_t n = (size_t)(close - name);
    bool no = n && name[0] == '^';
    if (no) name++, n--;
    s->at = (size_t)(close - s->re) + 1;
    bool category = n >= 1 && n <= 2 && strchr("LMNPSZC", name[0]) && (n == 1 || strchr("ultmoncedksfcpi", name[1]));
    bool script = false;
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++)
        script = script || (strlen(scripts[i]) == n && memcmp(scripts[i], name, n) == 0);
    if (!category && !script) return fail_at(s, at, "a property");
    tq_buf_printf(s->out, "\\%c{%s%.*s}", (kind == 'P') != no ? 'P' : 'p', script ? "sc:" : "", (int)n, name);
    return TOQUE_OK;
}

/* \uXXXX or \xXX or \x{...}. */
static toque_status code_point(scan *s, size_t at) {
    bool wide = s->re[s->at++] == 'u', braces = !wide && s->at < s->n && s->re[s->at] == '{';
    size_t most = wide ? 4 : braces ? 6 : 2, digits = 0;
    s->at += braces;
    const char *first = s->re + s->at;
    while (digits < most && s->at < s->n && strchr("0123456789abcdefABCDEF", s->re[s->at]) && s->re[s->at])
        s->at++, digits++;
    bool closed = !braces || (s->at < s->n && s->re[s->at] == '}');
    if (!digits || (!braces && digits != most) || !closed) return fail_at(s, at, "a code point");
    s->at += braces;
    tq_buf_printf(s->out, "\\x{%.*s}", (int)digits, first);
    return TOQUE_OK;
}

static toque_status escape(scan *s, bool in_class) {
    size_t at = s->at++;
    if (s->at == s->n) return fail_at(s, at, "a lone backslash");
    char c = s->re[s->at];
    if (c == 'p' || c == 'P') return property(s, at);
    if (c == 'u' || c == 'x') return code_point(s, at);
    s->at++;
    if (c == 's' || c == 'S') {
        if (in_class && c == 'S') return fail_at(s, at, "\\S in a class");
        tq_buf_puts(s->out, in_class ? TQ_REGEX_SPACE : c == 's' ? "[" TQ_REGEX_SPACE "]" : "[^" TQ_REGEX_SPACE "]");
    } else if (c == 'd' || c == 'D') {
        tq_buf_puts(s->out, c == 'd' ? "\\p{Nd}" : "\\P{Nd}");
    } else if (c == 'r' || c == 'n' || c == 't' || c == 'f' || c == 'v') {
        tq_buf_puts(s->out, c == 'r'   ? "\\x0D"
                            : c == 'n' ? "\\x0A"
                            : c == 't' ? "\\x09"
                            : c == 'f' ? "\\x0C"
                                       : "\\x0B");
    } else if ((uint8_t)c < 0x80 && c > 0x20 && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z') && !(c >= '0' && c <= '9')) {
        tq_buf_printf(s->out, "\\%c", c);
    } else {
        return fail_at(s, at, "an escape");
    }
    return TOQUE_OK;
}

static toque_status class(scan *s) {
    size_t at = s->at++;
    tq_buf_putc(s->out, '[');
    if (s->at < s->n && s->re[s->at] == '^') tq_buf_putc(s->out, s->re[s->at++]);
    for (bool first = true; s->at < s->n; first = false) {
        char c = s->re[s->at];
        if (c == ']' && !first) {
            s->at++;
            tq_buf_putc(s->out, ']');
            return TOQUE_OK;
        }
        if (c == ']' || c == '[') return fail_at(s, s->at, "a bracket in a class");
        if (c == '&' && s->at + 1 < s->n && s->re[s->at + 1] == '&') return fail_at(s, s->at, "&&");
        if (c == '\\') {
            TQ_TRY(escape(s, true));
        } else {
            tq_buf_putc(s->out, c);
            s->at++;
        }
    }
    return fail_at(s, at, "a class without end");
}

/* What may follow an opening parenthesis. */
static toque_status group(scan *s) {
    static const char *const forms[] = {"?:", "?=", "?!", "?<=", "?<!", "?>", "?i:"};
    size_t at = s->at++;
    tq_buf_putc(s->out, '(');
    if (s->at < s->n && s->re[s->at] == '*') return fail_at(s, at, "a verb");
    if (s->at == s->n || s->re[s->at] != '?') return TOQUE_OK;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        size_t n = strlen(forms[i]);
        if (n > s->n - s->at || memcmp(s->re + s->at, forms[i], n) != 0) continue;
        tq_buf_puts(s->out, forms[i]);
        s->at += n;
        return TOQUE_OK;
    }
    return fail_at(s, at, "a group");
}

toque_status tq_regex_translate(tq_buf *out, const char *re, size_t n, toque_error *err) {
    scan s = {.re = re, .n = n, .out = out, .err = err};
    if (!n || n > TQ_REGEX_MAX / 16 || memchr(re, 0, n) || tq_utf8_valid_prefix(re, n) != n)
        return TQ_FAIL(err, EUNSUPPORTED,
                       "the pre-tokenizer's regular expression is empty, longer than %d bytes or no text",
                       TQ_REGEX_MAX / 16);
    while (s.at < n) {
        char c = re[s.at];
        if (c == '\\') {
            TQ_TRY(escape(&s, false));
        } else if (c == '[') {
            TQ_TRY(class(&s));
        } else if (c == '(') {
            TQ_TRY(group(&s));
        } else if (c == '^' || c == '$') {
            tq_buf_puts(out, c == '^' ? "(?m:^)" : "(?m:$)");
            s.at++;
        } else if (c == '}' && s.at + 1 < n && re[s.at + 1] == '+') {
            return fail_at(&s, s.at, "}+"); /* possessive here, greedy twice there */
        } else {
            tq_buf_putc(out, c);
            s.at++;
        }
    }
    return tq_buf_status(out, "the pre-tokenizer's expression", err);
}
