/* The frame of the program: finds the command, reads its options, runs it, reports. See cli.h. */
#include "cli/cli.h"

#include <assert.h>
#include <curl/curl.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define X(name) extern const tq_command tq_cmd_##name;
#include "cli/commands.def"
#undef X

const tq_command *const tq_commands[] = {
#define X(name) &tq_cmd_##name,
#include "cli/commands.def"
#undef X
    NULL};

enum { EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* --- shared tables ----------------------------------------------------------------------------- */

#define AT(field) offsetof(tq_cli_common, field)
const tq_option tq_cli_common_table[] = {
    {.key = "config",
     .type = TQ_OPT_TEXT,
     .offset = AT(config),
     .value = "FILE",
     .help = "YAML file of options, key: value; flags override it"},
    {.key = "threads",
     .type = TQ_OPT_INT,
     .offset = AT(threads),
     .min = 1,
     .max = 1024,
     .help = "threads to use; without it, all CPUs that this process may use"},
    {.key = "compute",
     .type = TQ_OPT_CHOICE,
     .offset = AT(compute),
     .fallback = "auto",
     .choices = "auto|f32|bf16|int8",
     .help = "what products are computed in; auto takes bf16 where the CPU has it"},
    {.key = "max_memory",
     .type = TQ_OPT_BYTES,
     .offset = AT(max_memory),
     .min = 1e6,
     .max = 0,
     .help = "refuse to take more memory than this, as 500M, 2G or 1Gi; without it, 90 % of what is available"},
    {.key = "json",
     .type = TQ_OPT_FLAG,
     .offset = AT(json),
     .fallback = "off",
     .help = "results for machines: JSON on standard output"},
    {.key = "quiet",
     .type = TQ_OPT_FLAG,
     .offset = AT(quiet),
     .fallback = "off",
     .help = "no progress and no remarks; warnings and errors stay"},
    {.key = "help",
     .letter = 'h',
     .type = TQ_OPT_FLAG,
     .offset = AT(help),
     .fallback = "off",
     .help = "show this text"},
    {0}};
#undef AT

const tq_option tq_cli_model_table[] = {
    {.key = "model",
     .letter = 'm',
     .type = TQ_OPT_TEXT,
     .offset = offsetof(tq_cli_model, model),
     .value = "M",
     .aliases = "model_name_or_path|base_model|model_name",
     .help = "a GGUF file, a Hugging Face folder or a name in the model store; without it, $TOQUE_MODEL"},
    {0}};

const tq_option tq_cli_adapters_table[] = {
    {.key = "adapter",
     .letter = 'a',
     .type = TQ_OPT_LIST,
     .offset = offsetof(tq_cli_adapters, adapters),
     .value = "A[:SCALE]",
     .aliases = "adapter_name_or_path|adapter_path",
     .help = "an adapter to put on, a PEFT folder, GGUF adapter or run folder, with its strength; may be repeated"},
    {0}};

/* --- messages ---------------------------------------------------------------------------------- */

/* One line, whatever the text holds: control bytes (of file names, of data) become blanks. */
static void say(const char *prefix, const char *format, va_list args) {
    char line[1200];
    vsnprintf(line, sizeof line, format, args);
    for (char *c = line; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7F) *c = ' ';
    fprintf(stderr, "%s%s\n", prefix, line);
}

static void say_error(const char *format, ...) TQ_PRINTF(1, 2);
static void say_error(const char *format, ...) {
    va_list args;
    va_start(args, format);
    say("toque: error: ", format, args);
    va_end(args);
}

void tq_cli_warn(tq_cli *cli, const char *format, ...) {
    (void)cli;
    va_list args;
    va_start(args, format);
    say("toque: warning: ", format, args);
    va_end(args);
}

void tq_cli_note(tq_cli *cli, const char *format, ...) {
    if (cli->common.quiet) return;
    va_list args;
    va_start(args, format);
    say("toque: ", format, args);
    va_end(args);
}

toque_status tq_cli_usage(tq_cli *cli, toque_error *err, const char *format, ...) {
    cli->exit_code = EXIT_USAGE;
    char text[sizeof err->message];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return TQ_FAIL(err, EINVAL, "%s", text);
}

FILE *tq_cli_progress(const tq_cli *cli) {
    return cli->common.quiet ? NULL : stderr;
}

/* --- the context and interrupts ---------------------------------------------------------------- */

static void log_line(void *arg, tq_level level, const char *line) {
    if (level == TQ_WARNING)
        tq_cli_warn(arg, "%s", line);
    else
        tq_cli_note(arg, "%s", line);
}

toque_status tq_cli_ctx(tq_cli *cli, tq_ctx **ctx, toque_error *err) {
    static const char *const compute[] = {"auto", "f32", "bf16", "int8"};
    *ctx = cli->ctx;
    if (cli->ctx) return TOQUE_OK;
    uint64_t available = tq_memory_available(""), limit = cli->common.max_memory;
    if (!limit) limit = available - available / 10;
    if (limit > SIZE_MAX) limit = SIZE_MAX;
    TQ_TRY(tq_ctx_new(&cli->ctx, (int)cli->common.threads, (size_t)limit, compute[cli->common.compute], err));
    cli->ctx->log = log_line;
    cli->ctx->log_arg = cli;
    *ctx = cli->ctx;
    return TOQUE_OK;
}

static atomic_bool *interrupted; /* the context's `canceled`, for the handler */

static void on_interrupt(int signal_number) {
    (void)signal_number;
    if (interrupted) atomic_store(interrupted, true);
}

void tq_cli_catch_interrupt(tq_cli *cli) {
    assert(cli->ctx);
    interrupted = &cli->ctx->canceled;
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
}

static void free_ctx(tq_cli *cli) {
    if (interrupted) {
        (void)signal(SIGINT, SIG_DFL);
        (void)signal(SIGTERM, SIG_DFL);
        interrupted = NULL;
    }
    tq_ctx_free(cli->ctx);
    cli->ctx = NULL;
}

/* --- output ------------------------------------------------------------------------------------ */

static toque_status write_failed(tq_cli *cli, toque_error *err) {
    if (!cli->write_errno) cli->write_errno = errno ? errno : EIO;
    return TQ_FAIL(err, EIO, "cannot write standard output: %s", strerror(cli->write_errno));
}

toque_status tq_cli_write(tq_cli *cli, const void *data, size_t n, toque_error *err) {
    errno = 0;
    if ((n && fwrite(data, 1, n, stdout) != n) || fflush(stdout) != 0 || ferror(stdout)) return write_failed(cli, err);
    return TOQUE_OK;
}

bool tq_cli_print(void *printer, const char *text, size_t n) {
    tq_cli_printer *p = printer;
    p->status = tq_cli_write(p->cli, text, n, p->err);
    return p->status == TOQUE_OK;
}

toque_status tq_cli_json(tq_cli *cli, json_t *value, toque_error *err) {
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(12)) : NULL;
    json_decref(value);
    if (!text) return TQ_NOMEM(err);
    errno = 0;
    bool ok = fputs(text, stdout) != EOF && putchar('\n') != EOF && fflush(stdout) == 0;
    free(text); /* jansson's own memory */
    return ok ? TOQUE_OK : write_failed(cli, err);
}

