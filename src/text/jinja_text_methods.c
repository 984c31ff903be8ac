/* Methods of Python's str that templates call. Indices count code points. Case is mapped code point by code point
 * (Unicode's simple mappings, and the sharp s), so that every byte of the result has one origin. */
#include <string.h>
#include <utf8proc.h>

#include "text/jinja.h"

#define METHOD(name)                                                                                                   \
    static toque_status name(tq_jrun *j, const tq_jval *self, const tq_jval *p, const tq_jargs *args, tq_jval *out)
#define UNUSED ((void)j, (void)self, (void)p, (void)args)

toque_status tq_j_int_arg(tq_jrun *j, const tq_jval *p, int64_t fallback, int64_t *v) {
    *v = fallback;
    if (p->type == TQ_J_MISSING || p->type == TQ_J_NONE) return TOQUE_OK;
    if (!tq_j_is_int(p)) return TQ_J_FAIL(j, "an integer was expected, not %s", tq_j_type_name(p));
    *v = tq_j_as_int(p);
    return TOQUE_OK;
}

toque_status tq_j_str_arg(tq_jrun *j, const tq_jval *p, const char *what) {
    if (p->type == TQ_J_STR) return TOQUE_OK;
    return TQ_J_FAIL(j, "%s needs a str, not %s", what, tq_j_type_name(p));
}

/* ---- code points ---- */

bool tq_j_is_word(int32_t cp) {
    utf8proc_category_t c = utf8proc_category(cp);
    return cp == '_' || (c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO) ||
           (c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO);
}

int32_t tq_j_lower(int32_t cp, int32_t before) {
    (void)before;
    return utf8proc_tolower(cp);
}

int32_t tq_j_upper(int32_t cp, int32_t before) {
    (void)before;
    return cp == 0xDF ? TQ_J_SHARP_S_UPPER : utf8proc_toupper(cp);
}

static int32_t title_of(int32_t cp) {
    return cp == 0xDF ? TQ_J_SHARP_S_TITLE : utf8proc_totitle(cp);
}

int32_t tq_j_capitalize(int32_t cp, int32_t before) {
    return before < 0 ? title_of(cp) : utf8proc_tolower(cp);
}

static bool cased(int32_t cp) {
    utf8proc_category_t c = cp < 0 ? UTF8PROC_CATEGORY_CN : utf8proc_category(cp);
    return c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LL || c == UTF8PROC_CATEGORY_LT;
}

static int32_t title_case(int32_t cp, int32_t before) {
    return cased(before) ? utf8proc_tolower(cp) : title_of(cp);
}

static int32_t swap_case(int32_t cp, int32_t before) {
    return utf8proc_category(cp) == UTF8PROC_CATEGORY_LU ? utf8proc_tolower(cp) : tq_j_upper(cp, before);
}

static toque_status mapped(tq_jrun *j, const tq_jval *self, tq_j_mapping *map, tq_jval *out) {
    TQ_TRY(tq_j_map(j, self->s, map, out));
    out->safe = self->safe;
    return TOQUE_OK;
}

METHOD(lower) {
    UNUSED;
    return mapped(j, self, tq_j_lower, out);
}
METHOD(upper) {
    UNUSED;
    return mapped(j, self, tq_j_upper, out);
}
METHOD(capitalize) {
    UNUSED;
    return mapped(j, self, tq_j_capitalize, out);
}
METHOD(title) {
    UNUSED;
    return mapped(j, self, title_case, out);
}
METHOD(swapcase) {
    UNUSED;
    return mapped(j, self, swap_case, out);
}

/* ---- what a string consists of ---- */

typedef bool predicate(int32_t cp);

static bool all_are(const tq_jstr *s, predicate *is) {
    const char *p = tq_jstr_data(s);
    for (size_t i = 0; i < s->len;) {
        int32_t cp;
        i += tq_j_decode(p + i, s->len - i, &cp);
        if (!is(cp)) return false;
    }
    return s->len > 0;
}

