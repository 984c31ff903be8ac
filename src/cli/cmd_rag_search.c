/* toque rag search | ask: passages for a text, and answers quoted from them. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "cli/rag.h"
#include "rag/quote.h"

/* --- search ------------------------------------------------------------------------------------------------ */

typedef struct search_options {
    tq_cli_search search;
    const char *embedder;
    bool stages;
} search_options;

#define AT(field) offsetof(search_options, field)
static const tq_option search_table[] = {{.key = "stages",
                                          .type = TQ_OPT_FLAG,
                                          .offset = AT(stages),
                                          .fallback = "off",
                                          .help = "show each stage's rank and score"},
                                         {.key = "embedder",
                                          .type = TQ_OPT_TEXT,
                                          .offset = AT(embedder),
                                          .value = "M",
                                          .help = "where the store's embedder is now; without it, where it was"},
                                         {0}};
static const tq_cli_table search_tables[] = {{search_table, 0}, {tq_cli_search_table, AT(search)}, {0}};
#undef AT

static void set_stage(json_t *stages, const char *name, size_t rank, double score) {
    if (rank) json_object_set_new(stages, name, json_pack("{s:I, s:f}", "rank", (json_int_t)rank, "score", score));
}

static json_t *hit_json(tq_cli *cli, const tq_hit *h, bool with_stages) {
    const tq_passage_info *p = &h->passage;
    json_t *o = tq_cli_json_place(cli, p);
    json_t *more =
        json_pack("{s:I, s:I, s:f, s:o, s:I, s:I, s:s}", "id", (json_int_t)p->chunk, "chunk", (json_int_t)p->ordinal,
                  "score", h->score, "text", tq_cli_json_text(cli, p->text, p->text_len), "start", (json_int_t)p->start,
                  "end", (json_int_t)p->end, "language", p->language);
    if (o && more) json_object_update(o, more);
    if (o && p->context_len != p->text_len)
        json_object_set_new(o, "context",
                            json_pack("{s:o, s:I, s:I}", "text", tq_cli_json_text(cli, p->context, p->context_len),
                                      "start", (json_int_t)p->context_start, "end", (json_int_t)p->context_end));
    if (o && with_stages) {
        json_t *stages = json_object();
        set_stage(stages, "vector", h->vector_rank, h->vector_score);
        set_stage(stages, "bm25", h->bm25_rank, h->bm25_score);
        json_object_set_new(o, "stages", stages);
    }
    json_decref(more);
    return o;
}

static void print_place(const tq_passage_info *p, int64_t start, int64_t end) {
    printf("%s", p->uri);
    if (p->page) printf(", page %d", p->page);
    if (*p->heading) printf(", %s", p->heading);
    printf(", bytes %" PRId64 " to %" PRId64, start, end);
}

static void print_hit(size_t number, const tq_hit *h, bool with_stages) {
    const tq_passage_info *p = &h->passage;
    printf("%s%zu. %.4f  ", number > 1 ? "\n" : "", number, h->score);
    print_place(p, p->start, p->end);
    if (with_stages && h->vector_rank) printf("; vector rank %zu, %.4f", h->vector_rank, h->vector_score);
    if (with_stages && h->bm25_rank) printf("; bm25 rank %zu, %.4f", h->bm25_rank, h->bm25_score);
    printf("\n%s\n", p->context);
}

static toque_status run_search(tq_cli *cli, void *given, toque_error *err) {
    const search_options *o = given;
    static const char *const modes[] = {"vector", "bm25", "hybrid"};
    tq_cli_store s;
    tq_hits hits;
    const tq_search_options options = tq_cli_search_options(&o->search);
    TQ_TRY(tq_cli_store_open(cli, cli->set.positional[0], o->embedder,
                             options.mode != TQ_SEARCH_BM25 || options.mmr < 1, &s, err));
    toque_status status = tq_search(&s.searcher, &hits, cli->set.positional[1], &options, err);
    if (status == TOQUE_OK && cli->common.json) {
        json_t *list = json_array();
        for (size_t i = 0; list && i < hits.n; i++)
            json_array_append_new(list, hit_json(cli, &hits.items[i], o->stages));
        status = tq_cli_json(cli, json_pack("{s:s, s:o}", "mode", modes[hits.mode], "results", list), err);
    } else if (status == TOQUE_OK) {
        for (size_t i = 0; i < hits.n; i++) print_hit(i + 1, &hits.items[i], o->stages);
        if (hits.n == 0) tq_cli_note(cli, "nothing found");
    }
    tq_hits_clear(&hits);
    tq_cli_store_close(&s);
    return status;
}

const tq_command tq_cmd_rag_search = {
    .name = "rag search",
    .group = TQ_GROUP_CUSTOMIZE,
    .summary = "Find passages of a store",
    .usage = "STORE TEXT [--mode vector|bm25|hybrid] [-k N]",
    .about =
        "Prints the best passages with their place: document, page, headings, bytes of its text. --json prints\n"
        "{\"mode\", \"results\": [{\"document\", \"id\", \"chunk\", \"score\", \"text\", \"start\", \"end\", "
        "\"title\",\n"
        "\"heading\", \"page\", \"language\"}]}, with --stages also \"stages\": {\"vector\": {\"rank\", \"score\"},\n"
        "\"bm25\": {...}}, and where more is shown than was searched, \"context\": {\"text\", \"start\", \"end\"}.",
    .example = "toque rag search docs.db 'how do I upgrade?' -k 3\n"
               "toque rag search docs.db 'apt pinning' --mode bm25 --where 'document~*.html' --stages",
    .tables = search_tables,
    .size = sizeof(search_options),
    .min_args = 2,
    .max_args = 2,
    .run = run_search,
};

