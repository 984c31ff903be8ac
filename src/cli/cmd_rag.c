/* toque rag add | list | rm: what is in a store. (rag search, rag ask: cmd_rag_search.c) */
#include <fnmatch.h>
#include <inttypes.h>
#include <string.h>

#include "base/io.h"
#include "base/progress.h"
#include "cli/rag.h"
#include "rag/quote.h"
#include "rag/rebuild.h"

/* --- add --------------------------------------------------------------------------------------------------- */

typedef struct add_options {
    const char *embedder, *query_prefix, *passage_prefix, *language, *format, *sql, *key, *name;
    int chunks;
    int64_t chunk_tokens, overlap;
    tq_option_list include, exclude, meta;
    bool reembed;
} add_options;

#define AT(field) offsetof(add_options, field)
static const tq_option add_table[] = {
    {.key = "embedder",
     .type = TQ_OPT_TEXT,
     .offset = AT(embedder),
     .value = "M",
     .help = "for a new store: the embedding model, or none for search by words only; the store remembers it"},
    {.key = "query_prefix",
     .type = TQ_OPT_TEXT,
     .offset = AT(query_prefix),
     .fallback = "",
     .help = "for a new store: what the embedder wants in front of questions, as 'query: '"},
    {.key = "passage_prefix",
     .type = TQ_OPT_TEXT,
     .offset = AT(passage_prefix),
     .fallback = "",
     .help = "for a new store: what it wants in front of passages, as 'passage: '"},
    {.key = "include",
     .type = TQ_OPT_LIST,
     .offset = AT(include),
     .value = "GLOB",
     .help = "only files of this name or path in the folder; may be repeated"},
    {.key = "exclude",
     .type = TQ_OPT_LIST,
     .offset = AT(exclude),
     .value = "GLOB",
     .help = "no files or folders of this name or path; may be repeated"},
    {.key = "meta",
     .type = TQ_OPT_LIST,
     .offset = AT(meta),
     .value = "KEY=VALUE",
     .help = "metadata of all documents of this run; may be repeated"},
    {.key = "language",
     .type = TQ_OPT_TEXT,
     .offset = AT(language),
     .value = "L",
     .help = "the documents' language, as en or fr, or none: no stop words, no stemming; without it, each one's is "
             "detected"},
    {.key = "format",
     .type = TQ_OPT_TEXT,
     .offset = AT(format),
     .value = "F",
     .help = "read all files as this: text, markdown, html, pdf, docx, csv, ...; without it, told by each file"},
    {.key = "sql",
     .type = TQ_OPT_TEXT,
     .offset = AT(sql),
     .value = "SELECT",
     .help = "PATH is an SQLite file or a postgresql:// URL: a document for each row of this query"},
    {.key = "key",
     .type = TQ_OPT_TEXT,
     .offset = AT(key),
     .value = "COLUMN",
     .help = "the column that names a row of --sql; without it, the first"},
    {.key = "name",
     .type = TQ_OPT_TEXT,
     .offset = AT(name),
     .value = "NAME",
     .help = "what the document from standard input is called"},
    {.key = "chunks",
     .type = TQ_OPT_CHOICE,
     .offset = AT(chunks),
     .fallback = "passage",
     .choices = "passage|sentence|parent",
     .help = "for a new store: whole passages; single sentences shown with those around; passages shown with their "
             "section"},
    {.key = "chunk_tokens",
     .type = TQ_OPT_INT,
     .offset = AT(chunk_tokens),
     .min = 16,
     .max = 8192,
     .help = "for a new store: tokens of a passage; without it, 256 or what the embedder takes"},
    {.key = "overlap",
     .type = TQ_OPT_INT,
     .offset = AT(overlap),
     .min = 0,
     .max = 4096,
     .help = "for a new store: tokens that passages share; without it, 12 %"},
    {.key = "reembed",
     .type = TQ_OPT_FLAG,
     .offset = AT(reembed),
     .fallback = "off",
     .help = "first make the store anew from its texts, with --embedder and chunks as given"},
    {0}};
