/* Terms. See terms.h. */
#include "rag/terms.h"

#include <libstemmer.h>
#include <string.h>
#include <utf8proc.h>

#include "text/unicode.h"

enum { MAX_WORD = 64 }; /* code points of a word that are kept; the rest of a longer one is not indexed */

/* X(code, Snowball's name) */
#define LANGUAGES(X)                                                                                                   \
    X(ar, "arabic")                                                                                                    \
    X(ca, "catalan")                                                                                                   \
    X(da, "danish")                                                                                                    \
    X(de, "german")                                                                                                    \
    X(el, "greek")                                                                                                     \
    X(en, "english")                                                                                                   \
    X(es, "spanish")                                                                                                   \
    X(eu, "basque")                                                                                                    \
    X(fi, "finnish")                                                                                                   \
    X(fr, "french")                                                                                                    \
    X(ga, "irish")                                                                                                     \
    X(hu, "hungarian")                                                                                                 \
    X(id, "indonesian")                                                                                                \
    X(it, "italian")                                                                                                   \
    X(lt, "lithuanian")                                                                                                \
    X(nl, "dutch")                                                                                                     \
    X(no, "norwegian")                                                                                                 \
    X(pt, "portuguese")                                                                                                \
    X(ro, "romanian")                                                                                                  \
    X(ru, "russian")                                                                                                   \
    X(sv, "swedish")                                                                                                   \
    X(tr, "turkish")
static const struct {
    const char *code, *name;
} languages[] = {
#define X(code, name) {#code, name},
    LANGUAGES(X)
#undef X
};

static const struct {
    const char *code, *words;
} stop_lists[] = {
#define STOP(code, words) {#code, words},
#include "rag/stopwords.def"
#undef STOP
};
enum { STOP_LISTS = sizeof stop_lists / sizeof *stop_lists };

struct tq_analyzer {
    tq_mem *mem;
    const char *stop;           /* " a about ... ", or NULL */
    bool elides;                /* l', d', qu' */
    struct sb_stemmer *stemmer; /* or NULL */
};

const char *tq_analyzer_languages(void) {
    return "de en es fr it nl pt";
}

toque_status tq_analyzer_new(tq_analyzer **a, tq_mem *mem, const char *language, toque_error *err) {
    const char *name = NULL;
    for (size_t i = 0; i < sizeof languages / sizeof *languages; i++)
        if (strcmp(languages[i].code, language) == 0) name = languages[i].name;
    if (*language && !name) {
#define X(code, snowball) " " #code
        return TQ_FAIL(err, EINVAL, "there is no language '%.20s'; known ones are%s", language, LANGUAGES(X));
#undef X
    }
    *a = TQ_NEW(mem, tq_analyzer);
    if (!*a) return TQ_NOMEM(err);
    (*a)->mem = mem;
    for (size_t i = 0; i < STOP_LISTS; i++)
        if (strcmp(stop_lists[i].code, language) == 0) (*a)->stop = stop_lists[i].words;
    (*a)->elides = !strcmp(language, "fr") || !strcmp(language, "it") || !strcmp(language, "ca");
    if (!name) return TOQUE_OK;
    (*a)->stemmer = sb_stemmer_new(name, "UTF_8");
    if ((*a)->stemmer) return TOQUE_OK;
    tq_analyzer_free(*a);
    *a = NULL;
    return TQ_FAIL(err, EUNSUPPORTED, "this system's libstemmer has no stemmer for '%s'", name);
}

void tq_analyzer_free(tq_analyzer *a) {
    if (!a) return;
    if (a->stemmer) sb_stemmer_delete(a->stemmer);
    tq_free(a->mem, a);
}

/* ---- words ------------------------------------------------------------------------------------------------------ */

static bool in_list(const char *list, const char *word, size_t n) {
    if (n == 0 || n > 20 || memchr(word, ' ', n)) return false;
    char key[24];
    key[0] = ' ';
    memcpy(key + 1, word, n);
    key[n + 1] = ' ';
    key[n + 2] = 0;
    return strstr(list, key) != NULL;
}

bool tq_is_stop_word(const char *language, const char *word, size_t n) {
    for (size_t i = 0; i < STOP_LISTS; i++)
        if (strcmp(stop_lists[i].code, language) == 0) return in_list(stop_lists[i].words, word, n);
    return false;
}

static bool is_word(uint32_t cp) {
    if (cp < 0x80) return (cp >= '0' && cp <= '9') || ((cp | 32) >= 'a' && (cp | 32) <= 'z');
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL: return true;
    default: return false;
    }
}

static bool is_ideograph(uint32_t cp) {
    return (cp >= 0x3400 && cp <= 0x9fff) || (cp >= 0x3040 && cp <= 0x30ff) || (cp >= 0xf900 && cp <= 0xfaff) ||
           (cp >= 0x20000 && cp <= 0x3ffff);
}

