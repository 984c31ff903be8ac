/* Runs a fuzz target over the files of the folders given, each whole, and with cuts and changed bytes that depend
 * on nothing but the file. Fails when there is no input; a target that finds a fault traps. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/rng.h"
#include "fuzz.h"

enum { MUTATIONS = 200 };

/* A copy of exactly n bytes, so that a sanitizer sees the first one read past the end. */
static void run(const uint8_t *data, size_t n) {
    uint8_t *copy = malloc(n ? n : 1);
    fuzz_require(copy != NULL);
    if (n) memcpy(copy, data, n);
    LLVMFuzzerTestOneInput(copy, n);
    free(copy);
}

static void mutate(uint8_t *data, size_t n, uint32_t number) {
    tq_rng rng;
    tq_rng_init(&rng, number, TQ_RNG_SAMPLE, (uint32_t)n, 0);
    for (uint32_t i = 0; n && i < MUTATIONS; i++) {
        uint32_t at = tq_rng_below(&rng, (uint32_t)n);
        uint8_t old = data[at];
        data[at] = i % 2 ? (uint8_t)tq_rng_u32(&rng) : old ^ (uint8_t)(1u << i / 2 % 8);
        run(data, i % 4 == 3 ? tq_rng_below(&rng, (uint32_t)n) : n);
        data[at] = old;
    }
}

static int replay(tq_mem *mem, const char *folder) {
    DIR *dir = opendir(folder);
    if (!dir) return 0;
    int count = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        char *path = tq_path_join(mem, folder, e->d_name), *data;
        size_t n;
        toque_error err;
        fuzz_require(path != NULL);
        if (e->d_name[0] != '.' && !tq_path_is_dir(path)) {
            if (tq_read_file(&data, &n, mem, path, 1 << 20, &err) != TOQUE_OK) {
                fprintf(stderr, "%s\n", err.message);
                exit(1);
            }
            run((const uint8_t *)data, n);
            mutate((uint8_t *)data, n, (uint32_t)strlen(e->d_name));
            tq_free(mem, data);
            count++;
        }
        tq_free(mem, path);
    }
    closedir(dir);
    return count;
}

int main(int argc, char **argv) {
    tq_mem mem = {0};
    int count = 0;
    for (int i = 1; i < argc; i++) count += replay(&mem, argv[i]);
    printf("%d inputs, each with %d mutations\n", count, MUTATIONS);
    return count > 0 && mem.used == 0 ? 0 : 1;
}
