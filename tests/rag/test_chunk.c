/* Documents and their cutting: every chunk is a range of the text, within its budget, and nothing but white space and
 * headings is left out. Texts are random. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bag.h"
#include "base/rng.h"
#include "rag/chunk.h"
#include "rag/sentence.h"
#include "text/unicode.h"

static tq_mem mem;
static tq_rng rng;

static const char *const words[] = {"the",  "cat",
                                    "sat.", "Why",
                                    "not?", "Dr.",
                                    "e.g.", "3.14",
                                    "déjà", "数据。",
                                    "end!", "a",
                                    "run",  "x",
                                    "I.",   "pneumonoultramicroscopicsilicovolcanoconiosis",
                                    "ok",   "\xf0\x9f\x99\x82",
                                    "word", "word,"};

static void put_words(tq_doc *doc, uint32_t n, bool lines) {
    for (uint32_t i = 0; i < n; i++) {
        const char *w = words[tq_rng_below(&rng, sizeof words / sizeof *words)];
        tq_doc_put(doc, w, strlen(w));
        if (tq_rng_below(&rng, 40)) tq_doc_put(doc, lines && tq_rng_below(&rng, 6) == 0 ? "\n" : " ", 1);
    }
}

static void random_document(tq_doc *doc) {
    if (tq_rng_below(&rng, 2)) tq_doc_title(doc, "A  title ", 9);
    for (uint32_t i = tq_rng_below(&rng, 14); i > 0; i--) {
        uint32_t what = tq_rng_below(&rng, 6);
        doc->page = (int)tq_rng_below(&rng, 3);
        tq_doc_begin(doc,
                     what == 0   ? TQ_BLOCK_HEADING
                     : what == 1 ? TQ_BLOCK_CODE
                     : what == 2 ? TQ_BLOCK_ROW
                                 : TQ_BLOCK_TEXT,
                     1 + (int)tq_rng_below(&rng, 8));
        put_words(doc, what == 0 ? tq_rng_below(&rng, 30) : tq_rng_below(&rng, 300), what == 1);
    }
    toque_error err;
    assert_int_equal(tq_doc_status(doc, &err), TOQUE_OK);
}

static size_t tokens(const tq_rag_embedder *e, const char *text, size_t n) {
    toque_error err;
    size_t count;
    assert_int_equal(tq_count_tokens(e, &mem, text, n, &count, &err), TOQUE_OK);
    return count;
}

static void check_chunks(const tq_doc *doc, const tq_chunks *chunks, const tq_rag_embedder *e,
                         const tq_chunk_options *o) {
    const char *text = doc->text.data;
    size_t last = 0;
    char *seen = test_calloc(doc->text.len + 1, 1);
    for (size_t i = 0; i < chunks->n; i++) {
        const tq_chunk *c = &chunks->items[i];
        assert_true(c->start < c->end && c->end <= doc->text.len);
        assert_true(c->context_start <= c->start && c->context_end >= c->end && c->context_end <= doc->text.len);
        assert_true(c->end > last); /* each brings something new */
        last = c->end;
        /* whole characters, no white space at the ends */
        assert_int_equal(tq_utf8_valid_prefix(text + c->start, c->end - c->start), c->end - c->start);
        assert_true(text[c->end - 1] != ' ' && text[c->start] != '\n');
        tq_buf passage;
        tq_buf_init(&passage, &mem, 1 << 20);
        assert_true(tq_passage(&passage, chunks->headings.data + c->heading, text + c->start, c->end - c->start));
        size_t count = tokens(e, passage.data, passage.len);
        /* cut tokens may count as two at a cut's ends */
        if (count > (size_t)o->budget + 2) fail_msg("%zu tokens in a budget of %d", count, o->budget);
        tq_buf_clear(&passage);
        memset(seen + c->start, 1, c->end - c->start);
    }
    for (size_t i = 0; i < doc->n; i++) {
        const tq_block *b = &doc->blocks[i];
        assert_true(b->start < b->end && (i == 0 || b->start >= doc->blocks[i - 1].end));
        for (uint32_t at = b->start; at < b->end && b->kind != TQ_BLOCK_HEADING; at++)
            if (!seen[at] && !strchr(" \n", text[at])) fail_msg("byte %u is in no chunk", at);
    }
    test_free(seen);
}

static void chunks_are_ranges_within_the_budget(void **state) {
    (void)state;
    bag b;
    tq_rag_embedder e = bag_embedder(&b, 8, 256);
    tq_rng_init(&rng, 7, TQ_RNG_SAMPLE, 0, 0);
    for (int round = 0; round < 300; round++) {
        tq_doc doc;
        tq_chunks chunks;
        toque_error err;
        tq_doc_init(&doc, &mem);
        random_document(&doc);
        int budget = 16 + (int)tq_rng_below(&rng, 100);
        tq_chunk_options o = {(tq_chunk_mode)(round % 3), budget, (int)tq_rng_below(&rng, (uint32_t)budget / 2)};
        assert_int_equal(tq_chunks_make(&chunks, &mem, &doc, &e, &o, &err), TOQUE_OK);
        check_chunks(&doc, &chunks, &e, &o);
        tq_chunks_clear(&chunks);
        tq_doc_clear(&doc);
    }
    assert_int_equal(mem.used, 0);
}

