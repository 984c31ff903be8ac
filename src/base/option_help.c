/* The options part of --help, in two columns:
 *
 *     -m, --model M               what it is, wrapped (default: 8; from 1 to 4096)
 *
 * See option.h. */
#include "base/option_impl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { COLUMN = 30, WIDTH = 100 };

static const char *placeholder(const tq_option *o) {
    static const char *const by_type[] = {
        [TQ_OPT_FLAG] = "",     [TQ_OPT_INT] = "N",      [TQ_OPT_NUMBER] = "X",   [TQ_OPT_TEXT] = "TEXT",
        [TQ_OPT_LIST] = "TEXT", [TQ_OPT_BYTES] = "SIZE", [TQ_OPT_CHOICE] = "NAME"};
    return o->value ? o->value : by_type[o->type];
}

static void left_column(const tq_option *o, tq_buf *line) {
    bool on = o->type == TQ_OPT_FLAG && o->fallback && strcmp(o->fallback, "on") == 0;
    if (o->letter)
        tq_buf_printf(line, "  -%c, --", o->letter);
    else
        tq_buf_puts(line, "      --");
    if (on) tq_buf_puts(line, "[no-]");
    for (const char *k = o->key; *k; k++) tq_buf_putc(line, *k == '_' ? '-' : *k);
    if (o->type != TQ_OPT_FLAG) tq_buf_printf(line, " %s%s", placeholder(o), o->type == TQ_OPT_LIST ? "..." : "");
}

/* " (a|b|c; default: 8; 1 to 64)" */
static void remarks(const tq_option *o, tq_buf *text) {
    const char *separator = " (";
    if (o->type == TQ_OPT_CHOICE) {
        tq_buf_printf(text, "%s%s", separator, o->choices);
        separator = "; ";
    }
    bool silent = !o->fallback || !*o->fallback || (o->type == TQ_OPT_FLAG && strcmp(o->fallback, "off") == 0);
    if (!silent) {
        tq_buf_printf(text, "%sdefault: %s", separator, o->fallback);
        separator = "; ";
    }
    bool ranged = (o->type == TQ_OPT_INT || o->type == TQ_OPT_NUMBER) && (o->min != 0 || o->max != 0);
    if (ranged) {
        char min[40], max[40];
        tq_option_number(o->min, min);
        tq_option_number(o->max, max);
        if (o->max < o->min || isinf(o->max))
            tq_buf_printf(text, "%sat least %s", separator, min);
        else if (isinf(o->min))
            tq_buf_printf(text, "%sat most %s", separator, max);
        else
            tq_buf_printf(text, "%s%s to %s", separator, min, max);
        separator = "; ";
    }
    if (*separator == ';') tq_buf_putc(text, ')');
}

/* Breaks text at blanks so that no line passes WIDTH; lines after the first begin in COLUMN. */
static void wrap(tq_buf *out, const char *text) {
    size_t at = COLUMN;
    for (const char *word = text; *word;) {
        size_t n = strcspn(word, " ");
        if (at > COLUMN && at + 1 + n > WIDTH) {
            tq_buf_printf(out, "\n%*s", COLUMN, "");
            at = COLUMN;
        } else if (at > COLUMN) {
            tq_buf_putc(out, ' ');
            at++;
        }
        tq_buf_put(out, word, n);
        at += n;
        word += n + strspn(word + n, " ");
    }
    tq_buf_putc(out, '\n');
}

bool tq_options_help(const tq_option_set *set, tq_buf *out) {
    tq_buf line, text;
    tq_buf_init(&line, set->arena.mem, 1000);
    tq_buf_init(&text, set->arena.mem, 4000);
    for (int t = 0; set->tables[t]; t++) {
        bool common = t > 0 && !set->tables[t + 1];
        if (t == 0 || common) tq_buf_printf(out, "%s%s:\n", t ? "\n" : "", common ? "Common options" : "Options");
        for (const tq_option *o = set->tables[t]; o->key; o++) {
            tq_buf_reset(&line);
            tq_buf_reset(&text);
            left_column(o, &line);
            tq_buf_puts(&text, o->help);
            remarks(o, &text);
            if (line.len + 2 > COLUMN)
                tq_buf_printf(out, "%s\n%*s", line.data, COLUMN, "");
            else
                tq_buf_printf(out, "%-*s", COLUMN, line.data);
            wrap(out, text.data);
            if (line.failed || text.failed) out->failed = true;
        }
    }
    tq_buf_clear(&line);
    tq_buf_clear(&text);
    return !out->failed;
}