static const tq_cli_table add_tables[] = {{add_table, 0}, {0}};
#undef AT

typedef struct adding {
    tq_cli *cli;
    tq_progress bar;
    bool started;
    json_t *failed; /* with --json */
    tq_ingest in;
    tq_ingest_counts counts;
    tq_doc_pair *pairs;
    size_t n_pairs;
} adding;

static void show(void *arg, const tq_ingest_counts *counts) {
    adding *a = arg;
    if (!a->started) tq_progress_start(&a->bar, tq_cli_progress(a->cli), "adding", "documents", counts->total, 0);
    a->started = true;
    a->bar.total = counts->total;
    tq_progress_update(&a->bar, counts->done, NULL);
}

static void tell(void *arg, const char *uri, tq_outcome outcome, const char *message) {
    adding *a = arg;
    if (outcome == TQ_FAILED) {
        tq_cli_warn(a->cli, "%s: %s", uri, message);
        if (a->failed)
            json_array_append_new(a->failed,
                                  json_pack("{s:o, s:o}", "document", tq_cli_json_text(a->cli, uri, strlen(uri)),
                                            "error", tq_cli_json_text(a->cli, message, strlen(message))));
    } else if (message && outcome != TQ_SKIPPED) {
        tq_cli_note(a->cli, "%s: %s", uri, message);
    }
}

static toque_status read_pairs(tq_cli *cli, const tq_option_list *meta, adding *a, toque_error *err) {
    a->pairs = tq_zalloc(&cli->mem, meta->len + 1, sizeof *a->pairs);
    if (!a->pairs) return TQ_NOMEM(err);
    for (size_t i = 0; i < meta->len; i++) {
        const char *equals = strchr(meta->items[i], '=');
        if (!equals || equals == meta->items[i] || strcspn(meta->items[i], "!~<> ") < (size_t)(equals - meta->items[i]))
            return tq_cli_usage(cli, err, "--meta expects KEY=VALUE, not '%.100s'", meta->items[i]);
        a->pairs[a->n_pairs++] = (tq_doc_pair){tq_strndup(&cli->mem, meta->items[i], (size_t)(equals - meta->items[i])),
                                               tq_strdup(&cli->mem, equals + 1)};
        if (!a->pairs[i].key || !a->pairs[i].value) return TQ_NOMEM(err);
    }
    return TOQUE_OK;
}

static void free_pairs(tq_cli *cli, adding *a) {
    for (size_t i = 0; a->pairs && i < a->n_pairs; i++) {
        tq_free(&cli->mem, a->pairs[i].key);
        tq_free(&cli->mem, a->pairs[i].value);
    }
    tq_free(&cli->mem, a->pairs);
}

/* How a store is cut: what is given, else the defaults for this embedder. */
static toque_status chunk_options(tq_cli *cli, const add_options *o, const tq_rag_embedder *e, tq_chunk_options *c,
                                  toque_error *err) {
    size_t prefix;
    TQ_TRY(tq_count_tokens(e, &cli->mem, e->passage_prefix, strlen(e->passage_prefix), &prefix, err));
    /* Two tokens are kept back for words that a cut makes into more tokens. */
    int room = e->max_tokens - (int)prefix - 2, most = room < 256 ? room : 256;
    *c = (tq_chunk_options){.mode = (tq_chunk_mode)o->chunks, .budget = o->chunk_tokens ? (int)o->chunk_tokens : most};
    c->overlap = c->mode == TQ_CHUNK_SENTENCE ? 0 : c->budget * 12 / 100;
    if (tq_options_given(&cli->set, "overlap")) c->overlap = (int)o->overlap;
    return TOQUE_OK;
}

