/* The store: what goes in comes out, what was replaced leaves no trace, and what is no store is refused. */
#include <fcntl.h>
#include <sys/stat.h>

#include "rag.h"

static const tq_chunk_options small = {TQ_CHUNK_PASSAGE, 16, 0};

static int64_t number(tq_rag *store, const char *sql) {
    int64_t n;
    OK(tq_rag_number(store, sql, &n, err));
    return n;
}

static void documents_come_back_and_go(void **state) {
    (void)state;
    bag b;
    tq_rag_embedder e = bag_embedder(&b, 40, 64);
    tq_rag *store;
    OK(tq_rag_create(&store, ctx, store_path, &e, &small, err));
    const tq_doc_pair pairs[] = {{(char *)"team", (char *)"blue"}};
    put(store, &e, "a.txt", "en",
        "# Cats\n\nCats sleep all day. They like warm places and soft beds.\n\n# Dogs\n\nDogs run.", pairs, 1);
    put(store, &e, "b.txt", "en", "Birds fly.", NULL, 0);
    assert_int_equal(number(store, "SELECT count(*) FROM documents"), 2);
    int64_t chunks = number(store, "SELECT count(*) FROM chunks");
    assert_int_equal(number(store, "SELECT sum(length(scales)) / 4 FROM vectors"), chunks);
    assert_int_equal(number(store, "SELECT sum(length(bytes)) FROM vectors"), 40 * chunks);
    assert_int_equal(number(store, "SELECT sum(length(halves)) FROM vectors"), 80 * chunks);
    tq_rag_close(store);

    OK(tq_rag_open(&store, ctx, store_path, true, err));
    OK(tq_rag_check(store, &e, err));
    tq_arena arena;
    tq_passage_info p;
    tq_arena_init(&arena, &ctx->mem, 1000);
    OK(tq_rag_passage(store, tq_chunk_id(1, 0), &arena, &p, err));
    assert_string_equal(p.uri, "a.txt");
    assert_string_equal(p.heading, "Cats");
    assert_int_equal(p.text_len, p.end - p.start);
    assert_string_equal(p.text, "Cats sleep all day. They like warm places and soft beds.");
    tq_arena_clear(&arena);

    /* replaced: the old words are gone from the index, a new id, metadata of the new one only */
    put(store, &e, "a.txt", "en", "Fish swim.", NULL, 0);
    assert_int_equal(number(store, "SELECT count(*) FROM documents"), 2);
    assert_int_equal(number(store, "SELECT count(*) FROM metadata"), 0);
    assert_int_equal(number(store, "SELECT count(*) FROM terms WHERE terms MATCH 'sleep'"), 0);
    assert_int_equal(number(store, "SELECT count(*) FROM terms WHERE terms MATCH 'fish'"), 1);
    tq_source found;
    bool is_there;
    OK(tq_rag_find(store, "a.txt", &found, &is_there, err));
    assert_true(is_there && found.id == 3);
    OK(tq_rag_remove(store, 3, err));
    OK(tq_rag_remove(store, 2, err));
    assert_int_equal(number(store, "SELECT count(*) FROM chunks"), 0);
    assert_int_equal(number(store, "SELECT count(*) FROM vectors"), 0);
    assert_int_equal(number(store, "SELECT count(*) FROM terms WHERE terms MATCH 'fish OR bird OR fli'"), 0);
    OK(tq_rag_find(store, "a.txt", &found, &is_there, err));
    assert_false(is_there);
    tq_rag_close(store);
    remove_store();
}

static void refused(toque_status want, const char *word, bool write) {
    toque_error fault = {0};
    tq_rag *store = NULL;
    toque_status status = tq_rag_open(&store, ctx, store_path, write, &fault);
    assert_null(store);
    if (status != want || !strstr(fault.message, word)) fail_msg("%d: %s", (int)status, fault.message);
}

static void write_at(long at, const void *data, size_t n) {
    int fd = open(store_path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, data, n, at), n);
    close(fd);
}

