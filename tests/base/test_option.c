/* Option tables: the command line, YAML files, conversions, messages, help, and faults. */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/io.h"
#include "base/option.h"

typedef struct own {
    const char *model, *prompt;
    int64_t rows;
    double lr, temperature;
    int scheduler;
    bool packing, ids;
    tq_option_list targets, sets;
    uint64_t memory;
} own;
typedef struct common {
    int64_t threads;
} common;

#define AT(f) offsetof(own, f)
static const tq_option own_table[] = {
    {.key = "model", .letter = 'm', .type = TQ_OPT_TEXT, .offset = AT(model), .value = "M", .help = "the model"},
    {.key = "prompt", .letter = 'p', .type = TQ_OPT_TEXT, .offset = AT(prompt), .help = "a text"},
    {.key = "batch_size",
     .letter = 'b',
     .type = TQ_OPT_INT,
     .offset = AT(rows),
     .fallback = "8",
     .min = 1,
     .max = 4096,
     .aliases = "per_device_train_batch_size|micro_batch_size",
     .help = "rows of a step"},
    {.key = "lr",
     .type = TQ_OPT_NUMBER,
     .offset = AT(lr),
     .fallback = "1e-3",
     .min = 0,
     .max = 1,
     .aliases = "learning_rate",
     .help = "learning rate"},
    {.key = "temp", .type = TQ_OPT_NUMBER, .offset = AT(temperature), .fallback = "0.5", .help = "any number"},
    {.key = "scheduler",
     .type = TQ_OPT_CHOICE,
     .offset = AT(scheduler),
     .fallback = "cosine",
     .choices = "constant|linear|cosine",
     .help = "how the rate falls"},
    {.key = "packing", .type = TQ_OPT_FLAG, .offset = AT(packing), .fallback = "on", .help = "lay rows out dense"},
    {.key = "ids", .letter = 'i', .type = TQ_OPT_FLAG, .offset = AT(ids), .help = "print ids"},
    {.key = "sets", .type = TQ_OPT_LIST, .offset = AT(sets), .choices = "path|weight", .help = "mappings"},
    {.key = "targets",
     .letter = 't',
     .type = TQ_OPT_LIST,
     .offset = AT(targets),
     .fallback = "all",
     .value = "NAME",
     .help = "layers"},
    {.key = "max_memory", .type = TQ_OPT_BYTES, .offset = AT(memory), .min = 1000, .max = 0, .help = "limit"},
    {0}};
static const tq_option common_table[] = {
    {.key = "threads", .type = TQ_OPT_INT, .offset = offsetof(common, threads), .min = 1, .max = 64, .help = "threads"},
    {0}};
static const tq_option *const tables[] = {own_table, common_table, NULL};

typedef struct fixture {
    tq_mem mem;
    own o;
    common c;
    void *targets[3];
    tq_option_set set;
    toque_error err;
} fixture;

static void start(fixture *f) {
    memset(f, 0, sizeof *f);
    f->targets[0] = &f->o, f->targets[1] = &f->c;
    tq_options_init(&f->set, &f->mem, tables, f->targets);
    assert_int_equal(tq_options_defaults(&f->set, &f->err), TOQUE_OK);
}

static void stop(fixture *f) {
    tq_options_clear(&f->set);
    assert_int_equal(f->mem.used, 0);
}

/* Arguments are parted by '|'. */
static toque_status parse(fixture *f, const char *line) {
    static char copy[500];
    char *argv[32];
    int argc = 0;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *p = *copy ? copy : NULL; p;) {
        argv[argc++] = p;
        p = strchr(p, '|');
        if (p) *p++ = 0;
    }
    return tq_options_parse(&f->set, argc, argv, &f->err);
}

static void assert_refused(const char *line, const char *message) {
    fixture f;
    start(&f);
    assert_int_equal(parse(&f, line), TOQUE_EINVAL);
    assert_string_equal(f.err.message, message);
    stop(&f);
}

