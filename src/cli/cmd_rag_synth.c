/* toque rag synth: questions about a store that a model writes, each kept only if it leads back to its passage. */
#include <inttypes.h>
#include <string.h>

#include "base/progress.h"
#include "cli/rag.h"
#include "rag/question.h"

enum { CONTEXT = 2048, LEAST_BYTES = 120, RETRIEVED = 5 };

typedef struct synth_options {
    tq_cli_model model;
    tq_cli_adapters adapters;
    const char *embedder;
    int64_t n, tries, seed;
} synth_options;

#define AT(field) offsetof(synth_options, field)
static const tq_option table[] = {{.key = "n",
                                   .letter = 'n',
                                   .type = TQ_OPT_INT,
                                   .offset = AT(n),
                                   .fallback = "50",
                                   .min = 1,
                                   .max = 1e6,
                                   .help = "questions wanted"},
                                  {.key = "tries",
                                   .type = TQ_OPT_INT,
                                   .offset = AT(tries),
                                   .min = 1,
                                   .max = 1e7,
                                   .help = "passages asked about at most; without it, ten times -n"},
                                  {.key = "seed",
                                   .type = TQ_OPT_INT,
                                   .offset = AT(seed),
                                   .fallback = "1",
                                   .min = 0,
                                   .max = 9007199254740991.0,
                                   .help = "draws the passages"},
                                  {.key = "embedder",
                                   .type = TQ_OPT_TEXT,
                                   .offset = AT(embedder),
                                   .value = "M",
                                   .help = "where the store's embedder is now; without it, where it was"},
                                  {0}};
static const tq_cli_table tables[] = {
    {table, 0}, {tq_cli_model_table, AT(model)}, {tq_cli_adapters_table, AT(adapters)}, {0}};
#undef AT

/* One passage; fates counts what came of it. */
static toque_status try_passage(tq_cli *cli, tq_cli_store *s, tq_session *session, const tq_hats *hats, int64_t chunk,
                                size_t fates[TQ_QUESTION_FATES], toque_error *err) {
    tq_arena arena;
    tq_passage_info p;
    tq_question q;
    tq_search_options search = tq_search_defaults();
    search.k = RETRIEVED;
    tq_arena_init(&arena, s->store->mem, 1 << 14);
    toque_status status = tq_rag_passage(s->store, chunk, &arena, &p, err);
    if (status == TOQUE_OK) status = tq_question_write(&s->searcher, session, hats, &p, &search, &arena, &q, err);
    if (status == TOQUE_OK) fates[q.fate]++;
    if (status == TOQUE_OK && q.fate == TQ_QUESTION_KEPT) {
        char id[48];
        snprintf(id, sizeof id, "synth-%" PRId64, chunk);
        status = tq_cli_json(cli,
                             json_pack("{s:s, s:o, s:o, s:o, s:o}", "id", id, "question",
                                       tq_cli_json_text(cli, q.question, strlen(q.question)), "document",
                                       tq_cli_json_text(cli, p.uri, strlen(p.uri)), "answer",
                                       tq_cli_json_text(cli, q.answer, strlen(q.answer)), "sentence",
                                       tq_cli_json_text(cli, q.sentence, strlen(q.sentence))),
                             err);
    }
    tq_arena_clear(&arena);
    return status;
}

static toque_status write_questions(tq_cli *cli, const synth_options *o, tq_cli_store *s, tq_session *session,
                                    const tq_hats *hats, toque_error *err) {
    int64_t *chunks;
    size_t n, fates[TQ_QUESTION_FATES] = {0}, tries = (size_t)(o->tries ? o->tries : o->n * 10), at = 0;
    tq_progress bar;
    TQ_TRY(tq_question_passages(s->store, LEAST_BYTES, (uint64_t)o->seed, &chunks, &n, err));
    toque_status status =
        n ? TOQUE_OK : TQ_FAIL(err, ENOTFOUND, "%s has no passage of %d bytes", s->store->path, LEAST_BYTES);
    if (tries > n) tries = n;
    tq_progress_start(&bar, tq_cli_progress(cli), "writing", "questions", (size_t)o->n, 0);
    for (; at < tries && fates[TQ_QUESTION_KEPT] < (size_t)o->n && status == TOQUE_OK; at++) {
        status = try_passage(cli, s, session, hats, chunks[at], fates, err);
        if (status == TOQUE_OK && s->store->ctx->canceled)
            status = TQ_FAIL(err, ECANCELED, "interrupted after %zu passages; the questions printed so far are whole",
                             at + 1);
        tq_progress_update(&bar, fates[TQ_QUESTION_KEPT], NULL);
    }
    tq_progress_end(&bar, NULL);
    if (status == TOQUE_OK)
        tq_cli_note(cli,
                    "%zu passages: %zu questions kept (%.0f %%); %zu times no question with an answer, %zu answers not "
                    "in the passage, %zu passages not among the first %d found",
                    at, fates[TQ_QUESTION_KEPT], 100.0 * (double)fates[TQ_QUESTION_KEPT] / (double)at,
                    fates[TQ_QUESTION_NONE], fates[TQ_QUESTION_ABSENT], fates[TQ_QUESTION_LOST], RETRIEVED);
    tq_free(s->store->mem, chunks);
    return status;
}

static toque_status run(tq_cli *cli, void *given, toque_error *err) {
    const synth_options *o = given;
    tq_cli_store s;
    tq_cli_loaded l = {0};
    tq_session *session = NULL;
    toque_status status;
    TQ_TRY(tq_cli_need_model(cli, &o->model, err));
    TQ_TRY(tq_cli_store_open(cli, cli->set.positional[0], o->embedder, true, &s, err));
    tq_cli_catch_interrupt(cli);
    TQ_GO(tq_cli_load(&l, cli, &o->model, &o->adapters, err));
    int most = l.model->config.context;
    TQ_GO(tq_session_new(&session, l.model, most < CONTEXT ? most : CONTEXT, l.max_rank, err));
    status = write_questions(cli, o, &s, session, tq_cli_hats(&l), err);
done:
    tq_session_free(session);
    if (l.cli) tq_cli_unload(&l);
    tq_cli_store_close(&s);
    return status;
}

const tq_command tq_cmd_rag_synth = {
    .name = "rag synth",
    .group = TQ_GROUP_CUSTOMIZE,
    .summary = "Write questions about a store, for rag eval",
    .usage = "STORE -m M [-a A]... [-n N] [--seed S]",
    .about =
        "The model writes a question and its answer for passages drawn by --seed. A question is printed, as rag eval\n"
        "reads it, if its answer stands in its passage in so many words and a search for it finds the passage among\n"
        "the first five. How many of the passages gave one is told at the end. Questions made so are easier than\n"
        "those of people, and none is without an answer: see rag label.",
    .example = "toque rag synth docs.db -m smollm2-135m-instruct -n 20 > questions.jsonl",
    .tables = tables,
    .size = sizeof(synth_options),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
