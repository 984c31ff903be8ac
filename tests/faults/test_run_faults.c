/* Runs under failing input and output: checkpoints, adapters, metrics, whole trainings and predictions. Whatever fails,
 * there is one error, what was there before is whole, and going on gives the bytes of a run in which nothing failed. */
#include <dirent.h>
#include <math.h>

#include "../train/tuning.h"
#include "cli/predict.h"
#include "faulty.h"

static tq_mem mem;
static char folder[64], data_path[128], place_path[160];

static const char *place(const char *name) {
    snprintf(place_path, sizeof place_path, "%s/%s", folder, name);
    return place_path;
}

static void remove_place(const char *name) {
    small_remove(place(name)); /* a folder */
    remove(place_path);        /* or a file */
}

static void assert_no_temporaries(const char *dir) {
    DIR *d = opendir(dir);
    if (!d) return;
    for (struct dirent *e; (e = readdir(d));)
        if (strstr(e->d_name, ".tmp-")) fail_msg("%s/%s was left behind", dir, e->d_name);
    closedir(d);
}

/* --- checkpoints -------------------------------------------------------------------------------------- */

enum { N = 30000 };
static float values[N], first[N], second[N], best[N];

static tq_checkpoint checkpoint_of_step(int64_t step) {
    for (int i = 0; i < N; i++) values[i] = best[i] = (float)(step * N + i), first[i] = -values[i], second[i] = 1;
    return (tq_checkpoint){.at = {.step = step},
                           .inputs = json_pack("{s:s}", "data", "abc"),
                           .n = N,
                           .values = values,
                           .best = best,
                           .states = {first, second},
                           .state_floats = {N, N},
                           .n_states = 2};
}

static toque_status save_step(int64_t step, toque_error *err) {
    tq_checkpoint c = checkpoint_of_step(step);
    toque_status status = tq_checkpoint_save(&mem, place("state"), &c, err);
    json_decref(c.inputs);
    return status;
}

static toque_status load(int64_t *step, toque_error *err) {
    static float v[N], a[N], b[N], d[N];
    tq_checkpoint_file *file;
    tq_checkpoint c = {.n = N, .values = v, .best = d, .states = {a, b}, .state_floats = {N, N}, .n_states = 2};
    TQ_TRY(tq_checkpoint_open(&file, &mem, place("state"), err));
    toque_status status = tq_checkpoint_read(file, &c, err);
    tq_checkpoint_close(file);
    *step = c.at.step;
    if (status == TOQUE_OK && (v[N - 1] != (float)(*step * N + N - 1) || d[0] != v[0] || b[N - 1] != 1))
        return TQ_FAIL(err, EFORMAT, "the values are of another step");
    return status;
}

static void put_step_1(void *arg) {
    (void)arg;
    assert_int_equal(save_step(1, NULL), TOQUE_OK);
}

static toque_status put_step_2(void *arg, toque_error *err) {
    (void)arg;
    return save_step(2, err);
}

static toque_status get_step(void *arg, toque_error *err) {
    return load(arg, err);
}

static void check_step(void *arg, toque_status status) {
    int64_t step = 0;
    toque_error err;
    (void)arg;
    if (load(&step, &err) != TOQUE_OK) fail_msg("%s", err.message);
    assert_int_equal(step, status == TOQUE_OK ? 2 : 1);
    assert_no_temporaries(folder);
    assert_int_equal(mem.used, 0);
}

static void check_got(void *arg, toque_status status) {
    int64_t *step = arg;
    assert_true(status == TOQUE_OK ? *step == 1 : status != TOQUE_EFORMAT);
    assert_int_equal(mem.used, 0);
}

static void a_checkpoint_is_the_old_one_or_the_new_one(void **state) {
    (void)state;
    int64_t step;
    faulty_walk(&(faulty_work){.prepare = put_step_1, .run = put_step_2, .check = check_step});
    faulty_walk(&(faulty_work){.arg = &step, .prepare = put_step_1, .run = get_step, .check = check_got});
    remove_place("state");
}

/* --- adapters ----------------------------------------------------------------------------------------- */

typedef struct hats {
    tq_ctx *ctx;
    tq_model *model;
    tq_adapter *adapter;
    size_t used;
} hats;

static void make_folder(void *arg) {
    hats *h = arg;
    h->used = h->ctx->mem.used;
    remove_place("hat");
    assert_int_equal(tq_make_dirs(&mem, place("hat"), NULL), TOQUE_OK);
}

static toque_status save_hat(void *arg, toque_error *err) {
    hats *h = arg;
    return tq_adapter_save(h->adapter, place("hat"), NULL, err);
}