static void defaults_are_applied_but_not_given(void **state) {
    (void)state;
    fixture f;
    start(&f);
    assert_int_equal(f.o.rows, 8);
    assert_true(f.o.lr == 1e-3 && f.o.temperature == 0.5);
    assert_int_equal(f.o.scheduler, 2);
    assert_true(f.o.packing);
    assert_false(f.o.ids);
    assert_null(f.o.model);
    assert_int_equal(f.o.targets.len, 1);
    assert_string_equal(f.o.targets.items[0], "all");
    assert_false(tq_options_given(&f.set, "batch_size"));
    assert_false(tq_options_given(&f.set, "threads"));
    stop(&f);
}

static void every_spelling_of_the_command_line(void **state) {
    (void)state;
    fixture f;
    start(&f);
    assert_int_equal(parse(&f,
                           "in|-m|file|--lr=0.25|-b16|out|--temp|-1.5e2|-i|--no-packing|--scheduler|linear|--threads|"
                           "3|-t|q_proj|--targets=v_proj|-p||--max-memory|1.5Gi|-|-7|--|--lr"),
                     TOQUE_OK);
    assert_string_equal(f.o.model, "file");
    assert_string_equal(f.o.prompt, "");
    assert_true(f.o.lr == 0.25 && f.o.temperature == -150);
    assert_int_equal(f.o.rows, 16);
    assert_true(f.o.ids && !f.o.packing);
    assert_int_equal(f.o.scheduler, 1);
    assert_int_equal(f.c.threads, 3);
    assert_int_equal(f.o.targets.len, 2);
    assert_string_equal(f.o.targets.items[0], "q_proj");
    assert_string_equal(f.o.targets.items[1], "v_proj");
    assert_int_equal(f.o.memory, 3 * (1ull << 29));
    static const char *const positional[] = {"in", "out", "-", "-7", "--lr"};
    assert_int_equal(f.set.n_positional, 5);
    for (int i = 0; i < 5; i++) assert_string_equal(f.set.positional[i], positional[i]);
    assert_true(tq_options_given(&f.set, "lr") && tq_options_given(&f.set, "threads"));
    stop(&f);
}

static void flags_take_words_and_aliases_and_underscores_work(void **state) {
    (void)state;
    fixture f;
    start(&f);
    assert_int_equal(parse(&f, "--packing|off|--ids=yes|file"), TOQUE_OK);
    assert_true(!f.o.packing && f.o.ids);
    assert_int_equal(f.set.n_positional, 1);
    assert_int_equal(parse(&f, "--packing=ON|--ids|--learning_rate|0.5|--per-device-train-batch-size|2"), TOQUE_OK);
    assert_true(f.o.packing && f.o.ids && f.o.lr == 0.5);
    assert_int_equal(f.o.rows, 2);
    assert_int_equal(parse(&f, "--batch-size=3|--batch-size=4"), TOQUE_OK);
    assert_int_equal(f.o.rows, 4);
    stop(&f);
}

static void mistakes_are_explained(void **state) {
    (void)state;
    assert_refused("--batchsize|4", "unknown option --batchsize; did you mean --batch-size?");
    assert_refused("--lerning-rate=4", "unknown option --lerning-rate; did you mean --learning-rate?");
    assert_refused("--xyzzy", "unknown option --xyzzy");
    assert_refused("--sched", "unknown option --sched; did you mean --scheduler?");
    assert_refused("-x", "unknown option -x");
    assert_refused("--no-lr", "unknown option --no-lr");
    assert_refused("--no-packing=on", "option --no-packing takes no value");
    assert_refused("-ix", "option -i takes no value, but 'x' follows it");
    assert_refused("--lr", "option --lr needs a value: a number from 0 to 1");
    assert_refused("-m|--lr|2", "option -m needs a value, but --lr follows (write -m--lr if it is meant)");
    assert_refused("--model|--|x", "option --model needs a value, but -- follows (write --model=-- if it is meant)");
    assert_refused("--packing=maybe", "option --packing expects on or off, not 'maybe'");
    assert_refused("--scheduler=cos", "option --scheduler expects one of constant, linear, cosine, not 'cos'");
    assert_refused("--model=", "option --model expects M, but its value is empty");
    assert_refused("--batch-size=",
                   "option --batch-size expects a whole number from 1 to 4096, but its value is empty");
}

