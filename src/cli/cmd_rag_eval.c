/* toque rag eval: how well a store finds and answers a file of questions. Each stage of the search ranks the documents
 * (a document stands where its best passage stands) and is measured as trec_eval measures; quoting is measured against
 * the wanted answers; withholding against the questions that have none. Measures: rag/measures.h. */
#include <fnmatch.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/io.h"
#include "base/progress.h"
#include "cli/rag.h"
#include "eval/stats.h"
#include "rag/measures.h"
#include "rag/quote.h"

enum { DEPTH = 100, MOST_BYTES = 64 << 20, STAGES = 3, QUOTED = 5, SWAPS_SEED = 1 };

typedef struct eval_options {
    const char *embedder;
    bool learn;
} eval_options;

#define AT(field) offsetof(eval_options, field)
static const tq_option table[] = {
    {.key = "learn",
     .type = TQ_OPT_FLAG,
     .offset = AT(learn),
     .fallback = "off",
     .help = "keep in the store the threshold that parts questions with an answer from those without best"},
    {.key = "embedder",
     .type = TQ_OPT_TEXT,
     .offset = AT(embedder),
     .value = "M",
     .help = "where the store's embedder is now; without it, where it was"},
    {0}};
static const tq_cli_table tables[] = {{table, 0}, {0}};
#undef AT

/* --- the questions --------------------------------------------------------------------------------------------- */

typedef struct question {
    const char *text;
    json_t *answers; /* texts; may be empty */
    bool answerable;
    size_t line, n_relevant; /* relevant: documents of the store, by id */
    int64_t *relevant;
} question;

typedef struct known_document {
    int64_t id;
    char *uri;
} known_document;

typedef struct evaluation {
    tq_cli *cli;
    tq_cli_store s;
    const char *path;
    known_document *documents;
    size_t n_documents, cap_documents;
    json_t *lines; /* array; owns the questions' strings */
    question *questions;
    size_t n, cap, n_ranked, n_answerable; /* n_ranked: questions that name documents */
    /* [stage][n_ranked] */
    double *ndcg[STAGES];
    double recall[STAGES][3], reciprocal[STAGES], ndcg_sum[STAGES];
    size_t first_stage, last_stage;
    /* quoting: [n] */
    double *best;
    double threshold, f1, auc, learned;
    size_t answered, with_answer, held_first, held, exact, withheld, rightly_withheld;
    size_t cited, rightly_cited, cites_needed, cites_given;
} evaluation;

static const size_t cuts[3] = {1, 5, 10};
static const char *const stage_names[STAGES] = {"vector", "bm25", "hybrid"}; /* as tq_search_mode */

static toque_status keep_document(void *arg, const tq_listed *d, toque_error *err) {
    evaluation *v = arg;
    tq_mem *mem = &v->cli->mem;
    if (!TQ_GROW(mem, v->documents, v->n_documents, v->cap_documents)) return TQ_NOMEM(err);
    char *uri = tq_strdup(mem, d->uri);
    if (!uri) return TQ_NOMEM(err);
    v->documents[v->n_documents++] = (known_document){d->id, uri};
    return TOQUE_OK;
}

/* A text, or a list of texts, as a list. */
static toque_status texts(const evaluation *v, size_t line, json_t *o, const char *key, json_t **list,
                          toque_error *err) {
    json_t *value = json_object_get(o, key), *item;
    size_t i;
    if (json_is_string(value)) {
        json_t *one = json_pack("[O]", value);
        if (!one || json_object_set_new(o, key, one)) return TQ_NOMEM(err);
    }
    *list = json_object_get(o, key);
    if (*list && !json_is_array(*list))
        return TQ_FAIL(err, EFORMAT, "%s:%zu: \"%s\" is a text or a list of texts", v->path, line, key);
    json_array_foreach(*list, i, item) if (!json_string_length(item)) return TQ_FAIL(
        err, EFORMAT, "%s:%zu: \"%s\" holds something that is no text, or an empty one", v->path, line, key);
    return TOQUE_OK;
}

/* The store's documents that a name means: itself, its end behind a slash, or a pattern. */
static bool means(const char *name, const char *uri) {
    size_t n = strlen(name), m = strlen(uri);
    if (m > n && uri[m - n - 1] == '/' && strcmp(uri + m - n, name) == 0) return true;
    return strcmp(name, uri) == 0 || fnmatch(name, uri, 0) == 0;
}

