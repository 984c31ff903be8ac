/* A whole run into its folder: what it leaves behind, and that a run which was killed, canceled or resumed gives the
 * bytes of one that never stopped. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tuning.h"

static char folder[64], data_path[128], other_path[128], eval_path[128];

static char *place(char out[128], const char *name) {
    snprintf(out, 128, "%s/%s", folder, name);
    return out;
}

static void finish(const char *dir, tq_run_mode mode, const char *const *flags, script *s, tq_progress_state *at) {
    toque_error err;
    if (tune(dir, mode, data_path, flags, s, at, &err) != TOQUE_OK) fail_msg("%s", err.message);
}

/* 20 rows, 4 of them held out: 4 steps an epoch, 8 in all. */
static void a_run_leaves_what_it_promises(void **state) {
    (void)state;
    char dir[128];
    tq_progress_state at;
    finish(place(dir, "whole"), TQ_RUN_NEW, usual, NULL, &at);
    assert_int_equal(at.step, 8);
    assert_int_equal(at.evaluated, 8);
    assert_true(at.best_eval < at.base_eval);
    size_t n;
    char *text = read_text(dir, "metrics.jsonl", &n);
    int steps = 0, evals = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        json_t *o = json_loads(line, 0, NULL);
        assert_non_null(o);
        if (json_object_get(o, "loss")) {
            steps++;
            assert_null(json_object_get(o, "eval_loss"));
            assert_int_equal(json_integer_value(json_object_get(o, "step")), steps);
            assert_true(json_number_value(json_object_get(o, "grad_norm")) > 0);
            assert_true(json_number_value(json_object_get(o, "tokens_per_second")) > 0);
            assert_true(json_integer_value(json_object_get(o, "target_tokens")) > 0);
            assert_true(json_integer_value(json_object_get(o, "tokens")) >
                        json_integer_value(json_object_get(o, "target_tokens")));
        } else {
            evals++;
            assert_true(json_number_value(json_object_get(o, "eval_loss")) > 0);
        }
        json_decref(o);
    }
    free(text);
    assert_int_equal(steps, 8);
    assert_int_equal(evals, 5); /* before, and after 2, 4, 6, 8 */
    text = read_text(dir, "recipe.yaml", &n);
    assert_non_null(strstr(text, "lr: 0.005\n"));
    assert_non_null(strstr(text, "alpha: 8\n")); /* resolved: 2 x rank */
    assert_non_null(strstr(text, "keep: best\n"));
    free(text);
    text = read_text(dir, "README.md", &n);
    assert_non_null(strstr(text, "held-out rows, best"));
    free(text);
    text = read_text(dir, "adapter_config.json", &n);
    assert_non_null(strstr(text, "\"peft_type\": \"LORA\""));
    free(text);
    toque_error err;
    assert_int_equal(tune(dir, TQ_RUN_NEW, data_path, usual, NULL, NULL, &err), TOQUE_EINVAL); /* it is there already */
    char again[128];
    finish(place(again, "again"), TQ_RUN_NEW, usual, NULL, NULL);
    assert_same_runs(dir, again);
    finish(again, TQ_RUN_RESUME, usual, NULL, NULL); /* a finished run is finished */
    assert_same_runs(dir, again);
    finish(again, TQ_RUN_OVERWRITE, usual, NULL, NULL);
    assert_same_runs(dir, again);
}

static void a_canceled_run_goes_on_to_the_same_bytes(void **state) {
    (void)state;
    char whole[128], dir[128];
    place(whole, "whole");
    place(dir, "canceled");
    toque_error err;
    int64_t before = 0;
    for (int64_t at = 1; at <= 8; at += at < 7 ? 2 : 1) { /* 8: the last step, whose evaluation is then still to come */
        script s = {.cancel_at = at};
        tq_progress_state stopped;
        assert_int_equal(tune(dir, at == 1 ? TQ_RUN_NEW : TQ_RUN_RESUME, data_path, usual, &s, &stopped, &err),
                         TOQUE_ECANCELED);
        assert_int_equal(stopped.step, at);
        assert_int_equal(s.steps, at - before); /* no step was made twice */
        before = at;
    }
    finish(dir, TQ_RUN_RESUME, usual, NULL, NULL);
    assert_same_runs(whole, dir);
}