static bool is_decimal(int32_t cp) {
    return utf8proc_category(cp) == UTF8PROC_CATEGORY_ND;
}
static bool is_digit(int32_t cp) { /* superscripts, subscripts and circled digits count as digits, not as decimals */
    return is_decimal(cp) || cp == 0xB2 || cp == 0xB3 || cp == 0xB9 || cp == 0x2070 || (cp >= 0x2074 && cp <= 0x2079) ||
           (cp >= 0x2080 && cp <= 0x2089) || (cp >= 0x2460 && cp <= 0x2468);
}
static bool is_numeric(int32_t cp) {
    utf8proc_category_t c = utf8proc_category(cp);
    return c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO;
}
static bool is_alpha(int32_t cp) {
    return tq_j_is_word(cp) && cp != '_' && !is_numeric(cp);
}
static bool is_alnum(int32_t cp) {
    return tq_j_is_word(cp) && cp != '_';
}

bool tq_j_is_cased(const tq_jstr *s, bool want_upper) {
    const char *p = tq_jstr_data(s);
    bool any = false;
    for (size_t i = 0; i < s->len;) {
        int32_t cp;
        i += tq_j_decode(p + i, s->len - i, &cp);
        if (!cased(cp)) continue;
        if ((utf8proc_category(cp) == UTF8PROC_CATEGORY_LU) != want_upper ||
            utf8proc_category(cp) == UTF8PROC_CATEGORY_LT)
            return false;
        any = true;
    }
    return any;
}

static toque_status answer(tq_jrun *j, const tq_jval *self, bool yes, tq_jval *out) {
    TQ_J_STEP(j, self->s->len / 16);
    *out = tq_j_bool(yes);
    return TOQUE_OK;
}

#define PREDICATE(name, value)                                                                                         \
    METHOD(name) {                                                                                                     \
        UNUSED;                                                                                                        \
        return answer(j, self, (value), out);                                                                          \
    }
PREDICATE(isdigit_, all_are(self->s, is_digit))
PREDICATE(isdecimal_, all_are(self->s, is_decimal))
PREDICATE(isnumeric_, all_are(self->s, is_numeric))
PREDICATE(isalpha_, all_are(self->s, is_alpha))
PREDICATE(isalnum_, all_are(self->s, is_alnum))
PREDICATE(isspace_, all_are(self->s, tq_j_is_space))
PREDICATE(isupper_, tq_j_is_cased(self->s, true))
PREDICATE(islower_, tq_j_is_cased(self->s, false))

/* ---- strip, affixes, padding ---- */

static toque_status strip_sides(tq_jrun *j, const tq_jval *self, const tq_jval *p, int side, tq_jval *out) {
    bool plain = p->type == TQ_J_MISSING || p->type == TQ_J_NONE;
    if (!plain) TQ_TRY(tq_j_str_arg(j, p, "strip"));
    return tq_j_strip(j, self, plain ? NULL : p->s, side, out);
}
METHOD(strip) {
    UNUSED;
    return strip_sides(j, self, p, 3, out);
}
METHOD(lstrip) {
    UNUSED;
    return strip_sides(j, self, p, 1, out);
}
METHOD(rstrip) {
    UNUSED;
    return strip_sides(j, self, p, 2, out);
}

static bool has_affix(const tq_jstr *s, const tq_jstr *affix, bool end) {
    return affix->len <= s->len &&
           memcmp(tq_jstr_data(s) + (end ? s->len - affix->len : 0), tq_jstr_data(affix), affix->len) == 0;
}

/* The part of self that arguments start and end (code points, None allowed) name. */
static toque_status part_of(tq_jrun *j, const tq_jval *self, const tq_jval *start, const tq_jval *end, tq_jval *out) {
    tq_jval part[3] = {*start, *end, tq_j_none()};
    for (int i = 0; i < 2; i++)
        if (part[i].type == TQ_J_MISSING) part[i] = tq_j_none();
    return tq_j_slice(j, self, part, out);
}

