/* A context with the small random model of tests/train/small_model.h, in f32 on two threads, for tests of this folder.
 */
#ifndef TEST_INFER_SMALL_H
#define TEST_INFER_SMALL_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../train/small_model.h"
#include "base/rng.h"

typedef struct small {
    char folder[64];
    tq_ctx *ctx;
    tq_model *model;
    size_t before; /* bytes in use before the model was opened */
    toque_error err;
} small;

#define OK(s, call)                                                                                                    \
    do {                                                                                                               \
        if ((call) != TOQUE_OK) fail_msg("%s", (s)->err.message);                                                      \
    } while (0)

static int small_open(void **state) {
    static small s;
    char path[128];
    memset(&s, 0, sizeof s);
    if (!small_folder(s.folder)) return -1;
    snprintf(path, sizeof path, "%s/m.gguf", s.folder);
    if (!small_model_write(path)) return -1;
    toque_status status = tq_ctx_new(&s.ctx, 2, 0, "f32", &s.err);
    if (status == TOQUE_OK) {
        s.before = s.ctx->mem.used;
        status = tq_model_open(&s.model, s.ctx, path, &s.err);
    }
    if (status != TOQUE_OK) {
        fprintf(stderr, "%s\n", s.err.message);
        return -1;
    }
    *state = &s;
    return 0;
}

static int small_close(void **state) {
    small *s = *state;
    tq_model_close(s->model);
    bool leaked = s->ctx->mem.used != s->before;
    tq_ctx_free(s->ctx);
    small_remove(s->folder);
    return leaked ? -1 : 0;
}

/* n letters that follow no rule. */
static inline void small_tokens(tq_token *tokens, int n, uint64_t seed) {
    tq_rng rng;
    tq_rng_init(&rng, seed, TQ_RNG_SPLIT, 0, 0);
    for (int i = 0; i < n; i++) tokens[i] = (tq_token)tq_rng_below(&rng, 256);
}

#endif
