/* Rows: every form of data that people have, what is recognized, and what each broken file's error says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "train/csv.h"
#include "train/rows.h"

static char folder[64];

static int setup(void **state) {
    (void)state;
    strcpy(folder, "/tmp/test_rows.XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

static const char *put(const char *name, const void *data, size_t n) {
    static char path[160];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    return path;
}

/* All rows as text: one line each: "line N [weight] role:content|role:content", or "text:...". */
typedef struct read_result {
    toque_status status;
    toque_error err;
    char text[4096];
    char notes[1024];
} read_result;

static void show(const tq_row *row, tq_buf *out) {
    tq_buf_printf(out, "%u", row->line);
    if (row->weight != 1) tq_buf_printf(out, " w%g", (double)row->weight);
    if (row->label) tq_buf_printf(out, " L%s", row->label);
    if (row->tools) tq_buf_printf(out, " T%zu", json_array_size(row->tools));
    if (!row->messages) tq_buf_printf(out, " text:%.*s", (int)row->text_len, row->text);
    size_t i;
    json_t *m;
    json_array_foreach(row->messages, i, m) {
        json_t *calls = json_object_get(m, "tool_calls");
        float turn = row->turns ? row->turns[i] : 1;
        tq_buf_puts(out, i ? "|" : " ");
        if (turn > 0 && turn != 1) tq_buf_printf(out, "w%g ", (double)turn);
        tq_buf_printf(out, "%s%s:%s", turn > 0 ? "" : "~", json_string_value(json_object_get(m, "role")),
                      json_string_value(json_object_get(m, "content")));
        if (!calls) continue;
        char *dump = json_dumps(calls, JSON_COMPACT | JSON_SORT_KEYS);
        tq_buf_puts(out, dump);
        free(dump);
    }
    tq_buf_putc(out, '\n');
}

static read_result read_rows(tq_mem *mem, const char *path, const tq_data_options *o) {
    static const tq_data_options none;
    read_result r = {0};
    tq_rows *rows;
    tq_mem own = {0};
    tq_buf out;
    tq_buf_init(&out, &own, sizeof r.text - 1);
    r.status = tq_rows_open(&rows, mem, path, o ? o : &none, &r.err);
    if (r.status != TOQUE_OK) return r;
    for (;;) {
        tq_row row;
        bool more;
        r.status = tq_rows_next(rows, &row, &more, &r.err);
        if (r.status != TOQUE_OK || !more) break;
        show(&row, &out);
    }
    memcpy(r.text, out.data, out.len);
    tq_buf_reset(&out);
    tq_rows_describe(rows, &out);
    memcpy(r.notes, out.data, out.len < sizeof r.notes ? out.len : sizeof r.notes - 1);
    tq_buf_clear(&out);
    tq_rows_close(rows);
    return r;
}

static read_result read_text(const char *name, const char *data, const tq_data_options *o) {
    tq_mem mem = {0};
    read_result r = read_rows(&mem, put(name, data, strlen(data)), o);
    assert_int_equal(mem.used, 0);
    return r;
}

#define GOOD(name, data, o, expected)                                                                                  \
    do {                                                                                                               \
        read_result r_ = read_text((name), (data), (o));                                                               \
        if (r_.status != TOQUE_OK) fail_msg("%s", r_.err.message);                                                     \
        assert_string_equal(r_.text, (expected));                                                                      \
    } while (0)
