/* toque tune: the command around a training (src/train/tune.h): what it is going to do, the live line, the curve and
 * the closing figures. --dry-run stops before anything is written. */
#include <langinfo.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/progress.h"
#include "cli/baseline.h"
#include "cli/cli.h"
#include "runs/curve.h"
#include "train/lr_find.h"
#include "train/tune.h"

typedef struct tune_options {
    tq_recipe recipe;
    const char *output;
    bool resume, other_machine, overwrite, dry_run, find_lr;
} tune_options;

static const tq_option run_table[] = {
    {"output", 'o', TQ_OPT_TEXT, offsetof(tune_options, output), NULL, 0, 0, NULL, "RUN", "output_dir|out",
     "run folder to make"},
    {"resume", 0, TQ_OPT_FLAG, offsetof(tune_options, resume), "off", 0, 0, NULL, NULL, "resume_from_checkpoint",
     "go on where RUN stopped, with RUN's own recipe"},
    {"other_machine", 0, TQ_OPT_FLAG, offsetof(tune_options, other_machine), "off", 0, 0, NULL, NULL, NULL,
     "resume although instruction set, compute or build are others: the bytes will be others too"},
    {"overwrite", 0, TQ_OPT_FLAG, offsetof(tune_options, overwrite), "off", 0, 0, NULL, NULL, "overwrite_output_dir",
     "replace a run that is already there"},
    {"dry_run", 0, TQ_OPT_FLAG, offsetof(tune_options, dry_run), "off", 0, 0, NULL, NULL, NULL,
     "show data, memory and the time of two real steps; write nothing"},
    {"find_lr", 0, TQ_OPT_FLAG, offsetof(tune_options, find_lr), "off", 0, 0, NULL, NULL, NULL,
     "try learning rates from 1e-6 to 1 in 60 steps and suggest one; write nothing"},
    {0},
};

static const tq_cli_table tables[] = {{tq_recipe_table, offsetof(tune_options, recipe)}, {run_table, 0}, {NULL, 0}};

/* What the live line needs. */
typedef struct watcher {
    tq_cli *cli;
    tq_tune *tune;
    tq_progress progress;
    double started, seconds; /* seconds: spent in steps */
    int64_t tokens;          /* of this process's steps */
    uint64_t done;           /* tokens of the whole run */
    tq_step_result last;
    double eval_loss; /* the last one, NAN: none */
    tq_baseline baseline;
} watcher;

static size_t resident_bytes(void) {
    unsigned long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f) return 0;
    if (fscanf(f, "%*u %llu", &pages) != 1) pages = 0;
    fclose(f);
    return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}

static size_t peak_bytes(void) {
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (size_t)usage.ru_maxrss * 1024 : 0;
}

static void on_step(void *arg, const tq_step_result *r) {
    watcher *w = arg;
    w->tokens += r->tokens;
    w->done += (uint64_t)r->tokens;
    w->seconds += r->seconds;
    w->last = *r;
    char note[120];
    int n = snprintf(note, sizeof note, "step %lld/%lld, loss %.4f", (long long)r->step,
                     (long long)w->tune->recipe->steps, r->loss);
    if (!isnan(w->eval_loss)) n += snprintf(note + n, sizeof note - (size_t)n, ", held out %.4f", w->eval_loss);
    snprintf(note + n, sizeof note - (size_t)n, ", %.0f MB", (double)resident_bytes() / 1e6);
    tq_progress_update(&w->progress, w->done, note);
}

static void on_evaluating(void *arg, int64_t step) {
    watcher *w = arg;
    char note[80];
    snprintf(note, sizeof note, "step %lld: evaluating %zu held-out rows", (long long)step, w->tune->held_out.n);
    tq_progress_update(&w->progress, w->done, note);
}

static void on_evaluated(void *arg, int64_t step, double loss, bool best) {
    watcher *w = arg;
    w->eval_loss = loss;
    char note[120];
    snprintf(note, sizeof note, "step %lld: held-out loss %.4f%s", (long long)step, loss, best ? " (best so far)" : "");
    tq_progress_update(&w->progress, w->done, note);
}

