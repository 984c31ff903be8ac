/* GGUF files that lie: every truncation, every flipped bit, and lies made by hand. */
#include "bytes.h"

#include "files/gguf.h"

/* What a file says; the defaults make a good one with one value and two F32 tensors of 8 elements. */
typedef struct plan {
    const char *magic;
    uint32_t version;
    uint64_t n_tensors, n_values;
    uint32_t alignment, alignment_type;
    const char *key, *name[2];
    uint32_t n_dims, type;
    uint64_t dims[5], offset[2];
    size_t data; /* bytes of data behind the padding */
} plan;

static plan good(void) {
    return (plan){.magic = "GGUF",
                  .version = 3,
                  .n_tensors = 2,
                  .n_values = 2,
                  .alignment = 32,
                  .alignment_type = TQ_GGUF_U32,
                  .key = "k",
                  .name = {"a", "b"},
                  .n_dims = 2,
                  .type = TQ_F32,
                  .dims = {4, 2, 1, 1, 1},
                  .offset = {0, 32},
                  .data = 64};
}

static tq_buf build(const plan *p) {
    tq_buf b = new_bytes();
    tq_buf_puts(&b, p->magic);
    put_u32(&b, p->version);
    put_u64(&b, p->n_tensors);
    put_u64(&b, p->n_values);
    put_text(&b, "general.alignment");
    put_u32(&b, p->alignment_type);
    put_u32(&b, p->alignment);
    put_text(&b, p->key);
    put_u32(&b, TQ_GGUF_ARRAY);
    put_u32(&b, TQ_GGUF_STRING);
    put_u64(&b, 2);
    put_text(&b, "one");
    put_text(&b, "");
    for (int i = 0; i < 2; i++) {
        put_text(&b, p->name[i]);
        put_u32(&b, p->n_dims);
        for (uint32_t d = 0; d < p->n_dims && d < 5; d++) put_u64(&b, p->dims[d]);
        put_u32(&b, p->type);
        put_u64(&b, p->offset[i]);
    }
    while (b.len % 32) tq_buf_putc(&b, 0);
    for (size_t i = 0; i < p->data; i++) tq_buf_putc(&b, (char)i);
    assert_false(b.failed);
    return b;
}

/* Touches everything that the reader hands out. */
static unsigned use(const tq_gguf *g) {
    unsigned sum = 0;
    for (size_t i = 0; i < tq_gguf_n_values(g); i++) {
        const tq_gguf_value *v = tq_gguf_value_at(g, i);
        for (size_t k = 0; k < v->key.len; k++) sum += (uint8_t)v->key.data[k];
        for (uint64_t k = 0; k < v->bytes; k++) sum += v->data[k];
        const uint8_t *at = v->data;
        tq_string s;
        while (tq_gguf_next_string(v, &at, &s)) sum += (unsigned)s.len;
        for (uint64_t k = 0; v->item != TQ_GGUF_STRING && k < v->count; k++) sum += tq_gguf_number_at(v, k) > 0;
    }
    for (size_t i = 0; i < tq_gguf_n_tensors(g); i++) {
        const tq_tensor *t = tq_gguf_tensor_at(g, i);
        assert_ptr_equal(tq_gguf_find_tensor(g, t->name), t);
        for (size_t k = 0; k < t->bytes; k++) sum += ((const uint8_t *)t->data)[k];
    }
    return sum;
}

static toque_status check_bytes(const void *data, size_t n, toque_error *err) {
    uint8_t *p = exact(data, n);
    tq_gguf *g;
    toque_status status = tq_gguf_open_memory(&g, &mem, p, n, "bytes", err);
    if (status == TOQUE_OK) {
        (void)use(g);
        tq_gguf_close(g);
    } else {
        assert_null(g);
        assert_int_equal(err->code, status);
        assert_memory_equal(err->message, "bytes: ", 7);
    }
    free(p);
    return status;
}

static toque_status check(const plan *p, toque_error *err) {
    tq_buf b = build(p);
    toque_status status = check_bytes(b.data, b.len, err);
    tq_buf_clear(&b);
    assert_int_equal(mem.used, 0);
    return status;
}

