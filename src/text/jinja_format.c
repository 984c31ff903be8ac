/* Python's two ways of filling in a text: "%s: %d" % values and "{}: {:>8}".format(values). Bytes of the values keep
 * their marks; digits carry the origin of their number. Widths and precisions are bounded. */
#include <stdio.h>
#include <string.h>

#include "text/jinja.h"

enum { MAX_WIDTH = 1 << 16, MAX_PRECISION = 60 };

typedef struct spec {
    char fill[4];
    size_t fill_len;
    char align; /* < > = ^ or 0 */
    char sign;  /* + - space or 0 */
    bool alt, comma;
    int64_t width, precision; /* precision -1: not given */
    char type;                /* 0: not given */
} spec;

static toque_status put_fill(tq_jrun *j, tq_jbytes *b, const spec *f, int64_t n) {
    TQ_J_STEP(j, n > 0 ? (uint64_t)n : 0);
    for (; n > 0; n--) TQ_TRY(tq_j_put(j, b, f->fill, f->fill_len, tq_j_template_origin));
    return TOQUE_OK;
}

/* A text in its field; head: bytes in front of which `=` does not pad (a sign). */
static toque_status put_padded(tq_jrun *j, tq_jbytes *b, tq_jstr *s, const spec *f, char align, size_t head) {
    int64_t room = f->width - (int64_t)tq_jstr_chars(s), left = 0;
    if (room < 0) room = 0;
    if (align == '>') left = room;
    if (align == '^') left = room / 2;
    TQ_TRY(put_fill(j, b, f, left));
    if (align == '=') {
        TQ_TRY(tq_j_put_part(j, b, s, 0, head));
        TQ_TRY(put_fill(j, b, f, room));
        return tq_j_put_part(j, b, s, head, s->len - head);
    }
    TQ_TRY(tq_j_put_str(j, b, s));
    return put_fill(j, b, f, room - left);
}

static toque_status put_text(tq_jrun *j, tq_jbytes *b, tq_jval v, const spec *f) {
    if (f->precision >= 0 && (uint64_t)f->precision < tq_jstr_chars(v.s))
        TQ_TRY(tq_j_sub(j, v.s, 0, tq_jstr_offset(v.s, (size_t)f->precision), &v));
    return put_padded(j, b, v.s, f, f->align ? f->align : '<', 0);
}

/* Digits of an integer in the base of its type, without sign. */
static size_t digits(uint64_t v, char type, char out[80]) {
    static const char lower[] = "0123456789abcdef", upper[] = "0123456789ABCDEF";
    unsigned base = type == 'x' || type == 'X' ? 16 : type == 'o' ? 8 : type == 'b' ? 2 : 10;
    char reversed[80];
    size_t n = 0;
    do reversed[n++] = (type == 'X' ? upper : lower)[v % base];
    while (v /= base);
    for (size_t i = 0; i < n; i++) out[i] = reversed[n - 1 - i];
    return n;
}

static size_t add_commas(char *text, size_t from, size_t n) {
    size_t end = from;
    while (end < n && text[end] >= '0' && text[end] <= '9') end++;
    for (size_t at = end; at > from + 3;) {
        at -= 3;
        memmove(text + at + 1, text + at, n - at);
        text[at] = ',';
        n++;
    }
    return n;
}

static toque_status put_number(tq_jrun *j, tq_jbytes *b, const tq_jval *v, const spec *f) {
    char text[900];
    size_t n = 0;
    bool whole = tq_j_is_int(v) && (!f->type || strchr("dnxXob", f->type));
    bool minus = whole ? tq_j_as_int(v) < 0 : __builtin_signbit(tq_j_as_float(v));
    if (minus)
        text[n++] = '-';
    else if (f->sign == '+' || f->sign == ' ')
        text[n++] = f->sign;
    size_t head = n;
    if (whole) {
        if (f->precision > MAX_PRECISION) return TQ_FAIL(j->err, ELIMIT, "a precision over %d", MAX_PRECISION);
        uint64_t u = minus ? 0 - (uint64_t)tq_j_as_int(v) : (uint64_t)tq_j_as_int(v);
        if (f->alt && f->type && strchr("xXob", f->type)) {
            text[n++] = '0';
            text[n++] = f->type;
            head = n;
        }
        char raw[80];
        size_t m = digits(u, f->type, raw);
        for (size_t i = m; f->precision > 0 && i < (size_t)f->precision; i++) text[n++] = '0';
        memcpy(text + n, raw, m);
        n += m;
    } else {
        double d = tq_j_as_float(v);
        char format[8] = "%.*f", type = f->type;
        if (f->precision > MAX_PRECISION) return TQ_FAIL(j->err, ELIMIT, "a precision over %d", MAX_PRECISION);
        if (minus) d = -d;
        if (type == '%') d *= 100;
        format[3] = type && type != '%' ? type : type ? 'f' : 'g';
        if (!type && f->precision < 0)
            n += tq_j_format_float(d, text + n);
        else
            n += (size_t)snprintf(text + n, 500, format, (int)(f->precision < 0 ? 6 : f->precision), d);
        if (type == '%') text[n++] = '%';
    }
    if (f->comma) n = add_commas(text, head, n);
    tq_jval out;
    TQ_TRY(tq_j_text_copy(j, text, n, tq_j_origin(v), &out));
    return put_padded(j, b, out.s, f, f->align ? f->align : '>', head);
}

