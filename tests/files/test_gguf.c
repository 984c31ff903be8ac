/* GGUF: what is written reads back; values of every type; what the writer refuses. */
#include "bytes.h"

#include <math.h>

#include "base/clock.h"
#include "files/gguf.h"

static const tq_string words[] = {{"<s>", 3}, {"", 0}, {"a\0b", 3}, {"\xc3\xa4", 2}};

/* A file with values of all kinds and three tensors; returns its path. */
static const char *write_sample(tq_mem *m, toque_status *status, toque_error *err) {
    const char *path = in_folder("sample.gguf");
    tq_gguf_writer *w = NULL;
    *status = tq_gguf_writer_new(&w, m, path, err);
    if (*status != TOQUE_OK) return path;
    float f[64];
    for (int i = 0; i < 64; i++) f[i] = (float)i / 4;
    uint8_t q[40] = {1, 2, 3};
#define GO(call)                                                                                                       \
    do {                                                                                                               \
        *status = (call);                                                                                              \
        if (*status != TOQUE_OK) goto fail;                                                                            \
    } while (0)
    GO(tq_gguf_put_str(w, "general.architecture", "llama", 5, err));
    GO(tq_gguf_put_u32(w, "llama.block_count", 7, err));
    GO(tq_gguf_put_f32(w, "llama.eps", 1e-5f, err));
    GO(tq_gguf_put_bool(w, "tokenizer.add_bos", true, err));
    GO(tq_gguf_put_strings(w, "tokenizer.tokens", words, 4, err));
    GO(tq_gguf_put_strings(w, "tokenizer.none", NULL, 0, err));
    GO(tq_gguf_put_numbers(w, "tokenizer.types", TQ_GGUF_I32, (const int32_t[]){-1, 2, INT32_MIN}, 3, err));
    GO(tq_gguf_put_tensor(w, "blk.0.w", TQ_F32, 2, (const int64_t[]){8, 2}, err));
    GO(tq_gguf_put_tensor(w, "blk.0.q", TQ_Q4_1, 2, (const int64_t[]){32, 2}, err));
    GO(tq_gguf_put_tensor(w, "norm", TQ_F32, 1, (const int64_t[]){3}, err));
    GO(tq_gguf_write_data(w, f, 64, err));
    GO(tq_gguf_write_data(w, q, 40, err));
    GO(tq_gguf_write_data(w, f, 12, err));
#undef GO
    *status = tq_gguf_writer_commit(w, err);
    return path;
fail:
    tq_gguf_writer_abort(w);
    return path;
}