static size_t tokens_of(const tq_dataset *d) {
    size_t n = 0;
    for (size_t i = 0; i < d->n; i++) n += (size_t)d->examples[i].n;
    return n;
}

/* Tokens of the first `steps` steps; exact at the end of an epoch, near elsewhere. */
static uint64_t tokens_until(const tq_tune *t, int64_t steps) {
    double tokens = 0;
    for (size_t i = 0; i < t->data.n; i++) {
        const tq_example *e = &t->data.examples[i];
        tokens += (double)e->n * (t->take ? (double)t->take[e->file] / (double)t->set_rows[e->file] : 1);
    }
    return (uint64_t)(tokens * (double)steps / (double)t->recipe->steps_per_epoch + 0.5);
}

static toque_status describe(tq_cli *cli, const tq_tune *t, toque_error *err) {
    const tq_recipe *r = t->recipe;
    tq_buf out;
    tq_buf_init(&out, &cli->mem, 1 << 20);
    tq_tune_describe_data(t, &out);
    tq_buf_puts(&out, t->notes.data);
    tq_buf_printf(&out,
                  "training: %s of %zu values, objective %s, %s at lr %g, %lld steps (%.3g epochs) of %lld rows\n",
                  r->method, t->adapter->n, r->objective, r->optimizer, r->lr, (long long)r->steps,
                  (double)r->steps / (double)r->steps_per_epoch, (long long)(r->batch_size * r->grad_accum));
    tq_memory_plan_print(&t->plan, &out);
    toque_status status = tq_buf_status(&out, "the description", err);
    for (char *line = out.data, *end; status == TOQUE_OK && *line; line = end) {
        end = strchr(line, '\n');
        if (end)
            *end++ = 0;
        else
            end = line + strlen(line);
        tq_cli_note(cli, "%s", line);
    }
    tq_buf_clear(&out);
    return status;
}

static toque_status dry_run(tq_cli *cli, tq_tune *t, toque_error *err) {
    tq_step_result r;
    double seconds = 0;
    int64_t tokens = 0;
    int steps = t->recipe->steps < 2 ? 1 : 2;
    for (int i = 0; i < steps; i++) {
        TQ_TRY(tq_trainer_step(&t->trainer, &r, err));
        seconds += r.seconds;
        tokens += r.tokens;
    }
    double rate = (double)tokens / seconds, total = (double)tokens_until(t, t->recipe->steps) / rate;
    if (cli->common.json)
        return tq_cli_json(cli,
                           json_pack("{s:b, s:I, s:I, s:I, s:I, s:f, s:f, s:I, s:I, s:f}", "dry_run", 1, "rows",
                                     (json_int_t)t->data.n, "held_out_rows", (json_int_t)t->held_out.n, "tokens",
                                     (json_int_t)tokens_of(&t->data), "steps", (json_int_t)t->recipe->steps,
                                     "tokens_per_second", rate, "seconds", total, "memory_planned",
                                     (json_int_t)tq_memory_plan_total(&t->plan), "memory_peak",
                                     (json_int_t)peak_bytes(), "loss", r.loss),
                           err);
    printf("%d steps measured: %.0f tokens/s, peak memory %.0f MB\n", steps, rate, (double)peak_bytes() / 1e6);
    printf("%lld steps will take about %.0f:%02.0f:%02.0f, evaluations apart\n", (long long)t->recipe->steps,
           floor(total / 3600), floor(fmod(total / 60, 60)), floor(fmod(total, 60)));
    printf("nothing was written\n");
    return TOQUE_OK;
}