static toque_status load_hat(void *arg, toque_error *err) {
    hats *h = arg;
    tq_adapter *a;
    TQ_TRY(tq_adapter_load(&a, h->model, place("hat"), err));
    bool same = a->n == h->adapter->n && memcmp(a->values, h->adapter->values, a->n * sizeof(float)) == 0;
    tq_adapter_free(a);
    return same ? TOQUE_OK : TQ_FAIL(err, EFORMAT, "another adapter came back");
}

static toque_status open_model(void *arg, toque_error *err) {
    hats *h = arg;
    tq_model *model;
    TQ_TRY(tq_model_open(&model, h->ctx, model_path, err));
    const char *hash = tq_model_hash(model);
    bool same = strcmp(hash, tq_model_hash(h->model)) == 0 || !*hash;
    tq_model_close(model);
    return same ? TOQUE_OK : TQ_FAIL(err, EFORMAT, "another hash came back");
}

static void check_saved(void *arg, toque_status status) {
    hats *h = arg;
    toque_error err;
    assert_no_temporaries(place("hat"));
    assert_int_equal(h->ctx->mem.used, h->used);
    if (status == TOQUE_OK && load_hat(h, &err) != TOQUE_OK) fail_msg("%s", err.message);
}

static void check_loaded(void *arg, toque_status status) {
    hats *h = arg;
    assert_int_not_equal(status, TOQUE_EFORMAT);
    assert_int_equal(h->ctx->mem.used, h->used);
}

static void keep_folder(void *arg) {
    hats *h = arg;
    h->used = h->ctx->mem.used;
}

static void adapters_and_models_are_read_and_written_whole(void **state) {
    (void)state;
    hats h = {0};
    toque_error err;
    tq_adapter_options o = {.kind = "lora", .rank = 4, .alpha = 8, .targets = "all", .seed = 3};
    assert_int_equal(tq_ctx_new(&h.ctx, 1, 0, "f32", &err), TOQUE_OK);
    if (tq_model_open(&h.model, h.ctx, model_path, &err) || tq_adapter_new(&h.adapter, h.model, &o, &err))
        fail_msg("%s", err.message);
    assert_string_not_equal(tq_model_hash(h.model), "");
    faulty_walk(&(faulty_work){&h, make_folder, save_hat, check_saved});
    assert_int_equal(save_hat(&h, &err), TOQUE_OK);
    faulty_walk(&(faulty_work){&h, keep_folder, load_hat, check_loaded});
    faulty_walk(&(faulty_work){&h, keep_folder, open_model, check_loaded});
    tq_adapter_free(h.adapter);
    tq_model_close(h.model);
    tq_ctx_free(h.ctx);
}

/* --- trainings ---------------------------------------------------------------------------------------- */

static const char *const flags[] = {
    "--epochs",     "1", "--batch-size", "2",   "--rank",       "2",   "--lr", "5e-3", "--save-every", "2",
    "--eval-every", "2", "--dropout",    "0.1", "--eval-split", "0.2", NULL};

typedef struct training {
    int64_t cancel_at; /* the run that stands there before was stopped here; 0: none stands there */
    char whole[128], dir[128];
} training;

static tq_run_mode mode_of(const training *t) {
    char recipe[160];
    snprintf(recipe, sizeof recipe, "%s/recipe.yaml", t->dir);
    return tq_path_exists(recipe) ? TQ_RUN_RESUME : TQ_RUN_NEW;
}

static void begin(void *arg) {
    training *t = arg;
    toque_error err;
    script s = {.cancel_at = t->cancel_at};
    small_remove(t->dir);
    if (t->cancel_at) assert_int_equal(tune(t->dir, TQ_RUN_NEW, data_path, flags, &s, NULL, &err), TOQUE_ECANCELED);
}

static toque_status train(void *arg, toque_error *err) {
    training *t = arg;
    return tune(t->dir, mode_of(t), data_path, flags, NULL, NULL, err);
}

static void go_on(void *arg, toque_status status) {
    training *t = arg;
    toque_error err = {.message = ""};
    char checkpoint[160];
    snprintf(checkpoint, sizeof checkpoint, "%s/checkpoint", t->dir);
    assert_no_temporaries(t->dir);
    assert_no_temporaries(checkpoint);
    if (status != TOQUE_OK && tune(t->dir, mode_of(t), data_path, flags, NULL, NULL, &err) != TOQUE_OK)
        fail_msg("it cannot be gone on with: %s", err.message);
    assert_same_runs(t->whole, t->dir);
}

static void a_training_goes_on_to_the_same_bytes(void **state) {
    (void)state;
    training t = {.cancel_at = 0};
    toque_error err;
    strcpy(t.whole, place("whole"));
    strcpy(t.dir, place("run"));
    if (tune(t.whole, TQ_RUN_NEW, data_path, flags, NULL, NULL, &err) != TOQUE_OK) fail_msg("%s", err.message);
    faulty_walk(&(faulty_work){&t, begin, train, go_on});
    t.cancel_at = 3;
    faulty_walk(&(faulty_work){&t, begin, train, go_on});
}

