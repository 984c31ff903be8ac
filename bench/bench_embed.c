/* Embeddings of all-MiniLM-L6-v2 (folder in TOQUE_TEST_EMBEDDER): texts of 100 words, in f32 and bf16, on two threads.
 * Tokenization and pooling are part of the time, loading is not.
 *
 *   bench_embed [--json] [f32|bf16]    the best of some rounds, as tokens a second (and texts a second)
 *   bench_embed --texts                the texts, a line each, for bench/peers/sentence_transformers_rate.py */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "infer/embed.h"

enum { TEXTS = 64, WORDS = 100, ROUNDS = 5, MAX_TEXT = 2048, THREADS = 2 };

static const char *const words[] = {
    "time",    "person",  "year",     "way",      "day",    "thing",  "world",   "school",  "state",  "family",
    "student", "group",   "country",  "problem",  "hand",   "part",   "place",   "case",    "week",   "company",
    "system",  "program", "question", "work",     "number", "night",  "point",   "home",    "water",  "room",
    "mother",  "area",    "money",    "story",    "fact",   "month",  "lot",     "right",   "study",  "book",
    "eye",     "job",     "word",     "business", "issue",  "side",   "kind",    "head",    "house",  "service",
    "friend",  "father",  "power",    "hour",     "game",   "line",   "end",     "member",  "law",    "car",
    "city",    "name",    "team",     "minute",   "idea",   "body",   "back",    "parent",  "face",   "others",
    "level",   "office",  "door",     "health",   "art",    "war",    "history", "party",   "result", "change",
    "morning", "reason",  "research", "girl",     "guy",    "moment", "air",     "teacher", "force",  "education"};

static char texts[TEXTS][MAX_TEXT];

static void make_texts(void) {
    uint32_t x = 1;
    for (int i = 0; i < TEXTS; i++)
        for (int w = 0, at = 0; w < WORDS; w++) {
            x = x * 1664525u + 1013904223u;
            at += snprintf(texts[i] + at, (size_t)(MAX_TEXT - at), "%s%s", w ? " " : "",
                           words[(x >> 8) % (sizeof words / sizeof *words)]);
        }
}

static toque_status measure(const char *compute, bool json, toque_error *err) {
    static tq_string list[TEXTS];
    tq_ctx *ctx;
    tq_model *model = NULL;
    tq_embedder *e = NULL;
    float *out = NULL;
    const char *path = getenv("TOQUE_TEST_EMBEDDER");
    if (!path)
        return TQ_FAIL(err, EINVAL, "TOQUE_TEST_EMBEDDER must name the folder that script/fetch-embedder prints");
    TQ_TRY(tq_ctx_new(&ctx, THREADS, 0, compute, err));
    toque_status status;
    TQ_GO(tq_model_open(&model, ctx, path, err));
    TQ_GO(tq_embedder_new(&e, model, NULL, err));
    out = tq_alloc(&ctx->mem, TEXTS * (size_t)tq_embedder_dim(e), sizeof *out);
    if (!out) {
        status = TQ_NOMEM(err);
        goto done;
    }
    for (int i = 0; i < TEXTS; i++) list[i] = (tq_string){texts[i], strlen(texts[i])};
    double best = 0;
    size_t tokens = 0;
    for (int r = 0; r <= ROUNDS; r++) { /* the first warms up */
        tq_embed_stats stats = {0};
        double start = tq_now();
        TQ_GO(tq_embed(e, list, TEXTS, false, out, &stats, err));
        double seconds = tq_now() - start;
        tokens = stats.tokens;
        if (r && (best <= 0 || seconds < best)) best = seconds;
    }
    if (json)
        printf("{\"bench\": \"embed %s\", \"value\": %.0f, \"unit\": \"tokens/s\"}\n", compute, (double)tokens / best);
    else
        printf("%s: %.0f tokens/s, %.1f texts/s of %d words (%zu tokens each)\n", compute, (double)tokens / best,
               TEXTS / best, WORDS, tokens / TEXTS);
done:
    tq_free(&ctx->mem, out);
    tq_embedder_free(e);
    tq_model_close(model);
    tq_ctx_free(ctx);
    return status;
}

int main(int argc, char **argv) {
    bool json = false;
    const char *only = NULL;
    make_texts();
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--texts") == 0) {
            for (int t = 0; t < TEXTS; t++) puts(texts[t]);
            return 0;
        }
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else
            only = argv[i];
    }
    static const char *const computes[] = {"f32", "bf16"};
    for (int i = 0; i < 2; i++) {
        toque_error err;
        if (only && strcmp(only, computes[i]) != 0) continue;
        if (measure(computes[i], json, &err) == TOQUE_OK) continue;
        fprintf(stderr, "bench_embed: %s\n", err.message);
        return 1;
    }
    return 0;
}