/* What stdio still holds must reach its file: a full disk or a closed pipe is a failure of the command. */
static toque_status finish_output(tq_cli *cli, toque_error *err) {
    errno = 0;
    bool bad = ferror(stdout) != 0;
    if (fflush(stdout) != 0 || bad) return write_failed(cli, err);
    return TOQUE_OK;
}

/* --- arguments that commands share ------------------------------------------------------------- */

toque_status tq_cli_need_model(tq_cli *cli, const tq_cli_model *options, toque_error *err) {
    if (options->model) return TOQUE_OK;
    return tq_cli_usage(cli, err, "no model; give one with -m or set TOQUE_MODEL");
}

toque_status tq_cli_adapter(tq_cli *cli, const char *text, char **path, double *scale, toque_error *err) {
    const char *colon = strrchr(text, ':');
    size_t n = strlen(text);
    *path = NULL;
    *scale = 1;
    /* Only what looks like a number can be a scale: a path may hold colons. */
    if (colon && colon[1] && !colon[1 + strspn(colon + 1, "+-.eE0123456789")]) {
        char *end;
        *scale = strtod(colon + 1, &end);
        if (*end || end == colon + 1 || !(*scale >= -1e6 && *scale <= 1e6))
            return tq_cli_usage(cli, err,
                                "option --adapter expects A or A:SCALE with a scale from -1000000 to 1000000, "
                                "not '%.200s'",
                                text);
        n = (size_t)(colon - text);
    }
    if (!n) return tq_cli_usage(cli, err, "option --adapter expects A or A:SCALE, not '%.200s'", text);
    *path = tq_strndup(&cli->mem, text, n);
    return *path ? TOQUE_OK : TQ_NOMEM(err);
}

