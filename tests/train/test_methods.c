/* Every method against transformers and PEFT (tools/reference/methods.py): names and shapes of its tensors, loss,
 * gradients and five steps on two small models; that its files give it back; and that its gradients do not depend on
 * packing, threads or memory. */
#include <stdlib.h>

#include "bench.h"
#include "files/names.h"
#include "small_model.h"
#include "train/auto_targets.h"
#include "train/lr_find.h"

enum { STEPS = 5, ROWS = 6 };
static const char *expectations;
static char folder[64];

typedef struct method { /* a case of the reference */
    const char *name;
    tq_adapter_options o;
    double lr, scale, ratio, smoothing;
} method;

#define ALL "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"
#define LOW_RANK .rank = 4, .alpha = 8
static const method methods[] = {
    {"lora", {.kind = "lora", LOW_RANK, .targets = ALL}, 1e-2, 0.05, 1, 0},
    {"lora_patterns",
     {.kind = "lora",
      LOW_RANK,
      .targets = "all-linear",
      .rank_pattern = "q_proj=2,layers.1.mlp.up_proj=6",
      .alpha_pattern = "k_proj=3"},
     1e-2,
     0.05,
     1,
     0},
    {"lora_modules",
     {.kind = "lora",
      LOW_RANK,
      .rslora = true,
      .targets = "q_proj,down_proj",
      .own = "*.embed_tokens.weight,*.post_attention_layernorm.weight"},
     1e-2,
     0.05,
     1,
     0},
    {"loraplus", {.kind = "lora", LOW_RANK, .targets = ALL}, 2e-3, 0.05, 4, 0},
    {"dora", {.kind = "dora", LOW_RANK, .targets = ALL}, 1e-2, 0.05, 1, 0},
    {"pissa", {.kind = "lora", LOW_RANK, .targets = ALL, .pissa = true}, 1e-3, 0, 1, 0},
    {"vera", {.kind = "vera", .rank = 8, .targets = ALL}, 1e-2, 0.05, 1, 0},
    {"ia3", {.kind = "ia3"}, 1e-2, 0.05, 1, 0},
    {"prefix", {.kind = "prefix", .virtual_tokens = 5}, 1e-2, 0.5, 1, 0},
    {"prompt", {.kind = "prompt", .virtual_tokens = 5}, 1e-2, 0.5, 1, 0},
    {"norms", {.kind = "norms"}, 1e-2, 0.05, 1, 0},
    {"full", {.kind = "full"}, 1e-3, 0, 1, 0},
    {"freeze", {.kind = "freeze", .own = "model.layers.1.*"}, 1e-3, 0, 1, 0},
    {"bitfit", {.kind = "bitfit"}, 1e-2, 0.05, 1, 0},
    {"smoothed", {.kind = "lora", LOW_RANK, .targets = ALL}, 1e-2, 0.05, 1, 0.2},
};
enum { N_METHODS = sizeof methods / sizeof methods[0] };

static const method *find_method(const char *name) {
    for (int i = 0; i < N_METHODS; i++)
        if (strcmp(methods[i].name, name) == 0) return &methods[i];
    return NULL;
}

/* --- the reference's rows and start values ----------------------------------------------------------------- */
static void make_rows(tq_dataset *set, tq_mem *mem) {
    begin_rows(set, mem, ROWS);
    for (int r = 0; r < ROWS; r++) {
        tq_example *e = add_row(set, 6 + 3 * r);
        e->tokens[0] = 5 + 11 * r;
        for (int t = 1; t < e->n; t++) {
            e->tokens[t] = (e->tokens[t - 1] * 5 + 3 + t) % 64;
            e->target[t] = (t + r) % 4 != 0;
            e->n_targets += e->target[t];
        }
        set->n_targets += (size_t)e->n_targets;
    }
}

static void fill(tq_adapter *a, double scale) {
    if (scale == 0) return;
    for (size_t r = 0; r < a->n_ranges; r++) {
        const tq_range *range = &a->ranges[r];
        bool set = strstr(range->name, "lora_A") || strstr(range->name, "lora_B") || strstr(range->name, "vera_") ||
                   range->role == TQ_ROLE_TABLE;
        double shift = (double)(tq_name_hash(range->name, strlen(range->name)) % 1000) / 100;
        float *v = a->values + range->start;
        for (int i = 0; i < range->rows * range->cols; i++)
            v[i] = (float)((set ? 0 : (double)v[i]) + scale * sin(0.7 * i + shift));
    }
    tq_adapter_changed(a);
}

