/* Formats that other programs read for us: PDF (pdftotext, of poppler) and manual pages (mandoc, or man). */
#include <string.h>

#include "rag/format.h"

toque_status tq_parse_pdf(tq_doc *doc, const tq_input *in, toque_error *err) {
    static const char *const argv[] = {"pdftotext", "-enc", "UTF-8", "-eol", "unix", "-", "-", NULL};
    TQ_TRY(tq_run_program(argv, "poppler-utils", in->data, in->n, &doc->text, err));
    doc->page = 0;
    for (size_t at = 0; at < doc->text.len;) { /* a form feed ends a page */
        const char *feed = memchr(doc->text.data + at, '\f', doc->text.len - at);
        size_t end = feed ? (size_t)(feed - doc->text.data) : doc->text.len;
        doc->page++;
        tq_mark_paragraphs(doc, at, end);
        at = end + 1;
    }
    if (doc->n == 0)
        return TQ_FAIL(err, EUNSUPPORTED, "it holds no text: pages that are pictures have to be recognized first");
    return TOQUE_OK;
}

/* "ls.1" is ls(1). */
static void title_of_page(tq_doc *doc, const char *name) {
    const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name, *dot = strrchr(base, '.');
    char title[200];
    size_t n = dot ? (size_t)(dot - base) : strlen(base), section = dot ? strlen(dot + 1) : 0;
    if (n + section + 3 > sizeof title) return;
    memcpy(title, base, n);
    if (section && dot[1] >= '1' && dot[1] <= '9') {
        title[n++] = '(';
        memcpy(title + n, dot + 1, section);
        n += section;
        title[n++] = ')';
    }
    tq_doc_title(doc, title, n);
}

/* man's text: what begins at the margin is a heading, except the first and last line. Overstruck letters (x BACKSPACE
 * x) are written once. */
static void put_man_text(tq_doc *doc, char *text, size_t n) {
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '\b' && len)
            len--;
        else
            text[len++] = text[i];
    }
    bool first = true;
    for (size_t at = 0, next; at < len; at = next) {
        const char *nl = memchr(text + at, '\n', len - at);
        size_t end = nl ? (size_t)(nl - text) : len;
        next = end + 1;
        if (end == at) {
            tq_doc_end(doc);
            continue;
        }
        bool margin = text[at] != ' ' && text[at] != '\t';
        bool last = !memchr(text + (next < len ? next : len), ' ', next < len ? len - next : 0);
        if (margin && !first && !last) {
            tq_doc_begin(doc, TQ_BLOCK_HEADING, 1);
            tq_doc_put(doc, text + at, end - at);
            tq_doc_end(doc);
        } else if (!margin) {
            tq_doc_put_flow(doc, " ", 1);
            tq_doc_put_flow(doc, text + at, end - at);
        }
        first = false;
    }
    tq_doc_end(doc);
}

toque_status tq_parse_man(tq_doc *doc, const tq_input *in, toque_error *err) {
    static const char *const mandoc[] = {"mandoc", "-T", "html", "-O", "fragment", NULL};
    static const char *const man[] = {
        "env", "MANPAGER=cat", "MAN_KEEP_FORMATTING=", "MANWIDTH=1000", "man", "-l", "-E", "UTF-8", "-", NULL};
    if (in->n > 4 && memcmp(in->data, ".so ", 4) == 0) return TOQUE_OK; /* another name of a page: no text of its own */
    bool with_mandoc = tq_program_exists("mandoc");
    if (!with_mandoc && !tq_program_exists("man"))
        return TQ_FAIL(err, EUNSUPPORTED, "mandoc or man is needed to read it: install the package mandoc");
    title_of_page(doc, in->name);
    tq_buf out;
    tq_buf_init(&out, doc->mem, TQ_DOC_MAX_TEXT);
    toque_status status =
        tq_run_program(with_mandoc ? mandoc : man, with_mandoc ? "mandoc" : "man-db", in->data, in->n, &out, err);
    if (status == TOQUE_OK && with_mandoc)
        status = tq_put_html(doc, out.data, out.len, err);
    else if (status == TOQUE_OK)
        put_man_text(doc, out.data, out.len);
    tq_buf_clear(&out);
    return status;
}
