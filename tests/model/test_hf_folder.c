/* Hugging Face folders against the GGUF file that they were made from (small random weights): the same bits, the
 * weights' types kept, and settings and tensors that do not fit refused by name. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "../train/small_model.h"
#include "hf_folder.h"
#include "model/machine.h"

#define PRE "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}"
enum { N = 24 };

static char dir[64], gguf_path[128], folder[128];
static tq_ctx *ctx;
static toque_error err;

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        if ((call) != TOQUE_OK) fail_msg("%s", err.message);                                                           \
    } while (0)

static int begin(void **state) {
    (void)state;
    if (!small_folder(dir) || tq_ctx_new(&ctx, 2, 0, "f32", &err) != TOQUE_OK) return -1;
    snprintf(gguf_path, sizeof gguf_path, "%s/model.gguf", dir);
    snprintf(folder, sizeof folder, "%s/hf", dir);
    return small_model_write(gguf_path) && tq_make_dirs(&ctx->mem, folder, &err) == TOQUE_OK ? 0 : -1;
}

static int end(void **state) {
    (void)state;
    size_t used = atomic_load(&ctx->mem.used);
    tq_ctx *idle;
    if (tq_ctx_new(&idle, 2, 0, "f32", &err) != TOQUE_OK) return -1;
    size_t base = atomic_load(&idle->mem.used);
    tq_ctx_free(idle);
    tq_ctx_free(ctx);
    small_remove(dir);
    return used == base ? 0 : -1;
}

static tq_model *open_model(const char *path) {
    tq_model *m;
    OK(tq_model_open(&m, ctx, path, &err));
    return m;
}

static void write_folder(tq_type type) {
    tq_model *m = open_model(gguf_path);
    assert_true(hf_folder_write(m, folder, type, PRE));
    tq_model_close(m);
}

static void score(tq_model *model, float *logp) {
    tq_machine *m;
    tq_plan plan = {.max_rows = N};
    OK(tq_machine_new(&m, model, &plan, &err));
    int32_t ids[N];
    tq_target targets[N];
    for (int i = 0; i < N; i++) {
        ids[i] = (i * 37 + 11) % 200;
        targets[i] = (tq_target){i, (i * 53 + 7) % 200};
    }
    tq_segment seg = {.n = N};
    tq_pass pass = {.kind = TQ_PASS_PREFILL, .tokens = ids, .T = N, .segments = &seg, .n_segments = 1};
    OK(tq_machine_forward(m, &pass, &err));
    tq_machine_logp(m, targets, N, NULL, logp);
    tq_machine_free(m);
}

static void a_folder_gives_the_bits_of_its_gguf_file(void **state) {
    (void)state;
    write_folder(TQ_F32);
    tq_model *a = open_model(gguf_path), *b = open_model(folder);
    float x[N], y[N];
    score(a, x);
    score(b, y);
    assert_memory_equal(x, y, sizeof x);
    assert_int_equal(tq_tokenizer_size(a->tokenizer), tq_tokenizer_size(b->tokenizer));
    assert_int_equal(tq_tokenizer_eos(a->tokenizer), tq_tokenizer_eos(b->tokenizer));
    assert_string_equal(a->template_source, b->template_source);
    assert_int_equal(strlen(tq_model_hash(b)), 64);
    tq_model_close(a);
    tq_model_close(b);
}

/* Half types are used as they are: the same numbers written as F32 give the same bits. */
static void weights_keep_their_type(void **state) {
    (void)state;
    static const tq_type types[] = {TQ_F16, TQ_BF16};
    char wide[160];
    snprintf(wide, sizeof wide, "%s/wide", dir);
    OK(tq_make_dirs(&ctx->mem, wide, &err));
    for (int i = 0; i < 2; i++) {
        float x[N], y[N];
        write_folder(types[i]);
        tq_model *half = open_model(folder);
        assert_int_equal(half->weights[1][TQ_ROLE_K].type, types[i]);
        assert_int_equal(half->embedding.type, types[i]);
        assert_true(hf_folder_write(half, wide, TQ_F32, PRE));
        tq_model *same = open_model(wide);
        score(half, x);
        score(same, y);
        assert_memory_equal(x, y, sizeof x);
        tq_model_close(half);
        tq_model_close(same);
    }
}

