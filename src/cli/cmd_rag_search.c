/* toque rag search: passages for a text. */
#include <inttypes.h>
#include <string.h>

#include "cli/rag.h"

typedef struct search_options {
    tq_cli_search search;
    tq_cli_model model;
    tq_cli_adapters adapters;
    const char *embedder;
    bool stages;
} search_options;

#define AT(field) offsetof(search_options, field)
static const tq_option search_table[] = {{.key = "stages",
                                          .type = TQ_OPT_FLAG,
                                          .offset = AT(stages),
                                          .fallback = "off",
                                          .aliases = "explain",
                                          .help = "show each stage's rank and score, and what a model wrote"},
                                         {.key = "embedder",
                                          .type = TQ_OPT_TEXT,
                                          .offset = AT(embedder),
                                          .value = "M",
                                          .help = "where the store's embedder is now; without it, where it was"},
                                         {0}};
static const tq_cli_table search_tables[] = {{search_table, 0},
                                             {tq_cli_search_table, AT(search)},
                                             {tq_cli_help_table, AT(search)},
                                             {tq_cli_model_table, AT(model)},
                                             {tq_cli_adapters_table, AT(adapters)},
                                             {0}};
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
        if (h->other_rank)
            json_object_set_new(stages, "queries", json_pack("{s:I}", "rank", (json_int_t)h->other_rank));
        set_stage(stages, "fused", h->fused_rank, h->fused_score);
        if (h->rerank_rank) set_stage(stages, "rerank", h->rerank_rank, h->score);
        json_object_set_new(o, "stages", stages);
    }
    json_decref(more);
    return o;
}

static void print_hit(size_t number, const tq_hit *h, bool with_stages) {
    const tq_passage_info *p = &h->passage;
    printf("%s%zu. %.4f  ", number > 1 ? "\n" : "", number, h->score);
    tq_cli_print_place(p, p->start, p->end);
    if (with_stages && h->vector_rank) printf("; vector rank %zu, %.4f", h->vector_rank, h->vector_score);
    if (with_stages && h->bm25_rank) printf("; bm25 rank %zu, %.4f", h->bm25_rank, h->bm25_score);
    if (with_stages && h->other_rank) printf("; in other words rank %zu", h->other_rank);
    if (with_stages && h->fused_rank) printf("; fused rank %zu, %.4f", h->fused_rank, h->fused_score);
    if (with_stages && h->rerank_rank) printf("; rerank rank %zu, %.4f", h->rerank_rank, h->score);
    printf("\n%s\n", p->context);
}

static toque_status print_hits(tq_cli *cli, const tq_hits *hits, bool with_stages, toque_error *err) {
    static const char *const modes[] = {"vector", "bm25", "hybrid"};
    if (cli->common.json) {
        json_t *list = json_array(), *o;
        for (size_t i = 0; list && i < hits->n; i++)
            json_array_append_new(list, hit_json(cli, &hits->items[i], with_stages));
        o = json_pack("{s:s, s:o}", "mode", modes[hits->mode], "results", list);
        if (o && hits->n_expanded && with_stages) {
            json_t *texts = json_array();
            for (size_t i = 0; texts && i < hits->n_expanded; i++)
                json_array_append_new(texts, tq_cli_json_text(cli, hits->expanded[i], strlen(hits->expanded[i])));
            json_object_set_new(o, "expanded", texts);
        }
        return tq_cli_json(cli, o, err);
    }
    for (size_t i = 0; with_stages && i < hits->n_expanded; i++) printf("expanded: %s\n", hits->expanded[i]);
    if (with_stages && hits->n_expanded) printf("\n");
    for (size_t i = 0; i < hits->n; i++) print_hit(i + 1, &hits->items[i], with_stages);
    if (hits->n == 0) tq_cli_note(cli, "nothing found");
    return TOQUE_OK;
}

static toque_status run_search(tq_cli *cli, void *given, toque_error *err) {
    const search_options *o = given;
    tq_cli_store s;
    tq_cli_loaded l = {0};
    tq_search_helper helper = {0};
    tq_hits hits = {0};
    const tq_search_options options = tq_cli_search_options(&o->search);
    if ((tq_options_given(&cli->set, "model") || o->adapters.adapters.len) && !tq_cli_wants_help(&o->search))
        return tq_cli_usage(cli, err, "a model helps to search with --expand or --rerank; nothing else needs one");
    TQ_TRY(tq_cli_store_open(cli, cli->set.positional[0], o->embedder,
                             options.mode != TQ_SEARCH_BM25 || options.mmr < 1, &s, err));
    toque_status status = TOQUE_OK;
    if (tq_cli_wants_help(&o->search)) status = tq_cli_load(&l, cli, &o->model, &o->adapters, err);
    if (l.cli) tq_cli_help(&helper, &s.searcher, &l);
    if (status == TOQUE_OK) status = tq_search(&s.searcher, &hits, cli->set.positional[1], &options, err);
    if (status == TOQUE_OK) status = print_hits(cli, &hits, o->stages, err);
    tq_hits_clear(&hits);
    tq_search_helper_clear(&helper);
    if (l.cli) tq_cli_unload(&l);
    tq_cli_store_close(&s);
    return status;
}

const tq_command tq_cmd_rag_search = {
    .name = "rag search",
    .group = TQ_GROUP_CUSTOMIZE,
    .summary = "Find passages of a store",
    .usage = "STORE TEXT [--mode vector|bm25|hybrid] [-k N] [--rerank likelihood -m M] [--expand hyde|queries -m M]",
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
