/* toque models show: what a model file says of itself. Reads the metadata only, so any architecture will do. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "files/hf.h"
#include "models/store.h"

/* Metadata as a JSON value; NULL when the file does not have it or has something else there. */
static json_t *get_text(const tq_gguf *g, const char *key) {
    tq_string s = {0};
    if (tq_gguf_str(g, key, &s, NULL) != TOQUE_OK || !s.data) return NULL;
    return json_stringn(s.data, s.len);
}

static json_t *get_number(const tq_gguf *g, const char *architecture, const char *key) {
    char full[256];
    snprintf(full, sizeof full, "%.120s.%s", architecture, key);
    uint32_t value = UINT32_MAX;
    if (tq_gguf_u32(g, full, &value, NULL) != TOQUE_OK || value == UINT32_MAX) return NULL;
    return json_integer(value);
}

/* {"Q4_1": 210, "F32": 61}: how many tensors there are of each type. */
static json_t *count_types(const tq_gguf *g) {
    json_t *types = json_object();
    for (size_t i = 0; i < tq_gguf_n_tensors(g); i++) {
        const tq_tensor *t = tq_gguf_tensor_at(g, i);
        const tq_type_info *info = tq_type_get((uint32_t)t->type);
        char number[24];
        snprintf(number, sizeof number, "type %u", (unsigned)t->type);
        const char *name = info ? info->name : t->type == TQ_TYPE_END ? "other" : number;
        json_int_t so_far = json_integer_value(json_object_get(types, name));
        json_object_set_new(types, name, json_integer(so_far + 1));
    }
    return types;
}

static json_int_t count_parameters(const tq_gguf *g) {
    json_int_t n = 0;
    for (size_t i = 0; i < tq_gguf_n_tensors(g); i++) {
        const tq_tensor *t = tq_gguf_tensor_at(g, i);
        if (t->type != TQ_TYPE_END) n += (json_int_t)(t->rows * t->cols);
    }
    return n;
}

static void set(json_t *object, const char *key, json_t *value) {
    if (value) json_object_set_new(object, key, value);
}

static json_t *describe(const tq_gguf *g) {
    json_t *o = json_object(), *architecture = get_text(g, "general.architecture");
    const char *arch = architecture ? json_string_value(architecture) : "";
    set(o, "path", json_string(tq_gguf_path(g)));
    set(o, "bytes", json_integer((json_int_t)tq_gguf_file_bytes(g)));
    set(o, "name", get_text(g, "general.name"));
    set(o, "parameters", json_integer(count_parameters(g)));
    set(o, "tensors", count_types(g));
    static const char *const numbers[][2] = {
        {"context", "context_length"},     {"layers", "block_count"},
        {"width", "embedding_length"},     {"ffn_width", "feed_forward_length"},
        {"heads", "attention.head_count"}, {"kv_heads", "attention.head_count_kv"}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        set(o, numbers[i][0], get_number(g, arch, numbers[i][1]));
    const tq_gguf_value *tokens = tq_gguf_find(g, "tokenizer.ggml.tokens");
    if (tokens) set(o, "vocabulary", json_integer((json_int_t)tokens->count));
    set(o, "tokenizer", get_text(g, "tokenizer.ggml.model"));
    set(o, "chat_template", json_boolean(tq_gguf_find(g, "tokenizer.chat_template") != NULL));
    set(o, "license", get_text(g, "general.license"));
    set(o, "architecture", architecture);
    return o;
}

static void print_line(const char *label, const json_t *value) {
    if (!value)
        printf("%-14s not said\n", label);
    else if (json_is_string(value))
        printf("%-14s %s\n", label, json_string_value(value));
    else if (json_is_boolean(value))
        printf("%-14s %s\n", label, json_is_true(value) ? "yes" : "no");
    else
        printf("%-14s %" JSON_INTEGER_FORMAT "\n", label, json_integer_value(value));
}

static void print_text(json_t *o) {
    static const char *const first[] = {"path", "name", "architecture", "parameters"};
    static const char *const then[] = {"context",  "layers",     "width",     "ffn_width",     "heads",
                                       "kv_heads", "vocabulary", "tokenizer", "chat_template", "license"};
    for (size_t i = 0; i < sizeof first / sizeof *first; i++) print_line(first[i], json_object_get(o, first[i]));
    printf("%-14s %.1f MB\n", "size", (double)json_integer_value(json_object_get(o, "bytes")) / 1e6);
    printf("%-14s", "tensors");
    const char *type;
    json_t *count;
    json_object_foreach(json_object_get(o, "tensors"), type, count)
        printf(" %" JSON_INTEGER_FORMAT " %s", json_integer_value(count), type);
    printf("\n");
    for (size_t i = 0; i < sizeof then / sizeof *then; i++) print_line(then[i], json_object_get(o, then[i]));
}

/* What the store knows of the file. */
static toque_status add_origin(tq_cli *cli, const char *path, json_t *o, toque_error *err) {
    tq_store_list list;
    toque_status status = tq_store_list_all(&list, &cli->mem, err);
    for (size_t i = 0; status == TOQUE_OK && i < list.n; i++)
        if (strcmp(list.items[i].path, path) == 0) {
            if (*list.items[i].source) set(o, "source", json_string(list.items[i].source));
            if (*list.items[i].sha256) set(o, "sha256", json_string(list.items[i].sha256));
        }
    tq_store_list_free(&list);
    return status;
}

static toque_status run(tq_cli *cli, void *options, toque_error *err) {
    (void)options;
    char *path = NULL;
    tq_gguf *g = NULL;
    json_t *o = NULL;
    toque_status status;
    TQ_GO(tq_store_resolve(&path, &cli->mem, cli->set.positional[0], err));
    TQ_GO(tq_model_file_open(&g, &cli->mem, path, TQ_MODEL_WHOLE, err));
    o = describe(g);
    if (!o) {
        status = TQ_NOMEM(err);
        goto done;
    }
    TQ_GO(add_origin(cli, path, o, err));
    if (cli->common.json) {
        status = tq_cli_json(cli, json_incref(o), err);
        goto done;
    }
    print_text(o);
    if (json_object_get(o, "source")) print_line("source", json_object_get(o, "source"));
    if (json_object_get(o, "sha256")) print_line("sha256", json_object_get(o, "sha256"));
done:
    json_decref(o);
    tq_gguf_close(g);
    tq_free(&cli->mem, path);
    return status;
}

const tq_command tq_cmd_models_show = {
    .name = "models show",
    .group = TQ_GROUP_MODEL,
    .summary = "Show what a model file says of itself",
    .usage = "M",
    .about =
        "M is a GGUF file, a Hugging Face folder or a name in the store. --json prints one object with what the file "
        "has of: path, bytes,\n"
        "name, architecture, parameters, tensors (how many of each type), context, layers, width, ffn_width, heads,\n"
        "kv_heads, vocabulary, tokenizer, chat_template, license, and the store's source and sha256.",
    .example = "toque models show model.gguf",
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