static void a_killed_run_goes_on_to_the_same_bytes(void **state) {
    (void)state;
    char whole[128], dir[128];
    place(whole, "whole");
    place(dir, "killed");
    static const int64_t kill_at[] = {1, 3, 4, 8, 7}; /* before the first checkpoint, at one, behind one, at the end */
    for (size_t i = 0; i < sizeof kill_at / sizeof kill_at[0]; i++) {
        pid_t child = fork();
        if (child == 0) {
            toque_error err;
            script s = {.kill_at = kill_at[i]};
            (void)tune(dir, i == 0 ? TQ_RUN_NEW : TQ_RUN_RESUME, data_path, usual, &s, NULL, &err);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    finish(dir, TQ_RUN_RESUME, usual, NULL, NULL);
    assert_same_runs(whole, dir);
}

static void a_resumed_run_must_be_the_same_run(void **state) {
    (void)state;
    char dir[128];
    toque_error err;
    script s = {.cancel_at = 2};
    place(dir, "changed");
    assert_int_equal(tune(dir, TQ_RUN_NEW, data_path, usual, &s, NULL, &err), TOQUE_ECANCELED);
    const char *lr[] = {
        "--epochs",     "2", "--batch-size", "4",   "--rank",    "4",   "--lr", "4e-3", "--save-every", "3",
        "--eval-every", "2", "--eval-split", "0.2", "--dropout", "0.1", NULL};
    assert_int_equal(tune(dir, TQ_RUN_RESUME, data_path, lr, NULL, NULL, &err), TOQUE_EINVAL);
    assert_non_null(strstr(err.message, "lr was 0.005"));
    assert_int_equal(tune(dir, TQ_RUN_RESUME, other_path, usual, NULL, NULL, &err), TOQUE_EINVAL);
    assert_non_null(strstr(err.message, "data was"));
    finish(dir, TQ_RUN_RESUME, usual, NULL, NULL); /* refusals left it as it was */
    char whole[128];
    assert_same_runs(place(whole, "whole"), dir);
}

/* From here on this is another CPU: the portable row, or, where all tests run on that, the next. */
static const char *pretend_another_isa(char was[32]) {
    const char *now = getenv("TOQUE_ISA");
    snprintf(was, 32, "%s", now ? now : "");
    const char *other = strcmp(was, "ref") == 0 ? "avx2" : "ref";
    setenv("TOQUE_ISA", other, 1);
    return other;
}
static void pretend_no_more(const char *was) {
    if (*was)
        setenv("TOQUE_ISA", was, 1);
    else
        unsetenv("TOQUE_ISA");
}

static void a_resumed_run_must_be_on_the_same_machine(void **state) {
    (void)state;
    char dir[128], whole[128], now[32], was[32];
    toque_error err;
    script s = {.cancel_at = 3};
    place(dir, "moved");
    assert_int_equal(tune(dir, TQ_RUN_NEW, data_path, usual, &s, NULL, &err), TOQUE_ECANCELED);
    snprintf(now, sizeof now, "now it is %s", pretend_another_isa(was));
    assert_int_equal(tune(dir, TQ_RUN_RESUME, data_path, usual, NULL, NULL, &err), TOQUE_EINVAL);
    assert_non_null(strstr(err.message, "instruction set was "));
    assert_non_null(strstr(err.message, now));
    assert_non_null(strstr(err.message, "--other-machine"));
    pretend_no_more(was);
    finish(dir, TQ_RUN_RESUME, usual, NULL, NULL); /* the refusal left it as it was */
    assert_same_runs(place(whole, "whole"), dir);
    place(dir, "moved2");
    s = (script){.cancel_at = 3};
    assert_int_equal(tune(dir, TQ_RUN_NEW, data_path, usual, &s, NULL, &err), TOQUE_ECANCELED);
    pretend_another_isa(was);
    s = (script){.cancel_at = 5, .other_machine = true};
    assert_int_equal(tune(dir, TQ_RUN_RESUME, data_path, usual, &s, NULL, &err), TOQUE_ECANCELED);
    assert_int_equal(s.steps, 2);
    finish(dir, TQ_RUN_RESUME, usual, NULL, NULL); /* from here on it is a run of this machine */
    pretend_no_more(was);
}

static void patience_stops_and_keeps_the_best(void **state) {
    (void)state;
    char dir[128];
    tq_progress_state at;
    const char *flags[] = {"--epochs",     "40", "--batch-size", "4", "--rank",      "8",       "--lr", "5e-2",
                           "--eval-every", "2",  "--patience",   "2", "--eval-data", eval_path, NULL};
    finish(place(dir, "patience"), TQ_RUN_NEW, flags, NULL, &at);
    assert_true(at.stopped);
    assert_int_equal(at.worse, 2);
    assert_true(at.step < 40 * 5 && at.best_step == at.step - 4 && at.best_eval < at.last_eval);
    /* What was kept is what was best: evaluated again it gives the best loss. */
    request r;
    tq_ctx *ctx;
    toque_error err;
    tq_tune t;
    ask(&r, data_path, (const char *[]){"--init-adapter", dir, "--eval-data", eval_path, "--epochs", "1", NULL});
    assert_int_equal(tq_ctx_new(&ctx, 1, 0, "f32", &err), TOQUE_OK);
    if (tq_tune_open(&t, ctx, &r.recipe, &r.set, &err) != TOQUE_OK) fail_msg("%s", err.message);
    assert_int_equal(r.recipe.rank, 8);
    double loss;
    assert_int_equal(tq_trainer_evaluate(&t.trainer, &t.held_out, &loss, NULL, &err), TOQUE_OK);
    if (!(fabs(loss - at.best_eval) < 1e-6 * loss)) fail_msg("%g and %g", loss, at.best_eval);
    tq_tune_close(&t);
    tq_options_clear(&r.set);
    tq_ctx_free(ctx);
}

static void expect(const char *const *flags, toque_status want, const char *words) {
    toque_error err = {.message = ""};
    request r;
    tq_ctx *ctx;
    tq_tune t;
    ask(&r, data_path, flags);
    assert_int_equal(tq_ctx_new(&ctx, 1, 0, "f32", &err), TOQUE_OK);
    toque_status status = tq_tune_open(&t, ctx, &r.recipe, &r.set, &err);
    if (status != want || (want != TOQUE_OK && !strstr(err.message, words)))
        fail_msg("status %d (%s), expected %d with \"%s\"", (int)status, err.message, (int)want, words);
    tq_tune_close(&t);
    assert_int_equal(tq_pool_threads(ctx->pool), 1);
    tq_options_clear(&r.set);
    tq_ctx_free(ctx);
}
#define EXPECT(status, words, ...) expect((const char *[]){__VA_ARGS__, NULL}, TOQUE_##status, words)

static void what_does_not_exist_or_fit_is_refused_with_a_reason(void **state) {
    (void)state;
    char whole[128];
    place(whole, "whole"); /* rank 4, alpha 8 */
    EXPECT(EINVAL, "did you mean \"sft\"", "--objective", "sfx");
    EXPECT(EINVAL, "label_smoothing is not used by objective dft, only by: sft", "--objective", "dft",
           "--label-smoothing", "0.1");
    EXPECT(OK, "", "--label_smoothing_factor", "0.1");
    EXPECT(EINVAL, "did you mean \"freeze\"", "--method", "freezed");
    EXPECT(EINVAL, "rank is not used by method ia3, only by: lora, dora", "--method", "ia3", "--rank", "4");
    EXPECT(EINVAL, "targets is not used by method full", "--method", "full", "--targets", "q_proj");
    EXPECT(EINVAL, "train_layers is not used by method lora, only by: freeze", "--train-layers", "1");
    EXPECT(EINVAL, "leave one of them out", "--method", "freeze", "--train-layers", "1", "--train-pattern", "*.mlp.*");
    EXPECT(EINVAL, "train_layers is 3, but the model has 2 layers", "--method", "freeze", "--train-layers", "3");
    EXPECT(EINVAL, "nothing in this model matches '*.nose.*'", "--method", "freeze", "--train-pattern", "*.nose.*");
    EXPECT(EINVAL, "method norms", "--method", "bitfit"); /* no biases */
    EXPECT(EINVAL, "target 'q_porj' matches nothing in this model: there are q_proj, ", "--targets", "q_porj");
    EXPECT(EINVAL, "cycles is only used by scheduler cosine_restarts", "--cycles", "2");
    EXPECT(EINVAL, "decay is only used by scheduler wsd", "--decay", "0.5");
    EXPECT(EINVAL, "take more than the 2 steps", "--scheduler", "wsd", "--max-steps", "2", "--decay", "2");
    EXPECT(EINVAL, "init pissa is for plain LoRA", "--init", "pissa", "--rank-pattern", "q_proj=2");
    EXPECT(EINVAL, "init is not used by method dora, only by: lora", "--method", "dora", "--init", "pissa");
    EXPECT(EINVAL, "takes a share above 0 and up to 1", "--targets", "auto:2");
    EXPECT(EINVAL, "not for ia3", "--method", "ia3", "--targets", "auto:0.5");
    EXPECT(EINVAL, "raise the share", "--targets", "auto:0.001");
    EXPECT(EINVAL, "rank 17 is not possible for self_attn.k_proj, which is 16 x 32", "--rank", "17");
    EXPECT(EINVAL, "rank 99 is not possible for mlp.up_proj", "--rank-pattern", "up_proj=99");
    EXPECT(EINVAL, "'nose' matches none of the targets", "--rank-pattern", "nose=4");
    EXPECT(EINVAL, "needs a value above 0", "--alpha-pattern", "q_proj");
    EXPECT(EINVAL, "method is dora, but init_adapter", "--init-adapter", whole, "--method", "dora");
    EXPECT(EINVAL, "rank_pattern is supplied by init_adapter", "--init-adapter", whole, "--rank-pattern", "q_proj=2");
    EXPECT(EINVAL, "did you mean \"adamw\"", "--optimizer", "adam");
    EXPECT(EINVAL, "patience needs held-out rows", "--patience", "2", "--eval-split", "0");
    EXPECT(EINVAL, "keep best needs held-out rows", "--keep", "best", "--max-steps", "3");
    EXPECT(EINVAL, "mixing is for several data sets, but data names one", "--mixing", "equal");
    EXPECT(EINVAL, "mixing_temperature is only used by mixing temperature", "--mixing-temperature", "3");
    EXPECT(EINVAL, "leave order file out", "-d", other_path, "--mixing", "equal", "--order", "file");
    EXPECT(EINVAL, "data, item 2: path is missing", "-d", "{\"weight\": 2}");

    EXPECT(EINVAL, "patience needs evaluations", "--patience", "2", "--eval-every", "0");
    EXPECT(EINVAL, "leave one of the two out", "--eval-split", "0.1", "--eval-data", eval_path);
    EXPECT(EINVAL, "above the model's context of 256", "--max-length", "512");
    EXPECT(EINVAL, "epochs must be above 0", "--epochs", "0");
    EXPECT(EINVAL, "warmup 2.5", "--warmup", "2.5");
    EXPECT(EINVAL, "rank is 8, but init_adapter", "--init-adapter", whole, "--rank", "8");
    EXPECT(EINVAL, "targets are others than those of init_adapter", "--init-adapter", whole, "--targets", "q_proj");
    EXPECT(OK, "", "--init-adapter", whole, "--rank", "4", "--alpha", "8", "--targets", "all");
    EXPECT(OK, "", "--lora_r", "2", "--num_train_epochs", "1", "--per_device_train_batch_size", "2", "--learning_rate",
           "1e-3", "--optim", "adamw_torch", "--lora_target_modules", "q_proj,v_proj", "--val_set_size", "0.1");
}

/* Every row of every table: a run that is killed and goes on gives the bytes of one that never stopped, and its recipe
 * its own bytes again. */
static void every_choice_resumes_after_kill_to_the_same_bytes(void **state) {
    (void)state;
    static char weighted[200];
    snprintf(weighted, sizeof weighted, "{\"path\": \"%.128s\", \"weight\": 3, \"system\": \"So\"}", other_path);
    static const char *const choices[][8] = {
        {"--method", "dora", "--rank", "4", "--loraplus-lr-ratio", "4"},
        {"--rank", "4", "--rank-pattern", "q_proj=2", "--train-modules", "embed_tokens", "--rslora"},
        {"--method", "vera", "--rank", "8"},
        {"--method", "ia3", "--label-smoothing", "0.1"},
        {"--rank", "4", "--targets", "auto:0.3"},
        {"--init", "pissa", "--rank", "4", "--targets", "q_proj,down_proj"},
        {"--method", "full", "--save-dtype", "f16"},
        {"--method", "freeze", "--train-layers", "1"},
        {"--method", "freeze", "--train-pattern", "*.mlp.*"},
        {"--method", "norms"},
        {"--method", "prefix", "--virtual-tokens", "6"},
        {"--method", "prompt", "--prompt-init-text", "what is it?"},
        {"--optimizer", "adamw8bit", "--rank", "16", "--scheduler", "wsd", "--decay", "0.3"},
        {"--method", "full", "--optimizer", "adamw8bit", "--recompute", "off"},
        {"--method", "full", "--optimizer", "adamw8bit"},
        {"--method", "full", "--optimizer", "muon", "--layer-decay", "0.8"},
        {"--optimizer", "lion", "--ema", "0.95"},
        {"--optimizer", "adafactor", "--scheduler", "cosine_restarts", "--cycles", "3", "--weight-decay", "0.1"},
        {"--optimizer", "sgd", "--method", "full", "--ema", "0.9"},
        {"-d", other_path, "--mixing", "equal", "--rank", "4"},
        {"-d", weighted, "--rank", "4", "--dropout", "0.1"},
    };
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        static const char *const shared[] = {"--epochs",     "2", "--batch-size", "4",  "--lr", "2e-3",
                                             "--save-every", "3", "--eval-split", "0.2"};
        const char *flags[24] = {0};
        memcpy(flags, shared, sizeof shared);
        memcpy(flags + sizeof shared / sizeof *shared, choices[i], sizeof choices[i]);
        char whole[128], killed[128], name[40];
        snprintf(name, sizeof name, "whole%zu", i);
        finish(place(whole, name), TQ_RUN_NEW, flags, NULL, NULL);
        snprintf(name, sizeof name, "killed%zu", i);
        place(killed, name);
        pid_t child = fork();
        if (child == 0) {
            script s = {.kill_at = 5};
            toque_error err;
            (void)tune(killed, TQ_RUN_NEW, data_path, flags, &s, NULL, &err);
            _exit(1);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        finish(killed, TQ_RUN_RESUME, flags, NULL, NULL);
        assert_same_runs(whole, killed);
        /* A new run may go on from it. */
        const char *on[] = {"--init-adapter", whole, "--max-steps", "1", NULL};
        char next[128];
        snprintf(name, sizeof name, "next%zu", i);
        finish(place(next, name), TQ_RUN_NEW, on, NULL, NULL);
    }
}

static void a_full_disk_ends_the_run_with_one_error_and_an_intact_checkpoint(void **state) {
    (void)state;
    char dir[128], whole[128];
    place(dir, "full");
    toque_error err;
    script s = {.cancel_at = 2};
    assert_int_equal(tune(dir, TQ_RUN_NEW, data_path, usual, &s, NULL, &err), TOQUE_ECANCELED);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = {30000, 30000}; /* room for lines, not for a checkpoint */
        (void)signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &limit)) _exit(2);
        toque_status status = tune(dir, TQ_RUN_RESUME, data_path, usual, NULL, NULL, &err);
        _exit(status == TOQUE_EIO && strstr(err.message, "could not be saved") ? 0 : 3);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    finish(dir, TQ_RUN_RESUME, usual, NULL, NULL);
    assert_same_runs(place(whole, "whole"), dir);
}

