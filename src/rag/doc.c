/* Documents. See doc.h. */
#include "rag/doc.h"

#include <string.h>

#include "text/unicode.h"

static bool blank(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

void tq_doc_init(tq_doc *doc, tq_mem *mem) {
    *doc = (tq_doc){.mem = mem};
    tq_buf_init(&doc->text, mem, TQ_DOC_MAX_TEXT);
}

void tq_doc_clear(tq_doc *doc) {
    tq_buf_clear(&doc->text);
    for (size_t i = 0; i < doc->n_pairs; i++) {
        tq_free(doc->mem, doc->pairs[i].key);
        tq_free(doc->mem, doc->pairs[i].value);
    }
    tq_free(doc->mem, doc->pairs);
    tq_free(doc->mem, doc->blocks);
    tq_free(doc->mem, doc->title);
    tq_doc_init(doc, doc->mem);
}

void tq_doc_mark(tq_doc *doc, tq_block_kind kind, int level, size_t start, size_t end) {
    const char *text = doc->text.data;
    if (doc->n && start < doc->blocks[doc->n - 1].end) start = doc->blocks[doc->n - 1].end;
    while (end > start && blank(text[end - 1])) end--;
    if (kind == TQ_BLOCK_CODE) { /* its first line keeps the indent */
        for (size_t i = start; i < end && blank(text[i]); i++)
            if (text[i] == '\n') start = i + 1;
    } else {
        while (start < end && blank(text[start])) start++;
    }
    if (start >= end || doc->failed) return;
    if (!TQ_GROW(doc->mem, doc->blocks, doc->n, doc->cap)) {
        doc->failed = true;
        return;
    }
    doc->blocks[doc->n++] = (tq_block){kind, level, doc->page, (uint32_t)start, (uint32_t)end};
}

void tq_doc_begin(tq_doc *doc, tq_block_kind kind, int level) {
    tq_doc_end(doc);
    if (doc->n) {
        bool close = kind == TQ_BLOCK_ROW && doc->blocks[doc->n - 1].kind == TQ_BLOCK_ROW;
        tq_buf_puts(&doc->text, close ? "\n" : "\n\n");
    }
    if (!TQ_GROW(doc->mem, doc->blocks, doc->n, doc->cap)) {
        doc->failed = true;
        return;
    }
    uint32_t at = (uint32_t)doc->text.len;
    doc->blocks[doc->n++] = (tq_block){kind, level, doc->page, at, at};
    doc->open = true;
}

void tq_doc_put(tq_doc *doc, const char *s, size_t n) {
    if (!doc->open) tq_doc_begin(doc, TQ_BLOCK_TEXT, 0);
    tq_buf_put(&doc->text, s, n);
}

void tq_doc_put_flow(tq_doc *doc, const char *s, size_t n) {
    if (!doc->open) {
        size_t lead = 0;
        while (lead < n && blank(s[lead])) lead++;
        if (lead == n) return;
        tq_doc_begin(doc, TQ_BLOCK_TEXT, 0);
    }
    if (doc->failed) return;
    const tq_buf *t = &doc->text;
    size_t first = doc->blocks[doc->n - 1].start;
    for (size_t i = 0, run; i < n; i += run) {
        for (run = 0; i + run < n && blank(s[i + run]);) run++;
        if (run) {
            if (t->len > first && !blank(t->data[t->len - 1])) tq_buf_putc(&doc->text, ' ');
            continue;
        }
        while (i + run < n && !blank(s[i + run])) run++;
        tq_buf_put(&doc->text, s + i, run);
    }
}

void tq_doc_end(tq_doc *doc) {
    if (!doc->open || doc->failed) return;
    doc->open = false;
    tq_block b = doc->blocks[--doc->n];
    tq_buf *t = &doc->text;
    size_t end = t->len;
    while (end > b.start && blank(t->data[end - 1])) end--;
    if (end == b.start) { /* nothing: take the separator back too */
        tq_buf_cut(t, doc->n ? doc->blocks[doc->n - 1].end : 0);
        return;
    }
    tq_buf_cut(t, end);
    int page = doc->page;
    doc->page = b.page;
    tq_doc_mark(doc, b.kind, b.level, b.start, t->len);
    doc->page = page;
}

/* A copy with white space squeezed, NULL when nothing is left. */
static char *squeezed(tq_doc *doc, const char *s, size_t n) {
    char *out = tq_alloc(doc->mem, n + 1, 1);
    if (!out) {
        doc->failed = true;
        return NULL;
    }
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        if (!blank(s[i]))
            out[len++] = s[i];
        else if (len && out[len - 1] != ' ')
            out[len++] = ' ';
    }
    if (len && out[len - 1] == ' ') len--;
    out[len] = 0;
    if (len) return out;
    tq_free(doc->mem, out);
    return NULL;
}

void tq_doc_title(tq_doc *doc, const char *s, size_t n) {
    if (!doc->title) doc->title = squeezed(doc, s, n);
}

void tq_doc_pair_add(tq_doc *doc, const char *key, const char *value, size_t n) {
    tq_doc_pair p = {tq_strdup(doc->mem, key), squeezed(doc, value, n)};
    if (p.key && p.value && TQ_GROW(doc->mem, doc->pairs, doc->n_pairs, doc->cap_pairs)) {
        doc->pairs[doc->n_pairs++] = p;
        return;
    }
    if (p.value || !p.key) doc->failed = true;
    tq_free(doc->mem, p.key);
    tq_free(doc->mem, p.value);
}

toque_status tq_doc_status(tq_doc *doc, toque_error *err) {
    tq_doc_end(doc);
    if (doc->failed) return TQ_NOMEM(err);
    if (doc->text.over)
        return TQ_FAIL(err, ELIMIT, "the text is longer than %d MiB: split the document", TQ_DOC_MAX_TEXT >> 20);
    TQ_TRY(tq_buf_status(&doc->text, "the text", err));
    size_t valid = tq_utf8_valid_prefix(doc->text.data, doc->text.len);
    if (valid < doc->text.len) return TQ_FAIL(err, EFORMAT, "byte %zu of its text is no UTF-8", valid);
    return TOQUE_OK;
}
