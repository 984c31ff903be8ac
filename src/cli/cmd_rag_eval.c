/* toque rag eval: how well a store finds and answers a file of questions. Each stage of the search ranks the documents
 * (a document stands where its best passage stands) and is measured as trec_eval measures (rag/measures.h); answering
 * is measured in rag_eval_ways.c. */
#include <string.h>

#include "base/progress.h"
#include "cli/rag_eval.h"
#include "eval/stats.h"
#include "rag/measures.h"

enum { DEPTH = 100, MOST_STAGES = 5, SWAPS_SEED = 1, CONTEXT = 2048 };

typedef struct eval_options {
    tq_cli_search search; /* only what a model adds */
    tq_cli_model model;
    tq_cli_adapters adapters;
    const char *embedder, *answer;
    int64_t n;
    bool learn;
} eval_options;

#define AT(field) offsetof(eval_options, field)
static const tq_option table[] = {
    {.key = "answer",
     .type = TQ_OPT_TEXT,
     .offset = AT(answer),
     .fallback = "quote",
     .value = "WAY[,WAY]...",
     .help = "ways to answer: quote, and with -m closed (the model reads nothing), write (it reads the best "
             "sentences), write-passages, write-gold (it reads the passage of the question's \"sentence\"); all"},
    {.key = "n",
     .letter = 'n',
     .type = TQ_OPT_INT,
     .offset = AT(n),
     .fallback = "100",
     .min = 1,
     .max = 100000,
     .aliases = "max_tokens|max_new_tokens|n_predict",
     .help = "tokens of a written answer at most"},
    {.key = "learn",
     .type = TQ_OPT_FLAG,
     .offset = AT(learn),
     .fallback = "off",
     .help = "keep in the store the threshold that parts questions with an answer from those without best, and with "
             "--answer write whether --answer auto is to write"},
    {.key = "embedder",
     .type = TQ_OPT_TEXT,
     .offset = AT(embedder),
     .value = "M",
     .help = "where the store's embedder is now; without it, where it was"},
    {0}};
static const tq_cli_table tables[] = {{table, 0},
                                      {tq_cli_help_table, AT(search)},
                                      {tq_cli_model_table, AT(model)},
                                      {tq_cli_adapters_table, AT(adapters)},
                                      {0}};
#undef AT

/* --- ranking --------------------------------------------------------------------------------------------------- */

typedef struct stage {
    const char *name;
    tq_search_options search;
    double recall[3], reciprocal, sum, *ndcg; /* ndcg: [n_ranked] */
} stage;

typedef struct ranking {
    stage stages[MOST_STAGES];
    size_t n;
} ranking;

static const size_t cuts[3] = {1, 5, 10};

static toque_status add_stage(ranking *r, tq_evaluation *v, const char *name, const tq_search_options *o,
                              toque_error *err) {
    stage *s = &r->stages[r->n++];
    *s = (stage){.name = name, .search = *o, .ndcg = tq_zalloc(&v->cli->mem, v->n_ranked + 1, sizeof *s->ndcg)};
    s->search.k = DEPTH;
    return s->ndcg ? TOQUE_OK : TQ_NOMEM(err);
}

static toque_status make_stages(ranking *r, tq_evaluation *v, toque_error *err) {
    static const char *const names[] = {"vector", "bm25", "hybrid"}; /* as tq_search_mode */
    bool vectors = v->s.store->facts.dim > 0;
    tq_search_options o = tq_search_defaults();
    for (int m = vectors ? TQ_SEARCH_VECTOR : TQ_SEARCH_BM25; m <= (vectors ? TQ_SEARCH_HYBRID : TQ_SEARCH_BM25); m++) {
        o.mode = (tq_search_mode)m;
        TQ_TRY(add_stage(r, v, names[m], &o, err));
    }
    o.expand = v->search.expand;
    if (o.expand) TQ_TRY(add_stage(r, v, o.expand == TQ_EXPAND_HYDE ? "+hyde" : "+queries", &o, err));
    o.rerank = v->search.rerank;
    o.rerank_depth = v->search.rerank_depth;
    if (o.rerank) TQ_TRY(add_stage(r, v, "+rerank", &o, err));
    return TOQUE_OK;
}

/* Ranks one question by one stage. at: its number among those that are ranked. */
static toque_status rank(tq_evaluation *v, const tq_eval_question *q, stage *s, size_t at, toque_error *err) {
    tq_hits hits;
    double gains[DEPTH], ideal[10];
    size_t n = 0, n_ideal = q->n_relevant < 10 ? q->n_relevant : 10;
    toque_status status = tq_search(&v->s.searcher, &hits, q->text, &s->search, err);
    for (size_t i = 0; i < hits.n; i++) {
        bool again = false;
        for (size_t j = 0; j < i && !again; j++)
            again = hits.items[j].passage.document == hits.items[i].passage.document;
        if (!again) gains[n++] = tq_eval_is_relevant(q, hits.items[i].passage.document);
    }
    for (size_t i = 0; i < n_ideal; i++) ideal[i] = 1;
    for (size_t i = 0; i < 3; i++) s->recall[i] += tq_recall_at(gains, n, cuts[i], q->n_relevant);
    s->reciprocal += tq_reciprocal_rank(gains, n);
    s->ndcg[at] = tq_ndcg_at(gains, n, ideal, n_ideal, 10);
    s->sum += s->ndcg[at];
    tq_hits_clear(&hits);
    return status;
}

