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

static toque_status no_such_key(tq_rag *store, const char *key, toque_error *err) {
    char list[300] = "";
    size_t len = 0;
    sqlite3_stmt *s;
    TQ_TRY(tq_sql_prepare(store->db, &s, "SELECT DISTINCT key FROM metadata ORDER BY key LIMIT 20", err));
    while (sqlite3_step(s) == SQLITE_ROW && len + 60 < sizeof list)
        len += (size_t)snprintf(list + len, sizeof list - len, ", %.50s", tq_sql_column(s, 0));
    sqlite3_finalize(s);
    return TQ_FAIL(err, EINVAL, "no document has the key '%.50s'; there are: document, title, format, language%s", key,
                   list);
}

/* Sets the bits of the documents that the condition (not negated) holds for. */
static toque_status select_documents(tq_rag *store, const condition *c, uint64_t *words, int64_t n, toque_error *err) {
    char sql[400];
    const char *own = column(c->key);
    /* Numbers are compared as such where both sides are. */
    bool as_number = c->op[0] != 'G' && numeric(c->value) && !own;
    const char *left = own ? own : "value", *right = "?2";
    if (as_number)
        snprintf(sql, sizeof sql,
                 "SELECT document FROM metadata WHERE key = ?1 AND CASE WHEN value GLOB '*[0-9]*' AND "
                 "value NOT GLOB '*[^-+.0-9eE]*' THEN CAST(value AS REAL) %s CAST(?2 AS REAL) ELSE value %s ?2 END",
                 c->op, c->op);
    else if (own)
        snprintf(sql, sizeof sql, "SELECT id FROM documents WHERE %s %s %s", left, c->op, right);
    else
        snprintf(sql, sizeof sql, "SELECT document FROM metadata WHERE key = ?1 AND %s %s %s", left, c->op, right);
    sqlite3_stmt *s;
    TQ_TRY(tq_sql_prepare(store->db, &s, sql, err));
    if (!own) tq_sql_text(s, 1, c->key);
    tq_sql_text(s, 2, c->value);
    toque_status status;
    for (bool row;;) {
        TQ_GO(tq_sql_step(s, &row, err));
        if (!row) break;
        int64_t id = sqlite3_column_int64(s, 0);
        if (id >= 0 && id < n) words[id / 64] |= UINT64_C(1) << id % 64;
    }
done:
    sqlite3_finalize(s);
    return status;
}

static toque_status check_key(tq_rag *store, const char *key, toque_error *err) {
    sqlite3_stmt *s;
    bool row;
    if (column(key)) return TOQUE_OK;
    TQ_TRY(tq_sql_prepare(store->db, &s, "SELECT 1 FROM metadata WHERE key = ? LIMIT 1", err));
    tq_sql_text(s, 1, key);
    toque_status status = tq_sql_step(s, &row, err);
    sqlite3_finalize(s);
    if (status != TOQUE_OK) return status;
    return row ? TOQUE_OK : no_such_key(store, key, err);
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
        if (status == TOQUE_OK) status = select_documents(store, &c, hits, allowed->n, err);
        for (size_t w = 0; w < words && status == TOQUE_OK; w++) allowed->words[w] &= c.negated ? ~hits[w] : hits[w];
    }
    tq_free(store->mem, hits);
    if (status != TOQUE_OK) {
        tq_free(store->mem, allowed->words);
        *allowed = (tq_bitmap){0};
    }
    return status;
}