/* --- ask --------------------------------------------------------------------------------------------------- */

typedef struct ask_options {
    tq_cli_search search;
    const char *embedder;
    int answer;
    int64_t sentences;
    double threshold;
} ask_options;

#define AT(field) offsetof(ask_options, field)
static const tq_option ask_table[] = {
    {.key = "answer",
     .type = TQ_OPT_CHOICE,
     .offset = AT(answer),
     .fallback = "quote",
     .choices = "quote",
     .help = "quote: the passages' own sentences, word for word"},
    {.key = "sentences",
     .type = TQ_OPT_INT,
     .offset = AT(sentences),
     .fallback = "3",
     .min = 1,
     .max = TQ_QUOTE_MOST,
     .help = "at most so many"},
    {.key = "threshold",
     .type = TQ_OPT_NUMBER,
     .offset = AT(threshold),
     .min = -1,
     .max = 1,
     .help = "the score below which nothing is answered; without it, what rag add learned from the store"},
    {.key = "embedder",
     .type = TQ_OPT_TEXT,
     .offset = AT(embedder),
     .value = "M",
     .help = "where the store's embedder is now; without it, where it was"},
    {0}};
static const tq_cli_table ask_tables[] = {{ask_table, 0}, {tq_cli_search_table, AT(search)}, {0}};
#undef AT

#define NO_ANSWER "The documents do not answer this."

static json_t *quote_json(tq_cli *cli, const tq_quote *q) {
    json_t *o = tq_cli_json_place(cli, q->passage);
    json_t *more = json_pack("{s:I, s:o, s:I, s:I, s:f}", "id", (json_int_t)q->passage->chunk, "text",
                             tq_cli_json_text(cli, q->text, strlen(q->text)), "start", (json_int_t)q->start, "end",
                             (json_int_t)q->end, "score", q->score);
    if (o && more) json_object_update(o, more);
    json_decref(more);
    return o;
}

static toque_status print_json(tq_cli *cli, const tq_answer *a, const tq_rag *store, toque_error *err) {
    tq_buf text;
    json_t *quotes = json_array();
    tq_buf_init(&text, &cli->mem, SIZE_MAX / 4);
    for (size_t i = 0; a->answered && i < a->n; i++) {
        tq_buf_printf(&text, "%s%s", i ? " " : "", a->quotes[i].text);
        json_array_append_new(quotes, quote_json(cli, &a->quotes[i]));
    }
    if (!a->answered) tq_buf_puts(&text, NO_ANSWER);
    json_t *o = text.failed ? NULL
                            : json_pack("{s:b, s:o, s:o, s:f, s:f, s:b}", "answered", a->answered, "answer",
                                        tq_cli_json_text(cli, text.data, text.len), "quotes", quotes, "best", a->best,
                                        "threshold", a->threshold, "calibrated", store->facts.calibrated);
    tq_buf_clear(&text);
    return tq_cli_json(cli, o, err);
}

static void print_answer(const tq_answer *a) {
    if (!a->answered) {
        printf(NO_ANSWER "\n");
        if (a->n) {
            printf("\nNearest (%.3f, needed %.3f): ", a->best, a->threshold);
            print_place(a->quotes[0].passage, a->quotes[0].start, a->quotes[0].end);
            printf("\n");
        }
        return;
    }
    for (size_t i = 0; i < a->n; i++) printf("%s [%zu]\n", a->quotes[i].text, i + 1);
    printf("\n");
    for (size_t i = 0; i < a->n; i++) {
        printf("[%zu] ", i + 1);
        print_place(a->quotes[i].passage, a->quotes[i].start, a->quotes[i].end);
        printf(" (%.3f)\n", a->quotes[i].score);
    }
}

static toque_status run_ask(tq_cli *cli, void *given, toque_error *err) {
    const ask_options *o = given;
    tq_cli_store s;
    tq_answer answer;
    const tq_quote_options options = {.search = tq_cli_search_options(&o->search),
                                      .sentences = (int)o->sentences,
                                      .threshold = tq_options_given(&cli->set, "threshold") ? o->threshold : NAN};
    TQ_TRY(tq_cli_store_open(cli, cli->set.positional[0], o->embedder, true, &s, err));
    if (!s.store->facts.calibrated && isnan(options.threshold))
        tq_cli_note(cli, "%s has no headings to learn a threshold from; %.2f is used (--threshold)", s.store->path,
                    tq_quote_default_threshold(s.store));
    toque_status status = tq_quote_answer(&s.searcher, &answer, cli->set.positional[1], &options, err);
    if (status == TOQUE_OK && cli->common.json)
        status = print_json(cli, &answer, s.store, err);
    else if (status == TOQUE_OK)
        print_answer(&answer);
    tq_answer_clear(&answer);
    tq_cli_store_close(&s);
    return status;
}

const tq_command tq_cmd_rag_ask = {
    .name = "rag ask",
    .group = TQ_GROUP_CUSTOMIZE,
    .summary = "Answer a question from a store, with sources",
    .usage = "STORE TEXT [-k N] [--threshold X]",
    .about =
        "The one to three sentences of the best -k passages that are nearest to the question, word for word, each "
        "with\n"
        "its source; or that the documents do not answer it, when none is near enough. --json prints {\"answered\",\n"
        "\"answer\", \"quotes\": [{\"document\", \"id\", \"text\", \"start\", \"end\", \"score\", ...}], \"best\", "
        "\"threshold\",\n"
        "\"calibrated\"}: text is bytes start to end of the document's text.",
    .example = "toque rag ask docs.db 'How do I upgrade from one release to the next?'",
    .tables = ask_tables,
    .size = sizeof(ask_options),
    .min_args = 2,
    .max_args = 2,
    .run = run_ask,
};