/* config.json with another value of a key (NULL: without it) fails and says `expected`. */
static void refuses(const char *key, const char *value, const char *expected) {
    char path[160];
    snprintf(path, sizeof path, "%s/config.json", folder);
    write_folder(TQ_F32);
    json_t *o = json_load_file(path, 0, NULL);
    assert_non_null(o);
    if (value)
        assert_int_equal(json_object_set_new(o, key, json_loads(value, JSON_DECODE_ANY, NULL)), 0);
    else
        json_object_del(o, key);
    assert_int_equal(json_dump_file(o, path, 0), 0);
    json_decref(o);
    tq_model *m;
    toque_status status = tq_model_open(&m, ctx, folder, &err);
    if (status == TOQUE_OK) fail_msg("%s = %s was accepted", key, value ? value : "(none)");
    if (!strstr(err.message, expected)) fail_msg("'%s' does not say '%s'", err.message, expected);
}

static void settings_that_change_the_model_are_refused_by_name(void **state) {
    (void)state;
    refuses("model_type", "\"mamba\"", "mamba");
    refuses("model_type", NULL, "model_type");
    refuses("hidden_size", NULL, "hidden_size");
    refuses("hidden_size", "33", "32");
    refuses("hidden_size", "1e300", "hidden_size");
    refuses("num_hidden_layers", "3", "missing");
    refuses("num_hidden_layers", "1", "parts");
    refuses("num_hidden_layers", "-1", "num_hidden_layers");
    refuses("num_key_value_heads", "3", "multiple");
    refuses("hidden_act", "\"relu\"", "relu");
    refuses("attention_bias", "true", "attention_bias");
    refuses("mlp_bias", "true", "mlp_bias");
    refuses("tie_word_embeddings", "false", "lm_head");
    refuses("rope_scaling", "{\"rope_type\":\"yarn\",\"factor\":4}", "yarn");
    refuses("rope_scaling", "{\"rope_type\":\"linear\",\"factor\":-4}", "factor");
    refuses("rope_scaling", "{\"rope_type\":\"llama3\",\"factor\":8}", "llama3");
    refuses("partial_rotary_factor", "0.5", "partial_rotary_factor");
    refuses("quantization_config", "{\"bits\":4}", "quantization_config");
    refuses("num_local_experts", "8", "num_local_experts");
    refuses("attn_logit_softcapping", "50", "attn_logit_softcapping");
    refuses("text_config", "{}", "several kinds");
    refuses("layer_types", "[\"linear_attention\"]", "layer_types");
}

static void scaled_rotary_frequencies_are_read(void **state) {
    (void)state;
    char path[160];
    snprintf(path, sizeof path, "%s/config.json", folder);
    write_folder(TQ_F32);
    json_t *o = json_load_file(path, 0, NULL);
    json_object_set_new(o, "rope_scaling",
                        json_pack("{s:s, s:f, s:f, s:f, s:i}", "rope_type", "llama3", "factor", 8.0, "low_freq_factor",
                                  1.0, "high_freq_factor", 4.0, "original_max_position_embeddings", 64));
    assert_int_equal(json_dump_file(o, path, 0), 0);
    json_decref(o);
    tq_model *m = open_model(folder);
    /* Wave lengths 6.3, 62.8, 628 and 6283 of a context of 64: 64 / 6.28 is above 4, 64 / 62.8 = 1.0186 just above 1.
     */
    const double part = (64 / (2 * 3.14159265358979 * 10) - 1) / 3;
    const double expected[] = {1, 1 / ((1 - part) / 8 + part), 8, 8};
    for (int i = 0; i < 4; i++) assert_true(fabs((double)m->config.rope_freqs[i] - expected[i]) < 1e-5);
    tq_model_close(m);
}

static void missing_files_are_named(void **state) {
    (void)state;
    static const char *const names[] = {"config.json", "tokenizer.json", "model.safetensors"};
    for (int i = 0; i < 3; i++) {
        char path[160];
        write_folder(TQ_F32);
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
        tq_model *m;
        assert_int_not_equal(tq_model_open(&m, ctx, folder, &err), TOQUE_OK);
        assert_non_null(strstr(err.message, names[i]));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_gives_the_bits_of_its_gguf_file),
        cmocka_unit_test(weights_keep_their_type),
        cmocka_unit_test(settings_that_change_the_model_are_refused_by_name),
        cmocka_unit_test(scaled_rotary_frequencies_are_read),
        cmocka_unit_test(missing_files_are_named),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
