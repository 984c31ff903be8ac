/* toque template: what a model's chat template makes of messages. Needs no weights. */
#include <string.h>

#include "base/io.h"
#include "cli/load.h"

typedef struct options {
    tq_cli_model model;
    const char *file, *messages, *tools;
    tq_option_list vars;
    bool generation_prompt;
} options;

#define AT(field) offsetof(options, field)
static const tq_option own[] = {
    {.key = "template",
     .type = TQ_OPT_TEXT,
     .offset = AT(file),
     .value = "F",
     .help = "a file with a Jinja template, instead of the model's own"},
    {.key = "messages",
     .type = TQ_OPT_TEXT,
     .offset = AT(messages),
     .value = "F",
     .help = "a JSON array of messages; - is standard input"},
    {.key = "tools", .type = TQ_OPT_TEXT, .offset = AT(tools), .value = "F", .help = "a JSON array of tools"},
    {.key = "var",
     .type = TQ_OPT_LIST,
     .offset = AT(vars),
     .value = "NAME=JSON",
     .help = "a further variable, as enable_thinking=false; may be repeated"},
    {.key = "generation_prompt",
     .type = TQ_OPT_FLAG,
     .offset = AT(generation_prompt),
     .fallback = "on",
     .help = "end with the beginning of the assistant's turn"},
    {0}};
static const tq_cli_table tables[] = {{own, 0}, {tq_cli_model_table, AT(model)}, {0}};
#undef AT

enum { MAX_TEMPLATE = 16 << 20 };

static toque_status set_var(tq_cli *cli, json_t *vars, const char *text, toque_error *err) {
    const char *equals = strchr(text, '=');
    if (!equals || equals == text) return tq_cli_usage(cli, err, "option --var expects NAME=JSON, not '%.200s'", text);
    json_error_t where;
    json_t *value = json_loads(equals + 1, JSON_DECODE_ANY, &where);
    if (!value)
        return tq_cli_usage(cli, err,
                            "option --var: '%.100s' is no JSON (%s); a string needs quotes: "
                            "--var 'name=\"text\"'",
                            equals + 1, where.text);
    char *name = tq_strndup(&cli->mem, text, (size_t)(equals - text));
    int failed = name ? json_object_set_new(vars, name, value) : -1;
    if (!name) json_decref(value);
    tq_free(&cli->mem, name);
    return failed ? TQ_NOMEM(err) : TOQUE_OK;
}

static toque_status set_token(json_t *vars, const char *name, const tq_tokenizer *tok, tq_token token,
                              toque_error *err) {
    if (token == TQ_NO_TOKEN) return TOQUE_OK;
    tq_string text = tq_tokenizer_text(tok, token);
    return json_object_set_new(vars, name, json_stringn(text.data, text.len)) ? TQ_NOMEM(err) : TOQUE_OK;
}

/* The template's text: from a file, or from the model with its bos_token and eos_token. */
static toque_status get_source(tq_cli *cli, const options *o, json_t *vars, char **source, size_t *n,
                               toque_error *err) {
    *source = NULL;
    if (o->file) return tq_read_file(source, n, &cli->mem, o->file, MAX_TEMPLATE, err);
    tq_gguf *gguf;
    tq_tokenizer *tok = NULL;
    tq_string text = {0};
    TQ_TRY(tq_cli_vocabulary(cli, &o->model, &gguf, &tok, err));
    toque_status status;
    TQ_GO(tq_gguf_str(gguf, "tokenizer.chat_template", &text, err));
    if (!text.data) {
        status = TQ_FAIL(err, ENOTFOUND, "%.300s has no chat template; give one with --template", o->model.model);
        goto done;
    }
    TQ_GO(set_token(vars, "bos_token", tok, tq_tokenizer_bos(tok), err));
    TQ_GO(set_token(vars, "eos_token", tok, tq_tokenizer_eos(tok), err));
    *source = tq_strndup(&cli->mem, text.data, text.len);
    *n = text.len;
    if (!*source) status = TQ_NOMEM(err);
done:
    tq_tokenizer_free(tok);
    tq_gguf_close(gguf);
    return status;
}

static toque_status render(tq_cli *cli, const options *o, const tq_render_options *r, const char *source, size_t n,
                           toque_error *err) {
    tq_template *t;
    tq_rendered out = {0};
    TQ_TRY(tq_template_parse(&t, &cli->mem, source, n, o->file ? o->file : "the model's chat template", err));
    toque_status status = tq_template_render(t, &cli->mem, r, &out, err);
    if (status == TOQUE_OK && cli->common.json)
        status = tq_cli_json(cli, json_pack("{s:o}", "text", json_stringn(out.text, out.len)), err);
    else if (status == TOQUE_OK)
        status = tq_cli_write(cli, out.text, out.len, err);
    tq_rendered_clear(&out);
    tq_template_free(t);
    return status;
}

static toque_status run(tq_cli *cli, void *given, toque_error *err) {
    const options *o = given;
    if (!o->messages) return tq_cli_usage(cli, err, "no messages; give a JSON file with --messages");
    if (o->file && tq_options_given(&cli->set, "model"))
        return tq_cli_usage(cli, err, "both -m and --template are given; one of them says which template");
    json_t *messages = NULL, *tools = NULL, *vars = json_object();
    char *source = NULL;
    size_t n = 0;
    toque_status status = vars ? TOQUE_OK : TQ_NOMEM(err);
    if (status != TOQUE_OK) goto done;
    TQ_GO(get_source(cli, o, vars, &source, &n, err));
    for (size_t i = 0; i < o->vars.len; i++) TQ_GO(set_var(cli, vars, o->vars.items[i], err));
    TQ_GO(tq_cli_messages(cli, o->messages, &messages, err));
    if (o->tools) TQ_GO(tq_cli_json_array(cli, o->tools, &tools, err));
    tq_render_options r = {
        .messages = messages, .tools = tools, .vars = vars, .add_generation_prompt = o->generation_prompt};
    status = render(cli, o, &r, source, n, err);
done:
    tq_free(&cli->mem, source);
    json_decref(messages);
    json_decref(tools);
    json_decref(vars);
    return status;
}

const tq_command tq_cmd_template = {
    .name = "template",
    .group = TQ_GROUP_MODEL,
    .summary = "Show what a chat template makes of messages",
    .usage = "(-m M | --template F) --messages F [--tools F] [--var NAME=JSON]... [--no-generation-prompt]",
    .about = "Prints the rendering byte for byte, without a newline of its own. --json prints {\"text\"}.",
    .example = "toque template -m model.gguf --messages talk.json --var enable_thinking=false",
    .tables = tables,
    .size = sizeof(options),
    .run = run,
};