/* --- a trainer of one method ------------------------------------------------------------------------------- */
typedef struct layout {
    int threads;
    bool unpacked;
    size_t max_bytes;
    const tq_optimizer *optimizer; /* NULL: AdamW */
    double ema;
} layout;

static void open_small(bench *b, const char *arch, int threads) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s.gguf", folder, arch);
    open_model(b, path, threads);
}

static toque_status start(bench *b, const method *m, layout how, toque_error *err) {
    TQ_TRY(tq_adapter_train(b->adapter, err));
    make_rows(&b->data, &b->ctx->mem);
    for (size_t r = 0; r < b->adapter->n_ranges; r++)
        b->adapter->ranges[r].lr = b->adapter->ranges[r].part > 0 ? (float)m->ratio : 1;
    tq_trainer_options o = {.objective = &tq_objective_sft,
                            .optimizer = how.optimizer ? how.optimizer : &tq_optimizer_adamw,
                            .ema = how.ema,
                            .schedule = {.kind = TQ_SCHEDULE_CONSTANT, .lr = m->lr, .total = STEPS},
                            .clip = 1,
                            .weight_decay = 0.1,
                            .smoothing = m->smoothing,
                            .rows = ROWS,
                            .packing = !how.unpacked,
                            .seed = 42,
                            .max_bytes = how.max_bytes};
    return tq_trainer_init(&b->trainer, b->adapter, &b->data, NULL, &o, err);
}

static void open_bench(bench *b, const char *arch, const method *m, layout how) {
    toque_error err;
    open_small(b, arch, how.threads ? how.threads : 2);
    check(tq_adapter_new(&b->adapter, b->model, &m->o, &err), &err);
    fill(b->adapter, m->scale);
    check(start(b, m, how, &err), &err);
}

/* --- against the reference ---------------------------------------------------------------------------------- */
static void check_loss(double mine, int step, double want, const char *name) {
    if (!(fabs(mine - want) <= (step ? 1e-3 : 1e-5) * want))
        fail_msg("%s: loss %.8g before step %d, expected %.8g", name, mine, step, want);
}

static void every_method_equals_the_reference(void **state) {
    (void)state;
    FILE *f = fopen(expectations, "r");
    assert_non_null(f);
    char line[300], name[40] = "", arch[20];
    bench b = {0};
    toque_error err;
    tq_step_result r;
    size_t gradients = 0;
    int cases = 0, smoothed = 0, step;
    double want;
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "case %39s %19s", name, arch) == 2) {
            if (cases++) close_bench(&b);
            const method *m = find_method(name);
            if (!m) fail_msg("no method for case %s", name);
            open_bench(&b, arch, m, (layout){0});
            gradients = 0;
        } else if (sscanf(line, "loss %d %lf", &step, &want) == 2) {
            if (step == 1) assert_int_equal(gradients, b.adapter->n_ranges);
            if (step == 0) { /* leaves the gradient where it can be looked at */
                check(tq_trainer_gradient(&b.trainer, &r, &err), &err);
                check_loss(r.loss, step, want, name);
            }
            if (step > 0) {
                check(tq_trainer_step(&b.trainer, &r, &err), &err); /* the update before this loss */
                double loss;
                check(tq_trainer_evaluate(&b.trainer, &b.data, &loss, NULL, &err), &err);
                check_loss(loss, step, want, name);
            }
        } else if (sscanf(line, "smoothed %lf", &want) == 1) {
            check_loss(r.objective, 0, want, name);
            smoothed++;
        } else {
            check_gradient(b.adapter, name, line);
            gradients++;
        }
    }
    fclose(f);
    if (cases) close_bench(&b);
    assert_true(cases >= N_METHODS && smoothed == 2);
}

/* --- properties of every method ------------------------------------------------------------------------------- */
static const char *arch_of(const method *m) {
    return strcmp(m->name, "bitfit") == 0 ? "qwen2" : "llama";
}

/* The values after some steps; owned by the caller. */
static float *trained_values(const method *m, layout how, size_t *n, int *kept) {
    bench b;
    toque_error err;
    tq_step_result r;
    open_bench(&b, arch_of(m), m, how);
    for (int i = 0; i < 3; i++) check(tq_trainer_step(&b.trainer, &r, &err), &err);
    float *copy = malloc(b.adapter->n * sizeof *copy);
    assert_non_null(copy);
    memcpy(copy, b.adapter->values, b.adapter->n * sizeof *copy);
    *n = b.adapter->n;
    if (kept) *kept = b.trainer.plan.kept_layers;
    close_bench(&b);
    return copy;
}

