/* Files under failing input and output: an atomic write leaves the old file or the new one and nothing beside it, a
 * read tells, and the store of models holds a model whole or not at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/io.h"
#include "faulty.h"
#include "files/gguf.h"
#include "files/safetensors.h"
#include "models/store.h"

enum { BIG = 200000, NUMBERS = 40000 };
static tq_mem mem;
static char folder[64], path[96], model[96], big[BIG];
static float numbers[NUMBERS];

static char *content(const char *name, size_t *n) {
    char *data;
    toque_error err;
    if (tq_read_file(&data, n, &mem, name, 1 << 24, &err) != TOQUE_OK) fail_msg("%s", err.message);
    return data;
}

static void assert_content(const char *want, size_t n) {
    size_t got;
    char *data = content(path, &got);
    assert_int_equal(got, n);
    assert_memory_equal(data, want, n);
    tq_free(&mem, data);
}

/* --- writing ------------------------------------------------------------------------------------------ */

static void put_old(void *arg) {
    (void)arg;
    assert_int_equal(tq_write_file(&mem, path, "old", 3, NULL), TOQUE_OK);
}

/* The target and nothing beside it but the model that set_up made. */
static void check_old_or(toque_status status, const char *want, size_t n) {
    assert_int_equal(faulty_entries(folder), 2);
    assert_int_equal(mem.used, 0);
    if (status == TOQUE_OK)
        assert_content(want, n);
    else
        assert_content("old", 3);
}

static toque_status write_big(void *arg, toque_error *err) {
    (void)arg;
    return tq_write_file(&mem, path, big, BIG, err);
}

static void check_big(void *arg, toque_status status) {
    (void)arg;
    check_old_or(status, big, BIG);
}

static void a_write_leaves_the_old_file_or_the_new_one(void **state) {
    (void)state;
    faulty_walk(&(faulty_work){.prepare = put_old, .run = write_big, .check = check_big});
}

/* What a writer of a format leaves when nothing fails. */
static char *whole;
static size_t n_whole;

static void check_whole(void *arg, toque_status status) {
    (void)arg;
    check_old_or(status, whole, n_whole);
}

static void walk_writer(toque_status (*run)(void *arg, toque_error *err)) {
    toque_error err;
    tq_mem keep = {0};
    if (run(NULL, &err) != TOQUE_OK) fail_msg("%s", err.message);
    assert_int_equal(tq_read_file(&whole, &n_whole, &keep, path, 1 << 24, &err), TOQUE_OK);
    faulty_walk(&(faulty_work){.prepare = put_old, .run = run, .check = check_whole});
    tq_free(&keep, whole);
}

static toque_status write_safetensors(void *arg, toque_error *err) {
    (void)arg;
    tq_save_tensor t = {.name = "w", .type = TQ_F32, .n_dims = 1, .dims = {NUMBERS}, .data = numbers};
    return tq_safetensors_save(&mem, path, &t, 1, NULL, 0, err);
}

static toque_status fill_gguf(tq_gguf_writer *w, toque_error *err) {
    TQ_TRY(tq_gguf_put_str(w, "general.name", "faulty", 6, err));
    TQ_TRY(tq_gguf_put_tensor(w, "w", TQ_F32, 1, (int64_t[]){NUMBERS}, err));
    return tq_gguf_write_data(w, numbers, sizeof numbers, err);
}

static toque_status write_gguf_to(const char *to, toque_error *err) {
    tq_gguf_writer *w;
    TQ_TRY(tq_gguf_writer_new(&w, &mem, to, err));
    toque_status status = fill_gguf(w, err);
    if (status == TOQUE_OK) return tq_gguf_writer_commit(w, err);
    tq_gguf_writer_abort(w);
    return status;
}

static toque_status write_gguf(void *arg, toque_error *err) {
    (void)arg;
    return write_gguf_to(path, err);
}

static void so_do_the_writers_of_model_files(void **state) {
    (void)state;
    walk_writer(write_safetensors);
    walk_writer(write_gguf);
}

/* --- reading ------------------------------------------------------------------------------------------ */

static void put_big(void *arg) {
    (void)arg;
    assert_int_equal(tq_write_file(&mem, path, big, BIG, NULL), TOQUE_OK);
}

