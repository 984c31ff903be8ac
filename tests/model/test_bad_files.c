/* Files that a model or an adapter cannot be made of: wrong architecture, shapes that contradict each other, cut and
 * flipped bytes, adapters of other bases, and a lack of memory while opening. Each gets one error that names the file.
 */
#include "../infer/small.h"

#include "files/safetensors.h"
#include "model/adapter.h"

typedef struct bytes {
    char *data;
    size_t n;
    char path[128];
} bytes;

static void read_bytes(small *s, bytes *b, const char *name) {
    tq_mem mem = {0};
    char *data;
    snprintf(b->path, sizeof b->path, "%s/%s", s->folder, name);
    OK(s, tq_read_file(&data, &b->n, &mem, b->path, 1 << 26, &s->err));
    b->data = malloc(b->n);
    memcpy(b->data, data, b->n);
    tq_free(&mem, data);
}

static void write_bytes(small *s, const bytes *b, size_t n) {
    tq_mem mem = {0};
    OK(s, tq_write_file(&mem, b->path, b->data, n, &s->err));
}

/* --- models ------------------------------------------------------------------------------------------------ */

/* Where a GGUF key's value begins: behind the key's text and four bytes of type. */
static char *value_of(const bytes *b, const char *key) {
    char *at = memmem(b->data, b->n, key, strlen(key));
    assert_non_null(at);
    return at + strlen(key) + 4;
}

static void put_number(const bytes *b, const char *key, uint32_t value) {
    memcpy(value_of(b, key), &value, sizeof value);
}

static void refuse_model(small *s, const bytes *b, toque_status want, const char *words) {
    tq_model *model;
    size_t before = s->ctx->mem.used;
    write_bytes(s, b, b->n);
    toque_status status = tq_model_open(&model, s->ctx, b->path, &s->err);
    if (status != want || !strstr(s->err.message, words) || !strstr(s->err.message, b->path))
        fail_msg("status %d, \"%s\"; expected %d with \"%s\"", (int)status, s->err.message, (int)want, words);
    assert_null(model);
    assert_int_equal(s->ctx->mem.used, before);
}

