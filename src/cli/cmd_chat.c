/* toque chat: a conversation in the terminal or over a pipe. What a line does is decided here; what its commands do
 * stands in chat_commands.c. */
#include <errno.h>
#include <string.h>

#include "cli/chat.h"

typedef struct options {
    tq_cli_model model;
    tq_cli_adapters adapters;
    tq_cli_sampling sampling;
    tq_chat_rag_options rag;
    const char *system;
    int64_t n, context;
} options;

enum { DEFAULT_CONTEXT = 4096 };
static const tq_cli_sampling_defaults chat_sampling = {.temp = 0.7, .min_p = 0.05};

#define AT(field) offsetof(options, field)
static const tq_option own[] = {
    {.key = "system", .type = TQ_OPT_TEXT, .offset = AT(system), .value = "TEXT", .help = "the system message"},
    {.key = "n",
     .letter = 'n',
     .type = TQ_OPT_INT,
     .offset = AT(n),
     .min = 1,
     .max = 1e9,
     .aliases = "max_tokens|n_predict",
     .help = "tokens of an answer at most; without it, until the context is full"},
    {.key = "context",
     .type = TQ_OPT_INT,
     .offset = AT(context),
     .min = 1,
     .max = 1e9,
     .help = "tokens of conversation that fit; without it, 4096 or the model's context if that is less"},
    {0}};
static const tq_cli_table tables[] = {{own, 0},
                                      {tq_cli_model_table, AT(model)},
                                      {tq_cli_adapters_table, AT(adapters)},
                                      {tq_cli_sampling_table, AT(sampling)},
                                      {tq_chat_rag_table, AT(rag)},
                                      {tq_cli_answering_table, AT(rag.answering)},
                                      {tq_cli_search_table, AT(rag.search)},
                                      {0}};
#undef AT

toque_status tq_chat_set_system(tq_chat *c, const char *text, toque_error *err) {
    json_t *message = json_pack("{s:s, s:s}", "role", "system", "content", text);
    if (!message) return TQ_FAIL(err, EINVAL, "the system message is not valid UTF-8");
    const char *role = json_string_value(json_object_get(json_array_get(c->messages, 0), "role"));
    bool has_one = role && strcmp(role, "system") == 0;
    int failed = has_one ? json_array_set_new(c->messages, 0, message) : json_array_insert_new(c->messages, 0, message);
    return failed ? TQ_NOMEM(err) : TOQUE_OK;
}

/* A session that is wide enough for the adapters loaded by now. */
toque_status tq_chat_open_session(tq_chat *c, toque_error *err) {
    if (c->session && c->session_rank >= c->l.max_rank) return TOQUE_OK;
    tq_session_free(c->session);
    c->session = NULL;
    TQ_TRY(tq_session_new(&c->session, c->l.model, c->context, c->l.max_rank, err));
    c->session_rank = c->l.max_rank;
    return TOQUE_OK;
}

/* --- answering --------------------------------------------------------------------------------------------- */

static toque_status tokenize(tq_chat *c, tq_tokens *list, toque_error *err) {
    tq_rendered rendered = {0};
    toque_status status = tq_model_render(c->l.model, c->messages, NULL, NULL, true, &rendered, err);
    if (status == TOQUE_OK) status = tq_model_tokenize_rendered(c->l.model, &rendered, list, err);
    tq_rendered_clear(&rendered);
    return status;
}

/* Tokens that fit with the hats worn now. */
static int context_now(const tq_chat *c) {
    int most = tq_model_context(c->l.model, tq_cli_hats(&c->l));
    return c->context < most ? c->context : most;
}

/* Nothing of a conversation is dropped behind its owner's back. */
static toque_status check_room(const tq_chat *c, const tq_tokens *prompt, toque_error *err) {
    const int context = context_now(c);
    if (prompt->len <= (size_t)context) return TOQUE_OK;
    return TQ_FAIL(err, ELIMIT,
                   "the conversation has %zu tokens and the context holds %d: your last message was taken back; "
                   "/clear starts anew, /save FILE keeps what was said%s",
                   prompt->len, context,
                   c->context < c->l.model->config.context ? ", a larger --context holds more" : "");
}