/* Options that shape a store are refused where they differ from an existing one. */
static toque_status check_shape(tq_cli *cli, const add_options *o, const tq_rag *store, toque_error *err) {
    const tq_chunk_options *c = &store->facts.chunk;
    if ((tq_options_given(&cli->set, "chunks") && o->chunks != (int)c->mode) ||
        (tq_options_given(&cli->set, "chunk_tokens") && o->chunk_tokens != c->budget) ||
        (tq_options_given(&cli->set, "overlap") && o->overlap != c->overlap) ||
        (tq_options_given(&cli->set, "query_prefix") && strcmp(o->query_prefix, store->facts.query_prefix) != 0) ||
        (tq_options_given(&cli->set, "passage_prefix") && strcmp(o->passage_prefix, store->facts.passage_prefix) != 0))
        return TQ_FAIL(err, EINVAL,
                       "%s has other chunks (%d tokens, %d of them shared) or prefixes: add --reembed to make it anew",
                       store->path, c->budget, c->overlap);
    return TOQUE_OK;
}

static toque_status open_store(tq_cli *cli, tq_ctx *ctx, const add_options *o, const char *path, tq_rag **store,
                               tq_cli_embedder *embedder, adding *a, toque_error *err) {
    toque_error absent = {0};
    toque_status found = tq_rag_open(store, ctx, path, true, &absent);
    if (found != TOQUE_OK && found != TOQUE_ENOTFOUND) {
        if (err) *err = absent;
        return found;
    }
    bool is_there = found == TOQUE_OK, anew = !is_there || o->reembed;
    if (!is_there && !o->embedder)
        return tq_cli_usage(cli, err,
                            "%s is a new store: name its embedder with --embedder M, or --embedder none for search "
                            "by words only",
                            path);
    const tq_rag_facts *f = is_there ? &(*store)->facts : NULL;
    const char *query = anew && tq_options_given(&cli->set, "query_prefix") ? o->query_prefix
                        : f                                                 ? f->query_prefix
                                                                            : "";
    const char *passage = anew && tq_options_given(&cli->set, "passage_prefix") ? o->passage_prefix
                          : f                                                   ? f->passage_prefix
                                                                                : "";
    const char *named = o->embedder ? o->embedder : f ? f->embedder : NULL;
    TQ_TRY(tq_cli_embedder_open(cli, ctx, named, query, passage, embedder, err));
    tq_chunk_options chunk;
    TQ_TRY(chunk_options(cli, o, embedder->e, &chunk, err));
    if (!is_there) return tq_rag_create(store, ctx, path, embedder->e, &chunk, err);
    if (!o->reembed) {
        TQ_TRY(tq_rag_check(*store, embedder->e, err));
        return check_shape(cli, o, *store, err);
    }
    tq_rag_close(*store);
    *store = NULL;
    tq_ingest_counts counts;
    TQ_TRY(tq_rag_rebuild(ctx, path, embedder->e, &chunk, show, a, &counts, err));
    if (a->started) tq_progress_end(&a->bar, NULL);
    a->started = false;
    a->counts.chunks = counts.chunks;
    tq_cli_note(cli, "%s: %zu documents made anew, %zu chunks", path, counts.documents[TQ_CHANGED], counts.chunks);
    return tq_rag_open(store, ctx, path, true, err);
}