/* ---- % ---- */

typedef struct percent {
    const tq_jval *args;
    size_t used;
    bool named;
} percent;

static toque_status next_argument(tq_jrun *j, percent *p, tq_jval *out) {
    bool many = p->args->type == TQ_J_TUPLE;
    if (p->used >= (many ? p->args->list->len : 1)) return TQ_J_FAIL(j, "not enough arguments for the format");
    *out = many ? tq_jlist_items(p->args->list)[p->used] : *p->args;
    p->used++;
    return TOQUE_OK;
}

static toque_status star_or_number(tq_jrun *j, percent *p, const char *s, size_t n, size_t *i, int64_t *v) {
    if (*i < n && s[*i] == '*') {
        tq_jval width;
        ++*i;
        TQ_TRY(next_argument(j, p, &width));
        TQ_TRY(tq_j_int_arg(j, &width, 0, v));
    } else {
        for (*v = 0; *i < n && s[*i] >= '0' && s[*i] <= '9' && *v <= MAX_WIDTH; ++*i) *v = *v * 10 + (s[*i] - '0');
    }
    if (*v > MAX_WIDTH || *v < -MAX_WIDTH) return TQ_FAIL(j->err, ELIMIT, "a width over %d", MAX_WIDTH);
    return TOQUE_OK;
}

/* One conversion behind its %; *i moves behind it. */
static toque_status conversion(tq_jrun *j, percent *p, const tq_jstr *s, size_t *i, tq_jbytes *b) {
    const char *t = tq_jstr_data(s);
    size_t n = s->len;
    spec f = {.fill = " ", .fill_len = 1, .precision = -1};
    tq_jval v = {.type = TQ_J_MISSING};
    bool zero = false;
    if (*i < n && t[*i] == '(') {
        size_t close = tq_jstr_find(s, *i, ")", 1);
        tq_jval key, *found;
        if (close == SIZE_MAX || p->args->type != TQ_J_DICT) return TQ_J_FAIL(j, "%%(name) needs a dict");
        TQ_TRY(tq_j_sub(j, s, *i + 1, close - *i - 1, &key));
        TQ_TRY(tq_j_dict_get(j, p->args->dict, &key, &found));
        if (!found) return TQ_J_FAIL(j, "the dict for the format has no such key");
        v = *found;
        p->named = true;
        *i = close + 1;
    }
    for (; *i < n && t[*i] && strchr("#0- +", t[*i]); ++*i) {
        if (t[*i] == '#')
            f.alt = true;
        else if (t[*i] == '0')
            zero = true;
        else if (t[*i] == '-')
            f.align = '<';
        else if (f.sign != '+')
            f.sign = t[*i];
    }
    TQ_TRY(star_or_number(j, p, t, n, i, &f.width));
    if (f.width < 0) {
        f.align = '<';
        f.width = -f.width;
    }
    if (*i < n && t[*i] == '.') {
        ++*i;
        TQ_TRY(star_or_number(j, p, t, n, i, &f.precision));
        if (f.precision < 0) f.precision = 0;
    }
    while (*i < n && t[*i] && strchr("hlL", t[*i])) ++*i;
    if (*i >= n) return TQ_J_FAIL(j, "the format ends inside a conversion");
    char type = t[(*i)++];
    if (type == '%') return tq_j_puts(j, b, "%", tq_j_template_origin);
    if (v.type == TQ_J_MISSING) TQ_TRY(next_argument(j, p, &v));
    if (!f.align) f.align = '>';
    if (type == 's' || type == 'r' || type == 'a') {
        tq_jbytes *text = tq_j_bytes(j, 64);
        if (!text) return tq_j_full(j);
        if (type == 's')
            TQ_TRY(tq_j_put_value(j, text, &v));
        else
            TQ_TRY(tq_j_put_repr(j, text, &v));
        TQ_TRY(tq_j_finish(j, text, &v));
        return put_text(j, b, v, &f);
    }
    if (type == 'c' && v.type == TQ_J_STR && tq_jstr_chars(v.s) == 1) return put_text(j, b, v, &f);
    if (!strchr("diuxXoeEfFgG", type)) return TQ_J_FAIL(j, "a format has no conversion %%%c", type);
    if (!tq_j_is_number(&v)) return TQ_J_FAIL(j, "%%%c needs a number, not %s", type, tq_j_type_name(&v));
    bool whole = strchr("diuxXo", type) != NULL;
    if (whole && v.type == TQ_J_FLOAT) {
        if (!(v.f > -9e18 && v.f < 9e18)) return TQ_FAIL(j->err, ELIMIT, "an integer result is over 64 bits");
        int64_t cut = (int64_t)v.f;
        v.type = TQ_J_INT;
        v.i = cut;
    }
    f.type = whole && strchr("iu", type) ? 'd' : type;
    if (zero && f.align != '<') {
        f.align = '=';
        f.fill[0] = '0';
    }
    return put_number(j, b, &v, &f);
}

