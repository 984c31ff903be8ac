/* Answers with sources, as `rag ask` and `chat --rag` take them from a store and print them. */
#ifndef TQ_CLI_REPLY_H
#define TQ_CLI_REPLY_H

#include "cli/rag.h"
#include "rag/answer.h"

/* Options of answering: put the struct into a command's options. */
typedef struct tq_cli_answering {
    int answer, read;
    int64_t sentences, read_sentences;
    bool lead, shots;
    double threshold;
    const char *embedder;
} tq_cli_answering;
extern const tq_option tq_cli_answering_table[];
/* search and sampling are left as tq_ask_defaults has them. */
tq_ask_options tq_cli_ask_options(tq_cli *cli, const tq_cli_answering *o);
/* Says that the store has no threshold of its own, unless --threshold is given. */
void tq_cli_note_threshold(tq_cli *cli, const tq_rag *store);

/* The sources behind an answer, or the nearest place behind one that was withheld. Notes tell what was left out. */
void tq_cli_print_sources(tq_cli *cli, const tq_reply *r);
/* {"answered", "mode", "answer", "sentences", "sources", ...}: see toque rag ask --help. */
json_t *tq_cli_json_reply(tq_cli *cli, const tq_reply *r, const tq_rag *store);

#endif