static toque_status affix(tq_jrun *j, const tq_jval *self, const tq_jval *p, bool end, tq_jval *out) {
    tq_jval s;
    TQ_TRY(part_of(j, self, &p[1], &p[2], &s));
    *out = tq_j_bool(false);
    if (p[0].type == TQ_J_TUPLE) {
        for (size_t i = 0; i < p[0].list->len; i++) {
            const tq_jval *one = &tq_jlist_items(p[0].list)[i];
            TQ_TRY(tq_j_str_arg(j, one, "startswith"));
            out->b |= has_affix(s.s, one->s, end);
        }
        return TOQUE_OK;
    }
    TQ_TRY(tq_j_str_arg(j, &p[0], end ? "endswith" : "startswith"));
    out->b = has_affix(s.s, p[0].s, end);
    return TOQUE_OK;
}
METHOD(startswith) {
    UNUSED;
    return affix(j, self, p, false, out);
}
METHOD(endswith) {
    UNUSED;
    return affix(j, self, p, true, out);
}
METHOD(removeprefix) {
    UNUSED;
    TQ_TRY(tq_j_str_arg(j, p, "removeprefix"));
    size_t n = has_affix(self->s, p->s, false) ? p->s->len : 0;
    return tq_j_sub(j, self->s, n, self->s->len - n, out);
}
METHOD(removesuffix) {
    UNUSED;
    TQ_TRY(tq_j_str_arg(j, p, "removesuffix"));
    return tq_j_sub(j, self->s, 0, self->s->len - (has_affix(self->s, p->s, true) ? p->s->len : 0), out);
}

static toque_status pad(tq_jrun *j, const tq_jstr *s, int64_t left, int64_t right, const tq_jval *fill, tq_jval *out) {
    const char *c = " ";
    size_t n = 1;
    if (left < 0) left = 0;
    if (right < 0) right = 0;
    if (fill && fill->type != TQ_J_MISSING) {
        TQ_TRY(tq_j_str_arg(j, fill, "padding"));
        if (tq_jstr_chars(fill->s) != 1) return TQ_J_FAIL(j, "the padding must be one character");
        c = tq_jstr_data(fill->s);
        n = fill->s->len;
    }
    if ((uint64_t)left > j->max_bytes || (uint64_t)right > j->max_bytes)
        return TQ_FAIL(j->err, ELIMIT, "padding to more than %zu bytes", j->max_bytes);
    tq_jbytes *b = tq_j_bytes(j, s->len + (size_t)(left + right));
    if (!b) return tq_j_full(j);
    TQ_J_STEP(j, (uint64_t)(left + right));
    while (left-- > 0) TQ_TRY(tq_j_put(j, b, c, n, tq_j_template_origin));
    TQ_TRY(tq_j_put_str(j, b, s));
    while (right-- > 0) TQ_TRY(tq_j_put(j, b, c, n, tq_j_template_origin));
    return tq_j_finish(j, b, out);
}

static toque_status missing_width(tq_jrun *j, const tq_jval *self, const tq_jval *p, int64_t *room) {
    int64_t width;
    TQ_TRY(tq_j_int_arg(j, p, 0, &width));
    *room = width - (int64_t)tq_jstr_chars(self->s);
    if (width < 0 || *room < 0) *room = 0;
    return TOQUE_OK;
}

toque_status tq_j_center(tq_jrun *j, const tq_jval *v, int64_t width, tq_jval *out) {
    int64_t room = width - (int64_t)tq_jstr_chars(v->s);
    if (width < 0 || room < 0) room = 0;
    int64_t left = room / 2 + (room & width & 1); /* where Python puts the odd one */
    return pad(j, v->s, left, room - left, NULL, out);
}
METHOD(center) {
    UNUSED;
    int64_t room, width;
    TQ_TRY(missing_width(j, self, &p[0], &room));
    TQ_TRY(tq_j_int_arg(j, &p[0], 0, &width));
    int64_t left = room / 2 + (room & width & 1);
    return pad(j, self->s, left, room - left, &p[1], out);
}
METHOD(ljust) {
    UNUSED;
    int64_t room;
    TQ_TRY(missing_width(j, self, &p[0], &room));
    return pad(j, self->s, 0, room, &p[1], out);
}
METHOD(rjust) {
    UNUSED;
    int64_t room;
    TQ_TRY(missing_width(j, self, &p[0], &room));
    return pad(j, self->s, room, 0, &p[1], out);
}
METHOD(zfill) {
    UNUSED;
    int64_t room;
    tq_jval zero, sign, digits;
    TQ_TRY(missing_width(j, self, &p[0], &room));
    size_t n = self->s->len && (*tq_jstr_data(self->s) == '-' || *tq_jstr_data(self->s) == '+');
    TQ_TRY(tq_j_text(j, "0", 1, tq_j_template_origin, &zero));
    TQ_TRY(tq_j_sub(j, self->s, 0, n, &sign));
    TQ_TRY(tq_j_sub(j, self->s, n, self->s->len - n, &digits));
    TQ_TRY(pad(j, digits.s, room, 0, &zero, &digits));
    return tq_j_cat(j, sign.s, digits.s, out);
}