static void what_is_written_reads_back(void **state) {
    (void)state;
    toque_error err;
    toque_status status;
    const char *path = write_sample(&mem, &status, &err);
    assert_int_equal(status, TOQUE_OK);
    tq_gguf *g;
    assert_int_equal(tq_gguf_open(&g, &mem, path, &err), TOQUE_OK);
    assert_string_equal(tq_gguf_path(g), path);
    assert_int_equal(tq_gguf_n_values(g), 7);
    assert_null(tq_gguf_value_at(g, 7));
    tq_string s = {0};
    assert_int_equal(tq_gguf_str(g, "general.architecture", &s, &err), TOQUE_OK);
    assert_int_equal(s.len, 5);
    assert_memory_equal(s.data, "llama", 5);
    uint32_t u = 0;
    assert_int_equal(tq_gguf_u32(g, "llama.block_count", &u, &err), TOQUE_OK);
    assert_int_equal(u, 7);
    float f = 0;
    assert_int_equal(tq_gguf_f32(g, "llama.eps", &f, &err), TOQUE_OK);
    assert_true(f == 1e-5f);
    bool b = false;
    assert_int_equal(tq_gguf_bool(g, "tokenizer.add_bos", &b, &err), TOQUE_OK);
    assert_true(b);
    const tq_gguf_value *v = tq_gguf_find(g, "tokenizer.tokens");
    assert_non_null(v);
    assert_int_equal(v->count, 4);
    const uint8_t *at = v->data;
    for (int i = 0; i < 4; i++) {
        assert_true(tq_gguf_next_string(v, &at, &s));
        assert_int_equal(s.len, words[i].len);
        assert_memory_equal(s.data, words[i].data, s.len);
    }
    assert_false(tq_gguf_next_string(v, &at, &s));
    v = tq_gguf_find(g, "tokenizer.none");
    at = v->data;
    assert_false(tq_gguf_next_string(v, &at, &s));
    v = tq_gguf_find(g, "tokenizer.types");
    assert_true(tq_gguf_number_at(v, 0) == -1 && tq_gguf_number_at(v, 2) == (double)INT32_MIN);
    assert_true(isnan(tq_gguf_number_at(v, 3)));

    assert_int_equal(tq_gguf_n_tensors(g), 3);
    const tq_tensor *t = tq_gguf_find_tensor(g, "blk.0.q");
    assert_ptr_equal(t, tq_gguf_tensor_at(g, 1));
    assert_int_equal(t->type, TQ_Q4_1);
    assert_int_equal(t->rows, 2);
    assert_int_equal(t->cols, 32);
    assert_int_equal(t->bytes, 40);
    assert_int_equal((uintptr_t)t->data % 32, 0);
    assert_memory_equal(t->data, "\1\2\3\0", 4);
    t = tq_gguf_find_tensor(g, "norm");
    assert_int_equal(t->rows, 1);
    assert_true(((const float *)t->data)[2] == 0.5f);
    assert_null(tq_gguf_find_tensor(g, "norm2"));
    tq_gguf_close(g);
    assert_int_equal(mem.used, 0);
}

static void typed_reads_leave_absent_keys_alone_and_refuse_other_types(void **state) {
    (void)state;
    toque_error err;
    toque_status status;
    tq_gguf *g;
    assert_int_equal(tq_gguf_open(&g, &mem, write_sample(&mem, &status, &err), &err), TOQUE_OK);
    uint32_t u = 42;
    assert_int_equal(tq_gguf_u32(g, "absent", &u, &err), TOQUE_OK);
    assert_int_equal(u, 42);
    assert_int_equal(tq_gguf_u32(g, "general.architecture", &u, &err), TOQUE_EFORMAT);
    assert_non_null(strstr(err.message, "general.architecture"));
    assert_int_equal(tq_gguf_u32(g, "llama.eps", &u, &err), TOQUE_EFORMAT);
    assert_int_equal(tq_gguf_u32(g, "tokenizer.types", &u, &err), TOQUE_EFORMAT);
    assert_int_equal(u, 42);
    float f = 3;
    assert_int_equal(tq_gguf_f32(g, "llama.block_count", &f, &err), TOQUE_EFORMAT);
    bool b = true;
    assert_int_equal(tq_gguf_bool(g, "llama.block_count", &b, &err), TOQUE_EFORMAT);
    tq_string s;
    assert_int_equal(tq_gguf_str(g, "llama.block_count", &s, NULL), TOQUE_EFORMAT);
    tq_gguf_close(g);
    assert_int_equal(mem.used, 0);
}

/* One value with the given type and payload in an otherwise empty file. */
static tq_gguf *open_one(tq_buf *b, uint32_t type, const void *payload, size_t n) {
    *b = new_bytes();
    tq_buf_puts(b, "GGUF");
    put_u32(b, 3);
    put_u64(b, 0);
    put_u64(b, 1);
    put_text(b, "k");
    put_u32(b, type);
    tq_buf_put(b, payload, n);
    tq_gguf *g = NULL;
    assert_int_equal(tq_gguf_open_memory(&g, &mem, (const uint8_t *)b->data, b->len, "one", NULL), TOQUE_OK);
    return g;
}

