/* Compares renderings of chat templates with transformers' (tools/reference/templates.py):
 *     template_cases [--all] TEMPLATES_FOLDER EXPECTED.jsonl [DUMP_FOLDER]
 * Prints how many agree and which differ; fails below 97 % of all, or if one of the most used templates differs; with
 * --all if any differs. With DUMP_FOLDER our renderings are written there. The folders: real templates out of
 * llama.cpp's archive, and data/templates, which are the forms of the most used families in words of our own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "text/template.h"

/* Each of these must agree in all cases. */
static const char *const common[] = {
    "HuggingFaceTB-SmolLM3-3B.jinja",
    "Qwen-Qwen2.5-7B-Instruct.jinja",
    "Qwen-Qwen3-0.6B.jinja",
    "Qwen-QwQ-32B.jinja",
    "Qwen3-Coder.jinja",
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B.jinja",
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B.jinja",
    "google-gemma-2-2b-it.jinja",
    "meta-llama-Llama-3.1-8B-Instruct.jinja",
    "meta-llama-Llama-3.2-3B-Instruct.jinja",
    "meta-llama-Llama-3.3-70B-Instruct.jinja",
    "microsoft-Phi-3.5-mini-instruct.jinja",
    "mistralai-Mistral-Nemo-Instruct-2407.jinja",
};

typedef struct counts {
    size_t all, equal, common_failed;
} counts;

static bool is_common(const char *name) {
    for (size_t i = 0; i < sizeof common / sizeof *common; i++)
        if (strcmp(common[i], name) == 0) return true;
    return false;
}

static void hash(const char *s, size_t n, char out[17]) {
    uint64_t h = 14695981039346656037ULL;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 1099511628211ULL;
    snprintf(out, 17, "%016llx", (unsigned long long)h);
}

/* Marks must cover the text without gaps, and neighbours differ. */
static bool good_marks(const tq_rendered *r) {
    size_t at = 0;
    for (size_t i = 0; i < r->n_marks; i++) {
        const tq_origin *a = &r->marks[i].origin, *b = i ? &r->marks[i - 1].origin : NULL;
        if (r->marks[i].start != at || r->marks[i].end <= at) return false;
        if (b && a->message == b->message && a->field == b->field && a->generation == b->generation) return false;
        at = r->marks[i].end;
    }
    return at == r->len;
}

static void dump(tq_mem *mem, const char *folder, const char *name, size_t i, const char *text, size_t n) {
    char file[600];
    toque_error err;
    snprintf(file, sizeof file, "%s/%s.%zu", folder, name, i);
    if (tq_write_file(mem, file, text, n, &err) != TOQUE_OK) fprintf(stderr, "%s\n", err.message);
}

static void one_case(tq_mem *mem, const tq_template *t, const toque_error *parse, const json_t *item, int64_t now,
                     const char *name, size_t i, const char *expected, const char *folder, counts *c) {
    toque_error err = *parse;
    tq_rendered r = {0};
    json_t *tools = json_object_get(item, "tools");
    tq_render_options o = {.messages = json_object_get(item, "messages"),
                           .tools = json_is_null(tools) ? NULL : tools,
                           .vars = json_object_get(item, "vars"),
                           .add_generation_prompt = json_is_true(json_object_get(item, "prompt")),
                           .now = now};
    char got[17] = "error";
    bool ok = t && tq_template_render(t, mem, &o, &r, &err) == TOQUE_OK, marks = !ok || good_marks(&r);
    if (ok) hash(r.text, r.len, got);
    bool equal = strcmp(got, expected) == 0 && marks;
    c->all++;
    c->equal += equal;
    if (!equal) {
        c->common_failed += is_common(name);
        printf("differs: %s case %zu (%s): %s\n", name, i, json_string_value(json_object_get(item, "name")),
               !marks ? "bad marks"
               : ok   ? "other text"
                      : err.message);
    }
    if (folder) dump(mem, folder, name, i, ok ? r.text : err.message, ok ? r.len : strlen(err.message));
    tq_rendered_clear(&r);
}

static bool one_template(tq_mem *mem, const char *templates, const json_t *line, const json_t *cases, int64_t now,
                         const char *folder, counts *c) {
    const char *name = json_string_value(json_object_get(line, "template"));
    const json_t *expected = json_object_get(line, "expected");
    if (!name || json_array_size(expected) != json_array_size(cases)) return false;
    char *path = tq_path_join(mem, templates, name), *source = NULL;
    size_t n;
    toque_error err = {0};
    tq_template *t = NULL;
    bool read = path && tq_read_file(&source, &n, mem, path, 1 << 24, &err) == TOQUE_OK;
    if (read) {
        if (tq_template_parse(&t, mem, source, n, name, &err) != TOQUE_OK) t = NULL;
        for (size_t i = 0; i < json_array_size(cases); i++)
            one_case(mem, t, &err, json_array_get(cases, i), now, name, i,
                     json_string_value(json_array_get(expected, i)), folder, c);
    } else {
        fprintf(stderr, "%s\n", err.message);
    }
    tq_template_free(t);
    tq_free(mem, source);
    tq_free(mem, path);
    return read;
}

int main(int argc, char **argv) {
    bool every = argc > 1 && strcmp(argv[1], "--all") == 0;
    if (every) argc--, argv++;
    if (argc < 3) {
        fprintf(stderr, "usage: template_cases [--all] TEMPLATES_FOLDER EXPECTED.jsonl [DUMP_FOLDER]\n");
        return 2;
    }
    setenv("TZ", "UTC", 1); /* the expected dates are UTC */
    tq_mem mem;
    tq_mem_init(&mem, 0);
    char *text;
    size_t n;
    toque_error err;
    if (tq_read_file(&text, &n, &mem, argv[2], 1 << 24, &err) != TOQUE_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    counts c = {0};
    json_t *head = NULL;
    bool good = true;
    for (char *line = text, *end; good && *line; line = end + 1) {
        end = strchr(line, '\n');
        if (!end) end = text + n - 1;
        json_t *json = json_loadb(line, (size_t)(end - line), 0, NULL);
        if (!head) {
            head = json;
            good = json_is_array(json_object_get(head, "cases"));
            continue;
        }
        good = one_template(&mem, argv[1], json, json_object_get(head, "cases"),
                            json_integer_value(json_object_get(head, "now")), argc > 3 ? argv[3] : NULL, &c);
        json_decref(json);
    }
    json_decref(head);
    tq_free(&mem, text);
    printf("%zu of %zu renderings agree (%.2f %%), %zu of the common templates' differ\n", c.equal, c.all,
           c.all ? 100.0 * (double)c.equal / (double)c.all : 0.0, c.common_failed);
    if (atomic_load(&mem.used)) printf("%zu bytes leaked\n", atomic_load(&mem.used));
    return !good || atomic_load(&mem.used) || c.common_failed || c.all < 100 ||
           c.equal * 100 < c.all * (every ? 100 : 97);
}