static toque_status print_counts(tq_cli *cli, const adding *a, const tq_rag *store, toque_error *err) {
    const size_t *d = a->counts.documents;
    const tq_rag_facts *f = &store->facts;
    if (cli->common.json) {
        json_t *o = json_pack("{s:I, s:I, s:I, s:I, s:I, s:O, s:I}", "added", (json_int_t)d[TQ_ADDED], "changed",
                              (json_int_t)d[TQ_CHANGED], "unchanged", (json_int_t)d[TQ_UNCHANGED], "removed",
                              (json_int_t)d[TQ_REMOVED], "skipped", (json_int_t)d[TQ_SKIPPED], "failed", a->failed,
                              "chunks", (json_int_t)a->counts.chunks);
        if (o && f->calibrated)
            json_object_set_new(
                o, "threshold",
                json_pack("{s:f, s:f, s:I}", "value", f->threshold, "auc", f->auc, "pairs", (json_int_t)f->pairs));
        return tq_cli_json(cli, o, err);
    }
    printf("%s: %zu added, %zu changed, %zu unchanged, %zu removed, %zu failed; %zu chunks written\n", store->path,
           d[TQ_ADDED], d[TQ_CHANGED], d[TQ_UNCHANGED], d[TQ_REMOVED], d[TQ_FAILED], a->counts.chunks);
    if (d[TQ_SKIPPED]) tq_cli_note(cli, "%zu files of no known format were left out", d[TQ_SKIPPED]);
    if (f->calibrated && a->counts.chunks)
        tq_cli_note(cli,
                    "rag ask answers from a score of %.3f on (learned from %" PRId64
                    " headings, area under the curve %.3f)",
                    f->threshold, f->pairs, f->auc);
    return TOQUE_OK;
}

static toque_status add_all(tq_cli *cli, const add_options *o, adding *a, toque_error *err) {
    for (size_t i = 1; i < cli->set.n_positional; i++) {
        const char *path = cli->set.positional[i];
        if (o->sql)
            TQ_TRY(tq_ingest_sql(&a->in, path, o->sql, o->key, &a->counts, err));
        else
            TQ_TRY(tq_ingest_path(&a->in, path, o->name, &a->counts, err));
    }
    return TOQUE_OK;
}

static toque_status check_options(tq_cli *cli, const add_options *o, const tq_format **format, toque_error *err) {
    if (cli->set.n_positional < 2 && !o->reembed) return tq_cli_usage(cli, err, "no PATH to add");
    if (o->key && !o->sql) return tq_cli_usage(cli, err, "--key goes with --sql");
    if (o->sql && (o->format || o->include.len || o->exclude.len))
        return tq_cli_usage(cli, err, "--format, --include and --exclude are for files, not for --sql");
    *format = o->format ? tq_format_named(o->format) : NULL;
    if (o->format && !*format)
        return tq_cli_usage(cli, err, "there is no format '%.40s' (see docs/rag.md for the list)", o->format);
    if (o->language) { /* a bad one must not fail document by document */
        tq_analyzer *analyzer;
        TQ_TRY(tq_analyzer_new(&analyzer, &cli->mem, tq_cli_language(o->language), err));
        tq_analyzer_free(analyzer);
    }
    return TOQUE_OK;
}

static toque_status run_add(tq_cli *cli, void *given, toque_error *err) {
    const add_options *o = given;
    const char *path = cli->set.positional[0];
    tq_ctx *ctx;
    tq_rag *store = NULL;
    tq_cli_embedder embedder = {0};
    adding a = {.cli = cli};
    const tq_format *format = NULL;
    TQ_TRY(check_options(cli, o, &format, err));
    TQ_TRY(tq_cli_ctx(cli, &ctx, err));
    tq_cli_catch_interrupt(cli);
    if (cli->common.json && !(a.failed = json_array())) return TQ_NOMEM(err);
    toque_status status = read_pairs(cli, &o->meta, &a, err);
    if (status == TOQUE_OK) status = open_store(cli, ctx, o, path, &store, &embedder, &a, err);
    if (status == TOQUE_OK) {
        a.in = (tq_ingest){.store = store,
                           .embedder = embedder.e,
                           .include = o->include.items,
                           .n_include = o->include.len,
                           .exclude = o->exclude.items,
                           .n_exclude = o->exclude.len,
                           .pairs = a.pairs,
                           .n_pairs = a.n_pairs,
                           .language = tq_cli_language(o->language),
                           .format = format,
                           .report = tell,
                           .progress = show,
                           .arg = &a};
        status = add_all(cli, o, &a, err);
        if (a.started) tq_progress_end(&a.bar, NULL);
    }
    int64_t pairs;
    if (status == TOQUE_OK && a.counts.chunks) status = tq_rag_settle(store, err);
    if (status == TOQUE_OK && a.counts.chunks) status = tq_calibrate(store, embedder.e, &pairs, err);
    if (status == TOQUE_OK) status = print_counts(cli, &a, store, err);
    size_t failed = a.counts.documents[TQ_FAILED];
    if (status == TOQUE_OK && failed)
        status = TQ_FAIL(err, EFORMAT, "%zu of %zu documents could not be added; the others are in %s", failed,
                         a.counts.total, path);
    free_pairs(cli, &a);
    json_decref(a.failed);
    tq_rag_close(store);
    tq_cli_embedder_close(&embedder);
    return status;
}

