/* toque generate: one answer, streamed. */
#include <string.h>

#include "cli/load.h"
#include "cli/sampling.h"

typedef struct options {
    tq_cli_model model;
    tq_cli_adapters adapters;
    tq_cli_sampling sampling;
    const char *prompt, *messages, *system;
    bool raw, ignore_eos;
    int64_t n;
} options;

enum { DEFAULT_TOKENS = 256 };

#define AT(field) offsetof(options, field)
static const tq_option own[] = {
    {.key = "prompt",
     .letter = 'p',
     .type = TQ_OPT_TEXT,
     .offset = AT(prompt),
     .value = "TEXT",
     .help = "one user turn, put through the model's chat template"},
    {.key = "messages",
     .type = TQ_OPT_TEXT,
     .offset = AT(messages),
     .value = "F",
     .help = "a JSON array of messages instead; - is standard input"},
    {.key = "system", .type = TQ_OPT_TEXT, .offset = AT(system), .value = "TEXT", .help = "a system message in front"},
    {.key = "raw",
     .type = TQ_OPT_FLAG,
     .offset = AT(raw),
     .fallback = "off",
     .help = "continue the text of -p as it is, without the chat template"},
    {.key = "n",
     .letter = 'n',
     .type = TQ_OPT_INT,
     .offset = AT(n),
     .min = 1,
     .max = 1e9,
     .aliases = "max_tokens|max_new_tokens|n_predict",
     .help = "tokens at most; without it, 256 or what the context leaves"},
    {.key = "ignore_eos",
     .type = TQ_OPT_FLAG,
     .offset = AT(ignore_eos),
     .fallback = "off",
     .help = "never draw a token that would end the answer"},
    {0}};
static const tq_cli_table tables[] = {{own, 0},
                                      {tq_cli_model_table, AT(model)},
                                      {tq_cli_adapters_table, AT(adapters)},
                                      {tq_cli_sampling_table, AT(sampling)},
                                      {0}};
#undef AT

static toque_status check(tq_cli *cli, const options *o, toque_error *err) {
    if (o->prompt && o->messages) return tq_cli_usage(cli, err, "both -p and --messages are given; give one of them");
    if (!o->prompt && !o->messages) return tq_cli_usage(cli, err, "no prompt; give one with -p or --messages");
    if (o->raw && o->messages)
        return tq_cli_usage(cli, err, "--raw continues the text of -p; it cannot go with --messages");
    if (o->raw && o->system) return tq_cli_usage(cli, err, "--raw takes -p as it is; it cannot go with --system");
    return TOQUE_OK;
}

/* The conversation that -p or --messages, and --system, stand for. */
static toque_status get_messages(tq_cli *cli, const options *o, json_t **messages, toque_error *err) {
    if (o->messages) {
        TQ_TRY(tq_cli_messages(cli, o->messages, messages, err));
    } else {
        *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", o->prompt);
        if (!*messages) return TQ_FAIL(err, EINVAL, "the prompt is not valid UTF-8 (--raw takes any bytes)");
    }
    if (!o->system) return TOQUE_OK;
    const char *role = json_string_value(json_object_get(json_array_get(*messages, 0), "role"));
    if (role && strcmp(role, "system") == 0)
        return tq_cli_usage(cli, err, "%.200s begins with a system message already; leave --system out", o->messages);
    json_t *system = json_pack("{s:s, s:s}", "role", "system", "content", o->system);
    if (!system) return TQ_FAIL(err, EINVAL, "the text of --system is not valid UTF-8");
    return json_array_insert_new(*messages, 0, system) ? TQ_NOMEM(err) : TOQUE_OK;
}

static toque_status tokenize_prompt(tq_cli *cli, const options *o, tq_model *model, tq_tokens *list, toque_error *err) {
    if (o->raw) {
        TQ_TRY(tq_tokenize(model->tokenizer, o->prompt, strlen(o->prompt), true, true, list, err));
        if (tq_tokenizer_add_eos(model->tokenizer) && list->len) list->len--; /* an end is nothing to continue */
        return TOQUE_OK;
    }
    if (!model->chat_template)
        return TQ_FAIL(err, ENOTFOUND, "%.300s has no chat template; --raw continues the text as it is",
                       o->model.model);
    json_t *messages = NULL;
    tq_rendered rendered = {0};
    toque_status status;
    TQ_GO(get_messages(cli, o, &messages, err));
    TQ_GO(tq_model_render(model, messages, NULL, NULL, true, &rendered, err));
    status = tq_model_tokenize_rendered(model, &rendered, list, err);
done:
    tq_rendered_clear(&rendered);
    json_decref(messages);
    return status;
}

static double rate(int tokens, double seconds) {
    return seconds > 0 ? tokens / seconds : 0;
}

