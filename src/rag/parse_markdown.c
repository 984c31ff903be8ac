/* Markdown (CommonMark with tables) through md4c. The document's text is the file itself: the parser's pointers into it
 * tell where a block's text lies, and the block is widened to whole lines, marks included. */
#include <md4c.h>
#include <string.h>

#include "rag/format.h"

typedef struct reader {
    tq_doc *doc;
    const char *text;
    size_t n;
    size_t start, end; /* of the leaf block at hand; start SIZE_MAX: no text yet */
    size_t done;       /* blocks reach up to here */
    bool heading;
    tq_buf title; /* rendered text of the heading at hand */
} reader;

static int leaf_begins(MD_BLOCKTYPE type, void *detail, void *arg) {
    reader *r = arg;
    (void)detail;
    if (type == MD_BLOCK_H) {
        r->heading = true;
        tq_buf_reset(&r->title);
    }
    if (type == MD_BLOCK_H || type == MD_BLOCK_P || type == MD_BLOCK_CODE || type == MD_BLOCK_TR ||
        type == MD_BLOCK_HTML || type == MD_BLOCK_LI)
        r->start = SIZE_MAX, r->end = 0;
    return 0;
}

static void mark(reader *r, tq_block_kind kind, int level) {
    size_t start = r->start, end = r->end;
    r->start = SIZE_MAX;
    if (start == SIZE_MAX) return;
    while (start > r->done && r->text[start - 1] != '\n') start--;
    while (end < r->n && r->text[end] != '\n') end++;
    if (kind == TQ_BLOCK_HEADING) { /* without its underline, which is on the next line; marks at the line's end stay */
        const char *nl = memchr(r->text + start, '\n', end - start);
        if (nl) end = (size_t)(nl - r->text);
    }
    tq_doc_mark(r->doc, kind, level, start, end);
    r->done = end;
}

static int leaf_ends(MD_BLOCKTYPE type, void *detail, void *arg) {
    reader *r = arg;
    switch (type) {
    case MD_BLOCK_H:
        r->heading = false;
        if (((MD_BLOCK_H_DETAIL *)detail)->level == 1) tq_doc_title(r->doc, r->title.data, r->title.len);
        mark(r, TQ_BLOCK_HEADING, (int)((MD_BLOCK_H_DETAIL *)detail)->level);
        break;
    case MD_BLOCK_CODE: mark(r, TQ_BLOCK_CODE, 0); break;
    case MD_BLOCK_TR: mark(r, TQ_BLOCK_ROW, 0); break;
    case MD_BLOCK_P:
    case MD_BLOCK_LI: mark(r, TQ_BLOCK_TEXT, 0); break;
    case MD_BLOCK_HTML: r->start = SIZE_MAX; break; /* markup and comments: not text */
    default: break;
    }
    return 0;
}

static int span(MD_SPANTYPE type, void *detail, void *arg) {
    (void)type;
    (void)detail;
    (void)arg;
    return 0;
}

/* A tight list item's text comes without a paragraph; a nested block ends it. */
static int some_text(MD_TEXTTYPE type, const MD_CHAR *s, MD_SIZE n, void *arg) {
    reader *r = arg;
    (void)type;
    if (r->heading) tq_buf_put(&r->title, s, n);
    uintptr_t at = (uintptr_t)s, first = (uintptr_t)r->text;
    if (n == 0 || at < first || at + n > first + r->n) return 0; /* md4c's own: line breaks, replacements */
    size_t from = (size_t)(at - first);
    if (from < r->done) return 0;
    if (from < r->start) r->start = from;
    if (from + n > r->end) r->end = from + n;
    return 0;
}

static int block_begins(MD_BLOCKTYPE type, void *detail, void *arg) {
    reader *r = arg;
    /* What a list item said before its nested blocks. */
    if (r->start != SIZE_MAX && type != MD_BLOCK_TH && type != MD_BLOCK_TD) mark(r, TQ_BLOCK_TEXT, 0);
    return leaf_begins(type, detail, arg);
}

/* YAML between two lines of --- at the top: title and other one-line keys; returns where the text begins. */
static size_t front_matter(tq_doc *doc, const char *text, size_t n) {
    if (n < 8 || memcmp(text, "---\n", 4) != 0) return 0;
    const char *end = memmem(text + 3, n - 3, "\n---\n", 5);
    if (!end) return 0;
    for (const char *line = text + 4; line < end;) {
        const char *nl = memchr(line, '\n', (size_t)(end - line) + 1), *colon = memchr(line, ':', (size_t)(nl - line));
        size_t k = colon ? (size_t)(colon - line) : 0;
        if (k && k < 40 && *line != ' ' && *line != '-' && *line != '#') {
            const char *v = colon + 1;
            size_t len = (size_t)(nl - v);
            while (len && (*v == ' ' || *v == '"' || *v == '\'')) v++, len--;
            while (len && strchr(" \"'\r", v[len - 1])) len--;
            char key[40];
            memcpy(key, line, k);
            key[k] = 0;
            if (strcmp(key, "title") == 0)
                tq_doc_title(doc, v, len);
            else if (len)
                tq_doc_pair_add(doc, key, v, len);
        }
        line = nl + 1;
    }
    return (size_t)(end - text) + 5;
}

toque_status tq_parse_markdown(tq_doc *doc, const tq_input *in, toque_error *err) {
    tq_buf_put(&doc->text, in->data, in->n);
    TQ_TRY(tq_buf_status(&doc->text, "the text", err));
    reader r = {.doc = doc, .text = doc->text.data, .n = in->n, .start = SIZE_MAX};
    size_t skip = front_matter(doc, r.text, r.n);
    const MD_PARSER parser = {.flags = MD_FLAG_TABLES | MD_FLAG_STRIKETHROUGH | MD_FLAG_PERMISSIVEURLAUTOLINKS,
                              .enter_block = block_begins,
                              .leave_block = leaf_ends,
                              .enter_span = span,
                              .leave_span = span,
                              .text = some_text};
    r.done = skip;
    tq_buf_init(&r.title, doc->mem, TQ_DOC_MAX_TEXT);
    int failed = md_parse(r.text + skip, (MD_SIZE)(r.n - skip), &parser, &r);
    tq_buf_clear(&r.title);
    return failed ? TQ_NOMEM(err) : TOQUE_OK; /* md4c fails for want of memory only */
}