static toque_status print_curve(tq_cli *cli, const tq_metrics_series *series, toque_error *err) {
    tq_curve_style style = {.width = 64, .height = 10, .unicode = strcmp(nl_langinfo(CODESET), "UTF-8") == 0};
    tq_buf out;
    tq_buf_init(&out, &cli->mem, 1 << 20);
    tq_curve_draw(&cli->mem, &out, series, style);
    toque_status status = tq_buf_status(&out, "the curve", err);
    if (status == TOQUE_OK) status = tq_cli_write(cli, out.data, out.len, err);
    tq_buf_clear(&out);
    return status;
}

static void on_point(void *arg, const tq_lr_point *p) {
    watcher *w = arg;
    char note[80];
    snprintf(note, sizeof note, "lr %.2e, loss %.4f", p->lr, p->loss);
    tq_progress_update(&w->progress, ++w->done, note);
}

static toque_status show_rates_json(tq_cli *cli, const tq_lr_find *f, toque_error *err) {
    json_t *points = json_array();
    for (int i = 0; points && i < f->n; i++)
        json_array_append_new(points, json_pack("{s:f, s:f, s:f}", "lr", f->points[i].lr, "loss", f->points[i].loss,
                                                "smooth", f->points[i].smooth));
    return tq_cli_json(
        cli, json_pack("{s:o, s:b, s:f}", "points", points, "ran_away", f->ran_away, "suggestion", f->suggestion), err);
}

static toque_status show_rates(tq_cli *cli, const tq_lr_find *f, toque_error *err) {
    tq_metrics_point loss[TQ_LR_FIND_STEPS];
    for (int i = 0; i < f->n; i++) loss[i] = (tq_metrics_point){.step = i + 1, .value = f->points[i].smooth};
    tq_metrics_series series = {.mem = &cli->mem, .loss = loss, .n_loss = (size_t)f->n};
    if (!cli->common.quiet) TQ_TRY(print_curve(cli, &series, err));
    printf("step        lr     loss   smooth\n");
    for (int i = 0; i < f->n; i++)
        if (i % 4 == 0 || i == f->best || i == f->n - 1)
            printf("%4d  %8.1e %8.4f %8.4f%s\n", i + 1, f->points[i].lr, f->points[i].loss, f->points[i].smooth,
                   i == f->best ? "  lowest" : "");
    if (f->ran_away) printf("then the loss ran away\n");
    printf("suggestion: --lr %.1e (a tenth of the rate with the lowest smoothed loss); nothing was written\n",
           f->suggestion);
    return TOQUE_OK;
}

static toque_status find_lr(tq_cli *cli, tq_tune *t, toque_error *err) {
    watcher w = {.cli = cli, .tune = t};
    tq_lr_find *f = TQ_NEW(&cli->mem, tq_lr_find);
    if (!f) return TQ_NOMEM(err);
    tq_progress_start(&w.progress, tq_cli_progress(cli), "trying rates", "steps", TQ_LR_FIND_STEPS, 0);
    toque_status status = tq_lr_find_run(f, &t->trainer, 1e-6, 1, on_point, &w, err);
    tq_progress_end(&w.progress, NULL);
    if (status == TOQUE_OK) status = cli->common.json ? show_rates_json(cli, f, err) : show_rates(cli, f, err);
    tq_free(&cli->mem, f);
    return status;
}

static json_t *number(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}

