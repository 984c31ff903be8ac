/* tq_pull_model for test_pull.py: SOURCE [NAME|-] [SHA256|-] [STOP_AFTER_BYTES]. Prints the name in the store, or the
 * status and the message, and exits with 0 or 1. */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/pull.h"

static bool stop_after(void *arg, uint64_t done, uint64_t total) {
    const unsigned long long *limit = arg;
    (void)total;
    return *limit == 0 || done < *limit;
}

int main(int argc, char **argv) {
    if (argc < 2 || curl_global_init(CURL_GLOBAL_DEFAULT) != 0) return 2;
    tq_mem mem = {0};
    toque_error err;
    char *name;
    unsigned long long limit = argc > 4 ? strtoull(argv[4], NULL, 10) : 0;
    const tq_pull pull = {.source = argv[1],
                          .name = argc > 2 && strcmp(argv[2], "-") ? argv[2] : NULL,
                          .sha256 = argc > 3 && strcmp(argv[3], "-") ? argv[3] : NULL,
                          .progress = stop_after,
                          .arg = &limit};
    toque_status status = tq_pull_model(&name, &mem, &pull, &err);
    if (status == TOQUE_OK)
        printf("%s\n", name);
    else
        printf("%s: %s\n", toque_status_name(status), err.message);
    tq_free(&mem, name);
    curl_global_cleanup();
    if (mem.used != 0) {
        printf("%zu bytes leaked\n", (size_t)mem.used);
        return 3;
    }
    return status == TOQUE_OK ? 0 : 1;
}
