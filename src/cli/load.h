/* What commands load: a model by path or name, adapters with their scales, a vocabulary alone, JSON files. */
#ifndef TQ_CLI_LOAD_H
#define TQ_CLI_LOAD_H

#include "cli/cli.h"
#include "model/adapter.h"
#include "model/model.h"

/* -m (or $TOQUE_MODEL) as a path, owned by the caller (tq_free with &cli->mem). A file or folder of that name comes
 * first, then the model store. Usage error without one. */
toque_status tq_cli_model_path(tq_cli *cli, const tq_cli_model *options, char **path, toque_error *err) TQ_MUST;

/* A model with the adapters worn on it. */
typedef struct tq_cli_loaded {
    tq_cli *cli;
    tq_ctx *ctx;
    tq_model *model;
    tq_adapter **adapters; /* [n] */
    tq_hat *items;         /* [n] */
    int n, cap;
    tq_hats hats; /* over items */
    int max_rank; /* of the adapters */
    bool heads;   /* the command asks a head; others refuse an adapter that has one */
    bool embeds;  /* the command embeds; others refuse an adapter that was tuned for that */
} tq_cli_loaded;
/* adapters may be NULL. EINVAL for one that has a head, which an answer in words would leave out. On failure everything
 * is closed again. */
toque_status tq_cli_load(tq_cli_loaded *l, tq_cli *cli, const tq_cli_model *model, const tq_cli_adapters *adapters,
                         toque_error *err) TQ_MUST;
/* The same for a command that embeds texts. */
toque_status tq_cli_load_to_embed(tq_cli_loaded *l, tq_cli *cli, const tq_cli_model *model,
                                  const tq_cli_adapters *adapters, toque_error *err) TQ_MUST;
/* The same for a command that asks the head that a worn adapter has: NULL when none has one, EINVAL when several do. */
toque_status tq_cli_load_with_head(tq_cli_loaded *l, tq_cli *cli, const tq_cli_model *model,
                                   const tq_cli_adapters *adapters, const tq_head **head, toque_error *err) TQ_MUST;
/* One more adapter, as "A[:SCALE]". One that was loaded before from the same path is not read again. With `alone`, it
 * takes off all others, which stay loaded. */
toque_status tq_cli_wear(tq_cli_loaded *l, const char *text, bool alone, toque_error *err) TQ_MUST;
/* NULL when no adapter is worn. */
const tq_hats *tq_cli_hats(const tq_cli_loaded *l);
void tq_cli_unload(tq_cli_loaded *l);

/* The file and its tokenizer; no tensor is looked at, and the architecture may be unknown. Allocated in &cli->mem;
 * close with tq_tokenizer_free and tq_gguf_close. tok may be NULL: not wanted. */
toque_status tq_cli_vocabulary(tq_cli *cli, const tq_cli_model *model, tq_gguf **gguf, tq_tokenizer **tok,
                               toque_error *err) TQ_MUST;

/* A JSON file ("-": standard input) that must be an array; json_decref it. */
toque_status tq_cli_json_array(tq_cli *cli, const char *path, json_t **array, toque_error *err) TQ_MUST;
/* The same for chat messages: an array of objects, each with a role. */
toque_status tq_cli_messages(tq_cli *cli, const char *path, json_t **messages, toque_error *err) TQ_MUST;

#endif
