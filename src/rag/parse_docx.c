/* Texts and slides: docx, pptx and the OpenDocument formats. */
#include <stdio.h>
#include <string.h>

#include "rag/office.h"

static bool is(const char *a, const char *b) {
    return strcmp(a, b) == 0;
}

/* The digits at the front of s as a number, at most 99. */
static int number_of(const char *s) {
    int n = 0;
    for (; *s >= '0' && *s <= '9' && n < 10; s++) n = 10 * n + (*s - '0');
    return n;
}

/* --- docx and pptx: paragraphs <p> with runs of text <t> ------------------------------------------------------- */

typedef struct prose {
    tq_doc *doc;
    bool slides, text, title; /* title: the shape at hand is a slide's title */
    int row, cells;           /* depth of tables; cells of the row so far */
    int level;                /* of the paragraph at hand, 0: none */
    bool begun;               /* the paragraph has text */
} prose;

/* Word's built-in styles are named in English in files of any language version, mostly; others say an outline level. */
static int style_level(const char *style) {
    static const char *const names[] = {"heading", "Heading", "Titre", "berschrift", "Ttulo", "Titolo", "Kop"};
    if (is(style, "Title")) return 1;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *p = strstr(style, names[i]);
        int n = p ? number_of(p + strlen(names[i])) : 0;
        if (n >= 1 && n <= 6) return n;
    }
    return 0;
}

static void put_prose(prose *p, const char *s, size_t n) {
    if (!p->begun && !p->row) tq_doc_begin(p->doc, p->level ? TQ_BLOCK_HEADING : TQ_BLOCK_TEXT, p->level);
    p->begun = true;
    if (p->row)
        tq_doc_put_flow(p->doc, s, n);
    else
        tq_doc_put(p->doc, s, n);
}

static void visit_prose(void *arg, tq_xml_event event, const char *s, void *reader) {
    prose *p = arg;
    char value[64];
    if (event == TQ_XML_TEXT) {
        if (p->text) put_prose(p, s, strlen(s));
        return;
    }
    bool open = event == TQ_XML_OPEN;
    if (is(s, "t")) {
        p->text = open;
    } else if (is(s, "p")) {
        if (!open && p->row) tq_doc_put_flow(p->doc, " ", 1);
        if (!open && !p->row && p->begun) tq_doc_end(p->doc);
        p->begun = false;
        p->level = open && p->title ? 2 : 0;
    } else if (open && (is(s, "pStyle") || is(s, "outlineLvl")) &&
               tq_xml_attribute(reader, "val", value, sizeof value)) {
        int level = is(s, "pStyle") ? style_level(value) : number_of(value) + 1;
        if (level && level <= 6) p->level = level;
    } else if (open && is(s, "ph") && p->slides && tq_xml_attribute(reader, "type", value, sizeof value)) {
        p->title = is(value, "title") || is(value, "ctrTitle");
    } else if (!open && is(s, "sp")) {
        p->title = false;
    } else if (open && (is(s, "tab") || is(s, "br")) && p->begun) {
        put_prose(p, is(s, "tab") ? "\t" : "\n", 1);
    } else if (is(s, "tr")) {
        p->row += open ? 1 : -1;
        if (open && p->row == 1) tq_doc_begin(p->doc, TQ_BLOCK_ROW, 0), p->cells = 0;
        if (!open && p->row == 0) tq_doc_end(p->doc);
    } else if (open && is(s, "tc") && p->row == 1) {
        if (p->cells++) tq_doc_put_flow(p->doc, " | ", 3);
    }
}

toque_status tq_parse_docx(tq_doc *doc, const tq_input *in, toque_error *err) {
    tq_archive a;
    prose p = {.doc = doc};
    TQ_TRY(tq_archive_open(&a, in->mem, in->data, in->n, err));
    toque_status status = tq_archive_facts(&a, "docProps/core.xml", doc, err);
    if (status == TOQUE_OK) status = tq_archive_xml(&a, "word/document.xml", visit_prose, &p, err);
    if (status == TOQUE_OK && tq_archive_has(&a, "word/footnotes.xml"))
        status = tq_archive_xml(&a, "word/footnotes.xml", visit_prose, &p, err);
    tq_archive_close(&a);
    return status;
}