static void what_is_no_store_is_refused(void **state) {
    (void)state;
    tq_rag *store;
    sqlite3 *db;
    refused(TOQUE_ENOTFOUND, "toque rag add", false);
    write_at(0, "this is some text and no database, of a length that SQLite reads as a header of a hundred bytes.....",
             100);
    refused(TOQUE_EFORMAT, "no store", false);
    unlink(store_path);
    assert_int_equal(sqlite3_open(store_path, &db), SQLITE_OK);
    sqlite3_exec(db, "CREATE TABLE t(x)", NULL, NULL, NULL);
    sqlite3_close(db);
    refused(TOQUE_EFORMAT, "no store", true);
    remove_store();
    OK(tq_rag_create(&store, ctx, store_path, &tq_rag_embedder_none, &small, err));
    sqlite3_exec(store->db, "PRAGMA user_version = 99", NULL, NULL, NULL);
    tq_rag_close(store);
    refused(TOQUE_EUNSUPPORTED, "newer", false);
    refused(TOQUE_EUNSUPPORTED, "newer", true);
    remove_store();
    OK(tq_rag_create(&store, ctx, store_path, &tq_rag_embedder_none, &small, err));
    sqlite3_exec(store->db, "DELETE FROM facts WHERE key = 'dim'", NULL, NULL, NULL);
    tq_rag_close(store);
    refused(TOQUE_EFORMAT, "facts are missing", false);
    remove_store();
}

/* Any page of the file overwritten: reading ends in an error that names the file, or finds what is left; never worse.
 */
static void damage_is_one_clear_error(void **state) {
    (void)state;
    bag b;
    tq_rag_embedder e = bag_embedder(&b, 40, 64);
    tq_rag *store;
    struct stat st;
    OK(tq_rag_create(&store, ctx, store_path, &e, &small, err));
    for (int i = 0; i < 30; i++) {
        char uri[20], text[80];
        snprintf(uri, sizeof uri, "%d.txt", i);
        snprintf(text, sizeof text, "Document number %d tells of cats and of dogs.\n\nAnd of thing%d.", i, i * 7);
        put(store, &e, uri, "en", text, NULL, 0);
    }
    tq_rag_close(store);
    assert_int_equal(stat(store_path, &st), 0);
    char *whole = test_malloc((size_t)st.st_size), junk[4096];
    int fd = open(store_path, O_RDONLY), errors = 0;
    assert_int_equal(read(fd, whole, (size_t)st.st_size), st.st_size);
    close(fd);
    memset(junk, 0xa5, sizeof junk);
    for (long page = 0; page < st.st_size / 4096; page++) {
        toque_error fault = {0};
        tq_searcher s;
        tq_hits hits = {0};
        write_at(page * 4096, junk, sizeof junk);
        toque_status status = tq_rag_open(&store, ctx, store_path, false, &fault);
        if (status == TOQUE_OK) {
            OK(tq_searcher_init(&s, store, &e, err));
            tq_search_options o = tq_search_defaults();
            o.k = 30;
            status = tq_search(&s, &hits, "cats thing7", &o, &fault);
            if (hits.arena.mem) tq_hits_clear(&hits);
            tq_searcher_clear(&s);
            tq_rag_close(store);
        }
        if (status != TOQUE_OK && !strstr(fault.message, "store.db")) fail_msg("page %ld: %s", page, fault.message);
        errors += status != TOQUE_OK;
        write_at(page * 4096, whole + page * 4096, 4096);
    }
    assert_true(errors > 3);
    test_free(whole);
    remove_store();
}

static void another_embedder_is_refused(void **state) {
    (void)state;
    bag b;
    tq_rag_embedder e = bag_embedder(&b, 40, 64), other = e;
    tq_rag *store;
    toque_error fault;
    OK(tq_rag_create(&store, ctx, store_path, &e, &small, err));
    OK(tq_rag_check(store, &e, err));
    other.hash = "another";
    assert_int_equal(tq_rag_check(store, &other, &fault), TOQUE_EINVAL);
    assert_non_null(strstr(fault.message, "--reembed"));
    other = e;
    other.query_prefix = "query: ";
    assert_int_equal(tq_rag_check(store, &other, &fault), TOQUE_EINVAL);
    other = e;
    other.pooling = "cls";
    assert_int_equal(tq_rag_check(store, &other, &fault), TOQUE_EINVAL);
    tq_rag_close(store);
    remove_store();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(documents_come_back_and_go),
        cmocka_unit_test(what_is_no_store_is_refused),
        cmocka_unit_test(damage_is_one_clear_error),
        cmocka_unit_test(another_embedder_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