static toque_status report(tq_cli *cli, const tq_generated *g, toque_error *err) {
    int drawn = (int)g->tokens.len;
    if (cli->common.json)
        return tq_cli_json(cli,
                           json_pack("{s:o, s:i, s:i, s:f, s:f, s:s}", "text", json_stringn(g->text.data, g->text.len),
                                     "prompt_tokens", g->prompt_tokens, "completion_tokens", drawn, "prompt_seconds",
                                     g->prompt_seconds, "completion_seconds", g->completion_seconds, "finish_reason",
                                     tq_finish_name(g->finish)),
                           err);
    TQ_TRY(tq_cli_write(cli, "\n", 1, err));
    tq_cli_note(cli,
                "prompt: %d tokens in %.3f s (%.1f tokens/s); answer: %d tokens in %.3f s (%.1f tokens/s); end: %s",
                g->prompt_tokens, g->prompt_seconds, rate(g->prompt_tokens, g->prompt_seconds), drawn,
                g->completion_seconds, rate(drawn, g->completion_seconds), tq_finish_name(g->finish));
    return TOQUE_OK;
}

/* A context as large as prompt and answer need, within what the model allows. */
static int context_for(const tq_model *model, const tq_tokens *prompt, int64_t n) {
    int64_t need = (int64_t)prompt->len + n - 1, most = model->config.context;
    return need < 1 ? 1 : need < most ? (int)need : (int)most;
}

static toque_status answer(tq_cli *cli, const options *o, tq_cli_loaded *l, const tq_tokens *prompt,
                           const tq_sampling *sampling, toque_error *err) {
    int context = context_for(l->model, prompt, o->n ? o->n : DEFAULT_TOKENS);
    tq_cli_printer p = {.cli = cli, .err = err};
    tq_generate_options g = {.ignore_eos = o->ignore_eos,
                             .prefill_only = tq_options_given(&cli->set, "seed"),
                             .stop = o->sampling.stop.items,
                             .n_stop = o->sampling.stop.len,
                             .on_text = cli->common.json ? NULL : tq_cli_print,
                             .arg = &p};
    if (o->n) g.max_tokens = o->n > INT32_MAX ? INT32_MAX : (int)o->n; /* otherwise: until the context is full */
    tq_session *session = NULL;
    tq_generated made;
    tq_generated_init(&made, &l->ctx->mem);
    toque_status status;
    TQ_GO(tq_session_new(&session, l->model, context, l->max_rank, err));
    TQ_GO(tq_generate(session, prompt->ids, (int)prompt->len, tq_cli_hats(l), sampling, &g, &made, err));
    TQ_GO(p.status);
    if (made.finish == TQ_FINISH_CANCELED) {
        status = TQ_FAIL(err, ECANCELED, "interrupted after %zu tokens", made.tokens.len);
        goto done;
    }
    status = report(cli, &made, err);
done:
    tq_generated_clear(&made);
    tq_session_free(session);
    return status;
}

static toque_status run(tq_cli *cli, void *given, toque_error *err) {
    const options *o = given;
    TQ_TRY(check(cli, o, err));
    tq_cli_loaded l;
    TQ_TRY(tq_cli_load(&l, cli, &o->model, &o->adapters, err));
    tq_cli_catch_interrupt(cli);
    tq_tokens prompt = {.mem = &l.ctx->mem};
    tq_sampling sampling = {0};
    tq_buf text;
    tq_buf_init(&text, &cli->mem, 4096);
    toque_status status;
    TQ_GO(tq_cli_sampling_get(cli, &o->sampling, &(tq_cli_sampling_defaults){.temp = 0}, l.model->tokenizer, &sampling,
                              err));
    TQ_GO(tokenize_prompt(cli, o, l.model, &prompt, err));
    if (tq_cli_sampling_describe(&sampling, &text)) tq_cli_note(cli, "%s", text.data);
    status = answer(cli, o, &l, &prompt, &sampling, err);
done:
    tq_buf_clear(&text);
    tq_cli_sampling_clear(cli, &sampling);
    tq_tokens_clear(&prompt);
    tq_cli_unload(&l);
    return status;
}

const tq_command tq_cmd_generate = {
    .name = "generate",
    .group = TQ_GROUP_DEPLOY,
    .summary = "Generate one answer",
    .usage = "-m M [-a A[:SCALE]]... (-p TEXT | --messages F) [--raw] [-n N] [--temp T] [--seed S] ...",
    .about = "The answer is streamed to standard output. The temperature is 0 unless --temp is given: the same prompt\n"
             "gives the same answer. The steps of sampling run in this order: logit bias, penalties, top-k, typical,\n"
             "top-p, min-p, temperature.\n"
             "--json prints {\"text\", \"prompt_tokens\", \"completion_tokens\", \"prompt_seconds\",\n"
             "\"completion_seconds\", \"finish_reason\"}: stop (an end token, counted, or a stop string) or length.",
    .example = "toque generate -m model.gguf -p 'Name three rivers.' -n 64\n"
               "toque generate -m model.gguf -a run:0.8 -p 'Once upon' --raw --temp 0.8 --seed 7",
    .tables = tables,
    .size = sizeof(options),
    .run = run,
};
