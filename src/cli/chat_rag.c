/* toque chat --rag: answers from a store in a conversation. A follow-up question is searched together with the one
 * before it, or first put in other words by the model; the conversation's memory is the messages themselves. */
#include <string.h>

#include "cli/chat.h"

enum { ANSWER_TOKENS = 200 };

#define AT(field) offsetof(tq_chat_rag_options, field)
const tq_option tq_chat_rag_table[] = {
    {.key = "rag",
     .type = TQ_OPT_TEXT,
     .offset = AT(store),
     .value = "STORE",
     .help = "answer from this store (toque rag add), with sources; the options below are for it"},
    {.key = "rewrite",
     .type = TQ_OPT_CHOICE,
     .offset = AT(rewrite),
     .fallback = "terms",
     .choices = "off|terms|model",
     .help = "follow-up questions. terms: one that does not stand alone is searched with the question before it; "
             "model: the model puts each in words that stand alone"},
    {0}};
#undef AT

static toque_status refuse_lone_options(tq_chat *c, toque_error *err) {
    static const tq_option *const tables[] = {tq_chat_rag_table, tq_cli_answering_table, tq_cli_search_table};
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        for (const tq_option *o = tables[t]; o->key; o++)
            if (tq_options_given(&c->cli->set, o->key))
                return tq_cli_usage(c->cli, err, "--%s is for answers from a store; name it with --rag", o->key);
    return TOQUE_OK;
}

static bool is_role(const json_t *m, const char *role) {
    const char *r = json_string_value(json_object_get(m, "role"));
    return r && strcmp(r, role) == 0;
}

/* The messages before the last one, system message left out. */
static json_t *history(const tq_chat *c) {
    json_t *list = json_array();
    for (size_t i = 0; list && i + 1 < json_array_size(c->messages); i++) {
        json_t *m = json_array_get(c->messages, i);
        if (is_role(m, "system")) continue;
        if (json_array_append(list, m)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static const char *last_question(const json_t *messages) {
    const char *last = NULL;
    for (size_t i = 0; i < json_array_size(messages); i++)
        if (is_role(json_array_get(messages, i), "user"))
            last = json_string_value(json_object_get(json_array_get(messages, i), "content"));
    return last;
}

static void fill_options(const tq_chat *c, json_t *before, tq_ask_options *o) {
    const json_t *first = json_array_get(c->messages, 0);
    *o = tq_cli_ask_options(c->cli, &c->rag->answering);
    o->quote.search = tq_cli_search_options(&c->rag->search);
    o->history = before;
    o->system = is_role(first, "system") ? json_string_value(json_object_get(first, "content")) : NULL;
    o->max_tokens = c->n ? c->n : ANSWER_TOKENS;
    o->sampling = c->sampling;
    o->prefill_only = c->seeded;
    if (c->stop->len) o->stop = c->stop->items, o->n_stop = c->stop->len;
    if (c->rag->rewrite == TQ_REWRITE_TERMS) o->previous = last_question(before);
}

toque_status tq_chat_rag_open(tq_chat *c, const tq_chat_rag_options *o, toque_error *err) {
    if (!o->store) return refuse_lone_options(c, err);
    TQ_TRY(tq_cli_store_open(c->cli, o->store, o->answering.embedder, true, &c->store, err));
    c->rag = o;
    tq_cli_note_threshold(c->cli, c->store.store);
    if (o->answering.answer == TQ_ANSWER_QUOTE) return TOQUE_OK;
    if (o->answering.answer == TQ_ANSWER_AUTO && !*c->store.store->facts.writer) {
        tq_cli_note(c->cli, "answers are quoted: no rag eval of this store has compared writing to quoting (--answer "
                            "write writes)");
        return TOQUE_OK;
    }
    json_t *none = json_array();
    tq_ask_options ask;
    toque_status status = none ? tq_chat_open_session(c, err) : TQ_NOMEM(err);
    fill_options(c, none, &ask);
    if (status == TOQUE_OK)
        status = tq_writer_warm(&(tq_writer){.session = c->session, .hats = tq_cli_hats(&c->l)}, &ask, err);
    json_decref(none);
    return status;
}

static toque_status ask(tq_chat *c, const char *question, json_t *before, tq_reply *reply, toque_error *err) {
    tq_writer writer = {.session = c->session, .hats = tq_cli_hats(&c->l)};
    tq_cli_printer p = {.cli = c->cli, .err = err};
    tq_ask_options o;
    tq_buf other;
    tq_buf_init(&other, &c->cli->mem, 1 << 20);
    fill_options(c, before, &o);
    o.stream = c->turn++;
    o.on_text = tq_cli_print;
    o.arg = &p;
    toque_status status = TOQUE_OK;
    if (c->rag->rewrite == TQ_REWRITE_MODEL && json_array_size(before)) {
        status = tq_rewrite_question(&c->store.searcher, &writer, question, &o, &other, err);
        if (status == TOQUE_OK) tq_cli_note(c->cli, "asked: %s", other.data);
    }
    if (status == TOQUE_OK)
        status = tq_ask(&c->store.searcher, &writer, reply, other.len ? other.data : question, &o, err);
    if (status == TOQUE_OK) status = p.status;
    c->lost = p.status != TOQUE_OK;
    tq_buf_clear(&other);
    return status;
}

toque_status tq_chat_rag_answer(tq_chat *c, toque_error *err) {
    tq_reply reply = {0};
    const json_t *last = json_array_get(c->messages, json_array_size(c->messages) - 1);
    const char *question = json_string_value(json_object_get(last, "content"));
    json_t *before = history(c);
    toque_status status = before ? tq_chat_open_session(c, err) : TQ_NOMEM(err);
    if (status == TOQUE_OK) status = ask(c, question, before, &reply, err);
    if (status == TOQUE_OK) {
        printf("\n");
        if (reply.joined) tq_cli_note(c->cli, "searched together with the question before");
        tq_cli_print_sources(c->cli, &reply);
        if (reply.finish == TQ_FINISH_CANCELED) tq_cli_note(c->cli, "stopped");
        status = tq_chat_add(c, "assistant", reply.text.data, reply.text.len, err);
    }
    tq_reply_clear(&reply);
    json_decref(before);
    return status;
}