/* ---- split and join ---- */

/* The last place of needle that ends at or before `end`; SIZE_MAX if none. */
static size_t find_last(const tq_jstr *s, size_t end, const tq_jstr *needle) {
    const char *p = tq_jstr_data(s), *q = tq_jstr_data(needle);
    if (needle->len > end) return SIZE_MAX;
    for (size_t i = end - needle->len + 1; i-- > 0;)
        if (p[i] == q[0] && memcmp(p + i, q, needle->len) == 0) return i;
    return SIZE_MAX;
}

static toque_status push_part(tq_jrun *j, tq_jval *list, const tq_jstr *s, size_t from, size_t to) {
    tq_jval part;
    TQ_J_STEP(j, 1);
    TQ_TRY(tq_j_sub(j, s, from, to - from, &part));
    return tq_j_push(j, list, part);
}

/* Words between white space; `limit` splits at most. The rest keeps its white space at the far end. */
static toque_status split_space(tq_jrun *j, const tq_jstr *s, int64_t limit, tq_jval *out) {
    const char *p = tq_jstr_data(s);
    size_t i = 0;
    for (;;) {
        int32_t cp = 0;
        size_t n, from;
        while (i < s->len && (n = tq_j_decode(p + i, s->len - i, &cp), tq_j_is_space(cp))) i += n;
        if (i == s->len) return TOQUE_OK;
        if (limit-- == 0) return push_part(j, out, s, i, s->len);
        from = i;
        while (i < s->len && (n = tq_j_decode(p + i, s->len - i, &cp), !tq_j_is_space(cp))) i += n;
        TQ_TRY(push_part(j, out, s, from, i));
    }
}

static void turn_round(const tq_jlist *l) {
    tq_jval *v = tq_jlist_items(l);
    for (size_t a = 0, b = l->len; a + 1 < b; a++) {
        tq_jval t = v[a];
        v[a] = v[--b];
        v[b] = t;
    }
}

static size_t space_before(const char *p, size_t end, bool space) {
    while (end > 0) {
        size_t i = end - 1;
        int32_t cp;
        while (i > 0 && ((unsigned char)p[i] & 0xC0) == 0x80) i--;
        tq_j_decode(p + i, end - i, &cp);
        if (tq_j_is_space(cp) != space) break;
        end = i;
    }
    return end;
}

static toque_status rsplit_space(tq_jrun *j, const tq_jstr *s, int64_t limit, tq_jval *out) {
    const char *p = tq_jstr_data(s);
    size_t end = space_before(p, s->len, true);
    while (end > 0) {
        size_t from = space_before(p, end, false);
        if (limit-- == 0) {
            TQ_TRY(push_part(j, out, s, 0, end));
            break;
        }
        TQ_TRY(push_part(j, out, s, from, end));
        end = space_before(p, from, true);
    }
    turn_round(out->list);
    return TOQUE_OK;
}