static void headings_make_the_path(void **state) {
    (void)state;
    tq_doc doc;
    tq_chunks chunks;
    toque_error err;
    tq_doc_init(&doc, &mem);
    tq_doc_title(&doc, "Manual", 6);
    const struct {
        int level;
        const char *text;
    } parts[] = {{1, "Manual"},   {0, "Intro text."}, {2, "Install"}, {3, "Debian"},
                 {0, "Run apt."}, {3, "Empty"},       {2, "Use"},     {0, "Just use it."}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        tq_doc_begin(&doc, parts[i].level ? TQ_BLOCK_HEADING : TQ_BLOCK_TEXT, parts[i].level);
        tq_doc_put(&doc, parts[i].text, strlen(parts[i].text));
    }
    assert_int_equal(tq_doc_status(&doc, &err), TOQUE_OK);
    const tq_chunk_options o = {TQ_CHUNK_PASSAGE, 64, 0};
    assert_int_equal(tq_chunks_make(&chunks, &mem, &doc, &tq_rag_embedder_none, &o, &err), TOQUE_OK);
    const char *const want[][2] = {{"Manual", "Intro text."},
                                   {"Manual > Install > Debian", "Run apt."},
                                   {"Manual > Install > Empty", "Empty"},
                                   {"Manual > Use", "Just use it."}};
    assert_int_equal(chunks.n, 4);
    for (size_t i = 0; i < chunks.n; i++) {
        const tq_chunk *c = &chunks.items[i];
        assert_string_equal(chunks.headings.data + c->heading, want[i][0]);
        assert_int_equal(c->end - c->start, strlen(want[i][1]));
        assert_memory_equal(doc.text.data + c->start, want[i][1], strlen(want[i][1]));
    }
    tq_chunks_clear(&chunks);
    tq_doc_clear(&doc);
}

static void overlap_repeats_whole_sentences(void **state) {
    (void)state;
    static const char text[] =
        "One two three four. Five six. Seven eight nine ten. Eleven twelve thirteen fourteen fifteen.";
    tq_doc doc;
    tq_chunks chunks;
    toque_error err;
    tq_doc_init(&doc, &mem);
    tq_doc_put(&doc, text, strlen(text));
    tq_doc_put(&doc, " Sixteen. A b c d e f g h i j k l m.", 36);
    assert_int_equal(tq_doc_status(&doc, &err), TOQUE_OK);
    const tq_chunk_options o = {TQ_CHUNK_PASSAGE, 16, 6};
    assert_int_equal(tq_chunks_make(&chunks, &mem, &doc, &tq_rag_embedder_none, &o, &err), TOQUE_OK);
    assert_int_equal(chunks.n, 2);
    assert_int_equal(chunks.items[0].end, strlen(text) + 9);
    assert_int_equal(chunks.items[1].start,
                     strlen(text) + 1); /* "Sixteen." again: with the one before it is too long */
    tq_chunks_clear(&chunks);
    tq_doc_clear(&doc);
}

static void sentences_end_where_readers_end_them(void **state) {
    (void)state;
    static const char text[] =
        "See e.g. Smith et al. 2009, p. 3. It costs 3.14 (approx. 4) euros! \"Is it?\" he asked. "
        "J. R. Hartley wrote. Yes...  no\n\nNew part 数据。好的。 End";
    static const char *const want[] = {"See e.g. Smith et al. 2009, p. 3.",
                                       "It costs 3.14 (approx. 4) euros!",
                                       "\"Is it?\" he asked.",
                                       "J. R. Hartley wrote.",
                                       "Yes...  no",
                                       "New part 数据。",
                                       "好的。",
                                       "End"};
    size_t at = 0, start, end, n = 0;
    while (tq_sentence_next(text, at, strlen(text), &start, &end)) {
        assert_true(n < sizeof want / sizeof *want);
        if (end - start != strlen(want[n]) || memcmp(text + start, want[n], end - start) != 0)
            fail_msg("'%.*s', expected '%s'", (int)(end - start), text + start, want[n]);
        at = end;
        n++;
    }
    assert_int_equal(n, sizeof want / sizeof *want);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_are_ranges_within_the_budget),
        cmocka_unit_test(headings_make_the_path),
        cmocka_unit_test(overlap_repeats_whole_sentences),
        cmocka_unit_test(sentences_end_where_readers_end_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
