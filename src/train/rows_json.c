/* JSON rows: lines or one array, and what an object means (the forms of docs/data-formats.md). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "text/unicode.h"
#include "train/rows_impl.h"

/* The forms in order of preference: a row with messages and a prompt (as published sets have) is a messages row. */
static const struct {
    const char *name, *key, *answer; /* answer: a second field that it must have, or NULL */
} forms[] = {[FORM_MESSAGES] = {"messages", "messages", NULL},
             [FORM_SHAREGPT] = {"sharegpt", "conversations", NULL},
             [FORM_ALPACA] = {"alpaca", "instruction", "output"},
             [FORM_PROMPT] = {"prompt", "prompt", "completion"},
             [FORM_TEXT] = {"text", "text", NULL},
             [FORM_COLUMNS] = {"column", NULL, NULL},
             [FORM_FIELDS] = {"field", NULL, NULL}};

const char *tq_rows_form_name(rows_form form) {
    return forms[form].name;
}

rows_form tq_rows_form_find(const char *name) {
    for (int f = FORM_MESSAGES; f <= FORM_TEXT; f++)
        if (strcmp(forms[f].name, name) == 0) return (rows_form)f;
    return FORM_NONE;
}

rows_form tq_rows_recognize(const json_t *object, bool answer_optional) {
    for (int pass = 0; pass < 2; pass++) /* complete rows first, then those whose answer is missing */
        for (int f = FORM_MESSAGES; f <= FORM_TEXT; f++)
            if (json_object_get(object, forms[f].key) &&
                (pass || answer_optional || !forms[f].answer || json_object_get(object, forms[f].answer)))
                return (rows_form)f;
    return FORM_NONE;
}

const char *tq_rows_type_name(const json_t *value) {
    static const char *const names[] = {"an object", "an array", "a string", "a number",
                                        "a number",  "true",     "false",    "null"};
    return value ? names[json_typeof(value)] : "nothing";
}

static size_t list_one(char *out, size_t at, size_t n, const char *name) {
    if (at && at + 2 < n) {
        memcpy(out + at, ", ", 2);
        at += 2;
    }
    size_t len = strnlen(name, 40), whole = tq_utf8_valid_prefix(name, len);
    for (size_t i = 0; i < whole && at + 1 < n; i++) out[at++] = (unsigned char)name[i] < 32 ? '?' : name[i];
    return at;
}

const char *tq_rows_list(const json_t *names, char *out, size_t n) {
    size_t at = 0, i;
    const char *key;
    json_t *value;
    if (json_is_array(names))
        json_array_foreach(names, i, value) at = list_one(out, at, n, json_string_value(value));
    else
        json_object_foreach((json_t *)(uintptr_t)names, key, value) at = list_one(out, at, n, key);
    out[tq_utf8_valid_prefix(out, at)] = 0;
    return at ? out : "nothing";
}

bool tq_rows_add(json_t *messages, const char *role, const char *content, size_t n) {
    json_t *m = json_object();
    int bad =
        json_object_set_new(m, "role", json_string(role)) | json_object_set_new(m, "content", json_stringn(content, n));
    if (bad) {
        json_decref(m);
        return false;
    }
    return json_array_append_new(messages, m) == 0;
}

static toque_status missing(const tq_rows *rows, const char *key, toque_error *err) {
    char found[300];
    const json_t *names = rows->columns ? rows->columns : rows->object;
    return TQ_FAIL(err, EFORMAT, "%s \"%s\" is missing; there %s: %s", rows->columns ? "column" : "field", key,
                   rows->columns ? "are" : "is", tq_rows_list(names, found, sizeof found));
}

static bool blank(const char *s) {
    return s[strspn(s, " \t\r\n")] == 0;
}