static toque_status find_documents(evaluation *v, question *q, json_t *names, toque_error *err) {
    size_t i, cap = 0;
    json_t *name;
    for (size_t d = 0; d < v->n_documents; d++) {
        bool relevant = false;
        json_array_foreach(names, i, name) relevant |= means(json_string_value(name), v->documents[d].uri);
        if (!relevant) continue;
        if (!TQ_GROW(&v->cli->mem, q->relevant, q->n_relevant, cap)) return TQ_NOMEM(err);
        q->relevant[q->n_relevant++] = v->documents[d].id;
    }
    json_array_foreach(names, i, name) {
        bool found = false;
        for (size_t d = 0; d < v->n_documents && !found; d++)
            found = means(json_string_value(name), v->documents[d].uri);
        if (!found)
            return TQ_FAIL(err, ENOTFOUND, "%s:%zu: the store has no document %s (see toque rag list)", v->path,
                           q->line, json_string_value(name));
    }
    return TOQUE_OK;
}

static toque_status take_question(evaluation *v, json_t *o, size_t line, toque_error *err) {
    static const char *const known[] = {"question", "document", "answer", "answerable", "sentence", "id"};
    json_t *names, *value;
    const char *key;
    if (!json_is_object(o)) return TQ_FAIL(err, EFORMAT, "%s:%zu: expected an object", v->path, line);
    json_object_foreach(o, key, value) {
        bool found = false;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) found |= strcmp(key, known[i]) == 0;
        if (!found)
            return TQ_FAIL(err, EFORMAT,
                           "%s:%zu: \"%.40s\" is not known (question, document, answer, answerable; sentence and id "
                           "are for the reader)",
                           v->path, line, key);
    }
    value = json_object_get(o, "answerable");
    question q = {.text = json_string_value(json_object_get(o, "question")), .answerable = true, .line = line};
    if (!q.text || !*q.text) return TQ_FAIL(err, EFORMAT, "%s:%zu: there is no \"question\"", v->path, line);
    if (value && !json_is_boolean(value))
        return TQ_FAIL(err, EFORMAT, "%s:%zu: \"answerable\" is true or false", v->path, line);
    q.answerable = !json_is_false(value);
    TQ_TRY(texts(v, line, o, "document", &names, err));
    TQ_TRY(texts(v, line, o, "answer", &q.answers, err));
    if (!q.answerable && (json_array_size(names) || json_array_size(q.answers)))
        return TQ_FAIL(err, EFORMAT, "%s:%zu: a question without an answer has no \"document\" or \"answer\"", v->path,
                       line);
    if (q.answerable && !json_array_size(names) && !json_array_size(q.answers))
        return TQ_FAIL(err, EFORMAT, "%s:%zu: a question needs \"document\" or \"answer\", or \"answerable\": false",
                       v->path, line);
    if (!TQ_GROW(&v->cli->mem, v->questions, v->n, v->cap)) return TQ_NOMEM(err);
    v->questions[v->n++] = q;
    v->n_answerable += q.answerable;
    toque_status status = find_documents(v, &v->questions[v->n - 1], names, err);
    v->n_ranked += v->questions[v->n - 1].n_relevant > 0;
    return status;
}

static toque_status read_questions(evaluation *v, toque_error *err) {
    char *data;
    size_t size, line = 1;
    TQ_TRY(tq_read_file(&data, &size, &v->cli->mem, v->path, MOST_BYTES, err));
    toque_status status = (v->lines = json_array()) ? TOQUE_OK : TQ_NOMEM(err);
    for (size_t at = 0; at < size && status == TOQUE_OK; line++) {
        const char *nl = memchr(data + at, '\n', size - at);
        size_t end = nl ? (size_t)(nl - data) : size;
        while (at < end && strchr(" \t\r", data[at])) at++;
        if (at < end) {
            json_error_t e;
            json_t *o = json_loadb(data + at, end - at, JSON_REJECT_DUPLICATES, &e);
            if (!o)
                status = TQ_FAIL(err, EFORMAT, "%s:%zu: column %d: no JSON: %s", v->path, line, e.column, e.text);
            else if (json_array_append_new(v->lines, o))
                status = TQ_NOMEM(err);
            else
                status = take_question(v, o, line, err);
        }
        at = end + 1;
    }
    if (status == TOQUE_OK && v->n == 0) status = TQ_FAIL(err, EFORMAT, "%s has no questions", v->path);
    tq_free(&v->cli->mem, data);
    return status;
}

/* --- measuring ------------------------------------------------------------------------------------------------- */

static bool is_relevant(const question *q, int64_t document) {
    for (size_t i = 0; i < q->n_relevant; i++)
        if (q->relevant[i] == document) return true;
    return false;
}

