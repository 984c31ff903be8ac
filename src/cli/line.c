/* Reading lines: see line.h. */
#include "cli/line.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef TQ_HAVE_LIBEDIT
#include <histedit.h>
#endif

struct tq_line {
    tq_mem *mem;
    const char *prompt;
    bool terminal;
    char *plain; /* getline's buffer: from malloc, as POSIX wants it */
    size_t cap;
#ifdef TQ_HAVE_LIBEDIT
    EditLine *edit;
    History *history;
#endif
};

#ifdef TQ_HAVE_LIBEDIT
static char *get_prompt(EditLine *edit) {
    static char none[] = "";
    tq_line *line = NULL;
    if (el_get(edit, EL_CLIENTDATA, &line) != 0 || !line) return none;
    return (char *)line->prompt;
}

/* Without an editor (a terminal that it does not know) plain reading is left. */
static void open_editor(tq_line *line) {
    HistEvent event;
    line->edit = el_init("toque", stdin, stdout, stderr);
    if (!line->edit) return;
    line->history = history_init();
    if (line->history) history(line->history, &event, H_SETSIZE, 500);
    el_set(line->edit, EL_CLIENTDATA, line);
    el_set(line->edit, EL_PROMPT, get_prompt);
    el_set(line->edit, EL_EDITOR, "emacs");
    if (line->history) el_set(line->edit, EL_HIST, history, line->history);
}

static void close_editor(tq_line *line) {
    if (line->history) history_end(line->history);
    if (line->edit) el_end(line->edit);
}

static const char *edit_line(tq_line *line, int *n) {
    const char *text = el_gets(line->edit, n);
    HistEvent event;
    if (text && *n > 1 && line->history) history(line->history, &event, H_ENTER, text);
    return text;
}
#endif

toque_status tq_line_open(tq_line **result, tq_mem *mem, const char *prompt, toque_error *err) {
    *result = NULL;
    tq_line *line = TQ_NEW(mem, tq_line);
    if (!line) return TQ_NOMEM(err);
    line->mem = mem;
    line->prompt = prompt;
    line->terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
#ifdef TQ_HAVE_LIBEDIT
    if (line->terminal) open_editor(line);
#endif
    *result = line;
    return TOQUE_OK;
}

void tq_line_close(tq_line *line) {
    if (!line) return;
#ifdef TQ_HAVE_LIBEDIT
    close_editor(line);
#endif
    free(line->plain);
    tq_free(line->mem, line);
}

bool tq_line_is_terminal(const tq_line *line) {
    return line->terminal;
}

static const char *plain_line(tq_line *line, int *n) {
    if (line->terminal) {
        fputs(line->prompt, stdout);
        fflush(stdout);
    }
    ssize_t got = getline(&line->plain, &line->cap, stdin);
    *n = (int)got;
    return got < 0 || got > INT_MAX ? NULL : line->plain;
}

tq_line_result tq_line_read(tq_line *line, tq_buf *text) {
    int n = 0;
    const char *got;
    errno = 0;
#ifdef TQ_HAVE_LIBEDIT
    got = line->edit ? edit_line(line, &n) : plain_line(line, &n);
#else
    got = plain_line(line, &n);
#endif
    if (!got || n < 0) {
        bool interrupted = errno == EINTR;
        clearerr(stdin);
        return interrupted ? TQ_LINE_INTERRUPTED : errno && errno != ENOTTY ? TQ_LINE_FAILED : TQ_LINE_END;
    }
    while (n > 0 && (got[n - 1] == '\n' || got[n - 1] == '\r')) n--;
    tq_buf_reset(text);
    if (tq_buf_put(text, got, (size_t)n)) return TQ_LINE_TEXT;
    errno = ENOMEM;
    return TQ_LINE_FAILED;
}