static toque_status measure(tq_evaluation *v, ranking *r, toque_error *err) {
    tq_progress bar;
    TQ_TRY(tq_eval_start_ways(v, err));
    TQ_TRY(make_stages(r, v, err));
    tq_progress_start(&bar, tq_cli_progress(v->cli), "asking", "questions", v->n, 0);
    toque_status status = TOQUE_OK;
    for (size_t i = 0, at = 0; i < v->n && status == TOQUE_OK; i++) {
        for (size_t s = 0; s < r->n && v->questions[i].n_relevant && status == TOQUE_OK; s++)
            status = rank(v, &v->questions[i], &r->stages[s], at, err);
        at += v->questions[i].n_relevant > 0;
        if (status == TOQUE_OK) status = tq_eval_answer(v, i, err);
        if (status == TOQUE_OK && v->s.store->ctx->canceled)
            status = TQ_FAIL(err, ECANCELED, "interrupted after %zu of %zu questions", i + 1, v->n);
        tq_progress_update(&bar, i + 1, NULL);
        if (status != TOQUE_OK && status != TOQUE_EINVAL && status != TOQUE_ECANCELED)
            tq_error_prefix(err, status, "%s:%zu", v->path, v->questions[i].line);
    }
    tq_progress_end(&bar, NULL);
    if (status == TOQUE_OK && v->n_answerable && v->n_answerable < v->n) status = tq_eval_part(v, err);
    return status;
}

/* --- telling --------------------------------------------------------------------------------------------------- */

static json_t *stage_json(const tq_evaluation *v, const ranking *r, const stage *s) {
    double n = (double)v->n_ranked;
    const stage *last = &r->stages[r->n - 1];
    json_t *o =
        json_pack("{s:s, s:f, s:f, s:f, s:f, s:f}", "stage", s->name, "recall@1", s->recall[0] / n, "recall@5",
                  s->recall[1] / n, "recall@10", s->recall[2] / n, "mrr", s->reciprocal / n, "ndcg@10", s->sum / n);
    if (o && s != last)
        json_object_set_new(o, "p", json_real(tq_randomization(last->ndcg, s->ndcg, v->n_ranked, SWAPS_SEED)));
    return o;
}

static json_t *report(const tq_evaluation *v, const ranking *r) {
    json_t *o = json_pack("{s:I, s:I}", "questions", (json_int_t)v->n, "answerable", (json_int_t)v->n_answerable);
    if (o && v->n_ranked) {
        json_t *stages = json_array();
        for (size_t s = 0; stages && s < r->n; s++) json_array_append_new(stages, stage_json(v, r, &r->stages[s]));
        json_object_set_new(o, "stages", stages);
    }
    if (o) tq_eval_report_ways(v, o);
    return o;
}

static double number(const json_t *o, const char *key) {
    return json_real_value(json_object_get(o, key));
}

static void print_report(const tq_evaluation *v, const json_t *o) {
    const json_t *stages = json_object_get(o, "stages"), *c = json_object_get(o, "citations"),
                 *a = json_object_get(o, "answers"), *x = json_object_get(o, "abstention"), *s;
    size_t i;
    printf("%zu questions, %zu of them with an answer\n", v->n, v->n_answerable);
    if (stages) printf("\n%-8s  recall@1  recall@5  recall@10     MRR  nDCG@10  p (nDCG@10)\n", "stage");
    json_array_foreach(stages, i, s) {
        printf("%-8s  %8.4f  %8.4f  %9.4f  %6.4f  %7.4f", json_string_value(json_object_get(s, "stage")),
               number(s, "recall@1"), number(s, "recall@5"), number(s, "recall@10"), number(s, "mrr"),
               number(s, "ndcg@10"));
        if (json_object_get(s, "p")) printf("  %12.4f", number(s, "p"));
        printf("\n");
    }
    tq_eval_print_ways(v, o);
    if (a)
        printf("\nquotations: %.4f of the answers held by the best, %.4f by all (%zu questions)\n",
               number(a, "held_by_best"), number(a, "held"), v->ways[TQ_WAY_QUOTE].compared);
    if (c) printf("citations: precision %.4f, recall %.4f\n", number(c, "precision"), number(c, "recall"));
    if (x)
        printf("abstention at %.4f: precision %.4f, recall %.4f, F1 %.4f\n", v->threshold, number(x, "precision"),
               number(x, "recall"), number(x, "f1"));
    if (json_object_get(x, "auc"))
        printf("scores part the questions with area under the curve %.4f, best at %.4f\n", v->auc, v->learned);
}

