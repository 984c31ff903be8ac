/* Quoting: sentences word for word where they stand, and silence where the documents are silent. */
#include <math.h>

#include "rag.h"
#include "rag/quote.h"

static const tq_chunk_options small = {TQ_CHUNK_PASSAGE, 48, 6};
static const char *const topics[][2] = {
    {"Cats", "sleeping whiskers purring kittens"}, {"Rockets", "fuel thrust orbit launch"},
    {"Bread", "flour yeast oven dough"},           {"Rivers", "water flows bridges banks"},
    {"Music", "notes rhythm melody chords"},       {"Bees", "honey hive queen pollen"},
    {"Chess", "pawn bishop checkmate board"},      {"Rain", "clouds umbrella puddles storm"},
    {"Clocks", "hours minutes pendulum gears"},    {"Horses", "saddle gallop stable mane"},
    {"Ships", "anchor sails harbour deck"},        {"Trees", "leaves bark roots branches"}};
enum { TOPICS = sizeof topics / sizeof *topics };

/* A document a topic; every sentence under a heading shares words with it. */
static void fill(tq_rag *store, const tq_rag_embedder *e) {
    char uri[20], text[600];
    for (int i = 0; i < TOPICS; i++) {
        snprintf(uri, sizeof uri, "%02d.txt", i);
        snprintf(text, sizeof text,
                 "# %s\n\nHere %s come with %s. Some %s are known everywhere.\n\n# About %s\n\nAll about %s and %s.",
                 topics[i][0], topics[i][0], topics[i][1], topics[i][0], topics[i][0], topics[i][0], topics[i][1]);
        put(store, e, uri, "", text, NULL, 0);
    }
}

static void check_answers(const tq_rag_embedder *e) {
    tq_rag *store;
    tq_searcher s;
    int64_t pairs;
    char question[200];
    OK(tq_rag_create(&store, ctx, store_path, e, &small, err));
    fill(store, e);
    OK(tq_calibrate(store, e, &pairs, err));
    assert_true(pairs == 2 * TOPICS && store->facts.calibrated);
    assert_true(store->facts.auc > 0.9);
    double threshold = store->facts.threshold;
    tq_rag_close(store);
    OK(tq_rag_open(&store, ctx, store_path, false, err));
    assert_true(store->facts.calibrated && store->facts.threshold == threshold);
    OK(tq_searcher_init(&s, store, e, err));
    const tq_quote_options o = {.search = tq_search_defaults(), .sentences = 3, .threshold = NAN};
    for (int i = 0; i < TOPICS; i++) {
        tq_answer a;
        snprintf(question, sizeof question, "%s with %s", topics[i][0], topics[i][1]);
        OK(tq_quote_answer(&s, &a, question, &o, err));
        assert_true(a.answered && a.n >= 1 && a.n <= 3 && a.best >= threshold);
        assert_int_equal(atoi(a.quotes[0].passage->uri), i);
        for (size_t q = 0; q < a.n; q++) { /* the very bytes of the document */
            tq_doc doc;
            tq_doc_init(&doc, store->mem);
            OK(tq_rag_document(store, a.quotes[q].passage->document, false, &doc, err));
            assert_int_equal(strlen(a.quotes[q].text), a.quotes[q].end - a.quotes[q].start);
            assert_memory_equal(doc.text.data + a.quotes[q].start, a.quotes[q].text, strlen(a.quotes[q].text));
            assert_true(q == 0 || a.quotes[q].score <= a.quotes[q - 1].score);
            tq_doc_clear(&doc);
        }
        tq_answer_clear(&a);
    }
    tq_answer a;
    OK(tq_quote_answer(&s, &a, "quantum telescopes discover tomatoes", &o, err));
    assert_false(a.answered);
    tq_answer_clear(&a);
    tq_quote_options free_of_it = o;
    free_of_it.threshold = -1;
    OK(tq_quote_answer(&s, &a, "telescopes discover bread", &free_of_it, err));
    assert_true(a.answered);
    tq_answer_clear(&a);
    tq_searcher_clear(&s);
    tq_rag_close(store);
    remove_store();
}

static void vectors_quote(void **state) {
    (void)state;
    bag b;
    tq_rag_embedder e = bag_embedder(&b, 256, 128);
    check_answers(&e);
}

static void words_quote(void **state) {
    (void)state;
    check_answers(&tq_rag_embedder_none);
}

static void few_headings_teach_nothing(void **state) {
    (void)state;
    tq_rag *store;
    int64_t pairs;
    OK(tq_rag_create(&store, ctx, store_path, &tq_rag_embedder_none, &small, err));
    put(store, &tq_rag_embedder_none, "a.txt", "", "# One\n\nText.\n\nMore.", NULL, 0);
    OK(tq_calibrate(store, &tq_rag_embedder_none, &pairs, err));
    assert_true(pairs == 0 && !store->facts.calibrated);
    tq_rag_close(store);
    remove_store();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_quote),
        cmocka_unit_test(words_quote),
        cmocka_unit_test(few_headings_teach_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