static void threads_and_memory_give_the_same_bytes(void **state) {
    (void)state;
    for (int i = 0; i < N_METHODS; i++) {
        size_t n, other;
        int all, none;
        bench b;
        open_bench(&b, arch_of(&methods[i]), &methods[i], (layout){0});
        size_t most = b.trainer.plan.bytes;
        close_bench(&b);
        float *one = trained_values(&methods[i], (layout){.threads = 1}, &n, &all);
        for (int threads = 2; threads <= 3; threads++) {
            layout how = {.threads = threads, .max_bytes = threads == 3 ? most - most / 8 : 0};
            float *two = trained_values(&methods[i], how, &other, &none);
            assert_int_equal(n, other);
            if (threads == 3) assert_true(none < all);
            if (memcmp(one, two, n * sizeof *one)) fail_msg("%s: %d threads differ from one", methods[i].name, threads);
            free(two);
        }
        free(one);
    }
}

static void every_optimizer_gives_the_same_bytes_on_any_threads_and_learns(void **state) {
    (void)state;
    static const tq_optimizer *const optimizers[] = {
#define X(name) &tq_optimizer_##name,
#include "train/optimizers.def"
#undef X
    };
    for (size_t i = 0; i < sizeof optimizers / sizeof optimizers[0]; i++)
        for (int full = 0; full < 2; full++) {
            size_t n, other;
            method m = *find_method(full ? "full" : "lora");
            m.lr *= optimizers[i]->lr;
            layout how = {.threads = 1, .optimizer = optimizers[i], .ema = 0.9};
            float *one = trained_values(&m, how, &n, NULL);
            for (how.threads = 2; how.threads <= 3; how.threads++) {
                float *two = trained_values(&m, how, &other, NULL);
                if (memcmp(one, two, n * sizeof *one))
                    fail_msg("%s: %d threads differ from one", optimizers[i]->name, how.threads);
                free(two);
            }
            free(one);
            bench b;
            toque_error err;
            tq_step_result r, last;
            how.threads = 2;
            open_bench(&b, "llama", &m, how);
            check(tq_trainer_step(&b.trainer, &r, &err), &err);
            for (int step = 0; step < 20; step++) check(tq_trainer_step(&b.trainer, &last, &err), &err);
            if (!(last.loss < r.loss - 0.01))
                fail_msg("%s: the loss went from %g to %g", optimizers[i]->name, r.loss, last.loss);
            close_bench(&b);
        }
}

/* Two steps by hand: d = min(ema, (1 + t) / (10 + t)). */
static void an_average_follows_the_values(void **state) {
    (void)state;
    bench b;
    toque_error err;
    tq_step_result r;
    open_bench(&b, "llama", find_method("ia3"), (layout){.ema = 0.9});
    size_t n = b.adapter->n;
    double *mean = malloc(n * sizeof *mean);
    assert_non_null(mean);
    for (size_t i = 0; i < n; i++) mean[i] = (double)b.adapter->values[i];
    for (int t = 1; t <= 3; t++) {
        check(tq_trainer_step(&b.trainer, &r, &err), &err);
        double d = (1.0 + t) / (10.0 + t);
        for (size_t i = 0; i < n; i++) mean[i] = d * mean[i] + (1 - d) * (double)b.adapter->values[i];
    }
    float last = b.adapter->values[0];
    tq_trainer_swap_ema(&b.trainer);
    for (size_t i = 0; i < n; i++) assert_true(fabs((double)b.adapter->values[i] - mean[i]) < 1e-6);
    tq_trainer_swap_ema(&b.trainer);
    assert_true(b.adapter->values[0] == last);
    free(mean);
    close_bench(&b);
}

static void the_finder_suggests_a_rate_below_the_one_that_breaks(void **state) {
    (void)state;
    bench b;
    toque_error err;
    static tq_lr_find f;
    open_bench(&b, "llama", find_method("full"), (layout){0});
    check(tq_lr_find_run(&f, &b.trainer, 1e-6, 10, NULL, NULL, &err), &err);
    assert_true(f.n > 20 && f.best > 10 && f.best < f.n - 1);
    assert_true(f.points[f.best].smooth < f.points[0].smooth && f.points[f.n - 1].smooth > f.points[f.best].smooth);
    assert_true(fabs(f.suggestion - f.points[f.best].lr / 10) < 1e-12 && f.suggestion > 1e-5 && f.suggestion < 0.1);
    close_bench(&b);
}

