/* Search against what the formulas give: exact cosines, BM25 over token lists, ranks fused, filters, diversity. */
#include <math.h>

#include "base/rng.h"
#include "rag.h"

enum { DOCUMENTS = 120, DIM = 40 };
static const tq_chunk_options small = {TQ_CHUNK_PASSAGE, 24, 0};
static const char *const vocabulary[] = {"cat",  "dog",  "bird", "fish", "tree", "stone", "water", "fire",
                                         "wind", "moon", "sun",  "star", "sand", "salt",  "iron"};
enum { WORDS = sizeof vocabulary / sizeof *vocabulary };

static bag the_bag;
static tq_rag_embedder e;
static tq_rag *store;
static tq_searcher searcher;
static char texts[DOCUMENTS][400];

/* Documents of 3 to 20 words in which low numbers are common, "the" being no stop word in the language "". */
static int make_store(void **state) {
    tq_rng rng;
    if (set_up(state) != 0) return -1;
    tq_rng_init(&rng, 3, TQ_RNG_SAMPLE, 0, 0);
    e = bag_embedder(&the_bag, DIM, 64);
    OK(tq_rag_create(&store, ctx, store_path, &e, &small, err));
    for (int i = 0; i < DOCUMENTS; i++) {
        char uri[32], value[16];
        texts[i][0] = 0;
        for (uint32_t w = 3 + tq_rng_below(&rng, 10); w > 0; w--) {
            uint32_t pick = tq_rng_below(&rng, WORDS) * tq_rng_below(&rng, WORDS) / WORDS;
            strcat(texts[i], vocabulary[pick]);
            strcat(texts[i], " ");
        }
        texts[i][strlen(texts[i]) - 1] = 0;
        snprintf(uri, sizeof uri, "%s/%03d.txt", i % 2 ? "odd" : "even", i);
        snprintf(value, sizeof value, "%d", i);
        const tq_doc_pair pairs[] = {{(char *)"number", value}, {(char *)"colour", (char *)(i % 3 ? "red" : "blue")}};
        put(store, &e, uri, "", texts[i], pairs, 2);
    }
    OK(tq_searcher_init(&searcher, store, &e, err));
    return 0;
}

static int drop_store(void **state) {
    tq_searcher_clear(&searcher);
    tq_rag_close(store);
    remove_store();
    return tear_down(state);
}

static tq_hits search(const char *text, tq_search_options o) {
    tq_hits hits;
    OK(tq_search(&searcher, &hits, text, &o, err));
    return hits;
}

static int count(const char *text, const char *word) {
    int n = 0;
    for (const char *p = text; (p = strstr(p, word)); p += strlen(word))
        n += (p == text || p[-1] == ' ') && (p[strlen(word)] == ' ' || !p[strlen(word)]);
    return n;
}

static int length(const char *text) {
    int n = 1;
    for (; *text; text++) n += *text == ' ';
    return n;
}

/* The number of the document that a hit is of. */
static int number_of(const tq_hit *h) {
    return atoi(strchr(h->passage.uri, '/') + 1);
}

/* "cat x0 x1 ... cat iron": far more different words than anybody asks with. */
static const char *long_question(void) {
    static char text[8000];
    size_t n = (size_t)snprintf(text, sizeof text, "cat");
    for (int i = 0; i < 900; i++) n += (size_t)snprintf(text + n, sizeof text - n, " x%d", i);
    snprintf(text + n, sizeof text - n, " cat iron");
    return text;
}

static void bm25_is_the_formula(void **state) {
    (void)state;
    const char *const questions[] = {"cat",      "iron salt",    "cat dog bird cat", "stone stone fire moon nothing",
                                     "cat tree", long_question()};
    double average = 0;
    for (int i = 0; i < DOCUMENTS; i++) average += (double)length(texts[i]) / DOCUMENTS;
    for (size_t q = 0; q < sizeof questions / sizeof *questions; q++)
        for (int way = 0; way < 2; way++) {
            tq_search_options o = tq_search_defaults();
            o.mode = TQ_SEARCH_BM25;
            o.k = DOCUMENTS;
            if (way) o.k1 = 0.9, o.b = 0.4;
            tq_hits hits = search(questions[q], o);
            double want[DOCUMENTS] = {0};
            int matching = 0;
            for (int w = 0; w < WORDS; w++) {
                int asked = count(questions[q], vocabulary[w]), df = 0;
                for (int i = 0; i < DOCUMENTS; i++) df += count(texts[i], vocabulary[w]) > 0;
                double idf = log(1 + (DOCUMENTS - df + 0.5) / (df + 0.5));
                for (int i = 0; i < DOCUMENTS; i++) {
                    double tf = count(texts[i], vocabulary[w]);
                    want[i] += asked * idf * tf / (tf + o.k1 * (1 - o.b + o.b * length(texts[i]) / average));
                }
            }
            for (int i = 0; i < DOCUMENTS; i++) matching += want[i] > 0;
            assert_int_equal(hits.n, matching);
            for (size_t i = 0; i < hits.n; i++) {
                double w = want[number_of(&hits.items[i])];
                if (fabs(hits.items[i].score - w) > 1e-9)
                    fail_msg("%s: %.12g, expected %.12g", questions[q], hits.items[i].score, w);
                assert_true(i == 0 || hits.items[i].score <= hits.items[i - 1].score);
                assert_int_equal(hits.items[i].bm25_rank, i + 1);
            }
            tq_hits_clear(&hits);
        }
}

