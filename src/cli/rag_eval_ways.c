/* Answering the questions of `toque rag eval` in one way or several, and what comes of it: the wanted words in the
 * answer, sources cited rightly, answers withheld rightly, time to the first text. See docs/rag.md. */
#include <math.h>
#include <string.h>

#include "cli/rag_eval.h"
#include "eval/stats.h"
#include "rag/measures.h"

enum { QUOTED = 5, SWAPS_SEED = 1 };

const char *const tq_eval_way_names[TQ_WAYS] = {"quote", "closed", "write", "write-passages", "write-gold"};

toque_status tq_eval_parse_ways(tq_evaluation *v, const char *text, bool *writes, toque_error *err) {
    *writes = false;
    v->ways[TQ_WAY_QUOTE].on = true;
    for (const char *p = text; *p; p += strspn(p, ", ")) {
        size_t n = strcspn(p, ", "), way = 0;
        bool all = n == 3 && memcmp(p, "all", 3) == 0;
        while (way < TQ_WAYS && (strlen(tq_eval_way_names[way]) != n || memcmp(p, tq_eval_way_names[way], n) != 0))
            way++;
        if (way == TQ_WAYS && !all)
            return tq_cli_usage(v->cli, err,
                                "--answer %.*s is not known (quote, closed, write, write-passages, write-gold, all)",
                                (int)n, p);
        for (size_t i = 0; i < TQ_WAYS; i++) v->ways[i].on |= all || i == way;
        *writes |= all || way != TQ_WAY_QUOTE;
        p += n;
    }
    return TOQUE_OK;
}

toque_status tq_eval_start_ways(tq_evaluation *v, toque_error *err) {
    tq_mem *mem = &v->cli->mem;
    if (!(v->best = tq_alloc(mem, v->n, sizeof *v->best))) return TQ_NOMEM(err);
    if (v->ways[TQ_WAY_GOLD].on && v->n_gold == 0)
        return TQ_FAIL(err, EINVAL, "%s: write-gold needs questions with a \"sentence\"", v->path);
    for (size_t w = 0; w < TQ_WAYS; w++) {
        tq_way_result *r = &v->ways[w];
        if (!r->on) continue;
        r->first = tq_alloc(mem, v->n, sizeof *r->first);
        r->holds = tq_alloc(mem, v->n, sizeof *r->holds);
        if (!r->first || !r->holds) return TQ_NOMEM(err);
        for (size_t i = 0; i < v->n; i++) r->holds[i] = -1;
    }
    return TOQUE_OK;
}

void tq_eval_free_ways(tq_evaluation *v) {
    for (size_t w = 0; w < TQ_WAYS; w++) {
        tq_free(&v->cli->mem, v->ways[w].first);
        tq_free(&v->cli->mem, v->ways[w].holds);
    }
    tq_free(&v->cli->mem, v->best);
}

/* --- one answer ------------------------------------------------------------------------------------------------ */

/* Against the wanted answers, the best of which counts. */
static toque_status compare(tq_evaluation *v, tq_eval_way way, size_t number, const tq_reply *a, toque_error *err) {
    const tq_eval_question *q = &v->questions[number];
    tq_way_result *r = &v->ways[way];
    size_t i;
    json_t *wanted;
    bool first = false, holds = false, exact = false;
    double f1 = 0;
    const char *whole = a->answered && a->text.len ? a->text.data : "";
    const char *best = a->answered && way == TQ_WAY_QUOTE ? a->sources[0].text : "";
    toque_status status = TOQUE_OK;
    json_array_foreach(q->answers, i, wanted) {
        tq_overlap all, one;
        const char *w = json_string_value(wanted);
        status = tq_answer_overlap(&v->cli->mem, whole, w, &all, err);
        if (status == TOQUE_OK) status = tq_answer_overlap(&v->cli->mem, best, w, &one, err);
        if (status != TOQUE_OK) break;
        first |= one.holds;
        holds |= all.holds;
        exact |= all.exact;
        f1 = all.f1 > f1 ? all.f1 : f1;
    }
    if (status == TOQUE_EINVAL) tq_error_prefix(err, status, "%s:%zu", v->path, q->line);
    r->compared++;
    r->held_first += first;
    r->held += holds;
    r->exact += exact;
    r->f1 += f1;
    r->holds[number] = holds;
    return status;
}

static void count_citations(const tq_eval_question *q, const tq_reply *a, tq_way_result *r) {
    bool right = false;
    for (size_t i = 0; a->answered && i < a->n_sentences; i++) {
        const tq_reply_sentence *x = &a->sentences[i];
        r->sentences++;
        r->supported += x->supported;
        if (!x->supported || !(q->n_relevant || !q->answerable)) continue;
        bool cites = tq_eval_is_relevant(q, a->sources[x->source].passage->document);
        r->cited++;
        r->rightly_cited += cites;
        right |= cites;
    }
    r->cites_needed += q->n_relevant > 0;
    r->cites_given += right;
}