#define BAD(name, data, o, code_, needle)                                                                              \
    do {                                                                                                               \
        read_result r_ = read_text((name), (data), (o));                                                               \
        assert_int_equal(r_.status, TOQUE_##code_);                                                                    \
        if (!strstr(r_.err.message, (needle))) fail_msg("\"%s\" lacks \"%s\"", r_.err.message, (needle));              \
        if (!strstr(r_.err.message, folder) && TOQUE_##code_ == TOQUE_EFORMAT)                                         \
            fail_msg("no path: %s", r_.err.message);                                                                   \
    } while (0)

static void forms_of_json_are_recognized(void **state) {
    (void)state;
    GOOD("a.jsonl",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},{\"role\":\"assistant\",\"content\":\"yo\"}]}\n", NULL,
         "1 user:hi|assistant:yo\n");
    GOOD("a.jsonl",
         "\n\n {\"instruction\":\"add\",\"input\":\"1 2\",\"output\":\"3\",\"text\":\"whole\"}\r\n"
         "{\"instruction\":\"sing\",\"input\":\"\",\"output\":\"la\"}",
         NULL, "3 user:add\n\n1 2|assistant:3\n4 user:sing|assistant:la\n");
    GOOD("a.jsonl",
         "{\"conversations\":[{\"from\":\"system\",\"value\":\"s\"},{\"from\":\"human\",\"value\":\"a\"},"
         "{\"from\":\"gpt\",\"value\":\"b\"},{\"from\":\"user\",\"value\":\"c\"},{\"from\":\"assistant\",\"value\":"
         "\"d\"}]}",
         NULL, "1 system:s|user:a|assistant:b|user:c|assistant:d\n");
    GOOD("a.jsonl", "{\"prompt\":\"p\",\"completion\":\"c\",\"weight\":2.5,\"system\":\"be kind\"}", NULL,
         "1 w2.5 system:be kind|user:p|assistant:c\n");
    GOOD("a.jsonl", "{\"text\":\"one\\ntwo\"}\n{\"text\":\"three\"}", NULL, "1 text:one\ntwo\n2 text:three\n");
    GOOD("a.txt", "one\ntwo\n", NULL, "1 text:one\ntwo\n\n");
}

static void prompt_messages_are_asked_not_learned(void **state) {
    (void)state;
    GOOD("a.jsonl",
         "{\"prompt\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"},"
         "{\"role\":\"user\",\"content\":\"c\"}],\"completion\":[{\"role\":\"assistant\",\"content\":\"d\"}]}",
         NULL, "1 ~user:a|~assistant:b|~user:c|assistant:d\n");
    GOOD("a.jsonl",
         "{\"system\":\"s\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"},"
         "{\"role\":\"assistant\",\"content\":\"b\",\"weight\":0},{\"role\":\"user\",\"content\":\"c\"},"
         "{\"role\":\"assistant\",\"content\":\"d\",\"train\":true}]}",
         NULL, "1 system:s|user:a|~assistant:b|user:c|assistant:d\n");
}

static void turns_have_weights(void **state) {
    (void)state;
    GOOD("a.jsonl",
         "{\"system\":\"s\",\"weight\":2,\"messages\":[{\"role\":\"user\",\"content\":\"a\",\"weight\":1},"
         "{\"role\":\"assistant\",\"content\":\"b\",\"weight\":0.25},{\"role\":\"user\",\"content\":\"c\"},"
         "{\"role\":\"assistant\",\"content\":\"d\",\"weight\":1.5}]}",
         NULL, "1 w2 system:s|user:a|w0.25 assistant:b|user:c|w1.5 assistant:d\n");
    GOOD("a.jsonl",
         "{\"conversations\":[{\"from\":\"human\",\"value\":\"a\"},"
         "{\"from\":\"gpt\",\"value\":\"b\",\"weight\":0.5}]}",
         NULL, "1 user:a|w0.5 assistant:b\n");
}

static void parts_and_calls_become_what_templates_read(void **state) {
    (void)state;
    GOOD("a.jsonl",
         "{\"tools\":[{\"type\":\"function\"}],\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\","
         "\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]},{\"role\":\"assistant\",\"content\":null,\"tool_calls\":"
         "[{\"type\":"
         "\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\": 1}\"}}]}]}",
         NULL,
         "1 T1 user:a\nb|assistant:[{\"function\":{\"arguments\":{\"x\":1},\"name\":\"f\"},\"type\":\"function\"}]\n");
    BAD("a.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":\"x\"}]}]}",
        NULL, EUNSUPPORTED, "image_url");
}

