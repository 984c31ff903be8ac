/* Cutting documents. See chunk.h. First the document becomes units (a sentence, a line of code, a row), each with its
 * tokens counted; then units of a section are gathered. */
#include "rag/chunk.h"

#include <string.h>

#include "rag/sentence.h"
#include "text/unicode.h"

enum { MAX_LEVEL = 6, SEPARATOR = 3 /* " > " */ };

typedef struct unit {
    uint32_t start, end;
    uint32_t tokens;
    int page;
} unit;

typedef struct cutter {
    tq_mem *mem;
    const tq_doc *doc;
    const tq_rag_embedder *e;
    const tq_chunk_options *o;
    tq_chunks *out;
    toque_error *err;
    unit *units; /* of the section at hand */
    size_t n, cap;
    tq_ends ends; /* tokens of the block at hand */
    const tq_block *path[MAX_LEVEL + 1];
    uint32_t heading; /* of the section at hand */
    uint32_t budget;  /* what its headings leave */
    bool bare;        /* its heading has no text yet */
} cutter;

bool tq_passage(tq_buf *out, const char *heading, const char *text, size_t n) {
    if (*heading) {
        tq_buf_puts(out, heading);
        tq_buf_putc(out, '\n');
    }
    return tq_buf_put(out, text, n);
}

/* ---- headings ------------------------------------------------------------------------------------------------ */

static void put_heading(tq_buf *out, const char *s, size_t n) {
    while (n && (*s == '#' || *s == ' ')) s++, n--;
    size_t line = 0;
    while (line < n && s[line] != '\n') line++;
    while (line && (s[line - 1] == ' ' || s[line - 1] == '#' || s[line - 1] == '\r')) line--;
    tq_buf_put(out, s, line);
}

/* The path of the section into out->headings: title, then headings from the outermost, as many of the innermost as stay
 * within a quarter of the budget. */
static toque_status name_section(cutter *c) {
    const char *text = c->doc->text.data;
    tq_buf *h = &c->out->headings;
    uint32_t limit = (uint32_t)c->o->budget / 4;
    size_t first = h->len;
    for (int skip = 0;; skip++) {
        int left = skip;
        tq_buf_cut(h, first);
        if (c->doc->title && left-- <= 0) tq_buf_puts(h, c->doc->title);
        for (int level = 1; level <= MAX_LEVEL; level++) {
            const tq_block *b = c->path[level];
            if (!b) continue;
            size_t at = h->len;
            if (at > first) tq_buf_put(h, " > ", SEPARATOR);
            size_t from = h->len;
            if (left-- <= 0) put_heading(h, text + b->start, b->end - b->start);
            bool title = c->doc->title && h->len - from == strlen(c->doc->title) &&
                         memcmp(h->data + from, c->doc->title, h->len - from) == 0;
            if (h->len == from || (title && from > first)) tq_buf_cut(h, at); /* nothing, or the title once more */
        }
        TQ_TRY(tq_buf_status(h, "headings", c->err));
        size_t tokens;
        TQ_TRY(tq_count_tokens(c->e, c->mem, h->data + first, h->len - first, &tokens, c->err));
        if (tokens <= limit || h->len == first) {
            c->heading = (uint32_t)first;
            c->budget = (uint32_t)c->o->budget - (uint32_t)tokens;
            tq_buf_putc(h, 0);
            return tq_buf_status(h, "headings", c->err);
        }
    }
}

/* ---- units --------------------------------------------------------------------------------------------------- */

static toque_status add_unit(cutter *c, size_t start, size_t end, size_t tokens, int page) {
    if (start >= end) return TOQUE_OK;
    if (!TQ_GROW(c->mem, c->units, c->n, c->cap)) return TQ_NOMEM(c->err);
    c->units[c->n++] = (unit){(uint32_t)start, (uint32_t)end, (uint32_t)tokens, page};
    return TOQUE_OK;
}

/* A unit of the block at `base` whose tokens are [t0, t1): where it is over the budget it becomes several, cut behind
 * the last white space of what fits, else between two characters. */
static toque_status add_cut(cutter *c, size_t base, size_t start, size_t end, size_t t0, size_t t1, int page) {
    const char *text = c->doc->text.data;
    const uint32_t *ends = c->ends.at;
    while (t1 - t0 > c->budget) {
        size_t cut = base + ends[t0 + c->budget - 1], back = cut;
        while (back > start + (cut - start) / 2 && text[back - 1] != ' ' && text[back - 1] != '\n') back--;
        if (back > start + (cut - start) / 2) cut = back;
        while (cut > start && ((unsigned char)text[cut] & 0xc0) == 0x80) cut--;
        if (cut <= start) break; /* a single character of many tokens */
        size_t stop = cut, t = t0;
        while (t < t1 && base + ends[t] <= cut) t++;
        while (stop > start && (text[stop - 1] == ' ' || text[stop - 1] == '\n')) stop--;
        TQ_TRY(add_unit(c, start, stop, t - t0 ? t - t0 : 1, page));
        t0 = t;
        for (start = cut; start < end && (text[start] == ' ' || text[start] == '\n');) start++;
        if (t1 <= t0) break;
    }
    return add_unit(c, start, end, t1 > t0 ? t1 - t0 : 1, page);
}