/* Ranks one question by one stage. at: its number among those that are ranked. */
static toque_status rank(evaluation *v, const question *q, size_t stage, size_t at, toque_error *err) {
    tq_hits hits;
    double gains[DEPTH], ideal[10];
    size_t n = 0, n_ideal = q->n_relevant < 10 ? q->n_relevant : 10;
    tq_search_options options = tq_search_defaults();
    options.mode = (tq_search_mode)stage;
    options.k = DEPTH;
    toque_status status = tq_search(&v->s.searcher, &hits, q->text, &options, err);
    for (size_t i = 0; i < hits.n; i++) {
        bool again = false;
        for (size_t j = 0; j < i && !again; j++)
            again = hits.items[j].passage.document == hits.items[i].passage.document;
        if (!again) gains[n++] = is_relevant(q, hits.items[i].passage.document);
    }
    for (size_t i = 0; i < n_ideal; i++) ideal[i] = 1;
    for (size_t i = 0; i < 3; i++) v->recall[stage][i] += tq_recall_at(gains, n, cuts[i], q->n_relevant);
    v->reciprocal[stage] += tq_reciprocal_rank(gains, n);
    v->ndcg[stage][at] = tq_ndcg_at(gains, n, ideal, n_ideal, 10);
    v->ndcg_sum[stage] += v->ndcg[stage][at];
    tq_hits_clear(&hits);
    return status;
}

/* An answer against the wanted ones, the best of which counts. */
static toque_status compare_answer(evaluation *v, const question *q, const tq_answer *a, toque_error *err) {
    tq_buf text;
    size_t i;
    json_t *wanted;
    bool first = false, holds = false, exact = false;
    double f1 = 0;
    tq_buf_init(&text, &v->cli->mem, SIZE_MAX / 4);
    for (size_t j = 0; a->answered && j < a->n; j++) tq_buf_printf(&text, "%s%s", j ? " " : "", a->quotes[j].text);
    tq_buf_putc(&text, 0);
    toque_status status = tq_buf_status(&text, "an answer", err);
    json_array_foreach(q->answers, i, wanted) {
        tq_overlap all, one;
        const char *w = json_string_value(wanted);
        if (status == TOQUE_OK) status = tq_answer_overlap(&v->cli->mem, text.data, w, &all, err);
        if (status == TOQUE_OK)
            status = tq_answer_overlap(&v->cli->mem, a->answered ? a->quotes[0].text : "", w, &one, err);
        if (status != TOQUE_OK) break;
        first |= one.holds;
        holds |= all.holds;
        exact |= all.exact;
        f1 = all.f1 > f1 ? all.f1 : f1;
    }
    if (status == TOQUE_EINVAL) tq_error_prefix(err, status, "%s:%zu", v->path, q->line);
    v->held_first += first;
    v->held += holds;
    v->exact += exact;
    v->f1 += f1;
    v->with_answer++;
    tq_buf_clear(&text);
    return status;
}

static toque_status answer(evaluation *v, size_t number, toque_error *err) {
    const question *q = &v->questions[number];
    tq_answer a;
    tq_quote_options options = {.search = tq_search_defaults(), .sentences = TQ_QUOTE_MOST, .threshold = NAN};
    options.search.k = QUOTED;
    toque_status status = tq_quote_answer(&v->s.searcher, &a, q->text, &options, err);
    if (status == TOQUE_OK) {
        bool right = false;
        v->best[number] = a.n ? a.best : 0; /* nothing found is as far as nothing in common */
        v->threshold = a.threshold;
        v->answered += a.answered;
        v->withheld += !a.answered;
        v->rightly_withheld += !a.answered && !q->answerable;
        for (size_t i = 0; a.answered && i < a.n && (q->n_relevant || !q->answerable); i++) {
            bool cites = is_relevant(q, a.quotes[i].passage->document);
            v->cited++;
            v->rightly_cited += cites;
            right |= cites;
        }
        v->cites_needed += q->n_relevant > 0;
        v->cites_given += right;
        if (json_array_size(q->answers)) status = compare_answer(v, q, &a, err);
    }
    tq_answer_clear(&a);
    return status;
}

/* The cut between the best sentences' scores of questions with and without an answer. */
static toque_status part(evaluation *v, toque_error *err) {
    size_t own = 0, other = 0;
    double *scores = tq_alloc(&v->cli->mem, v->n, sizeof *scores);
    if (!scores) return TQ_NOMEM(err);
    for (size_t i = 0; i < v->n; i++) {
        if (v->questions[i].answerable)
            scores[own++] = v->best[i];
        else
            scores[v->n - ++other] = v->best[i];
    }
    qsort(scores, own, sizeof *scores, tq_ascending);
    qsort(scores + own, other, sizeof *scores, tq_ascending);
    v->learned = tq_best_cut(scores, own, scores + own, other, &v->auc);
    tq_free(&v->cli->mem, scores);
    return TOQUE_OK;
}

