/* Answers with sources. See reply.h. */
#include "cli/reply.h"

#include <math.h>
#include <string.h>

#define AT(field) offsetof(tq_cli_answering, field)
const tq_option tq_cli_answering_table[] = {
    {.key = "answer",
     .type = TQ_OPT_CHOICE,
     .offset = AT(answer),
     .fallback = "auto",
     .choices = "auto|quote|write",
     .help = "quote: the passages' own sentences, word for word; write: the model's words, each sentence checked "
             "against what it read; auto: write where rag eval found this model no worse than quoting, else quote"},
    {.key = "read",
     .type = TQ_OPT_CHOICE,
     .offset = AT(read),
     .fallback = "sentences",
     .choices = "sentences|passages|document",
     .help = "what the model reads: the passages' best sentences, whole passages, or the best one's whole document "
             "where it fits"},
    {.key = "read_sentences",
     .type = TQ_OPT_INT,
     .offset = AT(read_sentences),
     .fallback = "3",
     .min = 1,
     .max = TQ_READ_MOST,
     .help = "--read sentences: so many"},
    {.key = "lead",
     .type = TQ_OPT_FLAG,
     .offset = AT(lead),
     .fallback = "off",
     .help = "let the model's turn begin with the best sentence, quoted"},
    {.key = "shots",
     .type = TQ_OPT_FLAG,
     .offset = AT(shots),
     .fallback = "on",
     .help = "show the model two answered questions first"},
    {.key = "sentences",
     .type = TQ_OPT_INT,
     .offset = AT(sentences),
     .fallback = "3",
     .min = 1,
     .max = TQ_QUOTE_MOST,
     .help = "quote: at most so many"},
    {.key = "threshold",
     .type = TQ_OPT_NUMBER,
     .offset = AT(threshold),
     .min = -1,
     .max = 1,
     .help = "the score below which nothing is answered; without it, what rag add or rag eval learned"},
    {.key = "embedder",
     .type = TQ_OPT_TEXT,
     .offset = AT(embedder),
     .value = "M",
     .help = "where the store's embedder is now; without it, where it was"},
    {0}};
#undef AT

tq_ask_options tq_cli_ask_options(tq_cli *cli, const tq_cli_answering *o) {
    tq_ask_options a = tq_ask_defaults();
    a.mode = (tq_answer_mode)o->answer;
    a.reads = (tq_reads)o->read;
    a.sentences = (int)o->read_sentences;
    a.lead = o->lead;
    a.shots = o->shots;
    a.quote.sentences = (int)o->sentences;
    a.quote.threshold = tq_options_given(&cli->set, "threshold") ? o->threshold : NAN;
    return a;
}

void tq_cli_note_threshold(tq_cli *cli, const tq_rag *store) {
    if (!store->facts.calibrated && !tq_options_given(&cli->set, "threshold"))
        tq_cli_note(cli, "%s has no headings to learn a threshold from; %.2f is used (--threshold)", store->path,
                    tq_quote_default_threshold(store));
}

/* --- text ------------------------------------------------------------------------------------------------------ */

static void tell_left(tq_cli *cli, const tq_reply *r) {
    if (r->left_document) tq_cli_note(cli, "the whole document does not fit the context; the model read its passages");
    if (r->left_sources) tq_cli_note(cli, "%zu sources did not fit the context", r->left_sources);
    if (r->left_messages)
        tq_cli_note(cli, "the first %zu messages of the conversation did not fit the context", r->left_messages);
    if (r->mode == TQ_ANSWER_WRITE && r->finish == TQ_FINISH_LENGTH)
        tq_cli_note(cli, "the answer was cut after %d tokens (-n)", r->answer_tokens);
}

void tq_cli_print_sources(tq_cli *cli, const tq_reply *r) {
    bool any = false;
    tell_left(cli, r);
    if (!r->answered) {
        if (!r->n_sources) return;
        printf("\nNearest (%.3f, needed %.3f): ", r->score, r->threshold);
        tq_cli_print_place(r->sources[0].passage, r->sources[0].start, r->sources[0].end);
        printf("\n");
        return;
    }
    for (size_t i = 0; i < r->n_sources; i++) {
        const tq_reply_source *s = &r->sources[i];
        if (!s->cited) continue;
        printf("%s[%zu] ", any ? "" : "\n", i + 1);
        tq_cli_print_place(s->passage, s->start, s->end);
        printf(" (%.3f)\n", s->score);
        any = true;
    }
    if (!any) tq_cli_note(cli, "no sentence of the answer is supported by what the model read");
}

/* --- JSON ------------------------------------------------------------------------------------------------------ */

static json_t *number_or_null(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}

static json_t *sentence_json(tq_cli *cli, const tq_reply *r, const tq_reply_sentence *x) {
    json_t *o = json_pack("{s:o, s:I, s:I, s:b, s:f, s:o}", "text",
                          tq_cli_json_text(cli, r->text.data + x->start, x->end - x->start), "start",
                          (json_int_t)x->start, "end", (json_int_t)x->end, "supported", x->supported, "overlap",
                          x->overlap, "similarity", number_or_null(x->similarity));
    if (o && x->source >= 0)
        json_object_update_new(o, json_pack("{s:i, s:{s:I, s:I}}", "source", x->source + 1, "evidence", "start",
                                            (json_int_t)x->evidence_start, "end", (json_int_t)x->evidence_end));
    return o;
}

static json_t *source_json(tq_cli *cli, const tq_reply_source *s, size_t number) {
    json_t *o = tq_cli_json_place(cli, s->passage);
    json_t *more =
        json_pack("{s:I, s:I, s:o, s:I, s:I, s:f, s:b}", "number", (json_int_t)number, "id",
                  (json_int_t)s->passage->chunk, "text", tq_cli_json_text(cli, s->text, strlen(s->text)), "start",
                  (json_int_t)s->start, "end", (json_int_t)s->end, "score", s->score, "cited", s->cited);
    if (o && more) json_object_update(o, more);
    json_decref(more);
    return o;
}

json_t *tq_cli_json_reply(tq_cli *cli, const tq_reply *r, const tq_rag *store) {
    json_t *sentences = json_array(), *sources = json_array();
    for (size_t i = 0; sentences && i < r->n_sentences; i++)
        json_array_append_new(sentences, sentence_json(cli, r, &r->sentences[i]));
    for (size_t i = 0; sources && i < r->n_sources; i++)
        json_array_append_new(sources, source_json(cli, &r->sources[i], i + 1));
    json_t *o = json_pack("{s:b, s:s, s:o, s:o, s:o, s:f, s:f, s:b, s:{s:f, s:f, s:f}}", "answered", r->answered,
                          "mode", r->mode == TQ_ANSWER_WRITE ? "write" : "quote", "answer",
                          tq_cli_json_text(cli, r->text.data, r->text.len), "sentences", sentences, "sources", sources,
                          "best", r->score, "threshold", r->threshold, "calibrated", store->facts.calibrated, "seconds",
                          "search", r->search_seconds, "first", r->first_seconds, "total", r->total_seconds);
    if (o && r->prompt_tokens)
        json_object_update_new(o, json_pack("{s:{s:i, s:i, s:i, s:i}, s:{s:I, s:I, s:b}, s:s}", "tokens", "prompt",
                                            r->prompt_tokens, "reused", r->reused_tokens, "answer", r->answer_tokens,
                                            "room", r->room, "left_out", "sources", (json_int_t)r->left_sources,
                                            "messages", (json_int_t)r->left_messages, "document", r->left_document,
                                            "finish_reason", tq_finish_name(r->finish)));
    return o;
}
