/* What a head says of a row, as the columns that predict writes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/predict.h"
#include "runs/figures.h"

void tq_predict_names(const tq_head *h, const char **answer, const char **probability) {
    static const char *const names[] = {"label", "labels", "value", "spans"};
    *answer = names[h->kind];
    *probability = h->kind == TQ_HEAD_CLASS ? "probability" : h->kind == TQ_HEAD_LABELS ? "probabilities" : NULL;
}

/* A list for JSON; for a table its items with bars between. */
static char *list_text(tq_mem *mem, json_t *list, bool csv) {
    tq_buf out;
    tq_buf_init(&out, mem, SIZE_MAX / 4);
    size_t i;
    json_t *item;
    if (csv) {
        json_array_foreach(list, i, item) {
            if (i) tq_buf_putc(&out, '|');
            if (json_is_string(item))
                tq_buf_puts(&out, json_string_value(item));
            else
                tq_buf_printf(&out, "%.6g", json_real_value(item));
        }
    } else {
        char *text = json_dumps(list, JSON_REAL_PRECISION(6));
        if (text) tq_buf_puts(&out, text);
        if (!text) out.failed = true;
        free(text); /* jansson's own memory */
    }
    tq_buf_puts(&out, "");
    char *taken = out.failed ? NULL : tq_buf_take(&out);
    tq_buf_clear(&out);
    return taken;
}

static toque_status labels_of(const tq_head *h, tq_mem *mem, float *y, bool csv, tq_prediction *p, toque_error *err) {
    json_t *names = json_array(), *shares = json_array();
    int bad = 0;
    tq_head_shares(h, y);
    for (int i = 0; i < h->n; i++)
        if (y[i] > 0.5f)
            bad |= json_array_append_new(names, json_string(h->labels[i])) |
                   json_array_append_new(shares, json_real((double)y[i]));
    p->answer = bad ? NULL : list_text(mem, names, csv);
    p->shares = bad ? NULL : list_text(mem, shares, csv);
    json_decref(names);
    json_decref(shares);
    p->json = true;
    return p->answer && p->shares ? TOQUE_OK : TQ_NOMEM(err);
}

/* --- spans -------------------------------------------------------------------------------------------------- */
typedef struct spans {
    const tq_reading *r;
    const char *text;
    const float *share; /* [items] of each token's class */
    json_t *list;
    int bad;
} spans;

static json_int_t characters(const char *text, size_t n) {
    json_int_t count = 0;
    for (size_t i = 0; i < n; i++) count += ((unsigned char)text[i] & 0xC0) != 0x80;
    return count;
}

static void put_span(void *arg, int from, int to, const char *label) {
    spans *s = arg;
    size_t a = s->r->start[from], b = s->r->end[to - 1];
    double sum = 0;
    while (a < b && strchr(" \t\r\n", s->text[a])) a++;
    while (b > a && strchr(" \t\r\n", s->text[b - 1])) b--;
    while (a > 0 && ((unsigned char)s->text[a] & 0xC0) == 0x80) a--; /* tokens may part a character */
    while (((unsigned char)s->text[b] & 0xC0) == 0x80) b++;
    for (int t = from; t < to; t++) sum += (double)s->share[t];
    s->bad |= json_array_append_new(s->list, json_pack("{s:I, s:I, s:s, s:f}", "start", characters(s->text, a), "end",
                                                       characters(s->text, b), "label", label, "probability",
                                                       sum / (to - from)));
}

static toque_status spans_of(const tq_head *h, tq_mem *mem, const char *text, float *y, const tq_reading *r,
                             tq_prediction *p, toque_error *err) {
    int32_t *said = TQ_NEW_ARRAY(mem, int32_t, r->items);
    float *share = TQ_NEW_ARRAY(mem, float, r->items);
    spans s = {.r = r, .text = text, .share = share, .list = json_array()};
    for (int t = 0; said && share && t < r->items; t++, y += h->n) {
        said[t] = -1;
        uint32_t a = r->start[t];
        while (a < r->end[t] && strchr(" \t\r\n", text[a])) a++;
        if (a >= r->end[t]) continue; /* a special token, or a space, whose class is not learned */
        tq_head_shares(h, y);
        said[t] = 0;
        for (int i = 1; i < h->n; i++)
            if (y[i] > y[said[t]]) said[t] = i;
        share[t] = y[said[t]];
    }
    if (said && share) tq_tag_spans(h, said, r->items, put_span, &s);
    p->answer = !said || !share || s.bad ? NULL : list_text(mem, s.list, false);
    p->json = true;
    json_decref(s.list);
    tq_free(mem, said);
    tq_free(mem, share);
    return p->answer ? TOQUE_OK : TQ_NOMEM(err);
}

toque_status tq_predict_reading(const tq_head *h, tq_mem *mem, const char *text, const tq_reading *r, bool csv,
                                tq_prediction *p, toque_error *err) {
    *p = (tq_prediction){0};
    if (!r->items) return TOQUE_OK; /* too long */
    float *y = tq_alloc(mem, (size_t)r->items * (size_t)h->n, sizeof *y);
    if (!y) return TQ_NOMEM(err);
    memcpy(y, r->y, (size_t)r->items * (size_t)h->n * sizeof *y);
    toque_status status = TOQUE_OK;
    char number[40];
    int best = 0;
    switch (h->kind) {
    case TQ_HEAD_CLASS:
        tq_head_shares(h, y);
        for (int i = 1; i < h->n; i++)
            if (y[i] > y[best]) best = i;
        p->probability = (double)y[best];
        p->answer = tq_strdup(mem, h->labels[best]);
        break;
    case TQ_HEAD_LABELS: status = labels_of(h, mem, y, csv, p, err); break;
    case TQ_HEAD_VALUE:
        snprintf(number, sizeof number, "%.9g", h->mean + h->deviation * (double)y[0]);
        p->answer = tq_strdup(mem, number);
        p->json = true;
        break;
    case TQ_HEAD_TAGS: status = spans_of(h, mem, text, y, r, p, err); break;
    }
    tq_free(mem, y);
    if (status == TOQUE_OK && !p->answer) status = TQ_NOMEM(err);
    p->len = p->answer ? strlen(p->answer) : 0;
    return status;
}
