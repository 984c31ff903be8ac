/* Measures of retrieval and of answers. See measures.h. */
#include "rag/measures.h"

#include <math.h>
#include <string.h>

#include "base/buf.h"

double tq_recall_at(const double *gains, size_t n, size_t k, size_t relevant) {
    size_t found = 0;
    for (size_t i = 0; i < n && i < k; i++) found += gains[i] > 0;
    return relevant ? (double)found / (double)relevant : 0;
}

double tq_reciprocal_rank(const double *gains, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (gains[i] > 0) return 1 / (double)(i + 1);
    return 0;
}

static double dcg(const double *gains, size_t n, size_t k) {
    double sum = 0;
    for (size_t i = 0; i < n && i < k; i++) sum += gains[i] / log2((double)i + 2);
    return sum;
}

double tq_ndcg_at(const double *gains, size_t n, const double *ideal, size_t n_ideal, size_t k) {
    double most = dcg(ideal, n_ideal, k);
    return most > 0 ? dcg(gains, n, k) / most : 0;
}

/* --- answers --------------------------------------------------------------------------------------------------- */

/* " word word ": lower case (ASCII), no punctuation, no articles. */
static void put_words(tq_buf *out, const char *s) {
    static const char *const articles[] = {" a", " an", " the"};
    size_t word = 0; /* where the blank before the current word stands */
    tq_buf_putc(out, ' ');
    for (;; s++) {
        unsigned char c = (unsigned char)*s;
        if (c > ' ') {
            bool letter = c >= 128 || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
            if (letter) tq_buf_putc(out, (char)(c >= 'A' && c <= 'Z' ? c | 32 : c));
            continue;
        }
        if (out->failed) return;
        for (size_t i = 0; i < sizeof articles / sizeof *articles; i++)
            if (out->len - word == strlen(articles[i]) && memcmp(out->data + word, articles[i], out->len - word) == 0)
                tq_buf_cut(out, word + 1);
        if (out->len > word + 1) tq_buf_putc(out, ' ');
        word = out->len - 1;
        if (!c) return;
    }
}

/* Takes one word (its n bytes) out of words, where it is there. */
static bool take_word(char *words, const char *word, size_t n) {
    for (char *p = words + 1; *p;) {
        size_t m = strcspn(p, " ");
        if (m == n && memcmp(p, word, n) == 0) {
            memset(p, '\1', n);
            return true;
        }
        p += m + 1;
    }
    return false;
}

static size_t count_words(const char *words) {
    size_t n = 0;
    for (const char *p = words + 1; *p; p++) n += *p == ' ';
    return n;
}

toque_status tq_answer_overlap(tq_mem *mem, const char *given, const char *wanted, tq_overlap *o, toque_error *err) {
    tq_buf a, b;
    tq_buf_init(&a, mem, SIZE_MAX / 4);
    tq_buf_init(&b, mem, SIZE_MAX / 4);
    put_words(&a, given);
    put_words(&b, wanted);
    tq_buf_putc(&a, 0);
    tq_buf_putc(&b, 0);
    toque_status status = tq_buf_status(&a, "an answer", err);
    if (status == TOQUE_OK) status = tq_buf_status(&b, "an answer", err);
    size_t n = status == TOQUE_OK ? count_words(b.data) : 0, m = n ? count_words(a.data) : 0, both = 0;
    if (status == TOQUE_OK && n == 0)
        status = TQ_FAIL(err, EINVAL,
                         "the answer '%.60s' has no words to compare with (punctuation and articles do "
                         "not count)",
                         wanted);
    if (status == TOQUE_OK) {
        o->exact = strcmp(a.data, b.data) == 0;
        o->holds = strstr(a.data, b.data) != NULL;
        for (const char *p = b.data + 1; *p;) {
            size_t w = strcspn(p, " ");
            both += take_word(a.data, p, w);
            p += w + 1;
        }
        o->f1 = 2 * (double)both / (double)(n + m);
    }
    tq_buf_clear(&a);
    tq_buf_clear(&b);
    return status;
}

/* --- abstention ------------------------------------------------------------------------------------------------ */

int tq_ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double tq_best_cut(const double *own, size_t n, const double *other, size_t m, double *auc) {
    double best = -1, cut = 0, wins = 0;
    size_t below = 0;
    for (size_t i = 0; i < n; i++) {
        while (below < m && other[below] < own[i]) below++;
        size_t ties = below;
        while (ties < m && other[ties] == own[i]) ties++;
        wins += (double)below + 0.5 * (double)(ties - below);
        double value = (double)below / (double)m + (double)(n - i) / (double)n;
        if (value > best) {
            best = value;
            cut = below ? (other[below - 1] + own[i]) / 2 : own[i];
        }
    }
    *auc = wins / ((double)n * (double)m);
    return cut;
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

bool tq_find_words(const char *text, size_t n, const char *words, size_t *start, size_t *end) {
    while (is_blank(*words)) words++;
    if (!*words) return false;
    for (size_t i = 0; i < n; i++) {
        const char *w = words;
        size_t at = i;
        if (text[i] != *w) continue;
        while (*w && at < n) {
            if (is_blank(*w) && is_blank(text[at])) {
                while (is_blank(*w)) w++;
                while (at < n && *w && is_blank(text[at])) at++;
            } else if (*w == text[at]) {
                w++;
                at++;
            } else {
                break;
            }
        }
        if (*w && w[strspn(w, " \t\n\r\f")]) continue;
        *start = i;
        *end = at;
        return true;
    }
    return false;
}
