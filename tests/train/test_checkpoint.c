/* Checkpoints and run folders: round trips, hostile files, a full disk, what a resume refuses; metrics.jsonl and the
 * curve. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runs/curve.h"
#include "runs/metrics.h"
#include "runs/run.h"
#include "small_model.h"
#include "train/checkpoint.h"

static char folder[64];
static tq_mem mem;

static char *in_folder(char out[200], const char *name) {
    snprintf(out, 200, "%s/%s", folder, name);
    return out;
}

static void put_file(const char *path, const char *text) {
    assert_int_equal(tq_write_file(&mem, path, text, strlen(text), NULL), TOQUE_OK);
}

static void assert_file(const char *path, const char *text) {
    char *data;
    size_t n;
    assert_int_equal(tq_read_file(&data, &n, &mem, path, 1 << 20, NULL), TOQUE_OK);
    assert_string_equal(data, text);
    tq_free(&mem, data);
}

/* --- checkpoints ----------------------------------------------------------------------------------- */

enum { N = 1000 };
static float values[N], first[N], second[N], best[N];

static tq_checkpoint sample(void) {
    for (int i = 0; i < N; i++)
        values[i] = (float)i / 7, first[i] = -values[i], second[i] = values[i] * values[i], best[i] = 3;
    return (tq_checkpoint){.at = {.step = 12,
                                  .evaluated = 10,
                                  .best_step = 10,
                                  .base_eval = 2.5,
                                  .best_eval = 1.0 / 3,
                                  .last_eval = NAN,
                                  .worse = 1},
                           .inputs = json_pack("{s:s, s:{s:f, s:i}}", "data", "abc", "recipe", "lr", 1e-3, "rank", 16),
                           .n = N,
                           .values = values,
                           .best = best,
                           .states = {first, second},
                           .state_floats = {N, N},
                           .n_states = 2};
}

static void a_checkpoint_comes_back_exactly(void **state) {
    (void)state;
    char path[200];
    tq_checkpoint c = sample();
    toque_error err;
    assert_int_equal(tq_checkpoint_save(&mem, in_folder(path, "state.safetensors"), &c, &err), TOQUE_OK);
    static float v[N], a[N], b[N], d[N];
    tq_checkpoint_file *file;
    assert_int_equal(tq_checkpoint_open(&file, &mem, path, &err), TOQUE_OK);
    assert_true(tq_checkpoint_has_best(file));
    assert_int_equal(tq_checkpoint_compare(tq_checkpoint_inputs(file), c.inputs, "RUN", &err), TOQUE_OK);
    tq_checkpoint back = {.n = N, .values = v, .best = d, .states = {a, b}, .state_floats = {N, N}, .n_states = 2};
    assert_int_equal(tq_checkpoint_read(file, &back, &err), TOQUE_OK);
    assert_memory_equal(v, values, sizeof v);
    assert_memory_equal(a, first, sizeof a);
    assert_memory_equal(b, second, sizeof b);
    assert_memory_equal(d, best, sizeof d);
    assert_int_equal(back.at.step, 12);
    assert_int_equal(back.at.evaluated, 10);
    assert_int_equal(back.at.worse, 1);
    assert_true(back.at.best_eval == 1.0 / 3 && isnan(back.at.last_eval) && !back.at.stopped);
    tq_checkpoint wrong = {.n = N - 1, .values = v, .states = {a, b}, .state_floats = {N, N}, .n_states = 2};
    assert_int_equal(tq_checkpoint_read(file, &wrong, &err), TOQUE_EFORMAT);
    assert_non_null(strstr(err.message, "values"));
    tq_checkpoint_close(file);
    json_decref(c.inputs);
    assert_int_equal(mem.used, 0);
}