static void every_allocation_of_a_start_fails(const char *rows, const char *const *flags) {
    toque_error err;
    tq_ctx *ctx;
    assert_int_equal(tq_ctx_new(&ctx, 1, 0, "f32", &err), TOQUE_OK);
    size_t before = ctx->mem.used;
    toque_status status = TOQUE_ENOMEM;
    unsigned n = 1;
    for (; status != TOQUE_OK && n < 20000; n += n < 300 ? 1 : 17) {
        request r;
        tq_tune t;
        ask(&r, rows, flags);
        ctx->mem.fail_at = ctx->mem.calls + n;
        status = tq_tune_open(&t, ctx, &r.recipe, &r.set, &err);
        ctx->mem.fail_at = 0;
        if (status != TOQUE_OK && status != TOQUE_ENOMEM) fail_msg("allocation %u: %s", n, err.message);
        tq_tune_close(&t);
        assert_int_equal(ctx->mem.used, before);
        tq_options_clear(&r.set);
    }
    assert_int_equal(status, TOQUE_OK);
    tq_ctx_free(ctx);
}

static void write_fields(const char *path, const char *format) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i < 6; i++) fprintf(f, format, 'a' + i, 'a' + i % 2);
    assert_int_equal(fclose(f), 0);
}

static void every_failed_allocation_of_a_start_is_reported_and_nothing_leaks(void **state) {
    (void)state;
    static const char *const head[] = {"--objective", "classify", "--class-weights", "balanced", "--rank", "2", NULL},
                             *const pairs[] = {"--objective", "contrastive", "--rank", "2", NULL};
    char path[200];
    every_allocation_of_a_start_fails(data_path, usual);
    write_fields(place(path, "fields.jsonl"), "{\"text\": \"it is %c\", \"label\": \"%c\"}\n");
    every_allocation_of_a_start_fails(path, head);
    write_fields(path, "{\"query\": \"what is %c?\", \"passage\": \"it is %c\"}\n");
    every_allocation_of_a_start_fails(path, pairs);
    remove(path);
}

