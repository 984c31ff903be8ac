/* toque: adapt a pretrained language model to your own case on an ordinary CPU.
 *
 * This is the one public header. The handles stand in a line, each outliving what is made from it:
 *
 *     toque_ctx > toque_model > toque_adapter > toque_session
 *
 * Every fallible function returns a toque_status and takes a `toque_error *` last (NULL is allowed):
 * a code and one sentence that was written where the failure happened. The library never exits, aborts
 * or prints, and keeps no process-global state.
 */
#ifndef TOQUE_H
#define TOQUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
/* The library is built with hidden symbols; what stands in this header is what it exports. */
#pragma GCC visibility push(default)

/* X(name, text): the one list of status codes. */
#define TOQUE_STATUS_LIST(X)                                                                                           \
    X(OK, "no error")                                                                                                  \
    X(ENOMEM, "out of memory")                                                                                         \
    X(EIO, "input/output failure")                                                                                     \
    X(EFORMAT, "malformed input")                                                                                      \
    X(EUNSUPPORTED, "valid input of a kind that is not supported")                                                     \
    X(EINVAL, "invalid argument")                                                                                      \
    X(ENOTFOUND, "no such thing")                                                                                      \
    X(EBUSY, "still in use")                                                                                           \
    X(ECANCELED, "canceled")                                                                                           \
    X(ENONFINITE, "a value became infinite or not a number")                                                           \
    X(ELIMIT, "over a limit")                                                                                          \
    X(EINTERNAL, "a bug in toque")

typedef enum toque_status {
#define X(name, text) TOQUE_##name,
    TOQUE_STATUS_LIST(X)
#undef X
} toque_status;

typedef struct toque_error {
    toque_status code;
    char message[600]; /* one line of UTF-8, no final newline or full stop needed */
} toque_error;

/* The name of a status ("ENOMEM"), for logs. Static storage. */
const char *toque_status_name(toque_status status);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