toque_status tq_j_percent(tq_jrun *j, const tq_jstr *s, const tq_jval *args, tq_jval *out) {
    tq_jbytes *b = tq_j_bytes(j, s->len + 32);
    percent p = {.args = args};
    if (!b) return tq_j_full(j);
    for (size_t i = 0; i < s->len;) {
        size_t hit = tq_jstr_find(s, i, "%", 1), end = hit == SIZE_MAX ? s->len : hit;
        TQ_TRY(tq_j_put_part(j, b, s, i, end - i));
        i = end;
        if (hit == SIZE_MAX) break;
        i++;
        TQ_J_STEP(j, 1);
        TQ_TRY(conversion(j, &p, s, &i, b));
    }
    bool all = args->type == TQ_J_TUPLE ? p.used == args->list->len : args->type == TQ_J_DICT || p.used == 1;
    if (!all && !p.named) return TQ_J_FAIL(j, "not all arguments were used by the format");
    return tq_j_finish(j, b, out);
}

/* ---- format ---- */

typedef struct filling {
    const tq_jargs *args;
    size_t next;
} filling;

static toque_status parse_spec(tq_jrun *j, const char *s, size_t n, spec *f) {
    size_t i = 0, first = 0;
    int32_t cp;
    *f = (spec){.fill = " ", .fill_len = 1, .precision = -1};
    if (n) first = tq_j_decode(s, n, &cp);
    if (first < n && s[first] && strchr("<>=^", s[first])) {
        memcpy(f->fill, s, first);
        f->fill_len = first;
        f->align = s[first];
        i = first + 1;
    } else if (n && s[0] && strchr("<>=^", s[0])) {
        f->align = s[i++];
    }
    if (i < n && s[i] && strchr("+- ", s[i])) f->sign = s[i++];
    if (i < n && s[i] == '#') f->alt = s[i++];
    if (i < n && s[i] == '0' && !f->align) {
        f->align = '=';
        f->fill[0] = '0';
        i++;
    }
    for (; i < n && s[i] >= '0' && s[i] <= '9' && f->width <= MAX_WIDTH; i++) f->width = f->width * 10 + (s[i] - '0');
    if (i < n && s[i] == ',') f->comma = s[i++];
    if (i < n && s[i] == '.')
        for (f->precision = 0, i++; i < n && s[i] >= '0' && s[i] <= '9' && f->precision <= MAX_WIDTH; i++)
            f->precision = f->precision * 10 + (s[i] - '0');
    if (i < n) f->type = s[i++];
    if (f->width > MAX_WIDTH || f->precision > MAX_WIDTH)
        return TQ_FAIL(j->err, ELIMIT, "a width or precision over %d", MAX_WIDTH);
    if (i < n || (f->type && !strchr("sdnxXobeEfFgG%", f->type)))
        return TQ_J_FAIL(j, "the format of a field is unknown");
    return TOQUE_OK;
}

