/* Masks. See mask.h for what they are and docs/masks.md for why. Two files: here a turn's span in one rendering is
 * found and tokens are marked; mask_row.c decides which renderings a conversation needs. */
#include "train/mask.h"

#include <string.h>

#include "train/mask_impl.h"

static bool begins_with(const tq_rendered *r, const tq_rendered *prefix) {
    return r->len >= prefix->len && memcmp(r->text, prefix->text, prefix->len) == 0;
}

static bool is_content(const tq_mark *m, int message, bool other) {
    int f = m->origin.field;
    return m->origin.message == message && (f == TQ_FIELD_CONTENT || f == TQ_FIELD_REASONING ||
                                            f == TQ_FIELD_TOOL_CALLS || (other && f == TQ_FIELD_OTHER));
}

/* Bytes [*from, *to) from the first content byte of the message to behind its last. */
static bool content_range(const tq_rendered *r, int message, size_t *from, size_t *to) {
    for (int other = 0; other < 2; other++) { /* unnamed fields count only when there is nothing else */
        bool found = false;
        for (size_t i = 0; i < r->n_marks; i++) {
            if (!is_content(&r->marks[i], message, other)) continue;
            if (!found) *from = r->marks[i].start;
            *to = r->marks[i].end;
            found = true;
        }
        if (found) return true;
    }
    return false;
}

/* The stretch before `at` that other messages wrote nothing of. */
static size_t gap_start(const tq_rendered *r, int message, size_t at) {
    size_t start = 0;
    for (size_t i = 0; i < r->n_marks && r->marks[i].start < at; i++)
        if (r->marks[i].origin.message >= 0 && r->marks[i].origin.message != message) start = r->marks[i].end;
    return start;
}

/* Behind the longest part of the generation prompt, from its beginning, that stands in the gap before the content. */
static size_t after_prompt(const tq_rendered *r, int message, size_t content, const tq_rendered *served,
                           const tq_rendered *bare) {
    size_t same = 0, best = 0, end = content;
    if (!bare) return content;
    while (same < bare->len && same < served->len && bare->text[same] == served->text[same]) same++;
    const char *g = served->text + same;
    size_t n = served->len - same;
    for (size_t i = gap_start(r, message, content); i < content; i++) {
        size_t k = 0;
        while (k < n && i + k < content && r->text[i + k] == g[k]) k++;
        if (k < best || k == 0) continue;
        best = k;
        end = i + k;
    }
    return end;
}

/* A part of the generation prompt may end inside a token ("<think>" there, "</think>" here): the token is the model's.
 */
static size_t to_boundary(const tq_tokens *tokens, size_t at) {
    for (size_t i = 0; i < tokens->len; i++)
        if (tokens->start[i] < at && at < tokens->end[i]) return tokens->start[i];
    return at;
}

static size_t next_message(const tq_rendered *r, int message, size_t at) {
    for (size_t i = 0; i < r->n_marks; i++) {
        int m = r->marks[i].origin.message;
        if (r->marks[i].start >= at && m >= 0 && m != message) return r->marks[i].start;
    }
    return r->len;
}

/* Where the template has {% generation %}: the runs of it that hold the message. */
static void generation_turn(const tq_tokenizer *tok, const tq_rendered *r, const tq_tokens *tokens, tq_turn *turn) {
    bool found = false;
    for (size_t i = 0; i < r->n_marks;) {
        size_t k = i;
        bool holds = false;
        for (; k < r->n_marks && r->marks[k].origin.generation; k++)
            holds = holds || is_content(&r->marks[k], turn->message, true);
        if (holds) {
            if (!found) turn->start = r->marks[i].start;
            turn->end = r->marks[k - 1].end;
            found = true;
        }
        i = k > i ? k : i + 1;
    }
    for (size_t i = 0; i < tokens->len; i++)
        if (tokens->start[i] >= turn->start && tokens->end[i] <= turn->end && tokens->end[i] > tokens->start[i])
            turn->closed = turn->closed || tq_tokenizer_is_end(tok, tokens->ids[i]);
}

void tq_mask_turn(const tq_tokenizer *tok, const tq_rendered *r, const tq_tokens *tokens, int message,
                  const tq_rendered *served, const tq_rendered *bare, tq_turn *turn) {
    *turn = (tq_turn){.message = message};
    size_t from, to;
    if (!content_range(r, message, &from, &to)) return;
    turn->content = to;
    if (r->has_generation) {
        generation_turn(tok, r, tokens, turn);
        return;
    }
    if (served && begins_with(r, served) && served->len <= to)
        turn->start = served->len;
    else
        turn->start = served ? to_boundary(tokens, after_prompt(r, message, from, served, bare)) : from;
    turn->end = to;
    size_t limit = next_message(r, message, to);
    for (size_t i = 0; i < tokens->len && tokens->start[i] < limit; i++) {
        if (tokens->start[i] < to || tokens->end[i] <= tokens->start[i]) continue;
        if (!tq_tokenizer_is_end(tok, tokens->ids[i])) continue;
        turn->end = tokens->end[i];
        turn->closed = true;
        return;
    }
}

int tq_mask_mark(const tq_rendered *r, const tq_tokens *tokens, const tq_turn *turns, size_t n_turns, uint8_t *bytes,
                 uint8_t *target) {
    int n = 0;
    memset(bytes, 0, r->len);
    for (size_t i = 0; i < n_turns; i++) memset(bytes + turns[i].start, 1, turns[i].end - turns[i].start);
    for (size_t i = 0; r->has_generation && i < r->n_marks; i++)
        if (!r->marks[i].origin.generation) memset(bytes + r->marks[i].start, 0, r->marks[i].end - r->marks[i].start);
    for (size_t i = 0; i < tokens->len; i++) {
        size_t a = tokens->start[i], b = tokens->end[i];
        target[i] = i > 0 && b > a && !memchr(bytes + a, 0, b - a);
        n += target[i];
    }
    return n;
}
