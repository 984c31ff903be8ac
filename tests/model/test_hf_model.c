/* The real model (TOQUE_TEST_MODEL) as a Hugging Face folder with its weights in F32: the log-probabilities of
 * transformers to 1e-3, the ids of the GGUF file's tokenizer, the same chat template. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../train/small_model.h"
#include "hf_folder.h"
#include "model/machine.h"

/* SmolLM2's: digits alone, then GPT-2's words over bytes. */
#define PRE                                                                                                            \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":true},"                      \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}]}"
enum { N = 100 };

static const char *logprobs_path, *unicode_path;
static char dir[64];
static tq_ctx *ctx;
static tq_model *gguf, *folder;
static toque_error err;

static int begin(void **state) {
    (void)state;
    const char *path = getenv("TOQUE_TEST_MODEL");
    if (!path) return -1;
    bool ok = small_folder(dir) && tq_ctx_new(&ctx, 0, 0, "f32", &err) == TOQUE_OK &&
              tq_model_open(&gguf, ctx, path, &err) == TOQUE_OK && hf_folder_write(gguf, dir, TQ_F32, PRE) &&
              tq_model_open(&folder, ctx, dir, &err) == TOQUE_OK;
    if (!ok) fprintf(stderr, "%s\n", err.message);
    return ok ? 0 : -1;
}

static int end(void **state) {
    (void)state;
    tq_model_close(folder);
    tq_model_close(gguf);
    tq_ctx_free(ctx);
    small_remove(dir);
    return 0;
}

static void log_probs_agree_with_transformers(void **state) {
    (void)state;
    int32_t ids[N];
    float expected[N], logp[N];
    tq_target targets[N - 1];
    FILE *f = fopen(logprobs_path, "r");
    assert_non_null(f);
    for (int i = 0; i < N; i++) assert_int_equal(fscanf(f, "%d %f", &ids[i], &expected[i]), 2);
    fclose(f);
    for (int i = 0; i < N - 1; i++) targets[i] = (tq_target){i, ids[i + 1]};
    tq_machine *m;
    tq_plan plan = {.max_rows = N};
    assert_int_equal(tq_machine_new(&m, folder, &plan, &err), TOQUE_OK);
    tq_segment seg = {.n = N};
    tq_pass pass = {.kind = TQ_PASS_PREFILL, .tokens = ids, .T = N, .segments = &seg, .n_segments = 1};
    assert_int_equal(tq_machine_forward(m, &pass, &err), TOQUE_OK);
    tq_machine_logp(m, targets, N - 1, NULL, logp);
    double worst = 0;
    for (int i = 0; i < N - 1; i++) worst = fmax(worst, fabs((double)logp[i] - (double)expected[i + 1]));
    print_message("largest difference of a log-probability: %.2g\n", worst);
    assert_true(worst < 1e-3);
    tq_machine_free(m);
}

static void ids_are_those_of_the_gguf_file(void **state) {
    (void)state;
    static char line[16384], text[4096];
    FILE *f = fopen(unicode_path, "r");
    assert_non_null(f);
    int lines = 0;
    for (; fgets(line, sizeof line, f); lines++) {
        size_t n = strcspn(line + 2, " \n") / 2;
        for (size_t i = 0; i < n; i++) {
            char two[3] = {line[2 + 2 * i], line[3 + 2 * i], 0};
            text[i] = (char)strtoul(two, NULL, 16);
        }
        tq_tokens a = {.mem = &ctx->mem}, b = {.mem = &ctx->mem};
        assert_int_equal(tq_tokenize(gguf->tokenizer, text, n, false, line[0] == 'S', &a, &err), TOQUE_OK);
        assert_int_equal(tq_tokenize(folder->tokenizer, text, n, false, line[0] == 'S', &b, &err), TOQUE_OK);
        assert_int_equal(a.len, b.len);
        for (size_t i = 0; i < a.len; i++) assert_int_equal(a.ids[i], b.ids[i]);
        tq_tokens_clear(&a);
        tq_tokens_clear(&b);
    }
    fclose(f);
    assert_int_equal(lines, 360);
}

static void the_template_and_its_end_are_the_same(void **state) {
    (void)state;
    assert_string_equal(gguf->template_source, folder->template_source);
    tq_token eos = tq_tokenizer_eos(folder->tokenizer);
    assert_int_equal(eos, tq_tokenizer_eos(gguf->tokenizer));
    assert_true(tq_tokenizer_is_end(folder->tokenizer, eos));
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    logprobs_path = argv[1];
    unicode_path = argv[2];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log_probs_agree_with_transformers),
        cmocka_unit_test(ids_are_those_of_the_gguf_file),
        cmocka_unit_test(the_template_and_its_end_are_the_same),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