/* The sketch ranks modules as the gradients of their whole weights do: what it takes are the steepest third. */
static void auto_targets_are_those_with_the_largest_gradients(void **state) {
    (void)state;
    bench b;
    toque_error err;
    tq_step_result r;
    open_bench(&b, "llama", find_method("full"), (layout){0});
    check(tq_trainer_gradient(&b.trainer, &r, &err), &err);
    tq_adapter_options a = {.kind = "lora", .rank = 16, .alpha = 32, .seed = 1};
    tq_trainer_options o = {.objective = &tq_objective_sft,
                            .optimizer = &tq_optimizer_adamw,
                            .schedule = {.lr = 1, .total = 1},
                            .rows = ROWS,
                            .packing = true};
    tq_buf text, notes;
    tq_buf_init(&text, &b.ctx->mem, 1 << 16);
    tq_buf_init(&notes, &b.ctx->mem, 1 << 16);
    check(tq_auto_targets(&text, b.model, &a, &b.data, &o, 0.3, &notes, &err), &err);
    double least = INFINITY, most = 0; /* of the chosen; of the others that cost no more than the cheapest chosen */
    size_t values = 0, all = 0;
    for (size_t i = 0; i < b.adapter->n_ranges; i++) {
        const tq_range *range = &b.adapter->ranges[i];
        if (!tq_is_linear(range->role)) continue;
        char path[100];
        tq_module_path(path, b.adapter, range->layer, range->role);
        double norm = 0;
        for (int k = 0; k < range->rows * range->cols; k++)
            norm +=
                (double)b.adapter->grads[range->start + (size_t)k] * (double)b.adapter->grads[range->start + (size_t)k];
        size_t cost = 16 * (size_t)(range->rows + range->cols);
        all += cost;
        bool chosen = strstr(text.data, path) != NULL;
        if (chosen) {
            values += cost;
            least = sqrt(norm) < least ? sqrt(norm) : least;
        } else if (range->rows <= 16 && sqrt(norm) > most) {
            most = sqrt(norm);
        }
    }
    assert_true(values > 0 && values <= all * 3 / 10);
    assert_non_null(strstr(notes.data, "of 2 layers"));
    if (!(least > 0.7 * most)) fail_msg("one with gradient %g was taken, one with %g was not", least, most);
    tq_buf_clear(&text);
    tq_buf_clear(&notes);
    close_bench(&b);
}

static void packing_changes_no_gradient(void **state) {
    (void)state;
    for (int i = 0; i < N_METHODS; i++) {
        bench a, b;
        toque_error err;
        tq_step_result r;
        open_bench(&a, arch_of(&methods[i]), &methods[i], (layout){0});
        open_bench(&b, arch_of(&methods[i]), &methods[i], (layout){.unpacked = true});
        check(tq_trainer_gradient(&a.trainer, &r, &err), &err);
        assert_int_equal(r.passes, 1);
        check(tq_trainer_gradient(&b.trainer, &r, &err), &err);
        assert_int_equal(r.passes, ROWS);
        double d = 0, norm = 0;
        for (size_t j = 0; j < a.adapter->n; j++) {
            double x = (double)a.adapter->grads[j], y = (double)b.adapter->grads[j];
            d += (x - y) * (x - y);
            norm += x * x;
        }
        if (!(norm > 0 && sqrt(d / norm) < 1e-5)) fail_msg("%s: %g", methods[i].name, sqrt(d / norm));
        close_bench(&a);
        close_bench(&b);
    }
}

/* The objective's loss with the values of a range at from + h along / norm. */
static double loss_at(bench *b, const tq_range *r, const float *from, const float *along, double h, double norm) {
    toque_error err;
    tq_step_result result;
    for (int i = 0; i < r->rows * r->cols; i++)
        b->adapter->values[r->start + (size_t)i] = (float)((double)from[i] + h * (double)along[i] / norm);
    tq_adapter_changed(b->adapter);
    check(tq_trainer_gradient(&b->trainer, &result, &err), &err);
    return result.objective;
}

/* Along its own direction the gradient of a tensor is as long as the loss is steep. DoRA's norms count as constants in
 * its gradient, so its matrices are left out. */