static void a_model_must_be_of_a_known_shape(void **state) {
    small *s = *state;
    static const struct {
        const char *key;
        uint32_t value;
        const char *key2;
        uint32_t value2;
        const char *words;
    } cases[] = {
        {"llama.block_count", 3, NULL, 0, "blk.2."},
        {"llama.block_count", 0, NULL, 0, "llama.block_count is 0, expected a number from 1"},
        {"llama.embedding_length", 4096, NULL, 0, "attention.key_length is 1024, expected a number from 2 to 512"},
        {"llama.embedding_length", 4100, "llama.attention.head_count_kv", 1, "key_length is 1025"},
        {"llama.embedding_length", 64, NULL, 0, "token_embd.weight"},
        {"llama.attention.head_count_kv", 3, NULL, 0, "4 query heads are not a multiple of 3"},
        {"llama.attention.head_count_kv", 1, NULL, 0, "blk.0.attn_k.weight"},
        {"llama.feed_forward_length", 65, NULL, 0, "blk.0.ffn_"},
        {"llama.context_length", 0, NULL, 0, "context_length is 0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bytes b;
        read_bytes(s, &b, "m.gguf");
        strcat(b.path, ".bad");
        put_number(&b, cases[i].key, cases[i].value);
        if (cases[i].key2) put_number(&b, cases[i].key2, cases[i].value2);
        refuse_model(s, &b, TOQUE_EFORMAT, cases[i].words);
        free(b.data);
    }
    bytes b;
    read_bytes(s, &b, "m.gguf");
    strcat(b.path, ".bad");
    memcpy(value_of(&b, "general.architecture") + 8, "lxama", 5);
    refuse_model(s, &b, TOQUE_EUNSUPPORTED, "architecture 'lxama' is not supported (known: llama");
    free(b.data);
}

static void a_cut_model_is_refused_wherever_it_ends(void **state) {
    small *s = *state;
    bytes b;
    tq_model *model;
    read_bytes(s, &b, "m.gguf");
    strcat(b.path, ".cut");
    for (size_t n = 0; n < b.n; n += n < 400 ? 1 : b.n / 97) {
        write_bytes(s, &b, n);
        toque_status status = tq_model_open(&model, s->ctx, b.path, &s->err);
        if (status == TOQUE_OK || !strstr(s->err.message, b.path))
            fail_msg("%zu of %zu bytes: status %d, %s", n, b.n, (int)status, s->err.message);
    }
    free(b.data);
}

/* A bit in a weight is another model; a bit in the tables may be, but what opens must also run. */
static void a_flipped_bit_is_an_error_or_another_model(void **state) {
    small *s = *state;
    bytes b;
    tq_rng rng;
    int opened = 0, refused = 0;
    read_bytes(s, &b, "m.gguf");
    strcat(b.path, ".flip");
    tq_rng_init(&rng, 4, TQ_RNG_SAMPLE, 0, 0);
    for (int i = 0; i < 300; i++) {
        size_t at = tq_rng_below(&rng, (uint32_t)(i % 3 ? 900 : b.n)), before = s->ctx->mem.used;
        char bit = (char)(1 << tq_rng_below(&rng, 8));
        b.data[at] ^= bit;
        write_bytes(s, &b, b.n);
        tq_model *model;
        if (tq_model_open(&model, s->ctx, b.path, &s->err) == TOQUE_OK) {
            tq_tokens list = {.mem = &s->ctx->mem};
            tq_adapter *a;
            tq_adapter_options o = {.kind = "lora", .rank = 2, .alpha = 2, .targets = "all"};
            if (tq_tokenize(model->tokenizer, "a word", 6, true, true, &list, &s->err) == TOQUE_OK) opened++;
            if (tq_adapter_new(&a, model, &o, &s->err) == TOQUE_OK) tq_adapter_free(a);
            tq_tokens_clear(&list);
            tq_model_close(model);
        } else {
            if (!strstr(s->err.message, b.path)) fail_msg("byte %zu: %s", at, s->err.message);
            refused++;
        }
        assert_int_equal(s->ctx->mem.used, before);
        b.data[at] ^= bit;
    }
    assert_true(opened > 20 && refused > 20);
    free(b.data);
}

static void no_memory_while_a_model_opens_is_returned(void **state) {
    small *s = *state;
    tq_mem *mem = &s->ctx->mem;
    size_t before = mem->used;
    char path[128];
    snprintf(path, sizeof path, "%s/m.gguf", s->folder);
    unsigned n = 1;
    for (;; n++) {
        tq_model *model;
        mem->fail_at = mem->calls + n;
        toque_status status = tq_model_open(&model, s->ctx, path, &s->err);
        mem->fail_at = 0;
        if (status == TOQUE_OK) tq_model_close(model);
        assert_int_equal(mem->used, before);
        if (status == TOQUE_OK) break;
        assert_int_equal(status, TOQUE_ENOMEM);
        assert_null(model);
    }
    assert_true(n > 20);
}

/* --- adapters ---------------------------------------------------------------------------------------------- */

static char logged[1024];

static void remember(void *arg, tq_level level, const char *line) {
    (void)arg;
    if (level == TQ_WARNING) snprintf(logged, sizeof logged, "%s", line);
}

static void save_hat(small *s, const char *name, char dir[128]) {
    tq_mem mem = {0};
    tq_adapter *a;
    tq_adapter_options o = {.kind = "lora", .rank = 2, .alpha = 4, .targets = "q_proj,v_proj", .seed = 1};
    snprintf(dir, 128, "%s/%s", s->folder, name);
    OK(s, tq_make_dirs(&mem, dir, &s->err));
    OK(s, tq_adapter_new(&a, s->model, &o, &s->err));
    OK(s, tq_adapter_save(a, dir, NULL, &s->err));
    tq_adapter_free(a);
}

static void refuse_hat(small *s, const char *dir, toque_status want, const char *words) {
    tq_adapter *a;
    size_t before = s->ctx->mem.used;
    toque_status status = tq_adapter_load(&a, s->model, dir, &s->err);
    if (status != want || !strstr(s->err.message, words) || !strstr(s->err.message, dir))
        fail_msg("status %d, \"%s\"; expected %d with \"%s\"", (int)status, s->err.message, (int)want, words);
    assert_null(a);
    assert_int_equal(s->ctx->mem.used, before);
}

/* adapter_config.json with one setting more or another. */
static void a_setting_that_cannot_be_worn_is_named(void **state) {
    small *s = *state;
    static const struct {
        const char *key, *value;
        toque_status status;
        const char *words;
    } cases[] = {
        {"peft_type", "\"ADALORA\"", TOQUE_EUNSUPPORTED, "peft_type 'ADALORA' is not supported"},
        {"peft_type", "null", TOQUE_EUNSUPPORTED, "peft_type '(none)'"},
        {"fan_in_fan_out", "true", TOQUE_EUNSUPPORTED, "'fan_in_fan_out' is set"},
        {"layers_to_transform", "[0]", TOQUE_EUNSUPPORTED, "'layers_to_transform' is set"},
        {"bias", "\"all\"", TOQUE_EUNSUPPORTED, "bias 'all'"},
        {"r", "0", TOQUE_EFORMAT, "r from 1 to 65536"},
        {"r", "\"2\"", TOQUE_EFORMAT, "r from 1 to 65536"},
        {"r", "3", TOQUE_EFORMAT, "made for another model"},
        {"lora_alpha", "null", TOQUE_EFORMAT, "lora_alpha must be"},
        {"target_modules", "[\"q_proj\", \"nonsense\"]", TOQUE_EINVAL, "nonsense"},
        {"target_modules", "[3]", TOQUE_EFORMAT, "target_modules must be a list of names"},
        {"target_modules", "[\"q_proj\", \"v_proj\", \"k_proj\"]", TOQUE_EFORMAT, "is missing"},
        {"target_modules", "[\"q_proj\"]", TOQUE_EUNSUPPORTED, "the others cannot be worn"},
    };
    char dir[128], path[160];
    tq_mem mem = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        save_hat(s, "set", dir);
        snprintf(path, sizeof path, "%s/adapter_config.json", dir);
        json_t *o = json_load_file(path, 0, NULL);
        json_object_set_new(o, cases[i].key, json_loads(cases[i].value, JSON_DECODE_ANY, NULL));
        char *text = json_dumps(o, 0);
        OK(s, tq_write_file(&mem, path, text, strlen(text), &s->err));
        free(text);
        json_decref(o);
        refuse_hat(s, dir, cases[i].status, cases[i].words);
    }
    OK(s, tq_write_file(&mem, path, "{\n\"r\": 3,\n oops}", 16, &s->err));
    refuse_hat(s, dir, TOQUE_EFORMAT, "line 3");
    OK(s, tq_write_file(&mem, path, "[]", 2, &s->err));
    refuse_hat(s, dir, TOQUE_EFORMAT, "expected an object");
    assert_int_equal(remove(path), 0);
    refuse_hat(s, dir, TOQUE_ENOTFOUND, "adapter_config.json");
}