/* A string field; a number is taken as it would be written (labels are often 0 and 1). *s NULL: absent but optional. */
static toque_status text_field(const tq_rows *rows, const char *key, bool optional, bool number_ok, const char **s,
                               toque_error *err) {
    json_t *value = json_object_get(rows->object, key);
    *s = NULL;
    if (!value && !optional) return missing(rows, key, err);
    if (!value || (optional && json_is_null(value))) return TOQUE_OK;
    if (number_ok && (json_is_integer(value) || json_is_boolean(value))) {
        char number[32];
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
        json_t *text = json_string(json_is_integer(value) ? number : json_is_true(value) ? "true" : "false");
        if (json_object_set_new(rows->object, key, text)) return TQ_NOMEM(err);
        value = json_object_get(rows->object, key);
    }
    if (!json_is_string(value))
        return TQ_FAIL(err, EFORMAT, "field \"%s\" must be a string, not %s", key, tq_rows_type_name(value));
    *s = json_string_value(value);
    return TOQUE_OK;
}

/* One user turn and, if there is one, the assistant's. extra (Alpaca's input) stands below the prompt. */
static toque_status pair(tq_rows *rows, tq_row *row, const char *prompt_key, const char *extra_key,
                         const char *answer_key, toque_error *err) {
    const char *prompt, *extra = NULL, *answer = NULL;
    bool optional = rows->o.allow_no_target;
    TQ_TRY(text_field(rows, prompt_key, false, true, &prompt, err));
    if (extra_key) TQ_TRY(text_field(rows, extra_key, true, false, &extra, err));
    if (answer_key) TQ_TRY(text_field(rows, answer_key, optional, true, &answer, err));
    if (blank(prompt) && (!extra || blank(extra)))
        return TQ_FAIL(err, EFORMAT, "field \"%s\" is empty: there is nothing to answer", prompt_key);
    if (answer && blank(answer)) {
        if (!optional)
            return TQ_FAIL(err, EFORMAT, "the answer, field \"%s\", is empty: fill it in or remove the row",
                           answer_key);
        answer = NULL;
    }
    rows->messages = json_array();
    if (!rows->messages) return TQ_NOMEM(err);
    tq_buf user;
    tq_buf_init(&user, rows->mem, 2 * (size_t)TQ_ROW_MAX_BYTES);
    tq_buf_puts(&user, prompt);
    if (extra && !blank(extra)) {
        tq_buf_puts(&user, blank(prompt) ? "" : "\n\n");
        tq_buf_puts(&user, extra);
    }
    bool ok = !user.failed && tq_rows_add(rows->messages, "user", user.data, user.len) &&
              (!answer || tq_rows_add(rows->messages, "assistant", answer, strlen(answer)));
    tq_buf_clear(&user);
    if (!ok) return TQ_NOMEM(err);
    row->plain = true;
    return TOQUE_OK;
}

/* Messages with their weights; `asked` of them, at the front, are a prompt: their assistant turns are not learned. */
static toque_status conversation(tq_rows *rows, json_t *raw, size_t asked, toque_error *err) {
    size_t n = json_array_size(raw);
    TQ_TRY(tq_rows_turns(rows, n + 1, err));
    TQ_TRY(tq_messages_normalize(&rows->messages, rows->mem, raw, rows->turns, err));
    for (size_t i = 0; i < asked && i < n; i++) rows->turns[i] = 0;
    return TOQUE_OK;
}

/* {"prompt": [messages], "completion": [messages]} */
static toque_status prompt_messages(tq_rows *rows, json_t *prompt, json_t *completion, toque_error *err) {
    if (!json_is_array(prompt) || (completion && !json_is_array(completion)))
        return TQ_FAIL(err, EFORMAT,
                       "\"prompt\" is %s and \"completion\" %s: both are strings, or both are arrays of messages",
                       tq_rows_type_name(prompt), tq_rows_type_name(completion));
    if (completion && json_array_size(completion) == 0 && !rows->o.allow_no_target)
        return TQ_FAIL(err, EFORMAT, "the answer, field \"completion\", is empty: fill it in or remove the row");
    json_t *all = json_copy(prompt);
    toque_status status = TOQUE_OK;
    if (!all || (completion && json_array_extend(all, completion)))
        status = TQ_NOMEM(err);
    else
        status = conversation(rows, all, json_array_size(prompt), err);
    json_decref(all);
    return status;
}

