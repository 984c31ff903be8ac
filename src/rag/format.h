/* Formats of documents: rows of formats.def, each with a parser that fills a tq_doc. A format is told by the file's
 * ending, else by its first bytes; text of no known ending is plain text. `.gz` around any of them is taken off. */
#ifndef TQ_RAG_FORMAT_H
#define TQ_RAG_FORMAT_H

#include "rag/doc.h"

typedef struct tq_input {
    tq_mem *mem;
    const char *name; /* of the file, without `.gz`: for its ending and its title */
    const char *data; /* text formats: UTF-8 without a byte order mark or NUL; others: the bytes */
    size_t n;
} tq_input;

typedef toque_status tq_parse_fn(tq_doc *doc, const tq_input *in, toque_error *err);

typedef struct tq_format {
    const char *name;    /* "markdown" */
    const char *endings; /* " .md .markdown " */
    bool text;           /* the input is decoded to UTF-8 first */
    tq_parse_fn *parse;
} tq_format;

/* The format of a file of this name and content; NULL when it is none that is known. */
const tq_format *tq_format_of(const char *name, const char *data, size_t n);
/* The row of that name, or NULL. */
const tq_format *tq_format_named(const char *name);
/* Parses a whole file's bytes into doc (empty before). format NULL: told by name and content. *used: the format. The
 * encoding, when it was guessed, becomes the document's pair "encoding". EUNSUPPORTED names what is missing. */
toque_status tq_parse(tq_doc *doc, const char *name, const char *data, size_t n, const tq_format *format,
                      const tq_format **used, toque_error *err) TQ_MUST;

#define FORMAT(name, text, endings) toque_status tq_parse_##name(tq_doc *doc, const tq_input *in, toque_error *err);
#include "rag/formats.def"
#undef FORMAT

/* ---- shared by parsers ---------------------------------------------------------------------------------------------
 */

/* Paragraphs of text[start, end) of the document's own text, parted by blank lines; lines in capitals and lines
 * underlined by = or - are headings. */
void tq_mark_paragraphs(tq_doc *doc, size_t start, size_t end);
/* Appends HTML to a document (parse_html.c): a whole page or a fragment. */
toque_status tq_put_html(tq_doc *doc, const char *html, size_t n, toque_error *err) TQ_MUST;

/* program.c: runs argv[0] (found in PATH, no shell) with input on its standard input and gathers its output, at most
 * max bytes. EUNSUPPORTED with `package` named when there is no such program; EFORMAT with its own words when it
 * fails; ELIMIT when it writes more or runs longer than a minute. */
toque_status tq_run_program(const char *const *argv, const char *package, const char *input, size_t n, tq_buf *out,
                            toque_error *err) TQ_MUST;
bool tq_program_exists(const char *name);

#endif
