/* toque rag label: shows passages of a store and takes down what a person asks about them, as rag eval reads it. The
 * file is whole after every question, and a later run goes on with the passages that have none. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "cli/line.h"
#include "cli/rag.h"
#include "rag/question.h"
#include "text/unicode.h"

enum { LEAST_BYTES = 120, MOST_BYTES = 64 << 20 };

typedef struct label_options {
    int64_t seed;
} label_options;

static const tq_option table[] = {{.key = "seed",
                                   .type = TQ_OPT_INT,
                                   .offset = offsetof(label_options, seed),
                                   .fallback = "1",
                                   .min = 0,
                                   .max = 9007199254740991.0,
                                   .help = "draws the order of the passages"},
                                  {0}};
static const tq_cli_table tables[] = {{table, 0}, {0}};

typedef struct labelling {
    tq_cli *cli;
    tq_rag *store;
    const char *path;
    tq_line *line;
    tq_buf file, typed; /* file: its lines, as they are */
    char prompt[80];    /* the line's, another for each thing that is asked */
    size_t added;
    bool quit;
} labelling;

/* --- the file -------------------------------------------------------------------------------------------------- */

static toque_status load(labelling *l, toque_error *err) {
    char *data;
    size_t n;
    if (!tq_path_exists(l->path)) return TOQUE_OK;
    TQ_TRY(tq_read_file(&data, &n, &l->cli->mem, l->path, MOST_BYTES, err));
    tq_buf_put(&l->file, data, n);
    if (n && data[n - 1] != '\n') tq_buf_putc(&l->file, '\n');
    tq_free(&l->cli->mem, data);
    TQ_TRY(tq_buf_status(&l->file, l->path, err));
    for (size_t at = 0, line = 1; at < l->file.len; line++) { /* what is no question file is not written over */
        size_t end = at + strcspn(l->file.data + at, "\n");
        json_error_t e;
        json_t *o = json_loadb(l->file.data + at, end - at, 0, &e);
        bool is_question = json_string_value(json_object_get(o, "question")), blank = end == at;
        json_decref(o);
        if (!is_question && !blank)
            return TQ_FAIL(err, EFORMAT, "%s:%zu: no question of rag eval; name another file", l->path, line);
        at = end + 1;
    }
    return TOQUE_OK;
}

/* "document#start-end", by which a passage's question is found again. */
static void identity(tq_buf *out, const tq_passage_info *p) {
    tq_buf_reset(out);
    tq_buf_printf(out, "%s#%" PRId64 "-%" PRId64, p->uri, p->start, p->end);
    tq_buf_putc(out, 0);
}

static bool is_labelled(const labelling *l, const char *id) {
    bool found = false;
    for (size_t at = 0; at < l->file.len && !found;) {
        size_t end = at + strcspn(l->file.data + at, "\n");
        json_t *o = json_loadb(l->file.data + at, end - at, 0, NULL);
        const char *own = json_string_value(json_object_get(o, "id"));
        found = own && strcmp(own, id) == 0;
        json_decref(o);
        at = end + 1;
    }
    return found;
}

/* Appends a question and saves the file. Takes the reference. */
static toque_status save(labelling *l, json_t *o, toque_error *err) {
    char *text = o ? json_dumps(o, 0) : NULL;
    json_decref(o);
    if (!text) return TQ_NOMEM(err);
    tq_buf_puts(&l->file, text);
    tq_buf_putc(&l->file, '\n');
    free(text);
    TQ_TRY(tq_buf_status(&l->file, l->path, err));
    TQ_TRY(tq_write_file(&l->cli->mem, l->path, l->file.data, l->file.len, err));
    l->added++;
    return TOQUE_OK;
}

/* --- the person ------------------------------------------------------------------------------------------------ */

/* What is typed, without blanks around; l->quit at the end of input. */
static toque_status ask(labelling *l, const char *what, const char **text, toque_error *err) {
    snprintf(l->prompt, sizeof l->prompt, "%s", what);
    fflush(stdout);
    *text = "";
    tq_line_result got = tq_line_read(l->line, &l->typed);
    if (got == TQ_LINE_FAILED) return TQ_FAIL(err, EIO, "standard input: %s", strerror(errno));
    if (got != TQ_LINE_TEXT) {
        l->quit = true;
        printf("\n");
        return TOQUE_OK;
    }
    char *s = l->typed.data + strspn(l->typed.data, " \t\r");
    size_t n = strlen(s);
    while (n && strchr(" \t\r", s[n - 1])) n--;
    s[n] = 0;
    *text = s;
    l->quit = strcmp(s, "/quit") == 0;
    if (tq_utf8_valid_prefix(s, n) != n) return TQ_FAIL(err, EINVAL, "what was typed is not valid UTF-8");
    return TOQUE_OK;
}

/* The answer to a question about a passage, and the question saved; an answer that the passage has not is asked for
 * again, and none leaves the document alone. */