static void a_difference_is_named(void **state) {
    (void)state;
    toque_error err;
    json_t *a = json_pack("{s:s, s:{s:f, s:s}}", "data", "abc", "recipe", "lr", 1e-3, "order", "shuffle");
    json_t *b = json_deep_copy(a);
    json_object_set_new(json_object_get(b, "recipe"), "lr", json_real(2e-3));
    assert_int_equal(tq_checkpoint_compare(a, b, "RUN", &err), TOQUE_EINVAL);
    assert_non_null(strstr(err.message, "lr was 0.001, now it is 0.002"));
    json_object_set_new(json_object_get(b, "recipe"), "lr", json_real(1e-3));
    assert_int_equal(tq_checkpoint_compare(a, b, "RUN", &err), TOQUE_OK);
    json_object_set_new(b, "data", json_string("xyz"));
    assert_int_equal(tq_checkpoint_compare(a, b, "RUN", &err), TOQUE_EINVAL);
    assert_non_null(strstr(err.message, "data was \"abc\""));
    json_object_del(b, "data");
    assert_int_equal(tq_checkpoint_compare(a, b, "RUN", &err), TOQUE_EINVAL);
    assert_non_null(strstr(err.message, "data was set"));
    json_decref(a);
    json_decref(b);
}

static void what_is_no_checkpoint_is_refused(void **state) {
    (void)state;
    char path[200];
    toque_error err;
    tq_checkpoint_file *file;
    in_folder(path, "other.safetensors");
    float x = 1;
    tq_save_tensor t = {.name = "values", .type = TQ_F32, .n_dims = 1, .dims = {1}, .data = &x};
    const char *bad[][2] = {{"other", "{}"},
                            {"toque", "no JSON"},
                            {"toque", "{\"format\": \"toque-checkpoint\"}"},
                            {"toque", "{\"format\": \"toque-checkpoint\", \"version\": 1}"},
                            {"toque", "{\"format\": \"toque-checkpoint\", \"version\": 1, \"inputs\": 3}"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(tq_safetensors_save(&mem, path, &t, 1, bad[i], 1, &err), TOQUE_OK);
        assert_int_equal(tq_checkpoint_open(&file, &mem, path, &err), TOQUE_EFORMAT);
        assert_null(file);
    }
    const char *newer[] = {"toque", "{\"format\": \"toque-checkpoint\", \"version\": 2, \"inputs\": {}}"};
    assert_int_equal(tq_safetensors_save(&mem, path, &t, 1, newer, 1, &err), TOQUE_OK);
    assert_int_equal(tq_checkpoint_open(&file, &mem, path, &err), TOQUE_EUNSUPPORTED);
    const char *negative[] = {"toque",
                              "{\"format\": \"toque-checkpoint\", \"version\": 1, \"inputs\": {}, \"step\": -3}"};
    assert_int_equal(tq_safetensors_save(&mem, path, &t, 1, negative, 1, &err), TOQUE_OK);
    assert_int_equal(tq_checkpoint_open(&file, &mem, path, &err), TOQUE_OK);
    float y = 5;
    tq_checkpoint c = {.n = 1, .values = &y};
    assert_int_equal(tq_checkpoint_read(file, &c, &err), TOQUE_EFORMAT);
    assert_true(y == 5); /* untouched */
    tq_checkpoint_close(file);
    assert_int_equal(mem.used, 0);
}

/* In a child: files may not grow over some bytes, as on a full disk. Exit status 0: it went as it should. */
static int save_with_full_disk(const char *path) {
    struct rlimit limit = {1000, 1000};
    toque_error err;
    tq_checkpoint c = sample();
    c.at.step = 99;
    (void)signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &limit)) return 2;
    if (tq_checkpoint_save(&mem, path, &c, &err) != TOQUE_EIO) return 3;
    if (!strstr(err.message, "is intact") || !strstr(err.message, path)) return 4;
    json_decref(c.inputs);
    return mem.used == 0 ? 0 : 5;
}

static void a_full_disk_leaves_the_old_checkpoint(void **state) {
    (void)state;
    char path[200];
    toque_error err;
    tq_checkpoint c = sample();
    assert_int_equal(tq_checkpoint_save(&mem, in_folder(path, "full.safetensors"), &c, &err), TOQUE_OK);
    json_decref(c.inputs);
    pid_t child = fork();
    if (child == 0) _exit(save_with_full_disk(path));
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    tq_checkpoint_file *file;
    assert_int_equal(tq_checkpoint_open(&file, &mem, path, &err), TOQUE_OK);
    static float v[N], a[N], b[N];
    tq_checkpoint back = {.n = N, .values = v, .states = {a, b}, .state_floats = {N, N}, .n_states = 2};
    assert_int_equal(tq_checkpoint_read(file, &back, &err), TOQUE_OK);
    assert_int_equal(back.at.step, 12);
    tq_checkpoint_close(file);
}