static void integers_of_every_width_are_read_when_they_fit(void **state) {
    (void)state;
    static const struct {
        uint32_t type;
        uint64_t bits;
        size_t n;
        toque_status status;
        uint32_t value;
    } cases[] = {
        {TQ_GGUF_U8, 255, 1, TOQUE_OK, 255},
        {TQ_GGUF_I8, 127, 1, TOQUE_OK, 127},
        {TQ_GGUF_I8, 0xff, 1, TOQUE_EFORMAT, 9},
        {TQ_GGUF_U16, 65535, 2, TOQUE_OK, 65535},
        {TQ_GGUF_I16, 0x8000, 2, TOQUE_EFORMAT, 9},
        {TQ_GGUF_I32, 0x7fffffff, 4, TOQUE_OK, 0x7fffffff},
        {TQ_GGUF_U32, UINT32_MAX, 4, TOQUE_OK, UINT32_MAX},
        {TQ_GGUF_U64, UINT32_MAX, 8, TOQUE_OK, UINT32_MAX},
        {TQ_GGUF_U64, 1ull << 32, 8, TOQUE_EFORMAT, 9},
        {TQ_GGUF_I64, UINT64_MAX, 8, TOQUE_EFORMAT, 9},
        {TQ_GGUF_I64, 1ull << 63, 8, TOQUE_EFORMAT, 9},
        {TQ_GGUF_BOOL, 1, 1, TOQUE_OK, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tq_buf b;
        tq_gguf *g = open_one(&b, cases[i].type, &cases[i].bits, cases[i].n);
        uint32_t u = 9;
        assert_int_equal(tq_gguf_u32(g, "k", &u, NULL), cases[i].status);
        assert_int_equal(u, cases[i].value);
        tq_gguf_close(g);
        tq_buf_clear(&b);
    }
    assert_int_equal(mem.used, 0);
}

static void floats_must_be_finite_and_bools_zero_or_one(void **state) {
    (void)state;
    tq_buf b;
    float f = 1;
    double d = 1e300;
    tq_gguf *g = open_one(&b, TQ_GGUF_F64, &d, 8);
    assert_int_equal(tq_gguf_f32(g, "k", &f, NULL), TOQUE_EFORMAT);
    tq_gguf_close(g);
    tq_buf_clear(&b);
    d = 0.25;
    g = open_one(&b, TQ_GGUF_F64, &d, 8);
    assert_int_equal(tq_gguf_f32(g, "k", &f, NULL), TOQUE_OK);
    assert_true(f == 0.25f);
    tq_gguf_close(g);
    tq_buf_clear(&b);
    float nan = NAN;
    g = open_one(&b, TQ_GGUF_F32, &nan, 4);
    assert_int_equal(tq_gguf_f32(g, "k", &f, NULL), TOQUE_EFORMAT);
    tq_gguf_close(g);
    tq_buf_clear(&b);
    bool flag = true;
    g = open_one(&b, TQ_GGUF_BOOL, "\2", 1);
    assert_int_equal(tq_gguf_bool(g, "k", &flag, NULL), TOQUE_EFORMAT);
    assert_true(flag);
    tq_gguf_close(g);
    tq_buf_clear(&b);
    assert_int_equal(mem.used, 0);
}

static void a_copy_of_all_values_is_the_same_file(void **state) {
    (void)state;
    toque_error err;
    toque_status status;
    tq_gguf *g;
    char from[256];
    strcpy(from, write_sample(&mem, &status, &err));
    assert_int_equal(tq_gguf_open(&g, &mem, from, &err), TOQUE_OK);
    tq_gguf_writer *w;
    const char *to = in_folder("copy.gguf");
    assert_int_equal(tq_gguf_writer_new(&w, &mem, to, &err), TOQUE_OK);
    for (size_t i = 0; i < tq_gguf_n_values(g); i++)
        assert_int_equal(tq_gguf_put_value(w, tq_gguf_value_at(g, i), &err), TOQUE_OK);
    for (size_t i = 0; i < tq_gguf_n_tensors(g); i++) {
        const tq_tensor *t = tq_gguf_tensor_at(g, i);
        assert_int_equal(tq_gguf_put_tensor(w, t->name, t->type, t->n_dims, t->dims, &err), TOQUE_OK);
    }
    for (size_t i = 0; i < tq_gguf_n_tensors(g); i++) {
        const tq_tensor *t = tq_gguf_tensor_at(g, i);
        assert_int_equal(tq_gguf_write_data(w, t->data, t->bytes, &err), TOQUE_OK);
    }
    assert_int_equal(tq_gguf_writer_commit(w, &err), TOQUE_OK);
    tq_gguf_close(g);
    tq_map a, b;
    assert_int_equal(tq_map_open(&a, from, &err), TOQUE_OK);
    assert_int_equal(tq_map_open(&b, to, &err), TOQUE_OK);
    assert_int_equal(a.size, b.size);
    assert_memory_equal(a.data, b.data, a.size);
    assert_int_equal(a.size % 32, 0); /* the last tensor is padded too */
    tq_map_close(&a);
    tq_map_close(&b);
    assert_int_equal(mem.used, 0);
}

static void the_writer_refuses_what_no_reader_would_take(void **state) {
    (void)state;
    toque_error err;
    tq_gguf_writer *w;
    const char *path = in_folder("refused.gguf");
    assert_int_equal(tq_gguf_writer_new(&w, &mem, path, &err), TOQUE_OK);
    assert_int_equal(tq_gguf_put_u32(w, "a", 1, &err), TOQUE_OK);
    assert_int_equal(tq_gguf_put_u32(w, "a", 1, &err), TOQUE_EINVAL);
    assert_int_equal(tq_gguf_put_u32(w, "", 1, &err), TOQUE_EINVAL);
    assert_int_equal(tq_gguf_put_u32(w, "a\nb", 1, &err), TOQUE_EINVAL);
    assert_int_equal(tq_gguf_put_u32(w, "general.alignment", 64, &err), TOQUE_EINVAL);
    assert_int_equal(tq_gguf_put_numbers(w, "n", TQ_GGUF_STRING, "", 0, &err), TOQUE_EINVAL);
    const int64_t bad[] = {33, 1}, zero[] = {0}, huge[] = {1ll << 40, 1ll << 40}, good[] = {32};
    assert_int_equal(tq_gguf_put_tensor(w, "t", TQ_Q4_1, 2, bad, &err), TOQUE_EINVAL);
    assert_int_equal(tq_gguf_put_tensor(w, "t", TQ_F32, 1, zero, &err), TOQUE_EINVAL);
    assert_int_equal(tq_gguf_put_tensor(w, "t", TQ_F32, 2, huge, &err), TOQUE_EINVAL);
    assert_int_equal(tq_gguf_put_tensor(w, "t", TQ_F32, 5, good, &err), TOQUE_EINVAL);
    assert_int_equal(tq_gguf_put_tensor(w, "t", (tq_type)99, 1, good, &err), TOQUE_EINVAL);
    assert_int_equal(tq_gguf_put_tensor(w, "t", TQ_F32, 1, good, &err), TOQUE_OK);
    assert_int_equal(tq_gguf_put_tensor(w, "t", TQ_F32, 1, good, &err), TOQUE_EINVAL);
    char data[128] = {0};
    assert_int_equal(tq_gguf_write_data(w, data, 127, &err), TOQUE_EINVAL);
    assert_int_equal(tq_gguf_writer_commit(w, &err), TOQUE_EINVAL); /* t has no data */
    assert_false(tq_path_exists(path));
    assert_int_equal(tq_gguf_writer_new(&w, &mem, path, &err), TOQUE_OK);
    assert_int_equal(tq_gguf_put_tensor(w, "t", TQ_F32, 1, good, &err), TOQUE_OK);
    assert_int_equal(tq_gguf_write_data(w, data, 128, &err), TOQUE_OK);
    assert_int_equal(tq_gguf_put_u32(w, "late", 1, &err), TOQUE_EINVAL);
    assert_int_equal(tq_gguf_write_data(w, data, 128, &err), TOQUE_EINVAL);
    tq_gguf_writer_abort(w);
    assert_false(tq_path_exists(path));
    assert_int_equal(mem.used, 0);
}

static void a_file_without_tensors_is_written_and_read(void **state) {
    (void)state;
    toque_error err;
    tq_gguf_writer *w;
    tq_gguf *g;
    const char *path = in_folder("vocab.gguf");
    assert_int_equal(tq_gguf_writer_new(&w, &mem, path, &err), TOQUE_OK);
    assert_int_equal(tq_gguf_put_str(w, "name", "x", 1, &err), TOQUE_OK);
    assert_int_equal(tq_gguf_writer_commit(w, &err), TOQUE_OK);
    assert_int_equal(tq_gguf_open(&g, &mem, path, &err), TOQUE_OK);
    assert_int_equal(tq_gguf_n_tensors(g), 0);
    tq_gguf_close(g);
    assert_int_equal(mem.used, 0);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    toque_error err;
    toque_status status = TOQUE_ENOMEM;
    int rounds = 0;
    for (unsigned long long n = 1; status != TOQUE_OK; n++, rounds++) {
        tq_mem m = {.fail_at = n};
        write_sample(&m, &status, &err);
        assert_true(status == TOQUE_OK || status == TOQUE_ENOMEM);
        assert_int_equal(m.used, 0);
    }
    assert_true(rounds > 10);
    const char *path = in_folder("sample.gguf");
    status = TOQUE_ENOMEM;
    rounds = 0;
    for (unsigned long long n = 1; status != TOQUE_OK; n++, rounds++) {
        tq_mem m = {.fail_at = n};
        tq_gguf *g;
        status = tq_gguf_open(&g, &m, path, &err);
        assert_true(status == TOQUE_OK || status == TOQUE_ENOMEM);
        assert_true((g != NULL) == (status == TOQUE_OK));
        tq_gguf_close(g);
        assert_int_equal(m.used, 0);
    }
    assert_true(rounds > 5);
}

static void a_large_vocabulary_opens_fast(void **state) {
    (void)state;
    enum { N = 150000 };
    tq_string *s = calloc(N, sizeof *s);
    char(*text)[12] = calloc(N, sizeof *text);
    assert_true(s && text);
    for (int i = 0; i < N; i++) s[i] = (tq_string){text[i], (size_t)snprintf(text[i], sizeof text[i], "tok%d", i)};
    toque_error err;
    tq_gguf_writer *w;
    tq_gguf *g;
    const char *path = in_folder("large.gguf");
    assert_int_equal(tq_gguf_writer_new(&w, &mem, path, &err), TOQUE_OK);
    assert_int_equal(tq_gguf_put_strings(w, "tokens", s, N, &err), TOQUE_OK);
    assert_int_equal(tq_gguf_writer_commit(w, &err), TOQUE_OK);
    double best = 1;
    for (int i = 0; i < 5; i++) {
        double t = tq_now();
        assert_int_equal(tq_gguf_open(&g, &mem, path, &err), TOQUE_OK);
        t = tq_now() - t;
        if (t < best) best = t;
        assert_int_equal(tq_gguf_find(g, "tokens")->count, N);
        tq_gguf_close(g);
    }
    assert_true(best < 0.05); /* about 1 ms; the margin is for sanitizers and busy machines */
    free(s);
    free(text);
    assert_int_equal(mem.used, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(typed_reads_leave_absent_keys_alone_and_refuse_other_types),
        cmocka_unit_test(integers_of_every_width_are_read_when_they_fit),
        cmocka_unit_test(floats_must_be_finite_and_bools_zero_or_one),
        cmocka_unit_test(a_copy_of_all_values_is_the_same_file),
        cmocka_unit_test(the_writer_refuses_what_no_reader_would_take),
        cmocka_unit_test(a_file_without_tensors_is_written_and_read),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(a_large_vocabulary_opens_fast),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