static void a_json_array_is_read_like_lines(void **state) {
    (void)state;
    GOOD("a.json", "[\n {\"prompt\":\"a\",\n  \"completion\":\"b\"},\n {\"prompt\":\"c\",\"completion\":\"d\"}\n]\n",
         NULL, "2 user:a|assistant:b\n4 user:c|assistant:d\n");
    BAD("a.json", "[{\"prompt\":\"a\",\"completion\":\"b\"}", NULL, EFORMAT, "expected a comma");
    BAD("a.json", "[{\"prompt\":\"a\",\"completion\":\"b\"}]x", NULL, EFORMAT, "after the end");
    BAD("a.json", "[{\"prompt\":\"a\",\n\"completion\":}]", NULL, EFORMAT, "line 2, column");
    GOOD("a.json", "{\"prompt\":\"a\",\"completion\":\"b\"}", NULL, "1 user:a|assistant:b\n");
}

static void broken_json_names_its_place(void **state) {
    (void)state;
    const char *good = "{\"prompt\":\"a\",\"completion\":\"b\"}\n";
    char text[512];
    static const struct {
        const char *row, *says;
        toque_status code;
    } cases[] = {
        {"{\"prompt\":\"a\",\"completion\":}", "a.jsonl: line 2, column 28", TOQUE_EFORMAT},
        {"{\"prompt\":\"a\",\"prompt\":\"b\",\"completion\":\"c\"}", "duplicate", TOQUE_EFORMAT},
        {"{\"prompt\":\"a\"}", "\"completion\" is missing; there is: prompt", TOQUE_EFORMAT},
        {"{\"prompt\":\"a\",\"completion\":[]}", "both are strings, or both are arrays", TOQUE_EFORMAT},
        {"{\"prompt\":{},\"completion\":\"a\"}", "must be a string, not an object", TOQUE_EFORMAT},
        {"{\"prompt\":\"a\",\"completion\":\" \\n\"}", "the answer, field \"completion\", is empty", TOQUE_EFORMAT},
        {"{\"prompt\":\"\",\"completion\":\"b\"}", "\"prompt\" is empty", TOQUE_EFORMAT},
        {"{\"prompt\":\"a\\u0000\",\"completion\":\"b\"}", "line 2", TOQUE_EFORMAT},
        {"{\"text\":\"t\"}", "line 2: a row of the form \"text\", but the file began with \"prompt\" rows on line 1",
         TOQUE_EFORMAT},
        {"[1]", "a row must be an object, not an array", TOQUE_EFORMAT},
        {"{\"a\":1}", "\"prompt\" is missing; there is: a", TOQUE_EFORMAT},
        {"{\"prompt\":\"a\",\"completion\":\"b\",\"weight\":-1}", "\"weight\" must be a number above 0", TOQUE_EFORMAT},
        {"{\"prompt\":\"a\",\"completion\":\"b\",\"weight\":\"1\"}", "\"weight\" must be", TOQUE_EFORMAT},
        {"{\"prompt\":[{\"role\":\"user\",\"content\":\"a\",\"weight\":0.5}],\"completion\":[{\"role\":\"assistant\","
         "\"content\":\"b\"}]}",
         "\"weight\" is 0.5 in a message of role user", TOQUE_EFORMAT},
        {"{\"prompt\":[{\"role\":\"assistant\",\"content\":\"a\",\"weight\":-0.5}],\"completion\":[{\"role\":"
         "\"assistant\",\"content\":\"b\"}]}",
         "\"weight\" of a message must be a number, 0 (not learned) or above", TOQUE_EFORMAT},
        {"{\"prompt\":\"a\",\"completion\":\"b\"} x", "line 2", TOQUE_EFORMAT}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(text, sizeof text, "%s%s\n", good, cases[i].row);
        read_result r = read_text("a.jsonl", text, NULL);
        assert_int_equal(r.status, cases[i].code);
        if (!strstr(r.err.message, cases[i].says)) fail_msg("\"%s\" lacks \"%s\"", r.err.message, cases[i].says);
        assert_non_null(strstr(r.err.message, "a.jsonl: line 2"));
    }
    BAD("a.jsonl", "{\"foo\":1,\"bar\":2}", NULL, EFORMAT, "there is: foo, bar");
    BAD("a.jsonl", "{\"prompt\":\"a\",\"completion\":\"\xff\"}", NULL, EFORMAT, "line 1: byte 0xff is not valid UTF-8");
    BAD("a.jsonl", "", NULL, EFORMAT, "is empty");
    BAD("a.jsonl", " \n\n", NULL, EFORMAT, "is empty");
    BAD("a.txt", "", NULL, EFORMAT, "is empty");
    BAD("a.jsonl", "{\"messages\":[]}", NULL, EFORMAT, "empty");
    BAD("a.jsonl", "{\"messages\":[{\"role\":\"bot\",\"content\":\"x\"}]}", NULL, EFORMAT,
        "message 1: role \"bot\" is unknown");
    BAD("a.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"content\":\"\"}]}",
        NULL, EFORMAT, "message 2: the assistant's answer is empty");
    BAD("a.jsonl", "{\"conversations\":[{\"from\":\"alien\",\"value\":\"x\"}]}", NULL, EFORMAT, "turn 1");
    tq_mem mem = {0};
    read_result r = read_rows(&mem, "/nowhere/a.jsonl", NULL);
    assert_int_equal(r.status, TOQUE_ENOTFOUND);
    assert_non_null(strstr(r.err.message, "/nowhere/a.jsonl"));
}

