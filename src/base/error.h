/* Building and forwarding errors. `TQ_FAIL` writes the sentence where the failure happened; callers
 * forward with `TQ_TRY` and may put what they know (a file, a row) in front with `tq_error_prefix`. */
#ifndef TQ_BASE_ERROR_H
#define TQ_BASE_ERROR_H

#include "toque.h"

#define TQ_MUST __attribute__((warn_unused_result))
#define TQ_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* Fills err (if not NULL) and returns code. The message says what was found and what was expected. */
toque_status tq_fail(toque_error *err, toque_status code, const char *format, ...) TQ_PRINTF(3, 4);
/* Puts "text: " in front of err's message; returns err's code. For callers that know the file or row. */
toque_status tq_error_prefix(toque_error *err, toque_status code, const char *format, ...) TQ_PRINTF(3, 4);

/* The value is the code itself, so that the compiler knows that it is not OK. */
#define TQ_FAIL(err, code, ...) ((void)tq_fail((err), TOQUE_##code, __VA_ARGS__), TOQUE_##code)
#define TQ_NOMEM(err) TQ_FAIL(err, ENOMEM, "out of memory (raise --max-memory or use a smaller input)")
/* Returns from the calling function when `call` fails; for functions that own nothing yet. */
#define TQ_TRY(call)                                                                                                   \
    do {                                                                                                               \
        toque_status tq_try_ = (call);                                                                                 \
        if (tq_try_ != TOQUE_OK) return tq_try_;                                                                       \
    } while (0)
/* The same for functions with a `done:` label that frees, and a variable `toque_status status`. */
#define TQ_GO(call)                                                                                                    \
    do {                                                                                                               \
        status = (call);                                                                                               \
        if (status != TOQUE_OK) goto done;                                                                             \
    } while (0)

#endif
