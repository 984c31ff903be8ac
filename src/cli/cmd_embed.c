/* toque embed: a vector for each line of a text. */
#include <string.h>

#include "base/io.h"
#include "cli/load.h"
#include "infer/embed.h"

typedef struct options {
    tq_cli_model model;
    tq_cli_adapters adapters;
    bool truncate;
} options;

#define AT(field) offsetof(options, field)
static const tq_option own[] = {{.key = "truncate",
                                 .type = TQ_OPT_FLAG,
                                 .offset = AT(truncate),
                                 .fallback = "off",
                                 .help = "cut lines of more tokens than the model takes, and say how many there were"},
                                {0}};
static const tq_cli_table tables[] = {
    {own, 0}, {tq_cli_model_table, AT(model)}, {tq_cli_adapters_table, AT(adapters)}, {0}};
#undef AT

enum { MAX_TEXT = 1 << 30, BATCH = 64 };

/* The lines of a text, without their ends ("\n" or "\r\n"). */
typedef struct lines {
    const char *at, *end;
    size_t done; /* lines taken so far */
} lines;

static toque_status next_lines(lines *l, tq_string *out, size_t *n, toque_error *err) {
    for (*n = 0; *n < BATCH && l->at < l->end; l->done++) {
        const char *stop = memchr(l->at, '\n', (size_t)(l->end - l->at));
        size_t len = (size_t)((stop ? stop : l->end) - l->at);
        out[*n] = (tq_string){l->at, len - (len && l->at[len - 1] == '\r')};
        l->at = stop ? stop + 1 : l->end;
        bool blank = true;
        for (size_t i = 0; i < out[*n].len; i++) blank = blank && (out[*n].data[i] == ' ' || out[*n].data[i] == '\t');
        if (blank)
            return TQ_FAIL(err, EFORMAT, "line %zu is empty; every line is a text to embed: remove it", l->done + 1);
        ++*n;
    }
    return TOQUE_OK;
}

static toque_status print(tq_cli *cli, const float *v, int dim, tq_buf *out, toque_error *err) {
    tq_buf_reset(out);
    for (int i = 0; i < dim; i++) tq_buf_printf(out, "%s%.9g", i ? "," : "[", (double)v[i]);
    tq_buf_puts(out, "]\n");
    TQ_TRY(tq_buf_status(out, "a vector", err));
    return tq_cli_write(cli, out->data, out->len, err);
}

/* Errors count texts of a batch; people count lines. */
static toque_status embed_batch(tq_embedder *e, const options *o, const tq_string *texts, size_t n, size_t before,
                                float *vectors, tq_embed_stats *stats, toque_error *err) {
    toque_status status = tq_embed(e, texts, n, o->truncate, vectors, stats, err);
    if (status != TOQUE_EINVAL && status != TOQUE_ELIMIT) return status;
    for (size_t i = 0; i < n; i++) {
        status = tq_embed(e, &texts[i], 1, o->truncate, vectors, stats, err);
        if (status != TOQUE_OK)
            return tq_error_prefix(err, status, "line %zu%s", before + i + 1,
                                   status == TOQUE_ELIMIT ? " (--truncate cuts such lines)" : "");
    }
    return TOQUE_OK;
}

static toque_status embed_all(tq_cli *cli, const options *o, const tq_cli_loaded *loaded, lines *l,
                              tq_embed_stats *stats, toque_error *err) {
    tq_embedder *e;
    TQ_TRY(tq_embedder_new(&e, loaded->model, tq_cli_hats(loaded), err));
    int dim = tq_embedder_dim(e);
    float *vectors = tq_alloc(&cli->mem, BATCH, (size_t)dim * sizeof *vectors);
    tq_buf out;
    tq_buf_init(&out, &cli->mem, MAX_TEXT);
    tq_string texts[BATCH];
    toque_status status = vectors ? TOQUE_OK : TQ_NOMEM(err);
    while (status == TOQUE_OK && l->at < l->end) {
        size_t before = l->done, n;
        TQ_GO(next_lines(l, texts, &n, err));
        TQ_GO(embed_batch(e, o, texts, n, before, vectors, stats, err));
        for (size_t i = 0; i < n; i++) TQ_GO(print(cli, vectors + i * (size_t)dim, dim, &out, err));
    }
done:
    tq_buf_clear(&out);
    tq_free(&cli->mem, vectors);
    tq_embedder_free(e);
    return status;
}

static toque_status run(tq_cli *cli, void *given, toque_error *err) {
    const options *o = given;
    tq_cli_loaded loaded;
    char *text;
    size_t n;
    TQ_TRY(tq_cli_load_to_embed(&loaded, cli, &o->model, &o->adapters, err));
    tq_cli_catch_interrupt(cli);
    const char *path = cli->set.n_positional ? cli->set.positional[0] : "-";
    toque_status status = tq_read_file(&text, &n, &cli->mem, path, MAX_TEXT, err);
    if (status == TOQUE_OK) {
        lines l = {.at = text, .end = text + n};
        tq_embed_stats stats = {0};
        status = n ? embed_all(cli, o, &loaded, &l, &stats, err)
                   : TQ_FAIL(err, EFORMAT, "%.200s holds no line to embed", path);
        if (status == TOQUE_OK && stats.truncated)
            tq_cli_warn(cli, "%zu of %zu lines were cut to %d tokens", stats.truncated, l.done,
                        loaded.model->config.embed_max);
        tq_free(&cli->mem, text);
    }
    tq_cli_unload(&loaded);
    return status;
}

const tq_command tq_cmd_embed = {
    .name = "embed",
    .group = TQ_GROUP_MODEL,
    .summary = "Print a vector for each line of a text",
    .usage = "-m M [-a A]... [--truncate] [FILE]",
    .about =
        "One line in, one JSON array of numbers out, from a file or standard input. M is an encoder (architecture\n"
        "bert), such as all-MiniLM-L6-v2; pooling and length 1 are as its files say. An adapter that was tuned with\n"
        "objective contrastive (docs/methods/contrastive.md) says these itself, and makes an embedder of a language\n"
        "model too. Lines that are empty or longer than the model takes are errors.",
    .example = "printf 'How do I get my money back?\\n' | toque embed -m all-minilm-l6-v2",
    .tables = tables,
    .size = sizeof(options),
    .max_args = 1,
    .run = run,
};