const tq_command tq_cmd_rag_add = {
    .name = "rag add",
    .group = TQ_GROUP_CUSTOMIZE,
    .summary = "Add documents to a store, or bring them up to date",
    .usage = "STORE PATH|URL|-... [--embedder M]",
    .about =
        "STORE is one file, made by the first rag add, or a PostgreSQL database (postgresql://USER@HOST/DATABASE).\n"
        "PATH is a file or a folder: text, Markdown, HTML, PDF, docx, odt, xlsx, pptx, CSV, JSON, source code, man\n"
        "pages, mail; - is standard input. What has not changed is left alone, what has changed is replaced, and what\n"
        "is gone from a folder leaves the store. A file that cannot be read is reported, the others go on, and the "
        "exit\n"
        "status is 1. --json prints {\"added\", \"changed\", \"unchanged\", \"removed\", \"skipped\",\n"
        "\"failed\": [{\"document\", \"error\"}], \"chunks\", \"threshold\"}.",
    .example = "toque rag add docs.db --embedder none /usr/share/doc/debian-faq\n"
               "toque rag add docs.db handbook.pdf notes/ --exclude '*.bak' --meta team=support\n"
               "toque rag add shop.db shop.sqlite --sql 'SELECT id, title, text FROM articles' --embedder none",
    .tables = add_tables,
    .size = sizeof(add_options),
    .min_args = 1,
    .max_args = -1,
    .network = true,
    .run = run_add,
};

/* --- list -------------------------------------------------------------------------------------------------- */

typedef struct listing {
    tq_cli *cli;
    tq_rag *store;
} listing;

static json_t *metadata_of(tq_cli *cli, tq_rag *store, int64_t document) {
    tq_doc doc;
    json_t *o = json_object();
    tq_doc_init(&doc, store->mem);
    if (o && tq_rag_document(store, document, true, &doc, NULL) == TOQUE_OK)
        for (size_t i = 0; i < doc.n_pairs; i++)
            json_object_set_new(o, doc.pairs[i].key,
                                tq_cli_json_text(cli, doc.pairs[i].value, strlen(doc.pairs[i].value)));
    tq_doc_clear(&doc);
    return o;
}

static toque_status list_document(void *arg, const tq_listed *d, toque_error *err) {
    listing *l = arg;
    if (!l->cli->common.json) {
        printf("%6" PRId64 " %9" PRId64 "  %-12s %-2s  %s\n", d->chunks, d->bytes, d->format, d->language, d->uri);
        return TOQUE_OK;
    }
    return tq_cli_json(l->cli,
                       json_pack("{s:o, s:I, s:o, s:s, s:s, s:I, s:I, s:o}", "document",
                                 tq_cli_json_text(l->cli, d->uri, strlen(d->uri)), "id", (json_int_t)d->id, "title",
                                 tq_cli_json_text(l->cli, d->title, strlen(d->title)), "format", d->format, "language",
                                 d->language, "chunks", (json_int_t)d->chunks, "bytes", (json_int_t)d->bytes,
                                 "metadata", metadata_of(l->cli, l->store, d->id)),
                       err);
}

