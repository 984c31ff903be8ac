/* Filters on single values: texts, numbers, JSON. Those on lists stand in jinja_list_filters.c. A filter that jinja2
 * has and these tables lack is refused when the template is parsed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/jinja.h"

#define FILTER(name)                                                                                                   \
    static toque_status name(tq_jrun *j, const tq_jval *in, const tq_jval *p, const tq_jargs *args, tq_jval *out)
#define UNUSED ((void)j, (void)in, (void)p, (void)args)

static bool given(const tq_jval *p) {
    return p->type != TQ_J_MISSING && p->type != TQ_J_NONE;
}

static bool flag(const tq_jval *p) {
    return p->type != TQ_J_MISSING && tq_j_true(p);
}

/* ---- case and white space ---- */

static toque_status mapped(tq_jrun *j, const tq_jval *in, tq_j_mapping *map, tq_jval *out) {
    tq_jval text;
    TQ_TRY(tq_j_str(j, in, &text));
    TQ_TRY(tq_j_map(j, text.s, map, out));
    out->safe = text.safe;
    return TOQUE_OK;
}
FILTER(lower) {
    UNUSED;
    return mapped(j, in, tq_j_lower, out);
}
FILTER(upper) {
    UNUSED;
    return mapped(j, in, tq_j_upper, out);
}
FILTER(capitalize) {
    UNUSED;
    return mapped(j, in, tq_j_capitalize, out);
}
static int32_t title_word(int32_t cp, int32_t before) {
    bool start = before < 0 || tq_j_is_space(before) || (before < 128 && strchr("-({[<", (char)before));
    return start ? tq_j_upper(cp, before) : tq_j_lower(cp, before);
}
FILTER(title) {
    UNUSED;
    return mapped(j, in, title_word, out);
}

FILTER(trim) {
    UNUSED;
    tq_jval text;
    TQ_TRY(tq_j_str(j, in, &text));
    if (given(p)) TQ_TRY(tq_j_str_arg(j, p, "trim"));
    return tq_j_strip(j, &text, given(p) ? p->s : NULL, 3, out);
}

FILTER(replace) {
    UNUSED;
    tq_jval text, old, with;
    int64_t count;
    TQ_TRY(tq_j_str(j, in, &text));
    TQ_TRY(tq_j_str(j, &p[0], &old));
    TQ_TRY(tq_j_str(j, &p[1], &with));
    TQ_TRY(tq_j_int_arg(j, &p[2], -1, &count));
    return tq_j_replace(j, text.s, old.s, with.s, count, out);
}

FILTER(string) {
    UNUSED;
    return tq_j_str(j, in, out);
}
FILTER(safe) {
    UNUSED;
    TQ_TRY(tq_j_str(j, in, out));
    out->safe = true;
    return TOQUE_OK;
}
FILTER(escape) {
    UNUSED;
    return tq_j_escape(j, in, out);
}
FILTER(forceescape) {
    UNUSED;
    tq_jval text;
    TQ_TRY(tq_j_str(j, in, &text));
    text.safe = false;
    return tq_j_escape(j, &text, out);
}

FILTER(center) {
    UNUSED;
    tq_jval text;
    int64_t width;
    TQ_TRY(tq_j_str(j, in, &text));
    TQ_TRY(tq_j_int_arg(j, p, 80, &width));
    return tq_j_center(j, &text, width, out);
}

