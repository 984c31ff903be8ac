/* One file over HTTP(S) into one local file, through libcurl (whose global initialization is the program's). A
 * transfer that broke goes on where it stopped, in this call and in later ones, as long as the server's strong
 * ETag says that the file is the same (If-Range, RFC 9110 section 13.1.5). Redirects are followed here, so that the
 * token goes to its own origin only and https never falls back to http. */
#ifndef TQ_MODELS_FETCH_H
#define TQ_MODELS_FETCH_H

#include "base/io.h"

typedef struct tq_fetch {
    const char *url;
    const char *part;         /* receives the bytes; part.json beside it remembers url and ETag between calls */
    const char *token;        /* bearer token or NULL */
    const char *token_origin; /* the URL whose scheme, host and port may see the token */
    /* false cancels (ECANCELED; what arrived is kept). total 0: unknown. Called some times a second. May be NULL. */
    bool (*progress)(void *arg, uint64_t done, uint64_t total);
    void *arg;
} tq_fetch;

/* Returns with the whole file in part, synced, and in *held a descriptor that keeps it locked against other processes
 * until it is closed (-1 after a failure). sha256 receives what a Hugging Face Hub says of it (X-Linked-Etag), or
 * "". EBUSY while another process fetches the same part; ENOTFOUND for 404 and 410; EINVAL where a token is needed. */
toque_status tq_fetch_file(const tq_fetch *fetch, tq_mem *mem, int *held, char sha256[65], toque_error *err) TQ_MUST;
/* Removes part and part.json. */
void tq_fetch_forget(tq_mem *mem, const char *part);

#endif