/* --- predictions -------------------------------------------------------------------------------------- */

typedef struct predictions {
    tq_cli cli;
    bool csv;
    char in[128], out[128];
    char *whole;
    size_t n;
} predictions;

/* What toque predict does, with answers that need no model. */
static toque_status predict(void *arg, toque_error *err) {
    predictions *p = arg;
    tq_mem *m = &p->cli.mem;
    tq_data_options o = {.prompt_column = p->csv ? "q" : NULL, .allow_no_target = true};
    tq_predict_out out = {.answer = "answer", .probability = "probability"};
    tq_rows *rows;
    tq_row row;
    bool more = true;
    TQ_TRY(tq_rows_open(&rows, m, p->in, &o, err));
    toque_status status = tq_rows_next(rows, &row, &more, err);
    if (status == TOQUE_OK) status = tq_predict_open(&out, &p->cli, p->out, rows, "key", true, err);
    for (size_t i = 0; status == TOQUE_OK && more; i++) {
        char text[32];
        int n = snprintf(text, sizeof text, "answer, %zu", i);
        tq_prediction one = {.answer = text, .len = (size_t)n, .probability = 0.5};
        if (i >= out.kept) status = tq_predict_put(&out, row.raw, row.raw_len, &one, err);
        if (status == TOQUE_OK) status = tq_rows_next(rows, &row, &more, err);
    }
    if (status == TOQUE_OK) status = tq_predict_commit(&out, err);
    tq_predict_close(&out);
    tq_rows_close(rows);
    return status;
}

static void remove_predictions(void *arg) {
    const predictions *p = arg;
    char name[160];
    static const char *const endings[] = {"", ".partial", ".partial.key"};
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s%s", p->out, endings[i]);
        remove(name);
    }
}

static void go_on_predicting(void *arg, toque_status status) {
    predictions *p = arg;
    toque_error err = {.message = ""};
    assert_int_equal(tq_path_exists(p->out), status == TOQUE_OK);
    if (status != TOQUE_OK && predict(p, &err) != TOQUE_OK) fail_msg("it cannot be gone on with: %s", err.message);
    char *data, name[160];
    size_t n;
    assert_int_equal(tq_read_file(&data, &n, &mem, p->out, 1 << 20, NULL), TOQUE_OK);
    if (p->whole) {
        assert_int_equal(n, p->n);
        assert_memory_equal(data, p->whole, n);
    }
    tq_free(&mem, data);
    snprintf(name, sizeof name, "%s.partial", p->out);
    assert_false(tq_path_exists(name));
    assert_no_temporaries(folder);
    assert_int_equal(p->cli.mem.used, 0);
}

static void predictions_go_on_to_the_same_bytes(void **state) {
    (void)state;
    static const char jsonl[] = "{\"prompt\": \"one\"}\n{\"prompt\": \"two\"}\n{\"prompt\": \"three\"}\n";
    static const char csv[] = "q;n\n\"a \"\"quoted\"\"\none\";1\ntwo;2\n";
    for (int i = 0; i < 2; i++) {
        predictions p = {.csv = i == 1};
        strcpy(p.in, place(i ? "in.csv" : "in.jsonl"));
        strcpy(p.out, place("out"));
        const char *text = i ? csv : jsonl;
        toque_error err;
        assert_int_equal(tq_write_file(&mem, p.in, text, strlen(text), NULL), TOQUE_OK);
        remove_predictions(&p);
        if (predict(&p, &err) != TOQUE_OK) fail_msg("%s", err.message);
        tq_mem keep = {0};
        assert_int_equal(tq_read_file(&p.whole, &p.n, &keep, p.out, 1 << 20, NULL), TOQUE_OK);
        assert_non_null(strstr(p.whole, i ? "two;2;answer, 1;0.5\n" : "\"answer\": \"answer, 2\""));
        faulty_walk(&(faulty_work){&p, remove_predictions, predict, go_on_predicting});
        tq_free(&keep, p.whole);
    }
    assert_int_equal(mem.used, 0);
}

static int set_up(void **state) {
    (void)state;
    if (!small_folder(folder)) return 1;
    strcpy(model_path, place("model.gguf"));
    strcpy(data_path, place("rows.jsonl"));
    write_rows(data_path, 8, 0);
    tuning_threads = 1;
    return small_model_write(model_path) ? 0 : 1;
}

static int tear_down(void **state) {
    (void)state;
    small_remove(folder);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_checkpoint_is_the_old_one_or_the_new_one),
        cmocka_unit_test(adapters_and_models_are_read_and_written_whole),
        cmocka_unit_test(a_training_goes_on_to_the_same_bytes),
        cmocka_unit_test(predictions_go_on_to_the_same_bytes),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