/* Quotations that are not the bytes of the document that they say they are. */
static toque_status check_bytes(tq_evaluation *v, const tq_reply *a, toque_error *err) {
    toque_status status = TOQUE_OK;
    for (size_t i = 0; a->answered && i < a->n_sources && status == TOQUE_OK; i++) {
        const tq_reply_source *x = &a->sources[i];
        tq_doc doc;
        tq_doc_init(&doc, v->s.store->mem);
        status = tq_rag_document(v->s.store, x->passage->document, false, &doc, err);
        if (status == TOQUE_OK &&
            (x->start < 0 || x->end > (int64_t)doc.text.len || strlen(x->text) != (size_t)(x->end - x->start) ||
             memcmp(doc.text.data + x->start, x->text, (size_t)(x->end - x->start)) != 0))
            v->ways[TQ_WAY_QUOTE].inexact++;
        tq_doc_clear(&doc);
    }
    return status;
}

static tq_ask_options options_of(const tq_evaluation *v, tq_eval_way way, const tq_eval_question *q) {
    static const tq_reads reads[TQ_WAYS] = {TQ_READS_SENTENCES, TQ_READS_NOTHING, TQ_READS_SENTENCES, TQ_READS_PASSAGES,
                                            TQ_READS_PASSAGES};
    tq_ask_options o = tq_ask_defaults();
    o.quote.search = v->search;
    o.quote.search.k = QUOTED;
    o.mode = way == TQ_WAY_QUOTE ? TQ_ANSWER_QUOTE : TQ_ANSWER_WRITE;
    o.reads = reads[way];
    o.max_tokens = v->max_tokens;
    o.prefill_only = true; /* an answer does not depend on the question before */
    if (way == TQ_WAY_GOLD) {
        o.quote.chunks = &q->gold;
        o.quote.n_chunks = 1;
        o.quote.threshold = -INFINITY;
    }
    return o;
}

static toque_status answer_in(tq_evaluation *v, tq_eval_way way, size_t number, toque_error *err) {
    const tq_eval_question *q = &v->questions[number];
    tq_way_result *r = &v->ways[way];
    const tq_ask_options o = options_of(v, way, q);
    tq_reply a;
    toque_status status = tq_ask(&v->s.searcher, way == TQ_WAY_QUOTE ? NULL : v->writer, &a, q->text, &o, err);
    if (status == TOQUE_OK && a.finish == TQ_FINISH_CANCELED)
        status = TQ_FAIL(err, ECANCELED, "interrupted after %zu of %zu questions", number, v->n);
    if (status == TOQUE_OK) {
        if (way == TQ_WAY_QUOTE) {
            v->best[number] = a.n_sources ? a.score : 0; /* nothing found is as far as nothing in common */
            v->threshold = a.threshold;
            status = check_bytes(v, &a, err);
        }
        r->unanswerable += !q->answerable;
        r->withheld += !a.answered;
        r->rightly_withheld += !a.answered && !q->answerable;
        if (a.answered) r->first[r->n_first++] = a.first_seconds;
        count_citations(q, &a, r);
    }
    if (status == TOQUE_OK && json_array_size(q->answers)) status = compare(v, way, number, &a, err);
    tq_reply_clear(&a);
    return status;
}

toque_status tq_eval_answer(tq_evaluation *v, size_t number, toque_error *err) {
    for (size_t w = 0; w < TQ_WAYS; w++)
        if (v->ways[w].on && (w != TQ_WAY_GOLD || v->questions[number].gold >= 0))
            TQ_TRY(answer_in(v, (tq_eval_way)w, number, err));
    return TOQUE_OK;
}