FILTER(indent) {
    UNUSED;
    tq_jval with, lines, whole, newline;
    int64_t width;
    bool first = flag(&p[1]), blank = flag(&p[2]);
    if (in->type == TQ_J_UNDEFINED) return tq_j_use_undefined(j, in);
    TQ_TRY(tq_j_str_arg(j, in, "indent"));
    if (p[0].type == TQ_J_STR) {
        with = p[0];
    } else {
        TQ_TRY(tq_j_int_arg(j, &p[0], 4, &width));
        if (width < 0) width = 0;
        if ((uint64_t)width > j->max_bytes) return TQ_FAIL(j->err, ELIMIT, "an indent of %lld", (long long)width);
        tq_jbytes *spaces = tq_j_bytes(j, (size_t)width);
        if (!spaces) return tq_j_full(j);
        TQ_J_STEP(j, (uint64_t)width);
        while (width-- > 0) TQ_TRY(tq_j_put(j, spaces, " ", 1, tq_j_template_origin));
        TQ_TRY(tq_j_finish(j, spaces, &with));
    }
    TQ_TRY(tq_j_text(j, "\n", 1, tq_j_template_origin, &newline));
    TQ_TRY(tq_j_cat(j, in->s, newline.s, &whole)); /* so that a last empty line counts */
    TQ_TRY(tq_j_splitlines(j, whole.s, false, &lines));
    tq_jbytes *b = tq_j_bytes(j, whole.s->len * 2);
    if (!b) return tq_j_full(j);
    for (size_t i = 0; i < lines.list->len; i++) {
        const tq_jstr *line = tq_jlist_items(lines.list)[i].s;
        if (i) TQ_TRY(tq_j_puts(j, b, "\n", tq_j_template_origin));
        if (i ? blank || line->len : first) TQ_TRY(tq_j_put_str(j, b, with.s));
        TQ_TRY(tq_j_put_str(j, b, line));
    }
    TQ_TRY(tq_j_finish(j, b, out));
    out->safe = in->safe;
    return TOQUE_OK;
}

FILTER(truncate) {
    UNUSED;
    tq_jval text, end;
    int64_t length, leeway;
    TQ_TRY(tq_j_str(j, in, &text));
    TQ_TRY(tq_j_int_arg(j, &p[0], 255, &length));
    TQ_TRY(tq_j_int_arg(j, &p[3], 5, &leeway));
    TQ_TRY(tq_j_text(j, "...", 3, tq_j_template_origin, &end));
    if (given(&p[2])) TQ_TRY(tq_j_str(j, &p[2], &end));
    int64_t keep = length - (int64_t)tq_jstr_chars(end.s), chars = (int64_t)tq_jstr_chars(text.s);
    if (keep < 0 || leeway < 0) return TQ_J_FAIL(j, "truncate needs a length of its end at least");
    *out = text;
    if (chars - leeway <= length) return TOQUE_OK;
    size_t cut = tq_jstr_offset(text.s, (size_t)keep), at = cut;
    if (!flag(&p[1])) {
        while (at > 0 && tq_jstr_data(text.s)[at - 1] != ' ') at--;
        if (at) cut = at - 1;
    }
    TQ_TRY(tq_j_sub(j, text.s, 0, cut, &text));
    return tq_j_cat(j, text.s, end.s, out);
}

FILTER(wordcount) {
    UNUSED;
    tq_jval text;
    int64_t words = 0;
    bool inside = false;
    TQ_TRY(tq_j_str(j, in, &text));
    TQ_J_STEP(j, text.s->len / 16);
    for (size_t i = 0; i < text.s->len;) {
        int32_t cp;
        i += tq_j_decode(tq_jstr_data(text.s) + i, text.s->len - i, &cp);
        bool word = tq_j_is_word(cp);
        words += word && !inside;
        inside = word;
    }
    *out = tq_j_int(words);
    return TOQUE_OK;
}

FILTER(format) {
    UNUSED;
    tq_jval text, values;
    TQ_TRY(tq_j_str(j, in, &text));
    if (args->n && args->n_kw) return TQ_J_FAIL(j, "format takes positional or named arguments, not both");
    TQ_TRY(args->n_kw ? tq_j_dict(j, args->n_kw, TQ_J_DICT, &values) : tq_j_list(j, args->n, TQ_J_TUPLE, &values));
    for (size_t i = 0; i < args->n; i++) TQ_TRY(tq_j_push(j, &values, args->pos[i]));
    for (size_t i = 0; i < args->n_kw; i++) TQ_TRY(tq_j_dict_set(j, values.dict, args->kw[i].name, args->kw[i].value));
    return tq_j_percent(j, text.s, &values, out);
}

