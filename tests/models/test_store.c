/* The model store: where it is, what it takes in, finds, lists and removes; sources of pull as URLs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "files/gguf.h"
#include "models/pull.h"
#include "models/store.h"

static tq_mem mem;
static char home[64], model[128], other[128];

static toque_status write_model(const char *path, uint32_t n) {
    tq_gguf_writer *w;
    TQ_TRY(tq_gguf_writer_new(&w, &mem, path, NULL));
    TQ_TRY(tq_gguf_put_u32(w, "n", n, NULL));
    return tq_gguf_writer_commit(w, NULL);
}

static int set_up(void **state) {
    (void)state;
    strcpy(home, "/tmp/toque-test-XXXXXX");
    if (!mkdtemp(home)) return -1;
    snprintf(model, sizeof model, "%s/Tiny Model.Q4_0.gguf", home);
    snprintf(other, sizeof other, "%s/other.txt", home);
    char store[96];
    snprintf(store, sizeof store, "%s/store", home);
    setenv("TOQUE_HOME", store, 1);
    return write_model(model, 1) != TOQUE_OK || tq_write_file(&mem, other, "text", 4, NULL) != TOQUE_OK;
}

static int tear_down(void **state) {
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf '%s'", home);
    return system(command);
}

static void expect_dir(const char *want) {
    char *dir;
    toque_error err;
    assert_int_equal(tq_store_dir(&dir, &mem, &err), TOQUE_OK);
    assert_string_equal(dir, want);
    tq_free(&mem, dir);
}

static void the_folder_follows_the_environment(void **state) {
    (void)state;
    char *saved = strdup(getenv("TOQUE_HOME")), *dir;
    char *user = getenv("HOME") ? strdup(getenv("HOME")) : NULL;
    setenv("HOME", "/home/u", 1);
    setenv("XDG_DATA_HOME", "/x", 1);
    expect_dir(saved);
    unsetenv("TOQUE_HOME");
    expect_dir("/x/toque");
    setenv("XDG_DATA_HOME", "relative", 1);
    expect_dir("/home/u/.local/share/toque");
    unsetenv("XDG_DATA_HOME");
    expect_dir("/home/u/.local/share/toque");
    unsetenv("HOME");
    assert_int_equal(tq_store_dir(&dir, &mem, NULL), TOQUE_EINVAL);
    setenv("TOQUE_HOME", saved, 1);
    if (user) setenv("HOME", user, 1);
    free(saved);
    free(user);
    assert_int_equal(mem.used, 0);
}

static void names_are_plain(void **state) {
    (void)state;
    assert_true(tq_store_name_ok("SmolLM2-135M.Q4_1"));
    const char *bad[] = {"", ".", "..", ".hidden", "-m", "a/b", "a b", "a\n", "\xc3\xa4"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) assert_false(tq_store_name_ok(bad[i]));
    char longest[130];
    memset(longest, 'a', sizeof longest);
    longest[121] = 0;
    assert_false(tq_store_name_ok(longest));
    longest[120] = 0;
    assert_true(tq_store_name_ok(longest));
    const char *of[][2] = {{"/a/b c.gguf", "b-c"}, {"x.GGUF", "x"}, {".gguf", "gguf"},
                           {"../..", ""},          {"-x\n", "x-"},  {"\xff", "x"}};
    for (size_t i = 0; i < sizeof of / sizeof of[0]; i++) {
        char *name = tq_store_name_of(&mem, of[i][0]);
        assert_string_equal(name, of[i][1]);
        tq_free(&mem, name);
    }
    assert_int_equal(mem.used, 0);
}

static void a_file_is_added_found_listed_and_removed(void **state) {
    (void)state;
    toque_error err;
    char *name, *path;
    tq_store_list list;
    assert_int_equal(tq_store_list_all(&list, &mem, &err), TOQUE_OK); /* no store yet */
    assert_int_equal(list.n, 0);
    tq_store_list_free(&list);
    assert_int_equal(tq_store_add_file(&name, &mem, model, NULL, &err), TOQUE_OK);
    assert_string_equal(name, "Tiny-Model.Q4_0");
    assert_int_equal(tq_store_add_file(NULL, &mem, model, "a", &err), TOQUE_OK);
    assert_int_equal(tq_store_add_file(NULL, &mem, model, "a", &err), TOQUE_EINVAL);
    assert_non_null(strstr(err.message, "already"));
    assert_int_equal(tq_store_resolve(&path, &mem, name, &err), TOQUE_OK);
    tq_gguf *g;
    assert_int_equal(tq_gguf_open(&g, &mem, path, &err), TOQUE_OK);
    tq_gguf_close(g);
    tq_free(&mem, path);
    assert_int_equal(tq_store_list_all(&list, &mem, &err), TOQUE_OK);
    assert_int_equal(list.n, 2);
    assert_string_equal(list.items[0].name, "Tiny-Model.Q4_0");
    assert_string_equal(list.items[1].name, "a");
    assert_string_equal(list.items[1].source, model);
    assert_int_equal(strlen(list.items[1].sha256), 64);
    assert_int_equal(strlen(list.items[1].date), 20);
    assert_int_equal(list.items[1].size, 64);
    tq_store_list_free(&list);
    assert_int_equal(tq_store_remove(&mem, name, &err), TOQUE_OK);
    assert_int_equal(tq_store_remove(&mem, name, &err), TOQUE_ENOTFOUND);
    assert_int_equal(tq_store_resolve(&path, &mem, name, &err), TOQUE_ENOTFOUND);
    assert_non_null(strstr(err.message, "there are: a"));
    assert_non_null(strstr(err.message, "pull"));
    assert_true(tq_path_exists(model));
    assert_int_equal(tq_store_remove(&mem, "a", &err), TOQUE_OK);
    assert_int_equal(tq_store_resolve(&path, &mem, "a", &err), TOQUE_ENOTFOUND);
    assert_non_null(strstr(err.message, "empty"));
    tq_free(&mem, name);
    assert_int_equal(mem.used, 0);
}