static double cosine(const char *a, const char *b) {
    float v[2][DIM];
    const char *t[2] = {a, b};
    const size_t n[2] = {strlen(a), strlen(b)};
    double sum = 0;
    OK(e.embed(e.self, t, n, 2, v[0], err));
    for (int i = 0; i < DIM; i++) sum += (double)v[0][i] * v[1][i];
    return sum;
}

static void vectors_are_searched_exactly(void **state) {
    (void)state;
    for (int q = 0; q < 20; q++) {
        tq_search_options o = tq_search_defaults();
        o.mode = TQ_SEARCH_VECTOR;
        o.k = 10;
        tq_hits hits = search(texts[q], o);
        assert_int_equal(hits.n, 10);
        assert_true(hits.items[0].score > 0.999);
        int better = 0;
        for (int i = 0; i < DOCUMENTS; i++) better += cosine(texts[q], texts[i]) > hits.items[9].score + 2e-3;
        assert_true(better <= 9);
        for (size_t i = 0; i < hits.n; i++)
            assert_true(fabs(hits.items[i].score - cosine(texts[q], texts[number_of(&hits.items[i])])) < 1e-3);
        tq_hits_clear(&hits);
    }
}

static void hybrid_adds_reciprocal_ranks(void **state) {
    (void)state;
    tq_search_options o = tq_search_defaults();
    o.k = 200;
    o.depth = 50;
    tq_hits hits = search("iron wind", o);
    assert_true(hits.n > 50);
    for (size_t i = 0; i < hits.n; i++) {
        const tq_hit *h = &hits.items[i];
        assert_true(h->vector_rank || h->bm25_rank);
        double want = (h->vector_rank ? 1.0 / (60 + (double)h->vector_rank) : 0) +
                      (h->bm25_rank ? 1.0 / (60 + (double)h->bm25_rank) : 0);
        assert_true(fabs(h->score - want) < 1e-12);
    }
    tq_hits_clear(&hits);
    o.fusion = TQ_FUSION_WEIGHTS;
    o.vector_weight = 1;
    hits = search("iron wind", o);
    assert_int_equal(hits.items[0].vector_rank, 1);
    assert_true(fabs(hits.items[0].score - 1) < 1e-12);
    tq_hits_clear(&hits);
}

static void only_where(const char *filter, int (*holds)(int)) {
    for (int mode = 0; mode < 3; mode++) {
        tq_search_options o = tq_search_defaults();
        o.mode = (tq_search_mode)mode;
        o.k = DOCUMENTS;
        o.filters = &filter;
        o.n_filters = 1;
        tq_hits hits = search("cat dog bird fish tree stone water", o);
        int want = 0;
        for (int i = 0; i < DOCUMENTS; i++) want += holds(i);
        assert_true(hits.n > 0);
        if (mode == TQ_SEARCH_VECTOR) assert_int_equal(hits.n, want);
        for (size_t i = 0; i < hits.n; i++)
            if (!holds(number_of(&hits.items[i]))) fail_msg("%s: %s", filter, hits.items[i].passage.uri);
        tq_hits_clear(&hits);
    }
}
static int is_blue(int i) {
    return i % 3 == 0;
}
static int is_red(int i) {
    return i % 3 != 0;
}
static int is_odd(int i) {
    return i % 2;
}
static int is_small(int i) {
    return i < 9;
}
static int is_large(int i) {
    return i >= 100;
}
static int is_7(int i) {
    return i == 7;
}
static int is_any(int i) {
    return i >= 0;
}

static void filters_hold(void **state) {
    (void)state;
    only_where("colour=blue", is_blue);
    only_where("colour!=blue", is_red);
    only_where("document~odd/*", is_odd);
    only_where("number<9", is_small); /* numbers, not texts */
    only_where("number>=100", is_large);
    only_where("number=7.0", is_7);
    only_where("format=txt", is_any);
    static const char *const bad[] = {"colour", "size=3", "=3", "colour!blue"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        toque_error fault;
        tq_hits hits;
        tq_search_options o = tq_search_defaults();
        o.filters = &bad[i];
        o.n_filters = 1;
        assert_int_equal(tq_search(&searcher, &hits, "cat", &o, &fault), TOQUE_EINVAL);
        tq_hits_clear(&hits);
    }
}