static void every_truncation_is_refused(void **state) {
    (void)state;
    toque_error err;
    plan p = good();
    tq_buf b = build(&p);
    assert_int_equal(check_bytes(b.data, b.len, &err), TOQUE_OK);
    for (size_t n = 0; n < b.len; n++) assert_int_equal(check_bytes(b.data, n, &err), TOQUE_EFORMAT);
    tq_buf_clear(&b);
    assert_int_equal(mem.used, 0);
}

static void a_flipped_bit_gives_an_error_or_a_file_that_holds(void **state) {
    (void)state;
    toque_error err;
    plan p = good();
    tq_buf b = build(&p);
    int ok = 0, refused = 0;
    for (size_t bit = 0; bit < b.len * 8; bit++) {
        b.data[bit / 8] ^= (char)(1 << bit % 8);
        *(check_bytes(b.data, b.len, &err) == TOQUE_OK ? &ok : &refused) += 1;
        b.data[bit / 8] ^= (char)(1 << bit % 8);
    }
    assert_true(ok >= 64 * 8); /* the data at least */
    assert_true(refused > 500);
    tq_buf_clear(&b);
    assert_int_equal(mem.used, 0);
}

static void foreign_files_are_named(void **state) {
    (void)state;
    toque_error err;
    plan p = good();
    p.magic = "ggjt";
    assert_int_equal(check(&p, &err), TOQUE_EFORMAT);
    assert_non_null(strstr(err.message, "67 67 6a 74"));
    p = good();
    p.version = 1;
    assert_int_equal(check(&p, &err), TOQUE_EUNSUPPORTED);
    assert_non_null(strstr(err.message, "version 1"));
    p.version = 4;
    assert_int_equal(check(&p, &err), TOQUE_EUNSUPPORTED);
    p.version = 0x03000000;
    assert_int_equal(check(&p, &err), TOQUE_EUNSUPPORTED);
    assert_non_null(strstr(err.message, "big-endian"));
    p.version = 2;
    assert_int_equal(check(&p, &err), TOQUE_OK);
}

static void false_counts_cost_no_memory(void **state) {
    (void)state;
    toque_error err;
    const uint64_t counts[] = {3, 1000, 1u << 20, 1ull << 32, 1ull << 61, UINT64_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        plan p = good();
        atomic_store(&mem.peak, 0);
        p.n_tensors = counts[i];
        assert_int_equal(check(&p, &err), TOQUE_EFORMAT);
        p = good();
        p.n_values = counts[i];
        assert_int_equal(check(&p, &err), TOQUE_EFORMAT);
        assert_true(mem.peak < 100000);
    }
}

static void names_must_be_unique_and_printable(void **state) {
    (void)state;
    toque_error err;
    plan p = good();
    p.name[1] = "a";
    assert_int_equal(check(&p, &err), TOQUE_EFORMAT);
    assert_non_null(strstr(err.message, "twice"));
    p = good();
    p.key = "general.alignment";
    assert_int_equal(check(&p, &err), TOQUE_EFORMAT);
    const char *bad[] = {"", "a\nb", "\x1b[2J"};
    for (int i = 0; i < 3; i++) {
        p = good();
        p.name[0] = bad[i];
        assert_int_equal(check(&p, &err), TOQUE_EFORMAT);
        p = good();
        p.key = bad[i];
        assert_int_equal(check(&p, &err), TOQUE_EFORMAT);
    }
}

static void shapes_must_be_possible(void **state) {
    (void)state;
    toque_error err;
    const uint64_t bad[] = {0, UINT64_MAX, 1ull << 63, 1ull << 62, 1ull << 61, 1ull << 40, 1000};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        for (int d = 0; d < 2; d++) {
            plan p = good();
            p.dims[d] = bad[i];
            assert_int_equal(check(&p, &err), TOQUE_EFORMAT);
        }
    plan p = good();
    p.n_dims = 5;
    assert_int_equal(check(&p, &err), TOQUE_EUNSUPPORTED);
    p.n_dims = UINT32_MAX;
    assert_int_equal(check(&p, &err), TOQUE_EUNSUPPORTED);
    p = good();
    p.type = TQ_Q4_1; /* rows of 4 elements */
    assert_int_equal(check(&p, &err), TOQUE_EFORMAT);
    assert_non_null(strstr(err.message, "multiple of 32"));
}

