/* Masks on every chat template of a folder (llama.cpp's collection): what is learned is each answer and the end of its
 * turn, nothing of user or system; what stands before an answer is what the model is given when it serves. */
#include <dirent.h>
#include <regex.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "tiny.h"
#include "train/mask.h"

enum { MAX_SPECIALS = 140 };

typedef struct specials {
    char *items[MAX_SPECIALS + 1];
    size_t n;
} specials;

static void add_special(specials *s, const char *text, size_t n) {
    for (size_t i = 0; i < s->n; i++)
        if (strlen(s->items[i]) == n && memcmp(s->items[i], text, n) == 0) return;
    if (s->n == MAX_SPECIALS) return;
    s->items[s->n++] = strndup(text, n);
    s->items[s->n] = NULL;
}

/* What ends an answer, the likeliest first; the first that a template contains is its model's EOS. */
static const char *const ends[] = {"<|im_end|>",
                                   "<|eot_id|>",
                                   "<|return|>",
                                   "<end_of_turn>",
                                   "<turn|>",
                                   "<|END_OF_TURN_TOKEN|>",
                                   "<end_of_sentence>",
                                   "<|role_end|>",
                                   "<|eot|>",
                                   "<|end_of_msg|>",
                                   "<|message_sep|>",
                                   "<|end_of_text|>",
                                   "<SPECIAL_12>",
                                   "<|eom|>",
                                   "[e~[",
                                   "<seed:eos>",
                                   "<｜end▁of▁sentence｜>",
                                   "<|assistant_end|>",
                                   "<|end|>",
                                   "<|endoftext|>",
                                   "<|flush|>",
                                   "</assistant>",
                                   "<sep>",
                                   "</s>",
                                   "<|user|>"};
static const char *const known[] = {
    "<s>",        "</s>",       "[INST]",       "[/INST]",         "<start_of_turn>",  "<|turn>",
    "]~b]",       "]~!b[",      "<seed:bos>",   "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CALLS]",
    "<think>",    "</think>",   "<seed:think>", "</seed:think>",   "<tool_call>",      "</tool_call>",
    "<|channel>", "<channel|>", "<assistant>",  "<user>",          "</user>",          "<system>",
    "</system>"};

static void find_specials(specials *s, const char *text) {
    regex_t r;
    if (regcomp(&r, "<\\|[A-Za-z0-9_ ]{1,40}\\|>|<｜[^<>{}' ]{1,60}｜>", REG_EXTENDED)) exit(2);
    regmatch_t m;
    for (const char *at = text; regexec(&r, at, 1, &m, 0) == 0; at += m.rm_eo)
        add_special(s, at + m.rm_so, (size_t)(m.rm_eo - m.rm_so));
    regfree(&r);
    /* Some write '<|' + role + '|>'. */
    static const char *const roles[] = {"<|user|>", "<|assistant|>", "<|system|>", "<|tool|>"};
    if (strstr(text, "'<|' + ") || strstr(text, "'<|'+") || strstr(text, "\"<|\" + "))
        for (size_t i = 0; i < 4; i++) add_special(s, roles[i], strlen(roles[i]));
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strstr(text, known[i])) add_special(s, known[i], strlen(known[i]));
}

typedef struct check {
    tiny *t;
    json_t *messages, *tools;
    bool
        marked; /* the template has {% generation %}: its author says what is learned, turn headers may be part of it */
    int examples, learned[16]; /* learned[i]: how often message i's answer was learned */
    int unclosed, partial, split;
    char why[400];
} check;

static void because(check *c, const char *format, ...) {
    if (c->why[0]) return;
    va_list args;
    va_start(args, format);
    vsnprintf(c->why, sizeof c->why, format, args);
    va_end(args);
    for (char *p = c->why; *p; p++)
        if (*p == '\n') *p = '~';
}

static char *decode(const tiny *t, const tq_token *tokens, int n, tq_buf *out) {
    tq_buf_reset(out);
    for (int i = 0; i < n; i++)
        if (!tq_detokenize(t->model.tokenizer, tokens[i], i == 0, true, out)) exit(2);
    return out->data;
}

static const char *text_of(const check *c, int i) {
    return json_string_value(json_object_get(json_array_get(c->messages, (size_t)i), "content"));
}

