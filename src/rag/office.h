/* Archives of XML, as office documents are: what parse_office.c offers to the parsers of their formats. */
#ifndef TQ_RAG_OFFICE_H
#define TQ_RAG_OFFICE_H

#include "rag/format.h"

typedef struct tq_archive {
    tq_mem *mem;
    struct zip *zip;
    uint64_t unpacked; /* bytes read so far */
} tq_archive;

/* data must outlive the archive. */
toque_status tq_archive_open(tq_archive *a, tq_mem *mem, const char *data, size_t n, toque_error *err) TQ_MUST;
void tq_archive_close(tq_archive *a);
bool tq_archive_has(const tq_archive *a, const char *name);
/* A part's bytes, NUL-terminated, the caller's (tq_free). ELIMIT when all parts read are too much. */
toque_status tq_archive_read(tq_archive *a, const char *name, char **data, size_t *n, toque_error *err) TQ_MUST;

/* A part's XML as a stream of elements (by local name) and texts. reader is for tq_xml_attribute, during OPEN. */
typedef enum tq_xml_event { TQ_XML_OPEN, TQ_XML_CLOSE, TQ_XML_TEXT } tq_xml_event;
typedef void tq_xml_fn(void *arg, tq_xml_event event, const char *name_or_text, void *reader);
toque_status tq_archive_xml(tq_archive *a, const char *name, tq_xml_fn *visit, void *arg, toque_error *err) TQ_MUST;
/* The attribute's value, cut to size; false and "" without it. */
bool tq_xml_attribute(void *reader, const char *local, char *out, size_t size);

/* Title, author and date from docProps/core.xml or meta.xml, if it is there. */
toque_status tq_archive_facts(tq_archive *a, const char *name, tq_doc *doc, toque_error *err) TQ_MUST;

#endif
