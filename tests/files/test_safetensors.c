/* safetensors: round trips, and files that lie. */
#include "bytes.h"

#include "files/safetensors.h"

static const float numbers[6] = {1, 2, 3, 4, 5, 6};

static toque_status save_sample(tq_mem *m, const char *path, toque_error *err) {
    static const uint16_t halves[4] = {0x3c00, 0x4000, 0, 1};
    const tq_save_tensor t[] = {
        {.name = "model.w", .type = TQ_F32, .n_dims = 2, .dims = {2, 3}, .data = numbers},
        {.name = "h \"\\\xc3\xa4", .type = TQ_F16, .n_dims = 1, .dims = {3}, .data = halves},
        {.name = "b", .type = TQ_BF16, .n_dims = 3, .dims = {1, 2, 2}, .data = halves},
        {.name = "scalar", .type = TQ_F32, .n_dims = 0, .data = numbers + 4},
        {.name = "empty", .type = TQ_F32, .n_dims = 2, .dims = {0, 5}, .data = numbers},
    };
    const char *meta[] = {"format", "pt", "note", "a \"b\"\n"};
    return tq_safetensors_save(m, path, t, 5, meta, 2, err);
}

static void what_is_saved_reads_back(void **state) {
    (void)state;
    toque_error err;
    tq_safetensors *st;
    const char *path = in_folder("a.safetensors");
    assert_int_equal(save_sample(&mem, path, &err), TOQUE_OK);
    assert_int_equal(tq_safetensors_open(&st, &mem, path, &err), TOQUE_OK);
    assert_int_equal(tq_safetensors_count(st), 5);
    assert_string_equal(tq_safetensors_metadata(st, "format"), "pt");
    assert_string_equal(tq_safetensors_metadata(st, "note"), "a \"b\"\n");
    assert_null(tq_safetensors_metadata(st, "absent"));
    const tq_tensor *t = tq_safetensors_find(st, "model.w");
    assert_ptr_equal(t, tq_safetensors_at(st, 0));
    assert_int_equal((uintptr_t)t->data % 8, 0);
    assert_int_equal(t->type, TQ_F32);
    assert_true(t->rows == 2 && t->cols == 3 && t->n_dims == 2 && t->dims[0] == 2 && t->dims[1] == 3);
    assert_int_equal(t->bytes, sizeof numbers);
    assert_memory_equal(t->data, numbers, sizeof numbers);
    t = tq_safetensors_find(st, "h \"\\\xc3\xa4");
    assert_true(t && t->type == TQ_F16 && t->rows == 1 && t->cols == 3 && t->bytes == 6);
    t = tq_safetensors_find(st, "b");
    assert_true(t && t->type == TQ_BF16 && t->rows == 2 && t->cols == 2 && t->bytes == 8);
    t = tq_safetensors_find(st, "scalar");
    assert_true(t && t->n_dims == 0 && t->rows == 1 && t->cols == 1 && t->bytes == 4);
    assert_memory_equal(t->data, numbers + 4, 4);
    t = tq_safetensors_find(st, "empty");
    assert_true(t && t->rows == 0 && t->cols == 5 && t->bytes == 0);
    assert_null(tq_safetensors_at(st, 5));
    assert_null(tq_safetensors_find(st, "__metadata__"));
    tq_safetensors_close(st);
    assert_int_equal(mem.used, 0);
}