static toque_status add_block(cutter *c, const tq_block *b) {
    const char *text = c->doc->text.data;
    c->ends.len = 0;
    TQ_TRY(c->e->tokenize(c->e->self, text + b->start, b->end - b->start, &c->ends, c->err));
    size_t t = 0, at = b->start, start, end;
    while (tq_unit_next(text, b->kind, at, b->end, &start, &end)) {
        size_t t0 = t;
        while (t < c->ends.len && b->start + c->ends.at[t] <= end) t++;
        TQ_TRY(add_cut(c, b->start, start, end, t0, t, b->page));
        at = end;
    }
    return TOQUE_OK;
}

/* ---- gathering ----------------------------------------------------------------------------------------------- */

static toque_status emit(cutter *c, size_t first, size_t last, size_t context_first, size_t context_last) {
    tq_chunks *out = c->out;
    const unit *u = c->units;
    if (!TQ_GROW(out->mem, out->items, out->n, out->cap)) return TQ_NOMEM(c->err);
    out->items[out->n++] = (tq_chunk){.start = u[first].start,
                                      .end = u[last].end,
                                      .context_start = u[context_first].start,
                                      .context_end = u[context_last].end,
                                      .heading = c->heading,
                                      .page = u[first].page};
    return TOQUE_OK;
}

/* The units around [first, last] that together stay within `limit` tokens, taken on both sides in turn. */
static void widen(const cutter *c, size_t *first, size_t *last, uint32_t limit) {
    const unit *u = c->units;
    uint32_t sum = 0;
    for (size_t i = *first; i <= *last; i++) sum += u[i].tokens;
    for (bool grown = true; grown;) {
        grown = false;
        if (*last + 1 < c->n && sum + u[*last + 1].tokens <= limit) sum += u[++*last].tokens, grown = true;
        if (*first > 0 && sum + u[*first - 1].tokens <= limit) sum += u[--*first].tokens, grown = true;
    }
}

static toque_status gather(cutter *c) {
    const unit *u = c->units;
    bool single = c->o->mode == TQ_CHUNK_SENTENCE;
    for (size_t first = 0, fresh = 0; fresh < c->n;) { /* fresh: the first unit that is in no chunk yet */
        size_t last = first;
        uint32_t sum = u[first].tokens;
        while (!single && last + 1 < c->n && sum + u[last + 1].tokens <= c->budget) sum += u[++last].tokens;
        if (last < fresh) { /* the overlap leaves no room for the next unit: less of it */
            first++;
            continue;
        }
        size_t context_first = first, context_last = last;
        if (c->o->mode != TQ_CHUNK_PASSAGE)
            widen(c, &context_first, &context_last,
                  c->o->mode == TQ_CHUNK_PARENT ? 4 * (uint32_t)c->o->budget : c->budget);
        TQ_TRY(emit(c, first, last, context_first, context_last));
        first = fresh = last + 1;
        if (single || fresh >= c->n) continue;
        for (uint32_t back = 0; first > 0 && back + u[first - 1].tokens <= (uint32_t)c->o->overlap;)
            back += u[--first].tokens;
    }
    c->n = 0;
    return TOQUE_OK;
}

/* Ends the section: a heading without text that no deeper one follows is a chunk of its own. */
static toque_status end_section(cutter *c, const tq_block *next) {
    const tq_block *own = NULL;
    int level = 0;
    for (int i = 1; i <= MAX_LEVEL; i++)
        if (c->path[i]) own = c->path[i], level = i;
    if (c->bare && own && (!next || next->level <= level)) TQ_TRY(add_block(c, own));
    return gather(c);
}

toque_status tq_chunks_make(tq_chunks *chunks, tq_mem *mem, const tq_doc *doc, const tq_rag_embedder *e,
                            const tq_chunk_options *options, toque_error *err) {
    *chunks = (tq_chunks){.mem = mem};
    tq_buf_init(&chunks->headings, mem, UINT32_MAX);
    if (options->budget < 16 || options->budget > e->max_tokens)
        return TQ_FAIL(err, EINVAL, "a chunk of %d tokens is not possible: the embedder takes 16 to %d",
                       options->budget, e->max_tokens);
    cutter c = {.mem = mem, .doc = doc, .e = e, .o = options, .out = chunks, .err = err, .ends = {.mem = mem}};
    toque_status status;
    TQ_GO(name_section(&c));
    for (size_t i = 0; i < doc->n; i++) {
        const tq_block *b = &doc->blocks[i];
        if (b->kind == TQ_BLOCK_HEADING) {
            int level = b->level < 1 ? 1 : b->level > MAX_LEVEL ? MAX_LEVEL : b->level;
            TQ_GO(end_section(&c, b));
            for (int l = level; l <= MAX_LEVEL; l++) c.path[l] = NULL;
            c.path[level] = b;
            c.bare = true;
            TQ_GO(name_section(&c));
        } else {
            c.bare = false;
            TQ_GO(add_block(&c, b));
        }
    }
    status = end_section(&c, NULL);
done:
    tq_free(mem, c.units);
    tq_free(mem, c.ends.at);
    return status;
}

void tq_chunks_clear(tq_chunks *chunks) {
    if (!chunks->mem) return;
    tq_free(chunks->mem, chunks->items);
    tq_buf_clear(&chunks->headings);
    *chunks = (tq_chunks){0};
}