static void diversity_avoids_what_is_like_the_first(void **state) {
    (void)state;
    tq_search_options o = tq_search_defaults();
    o.mode = TQ_SEARCH_VECTOR;
    o.k = 5;
    double sum[2] = {0, 0};
    for (int way = 0; way < 2; way++) {
        o.mmr = way ? 0.3 : 1;
        tq_hits hits = search("cat dog bird", o);
        assert_int_equal(hits.items[0].vector_rank, 1);
        for (size_t i = 0; i < hits.n; i++)
            for (size_t j = 0; j < i; j++) sum[way] += cosine(hits.items[i].passage.text, hits.items[j].passage.text);
        tq_hits_clear(&hits);
    }
    assert_true(sum[1] < sum[0]);
}

/* The Nth allocation fails, for N = 1, 2, ...: the error comes back, and nothing is lost. */
static void help_needs_a_model(void **state) {
    (void)state;
    tq_search_options o = tq_search_defaults();
    tq_hits hits;
    toque_error fault;
    o.rerank = true;
    assert_int_equal(tq_search(&searcher, &hits, "cat", &o, &fault), TOQUE_EINVAL);
    assert_non_null(strstr(fault.message, "need a model"));
    tq_hits_clear(&hits);
    o.rerank = false;
    o.expand = TQ_EXPAND_QUERIES;
    assert_int_equal(tq_search(&searcher, &hits, "cat", &o, &fault), TOQUE_EINVAL);
    tq_hits_clear(&hits);
}

static void other_questions_are_read_from_lines(void **state) {
    (void)state;
    const char *lines[TQ_EXPAND_MOST];
    tq_arena arena;
    size_t n;
    tq_arena_init(&arena, &ctx->mem, 1 << 10);
    OK(tq_helper_lines("1. Where is it?\n\n- \"Who is it?\"\nwhere IS it?\n  what is it \r\nwhat is it?\nWhen?",
                       "What is it", &arena, lines, &n, err));
    assert_int_equal(n, 3);
    assert_string_equal(lines[0], "Where is it?");
    assert_string_equal(lines[1], "Who is it?");
    assert_string_equal(lines[2], "what is it?");
    OK(tq_helper_lines(" \n2)\n", "x", &arena, lines, &n, err));
    assert_int_equal(n, 0);
    tq_arena_clear(&arena);
}

static void out_of_memory_is_returned(void **state) {
    (void)state;
    tq_searcher s;
    tq_search_options o = tq_search_defaults();
    static const char *const filter = "colour=red";
    o.mmr = 0.5;
    o.filters = &filter;
    o.n_filters = 1;
    toque_status status = TOQUE_ENOMEM;
    for (int fail = 1; status != TOQUE_OK; fail++) {
        toque_error fault;
        tq_hits hits = {0};
        size_t before = ctx->mem.used;
        assert_true(fail < 1000);
        OK(tq_searcher_init(&s, store, &e, err));
        ctx->mem.fail_at = ctx->mem.calls + (unsigned long long)fail;
        status = tq_search(&s, &hits, "salt and water", &o, &fault);
        ctx->mem.fail_at = 0;
        if (status != TOQUE_OK && status != TOQUE_ENOMEM) fail_msg("%s", fault.message);
        if (status == TOQUE_OK) assert_int_equal(hits.n, 5);
        tq_hits_clear(&hits);
        tq_searcher_clear(&s);
        if (status != TOQUE_OK) assert_true(ctx->mem.used <= before + 4096); /* an analyzer may stay */
    }
}

static void threads_change_nothing(void **state) {
    (void)state;
    tq_ctx *one;
    tq_rag *again;
    tq_searcher s;
    tq_hits a, b;
    tq_search_options o = tq_search_defaults();
    o.k = 60;
    OK(tq_ctx_new(&one, 1, 0, "f32", err));
    OK(tq_rag_open(&again, one, store_path, false, err));
    OK(tq_searcher_init(&s, again, &e, err));
    OK(tq_search(&s, &a, "salt and water", &o, err));
    b = search("salt and water", o);
    assert_int_equal(a.n, b.n);
    for (size_t i = 0; i < a.n; i++) {
        assert_int_equal(a.items[i].passage.chunk, b.items[i].passage.chunk);
        assert_true(a.items[i].score == b.items[i].score && a.items[i].vector_score == b.items[i].vector_score);
    }
    tq_hits_clear(&a);
    tq_hits_clear(&b);
    tq_searcher_clear(&s);
    tq_rag_close(again);
    tq_ctx_free(one);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bm25_is_the_formula),
        cmocka_unit_test(vectors_are_searched_exactly),
        cmocka_unit_test(hybrid_adds_reciprocal_ranks),
        cmocka_unit_test(filters_hold),
        cmocka_unit_test(diversity_avoids_what_is_like_the_first),
        cmocka_unit_test(help_needs_a_model),
        cmocka_unit_test(other_questions_are_read_from_lines),
        cmocka_unit_test(out_of_memory_is_returned),
        cmocka_unit_test(threads_change_nothing),
    };
    return cmocka_run_group_tests(tests, make_store, drop_store);
}
