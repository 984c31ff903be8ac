/* Tables and JSON: each record is a block of its own, written as "name: value" so that a passage says what its numbers
 * are. */
#include <jansson.h>
#include <string.h>

#include "rag/format.h"
#include "train/charset.h"
#include "train/csv.h"

static void put(tq_doc *doc, const char *s) {
    tq_doc_put_flow(doc, s, strlen(s));
}

/* "name: value", the next behind "; ". */
static void put_field(tq_doc *doc, const char *name, const char *value, bool *any) {
    if (!*value) return;
    if (*any) tq_doc_put(doc, "; ", 2);
    *any = true;
    if (*name) {
        put(doc, name);
        tq_doc_put(doc, ": ", 2);
    }
    put(doc, value);
}

/* --- CSV ------------------------------------------------------------------------------------------------------- */

typedef struct header {
    char **names;
    size_t n, cap;
} header;

static toque_status read_header(header *h, tq_csv *csv, tq_mem *mem, toque_error *err) {
    bool more = true;
    do TQ_TRY(tq_csv_next(csv, &more, err));
    while (more && csv->blank);
    for (size_t i = 0; more && i < csv->n; i++) {
        if (!TQ_GROW(mem, h->names, h->n, h->cap)) return TQ_NOMEM(err);
        h->names[h->n] = tq_strdup(mem, tq_csv_field(csv, i));
        if (!h->names[h->n]) return TQ_NOMEM(err);
        h->n++;
    }
    return TOQUE_OK;
}

static toque_status table(tq_doc *doc, const tq_input *in, char delimiter, toque_error *err) {
    tq_csv csv;
    header h = {0};
    TQ_TRY(tq_csv_open(&csv, in->mem, in->data, in->n, delimiter, err));
    toque_status status = read_header(&h, &csv, in->mem, err);
    for (bool more = status == TOQUE_OK; more && status == TOQUE_OK;) {
        status = tq_csv_next(&csv, &more, err);
        if (status != TOQUE_OK || !more || csv.blank) continue;
        bool any = false;
        tq_doc_begin(doc, TQ_BLOCK_ROW, 0);
        for (size_t i = 0; i < csv.n; i++) put_field(doc, i < h.n ? h.names[i] : "", tq_csv_field(&csv, i), &any);
        tq_doc_end(doc);
    }
    for (size_t i = 0; i < h.n; i++) tq_free(in->mem, h.names[i]);
    tq_free(in->mem, h.names);
    tq_csv_close(&csv);
    return status;
}

toque_status tq_parse_csv(tq_doc *doc, const tq_input *in, toque_error *err) {
    return table(doc, in, 0, err);
}

toque_status tq_parse_tsv(tq_doc *doc, const tq_input *in, toque_error *err) {
    return table(doc, in, '\t', err);
}

/* --- JSON ------------------------------------------------------------------------------------------------------ */

enum { MAX_NESTING = 64, MAX_PATH = 256 };

/* Values of an object or array as fields; names of nested ones are joined by dots. path has room for MAX_PATH. */
static void flatten(tq_doc *doc, json_t *value, char *path, size_t len, int depth, bool *any) {
    char number[64];
    if (depth > MAX_NESTING) return; /* jansson stops at 2048; what is nested so deep is no prose */
    if (json_is_string(value)) {
        put_field(doc, path, json_string_value(value), any);
    } else if (json_is_integer(value) || json_is_real(value)) {
        if (json_dumpb(value, NULL, 0, JSON_ENCODE_ANY) < sizeof number) {
            number[json_dumpb(value, number, sizeof number, JSON_ENCODE_ANY)] = 0;
            put_field(doc, path, number, any);
        }
    } else if (json_is_boolean(value)) {
        put_field(doc, path, json_is_true(value) ? "true" : "false", any);
    } else if (json_is_object(value)) {
        const char *key;
        json_t *v;
        json_object_foreach(value, key, v) {
            size_t n = strlen(key), dot = len > 0;
            if (len + dot + n + 1 > MAX_PATH) continue;
            if (dot) path[len] = '.';
            memcpy(path + len + dot, key, n + 1);
            flatten(doc, v, path, len + dot + n, depth + 1, any);
            path[len] = 0;
        }
    } else if (json_is_array(value)) {
        size_t i;
        json_t *v;
        json_array_foreach(value, i, v) flatten(doc, v, path, len, depth + 1, any);
    }
}

static void put_record(tq_doc *doc, json_t *value) {
    char path[MAX_PATH + 1] = "";
    bool any = false;
    tq_doc_begin(doc, TQ_BLOCK_ROW, 0);
    flatten(doc, value, path, 0, 0, &any);
    tq_doc_end(doc);
}

toque_status tq_parse_json(tq_doc *doc, const tq_input *in, toque_error *err) {
    json_error_t e;
    json_t *root = json_loadb(in->data, in->n, JSON_DECODE_ANY, &e);
    if (!root) return TQ_FAIL(err, EFORMAT, "line %d, column %d: no JSON: %s", e.line, e.column, e.text);
    size_t i;
    json_t *v;
    const char *key;
    if (json_is_array(root)) {
        json_array_foreach(root, i, v) put_record(doc, v);
    } else if (json_is_object(root)) { /* an object of lists and objects: each a section */
        json_t *rest = json_object();
        json_object_foreach(root, key, v) {
            if (!json_is_array(v) && !json_is_object(v)) json_object_set(rest, key, v);
        }
        put_record(doc, rest);
        json_decref(rest);
        json_object_foreach(root, key, v) {
            if (!json_is_array(v) && !json_is_object(v)) continue;
            tq_doc_begin(doc, TQ_BLOCK_HEADING, 1);
            put(doc, key);
            tq_doc_end(doc);
            if (json_is_array(v)) {
                json_t *item;
                json_array_foreach(v, i, item) put_record(doc, item);
            } else {
                put_record(doc, v);
            }
        }
    } else {
        put_record(doc, root);
    }
    json_decref(root);
    return TOQUE_OK;
}

toque_status tq_parse_jsonl(tq_doc *doc, const tq_input *in, toque_error *err) {
    size_t number = 1;
    for (size_t at = 0; at < in->n; number++) {
        const char *nl = memchr(in->data + at, '\n', in->n - at);
        size_t end = nl ? (size_t)(nl - in->data) : in->n;
        while (at < end && strchr(" \t\r", in->data[at])) at++;
        if (at < end) {
            json_error_t e;
            json_t *value = json_loadb(in->data + at, end - at, JSON_DECODE_ANY, &e);
            if (!value) return TQ_FAIL(err, EFORMAT, "line %zu, column %d: no JSON: %s", number, e.column, e.text);
            put_record(doc, value);
            json_decref(value);
        }
        at = end + 1;
    }
    return TOQUE_OK;
}