static void tell_end(tq_chat *c, const tq_generated *g, int most) {
    if (g->finish == TQ_FINISH_CANCELED) tq_cli_note(c->cli, "stopped");
    if (g->finish != TQ_FINISH_LENGTH) return;
    if (most == c->n)
        tq_cli_note(c->cli, "the answer was cut at -n %d tokens", c->n);
    else
        tq_cli_warn(c->cli, "the context of %d tokens is full and the answer was cut; /clear starts anew",
                    context_now(c));
}

toque_status tq_chat_add(tq_chat *c, const char *role, const char *text, size_t n, toque_error *err) {
    json_t *content = json_stringn(text, n);
    if (!content) return TQ_FAIL(err, EINVAL, "the text is not valid UTF-8; it was not sent");
    return json_array_append_new(c->messages, json_pack("{s:s, s:o}", "role", role, "content", content)) ? TQ_NOMEM(err)
                                                                                                         : TOQUE_OK;
}

/* The answer to the messages as they stand, printed and appended. */
static toque_status answer(tq_chat *c, toque_error *err) {
    if (c->rag) return tq_chat_rag_answer(c, err);
    tq_mem *mem = &c->l.ctx->mem;
    tq_tokens prompt = {.mem = mem};
    tq_generated g;
    tq_generated_init(&g, mem);
    tq_cli_printer p = {.cli = c->cli, .err = err};
    tq_generate_options o = {.prefill_only = c->seeded,
                             .stream = c->turn++,
                             .stop = c->stop->items,
                             .n_stop = c->stop->len,
                             .on_text = tq_cli_print,
                             .arg = &p};
    toque_status status;
    TQ_GO(tokenize(c, &prompt, err));
    TQ_GO(check_room(c, &prompt, err));
    TQ_GO(tq_chat_open_session(c, err));
    int room = context_now(c) - (int)prompt.len + 1;
    o.max_tokens = c->n && c->n < room ? c->n : room;
    TQ_GO(tq_generate(c->session, prompt.ids, (int)prompt.len, tq_cli_hats(&c->l), &c->sampling, &o, &g, err));
    status = p.status != TOQUE_OK ? p.status : tq_cli_write(c->cli, "\n", 1, err);
    c->lost = status != TOQUE_OK;
    if (c->lost) goto done;
    tell_end(c, &g, o.max_tokens);
    status = tq_chat_add(c, "assistant", g.text.data, g.text.len, err);
done:
    tq_generated_clear(&g);
    tq_tokens_clear(&prompt);
    return status;
}

/* One user turn. When it fails the conversation is again what it was before. */
static toque_status say(tq_chat *c, const char *text, size_t n, toque_error *err) {
    size_t before = json_array_size(c->messages);
    toque_status status = tq_chat_add(c, "user", text, n, err);
    if (status == TOQUE_OK) status = answer(c, err);
    if (status == TOQUE_OK) return status;
    while (json_array_size(c->messages) > before) json_array_remove(c->messages, json_array_size(c->messages) - 1);
    return status;
}

/* --- the loop ---------------------------------------------------------------------------------------------- */

static toque_status take_line(tq_chat *c, const tq_buf *line, toque_error *err) {
    size_t blank = strspn(line->data, " \t");
    if (blank == line->len) return TOQUE_OK;
    tq_cli_catch_interrupt(c->cli); /* the handler serves once */
    toque_status status =
        line->data[0] == '/' ? tq_chat_command(c, line->data, err) : say(c, line->data, line->len, err);
    if (status == TOQUE_OK || c->lost) return status;
    /* On a terminal, a mistake is told and the talk goes on; a script wants to know. */
    if (!tq_line_is_terminal(c->line)) return status;
    tq_cli_warn(c->cli, "%s", err->message);
    return TOQUE_OK;
}