static void every_failed_allocation_of_a_checkpoint_is_reported(void **state) {
    (void)state;
    char path[200];
    toque_error err;
    tq_checkpoint c = sample();
    in_folder(path, "faults.safetensors");
    toque_status status = TOQUE_ENOMEM;
    for (unsigned n = 1; status == TOQUE_ENOMEM; n++) {
        mem.fail_at = mem.calls + n;
        status = tq_checkpoint_save(&mem, path, &c, &err);
        assert_int_equal(mem.used, 0);
    }
    assert_int_equal(status, TOQUE_OK);
    tq_checkpoint_file *file;
    status = TOQUE_ENOMEM;
    for (unsigned n = 1; status == TOQUE_ENOMEM; n++) {
        mem.fail_at = mem.calls + n;
        status = tq_checkpoint_open(&file, &mem, path, &err);
        if (status != TOQUE_OK) assert_int_equal(mem.used, 0);
    }
    assert_int_equal(status, TOQUE_OK);
    mem.fail_at = 0;
    tq_checkpoint_close(file);
    json_decref(c.inputs);
}

/* --- metrics --------------------------------------------------------------------------------------- */

static void metrics_are_cut_behind_the_checkpoint(void **state) {
    (void)state;
    char path[200];
    toque_error err;
    int64_t last;
    in_folder(path, "metrics.jsonl");
    const char *kept = "{\"step\": 0, \"eval_loss\": 3}\n{\"step\": 1, \"loss\": 2}\n{\"step\": 2, \"loss\": 1}\n"
                       "{\"step\": 2, \"eval_loss\": 1.5}\n";
    char text[400];
    snprintf(text, sizeof text, "%s{\"step\": 3, \"loss\": 1}\n{\"step\": 4, \"lo", kept);
    tq_metrics m;
    put_file(path, text); /* stopped between step 2 and its evaluation: that is made, and written, again */
    assert_int_equal(tq_metrics_open(&m, &mem, path, 2, 0, &last, &err), TOQUE_OK);
    assert_int_equal(last, 2);
    tq_metrics_close(&m);
    assert_file(path, "{\"step\": 0, \"eval_loss\": 3}\n{\"step\": 1, \"loss\": 2}\n{\"step\": 2, \"loss\": 1}\n");
    put_file(path, text);
    assert_int_equal(tq_metrics_open(&m, &mem, path, 2, 2, &last, &err), TOQUE_OK);
    assert_int_equal(last, 2);
    assert_file(path, kept);
    tq_metrics_step s = {.step = 3,
                         .epoch = 0.75,
                         .loss = 1.0 / 3,
                         .lr = 1e-3,
                         .grad_norm = 0.123456789,
                         .tokens = 7,
                         .target_tokens = 5,
                         .tokens_per_second = 100,
                         .objective = "dft",
                         .objective_loss = 0.25};
    assert_int_equal(tq_metrics_put_step(&m, &s, &err), TOQUE_OK);
    json_t *by_task = json_pack("{s:f, s:f}", "a \"b\"", 1.5, "c", 1.0);
    assert_int_equal(tq_metrics_put_eval(&m, 3, 0.75, 1.25, 9, NULL, by_task, &err), TOQUE_OK);
    json_decref(by_task);
    assert_int_equal(tq_metrics_sync(&m, &err), TOQUE_OK);
    tq_metrics_close(&m);
    snprintf(text, sizeof text,
             "%s{\"step\": 3, \"epoch\": 0.75, \"loss\": 0.333333333, \"dft_loss\": 0.25, \"lr\": 0.001, "
             "\"grad_norm\": 0.123456789, \"tokens\": 7, \"target_tokens\": 5, \"tokens_per_second\": 100}\n"
             "{\"step\": 3, \"epoch\": 0.75, \"eval_loss\": 1.25, \"eval_target_tokens\": 9, "
             "\"eval_loss_by_task\": {\"a \\\"b\\\"\": 1.5, \"c\": 1.0}}\n",
             kept);
    assert_file(path, text);
    tq_metrics_series series;
    assert_int_equal(tq_metrics_read(&series, &mem, path, &err), TOQUE_OK);
    assert_int_equal(series.n_loss, 3);
    assert_int_equal(series.n_eval, 3);
    assert_true(series.loss[2].step == 3 && fabs(series.loss[2].value - 1.0 / 3) < 1e-9 &&
                series.eval[2].value == 1.25);
    assert_true(series.first_by_task && json_number_value(json_object_get(series.last_by_task, "a \"b\"")) == 1.5);
    tq_metrics_series_clear(&series);
    assert_int_equal(tq_metrics_open(&m, &mem, path, 5, 5, &last, &err), TOQUE_OK); /* the checkpoint is ahead: told */
    assert_int_equal(last, 3);
    tq_metrics_close(&m);
    assert_int_equal(tq_metrics_open(&m, &mem, path, -1, 0, &last, &err), TOQUE_OK); /* from the start */
    assert_file(path, "");
    tq_metrics_close(&m);
    put_file(path, "{\"step\": 1, \"loss\": 2}\nrubbish\n");
    assert_int_equal(tq_metrics_read(&series, &mem, path, &err), TOQUE_EFORMAT);
    assert_non_null(strstr(err.message, "line 2"));
    assert_int_equal(mem.used, 0);
}