static void nul_bytes_are_refused(void **state) {
    (void)state;
    tq_mem mem = {0};
    read_result r = read_rows(&mem, put("a.txt", "one\ntwo\0three", 13), NULL);
    assert_int_equal(r.status, TOQUE_EFORMAT);
    assert_non_null(strstr(r.err.message, "line 2 holds a NUL byte"));
}

static void reading_goes_on_behind_a_broken_row(void **state) {
    (void)state;
    tq_mem mem = {0};
    const char *data = "{\"text\":\"a\"}\n{\"text\":1}\n{bad\n{\"text\":\"b\"}\n";
    tq_rows *rows;
    tq_row row;
    bool more;
    toque_error err;
    const tq_data_options o = {0};
    assert_int_equal(tq_rows_open(&rows, &mem, put("a.jsonl", data, strlen(data)), &o, &err), TOQUE_OK);
    assert_int_equal(tq_rows_next(rows, &row, &more, &err), TOQUE_OK);
    assert_int_equal(tq_rows_next(rows, &row, &more, &err), TOQUE_EFORMAT);
    assert_int_equal(tq_rows_next(rows, &row, &more, &err), TOQUE_EFORMAT);
    assert_int_equal(tq_rows_next(rows, &row, &more, &err), TOQUE_OK);
    assert_true(more);
    assert_string_equal(row.text, "b");
    assert_int_equal(row.line, 4);
    assert_int_equal(row.raw_len, strlen("{\"text\":\"b\"}"));
    assert_memory_equal(row.raw, "{\"text\":\"b\"}", row.raw_len);
    assert_int_equal(tq_rows_next(rows, &row, &more, &err), TOQUE_OK);
    assert_false(more);
    tq_rows_close(rows);
    assert_int_equal(mem.used, 0);
}

static const tq_data_options pair = {.prompt_column = "Frage", .answer_column = "Antwort"};
static const tq_data_options labels = {.text_column = "text", .label_column = "label"};