static toque_status report_json(tq_cli *cli, const watcher *w, const tq_metrics_series *s, toque_error *err) {
    const tq_tune *t = w->tune;
    json_t *o = json_pack(
        "{s:s, s:I, s:I, s:b, s:I, s:I, s:I, s:I, s:f, s:f, s:I}", "run", t->run.dir, "steps", (json_int_t)t->at.step,
        "kept_step", (json_int_t)tq_tune_kept_step(t), "stopped_early", t->at.stopped, "rows", (json_int_t)t->data.n,
        "held_out_rows", (json_int_t)t->held_out.n, "trained_values", (json_int_t)t->adapter->n, "tokens",
        (json_int_t)w->tokens, "seconds", tq_now() - w->started, "tokens_per_second",
        w->seconds > 0 ? (double)w->tokens / w->seconds : 0.0, "memory_peak", (json_int_t)peak_bytes());
    bool ok = o && json_object_set_new(o, "first_loss", number(s->n_loss ? s->loss[0].value : NAN)) == 0 &&
              json_object_set_new(o, "loss", number(s->n_loss ? s->loss[s->n_loss - 1].value : NAN)) == 0 &&
              json_object_set_new(o, "eval_loss_before", number(t->at.base_eval)) == 0 &&
              json_object_set_new(o, "eval_loss_best", number(t->at.best_eval)) == 0 &&
              json_object_set_new(o, "eval_loss", number(t->at.last_eval)) == 0;
    if (ok && w->baseline.rows)
        ok = json_object_set_new(o, "baseline", tq_answers_share_json(w->baseline.right, w->baseline.rows)) == 0;
    if (ok && s->last_by_task) ok = json_object_set(o, "eval_loss_by_task", s->last_by_task) == 0;
    if (!ok) {
        json_decref(o);
        return TQ_NOMEM(err);
    }
    return tq_cli_json(cli, o, err);
}

/* How a head answers the held-out rows at the end, and with new labels how the old ones fared. */
static toque_status report_head(const tq_tune *t, toque_error *err) {
    if (t->figures.head) {
        tq_buf out;
        tq_buf_init(&out, &t->ctx->mem, 1 << 24);
        toque_status status = tq_figures_print(&t->figures, "held-out, as kept, ", &out, err);
        if (status == TOQUE_OK) printf("%s", out.data);
        tq_buf_clear(&out);
        if (status != TOQUE_OK) return status;
    }
    if (t->recipe->add_labels && t->old_rows[0] && t->old_rows[1])
        printf("held-out rows of the %d old labels: %.1f %% right before (among the old labels), %.1f %% after\n",
               t->old_labels, 100 * (double)t->old_right[0] / (double)t->old_rows[0],
               100 * (double)t->old_right[1] / (double)t->old_rows[1]);
    return TOQUE_OK;
}

static toque_status report_ranking(const tq_tune *t, toque_error *err) {
    tq_buf out;
    tq_buf_init(&out, &t->ctx->mem, 1 << 16);
    tq_ranking_print(&t->ranking, &out);
    toque_status status = tq_buf_status(&out, "the figures", err);
    if (status == TOQUE_OK) printf("%s", out.data);
    tq_buf_clear(&out);
    return status;
}

static void report_tasks(const tq_metrics_series *s) {
    const char *name;
    json_t *last;
    json_object_foreach(s->last_by_task, name, last)
        printf("  %s: held-out loss %.4f before, %.4f last\n", name,
               json_number_value(json_object_get(s->first_by_task, name)), json_number_value(last));
}