static toque_status take_answer(labelling *l, const tq_passage_info *p, const char *id, json_t *o, tq_arena *arena,
                                toque_error *err) {
    const char *answer, *sentence = NULL;
    toque_status status;
    json_object_set_new(o, "id", tq_cli_json_text(l->cli, id, strlen(id)));
    json_object_set_new(o, "document", tq_cli_json_text(l->cli, p->uri, strlen(p->uri)));
    for (;;) {
        TQ_TRY(ask(l, "answer, in words of the passage (Enter: none)> ", &answer, err));
        if (l->quit) answer = "";
        if (!*answer) break;
        status = tq_question_sentence(l->store, p, answer, arena, &sentence, err);
        if (status != TOQUE_OK && status != TOQUE_EINVAL) return status;
        if (status == TOQUE_OK && sentence) break;
        printf("No sentence of the passage has these words.\n");
    }
    if (sentence) {
        json_object_set_new(o, "answer", tq_cli_json_text(l->cli, answer, strlen(answer)));
        json_object_set_new(o, "sentence", tq_cli_json_text(l->cli, sentence, strlen(sentence)));
    }
    return save(l, json_incref(o), err);
}

static toque_status label_passage(labelling *l, const tq_passage_info *p, const char *id, tq_arena *arena,
                                  toque_error *err) {
    const char *text;
    printf("\n");
    tq_cli_print_place(p, p->start, p->end);
    printf("\n\n%.*s\n\n", (int)p->text_len, p->text);
    for (;;) {
        TQ_TRY(ask(l, "question (Enter: next passage)> ", &text, err));
        if (l->quit || !*text) return TOQUE_OK;
        bool none = strncmp(text, "/none ", 6) == 0;
        json_t *o = json_pack("{s:s}", "question", none ? text + 6 + strspn(text + 6, " ") : text);
        if (!o) return TQ_NOMEM(err);
        toque_status status;
        if (none) {
            json_object_set_new(o, "answerable", json_false());
            status = save(l, json_incref(o), err);
        } else {
            status = take_answer(l, p, id, o, arena, err);
        }
        json_decref(o);
        if (status != TOQUE_OK || l->quit || !none) return status;
    }
}

static toque_status label(labelling *l, uint64_t seed, toque_error *err) {
    int64_t *chunks;
    size_t n, shown = 0;
    tq_buf id;
    TQ_TRY(tq_question_passages(l->store, LEAST_BYTES, seed, &chunks, &n, err));
    tq_buf_init(&id, &l->cli->mem, 1 << 20);
    toque_status status = TOQUE_OK;
    for (size_t i = 0; i < n && status == TOQUE_OK && !l->quit; i++) {
        tq_arena arena;
        tq_passage_info p;
        tq_arena_init(&arena, l->store->mem, 1 << 14);
        status = tq_rag_passage(l->store, chunks[i], &arena, &p, err);
        if (status == TOQUE_OK) identity(&id, &p);
        if (status == TOQUE_OK) status = tq_buf_status(&id, "a passage's name", err);
        if (status == TOQUE_OK && !is_labelled(l, id.data)) {
            shown++;
            status = label_passage(l, &p, id.data, &arena, err);
        }
        tq_arena_clear(&arena);
    }
    if (status == TOQUE_OK && !shown) tq_cli_note(l->cli, "every passage has a question");
    tq_buf_clear(&id);
    tq_free(l->store->mem, chunks);
    return status;
}

static toque_status run(tq_cli *cli, void *given, toque_error *err) {
    const label_options *o = given;
    labelling l = {.cli = cli, .path = cli->set.positional[1]};
    tq_ctx *ctx;
    tq_buf_init(&l.file, &cli->mem, SIZE_MAX / 4);
    tq_buf_init(&l.typed, &cli->mem, 1 << 20);
    TQ_TRY(tq_cli_ctx(cli, &ctx, err));
    TQ_TRY(tq_rag_open(&l.store, ctx, cli->set.positional[0], false, err));
    toque_status status = load(&l, err);
    if (status == TOQUE_OK) status = tq_line_open(&l.line, &cli->mem, l.prompt, err);
    if (status == TOQUE_OK && tq_line_is_terminal(l.line))
        tq_cli_note(cli,
                    "/none QUESTION: one without an answer in the documents; /quit or Ctrl-D: end. All is saved "
                    "in %s at once.",
                    l.path);
    if (status == TOQUE_OK) status = label(&l, (uint64_t)o->seed, err);
    if (l.added) tq_cli_note(cli, "%zu questions added to %s", l.added, l.path);
    tq_line_close(l.line);
    tq_buf_clear(&l.file);
    tq_buf_clear(&l.typed);
    tq_rag_close(l.store);
    return status;
}

const tq_command tq_cmd_rag_label = {
    .name = "rag label",
    .group = TQ_GROUP_CUSTOMIZE,
    .summary = "Take down questions about a store's passages, for rag eval",
    .usage = "STORE QUESTIONS [--seed S]",
    .about =
        "Shows one passage after the other, in an order drawn by --seed, and asks for a question about it and the\n"
        "answer in words of the passage. /none QUESTION takes down one that the documents do not answer, Enter goes\n"
        "on to the next passage, /quit or Ctrl-D ends. QUESTIONS is saved whole after each; a later run shows the\n"
        "passages that have none yet. See toque rag eval.",
    .example = "toque rag label docs.db questions.jsonl",
    .tables = tables,
    .size = sizeof(label_options),
    .min_args = 2,
    .max_args = 2,
    .run = run,
};
