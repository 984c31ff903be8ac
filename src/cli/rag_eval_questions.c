/* The questions that `toque rag eval` asks: a JSON object a line; their documents, and the passage of their sentence,
 * are found in the store, or refused with file and line. */
#include <fnmatch.h>
#include <string.h>

#include "base/io.h"
#include "cli/rag_eval.h"
#include "rag/measures.h"

enum { MOST_BYTES = 64 << 20 };

static toque_status keep_document(void *arg, const tq_listed *d, toque_error *err) {
    tq_evaluation *v = arg;
    tq_mem *mem = &v->cli->mem;
    if (!TQ_GROW(mem, v->documents, v->n_documents, v->cap_documents)) return TQ_NOMEM(err);
    char *uri = tq_strdup(mem, d->uri);
    if (!uri) return TQ_NOMEM(err);
    v->documents[v->n_documents++] = (tq_eval_document){d->id, uri};
    return TOQUE_OK;
}

/* A text, or a list of texts, as a list. */
static toque_status texts(const tq_evaluation *v, size_t line, json_t *o, const char *key, json_t **list,
                          toque_error *err) {
    json_t *value = json_object_get(o, key), *item;
    size_t i;
    if (json_is_string(value)) {
        json_t *one = json_pack("[O]", value);
        if (!one || json_object_set_new(o, key, one)) return TQ_NOMEM(err);
    }
    *list = json_object_get(o, key);
    if (*list && !json_is_array(*list))
        return TQ_FAIL(err, EFORMAT, "%s:%zu: \"%s\" is a text or a list of texts", v->path, line, key);
    json_array_foreach(*list, i, item) if (!json_string_length(item)) return TQ_FAIL(
        err, EFORMAT, "%s:%zu: \"%s\" holds something that is no text, or an empty one", v->path, line, key);
    return TOQUE_OK;
}

/* The store's documents that a name means: itself, its end behind a slash, or a pattern. */
static bool means(const char *name, const char *uri) {
    size_t n = strlen(name), m = strlen(uri);
    if (m > n && uri[m - n - 1] == '/' && strcmp(uri + m - n, name) == 0) return true;
    return strcmp(name, uri) == 0 || fnmatch(name, uri, 0) == 0;
}

static toque_status find_documents(tq_evaluation *v, tq_eval_question *q, json_t *names, toque_error *err) {
    size_t i, cap = 0;
    json_t *name;
    for (size_t d = 0; d < v->n_documents; d++) {
        bool relevant = false;
        json_array_foreach(names, i, name) relevant |= means(json_string_value(name), v->documents[d].uri);
        if (!relevant) continue;
        if (!TQ_GROW(&v->cli->mem, q->relevant, q->n_relevant, cap)) return TQ_NOMEM(err);
        q->relevant[q->n_relevant++] = v->documents[d].id;
    }
    json_array_foreach(names, i, name) {
        bool found = false;
        for (size_t d = 0; d < v->n_documents && !found; d++)
            found = means(json_string_value(name), v->documents[d].uri);
        if (!found)
            return TQ_FAIL(err, ENOTFOUND, "%s:%zu: the store has no document %s (see toque rag list)", v->path,
                           q->line, json_string_value(name));
    }
    return TOQUE_OK;
}

/* The passage that holds bytes start to end, or most of them from start on. */
static toque_status passage_at(tq_evaluation *v, int64_t document, size_t start, size_t end, int64_t *chunk,
                               toque_error *err) {
    sqlite3_stmt *s;
    toque_status status;
    TQ_TRY(tq_sql_prepare(v->s.store->db, &s,
                          "SELECT ordinal FROM chunks WHERE document = ?1 AND start < ?3 AND end > ?2"
                          " ORDER BY min(end, ?3) - max(start, ?2) DESC, ordinal LIMIT 1",
                          err));
    sqlite3_bind_int64(s, 1, document);
    sqlite3_bind_int64(s, 2, (sqlite3_int64)start);
    sqlite3_bind_int64(s, 3, (sqlite3_int64)end);
    bool row;
    TQ_GO(tq_sql_step(s, &row, err));
    if (row) *chunk = tq_chunk_id(document, sqlite3_column_int64(s, 0));
done:
    sqlite3_finalize(s);
    return status;
}

/* The question's sentence must stand in one of its documents, as the store has it. */
static toque_status find_sentence(tq_evaluation *v, tq_eval_question *q, json_t *sentence, toque_error *err) {
    const char *text = json_string_value(sentence);
    if (!text || !*text) return TQ_FAIL(err, EFORMAT, "%s:%zu: \"sentence\" is not a text", v->path, q->line);
    toque_status status = TOQUE_OK;
    for (size_t i = 0; i < q->n_relevant && status == TOQUE_OK && q->gold < 0; i++) {
        tq_doc doc;
        size_t start, end;
        tq_doc_init(&doc, v->s.store->mem);
        status = tq_rag_document(v->s.store, q->relevant[i], false, &doc, err);
        if (status == TOQUE_OK && tq_find_words(doc.text.data, doc.text.len, text, &start, &end))
            status = passage_at(v, q->relevant[i], start, end, &q->gold, err);
        tq_doc_clear(&doc);
    }
    if (status == TOQUE_OK && q->gold < 0)
        return TQ_FAIL(err, ENOTFOUND, "%s:%zu: none of the question's documents has its sentence: %.200s", v->path,
                       q->line, text);
    v->n_gold++;
    return status;
}