static void numbers_are_checked(void **state) {
    (void)state;
    static const char *const bad_int[] = {
        "0", "4097", "1.5", "abc", "1e3", " 1", "1 ", "0x10", "--", "+", "99999999999999999999"};
    static const char *const bad_number[] = {"2",      "-0.1",  "nan", "inf", "-inf", "1e999",
                                             "1e-999", "0x1p2", "1,5", "1e",  " 1",   "."};
    static const char *const bad_bytes[] = {"-1", "999", "1.5",          "1Z",  "1GiBs",
                                            "G",  "1e9", "99999999999P", "nan", "1 G"};
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"1000", 1000}, {"500M", 500000000}, {"2G", 2000000000},    {"1Gi", 1 << 30}, {"1GiB", 1 << 30},
                {"2kB", 2000},  {"1.5K", 1500},      {"1T", 1000000000000}, {"4096B", 4096}};
    fixture f;
    start(&f);
    for (size_t i = 0; i < sizeof bad_int / sizeof *bad_int; i++)
        assert_int_equal(tq_options_put(&f.set, "batch_size", bad_int[i], "--batch-size", &f.err), TOQUE_EINVAL);
    for (size_t i = 0; i < sizeof bad_number / sizeof *bad_number; i++)
        assert_int_equal(tq_options_put(&f.set, "lr", bad_number[i], "--lr", &f.err), TOQUE_EINVAL);
    for (size_t i = 0; i < sizeof bad_bytes / sizeof *bad_bytes; i++)
        assert_int_equal(tq_options_put(&f.set, "max_memory", bad_bytes[i], "--max-memory", &f.err), TOQUE_EINVAL);
    assert_true(f.o.rows == 8 && f.o.lr == 1e-3 && f.o.memory == 0); /* nothing was stored */
    assert_false(tq_options_given(&f.set, "lr"));
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(tq_options_put(&f.set, "max_memory", good[i].text, "--max-memory", &f.err), TOQUE_OK);
        assert_int_equal(f.o.memory, good[i].bytes);
    }
    assert_int_equal(tq_options_put(&f.set, "temp", "-1e300", "recipe, line 3", &f.err), TOQUE_OK);
    assert_int_equal(tq_options_put(&f.set, "temp", "x", "recipe, line 3", &f.err), TOQUE_EINVAL);
    assert_string_equal(f.err.message, "recipe, line 3: temp expects a number, not 'x'");
    stop(&f);
}

static void the_locale_does_not_change_numbers(void **state) {
    (void)state;
    char *old = strdup(setlocale(LC_NUMERIC, NULL));
    if (!setlocale(LC_NUMERIC, "de_DE.UTF-8") && !setlocale(LC_NUMERIC, "fr_FR.UTF-8")) (void)setlocale(LC_ALL, "");
    fixture f;
    start(&f);
    assert_int_equal(parse(&f, "--lr|0.125"), TOQUE_OK);
    assert_true(f.o.lr == 0.125);
    tq_buf out;
    tq_buf_init(&out, &f.mem, 10000);
    assert_true(tq_options_to_yaml(&f.set, 0, &out));
    assert_non_null(strstr(out.data, "lr: 0.125\n"));
    tq_buf_clear(&out);
    stop(&f);
    (void)setlocale(LC_NUMERIC, old);
    free(old);
}

/* --- YAML -------------------------------------------------------------------------------------- */

static char file[64];

static toque_status yaml(fixture *f, const char *text, bool weaker) {
    tq_mem mem = {0};
    assert_int_equal(tq_write_file(&mem, file, text, strlen(text), NULL), TOQUE_OK);
    return tq_options_yaml(&f->set, file, weaker, &f->err);
}

/* message is what follows the file's name */
static void assert_yaml_refused(const char *text, const char *message) {
    fixture f;
    start(&f);
    toque_status status = yaml(&f, text, true);
    assert_true(status == TOQUE_EINVAL || status == TOQUE_EFORMAT);
    assert_int_equal(strncmp(f.err.message, file, strlen(file)), 0);
    if (!strstr(f.err.message, message)) assert_string_equal(f.err.message, message);
    stop(&f);
}

