/* Files: maps, bounded reads, atomic writes that leave either the old file or the new one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/io.h"

static char folder[64], path[96];

static int make_folder(void **state) {
    (void)state;
    strcpy(folder, "/tmp/toque-io-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    snprintf(path, sizeof path, "%s/file", folder);
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

/* The number of entries: a write must leave no temporary file behind. */
static int entries(void) {
    char command[128];
    int n = -1;
    snprintf(command, sizeof command, "ls -A '%s' | wc -l", folder);
    FILE *f = popen(command, "r");
    if (f && fscanf(f, "%d", &n) != 1) n = -1;
    if (f) pclose(f);
    return n;
}

static void assert_content(const char *expected, size_t n) {
    tq_mem mem = {0};
    char *data;
    size_t size;
    assert_int_equal(tq_read_file(&data, &size, &mem, path, 1 << 24, NULL), TOQUE_OK);
    assert_int_equal(size, n);
    assert_memory_equal(data, expected, n);
    assert_int_equal(data[n], 0);
    tq_free(&mem, data);
    tq_map map;
    assert_int_equal(tq_map_open(&map, path, NULL), TOQUE_OK);
    assert_int_equal(map.size, n);
    if (n) assert_memory_equal(map.data, expected, n);
    tq_map_close(&map);
    assert_null(map.data);
    assert_int_equal(mem.used, 0);
}

static void what_was_written_is_read_and_mapped(void **state) {
    (void)state;
    tq_mem mem = {0};
    assert_int_equal(tq_write_file(&mem, path, "", 0, NULL), TOQUE_OK);
    assert_content("", 0);
    enum { N = 300000 };
    char *big = tq_alloc(&mem, N, 1);
    for (int i = 0; i < N; i++) big[i] = (char)(i * 7 + i / 251);
    tq_out *out;
    assert_int_equal(tq_out_open(&out, &mem, path, NULL), TOQUE_OK);
    size_t at = 0;
    for (size_t step = 1; at < N; step = step * 3 + 1) { /* steps below, at and over the buffer's size */
        size_t n = step < N - at ? step : N - at;
        assert_int_equal(tq_out_write(out, big + at, n, NULL), TOQUE_OK);
        at += n;
        assert_int_equal(tq_out_offset(out), at);
    }
    assert_content("", 0); /* nothing shows before the commit */
    assert_int_equal(tq_out_commit(out, NULL), TOQUE_OK);
    assert_content(big, N);
    assert_int_equal(entries(), 1);
    tq_free(&mem, big);
    assert_int_equal(mem.used, 0);
}

static void an_abort_leaves_the_old_file(void **state) {
    (void)state;
    tq_mem mem = {0};
    assert_int_equal(tq_write_file(&mem, path, "old", 3, NULL), TOQUE_OK);
    tq_out *out;
    assert_int_equal(tq_out_open(&out, &mem, path, NULL), TOQUE_OK);
    assert_int_equal(tq_out_write(out, "new", 3, NULL), TOQUE_OK);
    tq_out_abort(out);
    tq_out_abort(NULL);
    assert_content("old", 3);
    assert_int_equal(entries(), 1);
    assert_int_equal(mem.used, 0);
}

static void the_umask_sets_the_mode(void **state) {
    (void)state;
    tq_mem mem = {0};
    mode_t old = umask(027);
    assert_int_equal(tq_write_file(&mem, path, "x", 1, NULL), TOQUE_OK);
    umask(old);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
}

static void a_target_that_cannot_be_written_is_named(void **state) {
    (void)state;
    tq_mem mem = {0};
    toque_error err;
    assert_int_equal(tq_write_file(&mem, "/nowhere/at/all", "x", 1, &err), TOQUE_ENOTFOUND);
    assert_non_null(strstr(err.message, "/nowhere/at/all"));
    assert_int_equal(tq_write_file(&mem, folder, "x", 1, &err), TOQUE_EIO); /* a folder stands there */
    assert_int_equal(entries(), 0);
    assert_int_equal(mem.used, 0);
}

static void reads_are_bounded_and_errors_name_the_file(void **state) {
    (void)state;
    tq_mem mem = {0};
    toque_error err;
    char *data;
    size_t size;
    tq_map map;
    assert_int_equal(tq_read_file(&data, &size, &mem, path, 10, &err), TOQUE_ENOTFOUND);
    assert_non_null(strstr(err.message, path));
    assert_int_equal(tq_map_open(&map, path, &err), TOQUE_ENOTFOUND);
    assert_int_equal(tq_map_open(&map, folder, &err), TOQUE_EINVAL);
    assert_int_equal(tq_read_file(&data, &size, &mem, folder, 10, &err), TOQUE_EIO);
    assert_int_equal(tq_write_file(&mem, path, "0123456789", 10, NULL), TOQUE_OK);
    assert_int_equal(tq_read_file(&data, &size, &mem, path, 10, &err), TOQUE_OK);
    tq_free(&mem, data);
    assert_int_equal(tq_read_file(&data, &size, &mem, path, 9, &err), TOQUE_ELIMIT);
    assert_null(data);
    assert_int_equal(mem.used, 0);
}

static void folders_are_made_with_their_parents(void **state) {
    (void)state;
    tq_mem mem = {0};
    toque_error err;
    char *deep = tq_path_join(&mem, folder, "a/b/c");
    assert_int_equal(tq_make_dirs(&mem, deep, &err), TOQUE_OK);
    assert_int_equal(tq_make_dirs(&mem, deep, &err), TOQUE_OK);
    assert_true(tq_path_is_dir(deep));
    assert_false(tq_dir_has_entries(deep));
    assert_true(tq_dir_has_entries(folder));
    assert_int_equal(tq_write_file(&mem, path, "x", 1, NULL), TOQUE_OK);
    assert_false(tq_path_is_dir(path));
    assert_true(tq_path_exists(path));
    char *below = tq_path_join(&mem, path, "x");
    assert_int_equal(tq_make_dirs(&mem, below, &err), TOQUE_EIO);
    tq_free(&mem, below);
    tq_free(&mem, deep);
    char *joined = tq_path_join(&mem, "a/", "b");
    assert_string_equal(joined, "a/b");
    tq_free(&mem, joined);
    assert_int_equal(mem.used, 0);
}

static void every_failing_allocation_leaves_the_old_file(void **state) {
    (void)state;
    tq_mem mem = {0};
    assert_int_equal(tq_write_file(&mem, path, "old", 3, NULL), TOQUE_OK);
    for (unsigned n = 1;; n++) {
        assert_true(n < 50);
        tq_mem faulty = {.fail_at = n};
        toque_status status = tq_write_file(&faulty, path, "new", 3, NULL);
        assert_int_equal(faulty.used, 0);
        assert_int_equal(entries(), 1);
        if (status == TOQUE_OK) break;
        assert_int_equal(status, TOQUE_ENOMEM);
        assert_content("old", 3);
    }
    assert_content("new", 3);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        T(what_was_written_is_read_and_mapped),
        T(an_abort_leaves_the_old_file),
        T(the_umask_sets_the_mode),
        T(a_target_that_cannot_be_written_is_named),
        T(reads_are_bounded_and_errors_name_the_file),
        T(folders_are_made_with_their_parents),
        T(every_failing_allocation_leaves_the_old_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