/* The cut between the best sentences' scores of questions with and without an answer. */
toque_status tq_eval_part(tq_evaluation *v, toque_error *err) {
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

/* --- telling --------------------------------------------------------------------------------------------------- */

static double share(size_t k, size_t n) {
    return n ? (double)k / (double)n : 0;
}

static json_t *abstention(const tq_way_result *r) {
    double precision = share(r->rightly_withheld, r->withheld), recall = share(r->rightly_withheld, r->unanswerable);
    return json_pack("{s:f, s:f, s:f}", "precision", precision, "recall", recall, "f1",
                     precision + recall > 0 ? 2 * precision * recall / (precision + recall) : 0.0);
}

static json_t *answers(const tq_way_result *r) {
    return json_pack("{s:I, s:f, s:f, s:f}", "n", (json_int_t)r->compared, "held", share(r->held, r->compared), "exact",
                     share(r->exact, r->compared), "f1", r->f1 / (double)r->compared);
}

static json_t *citations(const tq_way_result *r) {
    return json_pack("{s:f, s:f}", "precision", share(r->rightly_cited, r->cited), "recall",
                     share(r->cites_given, r->cites_needed));
}

static json_t *way_json(const tq_evaluation *v, size_t w) {
    const tq_way_result *r = &v->ways[w];
    json_t *o = json_pack("{s:s, s:f, s:{s:I, s:I, s:I, s:I, s:I}}", "way", tq_eval_way_names[w], "supported",
                          share(r->supported, r->sentences), "counts", "sentences", (json_int_t)r->sentences, "cited",
                          (json_int_t)r->cited, "withheld", (json_int_t)r->withheld, "rightly_withheld",
                          (json_int_t)r->rightly_withheld, "unanswerable", (json_int_t)r->unanswerable);
    if (!o) return NULL;
    if (r->compared) json_object_set_new(o, "answers", answers(r));
    if (r->cited) json_object_set_new(o, "citations", citations(r));
    if (r->unanswerable) json_object_set_new(o, "abstention", abstention(r));
    if (r->n_first) {
        qsort(r->first, r->n_first, sizeof *r->first, tq_ascending);
        json_object_set_new(o, "first_seconds", json_real(r->first[r->n_first / 2]));
    }
    return o;
}

void tq_eval_report_ways(const tq_evaluation *v, json_t *o) {
    const tq_way_result *r = &v->ways[TQ_WAY_QUOTE];
    json_t *ways = json_array();
    if (v->n_ranked) json_object_set_new(o, "citations", citations(r));
    if (r->compared) {
        json_t *a = answers(r);
        if (a) json_object_set_new(a, "held_by_best", json_real(share(r->held_first, r->compared)));
        json_object_set_new(o, "answers", a);
    }
    json_object_set_new(o, "inexact_quotations", json_integer((json_int_t)r->inexact));
    if (r->unanswerable) {
        json_t *a = abstention(r);
        if (a) json_object_set_new(a, "threshold", json_real(v->threshold));
        if (a && v->n_answerable)
            json_object_update_new(a, json_pack("{s:f, s:f}", "auc", v->auc, "learned", v->learned));
        json_object_set_new(o, "abstention", a);
    }
    for (size_t w = 0; ways && w < TQ_WAYS; w++)
        if (v->ways[w].on) json_array_append_new(ways, way_json(v, w));
    json_object_set_new(o, "ways", ways);
}

static void cell(const json_t *o, const char *group, const char *key, int width, int digits) {
    const json_t *x = json_object_get(group ? json_object_get(o, group) : o, key);
    if (x)
        printf("  %*.*f", width, digits, json_real_value(x));
    else
        printf("  %*s", width, "-");
}

void tq_eval_print_ways(const tq_evaluation *v, const json_t *o) {
    static const tq_eval_way order[TQ_WAYS] = {TQ_WAY_CLOSED, TQ_WAY_QUOTE, TQ_WAY_WRITE, TQ_WAY_PASSAGES, TQ_WAY_GOLD};
    size_t i;
    json_t *x;
    printf("\n%-14s  held    exact   F1      cited rightly  supported  abstention F1  first text (s)\n", "answer");
    for (size_t n = 0; n < TQ_WAYS; n++) json_array_foreach(json_object_get(o, "ways"), i, x) {
            if (strcmp(json_string_value(json_object_get(x, "way")), tq_eval_way_names[order[n]]) != 0) continue;
            printf("%-14s", tq_eval_way_names[order[n]]);
            cell(x, "answers", "held", 6, 4);
            cell(x, "answers", "exact", 6, 4);
            cell(x, "answers", "f1", 6, 4);
            cell(x, "citations", "precision", 13, 4);
            cell(x, NULL, "supported", 9, 4);
            cell(x, "abstention", "f1", 13, 4);
            cell(x, NULL, "first_seconds", 14, 3);
            printf("\n");
        }
    if (v->ways[TQ_WAY_QUOTE].inexact)
        printf("%zu quotations are not the bytes they name\n", v->ways[TQ_WAY_QUOTE].inexact);
}

/* --- learning -------------------------------------------------------------------------------------------------- */

toque_status tq_eval_learn_writing(tq_evaluation *v, tq_rag *store, toque_error *err) {
    const tq_way_result *quote = &v->ways[TQ_WAY_QUOTE], *write = &v->ways[TQ_WAY_WRITE];
    size_t n = 0;
    double sums[2] = {0};
    if (!write->on || !quote->compared) return TOQUE_OK;
    double *both = tq_alloc(&v->cli->mem, 2 * v->n, sizeof *both);
    if (!both) return TQ_NOMEM(err);
    for (size_t i = 0; i < v->n; i++) {
        if (quote->holds[i] < 0 || write->holds[i] < 0) continue;
        sums[0] += both[n] = quote->holds[i];
        sums[1] += both[v->n + n] = write->holds[i];
        n++;
    }
    double p = tq_randomization(both, both + v->n, n, SWAPS_SEED);
    toque_status status =
        tq_remember_writing(store, v->writer, sums[0] / (double)n, sums[1] / (double)n, p, (int64_t)n, err);
    if (status == TOQUE_OK)
        tq_cli_note(v->cli,
                    "--answer auto %s with this model (%.4f of the answers hold the wanted words, quotations "
                    "%.4f; p %.4f)",
                    sums[1] >= sums[0] ? "writes" : "quotes", sums[1] / (double)n, sums[0] / (double)n, p);
    tq_free(&v->cli->mem, both);
    return status;
}