static void csv_is_sniffed(void **state) {
    (void)state;
    GOOD("a.csv", "id,Frage,Antwort\n1,\"wie, was?\",so\n2,b,\"sagt \"\"ja\"\"\nund nein\"\n", &pair,
         "2 user:wie, was?|assistant:so\n3 user:b|assistant:sagt \"ja\"\nund nein\n");
    GOOD("a.csv", "id;Frage;Antwort\r\n1;a,b;c,d,e\r\n\r\n;;\r\n2;x;y\r\n", &pair,
         "2 user:a,b|assistant:c,d,e\n5 user:x|assistant:y\n");
    GOOD("a.tsv", "Frage\tAntwort\na, b; c\td|e", &pair, "2 user:a, b; c|assistant:d|e\n");
    GOOD("a.csv", "Frage|Antwort\na|b\n", &pair, "2 user:a|assistant:b\n");
    GOOD("a.csv", "sep=;\nFrage;Antwort\na,1;b,2\n", &pair, "3 user:a,1|assistant:b,2\n");
    GOOD("a.csv", "Frage,Antwort\ra,b\rc,d\r", &pair, "2 user:a|assistant:b\n3 user:c|assistant:d\n");
    GOOD("a.csv",
         "\xef\xbb\xbf"
         "text,label\ngood,1\nbad,0\n",
         &labels, "2 L1 user:good|assistant:1\n3 L0 user:bad|assistant:0\n");
    GOOD("a.csv", "prompt,completion\na,b\n", NULL, "2 user:a|assistant:b\n");
    GOOD("a.csv", "text\n\"hello, you\"\nmore\n", NULL, "2 text:hello, you\n3 text:more\n");
    GOOD("a.dat", "text,label\ngood,1\n",
         (&(tq_data_options){.format = "csv", .text_column = "text", .label_column = "label"}),
         "2 L1 user:good|assistant:1\n");
}

static void csv_errors_say_what_there_is(void **state) {
    (void)state;
    BAD("a.csv", "a,b,c\n1,2,3\n", &pair, EFORMAT, "there is no column \"Frage\"; the 3 columns (comma) are: a, b, c");
    BAD("a.csv", "a,b,c\n1,2,3\n", NULL, EINVAL, "--prompt-column");
    BAD("a.csv", "Frage,Antwort\na,b\nc\n", &pair, EFORMAT, "line 3: 1 field where the header has 2");
    BAD("a.csv", "Frage,Antwort\na,b\nc,\"d\n\ne,f\n", &pair, EFORMAT,
        "line 3: a quote opens here and is never closed");
    BAD("a.csv", "Frage,Antwort\na,\"b\"x\n", &pair, EFORMAT, "line 2, byte 6 of the row: text after a closing quote");
    BAD("a.csv", "Frage,Antwort\na,\n", &pair, EFORMAT, "line 2: the answer, field \"Antwort\", is empty");
    BAD("a.csv", "Frage,Frage,Antwort\na,b,c\n", &pair, EFORMAT, "2 columns are named \"Frage\"");
    BAD("a.csv", "Frage,Antwort\na,b\n", (&(tq_data_options){.prompt_column = "Frage"}), EINVAL, "--answer-column");
    BAD("a.txt", "Frage,Antwort\na,b\n", &pair, EINVAL, "--format csv");
}

static void encodings_are_found(void **state) {
    (void)state;
    tq_mem mem = {0};
    /* "text,label" / "schön teuer – für 5 €,schlecht" in windows-1252 (0x96 and 0x80 are not in Latin-1) */
    const char latin[] = "text,label\nsch\xf6n teuer \x96 f\xfcr 5 \x80,schlecht\nL\xe4uft gut und gr\xfc\xdft,gut\n";
    read_result r = read_rows(&mem, put("a.csv", latin, sizeof latin - 1), &labels);
    if (r.status != TOQUE_OK) fail_msg("%s", r.err.message);
    assert_string_equal(r.text, "2 Lschlecht user:schön teuer – für 5 €|assistant:schlecht\n"
                                "3 Lgut user:Läuft gut und grüßt|assistant:gut\n");
    assert_non_null(strstr(r.notes, "CSV, comma, windows-1252, column rows, 2 rows"));
    /* "Córdoba,a / Øresund,a" in Latin-1, which statistics take for IBM852 */
    const char places[] = "text,label\nC\xf3rdoba,a\n\xd8resund,a\n";
    r = read_rows(&mem, put("a.csv", places, sizeof places - 1), &labels);
    if (r.status != TOQUE_OK) fail_msg("%s", r.err.message);
    assert_string_equal(r.text, "2 La user:Córdoba|assistant:a\n3 La user:Øresund|assistant:a\n");
    for (int be = 0; be < 2; be++)
        for (int mark = 0; mark < 2; mark++) {
            const char *ascii = "text,label\ngood,1\n";
            char wide[100];
            size_t n = 0;
            if (mark) wide[n++] = (char)(be ? 0xfe : 0xff), wide[n++] = (char)(be ? 0xff : 0xfe);
            for (size_t i = 0; ascii[i]; i++) wide[n++] = be ? 0 : ascii[i], wide[n++] = be ? ascii[i] : 0;
            r = read_rows(&mem, put("a.csv", wide, n), &labels);
            if (r.status != TOQUE_OK) fail_msg("%s", r.err.message);
            assert_string_equal(r.text, "2 L1 user:good|assistant:1\n");
            assert_non_null(strstr(r.notes, be ? "UTF-16BE" : "UTF-16LE"));
        }
    /* broken UTF-8 is not taken for Latin-1: that would garble its good characters */
    const char broken[] = "text,label\nsch\xc3\xb6n gr\xc3\xbc\xc3\x9ft,1\nb\xfc"
                          "b,0\n";
    r = read_rows(&mem, put("a.csv", broken, sizeof broken - 1), &labels);
    assert_int_equal(r.status, TOQUE_EFORMAT);
    assert_non_null(strstr(r.err.message, "line 3: byte 0xfc is not valid UTF-8"));
    assert_int_equal(mem.used, 0);
}

