/* Runs llama.cpp's tokenizer cases: for every X.gguf of a folder that has X.gguf.inp and X.gguf.out beside it, each
 * text of .inp must give the token ids of the same line of .out, without BOS or EOS and with control tokens not
 * recognized (add_special = parse_special = false, as llama.cpp's own test calls it). Texts are separated by a line
 * that holds only the mark. Exit status 0 only if there was a case and all agree. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer.h"

static const char mark[] = "\n__ggml_vocab_test__\n";
enum { MAX_CASE_FILE = 1 << 22 };

static void show(const char *label, const tq_token *ids, size_t n) {
    printf("    %s", label);
    for (size_t i = 0; i < n; i++) printf(" %d", ids[i]);
    printf("\n");
}

/* Parses the numbers of one line; the count, or SIZE_MAX if there are more than cap. */
static size_t parse_ids(const char *line, const char *end, tq_token *ids, size_t cap) {
    size_t n = 0;
    while (line < end) {
        char *next;
        long id = strtol(line, &next, 10);
        if (next == line || next > end) break;
        if (n == cap) return SIZE_MAX;
        ids[n++] = (tq_token)id;
        line = next;
    }
    return n;
}

typedef struct tally {
    int cases, agreed, files;
} tally;

static bool one_case(const tq_tokenizer *tok, tq_mem *mem, const char *text, size_t n, const char *line,
                     const char *end) {
    static tq_token expected[4096];
    toque_error err;
    tq_tokens list = {.mem = mem};
    size_t count = parse_ids(line, end, expected, sizeof expected / sizeof *expected);
    if (tq_tokenize(tok, text, n, false, false, &list, &err) != TOQUE_OK) {
        printf("  error: %s\n", err.message);
        tq_tokens_clear(&list);
        return false;
    }
    bool same = list.len == count && (count == 0 || memcmp(list.ids, expected, count * sizeof *expected) == 0);
    if (!same) {
        printf("  differs: '%.*s'\n", (int)n, text);
        show("expected:", expected, count == SIZE_MAX ? 0 : count);
        show("got:     ", list.ids, list.len);
    }
    tq_tokens_clear(&list);
    return same;
}

static bool run_cases(const tq_tokenizer *tok, tq_mem *mem, const char *name, const char *in, const char *out,
                      tally *all) {
    int cases = 0, agreed = 0;
    while (*in) {
        const char *in_end = strstr(in, mark), *out_end = strchr(out, '\n');
        if (!in_end || !out_end) break;
        cases++;
        agreed += one_case(tok, mem, in, (size_t)(in_end - in), out, out_end);
        in = in_end + strlen(mark);
        out = out_end + 1;
    }
    printf("%-36s %d of %d cases agree\n", name, agreed, cases);
    all->cases += cases;
    all->agreed += agreed;
    all->files++;
    return agreed == cases && cases > 0;
}

static bool run_file(tq_mem *mem, const char *folder, const char *name, tally *all) {
    char path[1024], in_path[1040], out_path[1040];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    snprintf(in_path, sizeof in_path, "%s.inp", path);
    snprintf(out_path, sizeof out_path, "%s.out", path);
    if (!tq_path_exists(in_path) || !tq_path_exists(out_path)) return true;
    toque_error err;
    tq_gguf *gguf = NULL;
    tq_tokenizer *tok = NULL;
    char *in = NULL, *out = NULL;
    size_t in_len, out_len;
    bool ok = tq_gguf_open(&gguf, mem, path, &err) == TOQUE_OK &&
              tq_tokenizer_from_gguf(&tok, mem, gguf, &err) == TOQUE_OK &&
              tq_read_file(&in, &in_len, mem, in_path, MAX_CASE_FILE, &err) == TOQUE_OK &&
              tq_read_file(&out, &out_len, mem, out_path, MAX_CASE_FILE, &err) == TOQUE_OK;
    if (!ok)
        printf("%-36s %s\n", name, err.message);
    else
        ok = run_cases(tok, mem, name, in, out, all);
    tq_free(mem, in);
    tq_free(mem, out);
    tq_tokenizer_free(tok);
    tq_gguf_close(gguf);
    return ok;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: vocab_cases FOLDER (llama.cpp's models/ with ggml-vocab-*.gguf)\n");
        return 2;
    }
    struct dirent **names;
    int n = scandir(argv[1], &names, NULL, alphasort);
    if (n < 0) {
        fprintf(stderr, "vocab_cases: cannot read the folder %s\n", argv[1]);
        return 1;
    }
    tq_mem mem;
    tq_mem_init(&mem, 0);
    tally all = {0};
    bool ok = true;
    for (int i = 0; i < n; i++) {
        size_t len = strlen(names[i]->d_name);
        if (len > 5 && strcmp(names[i]->d_name + len - 5, ".gguf") == 0)
            ok = run_file(&mem, argv[1], names[i]->d_name, &all) && ok;
        free(names[i]);
    }
    free(names);
    printf("%d of %d cases in %d vocabularies agree with llama.cpp\n", all.agreed, all.cases, all.files);
    if (atomic_load(&mem.used) != 0) printf("%zu bytes were not freed\n", atomic_load(&mem.used));
    return ok && all.cases > 0 && atomic_load(&mem.used) == 0 ? 0 : 1;
}