static void a_line_that_does_not_fit_is_taken_back(void **state) {
    (void)state;
    char path[200];
    in_folder(path, "short.jsonl");
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = {180, 180};
        toque_error err;
        tq_metrics m;
        (void)signal(SIGXFSZ, SIG_IGN);
        if (tq_metrics_open(&m, &mem, path, -1, 0, NULL, &err) != TOQUE_OK || setrlimit(RLIMIT_FSIZE, &limit)) _exit(2);
        tq_metrics_step s = {.step = 1, .loss = 1};
        if (tq_metrics_put_step(&m, &s, &err) != TOQUE_OK) _exit(3);
        _exit(tq_metrics_put_step(&m, &s, &err) == TOQUE_EIO ? 0 : 4);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    tq_metrics_series series;
    assert_int_equal(tq_metrics_read(&series, &mem, path, NULL), TOQUE_OK);
    assert_int_equal(series.n_loss, 1);
    tq_metrics_series_clear(&series);
}

static void the_curve_falls_as_the_loss_does(void **state) {
    (void)state;
    tq_metrics_point loss[50], eval[] = {{25, 2}, {50, 1}};
    for (int i = 0; i < 50; i++) loss[i] = (tq_metrics_point){i + 1, 5 - i * 0.08};
    tq_metrics_series s = {.loss = loss, .n_loss = 50, .eval = eval, .n_eval = 2};
    tq_buf out;
    tq_buf_init(&out, &mem, 1 << 16);
    assert_true(tq_curve_draw(&mem, &out, &s, (tq_curve_style){.width = 40, .height = 6}));
    char *line[8] = {out.data};
    int lines = 1;
    for (char *p = out.data; *p; p++)
        if (*p == '\n' && lines < 8) *p = 0, line[lines++] = p + 1;
    assert_int_equal(lines, 8);
    assert_memory_equal(line[0], "   5.000 |*", 11); /* high on the left */
    assert_int_equal(line[5][10], ' ');              /* low on the right */
    assert_int_equal(line[5][strlen(line[5]) - 1], 'o');
    for (int i = 0; i < 6; i++) assert_true(strlen(line[i]) <= 50);
    tq_buf_reset(&out);
    assert_true(tq_curve_draw(&mem, &out, &s, (tq_curve_style){.width = 40, .height = 6, .unicode = true}));
    assert_non_null(strstr(out.data, "\xE2\xA0") ? strstr(out.data, "\xE2\xA0") : strstr(out.data, "\xE2\xA1"));
    tq_buf_reset(&out);
    s.n_loss = 1;
    assert_true(tq_curve_draw(&mem, &out, &s, (tq_curve_style){.width = 40, .height = 6}));
    assert_int_equal(out.len, 0);
    tq_buf_clear(&out);
    assert_int_equal(mem.used, 0);
}

/* --- run folders ----------------------------------------------------------------------------------- */