static bool is_apostrophe(uint32_t cp) {
    return cp == '\'' || cp == 0x2019 || cp == 0x02bc;
}

/* The next word at or behind *at into word (lower case, UTF-8); returns its length, 0 at the end. *apostrophe: one
 * follows, directly behind it. */
static size_t next_word(const char *text, size_t n, size_t *at, char word[MAX_WORD * 4 + 4], bool *apostrophe) {
    size_t len = 0, points = 0, step;
    uint32_t cp = 0;
    *apostrophe = false;
    for (; *at < n; *at += step) {
        step = tq_utf8_next(text + *at, n - *at, &cp);
        bool good = cp < TQ_UTF8_CUT && is_word(cp);
        if (!good) {
            if (!len) continue;
            *apostrophe = is_apostrophe(cp);
            break;
        }
        if (is_ideograph(cp)) {
            if (len) break;
            *at += step;
            return tq_utf8_put(cp, word);
        }
        if (points++ >= MAX_WORD) continue;
        len += tq_utf8_put(tq_unicode_lower(cp), word + len);
    }
    return len;
}

/* Diacritics off: the canonical decomposition without its marks, and the letters that have none. */
static bool put_folded(tq_buf *out, const char *word, size_t n) {
    char c[4];
    for (size_t i = 0, step; i < n; i += step) {
        uint32_t cp, parts[TQ_UNICODE_NFD_MAX];
        step = tq_utf8_next(word + i, n - i, &cp);
        if (cp < 0x80) {
            tq_buf_putc(out, (char)cp);
            continue;
        }
        const char *plain = cp == 0xdf ? "ss" : cp == 0xe6 ? "ae" : cp == 0x153 ? "oe" : cp == 0xf8 ? "o" : NULL;
        if (cp == 0x142) plain = "l";
        if (cp == 0x111 || cp == 0xf0) plain = "d";
        if (cp == 0x131) plain = "i";
        if (plain) {
            tq_buf_puts(out, plain);
            continue;
        }
        if (cp >= TQ_UTF8_CUT) continue;
        size_t k = tq_unicode_nfd(cp, parts);
        for (size_t j = 0; j < k; j++)
            if (!tq_unicode_is_mark(parts[j])) tq_buf_put(out, c, tq_utf8_put(parts[j], c));
    }
    return !out->failed;
}

/* An elided article or pronoun: one letter, or qu, lorsqu, puisqu, jusqu, quoiqu, dell, all, nell, sull, un. */
static bool elided(const char *word, size_t n) {
    static const char list[] = " qu lorsqu puisqu jusqu quoiqu presqu all dall dell nell sull un quell ";
    return n == 1 || in_list(list, word, n);
}

toque_status tq_terms(tq_analyzer *a, const char *text, size_t n, tq_buf *out, size_t *count, toque_error *err) {
    char word[MAX_WORD * 4 + 4];
    size_t at = 0, len, terms = 0;
    bool apostrophe;
    while ((len = next_word(text, n, &at, word, &apostrophe)) > 0) {
        if (apostrophe && a->elides && elided(word, len)) continue;
        if (a->stop && in_list(a->stop, word, len)) continue;
        const char *stem = word;
        if (a->stemmer) {
            const sb_symbol *s = sb_stemmer_stem(a->stemmer, (const sb_symbol *)word, (int)len);
            if (!s) return TQ_NOMEM(err);
            stem = (const char *)s;
            len = (size_t)sb_stemmer_length(a->stemmer);
        }
        size_t before = out->len;
        put_folded(out, stem, len);
        if (out->len == before) continue; /* marks alone */
        tq_buf_putc(out, ' ');
        terms++;
    }
    if (count) *count = terms;
    return tq_buf_status(out, "terms", err);
}

const char *tq_detect_language(const char *text, size_t n) {
    enum { LOOK = 20000 };
    size_t hits[STOP_LISTS] = {0}, words = 0, at = 0, len, best = 0;
    char word[MAX_WORD * 4 + 4];
    bool apostrophe;
    if (n > LOOK) n = LOOK;
    for (; (len = next_word(text, n, &at, word, &apostrophe)) > 0; words++)
        for (size_t i = 0; i < STOP_LISTS; i++) hits[i] += in_list(stop_lists[i].words, word, len);
    bool tie = false;
    for (size_t i = 1; i < STOP_LISTS; i++) {
        tie = hits[i] == hits[best] || (tie && hits[i] < hits[best]);
        if (hits[i] > hits[best]) best = i, tie = false;
    }
    return hits[best] && !tie && hits[best] * 20 >= words ? stop_lists[best].code : "";
}