static toque_status measure(evaluation *v, toque_error *err) {
    tq_progress bar;
    tq_mem *mem = &v->cli->mem;
    bool vectors = v->s.store->facts.dim > 0;
    v->first_stage = vectors ? TQ_SEARCH_VECTOR : TQ_SEARCH_BM25;
    v->last_stage = vectors ? TQ_SEARCH_HYBRID : TQ_SEARCH_BM25;
    v->best = tq_alloc(mem, v->n, sizeof *v->best);
    if (!v->best) return TQ_NOMEM(err);
    for (size_t s = 0; s < STAGES; s++)
        if (!(v->ndcg[s] = tq_zalloc(mem, v->n_ranked + 1, sizeof *v->ndcg[s]))) return TQ_NOMEM(err);
    tq_progress_start(&bar, tq_cli_progress(v->cli), "asking", "questions", v->n, 0);
    toque_status status = TOQUE_OK;
    for (size_t i = 0, at = 0; i < v->n && status == TOQUE_OK; i++) {
        for (size_t s = v->first_stage; s <= v->last_stage && v->questions[i].n_relevant && status == TOQUE_OK; s++)
            status = rank(v, &v->questions[i], s, at, err);
        at += v->questions[i].n_relevant > 0;
        if (status == TOQUE_OK) status = answer(v, i, err);
        if (status == TOQUE_OK && v->s.store->ctx->canceled)
            status = TQ_FAIL(err, ECANCELED, "interrupted after %zu of %zu questions", i + 1, v->n);
        tq_progress_update(&bar, i + 1, NULL);
        if (status != TOQUE_OK && status != TOQUE_EINVAL)
            tq_error_prefix(err, status, "%s:%zu", v->path, v->questions[i].line);
    }
    tq_progress_end(&bar, NULL);
    if (status == TOQUE_OK && v->n_answerable && v->n_answerable < v->n) status = part(v, err);
    return status;
}

/* --- telling --------------------------------------------------------------------------------------------------- */

static double share(size_t k, size_t n) {
    return n ? (double)k / (double)n : 0;
}

static double harmonic(double a, double b) {
    return a + b > 0 ? 2 * a * b / (a + b) : 0;
}

static json_t *stage_json(const evaluation *v, size_t s) {
    double n = (double)v->n_ranked;
    json_t *o = json_pack("{s:s, s:f, s:f, s:f, s:f, s:f}", "stage", stage_names[s], "recall@1", v->recall[s][0] / n,
                          "recall@5", v->recall[s][1] / n, "recall@10", v->recall[s][2] / n, "mrr",
                          v->reciprocal[s] / n, "ndcg@10", v->ndcg_sum[s] / n);
    if (o && s != v->last_stage)
        json_object_set_new(o, "p",
                            json_real(tq_randomization(v->ndcg[v->last_stage], v->ndcg[s], v->n_ranked, SWAPS_SEED)));
    return o;
}

static json_t *report(const evaluation *v) {
    json_t *o = json_pack("{s:I, s:I}", "questions", (json_int_t)v->n, "answerable", (json_int_t)v->n_answerable);
    size_t unanswerable = v->n - v->n_answerable;
    if (o && v->n_ranked) {
        json_t *stages = json_array();
        for (size_t s = v->first_stage; stages && s <= v->last_stage; s++)
            json_array_append_new(stages, stage_json(v, s));
        json_object_set_new(o, "stages", stages);
        json_object_set_new(o, "citations",
                            json_pack("{s:f, s:f}", "precision", share(v->rightly_cited, v->cited), "recall",
                                      share(v->cites_given, v->cites_needed)));
    }
    if (o && v->with_answer)
        json_object_set_new(o, "answers",
                            json_pack("{s:I, s:f, s:f, s:f, s:f}", "n", (json_int_t)v->with_answer, "held_by_best",
                                      share(v->held_first, v->with_answer), "held", share(v->held, v->with_answer),
                                      "exact", share(v->exact, v->with_answer), "f1", v->f1 / (double)v->with_answer));
    if (o && unanswerable) {
        double precision = share(v->rightly_withheld, v->withheld), recall = share(v->rightly_withheld, unanswerable);
        json_object_set_new(o, "abstention",
                            json_pack("{s:f, s:f, s:f, s:f}", "threshold", v->threshold, "precision", precision,
                                      "recall", recall, "f1", harmonic(precision, recall)));
    }
    if (o && unanswerable && v->n_answerable)
        json_object_update_new(json_object_get(o, "abstention"),
                               json_pack("{s:f, s:f}", "auc", v->auc, "learned", v->learned));
    return o;
}