static void the_writer_refuses_what_no_reader_would_take(void **state) {
    (void)state;
    toque_error err;
    const char *path = in_folder("refused.safetensors");
    const tq_save_tensor ok = {.name = "a", .type = TQ_F32, .n_dims = 1, .dims = {2}, .data = numbers};
    tq_save_tensor t[2] = {ok, ok};
    assert_int_equal(tq_safetensors_save(&mem, path, t, 2, NULL, 0, &err), TOQUE_EINVAL); /* the same name */
    const char *names[] = {"", "__metadata__", "x\n", "\xff"};
    for (int i = 0; i < 4; i++) {
        t[0] = ok;
        t[0].name = names[i];
        assert_int_equal(tq_safetensors_save(&mem, path, t, 1, NULL, 0, &err), TOQUE_EINVAL);
    }
    t[0] = ok;
    t[0].type = TQ_Q4_0;
    assert_int_equal(tq_safetensors_save(&mem, path, t, 1, NULL, 0, &err), TOQUE_EINVAL);
    t[0] = ok;
    t[0].n_dims = 5;
    assert_int_equal(tq_safetensors_save(&mem, path, t, 1, NULL, 0, &err), TOQUE_EINVAL);
    t[0] = ok;
    t[0].dims[0] = -1;
    assert_int_equal(tq_safetensors_save(&mem, path, t, 1, NULL, 0, &err), TOQUE_EINVAL);
    t[0].dims[0] = INT64_MAX / 2;
    assert_int_equal(tq_safetensors_save(&mem, path, t, 1, NULL, 0, &err), TOQUE_EINVAL);
    const char *twice[] = {"k", "1", "k", "2"};
    t[0] = ok;
    assert_int_equal(tq_safetensors_save(&mem, path, t, 1, twice, 2, &err), TOQUE_EINVAL);
    assert_false(tq_path_exists(path));
    assert_int_equal(tq_safetensors_save(&mem, path, t, 1, NULL, 0, &err), TOQUE_OK);
    assert_int_equal(mem.used, 0);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    toque_error err;
    const char *path = in_folder("f.safetensors");
    toque_status status = TOQUE_ENOMEM;
    int rounds = 0;
    for (unsigned long long n = 1; status != TOQUE_OK; n++, rounds++) {
        tq_mem m = {.fail_at = n};
        assert_false(tq_path_exists(path));
        status = save_sample(&m, path, &err);
        assert_true(status == TOQUE_OK || status == TOQUE_ENOMEM);
        assert_int_equal(m.used, 0);
    }
    assert_true(rounds > 3);
    status = TOQUE_ENOMEM;
    rounds = 0;
    for (unsigned long long n = 1; status != TOQUE_OK; n++, rounds++) {
        tq_mem m = {.fail_at = n};
        tq_safetensors *st;
        status = tq_safetensors_open(&st, &m, path, &err);
        assert_true(status == TOQUE_OK || status == TOQUE_ENOMEM);
        tq_safetensors_close(st);
        assert_int_equal(m.used, 0);
    }
    assert_true(rounds > 3);
}

/* A file with this header and n bytes of data. */
static tq_buf file_of(const char *header, size_t n) {
    tq_buf b = new_bytes();
    put_text(&b, header);
    for (size_t i = 0; i < n; i++) tq_buf_putc(&b, (char)i);
    return b;
}

static toque_status check_bytes(const void *data, size_t n, toque_error *err) {
    uint8_t *p = exact(data, n);
    tq_safetensors *st;
    unsigned sum = 0;
    toque_status status = tq_safetensors_open_memory(&st, &mem, p, n, "bytes", err);
    if (status == TOQUE_OK) {
        for (size_t i = 0; i < tq_safetensors_count(st); i++) {
            const tq_tensor *t = tq_safetensors_at(st, i);
            assert_ptr_equal(tq_safetensors_find(st, t->name), t);
            for (size_t k = 0; k < t->bytes; k++) sum += ((const uint8_t *)t->data)[k];
        }
        tq_safetensors_close(st);
    } else {
        assert_null(st);
        assert_memory_equal(err->message, "bytes: ", 7);
    }
    free(p);
    assert_true(sum < UINT32_MAX);
    return status;
}

static void expect(const char *header, size_t data, toque_status want) {
    toque_error err = {0};
    size_t used = mem.used;
    tq_buf b = file_of(header, data);
    toque_status got = check_bytes(b.data, b.len, &err);
    if (got != want) print_error("%s: %s\n", header, err.message);
    assert_int_equal(got, want);
    tq_buf_clear(&b);
    assert_int_equal(mem.used, used);
}