static void a_path_wins_over_a_name(void **state) {
    (void)state;
    toque_error err;
    char *path, cwd[4096];
    assert_non_null(getcwd(cwd, sizeof cwd));
    assert_int_equal(tq_store_add_file(NULL, &mem, model, "same", &err), TOQUE_OK);
    assert_int_equal(chdir(home), 0);
    assert_int_equal(tq_store_resolve(&path, &mem, "same", &err), TOQUE_OK);
    assert_non_null(strstr(path, "/models/same/model.gguf"));
    tq_free(&mem, path);
    assert_int_equal(tq_write_file(&mem, "same", "x", 1, &err), TOQUE_OK);
    assert_int_equal(tq_store_resolve(&path, &mem, "same", &err), TOQUE_OK);
    assert_string_equal(path, "same");
    tq_free(&mem, path);
    assert_int_equal(chdir(cwd), 0);
    assert_int_equal(tq_store_resolve(&path, &mem, "./same/x", &err), TOQUE_ENOTFOUND);
    assert_int_equal(tq_store_remove(&mem, "same", &err), TOQUE_OK);
    assert_int_equal(mem.used, 0);
}

static void what_is_no_model_or_no_name_stays_out(void **state) {
    (void)state;
    toque_error err;
    tq_store_list list;
    assert_int_equal(tq_store_add_file(NULL, &mem, other, NULL, &err), TOQUE_EFORMAT);
    assert_int_equal(tq_store_add_file(NULL, &mem, "/nonexistent.gguf", NULL, &err), TOQUE_ENOTFOUND);
    assert_int_equal(tq_store_add_file(NULL, &mem, model, "../x", &err), TOQUE_EINVAL);
    assert_int_equal(tq_store_remove(&mem, "..", &err), TOQUE_ENOTFOUND);
    assert_int_equal(tq_store_remove(&mem, "../..", &err), TOQUE_ENOTFOUND);
    assert_int_equal(tq_store_list_all(&list, &mem, &err), TOQUE_OK);
    assert_int_equal(list.n, 0);
    tq_store_list_free(&list);
    assert_true(tq_path_exists(model));
    assert_int_equal(mem.used, 0);
}

