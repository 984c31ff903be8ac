/* From a question to an answer with its sources: one call for every front end (ask, chat, eval). Retrieval and the
 * decision to answer at all are quoting's (quote.h). `quote` returns the sentences themselves; `write` lets a model
 * read the best of them, or their passages, and answer in its own words; its answer is then cut into sentences, and
 * each is aligned to what the model read and checked against it (align.h). The model is never asked for citations, nor
 * whether it knows: small models do neither. How the prompt is made, and what is left out of it: prompt.h. */
#ifndef TQ_RAG_ANSWER_H
#define TQ_RAG_ANSWER_H

#include <jansson.h>

#include "infer/generate.h"
#include "rag/quote.h"

#define TQ_NO_ANSWER "The documents do not answer this."
enum { TQ_READ_MOST = 8 }; /* sentences that the model reads at most */

typedef enum tq_answer_mode {
    TQ_ANSWER_AUTO, /* write where this store's record (tq_rag_facts.writing) says that it is no worse, else quote */
    TQ_ANSWER_QUOTE,
    TQ_ANSWER_WRITE
} tq_answer_mode;

/* What the model reads. */
typedef enum tq_reads {
    TQ_READS_SENTENCES, /* the best sentences of the passages */
    TQ_READS_PASSAGES,  /* whole passages, as searched */
    TQ_READS_DOCUMENT,  /* the best passage's whole document where it fits, else passages */
    TQ_READS_NOTHING    /* the question alone: nothing is searched, nothing is withheld, nothing is supported */
} tq_reads;

/* The model that writes. Borrowed; one question at a time. The session's context is the token budget, and what a
 * question's prompt shares with the one before is not computed again. */
typedef struct tq_writer {
    tq_session *session;
    const tq_hats *hats; /* NULL: the base */
} tq_writer;

typedef struct tq_ask_options {
    tq_quote_options quote; /* search, threshold, number of quotations; its `chunks` gives passages without a search */
    tq_answer_mode mode;
    tq_reads reads;
    int sentences;      /* that the model reads, 1 to TQ_READ_MOST */
    bool lead;          /* the model's turn begins with the best sentence in quotation marks (not part of the answer) */
    bool shots;         /* two answered questions stand before the conversation, for small models */
    const char *system; /* NULL: tq_ask_system */
    json_t *history;    /* array of earlier messages, system messages left out; or NULL. Borrowed */
    /* The question before this one, or NULL. A question that does not stand alone (fewer than two terms, or nothing in
     * the documents is near it) is searched together with it: quote.before. */
    const char *previous;
    int max_tokens; /* of a written answer */
    tq_sampling sampling;
    bool prefill_only; /* as in tq_generate_options, and so are these */
    uint32_t stream;
    const char *const *stop; /* NULL: an empty line, or where the model would go on with another question */
    size_t n_stop;
    /* Called with pieces of the answer as they come, citations (" [2]", " [unsupported]") behind the sentences
     * included; false ends the answer. May be NULL. A quoted or withheld answer comes in one go. */
    bool (*on_text)(void *arg, const char *text, size_t n);
    void *arg;
} tq_ask_options;
/* write: 3 sentences read, shots, greedy, 200 tokens; quoting's defaults. */
tq_ask_options tq_ask_defaults(void);
extern const char tq_ask_system[];

/* A numbered source: what was quoted, or what the model read. Its number is its place, from 1. */
typedef struct tq_reply_source {
    const tq_passage_info *passage;
    int64_t start, end; /* bytes of the document's text */
    const char *text;   /* those bytes, NUL-terminated */
    double score;       /* of its best sentence against the question */
    bool cited;
} tq_reply_source;

/* A sentence of the answer. */
typedef struct tq_reply_sentence {
    size_t start, end;                    /* bytes of the answer */
    int source;                           /* index of the nearest source; -1: it has nothing in common with any */
    int64_t evidence_start, evidence_end; /* of the nearest sentence there: bytes of the document's text */
    double overlap;                       /* share of its terms, weighted by idf, that stand there */
    double similarity;                    /* cosine with that sentence; NAN without vectors */
    bool supported;
} tq_reply_sentence;

typedef struct tq_reply {
    tq_answer_mode mode; /* what was done */
    bool answered;
    bool joined;             /* the question was searched together with the one before */
    double score, threshold; /* of the best sentence; below the threshold nothing is answered */
    tq_buf text;             /* the answer without citations, or TQ_NO_ANSWER */
    tq_reply_sentence *sentences;
    size_t n_sentences, cap_sentences;
    tq_reply_source *sources; /* of a withheld answer too: the nearest */
    size_t n_sources;
    /* what did not fit the context: sources (the last ones) and messages of the history (the first ones); whether a
     * document that was to be read whole did not */
    size_t left_sources, left_messages;
    bool left_document;
    int prompt_tokens, reused_tokens, answer_tokens, room; /* room: for the prompt */
    tq_finish finish;
    double search_seconds; /* until the sentences were ranked */
    double first_seconds;  /* from the question to the first text */
    double total_seconds;
    tq_answer found; /* owns the strings */
} tq_reply;

/* writer may be NULL unless mode is TQ_ANSWER_WRITE; the model needs a chat template (ENOTFOUND). ELIMIT when not even
 * the question and one source fit the session's context beside max_tokens. On ECANCELED from the context the answer so
 * far is there with TQ_FINISH_CANCELED. Always clear the reply, after a failure too. */
toque_status tq_ask(tq_searcher *s, const tq_writer *writer, tq_reply *reply, const char *question,
                    const tq_ask_options *options, toque_error *err) TQ_MUST;
void tq_reply_clear(tq_reply *reply);

/* Lets the model say a follow-up question so that it can be understood alone. The prompt begins as tq_ask's does, so
 * that what is computed serves both. Where the model says nothing that can be asked, out is the question. */
toque_status tq_rewrite_question(tq_searcher *s, const tq_writer *writer, const char *question,
                                 const tq_ask_options *options, tq_buf *out, toque_error *err) TQ_MUST;

/* What a record of writing is kept for: hashes of the model's and the adapters' values, with scales. Owned by the
 * caller (tq_free). */
toque_status tq_writer_id(const tq_writer *writer, char **id, toque_error *err) TQ_MUST;
/* Keeps in the store (open for writing) how both ways answered a file of questions; TQ_ANSWER_AUTO goes by it. quote,
 * write: mean score of an answer, the higher the better; p: how probable as large a difference is by chance. */
toque_status tq_remember_writing(tq_rag *store, const tq_writer *writer, double quote, double write, double p,
                                 int64_t questions, toque_error *err) TQ_MUST;
/* Whether TQ_ANSWER_AUTO writes with this writer (NULL: none): the store's record is of it, and there writing was not
 * worse than quoting. */
toque_status tq_auto_writes(const tq_rag *store, const tq_writer *writer, bool *writes, toque_error *err) TQ_MUST;

/* Computes the part of the prompt that all questions share (system text, shots), so that the first one need not. */
toque_status tq_writer_warm(const tq_writer *writer, const tq_ask_options *options, toque_error *err) TQ_MUST;

#endif