#define T(name, dtype, shape, offsets)                                                                                 \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" offsets "]}"

static void ranges_must_cover_the_data(void **state) {
    (void)state;
    expect("{" T("a", "F32", "2", "0,8") "," T("b", "F32", "1", "8,12") "}", 12, TOQUE_OK);
    expect("{" T("a", "F32", "1", "8,12") "," T("b", "F32", "2", "0,8") "}", 12, TOQUE_OK);
    expect("{" T("a", "F32", "2", "0,8") "," T("b", "F32", "1", "4,8") "}", 8, TOQUE_EFORMAT);   /* overlap */
    expect("{" T("a", "F32", "2", "0,8") "," T("b", "F32", "2", "0,8") "}", 8, TOQUE_EFORMAT);   /* the same */
    expect("{" T("a", "F32", "1", "0,4") "," T("b", "F32", "1", "8,12") "}", 12, TOQUE_EFORMAT); /* hole */
    expect("{" T("a", "F32", "1", "4,8") "}", 8, TOQUE_EFORMAT);                                 /* hole at 0 */
    expect("{" T("a", "F32", "1", "0,4") "}", 5, TOQUE_EFORMAT);                                 /* rest */
    expect("{" T("a", "F32", "1", "0,4") "}", 3, TOQUE_EFORMAT);                                 /* cut */
    expect("{" T("a", "F32", "0", "0,0") "," T("b", "F32", "0", "0,0") "}", 0, TOQUE_OK);
    expect("{}", 0, TOQUE_OK);
    expect("{}      ", 0, TOQUE_OK);
    expect("{}", 1, TOQUE_EFORMAT);
}

static void shapes_and_dtypes_must_make_the_bytes(void **state) {
    (void)state;
    expect("{" T("a", "F16", "2", "0,8") "}", 8, TOQUE_EFORMAT);
    expect("{" T("a", "F32", "3", "0,8") "}", 8, TOQUE_EFORMAT);
    expect("{" T("a", "F32", "-2", "0,8") "}", 8, TOQUE_EFORMAT);
    expect("{" T("a", "F32", "2.0", "0,8") "}", 8, TOQUE_EFORMAT);
    expect("{" T("a", "F32", "4294967296,4294967296", "0,0") "}", 0, TOQUE_EFORMAT);
    expect("{" T("a", "F32", "4611686018427387904", "0,0") "}", 0, TOQUE_EFORMAT); /* 2^62 * 32 bits wraps to 0 */
    expect("{" T("a", "F32", "9223372036854775807", "0,8") "}", 8, TOQUE_EFORMAT);
    expect("{" T("a", "F32", "99999999999999999999", "0,8") "}", 8, TOQUE_EFORMAT);
    expect("{" T("a", "F4", "3", "0,2") "}", 2, TOQUE_EFORMAT); /* 12 bits */
    expect("{" T("a", "F32", "2", "8,0") "}", 8, TOQUE_EFORMAT);
    expect("{" T("a", "F32", "2", "-8,0") "}", 8, TOQUE_EFORMAT);
    expect("{" T("a", "F32", "2", "0") "}", 8, TOQUE_EFORMAT);
    expect("{" T("a", "F32", "2", "0,8,8") "}", 8, TOQUE_EFORMAT);
    expect("{" T("a", "F32", "2", "0,9223372036854775807") "}", 8, TOQUE_EFORMAT);
}