static void broken_tensors_are_refused(void **state) {
    small *s = *state;
    char dir[128];
    bytes b;
    tq_adapter *a;
    save_hat(s, "broken", dir);
    read_bytes(s, &b, "broken/adapter_model.safetensors");
    for (size_t n = 0; n < b.n; n += n < 300 ? 1 : b.n / 50) {
        write_bytes(s, &b, n);
        toque_status status = tq_adapter_load(&a, s->model, dir, &s->err);
        if (status == TOQUE_OK || !strstr(s->err.message, b.path))
            fail_msg("%zu of %zu bytes: status %d, %s", n, b.n, (int)status, s->err.message);
    }
    for (size_t at = 0; at < b.n; at += at < 2000 ? 3 : 97) { /* what loads may differ, but never crashes */
        b.data[at] ^= 0x10;
        write_bytes(s, &b, b.n);
        if (tq_adapter_load(&a, s->model, dir, &s->err) == TOQUE_OK) tq_adapter_free(a);
        b.data[at] ^= 0x10;
    }
    const float nan = NAN;
    memcpy(b.data + b.n - sizeof nan, &nan, sizeof nan);
    write_bytes(s, &b, b.n);
    refuse_hat(s, dir, TOQUE_ENONFINITE, "not finite");
    free(b.data);
}