static void a_recipe_sets_what_flags_left_open(void **state) {
    (void)state;
    fixture f;
    start(&f);
    assert_int_equal(parse(&f, "--lr|0.5|-t|o_proj"), TOQUE_OK);
    assert_int_equal(yaml(&f,
                          "# a recipe\nlearning_rate: 2e-4\nbatch_size: 4\npacking: off\nmodel: \"a: b\"\n"
                          "targets: [q_proj, 'v_proj']\nthreads: 2\nmax_memory: 2G\nprompt: |\n  two\n  lines\n",
                          true),
                     TOQUE_OK);
    assert_true(f.o.lr == 0.5 && !f.o.packing);
    assert_int_equal(f.o.rows, 4);
    assert_string_equal(f.o.model, "a: b");
    assert_string_equal(f.o.prompt, "two\nlines\n");
    assert_int_equal(f.o.targets.len, 1);
    assert_string_equal(f.o.targets.items[0], "o_proj");
    assert_int_equal(f.c.threads, 2);
    assert_true(tq_options_given(&f.set, "batch_size"));
    assert_int_equal(yaml(&f, "lr: 0.25\ntargets:\n  - a\n  - b\n", false), TOQUE_OK);
    assert_true(f.o.lr == 0.25);
    assert_int_equal(f.o.targets.len, 2);
    assert_int_equal(yaml(&f, "targets: c\n", false), TOQUE_OK);
    assert_int_equal(f.o.targets.len, 1);
    assert_int_equal(yaml(&f, "targets: []\n", false), TOQUE_OK);
    assert_int_equal(f.o.targets.len, 0);
    assert_int_equal(yaml(&f, "", true), TOQUE_OK);
    assert_int_equal(yaml(&f, "# nothing\n", true), TOQUE_OK);
    assert_int_equal(yaml(&f, "---\n", true), TOQUE_OK);
    assert_int_equal(yaml(&f, "{lr: 0.75}\n", false), TOQUE_OK);
    assert_true(f.o.lr == 0.75);
    stop(&f);
}

static void a_mapping_as_an_item_is_kept_as_json(void **state) {
    (void)state;
    fixture f, g;
    start(&f);
    start(&g);
    assert_int_equal(yaml(&f, "sets:\n- plain\n- path: 'say \"hi\"\\ \u00e9'\n  weight: 2\n- {}\n", false), TOQUE_OK);
    assert_int_equal(f.o.sets.len, 3);
    assert_string_equal(f.o.sets.items[0], "plain");
    assert_string_equal(f.o.sets.items[1], "{\"path\": \"say \\\"hi\\\"\\\\ \u00e9\", \"weight\": \"2\"}");
    assert_string_equal(f.o.sets.items[2], "{}");
    tq_buf out; /* and comes back from what is written */
    tq_buf_init(&out, &f.mem, 10000);
    f.o.memory = 1000000000; /* it has a least value and no default */
    assert_true(tq_options_to_yaml(&f.set, 0, &out));
    if (yaml(&g, out.data, false) != TOQUE_OK) fail_msg("%s", g.err.message);
    assert_int_equal(g.o.sets.len, 3);
    assert_string_equal(g.o.sets.items[1], f.o.sets.items[1]);
    tq_buf_clear(&out);
    stop(&f);
    stop(&g);
}