static void places_must_be_aligned_inside_and_apart(void **state) {
    (void)state;
    toque_error err;
    plan p = good();
    p.offset[1] = 16;
    assert_int_equal(check(&p, &err), TOQUE_EFORMAT);
    assert_non_null(strstr(err.message, "multiple of 32"));
    p.offset[1] = 0;
    assert_int_equal(check(&p, &err), TOQUE_EFORMAT);
    assert_non_null(strstr(err.message, "overlap"));
    p.offset[1] = 64;
    assert_int_equal(check(&p, &err), TOQUE_EFORMAT);
    assert_non_null(strstr(err.message, "cut short"));
    p.offset[1] = UINT64_MAX - 31;
    assert_int_equal(check(&p, &err), TOQUE_EFORMAT);
    p = good();
    p.offset[0] = 32, p.offset[1] = 0; /* any order is fine */
    assert_int_equal(check(&p, &err), TOQUE_OK);
    const uint32_t bad[] = {0, 3, 48, UINT32_MAX};
    for (int i = 0; i < 4; i++) {
        p = good();
        p.alignment = bad[i];
        assert_int_equal(check(&p, &err), TOQUE_EFORMAT);
    }
    p = good();
    p.alignment = 1u << 31;
    assert_int_equal(check(&p, &err), TOQUE_EFORMAT);
    p = good();
    p.alignment_type = TQ_GGUF_I32;
    assert_int_equal(check(&p, &err), TOQUE_EFORMAT);
}

static void unknown_tensor_types_are_listed_without_data(void **state) {
    (void)state;
    toque_error err;
    plan p = good();
    p.type = 1234567;
    tq_buf b = build(&p);
    tq_gguf *g;
    assert_int_equal(tq_gguf_open_memory(&g, &mem, (const uint8_t *)b.data, b.len, "x", &err), TOQUE_OK);
    const tq_tensor *t = tq_gguf_find_tensor(g, "a");
    assert_int_equal(t->type, 1234567);
    assert_int_equal(t->bytes, 0);
    assert_int_equal(t->cols, 4);
    assert_null(tq_type_get(t->type));
    tq_gguf_close(g);
    tq_buf_clear(&b);
}

/* A file with one value only: its payload, and what is expected. */
static void expect_payload(uint32_t type, const void *payload, size_t n, toque_status want) {
    toque_error err;
    tq_buf b = new_bytes();
    tq_buf_puts(&b, "GGUF");
    put_u32(&b, 3);
    put_u64(&b, 0);
    put_u64(&b, 1);
    put_text(&b, "key");
    put_u32(&b, type);
    tq_buf_put(&b, payload, n);
    assert_int_equal(check_bytes(b.data, b.len, &err), want);
    tq_buf_clear(&b);
}

static void arrays_and_strings_must_fit(void **state) {
    (void)state;
    struct {
        uint32_t item, pad;
    } item = {TQ_GGUF_ARRAY, 0};
    uint8_t payload[64] = {0};
    const uint64_t counts[] = {1, 1000, 1ull << 61, 1ull << 62, UINT64_MAX};
    for (uint32_t type = 0; type < 16; type++) {
        for (int i = 0; i < 5; i++) {
            item.item = type;
            memcpy(payload, &item.item, 4);
            memcpy(payload + 4, &counts[i], 8);
            toque_status want = type == TQ_GGUF_ARRAY ? TOQUE_EUNSUPPORTED : TOQUE_EFORMAT;
            if (i == 0 && type <= TQ_GGUF_F64 && type != TQ_GGUF_ARRAY) want = TOQUE_OK;
            expect_payload(TQ_GGUF_ARRAY, payload, 20, want);
        }
    }
    for (int i = 0; i < 5; i++) expect_payload(TQ_GGUF_STRING, &counts[i], 8, TOQUE_EFORMAT);
    expect_payload(13, payload, 64, TOQUE_EFORMAT);
    expect_payload(UINT32_MAX, payload, 64, TOQUE_EFORMAT);
    assert_int_equal(mem.used, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(a_flipped_bit_gives_an_error_or_a_file_that_holds),
        cmocka_unit_test(foreign_files_are_named),
        cmocka_unit_test(false_counts_cost_no_memory),
        cmocka_unit_test(names_must_be_unique_and_printable),
        cmocka_unit_test(shapes_must_be_possible),
        cmocka_unit_test(places_must_be_aligned_inside_and_apart),
        cmocka_unit_test(unknown_tensor_types_are_listed_without_data),
        cmocka_unit_test(arrays_and_strings_must_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