static toque_status report(tq_cli *cli, const watcher *w, toque_error *err) {
    const tq_tune *t = w->tune;
    const tq_progress_state *at = &t->at;
    tq_metrics_series series;
    TQ_TRY(tq_metrics_read(&series, &cli->mem, t->metrics.path, err));
    toque_status status = TOQUE_OK;
    if (cli->common.json) TQ_GO(report_json(cli, w, &series, err));
    if (cli->common.json) goto done;
    if (!cli->common.quiet) TQ_GO(print_curve(cli, &series, err));
    if (series.n_loss)
        printf("loss %.4f -> %.4f in %lld steps%s", series.loss[0].value, series.loss[series.n_loss - 1].value,
               (long long)at->step, at->stopped ? " (stopped early: the held-out loss no longer fell)" : "");
    if (w->seconds > 0)
        printf(", %.0f tokens/s, peak memory %.0f MB", (double)w->tokens / w->seconds, (double)peak_bytes() / 1e6);
    printf("\n");
    if (!isnan(at->last_eval))
        printf("held-out loss %.4f before, %.4f best (step %lld), %.4f last; the adapter holds step %lld\n",
               at->base_eval, at->best_eval, (long long)at->best_step, at->last_eval, (long long)tq_tune_kept_step(t));
    report_tasks(&series);
    if (w->baseline.rows) printf("%s\n", w->baseline.text);
    if (!isnan(at->best_eval) && at->best_eval >= at->base_eval)
        tq_cli_warn(cli, "the held-out loss never fell below the base model's: this adapter did not help "
                         "(more rows, a lower lr or fewer epochs may)");
    if (t->trainer.head) TQ_GO(report_head(t, err));
    if (t->ranking.n) TQ_GO(report_ranking(t, err));
    printf("run: %s\n", t->run.dir);
    if (t->trainer.head)
        printf("  toque predict -m %s -a %s ROWS.csv --text-column text -o OUT.csv\n", t->recipe->model, t->run.dir);
    else if (t->trainer.pairs)
        printf("  toque embed -m %s -a %s TEXTS\n", t->recipe->model, t->run.dir);
    else
        printf("  toque chat -m %s -a %s\n  toque generate -m %s -a %s -p \"...\"\n", t->recipe->model, t->run.dir,
               t->recipe->model, t->run.dir);
done:
    tq_metrics_series_clear(&series);
    return status;
}

/* recipe.yaml: every key as resolved, and what products were computed in. */
static toque_status write_yaml(const tq_recipe *recipe, const tq_ctx *ctx, tq_buf *out, toque_error *err) {
    tq_buf_puts(out, "# toque tune --config recipe.yaml -o OTHER repeats this run\n");
    tq_recipe_yaml(recipe, out);
    tq_buf_printf(out, "compute: %s\n", ctx->compute == TQ_COMPUTE_BF16 ? "bf16" : "f32");
    return tq_buf_status(out, TQ_RUN_RECIPE, err);
}

static toque_status train(tq_cli *cli, tq_tune *t, const tune_options *o, toque_error *err) {
    tq_run_mode mode = o->resume ? TQ_RUN_RESUME : o->overwrite ? TQ_RUN_OVERWRITE : TQ_RUN_NEW;
    tq_buf yaml;
    tq_buf_init(&yaml, &cli->mem, 1 << 20);
    toque_status status = TOQUE_OK;
    watcher w = {.cli = cli, .tune = t, .started = tq_now(), .eval_loss = NAN};
    TQ_GO(write_yaml(t->recipe, t->ctx, &yaml, err));
    t->other_machine = o->other_machine;
    TQ_GO(tq_tune_start(t, o->output, mode, &yaml, err));
    if (o->resume)
        tq_cli_note(cli,
                    t->resumed ? "resuming %s after step %lld"
                               : "%s has no checkpoint: it starts at the beginning (step %lld)",
                    o->output, (long long)t->resumed);
    w.done = tokens_until(t, t->resumed);
    w.eval_loss = t->at.last_eval;
    tq_progress_start(&w.progress, tq_cli_progress(cli), "training", "tokens", tokens_until(t, t->recipe->steps),
                      w.done);
    tq_tune_events events = {.arg = &w, .step = on_step, .evaluating = on_evaluating, .evaluated = on_evaluated};
    status = tq_tune_run(t, &events, err);
    tq_progress_end(&w.progress, NULL);
    if (status == TOQUE_ECANCELED)
        status = TQ_FAIL(err, ECANCELED,
                         "stopped after step %lld of %lld; all of it is saved: go on with toque tune -o %s "
                         "--resume",
                         (long long)t->at.step, (long long)t->recipe->steps, o->output);
    if (status != TOQUE_OK) goto done;
    tq_baseline_measure(&w.baseline, cli, t);
    if (w.baseline.rows) t->baseline = w.baseline.text;
    TQ_GO(tq_tune_write_card(t, yaml.data, err));
    TQ_GO(report(cli, &w, err));
done:
    tq_buf_clear(&yaml);
    return status;
}

