/* What the parts of `toque rag eval` share: the questions (rag_eval_questions.c), answering them in several ways
 * (rag_eval_ways.c), and the command itself, which ranks and reports (cmd_rag_eval.c). */
#ifndef TQ_CLI_RAG_EVAL_H
#define TQ_CLI_RAG_EVAL_H

#include "cli/rag.h"
#include "rag/answer.h"

typedef struct tq_eval_question {
    const char *text;
    json_t *answers; /* texts; may be empty */
    bool answerable;
    size_t line, n_relevant; /* relevant: documents of the store, by id */
    int64_t *relevant;
    int64_t gold; /* the passage with the question's "sentence"; -1: none is named */
} tq_eval_question;

/* How a question is answered. All but closed and gold withhold by the score of the best sentence. */
typedef enum tq_eval_way {
    TQ_WAY_QUOTE,
    TQ_WAY_CLOSED,   /* the model reads nothing */
    TQ_WAY_WRITE,    /* it reads the best sentences, */
    TQ_WAY_PASSAGES, /* the passages found, */
    TQ_WAY_GOLD,     /* the passage with the question's sentence; only questions that have one */
    TQ_WAYS
} tq_eval_way;

typedef struct tq_way_result {
    bool on;
    /* of questions with a wanted answer */
    size_t compared, held, held_first, exact; /* first: by the best quotation alone */
    double f1, *holds;                        /* holds: [n questions] 1 or 0, in their order, -1 for others */
    size_t withheld, rightly_withheld, unanswerable;
    size_t sentences, supported;                            /* of all answers; supported ones cite a source */
    size_t cited, rightly_cited, cites_needed, cites_given; /* where it is known which documents are right */
    size_t inexact;                                         /* quotations that are not the bytes they name */
    double *first;                                          /* [n_first] seconds to the first text of an answer */
    size_t n_first;
} tq_way_result;

typedef struct tq_eval_document {
    int64_t id;
    char *uri;
} tq_eval_document;

typedef struct tq_evaluation {
    tq_cli *cli;
    tq_cli_store s;
    const char *path;
    tq_eval_document *documents;
    size_t n_documents, cap_documents;
    json_t *lines; /* array; owns the questions' strings */
    tq_eval_question *questions;
    size_t n, cap, n_ranked, n_answerable, n_gold; /* n_ranked: questions that name documents */
    const tq_writer *writer;                       /* NULL: no way needs one */
    tq_search_options search;                      /* with a model's help, if asked for */
    int max_tokens;
    tq_way_result ways[TQ_WAYS];
    /* withholding: [n] the best sentences' scores */
    double *best;
    double threshold, auc, learned;
} tq_evaluation;

/* Reads the questions and finds their documents and passages. EFORMAT and ENOTFOUND name file and line. */
toque_status tq_eval_read(tq_evaluation *v, toque_error *err) TQ_MUST;
bool tq_eval_is_relevant(const tq_eval_question *q, int64_t document);
void tq_eval_free_questions(tq_evaluation *v);

extern const char *const tq_eval_way_names[TQ_WAYS];
/* "quote,write,..." or "all" into ways[].on; quote is always on. */
toque_status tq_eval_parse_ways(tq_evaluation *v, const char *text, bool *writes, toque_error *err) TQ_MUST;
toque_status tq_eval_start_ways(tq_evaluation *v, toque_error *err) TQ_MUST;
/* Answers a question in every way that is on. */
toque_status tq_eval_answer(tq_evaluation *v, size_t number, toque_error *err) TQ_MUST;
/* Sets auc and learned. */
toque_status tq_eval_part(tq_evaluation *v, toque_error *err) TQ_MUST;
/* {"answers", "citations", "abstention", "ways": [...]} into o. */
void tq_eval_report_ways(const tq_evaluation *v, json_t *o);
void tq_eval_print_ways(const tq_evaluation *v, const json_t *o);
/* Keeps in the store how quoting and writing compare. */
toque_status tq_eval_learn_writing(tq_evaluation *v, tq_rag *store, toque_error *err) TQ_MUST;
void tq_eval_free_ways(tq_evaluation *v);

#endif
