/* What the commands of `toque rag` share: embedders, options of a search, passages as JSON. */
#ifndef TQ_CLI_RAG_H
#define TQ_CLI_RAG_H

#include "cli/load.h"
#include "rag/embedder_model.h"
#include "rag/search.h"

/* An embedder by name: "none", a model file or folder, or a name in the model store. */
typedef struct tq_cli_embedder {
    const tq_rag_embedder *e;
    tq_rag_model *model;
} tq_cli_embedder;
toque_status tq_cli_embedder_open(tq_cli *cli, tq_ctx *ctx, const char *name, const char *query_prefix,
                                  const char *passage_prefix, tq_cli_embedder *embedder, toque_error *err) TQ_MUST;
void tq_cli_embedder_close(tq_cli_embedder *embedder);

/* Options of searching: put the struct into a command's options. */
typedef struct tq_cli_search {
    int mode, fusion;
    int64_t k, depth;
    double rrf_k, vector_weight, mmr, k1, b;
    const char *language;
    tq_option_list where;
    int expand, rerank;
    int64_t rerank_depth;
} tq_cli_search;
extern const tq_option tq_cli_search_table[];
/* What a model adds to a search, over the same struct; the command has tq_cli_model_table too. */
extern const tq_option tq_cli_help_table[];
/* Whether the options ask for a model. */
bool tq_cli_wants_help(const tq_cli_search *o);
/* Gives the searcher a loaded model. `helper` is the caller's, and cleared by it before the model. */
void tq_cli_help(tq_search_helper *helper, tq_searcher *searcher, const tq_cli_loaded *l);
/* A language as the options name it: "none" is "", words as they are. NULL stays. */
const char *tq_cli_language(const char *name);
tq_search_options tq_cli_search_options(const tq_cli_search *o);

/* A store opened for searching, with its embedder unless only BM25 is asked for. */
typedef struct tq_cli_store {
    tq_rag *store;
    tq_cli_embedder embedder;
    tq_searcher searcher;
} tq_cli_store;
toque_status tq_cli_store_open(tq_cli *cli, const char *path, const char *embedder, bool vectors, tq_cli_store *s,
                               toque_error *err) TQ_MUST;
void tq_cli_store_close(tq_cli_store *s);

/* A JSON string of any bytes: what is no UTF-8 becomes U+FFFD. NULL without memory. */
json_t *tq_cli_json_text(tq_cli *cli, const char *s, size_t n);
/* {"document", "title", "heading", "page"?} of a passage. */
json_t *tq_cli_json_place(tq_cli *cli, const tq_passage_info *p);
/* The same as text, with the bytes of the document's text. */
void tq_cli_print_place(const tq_passage_info *p, int64_t start, int64_t end);

#endif
