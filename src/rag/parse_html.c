/* HTML through libxml2's forgiving parser. Text of blocks is written with white space squeezed; headings, preformatted
 * text and table rows keep their kinds. Scripts, styles, navigation and forms are left out. */
#include <libxml/HTMLparser.h>
#include <string.h>
#include <strings.h>

#include "rag/format.h"
#include "text/unicode.h"

enum { MAX_DEPTH = 1000 };

typedef struct writer {
    tq_doc *doc;
    int pre, row; /* inside <pre>, inside <tr> */
    bool cell;    /* the row has one already */
} writer;

static bool is_one_of(const xmlNode *node, const char *list) {
    const char *name = (const char *)node->name;
    size_t n = strlen(name);
    for (const char *p = list; (p = strcasestr(p, name)); p += n)
        if (p[-1] == ' ' && p[n] == ' ') return true;
    return false;
}

static bool has_class(xmlNode *node, const char *word) {
    xmlChar *value = xmlGetProp(node, (const xmlChar *)"class");
    bool has = value && strstr((const char *)value, word);
    xmlFree(value);
    return has;
}

static int heading_level(const xmlNode *node) {
    const char *name = (const char *)node->name;
    return (name[0] | 32) == 'h' && name[1] >= '1' && name[1] <= '6' && !name[2] ? name[1] - '0' : 0;
}

static void put_text(writer *w, const char *s) {
    if (w->pre && !w->row)
        tq_doc_put(w->doc, s, strlen(s));
    else
        tq_doc_put_flow(w->doc, s, strlen(s));
}

static void take_meta(writer *w, xmlNode *node) {
    xmlChar *name = xmlGetProp(node, (const xmlChar *)"name"), *content = xmlGetProp(node, (const xmlChar *)"content");
    static const char *const known[] = {"author", "date", "description", "keywords"};
    for (size_t i = 0; name && content && i < sizeof known / sizeof *known; i++)
        if (strcasecmp((const char *)name, known[i]) == 0)
            tq_doc_pair_add(w->doc, known[i], (const char *)content, strlen((const char *)content));
    xmlFree(name);
    xmlFree(content);
}

static void walk(writer *w, xmlNode *node, int depth);

static void children(writer *w, xmlNode *node, int depth) {
    for (xmlNode *c = node->children; c; c = c->next) walk(w, c, depth + 1);
}

static void element(writer *w, xmlNode *node, int depth) {
    int level = heading_level(node);
    if (is_one_of(node, " script style nav template noscript svg form button select iframe object ") ||
        (is_one_of(node, " table ") && (has_class(node, "head") || has_class(node, "foot"))))
        return;
    if (is_one_of(node, " title ")) {
        xmlChar *text = xmlNodeGetContent(node);
        if (text) tq_doc_title(w->doc, (const char *)text, strlen((const char *)text));
        xmlFree(text);
        return;
    }
    if (is_one_of(node, " meta ")) {
        take_meta(w, node);
        return;
    }
    if (is_one_of(node, " br ")) {
        if (w->doc->open && !w->row) tq_doc_put(w->doc, "\n", 1);
        return;
    }
    if (w->row) { /* inside a row all is one line, cells parted by bars */
        bool cell = is_one_of(node, " td th ");
        if (cell && w->cell) tq_doc_put_flow(w->doc, " | ", 3);
        children(w, node, depth);
        if (cell) w->cell = true;
        return;
    }
    if (level)
        tq_doc_begin(w->doc, TQ_BLOCK_HEADING, level);
    else if (is_one_of(node, " pre "))
        tq_doc_begin(w->doc, TQ_BLOCK_CODE, 0), w->pre++;
    else if (is_one_of(node, " tr "))
        tq_doc_begin(w->doc, TQ_BLOCK_ROW, 0), w->row++, w->cell = false;
    bool block = is_one_of(node, " p div section article main header footer aside ul ol li dl dt dd table blockquote "
                                 "figure figcaption address details summary fieldset body hr caption ");
    bool explained = is_one_of(node, " dt "), explains = is_one_of(node, " dd ") && w->doc->open;
    if (explains) { /* a term and what is said of it are one block */
        tq_buf *t = &w->doc->text;
        while (t->len && strchr(" \n", t->data[t->len - 1])) tq_buf_cut(t, t->len - 1);
        tq_doc_put(w->doc, ": ", 2);
    }
    if (block && !explains && !w->pre) tq_doc_end(w->doc);
    children(w, node, depth);
    if (is_one_of(node, " pre ")) w->pre--;
    if (is_one_of(node, " tr ")) w->row--;
    if (level || is_one_of(node, " pre tr ") || (block && !w->pre && !explained)) tq_doc_end(w->doc);
}

static void walk(writer *w, xmlNode *node, int depth) {
    if (depth > MAX_DEPTH) return; /* libxml2 itself stops at 256 open elements */
    if (node->type == XML_TEXT_NODE || node->type == XML_CDATA_SECTION_NODE) {
        if (node->content) put_text(w, (const char *)node->content);
    } else if (node->type == XML_ELEMENT_NODE) {
        element(w, node, depth);
    } else if (node->type == XML_ENTITY_REF_NODE) {
        xmlChar *text = xmlNodeGetContent(node);
        if (text) put_text(w, (const char *)text);
        xmlFree(text);
    }
}

toque_status tq_put_html(tq_doc *doc, const char *html, size_t n, toque_error *err) {
    if (n > INT32_MAX) return TQ_FAIL(err, ELIMIT, "the page is larger than 2 GiB");
    /* What is valid UTF-8 is UTF-8; otherwise the page's own word holds, and without one it is Latin-1. */
    const char *encoding = tq_utf8_valid_prefix(html, n) == n ? "UTF-8" : NULL;
    htmlDocPtr tree = htmlReadMemory(html, (int)n, NULL, encoding,
                                     HTML_PARSE_RECOVER | HTML_PARSE_NOERROR | HTML_PARSE_NOWARNING | HTML_PARSE_NONET);
    if (!tree) return n ? TQ_FAIL(err, EFORMAT, "it cannot be read as HTML") : TOQUE_OK;
    writer w = {.doc = doc};
    for (xmlNode *node = tree->children; node; node = node->next) walk(&w, node, 0);
    tq_doc_end(doc);
    xmlFreeDoc(tree);
    return TOQUE_OK;
}

toque_status tq_parse_html(tq_doc *doc, const tq_input *in, toque_error *err) {
    return tq_put_html(doc, in->data, in->n, err);
}
