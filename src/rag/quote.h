/* Answers that are quotations: the one to three sentences of the found passages that are nearest to the question, word
 * for word, with the bytes where they stand; or none, when the nearest is not near enough. How near is enough is
 * learned from the store itself (tq_calibrate): headings are asked as questions to their own passages and to others'.
 */
#ifndef TQ_RAG_QUOTE_H
#define TQ_RAG_QUOTE_H

#include "rag/search.h"

enum { TQ_QUOTE_MOST = 3 };

/* A passage cut into sentences (lines of code, rows), headings left out. Texts belong to arena. */
typedef struct tq_sentences {
    struct tq_sentence {
        const tq_passage_info *passage;
        int64_t start, end;
        const char *text;
        const float *vector; /* [dim], or */
        const char *terms;   /* as tq_terms writes them, and those of the headings above it: what it is compared by */
        const char *heading_terms;
        double score;
    } * items;
    size_t n, cap;
} tq_sentences;

typedef struct tq_quote_options {
    tq_search_options search; /* k: passages whose sentences are looked at */
    int sentences;            /* at most, 1 to TQ_QUOTE_MOST */
    double threshold;         /* NAN: the store's own */
    /* The question before, of which this one is a follow-up, or NULL. Both are searched together, and a sentence's
     * score is the mean of its scores against both together and against this one alone, so that it must have to do with
     * either. */
    const char *before;
    const int64_t *chunks; /* look at these passages, whatever a search would find; NULL: search */
    size_t n_chunks;
} tq_quote_options;

typedef struct tq_quote {
    const tq_passage_info *passage; /* of answer->hits */
    int64_t start, end;             /* bytes of the document's text */
    const char *text;               /* those bytes, NUL-terminated */
    double score;
} tq_quote;

typedef struct tq_answer {
    bool answered; /* the best sentence reaches the threshold */
    double best, threshold;
    tq_quote quotes[TQ_QUOTE_MOST]; /* best first; those of an answer that was withheld too */
    size_t n;
    tq_sentences sentences; /* all of the passages, best first */
    tq_hits hits;           /* owns all strings */
    tq_mem *mem;
} tq_answer;

/* Sentences are scored half by cosine with the question and half by the share of the question's terms (weighted by idf)
 * that they hold, in a store without vectors by that alone; a term that only a heading above the sentence holds counts
 * for TQ_HEADING_SHARE. Both halves because either alone is fooled: by what is near in meaning and tells something
 * else, and by other words for the same. The same words in another place are not quoted again. */
#define TQ_WORDS_SHARE 0.5
#define TQ_HEADING_SHARE 0.6
toque_status tq_quote_answer(tq_searcher *s, tq_answer *answer, const char *text, const tq_quote_options *options,
                             toque_error *err) TQ_MUST;
void tq_answer_clear(tq_answer *answer);
/* The best sentences of an answer, at most `most` and none that scores less than `near` times the best: each place once
 * (chunks overlap) and each wording once (documents are copied). Returns how many. */
size_t tq_quote_choose(const tq_answer *answer, size_t most, double near, tq_quote *out);
/* What is used where the store could not learn a threshold. */
double tq_quote_default_threshold(const tq_rag *store);

/* Finds the threshold that parts headings' best sentences in their own passages from those in others' (largest sum of
 * both rates of being right) and keeps it in the store, if it has at least TQ_CALIBRATION_LEAST passages with headings
 * that stand nowhere else, and the two are parted well (area under the curve at least 0.75); otherwise the store has
 * none. *pairs: how many headings there were. */
enum { TQ_CALIBRATION_LEAST = 8 };
toque_status tq_calibrate(tq_rag *store, const tq_rag_embedder *embedder, int64_t *pairs, toque_error *err) TQ_MUST;

/* ---- scoring of sentences, shared by both --------------------------------------------------------------------------
 */

toque_status tq_sentences_add(tq_sentences *list, tq_rag *store, const tq_passage_info *passage, tq_arena *arena,
                              toque_error *err) TQ_MUST;
/* Gives every sentence its terms, and its vector where the store has vectors, in arena. */
toque_status tq_sentences_prepare(const tq_searcher *s, tq_sentences *list, tq_arena *arena, toque_error *err) TQ_MUST;
/* Gives them their terms, whether the store has vectors or not. */
toque_status tq_sentences_terms(tq_rag *store, tq_sentences *list, tq_arena *arena, toque_error *err) TQ_MUST;
/* Gives them their vectors alone, which needs no passages; the store has vectors. */
toque_status tq_sentences_vectors(const tq_searcher *s, tq_sentences *list, tq_arena *arena, toque_error *err) TQ_MUST;
/* Whether the terms, as tq_terms writes them, hold this one. */
bool tq_holds_term(const char *terms, const char *term, size_t n);
/* ln(1 + (chunks - df + 0.5) / (df + 0.5)) of a term in a store of so many chunks. */
toque_status tq_term_weight(tq_rag *store, int64_t chunks, const char *term, size_t n, double *idf,
                            toque_error *err) TQ_MUST;
/* Scores prepared sentences against a question. */
toque_status tq_sentences_score(tq_searcher *s, const char *question, tq_sentences *list, toque_error *err) TQ_MUST;

#endif
