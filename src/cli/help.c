/* --help of the program, of a family of commands and of one command, made from the tables. See cli.h. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static const char *const headings[TQ_GROUP_END] = {
    [TQ_GROUP_DATA] = "Data preparation",   [TQ_GROUP_MODEL] = "Model selection",
    [TQ_GROUP_CUSTOMIZE] = "Customization", [TQ_GROUP_TEST] = "Test",
    [TQ_GROUP_DEPLOY] = "Deployment",       [TQ_GROUP_OTHER] = "Other"};

static void list(FILE *to, tq_group group) {
    bool any = false;
    for (int i = 0; tq_commands[i]; i++) {
        const tq_command *c = tq_commands[i];
        if (c->group != group) continue;
        if (!any) fprintf(to, "\n%s:\n", headings[group]);
        any = true;
        fprintf(to, "  %-18s %s\n", c->name, c->summary);
    }
}

void tq_cli_help_program(FILE *to) {
    fputs("Usage: toque COMMAND [ARGUMENTS]\n\n"
          "Adapts a pretrained language model to your own case on an ordinary CPU.\n",
          to);
    for (tq_group g = 0; g < TQ_GROUP_END; g++) list(to, g);
    fputs("\n`toque help COMMAND` tells more about one. `toque --version` names the version.\n"
          "Results go to standard output; progress, warnings and errors to standard error.\n"
          "Exit status: 0 done, 1 failed, 2 wrong usage, 3 a test gate was not met.\n"
          "Environment: TOQUE_MODEL (the model when -m is left out), TOQUE_HOME (the model store),\n"
          "TOQUE_ISA (caps the instruction set), NO_COLOR.\n",
          to);
}

void tq_cli_help_family(FILE *to, const char *family) {
    size_t n = strlen(family);
    fprintf(to, "Usage: toque %s COMMAND [ARGUMENTS]\n\nCommands:\n", family);
    for (int i = 0; tq_commands[i]; i++) {
        const tq_command *c = tq_commands[i];
        if (strncmp(c->name, family, n) == 0 && c->name[n] == ' ') fprintf(to, "  %-18s %s\n", c->name, c->summary);
    }
    fprintf(to, "\n`toque %s COMMAND --help` tells more about one.\n", family);
}

static void example(FILE *to, const char *lines) {
    fputs("\nExample:\n", to);
    while (*lines) {
        size_t n = strcspn(lines, "\n");
        fprintf(to, "  %.*s\n", (int)n, lines);
        lines += n + (lines[n] == '\n');
    }
}

bool tq_cli_help_command(tq_cli *cli, FILE *to) {
    const tq_command *c = cli->command;
    tq_buf options;
    tq_buf_init(&options, &cli->mem, 1 << 20);
    bool ok = tq_options_help(&cli->set, &options);
    if (ok) {
        fprintf(to, "Usage: toque %s %s\n\n%s.\n", c->name, c->usage, c->summary);
        if (c->about) fprintf(to, "\n%s\n", c->about);
        example(to, c->example);
        fprintf(to, "\n%s", options.data);
    }
    tq_buf_clear(&options);
    return ok;
}