/* The tokens before the answer are those of the generation prompt's rendering, or its beginning. */
static void check_served(check *c, int message, const tq_masked *m, int n, tq_buf *buf) {
    json_t *before = json_array();
    for (int i = 0; i < message; i++) json_array_append(before, json_array_get(c->messages, (size_t)i));
    tq_rendered r;
    toque_error err;
    tq_tokens list = {.mem = &c->t->ctx.mem};
    if (tq_model_render(&c->t->model, before, c->tools, NULL, true, &r, &err) == TOQUE_OK &&
        tq_model_tokenize_rendered(&c->t->model, &r, &list, &err) == TOQUE_OK) {
        size_t k = 0;
        while (k < list.len && k < (size_t)n && list.ids[k] == m->tokens[k]) k++;
        if (k < (size_t)n) {
            because(c, "before answer %d: \"...%s\" is not what is served", message,
                    decode(c->t, m->tokens + k, n - (int)k, buf));
        } else if (k < list.len) {
            c->partial++;
        }
    } else {
        because(c, "no generation prompt before message %d: %s", message, err.message);
    }
    tq_rendered_clear(&r);
    tq_tokens_clear(&list);
    json_decref(before);
}

static void check_run(check *c, const tq_masked *m, int from, int to, tq_buf *buf) {
    char *text = decode(c->t, m->tokens + from, to - from, buf);
    int answer = -1, n = (int)json_array_size(c->messages);
    for (int i = 0; i < n; i++) {
        const char *role = json_string_value(json_object_get(json_array_get(c->messages, (size_t)i), "role"));
        const char *found = strstr(text, text_of(c, i));
        if (!found) continue;
        if (strcmp(role, "assistant") != 0) because(c, "learns a %s's text: %s", role, text);
        if (answer >= 0) because(c, "two answers in one run: %s", text);
        answer = i;
    }
    if (answer < 0) {
        because(c, "learns what is no answer: %s", text);
        return;
    }
    c->learned[answer]++;
    while (c->marked && to > from + 1 && strspn(decode(c->t, m->tokens + to - 1, 1, buf), "\n") == 1) to--;
    text = decode(c->t, m->tokens + from, to - from, buf);
    bool closed = tq_tokenizer_is_end(c->t->model.tokenizer, m->tokens[to - 1]);
    if (!closed && !m->unclosed) because(c, "no end of turn: %s", text);
    char *tail = strstr(text, text_of(c, answer)) + strlen(text_of(c, answer));
    if (!closed && *tail) because(c, "something behind an open answer: %s", text);
    check_served(c, answer, m, from, buf);
}

static toque_status on_example(void *arg, const tq_masked *m, toque_error *err) {
    check *c = arg;
    (void)err;
    tq_buf buf;
    tq_buf_init(&buf, &c->t->ctx.mem, 1 << 20);
    c->examples++;
    c->unclosed += m->unclosed;
    c->split += m->split;
    for (int i = 0; i < m->n;) {
        int k = i;
        while (k < m->n && m->target[k]) k++;
        if (k > i) check_run(c, m, i, k, &buf);
        i = k > i ? k : i + 1;
    }
    tq_buf_clear(&buf);
    return TOQUE_OK;
}

static const char *const conversations[] = {
    "[{\"role\":\"user\",\"content\":\"question one\"},{\"role\":\"assistant\",\"content\":\"first reply.\"}]",
    "[{\"role\":\"user\",\"content\":\"question one\"},{\"role\":\"assistant\",\"content\":\"first reply.\"},"
    "{\"role\":\"user\",\"content\":\"question two\"},{\"role\":\"assistant\",\"content\":\"second\\nreply\"},"
    "{\"role\":\"user\",\"content\":\"question three\"},{\"role\":\"assistant\",\"content\":\"third reply <b>\"}]",
    "[{\"role\":\"system\",\"content\":\"system speech\"},{\"role\":\"user\",\"content\":\"question one\"},"
    "{\"role\":\"assistant\",\"content\":\"first reply.\"},{\"role\":\"user\",\"content\":\"question two <|im_end|>\"},"
    "{\"role\":\"assistant\",\"content\":\"second reply <|im_end|> </s> more\"}]"};

static void run(check *c, const char *conversation) {
    toque_error err = {0};
    c->messages = json_loads(conversation, 0, NULL);
    memset(c->learned, 0, sizeof c->learned);
    tq_mask_row row = {.messages = c->messages, .tools = c->tools};
    toque_status status = tq_mask_messages(&c->t->model, &row, on_example, c, &err);
    if (status != TOQUE_OK) because(c, "%s", err.message);
    for (size_t i = 0; i < json_array_size(c->messages) && status == TOQUE_OK; i++) {
        const char *role = json_string_value(json_object_get(json_array_get(c->messages, i), "role"));
        if (!strcmp(role, "assistant") && c->learned[i] != 1)
            because(c, "answer %zu is learned %d times", i, c->learned[i]);
    }
    json_decref(c->messages);
}

typedef struct tally {
    int templates, hold, refused, split, partial, unclosed;
} tally;

/* A template that refuses a system message is asked without one. */
static bool refuses(tiny *t, const char *conversation, json_t *tools, char *why, size_t n) {
    json_t *messages = json_loads(conversation, 0, NULL);
    tq_rendered r = {0};
    toque_error err = {0};
    toque_status status = tq_model_render(&t->model, messages, tools, NULL, false, &r, &err);
    tq_rendered_clear(&r);
    json_decref(messages);
    snprintf(why, n, "%s", err.message);
    return status != TOQUE_OK;
}