static double number(const json_t *o, const char *key) {
    return json_real_value(json_object_get(o, key));
}

static void print_report(const evaluation *v, const json_t *o) {
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
    if (a)
        printf("\nanswers: %.4f held by the best sentence, %.4f by all quoted; exact %.4f, F1 %.4f (%zu questions)\n",
               number(a, "held_by_best"), number(a, "held"), number(a, "exact"), number(a, "f1"), v->with_answer);
    if (c) printf("citations: precision %.4f, recall %.4f\n", number(c, "precision"), number(c, "recall"));
    if (x)
        printf("abstention at %.4f: precision %.4f, recall %.4f, F1 %.4f\n", v->threshold, number(x, "precision"),
               number(x, "recall"), number(x, "f1"));
    if (json_object_get(x, "auc"))
        printf("scores part the questions with area under the curve %.4f, best at %.4f\n", v->auc, v->learned);
}

/* --- the command ----------------------------------------------------------------------------------------------- */

static toque_status learn(evaluation *v, toque_error *err) {
    tq_rag *store;
    if (v->n_answerable == 0 || v->n_answerable == v->n)
        return TQ_FAIL(err, EINVAL, "%s: --learn needs questions with an answer and some with \"answerable\": false",
                       v->path);
    TQ_TRY(tq_rag_open(&store, v->s.store->ctx, v->s.store->path, true, err));
    toque_status status = tq_rag_remember_threshold(store, v->learned, v->auc, (int64_t)v->n, err);
    tq_rag_close(store);
    if (status == TOQUE_OK) tq_cli_note(v->cli, "rag ask answers from a score of %.4f on", v->learned);
    return status;
}

static void free_evaluation(evaluation *v) {
    tq_mem *mem = &v->cli->mem;
    for (size_t i = 0; i < v->n; i++) tq_free(mem, v->questions[i].relevant);
    for (size_t i = 0; i < v->n_documents; i++) tq_free(mem, v->documents[i].uri);
    for (size_t s = 0; s < STAGES; s++) tq_free(mem, v->ndcg[s]);
    tq_free(mem, v->questions);
    tq_free(mem, v->documents);
    tq_free(mem, v->best);
    json_decref(v->lines);
    tq_cli_store_close(&v->s);
}

static toque_status run(tq_cli *cli, void *given, toque_error *err) {
    const eval_options *o = given;
    evaluation v = {.cli = cli, .path = cli->set.positional[1]};
    tq_cli_catch_interrupt(cli);
    TQ_TRY(tq_cli_store_open(cli, cli->set.positional[0], o->embedder, true, &v.s, err));
    toque_status status = tq_rag_list(v.s.store, keep_document, &v, err);
    if (status == TOQUE_OK) status = read_questions(&v, err);
    if (status == TOQUE_OK) status = measure(&v, err);
    if (status == TOQUE_OK && o->learn) status = learn(&v, err);
    if (status == TOQUE_OK) {
        json_t *r = report(&v);
        if (cli->common.json) {
            status = tq_cli_json(cli, r, err);
        } else {
            if (r) print_report(&v, r);
            if (!r) status = TQ_NOMEM(err);
            json_decref(r);
        }
    }
    free_evaluation(&v);
    return status;
}

const tq_command tq_cmd_rag_eval = {
    .name = "rag eval",
    .group = TQ_GROUP_CUSTOMIZE,
    .summary = "Measure how well a store finds and answers",
    .usage = "STORE QUESTIONS [--learn]",
    .about =
        "QUESTIONS has a JSON object a line: \"question\"; \"document\", the one or the list that answers it, as\n"
        "rag list names it, the end of that name behind a slash, or a pattern; \"answer\", a text or a list of texts\n"
        "that are all right; or \"answerable\": false. Prints for each stage of the search recall, MRR and nDCG@10\n"
        "of documents, and how probable as large a difference to the last row is by chance (p); then what quoting\n"
        "answers and when it withholds. --json prints {\"questions\", \"answerable\", \"stages\": [...],\n"
        "\"citations\", \"answers\", \"abstention\"}.",
    .example = "toque rag eval docs.db questions.jsonl\ntoque rag eval docs.db questions.jsonl --learn",
    .tables = tables,
    .size = sizeof(eval_options),
    .min_args = 2,
    .max_args = 2,
    .run = run,
};
