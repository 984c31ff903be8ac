/* What the commands of `toque rag` share. See rag.h. */
#include "cli/rag.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "models/store.h"
#include "text/unicode.h"

#define AT(field) offsetof(tq_cli_search, field)
const tq_option tq_cli_search_table[] = {
    {.key = "mode",
     .type = TQ_OPT_CHOICE,
     .offset = AT(mode),
     .fallback = "hybrid",
     .choices = "vector|bm25|hybrid",
     .help = "by meaning, by words, or both (by words alone in a store without vectors)"},
    {.key = "k",
     .letter = 'k',
     .type = TQ_OPT_INT,
     .offset = AT(k),
     .fallback = "5",
     .min = 1,
     .max = 1000,
     .help = "how many passages"},
    {.key = "where",
     .type = TQ_OPT_LIST,
     .offset = AT(where),
     .value = "KEY=VALUE",
     .help =
         "only documents with this metadata; also != ~ (glob) < <= > >=; keys document, title, format, language and "
         "those of rag add --meta; may be repeated"},
    {.key = "language",
     .type = TQ_OPT_TEXT,
     .offset = AT(language),
     .value = "L",
     .help = "the language of the text, as en, or none; without it, as its words tell, else as the documents are"},
    {.key = "mmr",
     .type = TQ_OPT_NUMBER,
     .offset = AT(mmr),
     .fallback = "1",
     .min = 0,
     .max = 1,
     .help = "below 1: passages that say the same as better ones step back (maximal marginal relevance's lambda)"},
    {.key = "fusion",
     .type = TQ_OPT_CHOICE,
     .offset = AT(fusion),
     .fallback = "rrf",
     .choices = "rrf|weights",
     .help = "hybrid: by reciprocal ranks, or by weighted scores"},
    {.key = "rrf_k",
     .type = TQ_OPT_NUMBER,
     .offset = AT(rrf_k),
     .fallback = "60",
     .min = 0,
     .max = 1e6,
     .help = "constant of rrf"},
    {.key = "vector_weight",
     .type = TQ_OPT_NUMBER,
     .offset = AT(vector_weight),
     .fallback = "0.5",
     .min = 0,
     .max = 1,
     .help = "hybrid: share of the vectors, the rest is BM25's"},
    {.key = "depth",
     .type = TQ_OPT_INT,
     .offset = AT(depth),
     .min = 1,
     .max = 10000,
     .help = "passages that each stage contributes; without it, 4 k and at least 100"},
    {.key = "k1",
     .type = TQ_OPT_NUMBER,
     .offset = AT(k1),
     .fallback = "1.2",
     .min = 0,
     .max = 100,
     .help = "BM25: how soon repetition stops to count"},
    {.key = "b",
     .type = TQ_OPT_NUMBER,
     .offset = AT(b),
     .fallback = "0.75",
     .min = 0,
     .max = 1,
     .help = "BM25: how much a passage's length counts"},
    {0}};

const tq_option tq_cli_help_table[] = {
    {.key = "expand",
     .type = TQ_OPT_CHOICE,
     .offset = AT(expand),
     .fallback = "none",
     .choices = "none|hyde|queries",
     .help = "let the model -m first write a passage that would answer (hyde: its vector joins the question's), or the "
             "question in up to three other ways (queries: each is searched too)"},
    {.key = "rerank",
     .type = TQ_OPT_CHOICE,
     .offset = AT(rerank),
     .fallback = "none",
     .choices = "none|likelihood",
     .help = "put the best passages in order anew by how probable the model -m finds the question behind each"},
    {.key = "rerank_depth",
     .type = TQ_OPT_INT,
     .offset = AT(rerank_depth),
     .fallback = "10",
     .min = 1,
     .max = 1000,
     .help = "--rerank: so many passages"},
    {0}};
#undef AT

bool tq_cli_wants_help(const tq_cli_search *o) {
    return o->expand || o->rerank;
}

void tq_cli_help(tq_search_helper *helper, tq_searcher *searcher, const tq_cli_loaded *l) {
    *helper = (tq_search_helper){.model = l->model, .hats = tq_cli_hats(l), .max_rank = l->max_rank};
    searcher->helper = helper;
}

const char *tq_cli_language(const char *name) {
    return name && strcmp(name, "none") == 0 ? "" : name;
}

