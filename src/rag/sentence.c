/* Sentences. See sentence.h. */
#include "rag/sentence.h"

#include <string.h>
#include <strings.h>

#include "text/unicode.h"

/* Abbreviations that are followed by a capital or a number in running text: English, French, German, Spanish. */
static const char *const abbreviations[] = {
    "al",   "approx", "art",  "bd",  "bzw",  "ca",  "cf",  "ch",   "chap", "co",  "corp", "dept", "dr",  "ed",
    "eds",  "eg",     "eq",   "est", "etc",  "ex",  "fig", "figs", "hr",   "ie",  "inc",  "jr",   "ltd", "max",
    "min",  "mlle",   "mm",   "mme", "mr",   "mrs", "ms",  "nb",   "no",   "nos", "nr",   "op",   "par", "pp",
    "prof", "ref",    "resp", "sec", "sect", "sr",  "sra", "st",   "str",  "usw", "vgl",  "viz",  "vol", "vs"};

/* The word that ends at byte `dot` (exclusive) is an abbreviation: one letter, one with dots inside, or a listed one.
 */
static bool abbreviated(const char *text, size_t from, size_t dot) {
    size_t at = dot;
    bool dots = false;
    while (at > from && ((text[at - 1] | 32) >= 'a' && (text[at - 1] | 32) <= 'z' ? true : text[at - 1] == '.')) {
        dots |= text[at - 1] == '.';
        at--;
    }
    size_t n = dot - at;
    if (at > from && ((unsigned char)text[at - 1] >= 0x80 || (text[at - 1] >= '0' && text[at - 1] <= '9')))
        return false;
    if (n == 0 || dots) return n > 0;
    if (n == 1) return text[at] != 'I';
    for (size_t i = 0; i < sizeof abbreviations / sizeof *abbreviations; i++)
        if (strlen(abbreviations[i]) == n && strncasecmp(abbreviations[i], text + at, n) == 0) return true;
    return false;
}

static bool closes(uint32_t cp) {
    return cp == '"' || cp == '\'' || cp == ')' || cp == ']' || cp == 0x2019 || cp == 0x201d || cp == 0xbb ||
           cp == '*' || cp == '_' || cp == '`';
}

/* Behind the mark at [at, next): is the sentence over, and where? */
static bool ends_here(const char *text, size_t from, size_t at, size_t next, size_t limit, size_t *end) {
    uint32_t cp;
    size_t step;
    bool dot = text[at] == '.';
    while (next < limit) { /* more marks and what closes */
        step = tq_utf8_next(text + next, limit - next, &cp);
        if (!closes(cp) && cp != '.' && cp != '!' && cp != '?') break;
        next += step;
    }
    *end = next;
    if (next >= limit) return true;
    if (!tq_unicode_is_space(cp)) return false;
    if (dot && abbreviated(text, from, at)) return false;
    size_t look = next;
    while (look < limit) {
        step = tq_utf8_next(text + look, limit - look, &cp);
        if (!tq_unicode_is_space(cp)) break;
        look += step;
    }
    if (look >= limit) return true;
    bool lower = (cp >= 'a' && cp <= 'z') || (cp >= 0xdf && cp <= 0xff && cp != 0xf7);
    return !lower;
}

bool tq_sentence_next(const char *text, size_t at, size_t limit, size_t *start, size_t *end) {
    uint32_t cp;
    size_t step, last;
    for (; at < limit; at += step) {
        step = tq_utf8_next(text + at, limit - at, &cp);
        if (!tq_unicode_is_space(cp)) break;
    }
    if (at >= limit) return false;
    *start = last = at;
    for (; at < limit; at += step) {
        step = tq_utf8_next(text + at, limit - at, &cp);
        if (cp == 0x3002 || cp == 0xff01 || cp == 0xff1f) { /* CJK marks need no white space behind */
            *end = at + step;
            return true;
        }
        bool mark = cp == '.' || cp == '!' || cp == '?' || cp == 0x2026;
        if (mark && ends_here(text, *start, at, at + step, limit, end)) return true;
        if (cp == '\n') { /* a blank line */
            size_t look = at + 1;
            while (look < limit && (text[look] == ' ' || text[look] == '\t' || text[look] == '\r')) look++;
            if (look < limit && text[look] == '\n') break;
        }
        if (!tq_unicode_is_space(cp)) last = at + step;
    }
    *end = last;
    return true;
}

bool tq_unit_next(const char *text, tq_block_kind kind, size_t at, size_t limit, size_t *start, size_t *end) {
    if (kind == TQ_BLOCK_TEXT || kind == TQ_BLOCK_HEADING) return tq_sentence_next(text, at, limit, start, end);
    while (at < limit && (text[at] == '\n' || text[at] == '\r')) at++;
    if (at >= limit) return false;
    const char *nl = kind == TQ_BLOCK_CODE ? memchr(text + at, '\n', limit - at) : NULL;
    *start = at;
    *end = nl ? (size_t)(nl - text) : limit;
    return true;
}