static toque_status split_any(tq_jrun *j, const tq_jval *self, const tq_jval *p, bool right, tq_jval *out) {
    const tq_jstr *s = self->s;
    int64_t limit;
    TQ_TRY(tq_j_int_arg(j, &p[1], -1, &limit));
    TQ_TRY(tq_j_list(j, 4, TQ_J_LIST, out));
    TQ_J_STEP(j, s->len / 16);
    if (p[0].type == TQ_J_MISSING || p[0].type == TQ_J_NONE)
        return right ? rsplit_space(j, s, limit, out) : split_space(j, s, limit, out);
    TQ_TRY(tq_j_str_arg(j, &p[0], "split"));
    const tq_jstr *by = p[0].s;
    if (!by->len) return TQ_J_FAIL(j, "split needs a separator that is not empty");
    size_t from = 0, to = s->len;
    for (; limit != 0; limit--) {
        size_t hit = right ? find_last(s, to, by) : tq_jstr_find(s, from, tq_jstr_data(by), by->len);
        if (hit == SIZE_MAX) break;
        TQ_TRY(push_part(j, out, s, right ? hit + by->len : from, right ? to : hit));
        if (right)
            to = hit;
        else
            from = hit + by->len;
    }
    TQ_TRY(push_part(j, out, s, right ? 0 : from, to));
    if (right) turn_round(out->list);
    return TOQUE_OK;
}
METHOD(split) {
    UNUSED;
    return split_any(j, self, p, false, out);
}
METHOD(rsplit) {
    UNUSED;
    return split_any(j, self, p, true, out);
}
METHOD(splitlines) {
    UNUSED;
    return tq_j_splitlines(j, self->s, p[0].type != TQ_J_MISSING && tq_j_true(&p[0]), out);
}

static toque_status partition_any(tq_jrun *j, const tq_jval *self, const tq_jval *p, bool right, tq_jval *out) {
    TQ_TRY(tq_j_str_arg(j, &p[0], "partition"));
    const tq_jstr *s = self->s, *by = p[0].s;
    if (!by->len) return TQ_J_FAIL(j, "partition needs a separator that is not empty");
    TQ_J_STEP(j, s->len / 16);
    size_t hit = right ? find_last(s, s->len, by) : tq_jstr_find(s, 0, tq_jstr_data(by), by->len), behind;
    if (hit == SIZE_MAX)
        hit = behind = right ? 0 : s->len;
    else
        behind = hit + by->len;
    TQ_TRY(tq_j_list(j, 3, TQ_J_TUPLE, out));
    TQ_TRY(push_part(j, out, s, 0, hit));
    TQ_TRY(push_part(j, out, s, hit, behind));
    return push_part(j, out, s, behind, s->len);
}
METHOD(partition) {
    UNUSED;
    return partition_any(j, self, p, false, out);
}
METHOD(rpartition) {
    UNUSED;
    return partition_any(j, self, p, true, out);
}

METHOD(join) {
    UNUSED;
    const tq_jlist *items;
    tq_jbytes *b = tq_j_bytes(j, 64);
    if (!b) return tq_j_full(j);
    TQ_TRY(tq_j_items(j, &p[0], &items));
    for (size_t i = 0; i < items->len; i++) {
        const tq_jval *one = &tq_jlist_items(items)[i];
        TQ_J_STEP(j, 1);
        TQ_TRY(tq_j_str_arg(j, one, "join"));
        if (i) TQ_TRY(tq_j_put_str(j, b, self->s));
        TQ_TRY(tq_j_put_str(j, b, one->s));
    }
    return tq_j_finish(j, b, out);
}

/* ---- search ---- */

METHOD(replace) {
    UNUSED;
    int64_t count;
    TQ_TRY(tq_j_str_arg(j, &p[0], "replace"));
    TQ_TRY(tq_j_str_arg(j, &p[1], "replace"));
    TQ_TRY(tq_j_int_arg(j, &p[2], -1, &count));
    return tq_j_replace(j, self->s, p[0].s, p[1].s, count, out);
}