static toque_status take_question(tq_evaluation *v, json_t *o, size_t line, toque_error *err) {
    static const char *const known[] = {"question", "document", "answer", "answerable", "sentence", "id"};
    json_t *names, *value;
    const char *key;
    if (!json_is_object(o)) return TQ_FAIL(err, EFORMAT, "%s:%zu: expected an object", v->path, line);
    json_object_foreach(o, key, value) {
        bool found = false;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) found |= strcmp(key, known[i]) == 0;
        if (!found)
            return TQ_FAIL(err, EFORMAT,
                           "%s:%zu: \"%.40s\" is not known (question, document, sentence, answer, answerable; id is "
                           "for the reader)",
                           v->path, line, key);
    }
    value = json_object_get(o, "answerable");
    tq_eval_question q = {
        .text = json_string_value(json_object_get(o, "question")), .answerable = true, .line = line, .gold = -1};
    if (!q.text || !*q.text) return TQ_FAIL(err, EFORMAT, "%s:%zu: there is no \"question\"", v->path, line);
    if (value && !json_is_boolean(value))
        return TQ_FAIL(err, EFORMAT, "%s:%zu: \"answerable\" is true or false", v->path, line);
    q.answerable = !json_is_false(value);
    TQ_TRY(texts(v, line, o, "document", &names, err));
    TQ_TRY(texts(v, line, o, "answer", &q.answers, err));
    if (!q.answerable && (json_array_size(names) || json_array_size(q.answers)))
        return TQ_FAIL(err, EFORMAT, "%s:%zu: a question without an answer has no \"document\" or \"answer\"", v->path,
                       line);
    if (q.answerable && !json_array_size(names) && !json_array_size(q.answers))
        return TQ_FAIL(err, EFORMAT, "%s:%zu: a question needs \"document\" or \"answer\", or \"answerable\": false",
                       v->path, line);
    if (!TQ_GROW(&v->cli->mem, v->questions, v->n, v->cap)) return TQ_NOMEM(err);
    v->questions[v->n++] = q;
    v->n_answerable += q.answerable;
    toque_status status = find_documents(v, &v->questions[v->n - 1], names, err);
    if (status == TOQUE_OK && json_object_get(o, "sentence"))
        status = find_sentence(v, &v->questions[v->n - 1], json_object_get(o, "sentence"), err);
    v->n_ranked += v->questions[v->n - 1].n_relevant > 0;
    return status;
}

toque_status tq_eval_read(tq_evaluation *v, toque_error *err) {
    char *data;
    size_t size, line = 1;
    TQ_TRY(tq_rag_list(v->s.store, keep_document, v, err));
    TQ_TRY(tq_read_file(&data, &size, &v->cli->mem, v->path, MOST_BYTES, err));
    toque_status status = (v->lines = json_array()) ? TOQUE_OK : TQ_NOMEM(err);
    for (size_t at = 0; at < size && status == TOQUE_OK; line++) {
        const char *nl = memchr(data + at, '\n', size - at);
        size_t end = nl ? (size_t)(nl - data) : size;
        while (at < end && strchr(" \t\r", data[at])) at++;
        if (at < end) {
            json_error_t e;
            json_t *o = json_loadb(data + at, end - at, JSON_REJECT_DUPLICATES, &e);
            if (!o)
                status = TQ_FAIL(err, EFORMAT, "%s:%zu: column %d: no JSON: %s", v->path, line, e.column, e.text);
            else if (json_array_append_new(v->lines, o))
                status = TQ_NOMEM(err);
            else
                status = take_question(v, o, line, err);
        }
        at = end + 1;
    }
    if (status == TOQUE_OK && v->n == 0) status = TQ_FAIL(err, EFORMAT, "%s has no questions", v->path);
    tq_free(&v->cli->mem, data);
    return status;
}

bool tq_eval_is_relevant(const tq_eval_question *q, int64_t document) {
    for (size_t i = 0; i < q->n_relevant; i++)
        if (q->relevant[i] == document) return true;
    return false;
}

void tq_eval_free_questions(tq_evaluation *v) {
    tq_mem *mem = &v->cli->mem;
    for (size_t i = 0; i < v->n; i++) tq_free(mem, v->questions[i].relevant);
    for (size_t i = 0; i < v->n_documents; i++) tq_free(mem, v->documents[i].uri);
    tq_free(mem, v->questions);
    tq_free(mem, v->documents);
    json_decref(v->lines);
}
