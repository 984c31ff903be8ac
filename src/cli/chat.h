/* The state of a conversation, shared by cmd_chat.c (the loop) and chat_commands.c (its slash commands). */
#ifndef TQ_CLI_CHAT_H
#define TQ_CLI_CHAT_H

#include "cli/line.h"
#include "cli/load.h"
#include "cli/reply.h"
#include "cli/sampling.h"

typedef enum tq_rewrite { TQ_REWRITE_OFF, TQ_REWRITE_TERMS, TQ_REWRITE_MODEL } tq_rewrite;

/* What answers from a store need: put the struct into the command's options. */
typedef struct tq_chat_rag_options {
    const char *store;
    int rewrite;
    tq_cli_answering answering;
    tq_cli_search search;
} tq_chat_rag_options;
extern const tq_option tq_chat_rag_table[];

typedef struct tq_chat {
    tq_cli *cli;
    tq_cli_loaded l;
    tq_line *line;
    json_t *messages;    /* the conversation so far, system message included */
    tq_session *session; /* NULL until the first answer */
    int session_rank;    /* the largest adapter rank that it can wear */
    tq_sampling sampling;
    const tq_option_list *stop;
    int n, context; /* n: tokens of an answer at most, 0: no bound */
    bool seeded, quit;
    bool lost;                      /* nobody reads the answers any more */
    uint32_t turn;                  /* answers so far: each draws from its own stream */
    const tq_chat_rag_options *rag; /* NULL: the model answers by itself */
    tq_cli_store store;
} tq_chat;

/* A line that begins with a slash. */
toque_status tq_chat_command(tq_chat *c, const char *line, toque_error *err) TQ_MUST;
/* Sets or replaces the system message. */
toque_status tq_chat_set_system(tq_chat *c, const char *text, toque_error *err) TQ_MUST;
toque_status tq_chat_open_session(tq_chat *c, toque_error *err) TQ_MUST;
/* Appends a message. */
toque_status tq_chat_add(tq_chat *c, const char *role, const char *text, size_t n, toque_error *err) TQ_MUST;

/* chat_rag.c: opens the store of --rag, if it is given; EINVAL for its options without it. */
toque_status tq_chat_rag_open(tq_chat *c, const tq_chat_rag_options *o, toque_error *err) TQ_MUST;
/* The answer to the last message from the store, printed with its sources and appended. */
toque_status tq_chat_rag_answer(tq_chat *c, toque_error *err) TQ_MUST;

#endif