static toque_status put_quoted(tq_jrun *j, tq_jbytes *b, const tq_jval *v, bool query) {
    static const char keep[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~";
    tq_jval text;
    TQ_TRY(tq_j_str(j, v, &text));
    const char *s = tq_jstr_data(text.s);
    for (size_t i = 0, end; i < text.s->len; i++) {
        char to[4];
        tq_origin o = tq_jstr_origin(text.s, i, &end);
        TQ_J_STEP(j, 1);
        if ((s[i] && strchr(keep, s[i])) || (!query && s[i] == '/')) {
            TQ_TRY(tq_j_put(j, b, s + i, 1, o));
        } else if (query && s[i] == ' ') {
            TQ_TRY(tq_j_put(j, b, "+", 1, o));
        } else {
            snprintf(to, sizeof to, "%%%02X", (unsigned char)s[i]);
            TQ_TRY(tq_j_put(j, b, to, 3, o));
        }
    }
    return TOQUE_OK;
}

FILTER(urlencode) {
    UNUSED;
    tq_jbytes *b = tq_j_bytes(j, 64);
    if (!b) return tq_j_full(j);
    if (in->type == TQ_J_STR || !tq_j_iterable(in)) {
        TQ_TRY(put_quoted(j, b, in, false));
        return tq_j_finish(j, b, out);
    }
    tq_jview view = {.dict = in->type == TQ_J_DICT ? in->dict : NULL, .kind = TQ_J_ITEMS};
    tq_jval pairs = *in;
    if (view.dict) pairs = (tq_jval){.type = TQ_J_VIEW, .message = -1, .view = &view};
    const tq_jlist *items;
    TQ_TRY(tq_j_items(j, &pairs, &items));
    for (size_t i = 0; i < items->len; i++) {
        const tq_jlist *pair;
        TQ_TRY(tq_j_items(j, &tq_jlist_items(items)[i], &pair));
        if (pair->len != 2) return TQ_J_FAIL(j, "urlencode needs pairs");
        if (i) TQ_TRY(tq_j_puts(j, b, "&", tq_j_template_origin));
        TQ_TRY(put_quoted(j, b, &tq_jlist_items(pair)[0], true));
        TQ_TRY(tq_j_puts(j, b, "=", tq_j_template_origin));
        TQ_TRY(put_quoted(j, b, &tq_jlist_items(pair)[1], true));
    }
    return tq_j_finish(j, b, out);
}

/* ---- numbers ---- */

/* Reads a number as Python's int(text, base) and float(text) do; false if it is none. */
static bool clean_number(const tq_jstr *s, char *to, size_t room) {
    const char *p = tq_jstr_data(s);
    size_t from = 0, end = s->len, n = 0;
    while (from < end && tq_j_is_space((unsigned char)p[from])) from++;
    while (end > from && tq_j_is_space((unsigned char)p[end - 1])) end--;
    for (size_t i = from; i < end; i++) {
        if (p[i] == '_' && i > from && i + 1 < end && p[i - 1] != '_' && p[i + 1] != '_') continue;
        if (n + 1 == room || p[i] == '_' || p[i] <= ' ') return false;
        to[n++] = p[i];
    }
    to[n] = 0;
    return n > 0;
}

static bool parse_int(const tq_jstr *s, int64_t base, int64_t *v, bool *large) {
    char text[400];
    *large = false;
    if (!clean_number(s, text, sizeof text)) return false;
    const char *p = text;
    bool minus = *p == '-';
    if (*p == '-' || *p == '+') p++;
    char mark = p[0] == '0' ? (char)(p[1] | 32) : 0;
    int64_t prefix = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
    if (prefix && (base == prefix || base == 0)) {
        base = prefix;
        p += 2;
    }
    if (base == 0) base = 10;
    if (!*p) return false;
    for (*v = 0; *p; p++) {
        int d = *p >= '0' && *p <= '9' ? *p - '0' : (*p | 32) >= 'a' && (*p | 32) <= 'z' ? (*p | 32) - 'a' + 10 : 99;
        if (d >= base) return false;
        *large |=
            __builtin_mul_overflow(*v, base, v) || __builtin_sub_overflow(*v, d, v); /* negative: reaches further */
    }
    if (!minus) *large |= __builtin_sub_overflow((int64_t)0, *v, v);
    return true;
}

static bool parse_float(const tq_jstr *s, double *v) {
    char text[400], *end;
    if (!clean_number(s, text, sizeof text) || strpbrk(text, "xXpP(")) return false;
    *v = strtod(text, &end);
    return !*end;
}

FILTER(to_int) {
    UNUSED;
    int64_t base, i;
    double f;
    bool large = false;
    TQ_TRY(tq_j_int_arg(j, &p[1], 10, &base));
    *out = p[0].type == TQ_J_MISSING ? tq_j_int(0) : p[0];
    if (in->type == TQ_J_UNDEFINED) return tq_j_use_undefined(j, in);
    if (tq_j_is_int(in)) {
        *out = tq_j_int(tq_j_as_int(in));
    } else if (in->type == TQ_J_STR && (base == 0 || (base > 1 && base <= 36)) && parse_int(in->s, base, &i, &large)) {
        if (large) return TQ_FAIL(j->err, ELIMIT, "an integer is over 64 bits");
        *out = tq_j_int(i);
    } else if (in->type == TQ_J_FLOAT || (in->type == TQ_J_STR && parse_float(in->s, &f))) {
        if (in->type == TQ_J_FLOAT) f = in->f;
        if (in->type == TQ_J_FLOAT && isinf(f)) return TQ_J_FAIL(j, "infinity is no int");
        if (isfinite(f)) {
            if (!(f > -9.2e18 && f < 9.2e18)) return TQ_FAIL(j->err, ELIMIT, "an integer is over 64 bits");
            *out = tq_j_int((int64_t)f);
        }
    }
    return TOQUE_OK;
}

FILTER(to_float) {
    UNUSED;
    double f;
    *out = p[0].type == TQ_J_MISSING ? tq_j_float(0) : p[0];
    if (in->type == TQ_J_UNDEFINED) return tq_j_use_undefined(j, in);
    if (tq_j_is_number(in))
        *out = tq_j_float(tq_j_as_float(in));
    else if (in->type == TQ_J_STR && parse_float(in->s, &f))
        *out = tq_j_float(f);
    return TOQUE_OK;
}

FILTER(absolute) {
    UNUSED;
    if (in->type == TQ_J_UNDEFINED) return tq_j_use_undefined(j, in);
    if (!tq_j_is_number(in)) return TQ_J_FAIL(j, "abs needs a number, not %s", tq_j_type_name(in));
    if (in->type == TQ_J_FLOAT) {
        *out = tq_j_float(fabs(in->f));
        return TOQUE_OK;
    }
    tq_jval zero = tq_j_int(0);
    return tq_j_binary(j, tq_j_as_int(in) < 0 ? TQ_JO_SUB : TQ_JO_ADD, &zero, in, out);
}

FILTER(round_number) {
    UNUSED;
    int64_t digits;
    if (in->type == TQ_J_UNDEFINED) return tq_j_use_undefined(j, in);
    if (!tq_j_is_number(in)) return TQ_J_FAIL(j, "round needs a number, not %s", tq_j_type_name(in));
    TQ_TRY(tq_j_int_arg(j, &p[0], 0, &digits));
    if (digits > 300 || digits < -300) return TQ_FAIL(j->err, ELIMIT, "round to %lld digits", (long long)digits);
    bool common = p[1].type == TQ_J_MISSING || tq_jstr_is(&p[1], "common"), ceiling = tq_jstr_is(&p[1], "ceil");
    if (!common && !ceiling && !tq_jstr_is(&p[1], "floor")) return TQ_J_FAIL(j, "round is common, ceil or floor");
    if (common && tq_j_is_int(in) && digits >= 0) {
        *out = tq_j_int(tq_j_as_int(in));
        return TOQUE_OK;
    }
    double f = tq_j_as_float(in), scale = pow(10, (double)digits);
    if (!common) {
        f = (ceiling ? ceil(f * scale) : floor(f * scale)) / scale;
    } else if (digits >= 0) {
        char text[700]; /* printf rounds the exact value, halves to even, as Python does */
        snprintf(text, sizeof text, "%.*f", (int)digits, f);
        f = strtod(text, NULL);
    } else {
        f = nearbyint(f * scale) / scale;
    }
    *out = common && tq_j_is_int(in) ? tq_j_int((int64_t)f) : tq_j_float(f);
    return TOQUE_OK;
}

/* ---- the rest ---- */

FILTER(fallback) {
    UNUSED;
    bool absent = in->type == TQ_J_UNDEFINED || (flag(&p[1]) && !tq_j_true(in));
    if (!absent)
        *out = *in;
    else if (p[0].type != TQ_J_MISSING)
        *out = p[0];
    else
        return tq_j_text(j, "", 0, tq_j_template_origin, out);
    return TOQUE_OK;
}

FILTER(length) {
    UNUSED;
    size_t n;
    bool known;
    TQ_TRY(tq_j_len(j, in, &n, &known));
    if (!known) return TQ_J_FAIL(j, "a %s has no length", tq_j_type_name(in));
    *out = tq_j_int((int64_t)n);
    return TOQUE_OK;
}

FILTER(attribute) {
    UNUSED;
    TQ_TRY(tq_j_str_arg(j, p, "attr"));
    return tq_j_attr(j, in, p, out);
}

/* indent: a number of blanks or a text; separators: (between items, behind keys). */
FILTER(tojson) {
    UNUSED;
    tq_jjson how = {.ascii = flag(&p[0]), .sort = flag(&p[3]), .pretty = given(&p[1])};
    TQ_TRY(tq_j_text(j, how.pretty ? "," : ", ", how.pretty ? 1 : 2, tq_j_template_origin, &how.comma));
    TQ_TRY(tq_j_text(j, ": ", 2, tq_j_template_origin, &how.colon));
    if (how.pretty && p[1].type == TQ_J_STR) {
        how.indent = p[1];
    } else if (how.pretty) {
        static const char blanks[] = "                                                                ";
        int64_t width;
        TQ_TRY(tq_j_int_arg(j, &p[1], 0, &width));
        if (width < 0) width = 0;
        if (width >= (int64_t)sizeof blanks) return TQ_FAIL(j->err, ELIMIT, "tojson indents by 64 at most");
        TQ_TRY(tq_j_text(j, blanks, (size_t)width, tq_j_template_origin, &how.indent));
    }
    if (given(&p[2])) {
        const tq_jlist *parts;
        TQ_TRY(tq_j_items(j, &p[2], &parts));
        if (parts->len != 2) return TQ_J_FAIL(j, "tojson needs two separators");
        how.comma = tq_jlist_items(parts)[0];
        how.colon = tq_jlist_items(parts)[1];
        TQ_TRY(tq_j_str_arg(j, &how.comma, "a separator"));
        TQ_TRY(tq_j_str_arg(j, &how.colon, "a separator"));
    }
    tq_jbytes *b = tq_j_bytes(j, 256);
    if (!b) return tq_j_full(j);
    TQ_TRY(tq_j_put_json(j, b, in, &how, 0));
    return tq_j_finish(j, b, out);
}

const tq_jfilter tq_j_text_filters[] = {
    {"lower", "", lower},
    {"upper", "", upper},
    {"capitalize", "", capitalize},
    {"title", "", title},
    {"trim", "?chars", trim},
    {"replace", "old new ?count", replace},
    {"string", "", string},
    {"safe", "", safe},
    {"escape", "", escape},
    {"e", "", escape},
    {"forceescape", "", forceescape},
    {"center", "?width", center},
    {"indent", "?width first blank", indent},
    {"truncate", "?length killwords end leeway", truncate},
    {"wordcount", "", wordcount},
    {"format", "*", format},
    {"urlencode", "", urlencode},
    {"int", "?default base", to_int},
    {"float", "?default", to_float},
    {"abs", "", absolute},
    {"round", "?precision method", round_number},
    {"default", "?default_value boolean", fallback},
    {"d", "?default_value boolean", fallback},
    {"length", "", length},
    {"count", "", length},
    {"attr", "name", attribute},
    {"tojson", "?ensure_ascii indent separators sort_keys", tojson},
    {.name = NULL},
};

const tq_jfilter *tq_j_find_filter(const char *s, size_t n) {
    const tq_jfilter *const tables[] = {tq_j_text_filters, tq_j_list_filters};
    for (int t = 0; t < 2; t++)
        for (const tq_jfilter *f = tables[t]; f->name; f++)
            if (strlen(f->name) == n && memcmp(f->name, s, n) == 0) return f;
    return NULL;
}

toque_status tq_j_run_filter(tq_jrun *j, const tq_jfilter *f, const tq_jval *in, const tq_jargs *args, tq_jval *out) {
    tq_jval p[TQ_J_PARAMS];
    TQ_J_STEP(j, 1);
    TQ_TRY(tq_j_enter(j));
    TQ_TRY(tq_j_bind(j, f->name, f->params, args, p));
    TQ_TRY(f->run(j, in, p, args, out));
    tq_j_leave(j);
    return TOQUE_OK;
}