static toque_status make_messages(tq_rows *rows, tq_row *row, toque_error *err) {
    json_t *o = rows->object, *list = json_object_get(o, forms[rows->form].key ? forms[rows->form].key : "");
    const tq_data_options *opt = &rows->o;
    json_t *turns = NULL;
    toque_status status;
    switch (rows->form) {
    case FORM_MESSAGES: return list ? conversation(rows, list, 0, err) : missing(rows, "messages", err);
    case FORM_SHAREGPT:
        if (!list) return missing(rows, "conversations", err);
        TQ_TRY(tq_rows_sharegpt(&turns, list, err));
        status = conversation(rows, turns, 0, err);
        json_decref(turns);
        return status;
    case FORM_ALPACA: return pair(rows, row, "instruction", "input", "output", err);
    case FORM_PROMPT:
        if (json_is_array(list) || json_is_array(json_object_get(o, "completion"))) {
            json_t *completion = json_object_get(o, "completion");
            if (!list) return missing(rows, "prompt", err);
            if (!completion && !opt->allow_no_target) return missing(rows, "completion", err);
            return prompt_messages(rows, list, completion, err);
        }
        return pair(rows, row, "prompt", NULL, "completion", err);
    case FORM_COLUMNS:
        if (opt->prompt_column) return pair(rows, row, opt->prompt_column, NULL, opt->answer_column, err);
        TQ_TRY(pair(rows, row, opt->text_column, NULL, opt->label_column, err));
        if (opt->label_column) row->label = json_string_value(json_object_get(o, opt->label_column));
        return TOQUE_OK;
    default: return TQ_FAIL(err, EINTERNAL, "a row of no form");
    }
}

/* The row's own "system", else --system, in front; the weights move along. */
static toque_status put_system(tq_rows *rows, toque_error *err) {
    const char *own = NULL, *text;
    if (rows->kind != KIND_CSV) TQ_TRY(text_field(rows, "system", true, false, &own, err));
    if (own && blank(own)) own = NULL;
    const char *first = json_string_value(json_object_get(json_array_get(rows->messages, 0), "role"));
    bool has = first && (!strcmp(first, "system") || !strcmp(first, "developer"));
    if (own && has)
        return TQ_FAIL(err, EFORMAT, "the row has a field \"system\" and a system message: keep one of them");
    text = own ? own : rows->o.system;
    if (has || !text) return TOQUE_OK;
    json_t *m = json_pack("{s:s, s:s}", "role", "system", "content", text);
    size_t n = json_array_size(rows->messages);
    if (!m || json_array_insert_new(rows->messages, 0, m)) return TQ_NOMEM(err);
    if (rows->turns) {
        if (rows->turns_cap < n + 1) return TQ_FAIL(err, EINTERNAL, "weights of a row that has grown");
        memmove(rows->turns + 1, rows->turns, n * sizeof *rows->turns);
        rows->turns[0] = 1;
    }
    return TOQUE_OK;
}

static toque_status put_tools(tq_rows *rows, tq_row *row, toque_error *err) {
    json_t *tools = json_object_get(rows->object, "tools");
    if (rows->kind == KIND_CSV || !tools || json_is_null(tools)) return TOQUE_OK;
    if (json_is_string(tools)) { /* Arrow tables cannot hold mixed schemas, so published sets store them as text */
        json_t *parsed = json_loads(json_string_value(tools), JSON_REJECT_DUPLICATES, NULL);
        if (!parsed) return TQ_FAIL(err, EFORMAT, "field \"tools\" is a string that is not JSON");
        if (json_object_set_new(rows->object, "tools", parsed)) return TQ_NOMEM(err);
        tools = json_object_get(rows->object, "tools");
    }
    if (!json_is_array(tools))
        return TQ_FAIL(err, EFORMAT, "field \"tools\" must be an array, not %s", tq_rows_type_name(tools));
    if (json_array_size(tools)) row->tools = tools;
    return TOQUE_OK;
}