static int set_up(void **state) {
    (void)state;
    if (!small_folder(folder)) return 1;
    place(model_path, "model.gguf");
    write_rows(place(data_path, "rows.jsonl"), 20, 0);
    write_rows(place(other_path, "other.jsonl"), 20, 1);
    write_rows(place(eval_path, "eval.jsonl"), 8, 100);
    return small_model_write(model_path) ? 0 : 1;
}

static int tear_down(void **state) {
    (void)state;
    small_remove(folder);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_leaves_what_it_promises),
        cmocka_unit_test(a_canceled_run_goes_on_to_the_same_bytes),
        cmocka_unit_test(a_killed_run_goes_on_to_the_same_bytes),
        cmocka_unit_test(a_resumed_run_must_be_the_same_run),
        cmocka_unit_test(a_resumed_run_must_be_on_the_same_machine),
        cmocka_unit_test(patience_stops_and_keeps_the_best),
        cmocka_unit_test(what_does_not_exist_or_fit_is_refused_with_a_reason),
        cmocka_unit_test(every_choice_resumes_after_kill_to_the_same_bytes),
        cmocka_unit_test(a_full_disk_ends_the_run_with_one_error_and_an_intact_checkpoint),
        cmocka_unit_test(every_failed_allocation_of_a_start_is_reported_and_nothing_leaks),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
