/* Adding documents: what is new, changed, the same or gone; failures that stay with their file; going on after a stop.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "rag.h"
#include "rag/ingest.h"
#include "rag/rebuild.h"

static const tq_chunk_options small = {TQ_CHUNK_PASSAGE, 32, 4};
static bag the_bag;
static tq_rag_embedder e;
static char docs[64], log_text[4000];

static void write_doc(const char *name, const char *text) {
    char path[120];
    snprintf(path, sizeof path, "%s/%s", docs, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void remove_doc(const char *name) {
    char path[120];
    snprintf(path, sizeof path, "%s/%s", docs, name);
    assert_int_equal(remove(path), 0);
}

static void tell(void *arg, const char *uri, tq_outcome outcome, const char *message) {
    (void)arg;
    static const char letters[] = "ACURSF";
    size_t n = strlen(log_text);
    snprintf(log_text + n, sizeof log_text - n, "%c %s%s%s\n", letters[outcome], uri + strlen(docs) + 1,
             message ? ": " : "", message ? message : "");
}

static int64_t number(tq_rag *store, const char *sql) {
    int64_t n;
    OK(tq_rag_number(store, sql, &n, err));
    return n;
}

/* Adds the folder and compares what was reported. */
static void add(tq_rag *store, tq_ingest in, const char *want) {
    tq_ingest_counts counts = {0};
    in.store = store;
    in.embedder = &e;
    in.report = tell;
    log_text[0] = 0;
    OK(tq_ingest_path(&in, docs, NULL, &counts, err));
    assert_string_equal(log_text, want);
}

static int set_up_docs(void **state) {
    if (set_up(state) != 0) return -1;
    snprintf(docs, sizeof docs, "%s/docs", folder);
    e = bag_embedder(&the_bag, 24, 64);
    return mkdir(docs, 0700);
}

static int tear_down_docs(void **state) {
    rmdir(docs);
    return tear_down(state);
}

static void a_folder_is_followed(void **state) {
    (void)state;
    tq_rag *store;
    const char *pattern = "*.bak";
    OK(tq_rag_create(&store, ctx, store_path, &e, &small, err));
    write_doc("a.txt", "Cats sleep.");
    write_doc("b.md", "# Dogs\n\nDogs run.\n");
    write_doc("c.json", "{broken");
    write_doc("d.bak", "old");
    write_doc(".hidden", "x");
    add(store, (tq_ingest){.exclude = &pattern, .n_exclude = 1},
        "F c.json: line 1, column 7: no JSON: string or '}' expected near 'broken'\nA a.txt\nA b.md\n");
    size_t embedded = the_bag.texts;
    add(store, (tq_ingest){.exclude = &pattern, .n_exclude = 1},
        "U a.txt\nU b.md\nF c.json: line 1, column 7: no JSON: string or '}' expected near 'broken'\n");
    assert_int_equal(the_bag.texts, embedded); /* unchanged costs nothing */

    write_doc("a.txt", "Cats sleep all day, and eat.");
    write_doc("c.json", "{\"a\": \"mended\"}");
    write_doc("e.txt", "");
    remove_doc("b.md");
    add(store, (tq_ingest){0}, "C a.txt\nA c.json\nA d.bak\nA e.txt: it holds no text\nR b.md\n");
    assert_int_equal(number(store, "SELECT count(*) FROM terms WHERE terms MATCH 'run'"), 0);

    /* touched, the same bytes: the hash tells, and the new time is remembered */
    char path[120];
    snprintf(path, sizeof path, "%s/a.txt", docs);
    assert_int_equal(utimensat(AT_FDCWD, path, (struct timespec[2]){{1, 0}, {1, 0}}, 0), 0);
    embedded = the_bag.texts;
    const tq_doc_pair pair = {(char *)"team", (char *)"blue"};
    add(store, (tq_ingest){.pairs = &pair, .n_pairs = 1}, "U a.txt\nU c.json\nU d.bak\nU e.txt\n");
    assert_int_equal(the_bag.texts, embedded);
    assert_int_equal(number(store, "SELECT count(*) FROM metadata WHERE key = 'team'"), 4);
    assert_int_equal(number(store, "SELECT count(*) FROM documents WHERE mtime = 1000000000"), 1);
    /* said to be of another language: made anew */
    add(store, (tq_ingest){.language = "de"}, "C a.txt\nC c.json\nC d.bak\nC e.txt: it holds no text\n");
    tq_rag_close(store);
    remove_store();
    remove_doc("a.txt"), remove_doc("c.json"), remove_doc("d.bak"), remove_doc("e.txt"), remove_doc(".hidden");
}

static void stop_soon(void *arg, const tq_ingest_counts *counts) {
    (void)arg;
    if (counts->done == 80) ctx->canceled = true;
}