static toque_status put_weight(tq_rows *rows, tq_row *row, toque_error *err) {
    json_t *w = json_object_get(rows->object, "weight");
    if (rows->kind == KIND_CSV || !w || json_is_null(w)) return TOQUE_OK;
    double x = json_number_value(w);
    if (!json_is_number(w) || !(x > 0) || !isfinite((float)x))
        return TQ_FAIL(err, EFORMAT, "field \"weight\" must be a number above 0 (to leave a row out, remove it)");
    row->weight = (float)x;
    return TOQUE_OK;
}

static toque_status text_row(tq_rows *rows, tq_row *row, toque_error *err) {
    json_t *value = json_object_get(rows->object, "text");
    if (!value) return missing(rows, "text", err);
    if (!json_is_string(value))
        return TQ_FAIL(err, EFORMAT, "field \"text\" must be a string, not %s", tq_rows_type_name(value));
    row->text = json_string_value(value);
    row->text_len = json_string_length(value);
    if (row->text_len == 0) return TQ_FAIL(err, EFORMAT, "field \"text\" is empty: remove the row");
    if (json_object_get(rows->object, "label")) rows->label_unused = true;
    return put_weight(rows, row, err);
}

static toque_status find_form(tq_rows *rows, const tq_row *row, toque_error *err) {
    char found[300];
    if (rows->forced) return TOQUE_OK;
    rows_form form = tq_rows_recognize(rows->object, rows->o.allow_no_target);
    if (rows->form == FORM_NONE) {
        rows->form = form;
        rows->form_line = row->line;
        if (form != FORM_NONE) return TOQUE_OK;
        return TQ_FAIL(err, EFORMAT,
                       "a row needs messages, conversations, instruction and output, prompt and completion, or "
                       "text (or name its fields with --prompt-column and --answer-column); there is: %s",
                       tq_rows_list(rows->object, found, sizeof found));
    }
    if (json_object_get(rows->object, forms[rows->form].key) || form == FORM_NONE) return TOQUE_OK;
    return TQ_FAIL(err, EFORMAT,
                   "a row of the form \"%s\", but the file began with \"%s\" rows on line %u: one file, one form",
                   forms[form].name, forms[rows->form].name, rows->form_line);
}

toque_status tq_rows_object(tq_rows *rows, tq_row *row, toque_error *err) {
    if (rows->form == FORM_FIELDS) {
        row->object = rows->object;
        return put_weight(rows, row, err);
    }
    TQ_TRY(find_form(rows, row, err));
    if (rows->form == FORM_TEXT) return text_row(rows, row, err);
    TQ_TRY(tq_rows_turns(rows, 3, err));
    TQ_TRY(make_messages(rows, row, err));
    TQ_TRY(put_system(rows, err));
    TQ_TRY(put_tools(rows, row, err));
    TQ_TRY(put_weight(rows, row, err));
    size_t n = json_array_size(rows->messages);
    const char *last = json_string_value(json_object_get(json_array_get(rows->messages, n - 1), "role"));
    row->answered = last && strcmp(last, "assistant") == 0;
    row->messages = rows->messages;
    row->turns = rows->turns;
    return TOQUE_OK;
}

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void skip_space(tq_rows *rows) {
    for (; rows->at < rows->text.len && is_space(rows->text.data[rows->at]); rows->at++)
        rows->line += rows->text.data[rows->at] == '\n';
}

void tq_rows_json_open(tq_rows *rows) {
    skip_space(rows);
    if (rows->at >= rows->text.len || rows->text.data[rows->at] != '[') return;
    rows->kind = KIND_JSON_ARRAY;
    rows->at++;
}