/* The value that a field's name ("", "0", "x", "x.y[0]") stands for. */
static toque_status named_value(tq_jrun *j, filling *g, const tq_jstr *s, size_t from, size_t to, tq_jval *out) {
    const char *t = tq_jstr_data(s);
    size_t i = from, index = 0;
    bool number = true;
    while (i < to && t[i] != '.' && t[i] != '[') {
        number &= t[i] >= '0' && t[i] <= '9' && index < 100000;
        if (number) index = index * 10 + (size_t)(t[i] - '0');
        i++;
    }
    out->type = TQ_J_MISSING;
    if (i == from) index = g->next++;
    if (number && index < g->args->n) *out = g->args->pos[index];
    for (size_t k = 0; !number && k < g->args->n_kw; k++) {
        const tq_jstr *name = g->args->kw[k].name.s;
        if (name->len == i - from && memcmp(tq_jstr_data(name), t + from, name->len) == 0) *out = g->args->kw[k].value;
    }
    if (out->type == TQ_J_MISSING) return TQ_J_FAIL(j, "the format names an argument that is not given");
    while (i < to) {
        tq_jval key;
        bool dot = t[i] == '.';
        size_t end = ++i;
        while (end < to && (dot ? t[end] != '.' && t[end] != '[' : t[end] != ']')) end++;
        TQ_TRY(tq_j_sub(j, s, i, end - i, &key));
        if (!dot && end == to) return TQ_J_FAIL(j, "a [ is not closed in the format");
        int64_t at = 0;
        bool digit = end > i && end - i < 18;
        for (size_t k = i; k < end && digit; k++) {
            digit = t[k] >= '0' && t[k] <= '9';
            at = at * 10 + (t[k] - '0');
        }
        if (!dot && digit) key = tq_j_int(at);
        if (dot)
            TQ_TRY(tq_j_attr(j, out, &key, out));
        else
            TQ_TRY(tq_j_item(j, out, &key, out));
        i = end + !dot;
    }
    return TOQUE_OK;
}

/* The inside of {...}. */
static toque_status field(tq_jrun *j, filling *g, const tq_jstr *s, size_t from, size_t to, tq_jbytes *b) {
    const char *t = tq_jstr_data(s);
    size_t name = from;
    char how = 0;
    tq_jval v, text;
    spec f;
    while (name < to && t[name] != ':' && t[name] != '!') name++;
    TQ_TRY(named_value(j, g, s, from, name, &v));
    if (name < to && t[name] == '!') {
        how = name + 1 < to ? t[name + 1] : 0;
        name += 2;
        if ((how != 'r' && how != 's') || (name < to && t[name] != ':'))
            return TQ_J_FAIL(j, "a conversion in a format is !r or !s");
    }
    size_t start = name < to ? name + 1 : to;
    TQ_TRY(parse_spec(j, t + start, to - start, &f));
    if (tq_j_is_number(&v) && !how && (v.type != TQ_J_BOOL || f.type) && f.type != 's') return put_number(j, b, &v, &f);
    if (f.type && f.type != 's') return TQ_J_FAIL(j, "format %c does not fit a %s", f.type, tq_j_type_name(&v));
    if (start < to && v.type != TQ_J_STR && !how) return TQ_J_FAIL(j, "a %s cannot have a format", tq_j_type_name(&v));
    if (how == 'r') {
        tq_jbytes *r = tq_j_bytes(j, 64);
        if (!r) return tq_j_full(j);
        TQ_TRY(tq_j_put_repr(j, r, &v));
        TQ_TRY(tq_j_finish(j, r, &text));
    } else {
        TQ_TRY(tq_j_str(j, &v, &text));
    }
    return put_text(j, b, text, &f);
}

toque_status tq_j_format(tq_jrun *j, const tq_jstr *s, const tq_jargs *args, tq_jval *out) {
    tq_jbytes *b = tq_j_bytes(j, s->len + 32);
    filling g = {.args = args};
    const char *t = tq_jstr_data(s);
    if (!b) return tq_j_full(j);
    for (size_t i = 0, end; i < s->len; i = end) {
        end = i;
        while (end < s->len && t[end] != '{' && t[end] != '}') end++;
        TQ_TRY(tq_j_put_part(j, b, s, i, end - i));
        if (end == s->len) break;
        TQ_J_STEP(j, 1);
        if (end + 1 < s->len && t[end + 1] == t[end]) {
            TQ_TRY(tq_j_put_part(j, b, s, end, 1));
            end += 2;
            continue;
        }
        size_t close = t[end] == '{' ? tq_jstr_find(s, end, "}", 1) : SIZE_MAX;
        if (close == SIZE_MAX) return TQ_J_FAIL(j, "a single brace in a format");
        TQ_TRY(field(j, &g, s, end + 1, close, b));
        end = close + 1;
    }
    return tq_j_finish(j, b, out);
}
