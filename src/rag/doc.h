/* A document as the parsers leave it: one UTF-8 text and the blocks in it (headings, paragraphs, code, rows of tables),
 * in order and without overlap. Where a format is text itself (plain text, Markdown, source code) the document's text
 * is the file's, byte for byte, and blocks are marked in it; others write their text block by block. Failure of a
 * write is sticky, as in buf.h: tq_doc_status tells at the end. */
#ifndef TQ_RAG_DOC_H
#define TQ_RAG_DOC_H

#include "base/buf.h"

enum { TQ_DOC_MAX_TEXT = 64 << 20 }; /* bytes of text of one document */

typedef enum tq_block_kind { TQ_BLOCK_TEXT, TQ_BLOCK_HEADING, TQ_BLOCK_CODE, TQ_BLOCK_ROW } tq_block_kind;

typedef struct tq_block {
    tq_block_kind kind;
    int level;           /* of a heading, from 1 */
    int page;            /* from 1; 0: the format has none */
    uint32_t start, end; /* bytes of the text */
} tq_block;

typedef struct tq_doc_pair {
    char *key, *value;
} tq_doc_pair;

typedef struct tq_doc {
    tq_mem *mem;
    tq_buf text;
    tq_block *blocks;
    size_t n, cap;
    char *title;        /* or NULL */
    tq_doc_pair *pairs; /* what the format says about the document: author, date, ... */
    size_t n_pairs, cap_pairs;
    int page;    /* given to new blocks */
    bool open;   /* between begin and end */
    bool failed; /* out of memory */
} tq_doc;

void tq_doc_init(tq_doc *doc, tq_mem *mem);
void tq_doc_clear(tq_doc *doc);

/* Writes a block: begin puts a blank line (after a row a newline) behind what there is; text follows with tq_doc_put;
 * end cuts white space at the block's ends and drops an empty block. A begin ends an open block. */
void tq_doc_begin(tq_doc *doc, tq_block_kind kind, int level);
void tq_doc_put(tq_doc *doc, const char *s, size_t n);
/* The same with white space of any length as one blank, none at the block's beginning. */
void tq_doc_put_flow(tq_doc *doc, const char *s, size_t n);
void tq_doc_end(tq_doc *doc);
/* A block of text that is there already: [start, end), behind all earlier blocks. White space at its ends is cut. */
void tq_doc_mark(tq_doc *doc, tq_block_kind kind, int level, size_t start, size_t end);

/* The first title stays. White space is squeezed; nothing is kept of an empty one. */
void tq_doc_title(tq_doc *doc, const char *s, size_t n);
void tq_doc_pair_add(tq_doc *doc, const char *key, const char *value, size_t n);
/* OK, or ENOMEM, or ELIMIT when the text is longer than TQ_DOC_MAX_TEXT, or EFORMAT when it is no UTF-8. Ends an open
 * block. */
toque_status tq_doc_status(tq_doc *doc, toque_error *err) TQ_MUST;

#endif