static toque_status run_list(tq_cli *cli, void *options, toque_error *err) {
    (void)options;
    tq_ctx *ctx;
    tq_rag *store;
    int64_t documents, chunks;
    TQ_TRY(tq_cli_ctx(cli, &ctx, err));
    TQ_TRY(tq_rag_open(&store, ctx, cli->set.positional[0], false, err));
    listing l = {cli, store};
    const tq_rag_facts *f = &store->facts;
    toque_status status = tq_rag_number(store, "SELECT count(*) FROM documents", &documents, err);
    if (status == TOQUE_OK) status = tq_rag_number(store, "SELECT count(*) FROM chunks", &chunks, err);
    if (status == TOQUE_OK) {
        tq_cli_note(cli,
                    "%s: %" PRId64 " documents, %" PRId64 " chunks of up to %d tokens; embedder %s, %" PRId64
                    " dimensions",
                    store->path, documents, chunks, f->chunk.budget, f->embedder, f->dim);
        if (documents && !cli->common.json) tq_cli_note(cli, "chunks     bytes  format       language, document");
        status = tq_rag_list(store, list_document, &l, err);
    }
    tq_rag_close(store);
    return status;
}

const tq_command tq_cmd_rag_list = {
    .name = "rag list",
    .group = TQ_GROUP_CUSTOMIZE,
    .summary = "List the documents of a store",
    .usage = "STORE",
    .about = "Chunks, bytes of text, format, language and name of each. --json prints a line a document: "
             "{\"document\", \"id\",\n"
             "\"title\", \"format\", \"language\", \"chunks\", \"bytes\", \"metadata\"}.",
    .example = "toque rag list docs.db",
    .min_args = 1,
    .max_args = 1,
    .run = run_list,
};

/* --- rm ---------------------------------------------------------------------------------------------------- */

typedef struct matching {
    tq_mem *mem;
    const char *pattern;
    int64_t *ids;
    size_t n, cap;
} matching;

static toque_status match(void *arg, const tq_listed *d, toque_error *err) {
    matching *m = arg;
    if (strcmp(m->pattern, d->uri) != 0 && fnmatch(m->pattern, d->uri, 0) != 0) return TOQUE_OK;
    if (!TQ_GROW(m->mem, m->ids, m->n, m->cap)) return TQ_NOMEM(err);
    m->ids[m->n++] = d->id;
    return TOQUE_OK;
}

static toque_status run_rm(tq_cli *cli, void *options, toque_error *err) {
    (void)options;
    tq_ctx *ctx;
    tq_rag *store;
    size_t removed = 0;
    TQ_TRY(tq_cli_ctx(cli, &ctx, err));
    TQ_TRY(tq_rag_open(&store, ctx, cli->set.positional[0], true, err));
    toque_status status = TOQUE_OK;
    for (size_t i = 1; i < cli->set.n_positional && status == TOQUE_OK; i++) {
        matching m = {.mem = store->mem, .pattern = cli->set.positional[i]};
        status = tq_rag_list(store, match, &m, err);
        if (status == TOQUE_OK && m.n == 0)
            status = TQ_FAIL(err, ENOTFOUND, "%s has no document %s (see toque rag list)", store->path, m.pattern);
        for (size_t j = 0; j < m.n && status == TOQUE_OK; j++, removed++) status = tq_rag_remove(store, m.ids[j], err);
        tq_free(store->mem, m.ids);
    }
    if (status == TOQUE_OK && cli->common.json)
        status = tq_cli_json(cli, json_pack("{s:I}", "removed", (json_int_t)removed), err);
    else if (status == TOQUE_OK)
        tq_cli_note(cli, "removed %zu documents", removed);
    tq_rag_close(store);
    return status;
}

const tq_command tq_cmd_rag_rm = {
    .name = "rag rm",
    .group = TQ_GROUP_CUSTOMIZE,
    .summary = "Take documents out of a store",
    .usage = "STORE DOCUMENT...",
    .about = "DOCUMENT is a name as rag list prints it, or a glob pattern. --json prints {\"removed\": N}.",
    .example = "toque rag rm docs.db handbook.pdf 'notes/*'",
    .min_args = 2,
    .max_args = -1,
    .run = run_rm,
};
