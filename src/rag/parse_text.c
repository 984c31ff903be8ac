/* Plain text and source code: the file is the document's text, and blocks are marked in it. */
#include <string.h>

#include "rag/format.h"

/* A line's length without its end; *next is where the next begins. */
static size_t line_length(const char *text, size_t at, size_t end, size_t *next) {
    const char *nl = memchr(text + at, '\n', end - at);
    size_t stop = nl ? (size_t)(nl - text) : end;
    *next = nl ? stop + 1 : end;
    while (stop > at && (text[stop - 1] == '\r' || text[stop - 1] == ' ' || text[stop - 1] == '\t')) stop--;
    return stop - at;
}

/* A line of nothing but one of = - ~, three or more. */
static char underline(const char *line, size_t n) {
    if (n < 3 || !strchr("=-~", *line)) return 0;
    for (size_t i = 1; i < n; i++)
        if (line[i] != *line) return 0;
    return *line;
}

/* SHORT LINES IN CAPITALS. */
static bool capitals(const char *line, size_t n) {
    size_t upper = 0;
    if (n < 3 || n > 70) return false;
    for (size_t i = 0; i < n; i++) {
        if (line[i] >= 'a' && line[i] <= 'z') return false;
        upper += line[i] >= 'A' && line[i] <= 'Z';
    }
    return upper * 2 > n && line[n - 1] != '.' && line[n - 1] != ',' && *line != ' ';
}

/* A paragraph of which each line's length is known only by looking: its first two lines tell whether it begins with a
 * heading. */
static void mark_paragraph(tq_doc *doc, size_t start, size_t end) {
    const char *text = doc->text.data;
    size_t second, third, n = line_length(text, start, end, &second);
    if (second < end) {
        size_t m = line_length(text, second, end, &third);
        char u = underline(text + second, m);
        if (u && n > 0 && m + 2 >= n && !underline(text + start, n)) {
            tq_doc_mark(doc, TQ_BLOCK_HEADING, u == '=' ? 1 : u == '-' ? 2 : 3, start, start + n);
            if (third < end) tq_doc_mark(doc, TQ_BLOCK_TEXT, 0, third, end);
            return;
        }
    }
    bool heading = capitals(text + start, n);
    if (heading) tq_doc_mark(doc, TQ_BLOCK_HEADING, 1, start, start + n);
    size_t rest = heading ? second : start;
    if (rest < end) tq_doc_mark(doc, TQ_BLOCK_TEXT, 0, rest, end);
}

void tq_mark_paragraphs(tq_doc *doc, size_t start, size_t end) {
    const char *text = doc->text.data;
    size_t begin = start, next;
    for (size_t at = start; at < end; at = next) {
        if (line_length(text, at, end, &next) > 0) continue;
        if (at > begin) mark_paragraph(doc, begin, at);
        begin = next;
    }
    if (end > begin) mark_paragraph(doc, begin, end);
}

toque_status tq_parse_text(tq_doc *doc, const tq_input *in, toque_error *err) {
    tq_buf_put(&doc->text, in->data, in->n);
    TQ_TRY(tq_buf_status(&doc->text, "the text", err));
    tq_mark_paragraphs(doc, 0, in->n);
    if (doc->n && doc->blocks[0].kind == TQ_BLOCK_HEADING)
        tq_doc_title(doc, doc->text.data + doc->blocks[0].start, doc->blocks[0].end - doc->blocks[0].start);
    return TOQUE_OK;
}

/* Code is cut before a line that begins at the margin behind a blank one: mostly between functions. */
toque_status tq_parse_code(tq_doc *doc, const tq_input *in, toque_error *err) {
    const char *slash = strrchr(in->name, '/');
    tq_doc_title(doc, slash ? slash + 1 : in->name, strlen(slash ? slash + 1 : in->name));
    tq_buf_put(&doc->text, in->data, in->n);
    TQ_TRY(tq_buf_status(&doc->text, "the text", err));
    const char *text = doc->text.data;
    size_t begin = 0, next;
    bool blank = false;
    for (size_t at = 0; at < in->n; at = next) {
        size_t n = line_length(text, at, in->n, &next);
        if (n && blank && !strchr(" \t}", text[at])) {
            tq_doc_mark(doc, TQ_BLOCK_CODE, 0, begin, at);
            begin = at;
        }
        blank = n == 0;
    }
    tq_doc_mark(doc, TQ_BLOCK_CODE, 0, begin, in->n);
    return TOQUE_OK;
}