static void headers_must_be_clean_json(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "{",
        "[]",
        " {}",
        "{}x",
        "null",
        "{\"a\":1}",
        "{\"a\":{}}",
        "{\"a\":{\"dtype\":1,\"shape\":[2],\"data_offsets\":[0,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":8}}",
        "{" T("a", "F32", "2", "0,8") "," T("a", "F32", "2", "0,8") "}",
        "{" T("", "F32", "2", "0,8") "}",
        "{" T("a\\nb", "F32", "2", "0,8") "}",
        "{" T("a\\u0000b", "F32", "2", "0,8") "}",
        "{" T("\xff", "F32", "2", "0,8") "}",
        "{\"__metadata__\":[]," T("a", "F32", "2", "0,8") "}",
        "{\"__metadata__\":{\"a\":1}," T("a", "F32", "2", "0,8") "}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) expect(bad[i], 8, TOQUE_EFORMAT);
    tq_buf b = new_bytes();
    for (int i = 0; i < 100000; i++) tq_buf_puts(&b, "{\"a\":");
    expect(b.data, 8, TOQUE_EFORMAT); /* depth */
    tq_buf_clear(&b);
}

static void false_header_lengths_are_refused(void **state) {
    (void)state;
    toque_error err;
    const uint64_t lengths[] = {0, 1, 9, 100, 100000001, 1ull << 63, UINT64_MAX, UINT64_MAX - 7};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        tq_buf b = new_bytes();
        put_u64(&b, lengths[i]);
        tq_buf_puts(&b, "{}      ");
        assert_int_equal(check_bytes(b.data, b.len, &err), TOQUE_EFORMAT);
        tq_buf_clear(&b);
    }
    assert_int_equal(mem.used, 0);
}

static void other_dtypes_and_long_shapes_are_listed(void **state) {
    (void)state;
    toque_error err;
    tq_safetensors *st;
    tq_buf b = file_of("{" T("i", "I64", "2", "0,16") "," T("five", "F32", "1,2,1,2,3",
                                                            "16,64") "," T("new", "F2_FUTURE", "7", "64,66") "}",
                       66);
    assert_int_equal(tq_safetensors_open_memory(&st, &mem, (const uint8_t *)b.data, b.len, "x", &err), TOQUE_OK);
    const tq_tensor *t = tq_safetensors_find(st, "i");
    assert_true(t->type == TQ_TYPE_END && t->cols == 2 && t->bytes == 16);
    t = tq_safetensors_find(st, "five");
    assert_true(t->type == TQ_TYPE_END && t->n_dims == 4 && t->dims[0] == 2 && t->rows == 4 && t->cols == 3);
    t = tq_safetensors_find(st, "new");
    assert_true(t->type == TQ_TYPE_END && t->bytes == 2);
    tq_safetensors_close(st);
    tq_buf_clear(&b);
    assert_int_equal(mem.used, 0);
}

static void truncations_and_flipped_bits_are_survived(void **state) {
    (void)state;
    toque_error err;
    tq_buf b =
        file_of("{\"__metadata__\":{\"k\":\"v\"}," T("a", "F32", "2", "0,8") "," T("b", "F16", "1,2", "8,12") "}", 12);
    for (size_t n = 0; n < b.len; n++) assert_int_equal(check_bytes(b.data, n, &err), TOQUE_EFORMAT);
    int ok = 0, refused = 0;
    for (size_t bit = 0; bit < b.len * 8; bit++) {
        b.data[bit / 8] ^= (char)(1 << bit % 8);
        *(check_bytes(b.data, b.len, &err) == TOQUE_OK ? &ok : &refused) += 1;
        b.data[bit / 8] ^= (char)(1 << bit % 8);
    }
    assert_true(ok >= 12 * 8 && refused > 300);
    tq_buf_clear(&b);
    assert_int_equal(mem.used, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_saved_reads_back),
        cmocka_unit_test(the_writer_refuses_what_no_reader_would_take),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(ranges_must_cover_the_data),
        cmocka_unit_test(shapes_and_dtypes_must_make_the_bytes),
        cmocka_unit_test(headers_must_be_clean_json),
        cmocka_unit_test(false_header_lengths_are_refused),
        cmocka_unit_test(other_dtypes_and_long_shapes_are_listed),
        cmocka_unit_test(truncations_and_flipped_bits_are_survived),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