/* A syntax error of jansson's, which counts lines and columns from the start of the row. */
static toque_status syntax(const json_error_t *e, uint32_t line, toque_error *err) {
    char text[JSON_ERROR_TEXT_LENGTH];
    size_t n = 0;
    for (; e->text[n] && n + 1 < sizeof text; n++) text[n] = (unsigned char)e->text[n] < 32 ? '?' : e->text[n];
    text[tq_utf8_valid_prefix(text, n)] = 0;
    return TQ_FAIL(err, EFORMAT, "line %u, column %d: not valid JSON: %s",
                   line + (e->line > 0 ? (uint32_t)e->line - 1 : 0), e->column, text);
}

/* The bytes of the next row in a file of lines. */
static bool take_line(tq_rows *rows, tq_row *row) {
    skip_space(rows);
    if (rows->at >= rows->text.len) return false;
    const char *from = rows->text.data + rows->at;
    const char *end = memchr(from, '\n', rows->text.len - rows->at);
    size_t n = end ? (size_t)(end - from) : rows->text.len - rows->at;
    row->line = rows->line;
    row->raw = from;
    rows->at += n;
    while (n > 0 && is_space(from[n - 1])) n--;
    row->raw_len = n;
    return true;
}

/* Elements of an array: a comma before all but the first, a bracket at the end. Sets row->raw up to the file's end. */
static toque_status take_element(tq_rows *rows, tq_row *row, bool *more, toque_error *err) {
    const char *data = rows->text.data;
    *more = false;
    if (rows->ended) return TOQUE_OK;
    skip_space(rows);
    char c = rows->at < rows->text.len ? data[rows->at] : 0;
    if (c == ']') {
        rows->ended = true;
        rows->at++;
        skip_space(rows);
        if (rows->at >= rows->text.len) return TOQUE_OK;
        return TQ_FAIL(err, EFORMAT, "line %u: something stands after the end of the array", rows->line);
    }
    if (rows->began && c == ',') {
        rows->at++;
        skip_space(rows);
    } else if (rows->began || c == 0) {
        rows->ended = true;
        return TQ_FAIL(err, EFORMAT, "line %u: the array of rows is broken: expected a comma or the closing bracket",
                       rows->line);
    }
    rows->began = *more = true;
    row->line = rows->line;
    row->raw = data + rows->at;
    row->raw_len = rows->text.len - rows->at;
    return TOQUE_OK;
}

static toque_status parse(tq_rows *rows, tq_row *row, toque_error *err) {
    bool array = rows->kind == KIND_JSON_ARRAY;
    if (!array && row->raw_len > TQ_ROW_MAX_BYTES)
        return TQ_FAIL(err, ELIMIT, "line %u: a row of %zu bytes; at most %d are allowed", row->line, row->raw_len,
                       TQ_ROW_MAX_BYTES);
    json_error_t e;
    size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | (array ? JSON_DISABLE_EOF_CHECK : 0);
    rows->object = json_loadb(row->raw, row->raw_len, flags, &e);
    if (!rows->object) {
        rows->ended = true; /* an array: nobody knows where its next element begins */
        if (json_error_code(&e) == json_error_out_of_memory) return TQ_NOMEM(err);
        return syntax(&e, row->line, err);
    }
    if (!array) return TOQUE_OK;
    row->raw_len = (size_t)e.position;
    for (size_t i = 0; i < row->raw_len; i++) rows->line += row->raw[i] == '\n';
    rows->at += row->raw_len;
    return TOQUE_OK;
}

toque_status tq_rows_json_next(tq_rows *rows, tq_row *row, bool *more, toque_error *err) {
    if (rows->kind == KIND_JSON_ARRAY)
        TQ_TRY(take_element(rows, row, more, err));
    else
        *more = take_line(rows, row);
    if (!*more) return TOQUE_OK;
    TQ_TRY(parse(rows, row, err));
    toque_status status;
    if (!json_is_object(rows->object))
        status = TQ_FAIL(err, EFORMAT, "a row must be an object, not %s", tq_rows_type_name(rows->object));
    else
        status = tq_rows_object(rows, row, err);
    return status == TOQUE_OK ? TOQUE_OK : tq_error_prefix(err, status, "line %u", row->line);
}
