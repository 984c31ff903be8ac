/* toque completion: scripts for bash, zsh and fish, made from the commands' option tables. See cli.h. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

typedef const tq_option *option_tables[TQ_CLI_MAX_TABLES];

static void tables_of(const tq_command *c, option_tables tables) {
    static tq_cli_common unused;
    void *targets[TQ_CLI_MAX_TABLES];
    tq_cli_tables(c, NULL, &unused, tables, targets);
}

/* batch_size as batch-size */
static void put_flag(const char *key) {
    for (; *key; key++) putchar(*key == '_' ? '-' : *key);
}

/* Text between single quotes; what else the shell wants escaped gets a backslash. */
static void put_quoted(const char *text, const char *quote, const char *escaped) {
    for (; *text; text++) {
        if (*text == '\'') {
            fputs(quote, stdout);
            continue;
        }
        if (strchr(escaped, *text)) putchar('\\');
        putchar(*text);
    }
}

/* "a|b|c" as "a b c" */
static void put_choices(const char *choices) {
    for (; *choices; choices++) putchar(*choices == '|' ? ' ' : *choices);
}

static size_t first_word(const char *name) {
    return strcspn(name, " ");
}

/* True for the first command of a family, and for every command that is none's member. */
static bool opens_name(int i) {
    size_t n = first_word(tq_commands[i]->name);
    for (int j = 0; j < i; j++)
        if (first_word(tq_commands[j]->name) == n && strncmp(tq_commands[j]->name, tq_commands[i]->name, n) == 0)
            return false;
    return true;
}

static bool is_member(const tq_command *c, const char *family, size_t n) {
    return first_word(c->name) == n && strncmp(c->name, family, n) == 0 && c->name[n] == ' ';
}

/* The family that command i opens, or NULL. */
static const char *family_at(int i, size_t *n) {
    const char *name = tq_commands[i]->name;
    *n = first_word(name);
    return name[*n] && opens_name(i) ? name : NULL;
}

/* --- bash -------------------------------------------------------------------------------------- */

static void bash_command(const tq_command *c) {
    option_tables tables;
    tables_of(c, tables);
    printf("    '%s')\n        options='", c->name);
    for (int t = 0; tables[t]; t++)
        for (const tq_option *o = tables[t]; o->key; o++) {
            printf("--");
            put_flag(o->key);
            putchar(' ');
            if (o->type == TQ_OPT_FLAG && o->fallback && strcmp(o->fallback, "on") == 0) {
                printf("--no-");
                put_flag(o->key);
                putchar(' ');
            }
        }
    printf("'\n        case $previous in\n");
    for (int t = 0; tables[t]; t++)
        for (const tq_option *o = tables[t]; o->key; o++) {
            if (o->type != TQ_OPT_CHOICE) continue;
            printf("        --");
            put_flag(o->key);
            printf(") values='");
            put_choices(o->choices);
            printf("' ;;\n");
        }
    printf("        esac ;;\n");
}

static void bash(void) {
    size_t n;
    printf("# bash completion for toque: source it, or put it into /etc/bash_completion.d\n"
           "_toque() {\n"
           "    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]}\n"
           "    local options='' values=''\n"
           "    COMPREPLY=()\n"
           "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
           "        COMPREPLY=($(compgen -W 'help --help --version");
    for (int i = 0; tq_commands[i]; i++)
        if (opens_name(i)) printf(" %.*s", (int)first_word(tq_commands[i]->name), tq_commands[i]->name);
    printf("' -- \"$word\"))\n        return\n    fi\n    case $command in\n");
    for (int i = 0; tq_commands[i]; i++) {
        const char *family = family_at(i, &n);
        if (!family) continue;
        printf("    %.*s)\n        if [ \"$COMP_CWORD\" -eq 2 ]; then\n            COMPREPLY=($(compgen -W '", (int)n,
               family);
        for (int j = i; tq_commands[j]; j++)
            if (is_member(tq_commands[j], family, n)) printf("%s ", tq_commands[j]->name + n + 1);
        printf("' -- \"$word\"))\n            return\n        fi\n        command=\"$command ${COMP_WORDS[2]}\" ;;\n");
    }
    printf("    esac\n    case $command in\n");
    for (int i = 0; tq_commands[i]; i++) bash_command(tq_commands[i]);
    printf("    esac\n"
           "    if [ -n \"$values\" ]; then\n"
           "        COMPREPLY=($(compgen -W \"$values\" -- \"$word\"))\n"
           "    elif [[ $word == -* ]]; then\n"
           "        COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n"
           "    fi\n"
           "}\n"
           "complete -o default -F _toque toque\n");
}

/* --- zsh --------------------------------------------------------------------------------------- */

static void zsh_text(const char *text) {
    put_quoted(text, "'\\''", "[]:\\");
}

