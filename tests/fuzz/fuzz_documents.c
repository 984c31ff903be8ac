/* Any bytes as a document of any kind that is read here (not by another program). The first byte chooses the format.
 * What comes out is UTF-8 with its blocks in order inside it, and chunks cover it within their budget. */
#include <string.h>

#include "fuzz.h"
#include "rag/chunk.h"
#include "rag/format.h"
#include "text/unicode.h"

static const char *const names[] = {"a.txt", "a.md",   "a.html",   "a.docx",   "a.xlsx",  "a.pptx",
                                    "a.odt", "a.csv",  "a.tsv",    "a.json",   "a.jsonl", "a.c",
                                    "a.eml", "a.mbox", "a.txt.gz", "a.docx.gz"};

static void check_document(const tq_doc *doc) {
    fuzz_require(tq_utf8_valid_prefix(doc->text.data, doc->text.len) == doc->text.len);
    uint32_t at = 0;
    for (size_t i = 0; i < doc->n; i++) {
        const tq_block *b = &doc->blocks[i];
        fuzz_require(b->start >= at && b->end > b->start && b->end <= doc->text.len && b->kind <= TQ_BLOCK_ROW);
        at = b->end;
    }
}

static void check_chunks(tq_mem *mem, const tq_doc *doc) {
    tq_chunks chunks;
    toque_error err;
    const tq_chunk_options o = {TQ_CHUNK_PASSAGE, 20, 4};
    fuzz_require(tq_chunks_make(&chunks, mem, doc, &tq_rag_embedder_none, &o, &err) == TOQUE_OK);
    for (size_t i = 0; i < chunks.n; i++) {
        const tq_chunk *c = &chunks.items[i];
        fuzz_require(c->start < c->end && c->end <= doc->text.len && c->heading < chunks.headings.len);
        fuzz_require(tq_utf8_valid_prefix(doc->text.data + c->start, c->end - c->start) == c->end - c->start);
    }
    tq_chunks_clear(&chunks);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    tq_mem mem = {0};
    tq_doc doc;
    toque_error err;
    const tq_format *used;
    const char *name = names[data[0] % (sizeof names / sizeof *names)];
    tq_doc_init(&doc, &mem);
    toque_status status = tq_parse(&doc, name, (const char *)data + 1, size - 1, NULL, &used, &err);
    fuzz_require(status != TOQUE_ENOMEM && status != TOQUE_EINTERNAL);
    if (status == TOQUE_OK) {
        check_document(&doc);
        check_chunks(&mem, &doc);
    }
    tq_doc_clear(&doc);
    fuzz_check(&mem);
    return 0;
}