/* --- the command ----------------------------------------------------------------------------------------------- */

static toque_status learn(tq_evaluation *v, toque_error *err) {
    tq_rag *store;
    if (v->n_answerable == 0 || v->n_answerable == v->n)
        return TQ_FAIL(err, EINVAL, "%s: --learn needs questions with an answer and some with \"answerable\": false",
                       v->path);
    TQ_TRY(tq_rag_open(&store, v->s.store->ctx, v->s.store->path, true, err));
    toque_status status = tq_rag_remember_threshold(store, v->learned, v->auc, (int64_t)v->n, err);
    if (status == TOQUE_OK) tq_cli_note(v->cli, "rag ask answers from a score of %.4f on", v->learned);
    if (status == TOQUE_OK) status = tq_eval_learn_writing(v, store, err);
    tq_rag_close(store);
    return status;
}

static toque_status evaluate(tq_evaluation *v, const eval_options *o, toque_error *err) {
    ranking r = {0};
    toque_status status = tq_eval_read(v, err);
    if (status == TOQUE_OK) status = measure(v, &r, err);
    if (status == TOQUE_OK && o->learn) status = learn(v, err);
    if (status == TOQUE_OK) {
        json_t *out = report(v, &r);
        if (v->cli->common.json) {
            status = tq_cli_json(v->cli, out, err);
        } else {
            if (out) print_report(v, out);
            if (!out) status = TQ_NOMEM(err);
            json_decref(out);
        }
    }
    for (size_t s = 0; s < r.n; s++) tq_free(&v->cli->mem, r.stages[s].ndcg);
    return status;
}

static toque_status run(tq_cli *cli, void *given, toque_error *err) {
    const eval_options *o = given;
    tq_evaluation v = {.cli = cli, .path = cli->set.positional[1], .max_tokens = (int)o->n};
    tq_cli_loaded l = {0};
    tq_search_helper helper = {0};
    tq_writer writer = {0};
    bool writes;
    v.search = tq_search_defaults();
    v.search.expand = (tq_expansion)o->search.expand;
    v.search.rerank = o->search.rerank != 0;
    v.search.rerank_depth = (size_t)o->search.rerank_depth;
    TQ_TRY(tq_eval_parse_ways(&v, o->answer, &writes, err));
    bool wanted = writes || tq_cli_wants_help(&o->search);
    if ((tq_options_given(&cli->set, "model") || o->adapters.adapters.len) && !wanted)
        return tq_cli_usage(cli, err, "nothing here needs a model: say --answer write, --expand or --rerank");
    TQ_TRY(tq_cli_store_open(cli, cli->set.positional[0], o->embedder, true, &v.s, err));
    tq_cli_catch_interrupt(cli);
    toque_status status = TOQUE_OK;
    if (wanted) TQ_GO(tq_cli_load(&l, cli, &o->model, &o->adapters, err));
    if (tq_cli_wants_help(&o->search)) tq_cli_help(&helper, &v.s.searcher, &l);
    if (writes) {
        int most = l.model->config.context;
        TQ_GO(tq_session_new(&writer.session, l.model, most < CONTEXT ? most : CONTEXT, l.max_rank, err));
        writer.hats = tq_cli_hats(&l);
        v.writer = &writer;
    }
    status = evaluate(&v, o, err);
done:
    tq_eval_free_ways(&v);
    tq_eval_free_questions(&v);
    tq_session_free(writer.session);
    tq_search_helper_clear(&helper);
    if (l.cli) tq_cli_unload(&l);
    tq_cli_store_close(&v.s);
    return status;
}

const tq_command tq_cmd_rag_eval = {
    .name = "rag eval",
    .group = TQ_GROUP_CUSTOMIZE,
    .summary = "Measure how well a store finds and answers",
    .usage = "STORE QUESTIONS [--answer WAY[,WAY]... -m M] [--rerank likelihood -m M] [--learn]",
    .about =
        "QUESTIONS has a JSON object a line: \"question\"; \"document\", the one or the list that answers it, as\n"
        "rag list names it, the end of that name behind a slash, or a pattern; \"answer\", a text or a list of texts\n"
        "that are all right; \"sentence\", where it stands, which must be in the document; or \"answerable\": false.\n"
        "Prints for each stage of the search recall, MRR and nDCG@10 of documents, and how probable as large a\n"
        "difference to the last row is by chance (p); then what each way to answer holds, cites and withholds.\n"
        "--json prints {\"questions\", \"answerable\", \"stages\": [...], \"citations\", \"answers\", \"abstention\",\n"
        "\"inexact_quotations\", \"ways\": [...]}; the first three of the answers are those of quoting.",
    .example = "toque rag eval docs.db questions.jsonl\ntoque rag eval docs.db questions.jsonl --learn\n"
               "toque rag eval docs.db questions.jsonl --answer all --rerank likelihood -m smollm2-135m-instruct",
    .tables = tables,
    .size = sizeof(eval_options),
    .min_args = 2,
    .max_args = 2,
    .run = run,
};
