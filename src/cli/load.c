/* Loading for commands: see load.h. */
#include "cli/load.h"

#include <string.h>

#include "files/hf.h"
#include "models/store.h"

enum { MAX_JSON_BYTES = 256 << 20 };

toque_status tq_cli_model_path(tq_cli *cli, const tq_cli_model *options, char **path, toque_error *err) {
    *path = NULL;
    TQ_TRY(tq_cli_need_model(cli, options, err));
    const char *name = options->model;
    if (strncmp(name, "http://", 7) == 0 || strncmp(name, "https://", 8) == 0)
        return TQ_FAIL(err, EUNSUPPORTED,
                       "-m %.200s names a server; this command needs a model file (toque models pull "
                       "fetches one)",
                       name);
    return tq_store_resolve(path, &cli->mem, name, err);
}

/* --- models with adapters ---------------------------------------------------------------------------------- */

static toque_status make_room(tq_cli_loaded *l, toque_error *err) {
    if (l->n < l->cap) return TOQUE_OK;
    int cap = l->cap ? l->cap * 2 : 4;
    tq_adapter **adapters = tq_realloc(&l->cli->mem, l->adapters, (size_t)cap, sizeof *adapters);
    if (adapters) l->adapters = adapters;
    tq_hat *items = adapters ? tq_realloc(&l->cli->mem, l->items, (size_t)cap, sizeof *items) : NULL;
    if (!items) return TQ_NOMEM(err);
    l->items = items;
    l->cap = cap;
    return TOQUE_OK;
}

/* The adapter of that path, read on first use. */
static toque_status get_adapter(tq_cli_loaded *l, const char *path, const tq_adapter **found, toque_error *err) {
    for (int i = 0; i < l->n; i++)
        if (strcmp(l->adapters[i]->name, path) == 0) {
            *found = l->adapters[i];
            return TOQUE_OK;
        }
    TQ_TRY(make_room(l, err));
    tq_adapter *a;
    TQ_TRY(tq_adapter_load(&a, l->model, path, err));
    if (a->n_heads && !l->heads) {
        toque_status status = TQ_FAIL(
            err, EINVAL, "%.300s answers with a head (%s), which %s would leave out: toque predict -a %.300s wears it",
            path, tq_head_kind_name(a->heads[0].kind), l->cli->command->name, path);
        tq_adapter_free(a);
        return status;
    }
    if (a->embeds && !l->embeds) {
        toque_status status =
            TQ_FAIL(err, EINVAL, "%.300s was tuned to embed texts: toque embed -a %.300s wears it", path, path);
        tq_adapter_free(a);
        return status;
    }
    l->adapters[l->n++] = a;
    if (a->max_rank > l->max_rank) l->max_rank = a->max_rank;
    *found = a;
    return TOQUE_OK;
}

toque_status tq_cli_wear(tq_cli_loaded *l, const char *text, bool alone, toque_error *err) {
    char *path;
    double scale;
    TQ_TRY(tq_cli_adapter(l->cli, text, &path, &scale, err));
    const tq_adapter *a = NULL;
    toque_status status = get_adapter(l, path, &a, err);
    tq_free(&l->cli->mem, path);
    if (status != TOQUE_OK) return status;
    if (alone) l->hats.n = 0;
    for (int i = 0; i < l->hats.n; i++)
        if (l->items[i].adapter == a)
            return TQ_FAIL(err, EINVAL, "adapter %.300s is given twice; give it once, with the scale that is meant",
                           a->name);
    l->items[l->hats.n++] = tq_adapter_hat(a, (float)scale);
    l->hats.items = l->items; /* as many worn as loaded at most, so there is room */
    return TOQUE_OK;
}

const tq_hats *tq_cli_hats(const tq_cli_loaded *l) {
    return l->hats.n ? &l->hats : NULL;
}

static toque_status load(tq_cli_loaded *l, tq_cli *cli, const tq_cli_model *model, const tq_cli_adapters *adapters,
                         bool heads, bool embeds, toque_error *err) {
    *l = (tq_cli_loaded){.cli = cli, .heads = heads, .embeds = embeds};
    char *path;
    TQ_TRY(tq_cli_model_path(cli, model, &path, err));
    toque_status status = tq_cli_ctx(cli, &l->ctx, err);
    if (status == TOQUE_OK) status = tq_model_open(&l->model, l->ctx, path, err);
    tq_free(&cli->mem, path);
    for (size_t i = 0; status == TOQUE_OK && adapters && i < adapters->adapters.len; i++)
        status = tq_cli_wear(l, adapters->adapters.items[i], false, err);
    if (status != TOQUE_OK) tq_cli_unload(l);
    return status;
}