static toque_status read_all(void *arg, toque_error *err) {
    char hash[65], *data;
    size_t n;
    tq_map map;
    (void)arg;
    TQ_TRY(tq_read_file(&data, &n, &mem, path, 1 << 24, err));
    bool same = n == BIG && memcmp(data, big, n) == 0;
    tq_free(&mem, data);
    if (!same) return TQ_FAIL(err, EFORMAT, "the file was read wrong");
    TQ_TRY(tq_map_open(&map, path, err));
    same = map.size == BIG && memcmp(map.data, big, BIG) == 0;
    tq_map_close(&map);
    if (!same) return TQ_FAIL(err, EFORMAT, "the file was mapped wrong");
    TQ_TRY(tq_sha256_file(&mem, path, hash, err));
    tq_sha256 *sha = tq_sha256_new(&mem);
    char want[65];
    tq_sha256_add(sha, big, BIG);
    tq_sha256_end(sha, want);
    return strcmp(hash, want) == 0 ? TOQUE_OK : TQ_FAIL(err, EFORMAT, "the file was hashed wrong");
}

static void check_read(void *arg, toque_status status) {
    (void)arg;
    if (status == TOQUE_EFORMAT) fail_msg("a failing read gave wrong bytes");
    assert_int_equal(mem.used, 0);
    assert_content(big, BIG);
}

static void a_read_gives_all_bytes_or_an_error(void **state) {
    (void)state;
    faulty_walk(&(faulty_work){.prepare = put_big, .run = read_all, .check = check_read});
}

/* --- the store ---------------------------------------------------------------------------------------- */

static void empty_store(void *arg) {
    (void)arg;
    toque_error err;
    toque_status status = tq_store_remove(&mem, "m", &err);
    if (status != TOQUE_OK && status != TOQUE_ENOTFOUND) fail_msg("%s", err.message);
}

static toque_status add_model(void *arg, toque_error *err) {
    (void)arg;
    return tq_store_add_file(NULL, &mem, model, "m", err);
}

static void check_store(void *arg, toque_status status) {
    char models[160], file[200];
    size_t n, m;
    (void)arg;
    assert_int_equal(mem.used, 0);
    snprintf(models, sizeof models, "%s/models", getenv("TOQUE_HOME"));
    if (status != TOQUE_OK) {
        assert_true(faulty_entries(models) <= 0); /* nothing, not even an empty folder of a model */
        return;
    }
    assert_int_equal(faulty_entries(models), 1);
    snprintf(file, sizeof file, "%s/m/model.gguf", models);
    char *a = content(file, &n), *b = content(model, &m);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    tq_free(&mem, a);
    tq_free(&mem, b);
    snprintf(file, sizeof file, "%s/m/model.json", models);
    a = content(file, &n);
    assert_non_null(strstr(a, "\"sha256\""));
    assert_int_equal(a[n - 2], '}');
    tq_free(&mem, a);
}

static void a_model_is_in_the_store_whole_or_not_at_all(void **state) {
    (void)state;
    char store[96];
    strcpy(store, "/tmp/toque-store-XXXXXX");
    assert_non_null(mkdtemp(store));
    setenv("TOQUE_HOME", store, 1);
    faulty_walk(&(faulty_work){.prepare = empty_store, .run = add_model, .check = check_store});
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", store);
    assert_int_equal(system(command), 0);
}

static int set_up(void **state) {
    (void)state;
    strcpy(folder, "/tmp/toque-faults-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    snprintf(path, sizeof path, "%s/file", folder);
    snprintf(model, sizeof model, "%s/model.gguf", folder);
    for (int i = 0; i < BIG; i++) big[i] = (char)(i * 7 + i / 251);
    for (int i = 0; i < NUMBERS; i++) numbers[i] = (float)i;
    toque_error err;
    return write_gguf_to(model, &err) != TOQUE_OK;
}

static int tear_down(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write_leaves_the_old_file_or_the_new_one),
        cmocka_unit_test(so_do_the_writers_of_model_files),
        cmocka_unit_test(a_read_gives_all_bytes_or_an_error),
        cmocka_unit_test(a_model_is_in_the_store_whole_or_not_at_all),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
