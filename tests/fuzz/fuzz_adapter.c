/* Any bytes as a PEFT folder: up to the first NUL they are adapter_config.json, the rest is adapter_model.safetensors.
 * An error, or an adapter that fits the model and holds finite values. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../train/small_model.h"
#include "fuzz.h"
#include "model/adapter.h"

static struct {
    char folder[64], config[96], tensors[96];
    tq_ctx *ctx;
    tq_model *model;
} base;

__attribute__((destructor)) static void close_base(void) {
    tq_model_close(base.model);
    tq_ctx_free(base.ctx);
    if (base.folder[0]) small_remove(base.folder);
}

static void open_base(void) {
    char path[96];
    toque_error err;
    fuzz_require(small_folder(base.folder));
    snprintf(path, sizeof path, "%s/m.gguf", base.folder);
    snprintf(base.config, sizeof base.config, "%s/adapter_config.json", base.folder);
    snprintf(base.tensors, sizeof base.tensors, "%s/adapter_model.safetensors", base.folder);
    fuzz_require(small_model_write(path));
    fuzz_require(tq_ctx_new(&base.ctx, 1, (size_t)256 << 20, "f32", &err) == TOQUE_OK);
    fuzz_require(tq_model_open(&base.model, base.ctx, path, &err) == TOQUE_OK);
    fuzz_require(tq_model_hash(base.model)[0] != 0);
}

/* The folder has links to files that no folder holds: nothing is written to disk. */
static void place(const char *link, const char *path) {
    (void)unlink(link);
    fuzz_require(symlink(path, link) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!base.model) open_base();
    const uint8_t *nul = memchr(data, 0, size);
    size_t n = nul ? (size_t)(nul - data) : size, rest = nul ? size - n - 1 : 0;
    char config[40], tensors[40];
    int a_fd = fuzz_file(data, n, config), b_fd = fuzz_file(nul ? nul + 1 : data, rest, tensors);
    place(base.config, config);
    place(base.tensors, tensors);
    size_t before = base.ctx->mem.used;
    tq_adapter *a;
    toque_error err;
    if (tq_adapter_load(&a, base.model, base.folder, &err) == TOQUE_OK) {
        for (size_t i = 0; i < a->n; i++) fuzz_require(isfinite(a->values[i]));
        tq_adapter_free(a);
    } else {
        fuzz_require(a == NULL && err.message[0] != 0);
    }
    close(a_fd);
    close(b_fd);
    fuzz_require(base.ctx->mem.used == before);
    return 0;
}
