/* Any bytes as a --config file of toque tune's recipe: an error, or options that are written and read again as they
 * are. */
#include <string.h>

#include "fuzz.h"
#include "train/recipe.h"

typedef struct options {
    tq_mem mem;
    tq_option_set set;
    tq_recipe recipe;
    tq_buf yaml;
} options;

static toque_status read_options(options *o, const void *data, size_t size) {
    static const tq_option *const tables[] = {tq_recipe_table, NULL};
    char path[40];
    int fd = fuzz_file(data, size, path);
    toque_error err;
    void *targets[] = {&o->recipe};
    memset(o, 0, sizeof *o);
    tq_options_init(&o->set, &o->mem, (const tq_option **)(uintptr_t)tables, targets);
    toque_status status = tq_options_defaults(&o->set, &err);
    fuzz_require(status == TOQUE_OK);
    status = tq_options_yaml(&o->set, path, false, &err);
    tq_buf_init(&o->yaml, &o->mem, 1 << 24);
    fuzz_require(status != TOQUE_OK || tq_options_to_yaml(&o->set, 0, &o->yaml));
    close(fd);
    return status;
}

static void clear(options *o) {
    tq_buf_clear(&o->yaml);
    tq_options_clear(&o->set);
    fuzz_check(&o->mem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    options first, second;
    if (read_options(&first, data, size) == TOQUE_OK) {
        /* What is chosen later (a max_length of 0) may be out of bounds until then. */
        if (read_options(&second, first.yaml.data, first.yaml.len) == TOQUE_OK) {
            fuzz_require(first.yaml.len == second.yaml.len);
            fuzz_require(memcmp(first.yaml.data, second.yaml.data, first.yaml.len) == 0);
        }
        clear(&second);
    }
    clear(&first);
    return 0;
}