static void zsh_command(const tq_command *c) {
    option_tables tables;
    tables_of(c, tables);
    printf("    '%s')\n        _arguments -s", c->name);
    for (int t = 0; tables[t]; t++)
        for (const tq_option *o = tables[t]; o->key; o++) {
            bool flag = o->type == TQ_OPT_FLAG;
            printf(" \\\n            '%s--", o->type == TQ_OPT_LIST ? "*" : "");
            put_flag(o->key);
            printf(flag ? "[" : "=[");
            zsh_text(o->help);
            putchar(']');
            if (!flag) printf(":value:");
            if (o->type == TQ_OPT_CHOICE) {
                putchar('(');
                put_choices(o->choices);
                putchar(')');
            } else if (!flag) {
                printf("_files");
            }
            putchar('\'');
        }
    printf(" \\\n            '*:file:_files' ;;\n");
}

static void zsh(void) {
    size_t n;
    printf("#compdef toque\n"
           "# zsh completion for toque: save it as _toque in a folder of $fpath\n"
           "_toque() {\n"
           "    local -a commands verbs\n"
           "    local command=$words[2]\n"
           "    commands=(\n        'help:Show help of a command'\n");
    for (int i = 0; tq_commands[i]; i++) {
        if (!opens_name(i)) continue;
        const char *family = family_at(i, &n);
        printf("        '%.*s:", (int)n, tq_commands[i]->name);
        zsh_text(family ? "several commands" : tq_commands[i]->summary);
        printf("'\n");
    }
    printf("    )\n    if (( CURRENT == 2 )); then\n        _describe command commands\n        return\n    fi\n"
           "    case $command in\n");
    for (int i = 0; tq_commands[i]; i++) {
        const char *family = family_at(i, &n);
        if (!family) continue;
        printf("    %.*s)\n        verbs=(\n", (int)n, family);
        for (int j = i; tq_commands[j]; j++) {
            if (!is_member(tq_commands[j], family, n)) continue;
            printf("            '%s:", tq_commands[j]->name + n + 1);
            zsh_text(tq_commands[j]->summary);
            printf("'\n");
        }
        printf(
            "        )\n        if (( CURRENT == 3 )); then\n            _describe command verbs\n            return\n"
            "        fi\n        command=\"$words[2] $words[3]\"\n        shift words\n        (( CURRENT-- )) ;;\n");
    }
    printf("    esac\n    shift words\n    (( CURRENT-- ))\n    case $command in\n");
    for (int i = 0; tq_commands[i]; i++) zsh_command(tq_commands[i]);
    printf("    esac\n}\n_toque \"$@\"\n");
}

/* --- fish -------------------------------------------------------------------------------------- */

static void fish_text(const char *text) {
    put_quoted(text, "\\'", "\\");
}

static void fish_command(const tq_command *c) {
    option_tables tables;
    tables_of(c, tables);
    int n = (int)first_word(c->name);
    const char *verb = c->name[n] ? c->name + n + 1 : NULL;
    for (int t = 0; tables[t]; t++)
        for (const tq_option *o = tables[t]; o->key; o++) {
            printf("complete -c toque -n '__fish_seen_subcommand_from %.*s%s%s' -l ", n, c->name,
                   verb ? "; and __fish_seen_subcommand_from " : "", verb ? verb : "");
            put_flag(o->key);
            if (o->letter) printf(" -s %c", o->letter);
            if (o->type == TQ_OPT_CHOICE) {
                printf(" -x -a '");
                put_choices(o->choices);
                putchar('\'');
            } else if (o->type != TQ_OPT_FLAG) {
                printf(" -r");
            }
            printf(" -d '");
            fish_text(o->help);
            printf("'\n");
        }
}

static void fish(void) {
    size_t n;
    printf("# fish completion for toque: save it as ~/.config/fish/completions/toque.fish\n"
           "complete -c toque -n __fish_use_subcommand -f -a help -d 'Show help of a command'\n");
    for (int i = 0; tq_commands[i]; i++) {
        if (!opens_name(i)) continue;
        const char *family = family_at(i, &n);
        printf("complete -c toque -n __fish_use_subcommand -f -a %.*s -d '", (int)n, tq_commands[i]->name);
        fish_text(family ? "several commands" : tq_commands[i]->summary);
        printf("'\n");
        for (int j = i; family && tq_commands[j]; j++) {
            if (!is_member(tq_commands[j], family, n)) continue;
            printf("complete -c toque -n '__fish_seen_subcommand_from %.*s' -f -a %s -d '", (int)n, family,
                   tq_commands[j]->name + n + 1);
            fish_text(tq_commands[j]->summary);
            printf("'\n");
        }
    }
    for (int i = 0; tq_commands[i]; i++) fish_command(tq_commands[i]);
}

/* --- the command ------------------------------------------------------------------------------- */

static toque_status run(tq_cli *cli, void *options, toque_error *err) {
    (void)options;
    static const struct {
        const char *name;
        void (*print)(void);
    } shells[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}};
    const char *shell = cli->set.positional[0];
    for (size_t i = 0; i < sizeof shells / sizeof shells[0]; i++)
        if (strcmp(shell, shells[i].name) == 0) {
            shells[i].print();
            return TOQUE_OK;
        }
    return tq_cli_usage(cli, err, "no completion for the shell '%.60s'; expected bash, zsh or fish", shell);
}

const tq_command tq_cmd_completion = {
    .name = "completion",
    .group = TQ_GROUP_OTHER,
    .summary = "Print a completion script for bash, zsh or fish",
    .usage = "bash|zsh|fish",
    .example = "source <(toque completion bash)",
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
