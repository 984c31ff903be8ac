/* Lines from a person or a pipe: with editing and history (libedit, where the build has it) on a terminal, plain
 * reading elsewhere. */
#ifndef TQ_CLI_LINE_H
#define TQ_CLI_LINE_H

#include "base/buf.h"
#include "base/error.h"

typedef struct tq_line tq_line;
/* prompt is shown on a terminal; the text stays the caller's. */
toque_status tq_line_open(tq_line **line, tq_mem *mem, const char *prompt, toque_error *err) TQ_MUST;
void tq_line_close(tq_line *line);
/* True when a person types: standard input and output are terminals. */
bool tq_line_is_terminal(const tq_line *line);
typedef enum tq_line_result { TQ_LINE_TEXT, TQ_LINE_END, TQ_LINE_INTERRUPTED, TQ_LINE_FAILED } tq_line_result;
/* The next line without its newline, NUL-terminated. FAILED: errno tells. */
tq_line_result tq_line_read(tq_line *line, tq_buf *text);

#endif