static toque_status talk(tq_chat *c, toque_error *err) {
    tq_buf line;
    tq_buf_init(&line, &c->cli->mem, 64 << 20);
    toque_status status = TOQUE_OK;
    while (status == TOQUE_OK && !c->quit) {
        tq_cli_catch_interrupt(c->cli);
        atomic_store(&c->l.ctx->canceled, false);
        tq_line_result got = tq_line_read(c->line, &line);
        if (got == TQ_LINE_END) break;
        if (got == TQ_LINE_FAILED) status = TQ_FAIL(err, EIO, "cannot read standard input: %s", strerror(errno));
        if (got == TQ_LINE_INTERRUPTED && !tq_line_is_terminal(c->line))
            status = TQ_FAIL(err, ECANCELED, "interrupted");
        if (got == TQ_LINE_INTERRUPTED && status == TOQUE_OK) tq_cli_note(c->cli, "/quit or Ctrl-D ends the program");
        if (got == TQ_LINE_TEXT) status = take_line(c, &line, err);
    }
    tq_buf_clear(&line);
    return status;
}

static void greet(tq_chat *c, const options *o) {
    tq_buf text;
    tq_buf_init(&text, &c->cli->mem, 4096);
    if (tq_line_is_terminal(c->line) && tq_cli_sampling_describe(&c->sampling, &text))
        tq_cli_note(c->cli, "%s: %s, context %d; /help lists commands, Ctrl-C stops an answer, Ctrl-D ends",
                    o->model.model, text.data, c->context);
    tq_buf_clear(&text);
}

static toque_status prepare(tq_chat *c, const options *o, toque_error *err) {
    if (!c->l.model->chat_template)
        return TQ_FAIL(err, ENOTFOUND,
                       "%.300s has no chat template, so it cannot chat; toque generate --raw continues a text",
                       o->model.model);
    int most = c->l.model->config.context;
    if (o->context > most)
        return TQ_FAIL(err, ELIMIT, "--context %lld is more than this model's %d", (long long)o->context, most);
    c->context = o->context ? (int)o->context : most < DEFAULT_CONTEXT ? most : DEFAULT_CONTEXT;
    c->n = o->n > INT32_MAX ? INT32_MAX : (int)o->n;
    c->seeded = tq_options_given(&c->cli->set, "seed");
    c->stop = &o->sampling.stop;
    c->messages = json_array();
    if (!c->messages) return TQ_NOMEM(err);
    if (o->system) TQ_TRY(tq_chat_set_system(c, o->system, err));
    TQ_TRY(tq_cli_sampling_get(c->cli, &o->sampling, &chat_sampling, c->l.model->tokenizer, &c->sampling, err));
    TQ_TRY(tq_chat_rag_open(c, &o->rag, err));
    return tq_line_open(&c->line, &c->cli->mem, "> ", err);
}

static toque_status run(tq_cli *cli, void *given, toque_error *err) {
    const options *o = given;
    if (cli->common.json)
        return tq_cli_usage(cli, err, "chat has no --json; toque generate --messages --json is for scripts");
    tq_chat c = {.cli = cli};
    TQ_TRY(tq_cli_load(&c.l, cli, &o->model, &o->adapters, err));
    toque_status status = prepare(&c, o, err);
    if (status == TOQUE_OK) {
        greet(&c, o);
        status = talk(&c, err);
    }
    tq_line_close(c.line);
    tq_session_free(c.session);
    if (c.rag) tq_cli_store_close(&c.store);
    tq_cli_sampling_clear(cli, &c.sampling);
    json_decref(c.messages);
    tq_cli_unload(&c.l);
    return status;
}

const tq_command tq_cmd_chat = {
    .name = "chat",
    .group = TQ_GROUP_DEPLOY,
    .summary = "Talk with a model",
    .usage = "-m M [-a A[:SCALE]]... [--system TEXT] [--rag STORE] [--temp T] [--context N] ...",
    .about =
        "Every line is a turn; lines that begin with / are commands (/help lists them): adapters can be changed in\n"
        "the middle of a conversation. Ctrl-C stops an answer, Ctrl-D ends. With a pipe as standard input there\n"
        "are no prompts: one answer after another is printed.\n"
        "Temperature 0.7 and min-p 0.05 unless options say otherwise.\n"
        "--rag answers from a store, with sources, as toque rag ask does: quoted, written, or withheld. What was said\n"
        "before is given to a model that writes, as far as it fits.",
    .example = "toque chat -m model.gguf -a run --system 'Answer in one sentence.'\n"
               "toque chat -m model.gguf --rag docs.db --answer write",
    .tables = tables,
    .size = sizeof(options),
    .run = run,
};