/* Index in code points of the first or last place in [start, end), or -1. */
static toque_status search(tq_jrun *j, const tq_jval *self, const tq_jval *p, bool last, bool must, tq_jval *out) {
    tq_jval part;
    TQ_TRY(tq_j_str_arg(j, &p[0], "find"));
    TQ_TRY(part_of(j, self, &p[1], &p[2], &part));
    TQ_J_STEP(j, self->s->len / 16);
    const tq_jstr *s = part.s, *what = p[0].s;
    size_t hit = !last       ? tq_jstr_find(s, 0, tq_jstr_data(what), what->len)
                 : what->len ? find_last(s, s->len, what)
                             : s->len;
    if (hit == SIZE_MAX && must) return TQ_J_FAIL(j, "the text to find is not there");
    *out = tq_j_int(-1);
    if (hit == SIZE_MAX) return TOQUE_OK;
    tq_jstr before = {
        .bytes = self->s->bytes, .start = self->s->start, .len = s->start - self->s->start + hit, .chars = SIZE_MAX};
    *out = tq_j_int((int64_t)tq_jstr_chars(&before));
    return TOQUE_OK;
}
METHOD(find) {
    UNUSED;
    return search(j, self, p, false, false, out);
}
METHOD(rfind) {
    UNUSED;
    return search(j, self, p, true, false, out);
}
METHOD(index_) {
    UNUSED;
    return search(j, self, p, false, true, out);
}
METHOD(rindex_) {
    UNUSED;
    return search(j, self, p, true, true, out);
}
METHOD(count) {
    UNUSED;
    tq_jval part;
    TQ_TRY(tq_j_str_arg(j, &p[0], "count"));
    TQ_TRY(part_of(j, self, &p[1], &p[2], &part));
    TQ_J_STEP(j, part.s->len / 16);
    const tq_jstr *what = p[0].s;
    int64_t n = what->len ? 0 : (int64_t)tq_jstr_chars(part.s) + 1;
    for (size_t at = 0; what->len && (at = tq_jstr_find(part.s, at, tq_jstr_data(what), what->len)) != SIZE_MAX; n++)
        at += what->len;
    *out = tq_j_int(n);
    return TOQUE_OK;
}
METHOD(format) {
    UNUSED;
    return tq_j_format(j, self->s, args, out);
}

const tq_jmethod tq_j_text_methods[] = {
    {TQ_J_STR, "strip", "?chars", strip},
    {TQ_J_STR, "lstrip", "?chars", lstrip},
    {TQ_J_STR, "rstrip", "?chars", rstrip},
    {TQ_J_STR, "split", "?sep maxsplit", split},
    {TQ_J_STR, "rsplit", "?sep maxsplit", rsplit},
    {TQ_J_STR, "splitlines", "?keepends", splitlines},
    {TQ_J_STR, "startswith", "prefix ?start end", startswith},
    {TQ_J_STR, "endswith", "suffix ?start end", endswith},
    {TQ_J_STR, "replace", "old new ?count", replace},
    {TQ_J_STR, "upper", "", upper},
    {TQ_J_STR, "lower", "", lower},
    {TQ_J_STR, "casefold", "", lower},
    {TQ_J_STR, "title", "", title},
    {TQ_J_STR, "capitalize", "", capitalize},
    {TQ_J_STR, "swapcase", "", swapcase},
    {TQ_J_STR, "join", "iterable", join},
    {TQ_J_STR, "find", "sub ?start end", find},
    {TQ_J_STR, "rfind", "sub ?start end", rfind},
    {TQ_J_STR, "index", "sub ?start end", index_},
    {TQ_J_STR, "rindex", "sub ?start end", rindex_},
    {TQ_J_STR, "count", "sub ?start end", count},
    {TQ_J_STR, "format", "*", format},
    {TQ_J_STR, "removeprefix", "prefix", removeprefix},
    {TQ_J_STR, "removesuffix", "suffix", removesuffix},
    {TQ_J_STR, "partition", "sep", partition},
    {TQ_J_STR, "rpartition", "sep", rpartition},
    {TQ_J_STR, "center", "width ?fillchar", center},
    {TQ_J_STR, "ljust", "width ?fillchar", ljust},
    {TQ_J_STR, "rjust", "width ?fillchar", rjust},
    {TQ_J_STR, "zfill", "width", zfill},
    {TQ_J_STR, "isdigit", "", isdigit_},
    {TQ_J_STR, "isdecimal", "", isdecimal_},
    {TQ_J_STR, "isnumeric", "", isnumeric_},
    {TQ_J_STR, "isalpha", "", isalpha_},
    {TQ_J_STR, "isalnum", "", isalnum_},
    {TQ_J_STR, "isspace", "", isspace_},
    {TQ_J_STR, "isupper", "", isupper_},
    {TQ_J_STR, "islower", "", islower_},
    {.name = NULL},
};