static void the_base_of_an_adapter_matters(void **state) {
    small *s = *state;
    char dir[128], path[160];
    tq_adapter *a;
    tq_model *other;
    save_hat(s, "worn", dir);
    s->ctx->log = remember;
    logged[0] = 0;
    OK(s, tq_adapter_load(&a, s->model, dir, &s->err));
    assert_string_equal(logged, ""); /* its own base: nothing to say */
    tq_adapter_free(a);
    /* The same shapes, other weights: a warning that names both. */
    bytes b;
    read_bytes(s, &b, "m.gguf");
    strcat(b.path, ".other");
    b.data[b.n - 1] ^= 1;
    write_bytes(s, &b, b.n);
    OK(s, tq_model_open(&other, s->ctx, b.path, &s->err));
    OK(s, tq_adapter_load(&a, other, dir, &s->err));
    char words[64];
    snprintf(words, sizeof words, "base with hash %.12s; this model is ", tq_model_hash(s->model));
    if (!strstr(logged, words)) fail_msg("%s", logged);
    snprintf(words, sizeof words, "this model is %.12s", tq_model_hash(other));
    if (!strstr(logged, words) || !strstr(logged, dir)) fail_msg("%s", logged);
    tq_adapter_free(a);
    tq_model_close(other);
    /* Other shapes: an error that names the tensor. */
    s->ctx->log = NULL;
    const float wrong[6] = {0};
    const char *name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    tq_save_tensor t = {.name = name, .type = TQ_F32, .n_dims = 2, .dims = {2, 3}, .data = wrong};
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", dir);
    tq_mem mem = {0};
    OK(s, tq_safetensors_save(&mem, path, &t, 1, NULL, 0, &s->err));
    refuse_hat(s, dir, TOQUE_EFORMAT, "is 2 x 3, but this model and rank want 2 x 32");
    free(b.data);
}

static void no_memory_for_an_adapter_is_returned(void **state) {
    small *s = *state;
    tq_mem *mem = &s->ctx->mem;
    char dir[128];
    save_hat(s, "memory", dir);
    assert_string_not_equal(tq_model_hash(s->model), ""); /* computed once, and kept */
    size_t before = mem->used;
    unsigned n = 1;
    for (;; n++) {
        tq_adapter *a = NULL;
        mem->fail_at = mem->calls + n;
        toque_status status = tq_adapter_load(&a, s->model, dir, &s->err);
        if (status == TOQUE_OK) status = tq_adapter_save(a, dir, NULL, &s->err);
        if (status == TOQUE_OK) status = tq_adapter_train(a, &s->err);
        mem->fail_at = 0;
        tq_adapter_free(a);
        assert_int_equal(mem->used, before);
        if (status == TOQUE_OK) break;
        assert_int_equal(status, TOQUE_ENOMEM);
    }
    assert_true(n > 15);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_must_be_of_a_known_shape),
        cmocka_unit_test(a_cut_model_is_refused_wherever_it_ends),
        cmocka_unit_test(a_flipped_bit_is_an_error_or_another_model),
        cmocka_unit_test(no_memory_while_a_model_opens_is_returned),
        cmocka_unit_test(a_setting_that_cannot_be_worn_is_named),
        cmocka_unit_test(broken_tensors_are_refused),
        cmocka_unit_test(the_base_of_an_adapter_matters),
        cmocka_unit_test(no_memory_for_an_adapter_is_returned),
    };
    return cmocka_run_group_tests(tests, small_open, small_close);
}
