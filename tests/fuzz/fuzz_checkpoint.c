/* Any bytes as a checkpoint: an error that leaves the arrays as they were, or values and a place within bounds. */
#include <string.h>

#include "fuzz.h"
#include "train/checkpoint.h"

enum { N = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[40];
    int fd = fuzz_file(data, size, path);
    tq_mem mem = {0};
    toque_error err;
    tq_checkpoint_file *file;
    float arrays[4][N] = {{7, 7, 7, 7}};
    json_t *inputs = json_pack("{s:s, s:{s:i}}", "data", "abc", "recipe", "rank", 2);
    if (tq_checkpoint_open(&file, &mem, path, &err) == TOQUE_OK) {
        tq_checkpoint c = {.n = N,
                           .values = arrays[0],
                           .states = {arrays[1], arrays[2]},
                           .state_floats = {N, N},
                           .n_states = 2,
                           .best = tq_checkpoint_has_best(file) ? arrays[3] : NULL};
        toque_status status = tq_checkpoint_compare(tq_checkpoint_inputs(file), inputs, "RUN", &err);
        fuzz_require(status == TOQUE_OK || status == TOQUE_EINVAL);
        if (tq_checkpoint_read(file, &c, &err) == TOQUE_OK)
            fuzz_require(c.at.step >= 0 && c.at.evaluated >= -1 && c.at.best_step >= 0 && c.at.worse >= 0);
        else
            fuzz_require(arrays[0][0] == 7 && arrays[0][N - 1] == 7 && arrays[1][0] == 0);
        tq_checkpoint_close(file);
    }
    json_decref(inputs);
    close(fd);
    fuzz_check(&mem);
    return 0;
}