/* --- running a command ------------------------------------------------------------------------- */

void tq_cli_tables(const tq_command *command, void *options, tq_cli_common *common,
                   const tq_option *tables[TQ_CLI_MAX_TABLES], void *targets[TQ_CLI_MAX_TABLES]) {
    int n = 0;
    for (const tq_cli_table *t = command->tables; t && t->rows; t++, n++) {
        assert(n < TQ_CLI_MAX_TABLES - 2);
        tables[n] = t->rows;
        targets[n] = options ? (char *)options + t->offset : NULL;
    }
    tables[n] = tq_cli_common_table;
    targets[n] = common;
    tables[n + 1] = NULL;
    targets[n + 1] = NULL;
}

static void apply_environment(const tq_option_set *set) {
    const char *model = getenv("TOQUE_MODEL");
    for (int t = 0; set->tables[t]; t++)
        if (set->tables[t] == tq_cli_model_table) {
            tq_cli_model *m = set->targets[t];
            if (!m->model && model && *model) m->model = model;
        }
}

static toque_status check_arguments(tq_cli *cli, toque_error *err) {
    const tq_command *c = cli->command;
    size_t n = cli->set.n_positional;
    if (c->max_args >= 0 && n > (size_t)c->max_args)
        return tq_cli_usage(cli, err, "unexpected argument '%.100s'; usage: toque %s %s",
                            cli->set.positional[c->max_args], c->name, c->usage);
    if (n < (size_t)c->min_args)
        return tq_cli_usage(cli, err, "%s argument; usage: toque %s %s", n ? "one more" : "missing", c->name, c->usage);
    return TOQUE_OK;
}

/* Flags, then what --config adds to them. A file that cannot be read has failed; what cannot be understood in it
 * is wrong usage like the same words on the command line. */
static toque_status read_options(tq_cli *cli, int argc, char **argv, toque_error *err) {
    toque_status status = tq_options_defaults(&cli->set, err);
    if (status == TOQUE_OK) status = tq_options_parse(&cli->set, argc, argv, err);
    if (status == TOQUE_OK && !cli->common.help && cli->common.config)
        status = tq_options_yaml(&cli->set, cli->common.config, true, err);
    if (status == TOQUE_EINVAL || status == TOQUE_EFORMAT) cli->exit_code = EXIT_USAGE;
    if (status != TOQUE_OK || cli->common.help) return status;
    apply_environment(&cli->set);
    return check_arguments(cli, err);
}

static toque_status execute(tq_cli *cli, void *options, toque_error *err) {
    if (!cli->command->network) return cli->command->run(cli, options, err);
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) return TQ_FAIL(err, EINTERNAL, "libcurl does not start");
    toque_status status = cli->command->run(cli, options, err);
    curl_global_cleanup();
    return status;
}

static int run_command(const tq_command *command, int argc, char **argv, bool help) {
    tq_cli cli = {.command = command};
    toque_error err = {0};
    toque_status status = TOQUE_OK;
    const tq_option *tables[TQ_CLI_MAX_TABLES];
    void *targets[TQ_CLI_MAX_TABLES];
    tq_mem_init(&cli.mem, 0);
    void *options = tq_zalloc(&cli.mem, 1, command->size);
    tq_cli_tables(command, options, &cli.common, tables, targets);
    tq_options_init(&cli.set, &cli.mem, tables, targets);
    if (!options) status = TQ_NOMEM(&err);
    if (status == TOQUE_OK) status = read_options(&cli, argc, argv, &err);
    bool usage_error = status != TOQUE_OK && cli.exit_code == EXIT_USAGE;
    if (status == TOQUE_OK && (help || cli.common.help))
        status = tq_cli_help_command(&cli, stdout) ? TOQUE_OK : TQ_NOMEM(&err);
    else if (status == TOQUE_OK)
        status = execute(&cli, options, &err);
    toque_error late = {0};
    if (finish_output(&cli, &late) != TOQUE_OK && status == TOQUE_OK) status = late.code, err = late;
    if (status != TOQUE_OK) {
        say_error("%s%s%s%s", err.message, usage_error ? " (see toque " : "", usage_error ? command->name : "",
                  usage_error ? " --help)" : "");
        if (!cli.exit_code) cli.exit_code = EXIT_FAILED;
    }
    free_ctx(&cli);
    tq_options_clear(&cli.set);
    tq_free(&cli.mem, options);
    assert(cli.mem.used == 0);
    return cli.exit_code;
}

