/* Progress lines. See progress.h. A terminal gets one line that is rewritten; anything else (a log file, a
 * pipe) gets a plain line every few seconds and one at the end. */
#include "base/progress.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { BAR = 24 };
static const double TERMINAL_PERIOD = 0.1, PLAIN_PERIOD = 5; /* seconds between two lines */

void tq_progress_start(tq_progress *p, FILE *to, const char *what, const char *unit, uint64_t total, uint64_t first) {
    const char *term = getenv("TERM");
    bool terminal = to && isatty(fileno(to)) && !(term && strcmp(term, "dumb") == 0);
    double now = tq_now();
    *p = (tq_progress){.to = to,
                       .terminal = terminal,
                       .what = what,
                       .unit = unit,
                       .total = total,
                       .started = now,
                       .shown = terminal ? 0 : now,
                       .done = first,
                       .first = first};
}

/* "1.2k", "3.4M": three digits are enough to read while it moves. */
static void short_number(char out[24], double x) {
    static const char units[] = " kMGT";
    int u = 0;
    while (x >= 9999.5 && u < 4) x /= 1000, u++;
    int n = snprintf(out, 24, x >= 100 || x == (double)(long long)x ? "%.0f" : "%.1f", x);
    if (u && n < 22) out[n] = units[u], out[n + 1] = 0;
}

static void short_time(char out[24], double seconds) {
    long long s = seconds < 1e9 ? (long long)(seconds + 0.5) : 1000000000;
    if (s >= 3600)
        snprintf(out, 24, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out, 24, "%lld:%02lld", s / 60, s % 60);
}

static int terminal_width(FILE *to) {
    struct winsize size;
    return ioctl(fileno(to), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/* Rewrites the line, blanks behind it: no escape sequence, so NO_COLOR has nothing left to forbid. One column a
 * UTF-8 character is near enough. */
static void rewrite_line(FILE *to, const char *line, bool last) {
    int columns = terminal_width(to) - 1, bytes = 0;
    for (; line[bytes]; bytes++)
        if ((line[bytes] & 0xC0) != 0x80 && columns-- <= 0) break;
    fprintf(to, "\r%.*s%*s%s", bytes, line, columns > 0 ? columns : 0, "", last ? "\n" : "");
}

static void show(tq_progress *p, double now, const char *note, bool last) {
    char line[512], count[24], total[24], rate[24], left[24], bar[BAR + 3] = "";
    double seconds = now - p->started, made = p->done > p->first ? (double)(p->done - p->first) : 0;
    double speed = seconds > 0 ? made / seconds : 0;
    double part = p->total ? (double)p->done / (double)p->total : 0;
    if (part > 1) part = 1;
    short_number(count, (double)p->done);
    short_number(total, (double)p->total);
    short_number(rate, speed);
    if (last)
        short_time(left, seconds);
    else if (p->total && speed > 0)
        short_time(left, p->total > p->done ? (double)(p->total - p->done) / speed : 0);
    else
        snprintf(left, sizeof left, "?");
    if (p->terminal && p->total) {
        int full = (int)(part * BAR);
        bar[0] = ' ';
        for (int i = 0; i < BAR; i++) bar[1 + i] = i < full ? '#' : '-';
    }
    int n = snprintf(line, sizeof line, "%s%s", p->what, bar);
    if (p->total && n > 0 && n < (int)sizeof line)
        n += snprintf(line + n, sizeof line - (size_t)n, " %3d%% %s/%s", (int)(part * 100), count, total);
    else if (n > 0 && n < (int)sizeof line)
        n += snprintf(line + n, sizeof line - (size_t)n, " %s", count);
    if (n > 0 && n < (int)sizeof line)
        snprintf(line + n, sizeof line - (size_t)n, " %s, %s/s, %s%s%s%s", p->unit, rate, left, last ? "" : " left",
                 note && *note ? ", " : "", note ? note : "");
    if (p->terminal)
        rewrite_line(p->to, line, last);
    else
        fprintf(p->to, "%s\n", line);
    fflush(p->to);
    p->shown = now;
}

void tq_progress_update(tq_progress *p, uint64_t done, const char *note) {
    p->done = done;
    if (!p->to) return;
    double now = tq_now();
    if (now - p->shown >= (p->terminal ? TERMINAL_PERIOD : PLAIN_PERIOD)) show(p, now, note, false);
}

void tq_progress_end(tq_progress *p, const char *note) {
    if (!p->to) return;
    show(p, tq_now(), note, true);
    p->to = NULL;
}