static void options_are_checked_together(void **state) {
    (void)state;
    const char *row = "{\"q\":\"a\",\"r\":\"b\",\"prompt\":\"x\",\"completion\":\"y\"}";
    GOOD("a.jsonl", row, NULL, "1 user:x|assistant:y\n");
    GOOD("a.jsonl", row, (&(tq_data_options){.prompt_column = "q", .answer_column = "r"}), "1 user:a|assistant:b\n");
    GOOD("a.jsonl", "{\"t\":\"a\",\"l\":1}", (&(tq_data_options){.text_column = "t", .label_column = "l"}),
         "1 L1 user:a|assistant:1\n");
    GOOD("a.jsonl", row, (&(tq_data_options){.format = "prompt", .system = "S"}), "1 system:S|user:x|assistant:y\n");
    BAD("a.jsonl", row, (&(tq_data_options){.format = "alpaca"}), EFORMAT, "\"instruction\" is missing");
    BAD("a.jsonl", row, (&(tq_data_options){.format = "xml"}), EINVAL, "\"xml\" is unknown");
    BAD("a.jsonl", row, (&(tq_data_options){.format = "prompt", .prompt_column = "q", .answer_column = "r"}), EINVAL,
        "leave out");
    GOOD("a.jsonl", "{\"prompt\":\"x\"}", (&(tq_data_options){.allow_no_target = true}), "1 user:x\n");
    GOOD("a.csv", "q,w\na,b\n", (&(tq_data_options){.allow_no_target = true, .prompt_column = "q"}), "2 user:a\n");
    BAD("a.jsonl", "{\"system\":\"a\",\"messages\":[{\"role\":\"system\",\"content\":\"b\"}]}", NULL, EFORMAT,
        "keep one");
}

static void unused_labels_are_mentioned(void **state) {
    (void)state;
    read_result r = read_text("a.jsonl", "{\"text\":\"a\",\"label\":\"b\"}", NULL);
    assert_int_equal(r.status, TOQUE_OK);
    assert_non_null(strstr(r.notes, "--label-column"));
}

static void csv_values_are_quoted_when_needed(void **state) {
    (void)state;
    tq_mem mem = {0};
    tq_buf out;
    tq_buf_init(&out, &mem, 1000);
    static const char *const in[] = {"plain", "a;b", "say \"x\"", "two\nlines", "", " lead", "a,b"};
    for (size_t i = 0; i < 7; i++) {
        if (i) tq_buf_putc(&out, ';');
        tq_csv_put(&out, in[i], strlen(in[i]), ';');
    }
    assert_string_equal(out.data, "plain;\"a;b\";\"say \"\"x\"\"\";\"two\nlines\";;\" lead\";a,b");
    tq_csv csv;
    bool more;
    toque_error err;
    assert_int_equal(tq_csv_open(&csv, &mem, out.data, out.len, ';', &err), TOQUE_OK);
    assert_int_equal(tq_csv_next(&csv, &more, &err), TOQUE_OK);
    assert_int_equal(csv.n, 7);
    for (size_t i = 0; i < 7; i++) assert_string_equal(tq_csv_field(&csv, i), in[i]);
    tq_csv_close(&csv);
    tq_buf_clear(&out);
    assert_int_equal(mem.used, 0);
}