/* The head that a worn adapter has, or NULL. */
static toque_status find_head(const tq_cli_loaded *l, const tq_head **head, toque_error *err) {
    for (int i = 0; i < l->hats.n; i++) {
        const tq_adapter *a = l->items[i].adapter;
        if (a->n_heads && *head)
            return TQ_FAIL(err, EINVAL, "two adapters have a head, the second is %.300s: wear one of them", a->name);
        if (a->n_heads) *head = &a->heads[0];
    }
    return TOQUE_OK;
}

toque_status tq_cli_load(tq_cli_loaded *l, tq_cli *cli, const tq_cli_model *model, const tq_cli_adapters *adapters,
                         toque_error *err) {
    return load(l, cli, model, adapters, false, false, err);
}

toque_status tq_cli_load_to_embed(tq_cli_loaded *l, tq_cli *cli, const tq_cli_model *model,
                                  const tq_cli_adapters *adapters, toque_error *err) {
    return load(l, cli, model, adapters, false, true, err);
}

toque_status tq_cli_load_with_head(tq_cli_loaded *l, tq_cli *cli, const tq_cli_model *model,
                                   const tq_cli_adapters *adapters, const tq_head **head, toque_error *err) {
    *head = NULL;
    TQ_TRY(load(l, cli, model, adapters, true, false, err));
    toque_status status = find_head(l, head, err);
    if (status != TOQUE_OK) tq_cli_unload(l);
    return status;
}

void tq_cli_unload(tq_cli_loaded *l) {
    for (int i = 0; i < l->n; i++) tq_adapter_free(l->adapters[i]);
    if (l->cli) {
        tq_free(&l->cli->mem, l->adapters);
        tq_free(&l->cli->mem, l->items);
    }
    tq_model_close(l->model);
    *l = (tq_cli_loaded){0};
}

/* --- vocabulary alone -------------------------------------------------------------------------------------- */

toque_status tq_cli_vocabulary(tq_cli *cli, const tq_cli_model *model, tq_gguf **gguf, tq_tokenizer **tok,
                               toque_error *err) {
    *gguf = NULL;
    if (tok) *tok = NULL;
    char *path;
    TQ_TRY(tq_cli_model_path(cli, model, &path, err));
    toque_status status = tq_model_file_open(gguf, &cli->mem, path, TQ_MODEL_VOCABULARY, err);
    if (status == TOQUE_OK && tok) status = tq_tokenizer_from_gguf(tok, &cli->mem, *gguf, err);
    tq_free(&cli->mem, path);
    if (status != TOQUE_OK) {
        tq_gguf_close(*gguf);
        *gguf = NULL;
    }
    return status;
}

/* --- JSON -------------------------------------------------------------------------------------------------- */

toque_status tq_cli_json_array(tq_cli *cli, const char *path, json_t **array, toque_error *err) {
    *array = NULL;
    char *text;
    size_t n;
    TQ_TRY(tq_read_file(&text, &n, &cli->mem, path, MAX_JSON_BYTES, err));
    json_error_t where;
    json_t *value = json_loadb(text, n, JSON_DECODE_ANY, &where);
    tq_free(&cli->mem, text);
    if (!value)
        return TQ_FAIL(err, EFORMAT, "%.200s, line %d, column %d: %s; expected a JSON array", path, where.line,
                       where.column, where.text);
    if (!json_is_array(value)) {
        json_decref(value);
        return TQ_FAIL(err, EFORMAT, "%.200s holds JSON, but not an array; put [ and ] around it", path);
    }
    *array = value;
    return TOQUE_OK;
}

toque_status tq_cli_messages(tq_cli *cli, const char *path, json_t **messages, toque_error *err) {
    TQ_TRY(tq_cli_json_array(cli, path, messages, err));
    toque_status status = TOQUE_OK;
    size_t i;
    json_t *message;
    json_array_foreach(*messages, i, message) {
        if (json_is_string(json_object_get(message, "role"))) continue;
        status = TQ_FAIL(err, EFORMAT,
                         "%.200s: message %zu has no \"role\"; expected objects like "
                         "{\"role\": \"user\", \"content\": \"…\"}",
                         path, i + 1);
        break;
    }
    if (status == TOQUE_OK && json_array_size(*messages) == 0)
        status = TQ_FAIL(err, EFORMAT, "%.200s holds no messages; expected at least one", path);
    if (status != TOQUE_OK) {
        json_decref(*messages);
        *messages = NULL;
    }
    return status;
}
