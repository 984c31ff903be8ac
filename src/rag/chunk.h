/* Chunks: what a document is cut into for embedding and search. Cuts fall between blocks, then between sentences (lines
 * of code), and inside a sentence only where it alone is over the budget. A heading begins a chunk and is not part of
 * it: title and headings above it go in front of the text that is embedded and indexed (the passage, tq_passage).
 * Every chunk is a range of bytes of the document's text. */
#ifndef TQ_RAG_CHUNK_H
#define TQ_RAG_CHUNK_H

#include "rag/doc.h"
#include "rag/embedder.h"

/* Changes when the same document would be cut in another way: stores remember it. */
enum { TQ_CHUNKER_VERSION = 1 };

typedef enum tq_chunk_mode {
    TQ_CHUNK_PASSAGE,  /* as many sentences as fit the budget */
    TQ_CHUNK_SENTENCE, /* one sentence; its context is the sentences around it that fit the budget */
    TQ_CHUNK_PARENT    /* as passage; its context is the whole section, at most 4 budgets of it */
} tq_chunk_mode;

typedef struct tq_chunk_options {
    tq_chunk_mode mode;
    int budget;  /* tokens of a passage, headings in front included */
    int overlap; /* tokens that a chunk repeats of the one before it in its section, in whole sentences */
} tq_chunk_options;

typedef struct tq_chunk {
    uint32_t start, end;                 /* bytes of the document's text */
    uint32_t context_start, context_end; /* what a reader is shown: the chunk itself in passage mode */
    uint32_t heading;                    /* offset in tq_chunks.headings of "Title > Section > Subsection" */
    int page;
} tq_chunk;

typedef struct tq_chunks {
    tq_mem *mem;
    tq_chunk *items;
    size_t n, cap;
    tq_buf headings; /* NUL-terminated strings */
} tq_chunks;

/* EINVAL for a budget that the embedder cannot take. Clear in any case. */
toque_status tq_chunks_make(tq_chunks *chunks, tq_mem *mem, const tq_doc *doc, const tq_rag_embedder *e,
                            const tq_chunk_options *options, toque_error *err) TQ_MUST;
void tq_chunks_clear(tq_chunks *chunks);

/* Appends the passage of a chunk: its headings on a line, then its text. */
bool tq_passage(tq_buf *out, const char *heading, const char *text, size_t n);

#endif