static void one_template(const char *name, const char *text, size_t n, tally *sum) {
    specials s = {.n = 0};
    find_specials(&s, text);
    const char *eos = NULL;
    for (size_t i = 0; i < sizeof ends / sizeof ends[0] && !eos; i++)
        if (strstr(text, ends[i])) eos = ends[i];
    if (strstr(text, "hy_eos")) eos = "<｜hy_eos:opensource｜>";
    if (!eos && strstr(text, "eos_token")) eos = "</s>";
    if (eos) add_special(&s, eos, strlen(eos));
    add_special(&s, "<BOS>", 5);
    tiny t;
    sum->templates++;
    if (!tiny_open(&t, (const char *const *)s.items, "<BOS>", eos, true, text, n)) {
        printf("  FAILS  %s: cannot be read\n", name);
        for (size_t i = 0; i < s.n; i++) free(s.items[i]);
        return;
    }
    check c = {.t = &t, .marked = strstr(text, "% generation") != NULL || strstr(text, "%- generation") != NULL};
    json_t *tools =
        json_loads("[{\"type\":\"function\",\"function\":{\"name\":\"look\",\"description\":\"d\",\"parameters\":"
                   "{\"type\":\"object\",\"properties\":{},\"required\":[]}}}]",
                   0, NULL);
    char remarks[600] = "", why[300];
    for (size_t i = 0; i < sizeof conversations / sizeof conversations[0]; i++) {
        c.tools = NULL;
        if (refuses(&t, conversations[i], NULL, why, sizeof why)) c.tools = tools; /* some want tools */
        if (refuses(&t, conversations[i], c.tools, why, sizeof why))
            snprintf(remarks + strlen(remarks), sizeof remarks - strlen(remarks), " [refuses conversation %zu: %s]",
                     i + 1, why);
        else
            run(&c, conversations[i]);
    }
    json_decref(tools);
    if (c.examples == 0) {
        printf("  cannot %s: it needs more than messages and tools%s\n", name, remarks);
        sum->refused++;
        tiny_close(&t);
        for (size_t i = 0; i < s.n; i++) free(s.items[i]);
        return;
    }
    printf("  %s  %s:%s%s%s%s%s%s\n", c.why[0] ? "FAILS" : "holds", name, c.split ? " one example per turn;" : "",
           c.partial ? " answers follow a part of the generation prompt;" : "",
           c.unclosed ? " NO END-OF-TURN TOKEN (reported);" : "", c.why[0] ? " " : "", c.why, remarks);
    sum->hold += !c.why[0];
    sum->split += c.split > 0;
    sum->partial += c.partial > 0;
    sum->unclosed += c.unclosed > 0;
    tiny_close(&t);
    if (t.ctx.mem.used) printf("  FAILS  %s: %zu bytes leaked\n", name, (size_t)t.ctx.mem.used), sum->hold--;
    for (size_t i = 0; i < s.n; i++) free(s.items[i]);
}

static int is_template(const struct dirent *e) {
    size_t n = strlen(e->d_name);
    return n > 6 && strcmp(e->d_name + n - 6, ".jinja") == 0;
}

int main(int argc, char **argv) {
    const char *models = getenv("TOQUE_TEST_LLAMA_CPP_MODELS");
    char folder[1000], path[1400];
    snprintf(folder, sizeof folder, "%s/templates", models ? models : "");
    struct dirent **entries;
    int n = models ? scandir(folder, &entries, is_template, alphasort) : -1;
    if (n <= 0) {
        fprintf(stderr, "TOQUE_TEST_LLAMA_CPP_MODELS must name llama.cpp's folder models/ with its templates/\n");
        return 1;
    }
    tally sum = {0};
    for (int i = 0; i < n; i++) {
        tq_mem mem = {0};
        char *text;
        size_t size;
        toque_error err;
        snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        if (argc > 1 && !strstr(path, argv[1])) continue;
        if (tq_read_file(&text, &size, &mem, path, 1 << 22, &err) != TOQUE_OK) {
            fprintf(stderr, "%s\n", err.message);
            return 1;
        }
        one_template(entries[i]->d_name, text, size, &sum);
        tq_free(&mem, text);
        free(entries[i]);
    }
    free(entries);
    printf("%d templates: %d hold, %d cannot be rendered from messages and tools; %d become one example per turn, %d "
           "follow a part of the generation prompt, %d have no "
           "end-of-turn token\n",
           sum.templates, sum.hold, sum.refused, sum.split, sum.partial, sum.unclosed);
    return sum.hold > 0 && sum.hold + sum.refused == sum.templates && sum.refused * 20 < sum.templates ? 0 : 1;
}
