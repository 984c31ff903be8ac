/* See tiny.h. */
#include "tiny.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files/safetensors.h"

double tiny_number(const char *name, uint32_t i) {
    uint32_t h = 0x811C9DC5;
    for (; *name; name++) h = (h ^ (uint8_t)*name) * 0x01000193u;
    uint32_t x = i * 2654435761u + h;
    x = (x ^ x >> 16) * 0x7FEB352Du;
    x = (x ^ x >> 15) * 0x846CA68Bu;
    x ^= x >> 16;
    return (double)(x >> 8) / (1 << 24) - 0.5;
}

static bool put_file(const tiny *t, const char *name, const char *text, size_t n) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", t->dir, name);
    FILE *f = fopen(path, "w");
    bool ok = f && fwrite(text, 1, n, f) == n;
    if (f) ok = fclose(f) == 0 && ok;
    return ok;
}

static bool copy_tokenizer(const tiny *t, const char *tokenizers) {
    static char text[1 << 20];
    char path[512];
    snprintf(path, sizeof path, "%s/%s.json", tokenizers, t->encoder ? "bert" : "gpt2");
    FILE *f = fopen(path, "r");
    size_t n = f ? fread(text, 1, sizeof text, f) : 0;
    if (f) fclose(f);
    return n && put_file(t, "tokenizer.json", text, n);
}

static bool put_tensors(const tiny *t) {
    tq_mem mem;
    tq_mem_init(&mem, 0);
    toque_error err = {0};
    tq_save_tensor save[TINY_TENSORS];
    char path[128];
    bool ok = true;
    for (int i = 0; i < t->n_tensors; i++) {
        const struct tiny_tensor *x = &t->tensors[i];
        uint32_t n = (uint32_t)(x->rows ? x->rows * x->cols : x->cols);
        float *data = malloc(n * sizeof *data);
        ok = ok && data;
        for (uint32_t k = 0; data && k < n; k++) data[k] = (float)(x->base + x->scale * tiny_number(x->name, k));
        save[i] = (tq_save_tensor){.name = x->name, .type = TQ_F32, .n_dims = x->rows ? 2 : 1, .data = data};
        save[i].dims[0] = x->rows ? x->rows : x->cols;
        save[i].dims[1] = x->cols;
    }
    snprintf(path, sizeof path, "%s/model.safetensors", t->dir);
    ok = ok && tq_safetensors_save(&mem, path, save, (size_t)t->n_tensors, NULL, 0, &err) == TOQUE_OK;
    for (int i = 0; i < t->n_tensors; i++) free((void *)(uintptr_t)save[i].data);
    return ok;
}

static bool take_line(tiny *t, const char *kind, char *rest) {
    if (strcmp(kind, "config") == 0) return put_file(t, "config.json", rest, strlen(rest));
    if (strcmp(kind, "tensor") == 0) {
        struct tiny_tensor *x = &t->tensors[t->n_tensors++];
        char gradient[32];
        int n = sscanf(rest, "%95s %d %d %lf %lf %31s", x->name, &x->rows, &x->cols, &x->base, &x->scale, gradient);
        x->has_gradient = gradient[0] != '-' || gradient[1];
        x->gradient = x->has_gradient ? strtod(gradient, NULL) : 0;
        return n == 6;
    }
    bool tokens = strcmp(kind, "tokens") == 0;
    t->encoder = t->encoder || strcmp(kind, "hidden") == 0;
    char *end = rest;
    for (int i = 0;; i++) {
        double v = strtod(rest, &end);
        if (end == rest) return tokens ? i == TINY_TOKENS : i > 0;
        rest = end;
        if (tokens)
            t->tokens[i] = (int32_t)v;
        else
            t->values[t->n_values++] = v;
    }
}

bool tiny_write(tiny *t, const char *family, const char *families_path, const char *tokenizers) {
    static char line[1 << 14];
    *t = (tiny){.dir = "/tmp/toque-test-XXXXXX"};
    snprintf(t->family, sizeof t->family, "%s", family);
    FILE *f = fopen(families_path, "r");
    bool ok = f && mkdtemp(t->dir);
    while (ok && fgets(line, sizeof line, f)) {
        char name[16], kind[16];
        int at = 0;
        if (sscanf(line, "%15s %15s %n", name, kind, &at) == 2 && strcmp(name, family) == 0)
            ok = take_line(t, kind, line + at);
    }
    if (f) fclose(f);
    ok = ok && t->n_tensors && put_tensors(t) && copy_tokenizer(t, tokenizers);
    if (!ok) fprintf(stderr, "cannot make the tiny model %s\n", family);
    return ok;
}

void tiny_remove(tiny *t) {
    static const char *const names[] = {"config.json", "tokenizer.json", "model.safetensors", "model.gguf"};
    char path[128];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", t->dir, names[i]);
        unlink(path);
    }
    rmdir(t->dir);
}
