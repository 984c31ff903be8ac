/* Filters over documents. Each becomes one SQL query with its key and value bound; the sets are joined as bitmaps. */
#include <stdio.h>
#include <string.h>

#include "rag/search.h"

/* "KEY<=VALUE" taken apart. */
typedef struct condition {
    char key[80];
    const char *op;    /* as SQL writes it */
    const char *value; /* into the text */
    bool negated;      /* != : the documents that do not have it */
} condition;

static toque_status parse(condition *c, const char *text, toque_error *err) {
    size_t n = strcspn(text, "=!~<>");
    const char *p = text + n;
    *c = (condition){.op = "="};
    if (n == 0 || n >= sizeof c->key || !*p || (*p == '!' && p[1] != '='))
        return TQ_FAIL(err, EINVAL,
                       "'%.100s' is no filter: KEY=VALUE, KEY!=VALUE, KEY~GLOB, KEY<VALUE, KEY<=VALUE, "
                       "KEY>VALUE or KEY>=VALUE",
                       text);
    memcpy(c->key, text, n);
    if (*p == '!') c->negated = true, p++;
    if (*p == '~') c->op = "GLOB";
    if (*p == '<') c->op = p[1] == '=' ? "<=" : "<";
    if (*p == '>') c->op = p[1] == '=' ? ">=" : ">";
    if (*p != '=' && *p != '~' && p[1] == '=') p++;
    c->value = p + 1;
    return TOQUE_OK;
}

/* A document's own column that a key stands for, or NULL. */
static const char *column(const char *key) {
    static const char *const map[][2] = {
        {"document", "uri"}, {"title", "title"}, {"format", "format"}, {"language", "language"}};
    for (size_t i = 0; i < sizeof map / sizeof *map; i++)
        if (strcmp(key, map[i][0]) == 0) return map[i][1];
    return NULL;
}

static bool numeric(const char *s) {
    size_t n = strspn(s, "+-.0123456789eE");
    return *s && s[n] == 0 && strpbrk(s, "0123456789");
}

typedef struct key_list {
    char text[300];
    size_t len;
} key_list;

static toque_status add_key(void *arg, const tq_row *row, toque_error *err) {
    key_list *l = arg;
    (void)err;
    if (l->len + 60 < sizeof l->text)
        l->len += (size_t)snprintf(l->text + l->len, sizeof l->text - l->len, ", %.50s", row->text[0]);
    return TOQUE_OK;
}

static toque_status no_such_key(tq_rag *store, const char *key, toque_error *err) {
    key_list list = {.text = ""};
    TQ_TRY(tq_rag_run(store, "SELECT DISTINCT key FROM metadata ORDER BY key LIMIT 20", NULL, 0, add_key, &list, err));
    return TQ_FAIL(err, EINVAL, "no document has the key '%.50s'; there are: document, title, format, language%s", key,
                   list.text);
}

static toque_status set_bit(void *arg, const tq_row *row, toque_error *err) {
    tq_bitmap *set = arg;
    int64_t id = tq_row_number(row, 0);
    (void)err;
    if (id >= 0 && id < set->n) set->words[id / 64] |= UINT64_C(1) << id % 64;
    return TOQUE_OK;
}

/* A glob pattern as a regular expression. */
static void put_regex(tq_buf *out, const char *glob) {
    tq_buf_puts(out, "^(?:");
    for (const char *p = glob; *p; p++) {
        size_t set = *p == '[' ? strcspn(p + 1, "]") : 0;
        if (*p == '*')
            tq_buf_puts(out, ".*");
        else if (*p == '?')
            tq_buf_putc(out, '.');
        else if (set > 1 && p[set + 1] == ']') {
            tq_buf_put(out, p, set + 2);
            p += set + 1;
        } else {
            if (strchr("\\.[]{}()+^$|", *p)) tq_buf_putc(out, '\\');
            tq_buf_putc(out, *p);
        }
    }
    tq_buf_puts(out, ")$");
}

/* Sets the bits of the documents that the condition (not negated) holds for. */
static toque_status select_documents(tq_rag *store, const condition *c, tq_bitmap *set, toque_error *err) {
    char sql[500];
    const char *own = column(c->key);
    bool glob = c->op[0] == 'G';
    const char *op = glob ? store->ops->glob : c->op;
    /* Numbers are compared as such where both sides are. */
    if (!own && !glob && numeric(c->value))
        snprintf(sql, sizeof sql,
                 "SELECT document FROM metadata WHERE key = $1 AND CASE WHEN %s"
                 " THEN CAST(value AS DOUBLE PRECISION) %s CAST(CAST($2 AS TEXT) AS DOUBLE PRECISION)"
                 " ELSE value %s $2%s END",
                 store->ops->is_number, op, op, store->ops->collate);
    else if (own)
        snprintf(sql, sizeof sql, "SELECT id FROM documents WHERE %s %s $1%s", own, op, store->ops->collate);
    else
        snprintf(sql, sizeof sql, "SELECT document FROM metadata WHERE key = $1 AND value %s $2%s", op,
                 store->ops->collate);
    tq_buf pattern;
    tq_buf_init(&pattern, store->mem, 1 << 16);
    if (glob && store->ops->regex) put_regex(&pattern, c->value);
    toque_status status = tq_buf_status(&pattern, "a pattern", err);
    const char *value = glob && store->ops->regex ? pattern.data : c->value;
    const char *const params[2] = {own ? value : c->key, value};
    if (status == TOQUE_OK) status = tq_rag_run(store, sql, params, own ? 1 : 2, set_bit, set, err);
    tq_buf_clear(&pattern);
    return status;
}

static toque_status count_row(void *arg, const tq_row *row, toque_error *err) {
    (void)row, (void)err;
    ++*(int *)arg;
    return TOQUE_OK;
}

static toque_status check_key(tq_rag *store, const char *key, toque_error *err) {
    int rows = 0;
    if (column(key)) return TOQUE_OK;
    TQ_TRY(tq_rag_run(store, "SELECT 1 FROM metadata WHERE key = $1 LIMIT 1", &key, 1, count_row, &rows, err));
    return rows ? TOQUE_OK : no_such_key(store, key, err);
}

toque_status tq_filter(tq_rag *store, const char *const *filters, size_t n, tq_bitmap *allowed, toque_error *err) {
    *allowed = (tq_bitmap){0};
    int64_t last;
    TQ_TRY(tq_rag_number(store, "SELECT coalesce(max(id), 0) FROM documents", &last, err));
    size_t words = (size_t)last / 64 + 1;
    allowed->n = last + 1;
    allowed->words = tq_alloc(store->mem, words, sizeof(uint64_t));
    uint64_t *hits = tq_alloc(store->mem, words, sizeof(uint64_t));
    toque_status status = allowed->words && hits ? TOQUE_OK : TQ_NOMEM(err);
    if (status == TOQUE_OK) memset(allowed->words, 0xff, words * sizeof(uint64_t));
    for (size_t i = 0; i < n && status == TOQUE_OK; i++) {
        condition c;
        memset(hits, 0, words * sizeof(uint64_t));
        status = parse(&c, filters[i], err);
        if (status == TOQUE_OK) status = check_key(store, c.key, err);
        if (status == TOQUE_OK) status = select_documents(store, &c, &(tq_bitmap){hits, allowed->n}, err);
        for (size_t w = 0; w < words && status == TOQUE_OK; w++) allowed->words[w] &= c.negated ? ~hits[w] : hits[w];
    }
    tq_free(store->mem, hits);
    if (status != TOQUE_OK) {
        tq_free(store->mem, allowed->words);
        *allowed = (tq_bitmap){0};
    }
    return status;
}