static void no_memory_is_an_error_and_leaks_nothing(void **state) {
    (void)state;
    const char *csv = "id;Frage;Antwort\n1;\"a\"\"\";b\n2;c;d\n";
    const char *json = "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"}]},"
                       "{\"role\":\"assistant\",\"content\":\"b\"}]}\n";
    for (int kind = 0; kind < 2; kind++) {
        char path[160];
        strcpy(path, put(kind ? "m.jsonl" : "m.csv", kind ? json : csv, strlen(kind ? json : csv)));
        bool done = false;
        for (unsigned long long n = 1; !done; n++) {
            tq_mem mem = {.fail_at = n};
            read_result r = read_rows(&mem, path, kind ? NULL : &pair);
            done = r.status == TOQUE_OK;
            if (!done) assert_int_equal(r.status, TOQUE_ENOMEM);
            assert_int_equal(mem.used, 0);
            assert_true(n < 1000);
        }
    }
}

/* Random bytes and random damage: an error or rows, never a crash; the reader always comes to an end. */
static void damage_never_hangs_or_crashes(void **state) {
    (void)state;
    static const char *const seeds[] = {
        "id;Frage;Antwort\r\n1;\"a\"\"\";b\r\n2;\"c\nd\";e\r\n",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}\n",
        "[{\"prompt\":\"a\",\"completion\":\"b\"},{\"prompt\":\"c\",\"completion\":\"d\"}]",
        ("{\"conversations\":[{\"from\":\"human\",\"value\":\"x\"},{\"from\":\"gpt\",\"value\":\"y\"}],\"tools\":\"[]"
         "\"}")};
    static const char alphabet[] = "\",;\n\r\t|{}[]:\\ax0\xff\xfe\xc3\xa9";
    uint32_t x = 12345;
    const tq_data_options o = {.allow_no_target = true};
    for (int round = 0; round < 1000; round++) {
        char data[300];
        const char *seed = seeds[round % 4];
        size_t n = strlen(seed);
        memcpy(data, seed, n);
        for (int k = 0; k < 1 + round % 5; k++) {
            x = x * 1664525u + 1013904223u;
            data[(x >> 8) % n] = alphabet[(x >> 20) % (sizeof alphabet - 1)];
        }
        tq_mem mem = {0};
        tq_rows *rows;
        toque_error err;
        if (tq_rows_open(&rows, &mem, put(round % 4 ? "f.json" : "f.csv", data, n), round % 4 ? &o : &pair, &err) ==
            TOQUE_OK) {
            bool more = true;
            int steps = 0;
            while (more) {
                tq_row row;
                toque_status status = tq_rows_next(rows, &row, &more, &err);
                if (status != TOQUE_OK) more = true; /* go on */
                assert_true(++steps < 1000);
            }
            tq_rows_close(rows);
        }
        assert_int_equal(mem.used, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms_of_json_are_recognized),
        cmocka_unit_test(prompt_messages_are_asked_not_learned),
        cmocka_unit_test(turns_have_weights),
        cmocka_unit_test(parts_and_calls_become_what_templates_read),
        cmocka_unit_test(a_json_array_is_read_like_lines),
        cmocka_unit_test(broken_json_names_its_place),
        cmocka_unit_test(nul_bytes_are_refused),
        cmocka_unit_test(reading_goes_on_behind_a_broken_row),
        cmocka_unit_test(csv_is_sniffed),
        cmocka_unit_test(csv_errors_say_what_there_is),
        cmocka_unit_test(encodings_are_found),
        cmocka_unit_test(options_are_checked_together),
        cmocka_unit_test(unused_labels_are_mentioned),
        cmocka_unit_test(csv_values_are_quoted_when_needed),
        cmocka_unit_test(no_memory_is_an_error_and_leaks_nothing),
        cmocka_unit_test(damage_never_hangs_or_crashes),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
