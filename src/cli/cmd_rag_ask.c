/* toque rag ask: an answer from a store, quoted or written, with its sources. */
#include "cli/load.h"
#include "cli/reply.h"
#include "cli/sampling.h"

enum { DEFAULT_CONTEXT = 2048 };

typedef struct options {
    tq_cli_answering answering;
    tq_cli_search search;
    tq_cli_model model;
    tq_cli_adapters adapters;
    tq_cli_sampling sampling;
    const char *system;
    int64_t n, context;
} options;

#define AT(field) offsetof(options, field)
static const tq_option own[] = {
    {.key = "system",
     .type = TQ_OPT_TEXT,
     .offset = AT(system),
     .value = "TEXT",
     .help = "the system message in place of toque's own"},
    {.key = "n",
     .letter = 'n',
     .type = TQ_OPT_INT,
     .offset = AT(n),
     .fallback = "200",
     .min = 1,
     .max = 1e9,
     .aliases = "max_tokens|max_new_tokens|n_predict",
     .help = "tokens of a written answer at most"},
    {.key = "context",
     .type = TQ_OPT_INT,
     .offset = AT(context),
     .min = 1,
     .max = 1e9,
     .help = "tokens of prompt and answer that fit; without it, 2048 or the model's context if that is less"},
    {0}};
static const tq_cli_table tables[] = {{tq_cli_answering_table, AT(answering)}, {own, 0},
                                      {tq_cli_search_table, AT(search)},       {tq_cli_help_table, AT(search)},
                                      {tq_cli_model_table, AT(model)},         {tq_cli_adapters_table, AT(adapters)},
                                      {tq_cli_sampling_table, AT(sampling)},   {0}};
#undef AT

/* Whether a model is needed: auto looks for a record first, since a model takes time to load. */
static bool wants_writer(tq_cli *cli, const options *o, const tq_rag *store) {
    if (o->answering.answer != TQ_ANSWER_AUTO || !o->model.model) return o->answering.answer == TQ_ANSWER_WRITE;
    if (!*store->facts.writer && tq_options_given(&cli->set, "model"))
        tq_cli_note(cli, "quoted: no rag eval of this store has compared writing to quoting (--answer write writes)");
    return *store->facts.writer;
}

static toque_status open_session(tq_cli_loaded *l, int64_t context, tq_session **session, toque_error *err) {
    int most = l->model->config.context;
    if (context > most)
        return TQ_FAIL(err, ELIMIT, "--context %lld is more than this model's %d", (long long)context, most);
    if (!context) context = most < DEFAULT_CONTEXT ? most : DEFAULT_CONTEXT;
    return tq_session_new(session, l->model, (int)context, l->max_rank, err);
}

static toque_status answer(tq_cli *cli, const options *o, tq_cli_store *s, const tq_writer *writer,
                           const tq_sampling *sampling, toque_error *err) {
    tq_reply reply;
    tq_cli_printer p = {.cli = cli, .err = err};
    tq_ask_options a = tq_cli_ask_options(cli, &o->answering);
    a.quote.search = tq_cli_search_options(&o->search);
    a.system = o->system;
    a.max_tokens = o->n > INT32_MAX ? INT32_MAX : (int)o->n;
    a.sampling = *sampling;
    a.prefill_only = tq_options_given(&cli->set, "seed");
    if (o->sampling.stop.len) a.stop = o->sampling.stop.items, a.n_stop = o->sampling.stop.len;
    if (!cli->common.json) a.on_text = tq_cli_print, a.arg = &p;
    toque_status status = tq_ask(&s->searcher, writer, &reply, cli->set.positional[1], &a, err);
    if (status == TOQUE_OK) status = p.status;
    if (status == TOQUE_OK && reply.finish == TQ_FINISH_CANCELED)
        status = TQ_FAIL(err, ECANCELED, "interrupted after %d tokens", reply.answer_tokens);
    if (status == TOQUE_OK && cli->common.json) {
        status = tq_cli_json(cli, tq_cli_json_reply(cli, &reply, s->store), err);
    } else if (status == TOQUE_OK) {
        printf("\n");
        tq_cli_print_sources(cli, &reply);
    }
    tq_reply_clear(&reply);
    return status;
}

