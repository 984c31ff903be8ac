/* Office documents: ZIP archives of XML (ECMA-376: docx, xlsx, pptx; ISO 26300: odt, ods, odp), read with libzip and
 * libxml2's streaming reader. An archive may not unpack to more than MAX_UNPACKED; a part may not declare entities, and
 * nothing is fetched. */
#include <libxml/xmlreader.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>

#include "rag/office.h"

enum { MAX_UNPACKED = 256 << 20 };

toque_status tq_archive_open(tq_archive *a, tq_mem *mem, const char *data, size_t n, toque_error *err) {
    zip_error_t e;
    zip_error_init(&e);
    *a = (tq_archive){.mem = mem};
    zip_source_t *source = zip_source_buffer_create(data, n, 0, &e);
    if (source) a->zip = zip_open_from_source(source, ZIP_RDONLY, &e);
    if (source && !a->zip) zip_source_free(source);
    toque_status status = TOQUE_OK;
    if (!a->zip)
        status = zip_error_code_zip(&e) == ZIP_ER_MEMORY
                     ? TQ_NOMEM(err)
                     : TQ_FAIL(err, EFORMAT, "it is no whole ZIP archive (%s)", zip_error_strerror(&e));
    zip_error_fini(&e);
    return status;
}

void tq_archive_close(tq_archive *a) {
    if (a->zip) zip_discard(a->zip);
    a->zip = NULL;
}

bool tq_archive_has(const tq_archive *a, const char *name) {
    return zip_name_locate(a->zip, name, 0) >= 0;
}

toque_status tq_archive_read(tq_archive *a, const char *name, char **data, size_t *n, toque_error *err) {
    zip_stat_t st;
    *data = NULL;
    *n = 0;
    if (zip_stat(a->zip, name, 0, &st) != 0 || !(st.valid & ZIP_STAT_SIZE))
        return TQ_FAIL(err, EFORMAT, "the archive lacks its part %s", name);
    if (st.size > MAX_UNPACKED || a->unpacked + st.size > MAX_UNPACKED)
        return TQ_FAIL(err, ELIMIT, "it unpacks to more than %d MiB", MAX_UNPACKED >> 20);
    zip_file_t *f = zip_fopen(a->zip, name, 0);
    if (!f) return TQ_FAIL(err, EFORMAT, "its part %s cannot be read (%s)", name, zip_strerror(a->zip));
    char *out = tq_alloc(a->mem, (size_t)st.size + 1, 1);
    zip_int64_t got = out ? zip_fread(f, out, st.size) : 0; /* never more than it said */
    zip_fclose(f);
    if (!out) return TQ_NOMEM(err);
    if (got != (zip_int64_t)st.size) {
        tq_free(a->mem, out);
        return TQ_FAIL(err, EFORMAT, "its part %s is damaged", name);
    }
    out[st.size] = 0;
    a->unpacked += st.size;
    *data = out;
    *n = (size_t)st.size;
    return TOQUE_OK;
}

toque_status tq_archive_xml(tq_archive *a, const char *name, tq_xml_fn *visit, void *arg, toque_error *err) {
    char *data;
    size_t n;
    TQ_TRY(tq_archive_read(a, name, &data, &n, err));
    xmlTextReaderPtr r =
        xmlReaderForMemory(data, (int)n, NULL, NULL, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    toque_status status = r ? TOQUE_OK : TQ_NOMEM(err);
    int got = 1;
    while (status == TOQUE_OK && (got = xmlTextReaderRead(r)) == 1) {
        int type = xmlTextReaderNodeType(r);
        const char *local = (const char *)xmlTextReaderConstLocalName(r);
        if (type == XML_READER_TYPE_DOCUMENT_TYPE) { /* the standards know none: it can only mean harm */
            status = TQ_FAIL(err, EFORMAT, "its part %s declares entities", name);
        } else if (type == XML_READER_TYPE_ELEMENT) {
            bool empty = xmlTextReaderIsEmptyElement(r) == 1;
            visit(arg, TQ_XML_OPEN, local, r);
            if (empty) visit(arg, TQ_XML_CLOSE, local, r);
        } else if (type == XML_READER_TYPE_END_ELEMENT) {
            visit(arg, TQ_XML_CLOSE, local, r);
        } else if (type == XML_READER_TYPE_TEXT || type == XML_READER_TYPE_CDATA ||
                   type == XML_READER_TYPE_SIGNIFICANT_WHITESPACE) {
            const char *value = (const char *)xmlTextReaderConstValue(r);
            if (value) visit(arg, TQ_XML_TEXT, value, r);
        }
    }
    if (status == TOQUE_OK && got != 0) status = TQ_FAIL(err, EFORMAT, "its part %s is no whole XML", name);
    if (r) xmlFreeTextReader(r);
    tq_free(a->mem, data);
    return status;
}

bool tq_xml_attribute(void *reader, const char *local, char *out, size_t size) {
    xmlTextReaderPtr r = reader;
    bool found = false;
    out[0] = 0;
    for (int more = xmlTextReaderMoveToFirstAttribute(r); more == 1 && !found;
         more = xmlTextReaderMoveToNextAttribute(r)) {
        const char *value = (const char *)xmlTextReaderConstValue(r);
        if (strcmp((const char *)xmlTextReaderConstLocalName(r), local) != 0 || !value) continue;
        size_t n = strlen(value) < size ? strlen(value) : size - 1;
        memcpy(out, value, n);
        out[n] = 0;
        found = true;
    }
    xmlTextReaderMoveToElement(r);
    return found;
}

/* --- what documents say of themselves: Dublin Core in docProps/core.xml and meta.xml --------------------------- */

typedef struct facts {
    tq_doc *doc;
    char field[24];
} facts;

static void visit_fact(void *arg, tq_xml_event event, const char *s, void *reader) {
    facts *f = arg;
    (void)reader;
    if (event == TQ_XML_OPEN)
        snprintf(f->field, sizeof f->field, "%.20s", s);
    else if (event == TQ_XML_CLOSE)
        f->field[0] = 0;
    else if (strcmp(f->field, "title") == 0)
        tq_doc_title(f->doc, s, strlen(s));
    else if (strcmp(f->field, "creator") == 0)
        tq_doc_pair_add(f->doc, "author", s, strlen(s));
    else if (strcmp(f->field, "modified") == 0 || strcmp(f->field, "date") == 0)
        tq_doc_pair_add(f->doc, "date", s, strlen(s));
}

toque_status tq_archive_facts(tq_archive *a, const char *name, tq_doc *doc, toque_error *err) {
    facts f = {.doc = doc};
    return tq_archive_has(a, name) ? tq_archive_xml(a, name, visit_fact, &f, err) : TOQUE_OK;
}