/* --- finding the command ----------------------------------------------------------------------- */

const tq_command *tq_cli_find(int argc, char **argv, int *words) {
    const tq_command *found = NULL;
    for (int i = 0; tq_commands[i]; i++) {
        const char *name = tq_commands[i]->name, *blank = strchr(name, ' ');
        size_t n = blank ? (size_t)(blank - name) : strlen(name);
        if (argc < 1 || strlen(argv[0]) != n || strncmp(argv[0], name, n) != 0) continue;
        if (blank && (argc < 2 || strcmp(argv[1], blank + 1) != 0)) continue;
        if (found && !blank) continue; /* "data" beside "data prepare": the longer name wins */
        found = tq_commands[i];
        *words = blank ? 2 : 1;
    }
    return found;
}

bool tq_cli_is_family(const char *name) {
    size_t n = strlen(name);
    for (int i = 0; tq_commands[i]; i++)
        if (strncmp(tq_commands[i]->name, name, n) == 0 && tq_commands[i]->name[n] == ' ') return true;
    return false;
}

/* Says what was probably meant: a command, or the verb of a family. */
static int unknown_command(int argc, char **argv) {
    enum { MAX = 128 };
    bool family = tq_cli_is_family(argv[0]);
    if (family && argc < 2) {
        say_error("toque %s needs one more word (see toque help %s)", argv[0], argv[0]);
        return EXIT_USAGE;
    }
    const char *names[MAX], *wanted = family ? argv[1] : argv[0];
    char first_words[MAX][32];
    size_t n = 0, prefix = strlen(argv[0]);
    for (int i = 0; tq_commands[i] && n < MAX; i++) {
        const char *name = tq_commands[i]->name;
        if (family) {
            if (strncmp(name, argv[0], prefix) == 0 && name[prefix] == ' ') names[n++] = name + prefix + 1;
        } else {
            snprintf(first_words[n], sizeof first_words[n], "%.*s", (int)strcspn(name, " "), name);
            names[n] = first_words[n];
            n++;
        }
    }
    const char *near = tq_nearest(wanted, names, n);
    say_error("unknown command '%s%s%.60s'%s%s%s%s (see toque %s%s)", family ? argv[0] : "", family ? " " : "", wanted,
              near ? "; did you mean '" : "", near ? near : "", near ? "'" : "", near ? "?" : "",
              family ? "help " : "--help", family ? argv[0] : "");
    return EXIT_USAGE;
}

static int finish_text(void) {
    tq_cli cli = {0};
    toque_error err;
    if (finish_output(&cli, &err) == TOQUE_OK) return 0;
    say_error("%s", err.message);
    return EXIT_FAILED;
}

/* toque help, toque help CMD, toque help models, toque help models list */
static int help(int argc, char **argv) {
    int words;
    const tq_command *command = tq_cli_find(argc, argv, &words);
    if (command && argc == words) return run_command(command, 0, NULL, true);
    if (argc == 1 && tq_cli_is_family(argv[0]))
        tq_cli_help_family(stdout, argv[0]);
    else if (argc == 0)
        tq_cli_help_program(stdout);
    else if (command) {
        say_error("unexpected argument '%.100s'; usage: toque help [COMMAND]", argv[words]);
        return EXIT_USAGE;
    } else
        return unknown_command(argc, argv);
    return finish_text();
}

int tq_cli_main(int argc, char **argv) {
    if (argc < 2) {
        say_error("no command (see toque --help)");
        return EXIT_USAGE;
    }
    const char *first = argv[1];
    if (strcmp(first, "--version") == 0 || strcmp(first, "-V") == 0) {
        printf("toque %s\n", TOQUE_VERSION);
        return finish_text();
    }
    if (strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0) return help(0, NULL);
    if (strcmp(first, "help") == 0) return help(argc - 2, argv + 2);
    if (first[0] == '-') {
        say_error("unknown option %.60s before the command (see toque --help)", first);
        return EXIT_USAGE;
    }
    int words;
    const tq_command *command = tq_cli_find(argc - 1, argv + 1, &words);
    if (command) return run_command(command, argc - 1 - words, argv + 1 + words, false);
    bool asks = argc == 3 && (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0);
    if (asks && tq_cli_is_family(first)) return help(1, argv + 1);
    return unknown_command(argc - 1, argv + 1);
}