static void a_folder_that_is_no_run_is_never_touched(void **state) {
    (void)state;
    char dir[200], path[260];
    toque_error err;
    tq_run run;
    in_folder(dir, "project");
    assert_int_equal(mkdir(dir, 0777), 0);
    snprintf(path, sizeof path, "%s/README.md", dir);
    put_file(path, "mine");
    assert_int_equal(tq_run_open(&run, &mem, dir, TQ_RUN_NEW, &err), TOQUE_EINVAL);
    assert_int_equal(tq_run_open(&run, &mem, dir, TQ_RUN_OVERWRITE, &err), TOQUE_EINVAL);
    assert_int_equal(tq_run_open(&run, &mem, dir, TQ_RUN_RESUME, &err), TOQUE_ENOTFOUND);
    assert_file(path, "mine");
    assert_int_equal(tq_run_check(&mem, path, TQ_RUN_NEW, &err), TOQUE_EINVAL); /* a file */
    assert_int_equal(tq_run_check(&mem, "", TQ_RUN_NEW, &err), TOQUE_EINVAL);
}

static void a_run_is_refused_locked_and_overwritten(void **state) {
    (void)state;
    char dir[200], path[260];
    toque_error err;
    tq_run run, other;
    in_folder(dir, "deep/run");
    assert_int_equal(tq_run_open(&run, &mem, dir, TQ_RUN_NEW, &err), TOQUE_OK);
    tq_buf text;
    tq_buf_init(&text, &mem, 100);
    tq_buf_puts(&text, "lr: 1\n");
    assert_int_equal(tq_run_write(&run, TQ_RUN_RECIPE, &text, &err), TOQUE_OK);
    assert_int_equal(tq_run_write(&run, "notes.txt", &text, &err), TOQUE_OK);
    tq_buf_clear(&text);
    assert_int_equal(tq_run_open(&other, &mem, dir, TQ_RUN_RESUME, &err), TOQUE_EBUSY);
    tq_run_close(&run);
    assert_int_equal(tq_run_open(&run, &mem, dir, TQ_RUN_NEW, &err), TOQUE_EINVAL);
    assert_non_null(strstr(err.message, "--resume"));
    assert_int_equal(tq_run_open(&run, &mem, dir, TQ_RUN_RESUME, &err), TOQUE_OK);
    tq_run_close(&run);
    snprintf(path, sizeof path, "%s/checkpoint", dir);
    assert_int_equal(mkdir(path, 0777), 0);
    snprintf(path, sizeof path, "%s/checkpoint/state.safetensors.tmp-a1B2c3", dir); /* of a process that was killed */
    put_file(path, "half");
    assert_int_equal(tq_run_open(&run, &mem, dir, TQ_RUN_RESUME, &err), TOQUE_OK);
    assert_false(tq_path_exists(path));
    tq_run_close(&run);
    put_file(path, "half");
    snprintf(path, sizeof path, "%s/checkpoint/state.safetensors", dir);
    put_file(path, "whole");
    snprintf(path, sizeof path, "%s/checkpoint", dir);
    assert_int_equal(tq_run_open(&run, &mem, dir, TQ_RUN_OVERWRITE, &err), TOQUE_OK);
    assert_false(tq_path_exists(path));
    snprintf(path, sizeof path, "%s/recipe.yaml", dir);
    assert_false(tq_path_exists(path));
    snprintf(path, sizeof path, "%s/notes.txt", dir);
    assert_true(tq_path_exists(path)); /* not the run's */
    tq_run_close(&run);
    assert_int_equal(mem.used, 0);
}

static int set_up(void **state) {
    (void)state;
    tq_mem_init(&mem, 0);
    return small_folder(folder) ? 0 : 1;
}

static int tear_down(void **state) {
    (void)state;
    small_remove(folder);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_checkpoint_comes_back_exactly),
        cmocka_unit_test(a_difference_is_named),
        cmocka_unit_test(what_is_no_checkpoint_is_refused),
        cmocka_unit_test(a_full_disk_leaves_the_old_checkpoint),
        cmocka_unit_test(every_failed_allocation_of_a_checkpoint_is_reported),
        cmocka_unit_test(metrics_are_cut_behind_the_checkpoint),
        cmocka_unit_test(a_line_that_does_not_fit_is_taken_back),
        cmocka_unit_test(the_curve_falls_as_the_loss_does),
        cmocka_unit_test(a_folder_that_is_no_run_is_never_touched),
        cmocka_unit_test(a_run_is_refused_locked_and_overwritten),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