/* --resume alone is enough: the run knows its own recipe. What the command line says too must agree with it. */
static toque_status take_recipe(tq_cli *cli, const tune_options *o, toque_error *err) {
    TQ_TRY(tq_run_check(&cli->mem, o->output, TQ_RUN_RESUME, err));
    char *path = tq_path_join(&cli->mem, o->output, TQ_RUN_RECIPE);
    if (!path) return TQ_NOMEM(err);
    toque_status status = tq_options_yaml(&cli->set, path, true, err);
    tq_free(&cli->mem, path);
    return status;
}

static toque_status run(tq_cli *cli, void *options, toque_error *err) {
    tune_options *o = options;
    bool looks = o->dry_run || o->find_lr; /* nothing is written */
    if (!o->output && !looks)
        return tq_cli_usage(cli, err, "give the run folder with -o RUN (or --dry-run, or --find-lr)");
    if (o->dry_run && o->find_lr) return tq_cli_usage(cli, err, "give one of --dry-run and --find-lr");
    if (o->find_lr && tq_options_given(&cli->set, "lr"))
        return tq_cli_usage(cli, err, "--find-lr looks for a learning rate: leave --lr out");
    if (o->resume && o->overwrite) return tq_cli_usage(cli, err, "--resume and --overwrite contradict each other");
    if (o->other_machine && !o->resume) return tq_cli_usage(cli, err, "--other-machine goes with --resume");
    if (o->resume && !o->output) return tq_cli_usage(cli, err, "--resume needs the run folder: -o RUN");
    if (o->resume) TQ_TRY(take_recipe(cli, o, err));
    if (!o->recipe.model) o->recipe.model = getenv("TOQUE_MODEL");
    TQ_TRY(tq_cli_need_model(cli, &(tq_cli_model){.model = o->recipe.model}, err));
    if (!o->recipe.data.len) return tq_cli_usage(cli, err, "give rows to train on with -d DATA");
    if (o->output && !o->resume && !looks)
        TQ_TRY(tq_run_check(&cli->mem, o->output, o->overwrite ? TQ_RUN_OVERWRITE : TQ_RUN_NEW, err));
    tq_ctx *ctx;
    TQ_TRY(tq_cli_ctx(cli, &ctx, err));
    tq_cli_catch_interrupt(cli);
    (void)signal(SIGXFSZ, SIG_IGN); /* a file over the quota then is a failed write, which is reported */
    tq_tune tune;
    TQ_TRY(tq_tune_open(&tune, ctx, &o->recipe, &cli->set, err));
    toque_status status = describe(cli, &tune, err);
    if (status == TOQUE_OK)
        status = o->dry_run   ? dry_run(cli, &tune, err)
                 : o->find_lr ? find_lr(cli, &tune, err)
                              : train(cli, &tune, o, err);
    tq_tune_close(&tune);
    return status;
}

const tq_command tq_cmd_tune = {
    .name = "tune",
    .group = TQ_GROUP_CUSTOMIZE,
    .summary = "Train an adapter on rows of data",
    .usage = "-m M -d DATA -o RUN [OPTIONS]",
    .about =
        "Trains a small adapter (a hat) on a frozen model, or with --method full all of it, and leaves a run folder:\n"
        "the adapter in PEFT's format, the recipe, metrics.jsonl, an exact checkpoint and a model card. Ctrl-C saves;\n"
        "--resume goes on to the byte. --find-lr and --dry-run write nothing.\n"
        "Keys of TRL, axolotl and LLaMA-Factory are understood. See docs/training.md.",
    .example = "toque tune -m model.gguf -d rows.jsonl -o run\n"
               "toque tune -m model.gguf -d rows.jsonl -o run --rank 8 --epochs 2 --lr 5e-4\n"
               "toque tune -m model.gguf -d rows.jsonl --dry-run\n"
               "toque tune -o run --resume\n"
               "toque tune --config run/recipe.yaml -o again",
    .tables = tables,
    .size = sizeof(tune_options),
    .run = run,
};
