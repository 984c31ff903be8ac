/* The loss curve. See curve.h. The plot is a grid of dots, 2 x 4 of them in a braille character (U+2800 + a bit for
 * each dot), one in an ASCII character. A column of dots shows the mean of the steps that fall into it. */
#include "runs/curve.h"

#include <math.h>
#include <string.h>

typedef struct plot {
    int w, h;            /* dots */
    int sx, sy;          /* dots in a character */
    uint8_t *dots;       /* [h, w] */
    double low, high;    /* of the losses shown */
    int64_t first, last; /* steps */
} plot;

static void widen(plot *p, double y) {
    if (y < p->low) p->low = y;
    if (y > p->high) p->high = y;
}

static int column(const plot *p, int64_t step) {
    return p->last > p->first ? (int)((double)(step - p->first) * (p->w - 1) / (double)(p->last - p->first) + 0.5) : 0;
}

static int line_of(const plot *p, double y) {
    double part = p->high > p->low ? (p->high - y) / (p->high - p->low) : 0.5;
    int row = (int)(part * (p->h - 1) + 0.5);
    return row < 0 ? 0 : row >= p->h ? p->h - 1 : row;
}

/* Joins the means of neighbouring columns by vertical strokes. */
static void draw_line(plot *p, const tq_metrics_point *points, size_t n) {
    int before = -1, x_before = 0;
    for (size_t i = 0; i < n;) {
        int x = column(p, points[i].step), count = 0;
        double sum = 0;
        for (; i < n && column(p, points[i].step) == x; i++) sum += points[i].value, count++;
        int y = line_of(p, sum / count);
        if (before < 0) before = y, x_before = x;
        for (int c = x_before; c <= x; c++) { /* few steps: columns between two of them are filled in */
            int at = x > x_before ? before + (y - before) * (c - x_before) / (x - x_before) : y;
            int from = c > x_before ? before + (y - before) * (c - 1 - x_before) / (x - x_before) : at;
            for (int r = from < at ? from : at; r <= (from < at ? at : from); r++) p->dots[r * p->w + c] = 1;
        }
        before = y, x_before = x;
    }
}

static void put_cell(const plot *p, tq_buf *out, int cx, int cy, bool unicode) {
    static const uint8_t bit[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    unsigned code = 0;
    bool eval = false;
    for (int r = 0; r < p->sy; r++)
        for (int c = 0; c < p->sx; c++) {
            int dot = p->dots[(cy * p->sy + r) * p->w + cx * p->sx + c];
            if (dot == 2) eval = true;
            if (dot == 1) code |= bit[r][c];
        }
    if (eval || !unicode || !code) {
        tq_buf_putc(out, eval ? 'o' : code ? '*' : ' ');
        return;
    }
    code += 0x2800;
    char utf8[3] = {(char)(0xE0 | code >> 12), (char)(0x80 | (code >> 6 & 0x3F)), (char)(0x80 | (code & 0x3F))};
    tq_buf_put(out, utf8, 3);
}

bool tq_curve_draw(tq_mem *mem, tq_buf *out, const tq_metrics_series *s, tq_curve_style style) {
    if (s->n_loss < 2 || style.width < 8 || style.height < 2) return true;
    plot p = {.sx = style.unicode ? 2 : 1, .sy = style.unicode ? 4 : 1, .low = HUGE_VAL, .high = -HUGE_VAL};
    p.w = style.width * p.sx, p.h = style.height * p.sy;
    p.first = s->loss[0].step, p.last = s->loss[s->n_loss - 1].step;
    for (size_t i = 0; i < s->n_loss; i++) widen(&p, s->loss[i].value);
    for (size_t i = 0; i < s->n_eval; i++) {
        widen(&p, s->eval[i].value);
        if (s->eval[i].step < p.first) p.first = s->eval[i].step;
    }
    p.dots = TQ_NEW_ARRAY(mem, uint8_t, (size_t)p.w * (size_t)p.h);
    if (!p.dots) return false;
    draw_line(&p, s->loss, s->n_loss);
    for (size_t i = 0; i < s->n_eval; i++)
        if (s->eval[i].step <= p.last) p.dots[line_of(&p, s->eval[i].value) * p.w + column(&p, s->eval[i].step)] = 2;
    for (int y = 0; y < style.height; y++) {
        if (y == 0 || y == style.height - 1)
            tq_buf_printf(out, "%8.3f ", y == 0 ? p.high : p.low);
        else
            tq_buf_puts(out, "         ");
        tq_buf_puts(out, style.unicode ? "\xE2\x94\x82" : "|");
        for (int x = 0; x < style.width; x++) put_cell(&p, out, x, y, style.unicode);
        while (out->len && out->data[out->len - 1] == ' ') out->data[--out->len] = 0;
        tq_buf_putc(out, '\n');
    }
    tq_buf_puts(out, style.unicode ? "         \xE2\x94\x94" : "         +");
    for (int x = 0; x < style.width; x++) tq_buf_puts(out, style.unicode ? "\xE2\x94\x80" : "-");
    tq_buf_printf(out, "\n          step %lld%*s%lld   %s loss%s\n", (long long)p.first, style.width - 16, "",
                  (long long)p.last, style.unicode ? "\xE2\xA0\x89" : "*", s->n_eval ? ", o held out" : "");
    tq_free(mem, p.dots);
    return !out->failed;
}