static void bad_recipes_are_refused_with_their_line(void **state) {
    (void)state;
    assert_yaml_refused("lr: 0.1\nbatchsize: 3\n", ", line 2: unknown key batchsize; did you mean batch_size?");
    assert_yaml_refused("lr: 0.1\n\nlr: 0.2\n", ", line 3: lr is already set in line 1");
    assert_yaml_refused("lr: 0.1\nlearning_rate: 0.2\n", ", line 2: lr is already set in line 1");
    assert_yaml_refused("lora:\n  rank: 3\n", ", line 1: unknown key lora");
    assert_yaml_refused("lr:\n  rank: 3\n", "lr holds a nested mapping; put its keys at the top level");
    assert_yaml_refused("targets: [a, [b]]\n", ", line 1: an item of targets must be a plain value");
    assert_yaml_refused("targets:\n- a\n- b: c\n", "an item of targets must be a plain value");
    assert_yaml_refused("sets:\n- path: a\n  wieght: 2\n", ", line 3: sets: unknown key wieght; did you mean weight?");
    assert_yaml_refused("sets:\n- path: a\n  path: b\n", ", line 3: sets: path stands twice in an item");
    assert_yaml_refused("sets:\n- path: [a]\n", "sets: a key of an item takes one plain value");
    assert_yaml_refused("sets:\n- path:\n", "sets: a key of an item takes one plain value");
    assert_yaml_refused("sets:\n- [a]\n", "an item of sets must be a plain value");
    assert_yaml_refused("lr: [0.1]\n", ", line 1: lr takes one value, not a list");
    assert_yaml_refused("lr: &x 0.1\n", ", line 1: the anchor x is not supported");
    assert_yaml_refused("lr: *x\n", ", line 1: the anchor x is not supported");
    assert_yaml_refused("lr: !!float 1\n", "the tag tag:yaml.org,2002:float is not supported");
    assert_yaml_refused("lr:\n", ", line 1: lr has no value");
    assert_yaml_refused("model: null\n", ", line 1: model has no value");
    assert_yaml_refused("model: ~\n", ", line 1: model has no value");
    assert_yaml_refused("model: \"\"\n", ", line 1: model expects M, but its value is empty");
    assert_yaml_refused("batch_size: 0\n", ", line 1: batch_size expects a whole number from 1 to 4096, not '0'");
    assert_yaml_refused("- lr\n", ", line 1: expected lines of the form \"key: value\"");
    assert_yaml_refused("lr\n", ", line 1: expected lines of the form \"key: value\"");
    assert_yaml_refused("lr: 0.1\n---\nlr: 0.2\n", ", line 2: a second document begins");
    assert_yaml_refused("? [a]\n: b\n", ", line 1: a key must be a plain name");
    assert_yaml_refused("lr: \"0.1\n", ": not valid YAML: ");
    assert_yaml_refused("lr: 0.1\n\tx: 1\n", ": not valid YAML: ");
    assert_yaml_refused("model: \"a\\0b\"\n", ", line 1: model holds a zero byte");
    assert_yaml_refused("model: \xff\xfe\xfd\n", ": not valid YAML: ");
}

static void a_value_that_a_flag_replaces_is_still_checked(void **state) {
    (void)state;
    fixture f;
    start(&f);
    assert_int_equal(parse(&f, "--lr|0.5"), TOQUE_OK);
    assert_int_equal(yaml(&f, "lr: fast\n", true), TOQUE_EINVAL);
    assert_int_equal(tq_options_yaml(&f.set, "/nowhere/recipe.yaml", true, &f.err), TOQUE_ENOTFOUND);
    stop(&f);
}

static void what_is_written_reads_back(void **state) {
    (void)state;
    fixture f, g;
    start(&f);
    start(&g);
    assert_int_equal(parse(&f, "--lr|0.1|--temp|-0.30000000000000004|-b|7|-p|say \"hi\"\\\n\té: # no comment\x7f\x01|"
                               "--no-packing|-t|a, b|-t|]|--scheduler|constant|--max-memory|5G"),
                     TOQUE_OK);
    tq_buf out;
    tq_buf_init(&out, &f.mem, 10000);
    assert_true(tq_options_to_yaml(&f.set, 0, &out));
    assert_int_equal(yaml(&g, out.data, false), TOQUE_OK);
    assert_true(g.o.lr == f.o.lr && g.o.temperature == f.o.temperature && g.o.rows == 7 && !g.o.packing);
    assert_string_equal(g.o.prompt, f.o.prompt);
    assert_null(g.o.model);
    assert_int_equal(g.o.targets.len, 2);
    assert_string_equal(g.o.targets.items[0], "a, b");
    assert_string_equal(g.o.targets.items[1], "]");
    assert_int_equal(g.o.scheduler, 0);
    assert_int_equal(g.o.memory, 5000000000ull);
    tq_buf_reset(&out);
    assert_int_equal(parse(&f, "-m|\xff"), TOQUE_OK); /* a file's name may be any bytes, YAML may not */
    assert_true(tq_options_to_yaml(&f.set, 0, &out));
    assert_non_null(strstr(out.data, "# model: left out, its value is not UTF-8\n"));
    tq_buf_clear(&out);
    stop(&f);
    stop(&g);
}

