/* The slash commands of toque chat: a table, and a function each. */
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "cli/chat.h"

typedef struct slash {
    const char *name, *argument, *help;
    bool required; /* the argument */
    toque_status (*run)(tq_chat *c, const char *argument, toque_error *err);
} slash;

static toque_status show_adapters(tq_chat *c, const char *argument, toque_error *err) {
    (void)argument, (void)err;
    if (c->l.n == 0) printf("no adapters loaded\n");
    for (int i = 0; i < c->l.n; i++) {
        const tq_adapter *a = c->l.adapters[i];
        const tq_hat *hat = NULL;
        for (int h = 0; h < c->l.hats.n; h++)
            if (c->l.hats.items[h].adapter == a) hat = &c->l.hats.items[h];
        printf("%s %s (rank %d)", hat ? "*" : " ", a->name, a->rank);
        if (hat) printf(", scale %g", (double)hat->scale);
        printf("\n");
    }
    return TOQUE_OK;
}

static toque_status change_adapter(tq_chat *c, const char *argument, toque_error *err) {
    if (strcmp(argument, "none") == 0) {
        c->l.hats.n = 0;
        tq_cli_note(c->cli, "no adapter: the base model answers");
        return TOQUE_OK;
    }
    TQ_TRY(tq_cli_wear(&c->l, argument, true, err));
    tq_cli_note(c->cli, "adapter %s, scale %g", c->l.items[0].adapter->name, (double)c->l.items[0].scale);
    return TOQUE_OK;
}

static toque_status save(tq_chat *c, const char *path, toque_error *err) {
    char *text = json_dumps(c->messages, JSON_INDENT(2));
    if (!text) return TQ_NOMEM(err);
    toque_status status = tq_write_file(&c->cli->mem, path, text, strlen(text), err);
    free(text); /* jansson's own memory */
    if (status == TOQUE_OK) tq_cli_note(c->cli, "%zu messages saved to %s", json_array_size(c->messages), path);
    return status;
}

static toque_status load(tq_chat *c, const char *path, toque_error *err) {
    json_t *messages;
    TQ_TRY(tq_cli_messages(c->cli, path, &messages, err));
    json_decref(c->messages);
    c->messages = messages;
    tq_cli_note(c->cli, "%zu messages loaded from %s", json_array_size(messages), path);
    return TOQUE_OK;
}

static toque_status set_system(tq_chat *c, const char *text, toque_error *err) {
    return tq_chat_set_system(c, text, err);
}

/* The system message stays. */
static toque_status clear(tq_chat *c, const char *argument, toque_error *err) {
    (void)argument, (void)err;
    const char *role = json_string_value(json_object_get(json_array_get(c->messages, 0), "role"));
    size_t keep = role && strcmp(role, "system") == 0 ? 1 : 0;
    while (json_array_size(c->messages) > keep) json_array_remove(c->messages, json_array_size(c->messages) - 1);
    tq_cli_note(c->cli, "a new conversation");
    return TOQUE_OK;
}

static toque_status quit(tq_chat *c, const char *argument, toque_error *err) {
    (void)argument, (void)err;
    c->quit = true;
    return TOQUE_OK;
}

static toque_status help(tq_chat *c, const char *argument, toque_error *err);

static const slash commands[] = {
    {"/adapter", "A[:SCALE]", "put on this adapter alone, or none", true, change_adapter},
    {"/adapters", NULL, "list the adapters loaded; * is worn", false, show_adapters},
    {"/system", "TEXT", "set the system message", true, set_system},
    {"/clear", NULL, "start anew; the system message stays", false, clear},
    {"/save", "FILE", "write the conversation as JSON messages", true, save},
    {"/load", "FILE", "go on with a conversation saved before", true, load},
    {"/help", NULL, "this list", false, help},
    {"/quit", NULL, "end (also Ctrl-D)", false, quit},
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static toque_status help(tq_chat *c, const char *argument, toque_error *err) {
    (void)c, (void)argument, (void)err;
    for (size_t i = 0; i < N_COMMANDS; i++)
        printf("%-10s %-10s %s\n", commands[i].name, commands[i].argument ? commands[i].argument : "",
               commands[i].help);
    return TOQUE_OK;
}

static toque_status unknown(const char *name, size_t n, toque_error *err) {
    const char *names[N_COMMANDS];
    char typed[40];
    for (size_t i = 0; i < N_COMMANDS; i++) names[i] = commands[i].name;
    snprintf(typed, sizeof typed, "%.*s", (int)n, name);
    const char *near = tq_nearest(typed, names, N_COMMANDS);
    return TQ_FAIL(err, EINVAL,
                   "there is no command %s%s%s; /help lists what there is (begin with a blank to say a text with a "
                   "slash)",
                   typed, near ? "; did you mean " : "", near ? near : "");
}

toque_status tq_chat_command(tq_chat *c, const char *line, toque_error *err) {
    size_t n = strcspn(line, " \t");
    const char *argument = line + n + strspn(line + n, " \t");
    for (size_t i = 0; i < N_COMMANDS; i++) {
        const slash *command = &commands[i];
        if (strlen(command->name) != n || strncmp(command->name, line, n) != 0) continue;
        if (command->required && !*argument)
            return TQ_FAIL(err, EINVAL, "%s needs %s", command->name, command->argument);
        if (!command->argument && *argument) return TQ_FAIL(err, EINVAL, "%s takes nothing behind it", command->name);
        return command->run(c, argument, err);
    }
    return unknown(line, n, err);
}