static toque_status run(tq_cli *cli, void *given, toque_error *err) {
    const options *o = given;
    tq_cli_store s;
    tq_cli_loaded l = {0};
    tq_search_helper helper = {0};
    tq_writer writer = {0};
    tq_sampling sampling = tq_sampling_default();
    if (o->answering.answer == TQ_ANSWER_QUOTE && o->adapters.adapters.len && !tq_cli_wants_help(&o->search))
        return tq_cli_usage(cli, err, "-a goes with a model that writes; --answer quote has none");
    if (o->answering.answer == TQ_ANSWER_WRITE || o->adapters.adapters.len || tq_cli_wants_help(&o->search))
        TQ_TRY(tq_cli_need_model(cli, &o->model, err));
    toque_status status = TOQUE_OK;
    TQ_TRY(tq_cli_store_open(cli, cli->set.positional[0], o->answering.embedder, true, &s, err));
    tq_cli_catch_interrupt(cli);
    tq_cli_note_threshold(cli, s.store);
    bool writes = wants_writer(cli, o, s.store);
    if (writes || tq_cli_wants_help(&o->search)) TQ_GO(tq_cli_load(&l, cli, &o->model, &o->adapters, err));
    if (tq_cli_wants_help(&o->search)) tq_cli_help(&helper, &s.searcher, &l);
    if (writes) {
        TQ_GO(tq_cli_sampling_get(cli, &o->sampling, &(tq_cli_sampling_defaults){.temp = 0}, l.model->tokenizer,
                                  &sampling, err));
        TQ_GO(open_session(&l, o->context, &writer.session, err));
        writer.hats = tq_cli_hats(&l);
    }
    status = answer(cli, o, &s, writes ? &writer : NULL, &sampling, err);
done:
    tq_session_free(writer.session);
    tq_search_helper_clear(&helper);
    tq_cli_sampling_clear(cli, &sampling);
    if (l.cli) tq_cli_unload(&l);
    tq_cli_store_close(&s);
    return status;
}

const tq_command tq_cmd_rag_ask = {
    .name = "rag ask",
    .group = TQ_GROUP_CUSTOMIZE,
    .summary = "Answer a question from a store, with sources",
    .usage = "STORE TEXT [--answer auto|quote|write] [-m M [-a A]...] [-k N] [--threshold X]",
    .about =
        "quote: the one to three sentences of the best -k passages that are nearest to the question, word for word.\n"
        "write: a model reads the best sentences and answers; behind each sentence of its answer stands the source\n"
        "that bears it out, or [unsupported]. Either says that the documents do not answer, when none is near\n"
        "enough. --json prints {\"answered\", \"mode\", \"answer\", \"sentences\": [{\"text\", \"start\", \"end\", "
        "\"supported\",\n"
        "\"overlap\", \"similarity\", \"source\", \"evidence\"}], \"sources\": [{\"number\", \"document\", \"id\", "
        "\"text\", \"start\",\n"
        "\"end\", \"score\", \"cited\", ...}], \"best\", \"threshold\", \"calibrated\", \"seconds\", and of a written "
        "answer\n"
        "\"tokens\", \"left_out\", \"finish_reason\"}: text is bytes start to end of the document's text, of a\n"
        "sentence those of the answer; evidence is the nearest place in the source's document.",
    .example = "toque rag ask docs.db 'How do I upgrade from one release to the next?'\n"
               "toque rag ask docs.db 'Which file lists the sources?' --answer write -m smollm2-135m-instruct",
    .tables = tables,
    .size = sizeof(options),
    .min_args = 2,
    .max_args = 2,
    .run = run,
};