static void gradients_are_the_slope_of_the_loss(void **state) {
    (void)state;
    for (int i = 0; i < N_METHODS; i++) {
        bench b;
        toque_error err;
        tq_step_result result;
        open_bench(&b, "qwen2", &methods[i], (layout){0});
        check(tq_trainer_gradient(&b.trainer, &result, &err), &err);
        for (size_t j = 0; j < b.adapter->n_ranges; j++) {
            const tq_range *r = &b.adapter->ranges[j];
            if (b.adapter->kind == &tq_peft_dora && r->part < 2) continue;
            double norm = 0, h = 0.02;
            for (int k = 0; k < r->rows * r->cols; k++)
                norm += (double)b.adapter->grads[r->start + (size_t)k] * (double)b.adapter->grads[r->start + (size_t)k];
            norm = sqrt(norm);
            size_t n = (size_t)r->rows * (size_t)r->cols;
            float *from = malloc(n * sizeof *from), *along = malloc(n * sizeof *along);
            assert_true(from && along);
            memcpy(from, b.adapter->values + r->start, n * sizeof *from);
            memcpy(along, b.adapter->grads + r->start, n * sizeof *along);
            double slope = (loss_at(&b, r, from, along, h, norm) - loss_at(&b, r, from, along, -h, norm)) / (2 * h);
            (void)loss_at(&b, r, from, along, 0, norm);
            free(from);
            free(along);
            /* A key's bias moves all scores of a query alike: its gradient is noise. */
            if (!(fabs(slope - norm) <= 1e-2 * norm + 2e-4))
                fail_msg("%s: %s has gradient %g, slope %g", methods[i].name, r->name, norm, slope);
        }
        close_bench(&b);
    }
}

/* A fresh adapter changes nothing, and what is saved and loaded again is the same, to the bit. */
static void files_give_a_method_back(void **state) {
    (void)state;
    for (int i = 0; i < N_METHODS; i++) {
        const method *m = &methods[i];
        bench b;
        toque_error err;
        tq_step_result r;
        double base, loss;
        char dir[160];
        open_small(&b, arch_of(m), 2);
        check(tq_adapter_new(&b.adapter, b.model, &m->o, &err), &err);
        check(start(&b, m, (layout){0}, &err), &err);
        check(tq_trainer_evaluate(&b.trainer, &b.data, &loss, NULL, &err), &err);
        b.trainer.hats.n = 0;
        check(tq_trainer_evaluate(&b.trainer, &b.data, &base, NULL, &err), &err);
        b.trainer.hats.n = 1;
        bool begins_as_base = !b.adapter->table.n;
        if (begins_as_base && !(fabs(loss - base) <= 1e-5 * base))
            fail_msg("%s: a fresh one has loss %g, not %g", m->name, loss, base);
        for (int s = 0; s < 3; s++) check(tq_trainer_step(&b.trainer, &r, &err), &err);
        check(tq_trainer_evaluate(&b.trainer, &b.data, &loss, NULL, &err), &err);
        if (begins_as_base) assert_true(loss < base);
        snprintf(dir, sizeof dir, "%s/%s", folder, m->name);
        check(tq_make_dirs(&b.ctx->mem, dir, &err), &err);
        check(tq_adapter_save(b.adapter, dir, NULL, &err), &err);
        tq_adapter *again;
        check(tq_adapter_load(&again, b.model, dir, &err), &err);
        assert_ptr_equal(again->kind, b.adapter->kind);
        assert_int_equal(again->n, b.adapter->n * (b.adapter->start ? 2 : 1));
        if (!b.adapter->start) assert_memory_equal(again->values, b.adapter->values, again->n * sizeof(float));
        double worn;
        tq_trainer_clear(&b.trainer); /* PiSSA's has twice the rank */
        tq_dataset_clear(&b.data);
        tq_adapter *first = b.adapter;
        b.adapter = again;
        check(start(&b, m, (layout){0}, &err), &err);
        check(tq_trainer_evaluate(&b.trainer, &b.data, &worn, NULL, &err), &err);
        if (!(fabs(worn - loss) <= (first->start ? 1e-5 : 0))) fail_msg("%s: loss %g, again %g", m->name, loss, worn);
        tq_trainer_clear(&b.trainer);
        b.adapter = first;
        tq_adapter_free(again);
        close_bench(&b);
    }
}

static int set_up(void **state) {
    (void)state;
    char path[128];
    if (!small_folder(folder)) return 1;
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s.gguf", folder, i ? "qwen2" : "llama");
        if (!small_model_write_arch(path, i ? "qwen2" : "llama")) return 1;
    }
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    small_remove(folder);
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 2) return 1;
    expectations = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_method_equals_the_reference),
        cmocka_unit_test(threads_and_memory_give_the_same_bytes),
        cmocka_unit_test(every_optimizer_gives_the_same_bytes_on_any_threads_and_learns),
        cmocka_unit_test(an_average_follows_the_values),
        cmocka_unit_test(the_finder_suggests_a_rate_below_the_one_that_breaks),
        cmocka_unit_test(auto_targets_are_those_with_the_largest_gradients),
        cmocka_unit_test(packing_changes_no_gradient),
        cmocka_unit_test(gradients_are_the_slope_of_the_loss),
        cmocka_unit_test(files_give_a_method_back),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