tq_search_options tq_cli_search_options(const tq_cli_search *o) {
    return (tq_search_options){.mode = (tq_search_mode)o->mode,
                               .k = (size_t)o->k,
                               .depth = (size_t)o->depth,
                               .fusion = (tq_fusion)o->fusion,
                               .rrf_k = o->rrf_k,
                               .vector_weight = o->vector_weight,
                               .mmr = o->mmr,
                               .k1 = o->k1,
                               .b = o->b,
                               .language = tq_cli_language(o->language),
                               .filters = o->where.items,
                               .n_filters = o->where.len,
                               .expand = (tq_expansion)o->expand,
                               .rerank = o->rerank != 0,
                               .rerank_depth = (size_t)o->rerank_depth};
}

toque_status tq_cli_embedder_open(tq_cli *cli, tq_ctx *ctx, const char *name, const char *query_prefix,
                                  const char *passage_prefix, tq_cli_embedder *embedder, toque_error *err) {
    char *path, whole[PATH_MAX];
    *embedder = (tq_cli_embedder){0};
    if (strcmp(name, "none") == 0) {
        embedder->e = &tq_rag_embedder_none;
        return TOQUE_OK;
    }
    TQ_TRY(tq_store_resolve(&path, &cli->mem, name, err));
    /* A path is remembered whole: later commands may be given in another folder. */
    if (tq_path_exists(name) && realpath(name, whole)) name = whole;
    toque_status status = tq_rag_model_open(&embedder->model, ctx, path, name, query_prefix, passage_prefix, err);
    if (status == TOQUE_OK) embedder->e = tq_rag_model_embedder(embedder->model);
    tq_free(&cli->mem, path);
    return status;
}

void tq_cli_embedder_close(tq_cli_embedder *embedder) {
    tq_rag_model_close(embedder->model);
    *embedder = (tq_cli_embedder){0};
}

toque_status tq_cli_store_open(tq_cli *cli, const char *path, const char *embedder, bool vectors, tq_cli_store *s,
                               toque_error *err) {
    tq_ctx *ctx;
    *s = (tq_cli_store){0};
    TQ_TRY(tq_cli_ctx(cli, &ctx, err));
    TQ_TRY(tq_rag_open(&s->store, ctx, path, false, err));
    bool wanted = vectors && s->store->facts.dim > 0;
    toque_status status = TOQUE_OK;
    const tq_rag_facts *f = &s->store->facts;
    if (wanted)
        status = tq_cli_embedder_open(cli, ctx, embedder ? embedder : f->embedder, f->query_prefix, f->passage_prefix,
                                      &s->embedder, err);
    if (status == TOQUE_ENOTFOUND && !embedder)
        tq_error_prefix(err, status,
                        "the store's embedder is gone (name its place with --embedder, or search with --mode "
                        "bm25)");
    if (status == TOQUE_OK) status = tq_searcher_init(&s->searcher, s->store, s->embedder.e, err);
    if (status != TOQUE_OK) tq_cli_store_close(s);
    return status;
}

void tq_cli_store_close(tq_cli_store *s) {
    tq_searcher_clear(&s->searcher);
    tq_cli_embedder_close(&s->embedder);
    tq_rag_close(s->store);
    *s = (tq_cli_store){0};
}

json_t *tq_cli_json_text(tq_cli *cli, const char *s, size_t n) {
    if (tq_utf8_valid_prefix(s, n) == n) return json_stringn(s, n);
    tq_buf b;
    tq_buf_init(&b, &cli->mem, SIZE_MAX / 4);
    for (size_t at = 0, step; at < n; at += step) {
        uint32_t cp;
        step = tq_utf8_next(s + at, n - at, &cp);
        if (cp < TQ_UTF8_CUT)
            tq_buf_put(&b, s + at, step);
        else
            tq_buf_puts(&b, TQ_REPLACEMENT);
    }
    json_t *out = b.failed ? NULL : json_stringn(b.data, b.len);
    tq_buf_clear(&b);
    return out;
}

json_t *tq_cli_json_place(tq_cli *cli, const tq_passage_info *p) {
    json_t *o = json_pack("{s:o, s:o, s:o}", "document", tq_cli_json_text(cli, p->uri, strlen(p->uri)), "title",
                          tq_cli_json_text(cli, p->title, strlen(p->title)), "heading",
                          tq_cli_json_text(cli, p->heading, strlen(p->heading)));
    if (o && p->page) json_object_set_new(o, "page", json_integer(p->page));
    return o;
}

void tq_cli_print_place(const tq_passage_info *p, int64_t start, int64_t end) {
    printf("%s", p->uri);
    if (p->page) printf(", page %d", p->page);
    if (*p->heading) printf(", %s", p->heading);
    printf(", bytes %" PRId64 " to %" PRId64, start, end);
}