static void a_stopped_run_goes_on(void **state) {
    (void)state;
    tq_rag *store;
    char name[20], text[60];
    for (int i = 0; i < 150; i++) {
        snprintf(name, sizeof name, "%03d.txt", i);
        snprintf(text, sizeof text, "Document %d tells of thing%d.", i, i);
        write_doc(name, text);
    }
    OK(tq_rag_create(&store, ctx, store_path, &e, &small, err));
    toque_error fault;
    tq_ingest_counts counts = {0};
    tq_ingest in = {.store = store, .embedder = &e, .progress = stop_soon};
    assert_int_equal(tq_ingest_path(&in, docs, NULL, &counts, &fault), TOQUE_ECANCELED);
    tq_rag_close(store);
    ctx->canceled = false;
    OK(tq_rag_open(&store, ctx, store_path, true, err));
    int64_t before = number(store, "SELECT count(*) FROM documents");
    assert_true(before > 0 && before < 150);
    in = (tq_ingest){.store = store, .embedder = &e};
    counts = (tq_ingest_counts){0};
    OK(tq_ingest_path(&in, docs, NULL, &counts, err));
    assert_int_equal(counts.documents[TQ_UNCHANGED], before);
    assert_int_equal(counts.documents[TQ_ADDED], 150 - before);
    assert_int_equal(number(store, "SELECT count(*) FROM documents"), 150);
    tq_rag_close(store);
    remove_store();
    for (int i = 0; i < 150; i++) {
        snprintf(name, sizeof name, "%03d.txt", i);
        remove_doc(name);
    }
}

static void rows_of_a_table_are_documents(void **state) {
    (void)state;
    tq_rag *store;
    sqlite3 *db;
    char path[80];
    toque_error fault;
    tq_ingest_counts counts = {0};
    snprintf(path, sizeof path, "%s/other.sqlite", folder);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    sqlite3_exec(
        db,
        "CREATE TABLE t(id, title, body, n); INSERT INTO t VALUES(1,'One','First text.',7),(2,'Two','Second.',NULL)",
        NULL, NULL, NULL);
    OK(tq_rag_create(&store, ctx, store_path, &e, &small, err));
    tq_ingest in = {.store = store, .embedder = &e};
    OK(tq_ingest_sql(&in, path, "SELECT id, title, body, n FROM t", NULL, &counts, err));
    assert_int_equal(counts.documents[TQ_ADDED], 2);
    assert_int_equal(number(store,
                            "SELECT count(*) FROM documents WHERE uri GLOB '*other.sqlite#2' AND title = 'Two' AND "
                            "CAST(text AS TEXT) = 'Second.'"),
                     1);
    assert_int_equal(number(store, "SELECT count(*) FROM documents WHERE CAST(text AS TEXT) = 'body: First text.' || "
                                   "char(10, 10) || 'n: 7'"),
                     1);
    sqlite3_exec(
        db,
        "UPDATE t SET body = 'Changed.' WHERE id = 2; DELETE FROM t WHERE id = 1; INSERT INTO t VALUES(3,'x','y',1)",
        NULL, NULL, NULL);
    counts = (tq_ingest_counts){0};
    OK(tq_ingest_sql(&in, path, "SELECT body, id FROM t", "id", &counts, err));
    assert_int_equal(counts.documents[TQ_CHANGED], 1);
    assert_int_equal(counts.documents[TQ_ADDED], 1);
    assert_int_equal(counts.documents[TQ_REMOVED], 1);
    static const char *const bad[][2] = {
        {"DELETE FROM t", NULL},  {"SELECT id FROM t", NULL},          {"SELECT id, body FROM t", "key"},
        {"SELECT nothing", NULL}, {"SELECT 1, 2; DROP TABLE t", NULL}, {"", NULL}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_not_equal(tq_ingest_sql(&in, path, bad[i][0], bad[i][1], &counts, &fault), TOQUE_OK);
    assert_int_equal(number(store, "SELECT count(*) FROM documents"), 2);
    sqlite3_close(db);
    unlink(path);
    tq_rag_close(store);
    remove_store();
}

static void a_store_is_made_anew_from_its_texts(void **state) {
    (void)state;
    tq_rag *store;
    bag other_bag;
    tq_ingest_counts counts = {0};
    tq_rag_embedder other = bag_embedder(&other_bag, 48, 128);
    other.hash = "other";
    other.name = "other";
    write_doc("a.md", "# Cats\n\nCats sleep all day. They like it.\n\n## Food\n\nFish and mice and milk.\n");
    OK(tq_rag_create(&store, ctx, store_path, &e, &small, err));
    const tq_doc_pair pair = {(char *)"team", (char *)"blue"};
    add(store, (tq_ingest){.pairs = &pair, .n_pairs = 1}, "A a.md\n");
    int64_t chunks = number(store, "SELECT count(*) FROM chunks");
    tq_rag_close(store);
    const tq_chunk_options large = {TQ_CHUNK_SENTENCE, 64, 0};
    OK(tq_rag_rebuild(ctx, store_path, &other, &large, NULL, NULL, &counts, err));
    OK(tq_rag_open(&store, ctx, store_path, true, err));
    OK(tq_rag_check(store, &other, err));
    assert_int_equal(store->facts.dim, 48);
    assert_int_equal(number(store, "SELECT count(*) FROM metadata WHERE value = 'blue'"), 1);
    assert_int_equal(number(store, "SELECT count(*) FROM chunks"), 3);
    assert_int_equal(chunks, 2);
    assert_int_equal(number(store, "SELECT sum(length(bytes)) FROM vectors"), 3 * 48);
    /* the file is the same: nothing to do */
    tq_ingest in = {.store = store, .embedder = &other};
    counts = (tq_ingest_counts){0};
    OK(tq_ingest_path(&in, docs, NULL, &counts, err));
    assert_int_equal(counts.documents[TQ_UNCHANGED], 1);
    tq_rag_close(store);
    remove_store();
    remove_doc("a.md");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_is_followed),
        cmocka_unit_test(a_stopped_run_goes_on),
        cmocka_unit_test(rows_of_a_table_are_documents),
        cmocka_unit_test(a_store_is_made_anew_from_its_texts),
    };
    return cmocka_run_group_tests(tests, set_up_docs, tear_down_docs);
}