toque_status tq_parse_pptx(tq_doc *doc, const tq_input *in, toque_error *err) {
    tq_archive a;
    char name[64];
    TQ_TRY(tq_archive_open(&a, in->mem, in->data, in->n, err));
    toque_status status = tq_archive_facts(&a, "docProps/core.xml", doc, err);
    for (int i = 1; status == TOQUE_OK; i++) {
        prose p = {.doc = doc, .slides = true};
        snprintf(name, sizeof name, "ppt/slides/slide%d.xml", i);
        if (!tq_archive_has(&a, name)) {
            if (i == 1) status = TQ_FAIL(err, EFORMAT, "the archive has no slides");
            break;
        }
        doc->page = i;
        status = tq_archive_xml(&a, name, visit_prose, &p, err);
    }
    tq_archive_close(&a);
    return status;
}

/* --- OpenDocument: text:h and text:p, table:table-row ---------------------------------------------------------- */

typedef struct open_document {
    tq_doc *doc;
    int body, row, cells, depth; /* depth of paragraphs: notes stand inside */
    int skip;                    /* inside tracked changes, annotations */
} open_document;

static void open_element(open_document *o, const char *s, void *reader) {
    char value[64];
    if (is(s, "h") || is(s, "p")) {
        if (o->row) {
            tq_doc_put_flow(o->doc, " ", 1);
        } else if (o->depth == 0) {
            int level =
                is(s, "h") && tq_xml_attribute(reader, "outline-level", value, sizeof value) ? number_of(value) : 0;
            if (is(s, "h") && !level) level = 1;
            tq_doc_begin(o->doc, level ? TQ_BLOCK_HEADING : TQ_BLOCK_TEXT, level);
        }
        o->depth++;
    } else if (is(s, "table-row")) {
        if (o->row++ == 0) tq_doc_begin(o->doc, TQ_BLOCK_ROW, 0), o->cells = 0;
    } else if (is(s, "table-cell") && o->row == 1) {
        if (o->cells++) tq_doc_put_flow(o->doc, " | ", 3);
    } else if (is(s, "table") && !o->row && tq_xml_attribute(reader, "name", value, sizeof value)) {
        tq_doc_begin(o->doc, TQ_BLOCK_HEADING, 3);
        tq_doc_put(o->doc, value, strlen(value));
        tq_doc_end(o->doc);
    } else if (is(s, "page") && !o->row) {
        o->doc->page++;
    } else if (o->depth && (is(s, "s") || is(s, "tab"))) {
        tq_doc_put(o->doc, " ", 1);
    } else if (o->depth && is(s, "line-break")) {
        tq_doc_put(o->doc, "\n", 1);
    }
}

static void close_element(open_document *o, const char *s) {
    if (is(s, "h") || is(s, "p")) {
        if (o->depth) o->depth--;
        if (!o->row && o->depth == 0) tq_doc_end(o->doc);
    } else if (is(s, "table-row") && o->row) {
        if (--o->row == 0) tq_doc_end(o->doc);
    }
}

static void visit_open(void *arg, tq_xml_event event, const char *s, void *reader) {
    open_document *o = arg;
    if (event == TQ_XML_TEXT) {
        if (!o->body || o->skip || !o->depth) return;
        if (o->row)
            tq_doc_put_flow(o->doc, s, strlen(s));
        else
            tq_doc_put(o->doc, s, strlen(s));
        return;
    }
    int step = event == TQ_XML_OPEN ? 1 : -1;
    if (is(s, "body")) o->body += step;
    if (is(s, "tracked-changes") || is(s, "annotation")) o->skip += step;
    if (!o->body || o->skip) return;
    if (event == TQ_XML_OPEN)
        open_element(o, s, reader);
    else
        close_element(o, s);
}

toque_status tq_parse_opendocument(tq_doc *doc, const tq_input *in, toque_error *err) {
    tq_archive a;
    open_document o = {.doc = doc};
    TQ_TRY(tq_archive_open(&a, in->mem, in->data, in->n, err));
    toque_status status = tq_archive_facts(&a, "meta.xml", doc, err);
    if (status == TOQUE_OK) status = tq_archive_xml(&a, "content.xml", visit_open, &o, err);
    tq_archive_close(&a);
    return status;
}
