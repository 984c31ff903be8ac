/* What the program's commands share. A command is one `tq_command`: its texts, its option tables and a function.
 * The frame (cli.c) parses the command line and --config into the command's options struct, calls the function,
 * reports its error and chooses the exit status: 0 done, 1 failed, 2 wrong usage, 3 a test gate was not met.
 * See docs/adding-a-command.md. */
#ifndef TQ_CLI_CLI_H
#define TQ_CLI_CLI_H

#include <jansson.h>
#include <stdio.h>

#include "base/option.h"
#include "kernels/context.h"

/* Where --help lists a command: the path that a user walks. */
typedef enum tq_group {
    TQ_GROUP_DATA,
    TQ_GROUP_MODEL,
    TQ_GROUP_CUSTOMIZE,
    TQ_GROUP_TEST,
    TQ_GROUP_DEPLOY,
    TQ_GROUP_OTHER,
    TQ_GROUP_END
} tq_group;

/* Options of every command. */
typedef struct tq_cli_common {
    const char *config;
    int64_t threads; /* 0: as many as this process may use */
    bool json, quiet, help;
    int compute;         /* index into auto|f32|bf16|int8 */
    uint64_t max_memory; /* 0: 90 % of what is available */
} tq_cli_common;

/* Tables that several commands share: put one of these structs into your options struct. */
typedef struct tq_cli_model {
    const char *model; /* -m, else $TOQUE_MODEL, else NULL */
} tq_cli_model;
typedef struct tq_cli_adapters {
    tq_option_list adapters; /* -a, each A or A:SCALE: see tq_cli_adapter */
} tq_cli_adapters;
extern const tq_option tq_cli_model_table[], tq_cli_adapters_table[], tq_cli_common_table[];

/* One option table and where its target lies in the command's options struct. */
typedef struct tq_cli_table {
    const tq_option *rows; /* NULL ends the list */
    size_t offset;
} tq_cli_table;

typedef struct tq_cli tq_cli;
typedef struct tq_command {
    const char *name; /* "tokenize", or "models list" for one of a family */
    tq_group group;
    const char *summary;        /* one line without a full stop */
    const char *usage;          /* what follows the name: "-m M [--ids] [FILE]" */
    const char *about;          /* paragraphs for --help, lines broken by hand, or NULL */
    const char *example;        /* command lines, one a line */
    const tq_cli_table *tables; /* own and shared tables; the common one is added by the frame. NULL: none */
    size_t size;                /* of the options struct, which starts zeroed */
    int min_args, max_args;     /* positional arguments; max_args -1: any number */
    bool network;               /* needs libcurl, which is initialized only then */
    /* The work. An error returned is printed as "toque: error: ..." with exit status 1, or cli->exit_code if that
     * was set. Positional arguments are in cli->set.positional. */
    toque_status (*run)(tq_cli *cli, void *options, toque_error *err);
} tq_command;

struct tq_cli {
    const tq_command *command;
    tq_cli_common common;
    tq_option_set set; /* for tq_options_given, positional, tq_options_to_yaml */
    tq_mem mem;        /* options and other small things of the program; no limit */
    tq_ctx *ctx;       /* made by tq_cli_ctx */
    int exit_code;     /* 0 until somebody sets it; 3 with TOQUE_OK: a gate was not met */
    int write_errno;   /* of the first write to standard output that failed */
};

/* All commands in the order of commands.def, NULL-terminated. */
extern const tq_command *const tq_commands[];

/* The program behind main. Returns the exit status. */
int tq_cli_main(int argc, char **argv);

/* The context with --threads, --compute and the memory limit applied, made at the first call. The frame frees it.
 * Its log goes to standard error: warnings always, the rest unless --quiet. */
toque_status tq_cli_ctx(tq_cli *cli, tq_ctx **ctx, toque_error *err) TQ_MUST;
/* A usage error: exit status 2. Returns TOQUE_EINVAL for `return tq_cli_usage(...)`. */
toque_status tq_cli_usage(tq_cli *cli, toque_error *err, const char *format, ...) TQ_PRINTF(3, 4);
/* "toque: warning: ..." on standard error. */
void tq_cli_warn(tq_cli *cli, const char *format, ...) TQ_PRINTF(2, 3);
/* A remark on standard error, unless --quiet. */
void tq_cli_note(tq_cli *cli, const char *format, ...) TQ_PRINTF(2, 3);
/* Where progress goes: standard error, or NULL with --quiet. */
FILE *tq_cli_progress(const tq_cli *cli);
/* From now on the first SIGINT or SIGTERM sets ctx->canceled and interrupts a blocking read; the second ends the
 * program. Call after tq_cli_ctx. */
void tq_cli_catch_interrupt(tq_cli *cli);

/* Output. printf to stdout is fine too: the frame checks at the end that everything was written. These tell at
 * once when the reader has gone away (EIO), so that long work can stop. */
toque_status tq_cli_write(tq_cli *cli, const void *data, size_t n, toque_error *err) TQ_MUST;
/* Text as it comes (on_text of tq_generate and tq_ask): false when it cannot be written, and status says why. */
typedef struct tq_cli_printer {
    tq_cli *cli;
    toque_error *err;
    toque_status status;
} tq_cli_printer;
bool tq_cli_print(void *printer, const char *text, size_t n);
/* One JSON value on a line of its own. Takes the reference; NULL (a json_* call had no memory) gives ENOMEM. */
toque_status tq_cli_json(tq_cli *cli, json_t *value, toque_error *err) TQ_MUST;

/* A usage error when there is neither -m nor $TOQUE_MODEL. */
toque_status tq_cli_need_model(tq_cli *cli, const tq_cli_model *options, toque_error *err) TQ_MUST;
/* Takes "A" or "A:SCALE" apart; path is owned by the caller (tq_free with &cli->mem). Without a scale: 1. */
toque_status tq_cli_adapter(tq_cli *cli, const char *text, char **path, double *scale, toque_error *err) TQ_MUST;

/* Bytes that this process may still take: MemAvailable, and the limits of its memory cgroups (v1 and v2). root is
 * put before /proc and /sys (tests); "" for the real ones. 0: unknown; never 0 otherwise. */
uint64_t tq_memory_available(const char *root);

/* --- for the frame itself: help.c, complete.c ---- */
/* Tables and targets of a command with the common ones behind, NULL-terminated. options may be NULL when only the
 * tables are wanted. */
enum { TQ_CLI_MAX_TABLES = 12 };
void tq_cli_tables(const tq_command *command, void *options, tq_cli_common *common,
                   const tq_option *tables[TQ_CLI_MAX_TABLES], void *targets[TQ_CLI_MAX_TABLES]);
/* The command that argv names (one or two words, counted in *words), or NULL. */
const tq_command *tq_cli_find(int argc, char **argv, int *words);
/* True if name is the first word of a family ("models"). */
bool tq_cli_is_family(const char *name);
void tq_cli_help_program(FILE *to);
void tq_cli_help_family(FILE *to, const char *family);
bool tq_cli_help_command(tq_cli *cli, FILE *to); /* false: out of memory */

#endif