static void help_lists_every_option_in_two_columns(void **state) {
    (void)state;
    fixture f;
    start(&f);
    tq_buf out;
    tq_buf_init(&out, &f.mem, 100000);
    assert_true(tq_options_help(&f.set, &out));
    assert_non_null(strstr(out.data, "Options:\n  -m, --model M               the model\n"));
    assert_non_null(strstr(out.data, "\n  -b, --batch-size N          rows of a step (default: 8; 1 to 4096)\n"));
    assert_non_null(strstr(out.data, "\n      --[no-]packing          lay rows out dense (default: on)\n"));
    assert_non_null(strstr(out.data, "(constant|linear|cosine; default: cosine)\n"));
    assert_non_null(strstr(out.data, "\nCommon options:\n      --threads N             threads (1 to 64)\n"));
    for (char *line = strtok(out.data, "\n"); line; line = strtok(NULL, "\n")) assert_true(strlen(line) <= 100);
    tq_buf_clear(&out);
    stop(&f);
}

/* --- faults ------------------------------------------------------------------------------------ */

/* Everything at once, each allocation failing in turn. */
static void every_failing_allocation_is_returned(void **state) {
    (void)state;
    tq_mem mem = {0};
    const char *text = "targets: [a, b, c, d, e, f, g, h, i, j]\nmodel: m\n";
    assert_int_equal(tq_write_file(&mem, file, text, strlen(text), NULL), TOQUE_OK);
    toque_status status = TOQUE_ENOMEM;
    for (unsigned n = 1; status != TOQUE_OK; n++) {
        assert_true(n < 200);
        fixture f;
        memset(&f, 0, sizeof f);
        f.targets[0] = &f.o, f.targets[1] = &f.c;
        f.mem.fail_at = n;
        tq_options_init(&f.set, &f.mem, tables, f.targets);
        status = tq_options_defaults(&f.set, &f.err);
        if (status == TOQUE_OK) status = parse(&f, "a|b|-p|text|-t|x|-t|y|c|d|e|f|g|h|i|j|k");
        if (status == TOQUE_OK) status = tq_options_yaml(&f.set, file, false, &f.err);
        if (status == TOQUE_OK && parse(&f, "--batchsize") == TOQUE_ENOMEM) status = TOQUE_ENOMEM;
        tq_buf out;
        tq_buf_init(&out, &f.mem, 100000);
        if (status == TOQUE_OK && !tq_options_help(&f.set, &out)) status = TOQUE_ENOMEM;
        if (status == TOQUE_OK && !tq_options_to_yaml(&f.set, 0, &out)) status = TOQUE_ENOMEM;
        assert_true(status == TOQUE_OK || status == TOQUE_ENOMEM);
        tq_buf_clear(&out);
        stop(&f);
    }
}

static void the_nearest_name_is_near(void **state) {
    (void)state;
    static const char *const names[] = {"tokenize", "template", "tune", "score", "rm"};
#define NEAR(x) tq_nearest(x, names, 5)
    assert_string_equal(NEAR("tokenise"), "tokenize");
    assert_string_equal(NEAR("tempalte"), "template");
    assert_string_equal(NEAR("tnue"), "tune");
    assert_string_equal(NEAR("tok"), "tokenize");
    assert_string_equal(NEAR("mr"), "rm");
    assert_null(NEAR("frobnicate"));
    assert_null(NEAR("x"));
    assert_null(NEAR(""));
    char longest[1000];
    memset(longest, 't', 999);
    longest[999] = 0;
    assert_null(NEAR(longest));
    assert_null(tq_nearest("a", names, 0));
}

static int make_file(void **state) {
    (void)state;
    strcpy(file, "/tmp/toque-option-XXXXXX");
    int fd = mkstemp(file);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state) {
    (void)state;
    return unlink(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_applied_but_not_given),
        cmocka_unit_test(every_spelling_of_the_command_line),
        cmocka_unit_test(flags_take_words_and_aliases_and_underscores_work),
        cmocka_unit_test(mistakes_are_explained),
        cmocka_unit_test(numbers_are_checked),
        cmocka_unit_test(the_locale_does_not_change_numbers),
        cmocka_unit_test(a_recipe_sets_what_flags_left_open),
        cmocka_unit_test(a_mapping_as_an_item_is_kept_as_json),
        cmocka_unit_test(bad_recipes_are_refused_with_their_line),
        cmocka_unit_test(a_value_that_a_flag_replaces_is_still_checked),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(help_lists_every_option_in_two_columns),
        cmocka_unit_test(every_failing_allocation_is_returned),
        cmocka_unit_test(the_nearest_name_is_near),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