static void a_damaged_model_json_hides_nothing(void **state) {
    (void)state;
    toque_error err;
    char *path;
    tq_store_list list;
    assert_int_equal(tq_store_add_file(NULL, &mem, model, "d", &err), TOQUE_OK);
    assert_int_equal(tq_store_resolve(&path, &mem, "d", &err), TOQUE_OK);
    strcpy(strrchr(path, '/'), "/model.json");
    assert_int_equal(tq_write_file(&mem, path, "{\"source\": 3", 12, &err), TOQUE_OK);
    assert_int_equal(tq_store_list_all(&list, &mem, &err), TOQUE_OK);
    assert_int_equal(list.n, 1);
    assert_string_equal(list.items[0].source, "");
    assert_int_equal(list.items[0].size, 64);
    tq_store_list_free(&list);
    tq_free(&mem, path);
    assert_int_equal(tq_store_remove(&mem, "d", &err), TOQUE_OK);
    assert_int_equal(mem.used, 0);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    toque_error err;
    toque_status status = TOQUE_ENOMEM;
    int rounds = 0;
    for (unsigned long long n = 1; status != TOQUE_OK; n++, rounds++) {
        tq_mem m = {.fail_at = n};
        status = tq_store_add_file(NULL, &m, model, "f", &err);
        assert_true(status == TOQUE_OK || status == TOQUE_ENOMEM);
        assert_int_equal(m.used, 0);
    }
    assert_true(rounds > 10);
    status = TOQUE_ENOMEM;
    for (unsigned long long n = 1; status != TOQUE_OK; n++) {
        tq_mem m = {.fail_at = n};
        tq_store_list list;
        status = tq_store_list_all(&list, &m, &err);
        assert_true(status == TOQUE_OK || status == TOQUE_ENOMEM);
        assert_int_equal(list.n, status == TOQUE_OK);
        tq_store_list_free(&list);
        assert_int_equal(m.used, 0);
    }
    assert_int_equal(tq_store_remove(&mem, "f", &err), TOQUE_OK);
    char models[128];
    snprintf(models, sizeof models, "%s/models", getenv("TOQUE_HOME"));
    assert_true(tq_path_is_dir(models));
    assert_false(tq_dir_has_entries(models)); /* failures left nothing behind */
}

static void expect_url(const char *source, const char *url, const char *noted) {
    char *u, *n;
    toque_error err;
    assert_int_equal(tq_pull_url(&u, &n, &mem, source, &err), TOQUE_OK);
    assert_string_equal(u, url);
    assert_string_equal(n, noted);
    tq_free(&mem, u);
    tq_free(&mem, n);
}

static void sources_become_urls(void **state) {
    (void)state;
    toque_error err;
    char *u, *n;
    unsetenv("HF_ENDPOINT");
    expect_url("hf:a/b/c.gguf", "https://huggingface.co/a/b/resolve/main/c.gguf", "hf:a/b/c.gguf");
    expect_url("a/b:q 4/c.gguf", "https://huggingface.co/a/b/resolve/main/q%204/c.gguf", "hf:a/b/q 4/c.gguf");
    setenv("HF_ENDPOINT", "http://127.0.0.1:1/", 1);
    expect_url("hf:a/b/s/c.gguf", "http://127.0.0.1:1/a/b/resolve/main/s/c.gguf", "hf:a/b/s/c.gguf");
    setenv("HF_ENDPOINT", "ftp://x", 1);
    assert_int_equal(tq_pull_url(&u, &n, &mem, "hf:a/b/c.gguf", &err), TOQUE_EINVAL);
    unsetenv("HF_ENDPOINT");
    expect_url("https://h/x.gguf?key=1", "https://h/x.gguf?key=1", "https://h/x.gguf");
    assert_int_equal(tq_pull_url(&u, &n, &mem, model, &err), TOQUE_OK);
    assert_null(u);
    assert_null(n);
    const char *bad[] = {"",
                         "x",
                         "a/b",
                         "a/b/c.gguf",
                         "hf:a/b",
                         "hf:a",
                         "hf:a/b/",
                         "hf:a/b/../x",
                         "hf:a/b/c//d",
                         "a/b:",
                         "hf:../b/c",
                         "a/..:c",
                         "a b/c:d",
                         "https:///x",
                         "https://h/a b",
                         "file:///etc/passwd",
                         "ftp://h/x.gguf"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(tq_pull_url(&u, &n, &mem, bad[i], &err), TOQUE_EINVAL);
    assert_int_equal(tq_pull_url(&u, &n, &mem, "https://user:pw@h/x", &err), TOQUE_EUNSUPPORTED);
    assert_null(strstr(err.message, "pw"));
    assert_int_equal(mem.used, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_folder_follows_the_environment),
        cmocka_unit_test(names_are_plain),
        cmocka_unit_test(a_file_is_added_found_listed_and_removed),
        cmocka_unit_test(a_path_wins_over_a_name),
        cmocka_unit_test(what_is_no_model_or_no_name_stays_out),
        cmocka_unit_test(a_damaged_model_json_hides_nothing),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(sources_become_urls),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
