/* toque tokenize: a text's tokens. Needs a vocabulary only. */
#include <string.h>

#include "base/io.h"
#include "cli/load.h"

typedef struct options {
    tq_cli_model model;
    bool ids, add_special, parse_special;
} options;

#define AT(field) offsetof(options, field)
static const tq_option own[] = {{.key = "ids",
                                 .type = TQ_OPT_FLAG,
                                 .offset = AT(ids),
                                 .fallback = "off",
                                 .help = "ids only, on one line, blanks between them"},
                                {.key = "add_special",
                                 .type = TQ_OPT_FLAG,
                                 .offset = AT(add_special),
                                 .fallback = "off",
                                 .help = "put the begin and end tokens around the text where the model wants them"},
                                {.key = "parse_special",
                                 .type = TQ_OPT_FLAG,
                                 .offset = AT(parse_special),
                                 .fallback = "on",
                                 .help = "recognize control tokens such as <|im_end|> in the text"},
                                {0}};
static const tq_cli_table tables[] = {{own, 0}, {tq_cli_model_table, AT(model)}, {0}};
#undef AT

enum { MAX_TEXT = 1 << 30 };

/* Length of the UTF-8 character at s, 0 if there is none: overlong forms, surrogates and cut ones are not. */
static size_t utf8_length(const unsigned char *s, size_t n) {
    if (s[0] < 0x80) return 1;
    size_t len = s[0] >= 0xF0 && s[0] <= 0xF4  ? 4
                 : s[0] >= 0xE0 && s[0] < 0xF0 ? 3
                 : s[0] >= 0xC2 && s[0] < 0xE0 ? 2
                                               : 0;
    if (len == 0 || len > n) return 0;
    for (size_t i = 1; i < len; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    bool overlong = (s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xF0 && s[1] < 0x90);
    bool outside = (s[0] == 0xED && s[1] > 0x9F) || (s[0] == 0xF4 && s[1] > 0x8F);
    return overlong || outside ? 0 : len;
}

/* The bytes of a token on one line: what is no printable text as an escape. */
static void put_readable(tq_buf *out, const char *bytes, size_t n) {
    const unsigned char *s = (const unsigned char *)bytes;
    for (size_t i = 0, len; i < n; i += len) {
        len = utf8_length(s + i, n - i);
        if (len == 1 && s[i] == '\n')
            tq_buf_puts(out, "\\n");
        else if (len == 1 && s[i] == '\t')
            tq_buf_puts(out, "\\t");
        else if (len == 1 && s[i] == '\\')
            tq_buf_puts(out, "\\\\");
        else if (len == 0 || (len == 1 && (s[i] < 0x20 || s[i] == 0x7F)))
            tq_buf_printf(out, "\\x%02X", s[i]);
        else
            tq_buf_put(out, s + i, len);
        if (len == 0) len = 1;
    }
}

static toque_status print_ids(tq_cli *cli, const tq_tokens *list, tq_buf *out, toque_error *err) {
    for (size_t i = 0; i < list->len; i++) tq_buf_printf(out, "%s%d", i ? " " : "", list->ids[i]);
    tq_buf_putc(out, '\n');
    TQ_TRY(tq_buf_status(out, "the ids", err));
    return tq_cli_write(cli, out->data, out->len, err);
}

static toque_status print_pieces(tq_cli *cli, const tq_tokenizer *tok, const tq_tokens *list, tq_buf *out,
                                 toque_error *err) {
    tq_buf piece;
    tq_buf_init(&piece, &cli->mem, MAX_TEXT);
    for (size_t i = 0; i < list->len; i++) {
        tq_buf_reset(&piece);
        if (!tq_detokenize(tok, list->ids[i], false, true, &piece)) out->failed = true;
        tq_buf_printf(out, "%d\t", list->ids[i]);
        put_readable(out, piece.data, piece.len);
        tq_buf_putc(out, '\n');
    }
    tq_buf_clear(&piece);
    TQ_TRY(tq_buf_status(out, "the tokens", err));
    return tq_cli_write(cli, out->data, out->len, err);
}

static toque_status print_json(tq_cli *cli, const tq_tokenizer *tok, const tq_tokens *list, tq_buf *out,
                               toque_error *err) {
    json_t *ids = json_array(), *pieces = json_array();
    bool ok = ids && pieces;
    for (size_t i = 0; ok && i < list->len; i++) {
        tq_buf piece;
        tq_buf_init(&piece, &cli->mem, MAX_TEXT);
        tq_buf_reset(out);
        ok = tq_detokenize(tok, list->ids[i], false, true, &piece);
        put_readable(out, piece.data, piece.len);
        tq_buf_clear(&piece);
        ok = ok && !out->failed && json_array_append_new(ids, json_integer(list->ids[i])) == 0 &&
             json_array_append_new(pieces, json_stringn(out->data, out->len)) == 0;
    }
    if (!ok) {
        json_decref(ids);
        json_decref(pieces);
        return TQ_NOMEM(err);
    }
    return tq_cli_json(cli, json_pack("{s:o, s:o}", "ids", ids, "pieces", pieces), err);
}

static toque_status run(tq_cli *cli, void *given, toque_error *err) {
    const options *o = given;
    tq_gguf *gguf = NULL;
    tq_tokenizer *tok = NULL;
    char *text = NULL;
    size_t n;
    tq_tokens list = {.mem = &cli->mem};
    tq_buf out;
    tq_buf_init(&out, &cli->mem, SIZE_MAX / 2);
    toque_status status;
    TQ_GO(tq_cli_vocabulary(cli, &o->model, &gguf, &tok, err));
    TQ_GO(tq_read_file(&text, &n, &cli->mem, cli->set.n_positional ? cli->set.positional[0] : "-", MAX_TEXT, err));
    TQ_GO(tq_tokenize(tok, text, n, o->add_special, o->parse_special, &list, err));
    if (cli->common.json)
        status = print_json(cli, tok, &list, &out, err);
    else if (o->ids)
        status = print_ids(cli, &list, &out, err);
    else
        status = print_pieces(cli, tok, &list, &out, err);
done:
    tq_buf_clear(&out);
    tq_tokens_clear(&list);
    tq_free(&cli->mem, text);
    tq_tokenizer_free(tok);
    tq_gguf_close(gguf);
    return status;
}

const tq_command tq_cmd_tokenize = {
    .name = "tokenize",
    .group = TQ_GROUP_MODEL,
    .summary = "Show the tokens of a text",
    .usage = "-m M [--ids] [--add-special] [--no-parse-special] [FILE]",
    .about = "The whole file, or standard input, is one text and is taken byte for byte, a final newline included.\n"
             "One token a line: its id, a tab, its text with \\n, \\t, \\\\ and \\xNN for what cannot be printed.\n"
             "--json prints {\"ids\", \"pieces\"}. A file with a vocabulary and no weights is enough.",
    .example = "printf 'Hello there' | toque tokenize -m model.gguf --ids",
    .tables = tables,
    .size = sizeof(options),
    .max_args = 1,
    .run = run,
};
