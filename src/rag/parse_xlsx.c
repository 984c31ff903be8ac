/* Workbooks (xlsx): each sheet a section, each row of it a record "column: value" under the names in its first row.
 * Texts stand in a table of their own (sharedStrings.xml). */
#include <stdio.h>
#include <string.h>

#include "rag/office.h"

enum { MAX_SHEETS = 1000, MAX_COLUMNS = 1000 };

typedef struct strings {
    tq_mem *mem;
    tq_buf text; /* NUL-terminated, one after the other */
    size_t *starts;
    size_t n, cap;
    bool in_text, failed;
} strings;

static bool is(const char *a, const char *b) {
    return strcmp(a, b) == 0;
}

static void visit_strings(void *arg, tq_xml_event event, const char *s, void *reader) {
    strings *t = arg;
    (void)reader;
    if (event == TQ_XML_TEXT) {
        if (t->in_text) tq_buf_puts(&t->text, s);
    } else if (is(s, "si")) {
        if (event == TQ_XML_CLOSE) {
            tq_buf_putc(&t->text, 0);
        } else if (TQ_GROW(t->mem, t->starts, t->n, t->cap)) {
            t->starts[t->n++] = t->text.len;
        } else {
            t->failed = true;
        }
    } else if (is(s, "t")) {
        t->in_text = event == TQ_XML_OPEN;
    } else if (is(s, "rPh")) { /* how it is read aloud: no text */
        t->in_text = false;
    }
}

typedef struct sheet {
    tq_doc *doc;
    const strings *shared;
    tq_buf value, names; /* names: the first row's, NUL-terminated */
    size_t starts[MAX_COLUMNS];
    size_t n_names, column, row;
    char type[16];
    bool in_value, any;
} sheet;

/* "BC12" is column 54, from 0. */
static size_t column_of(const char *ref) {
    size_t n = 0;
    for (; *ref >= 'A' && *ref <= 'Z' && n < 1 << 20; ref++) n = 26 * n + (size_t)(*ref - 'A' + 1);
    return n ? n - 1 : 0;
}

static const char *cell_text(sheet *s) {
    if (is(s->type, "b")) return is(s->value.data, "1") ? "true" : "false";
    if (!is(s->type, "s")) return s->value.data;
    size_t i = 0;
    for (const char *p = s->value.data; *p >= '0' && *p <= '9' && i < SIZE_MAX / 20; p++)
        i = 10 * i + (size_t)(*p - '0');
    return i < s->shared->n ? s->shared->text.data + s->shared->starts[i] : "";
}

static void end_cell(sheet *s) {
    const char *text = cell_text(s);
    if (s->row == 1) { /* names up to this column */
        while (s->n_names <= s->column && s->n_names < MAX_COLUMNS) {
            s->starts[s->n_names] = s->names.len;
            if (s->n_names == s->column) tq_buf_puts(&s->names, text);
            tq_buf_putc(&s->names, 0);
            s->n_names++;
        }
    }
    if (!*text) return;
    if (s->any) tq_doc_put(s->doc, "; ", 2);
    s->any = true;
    if (s->row > 1 && s->column < s->n_names && s->names.data[s->starts[s->column]]) {
        const char *name = s->names.data + s->starts[s->column];
        tq_doc_put_flow(s->doc, name, strlen(name));
        tq_doc_put(s->doc, ": ", 2);
    }
    tq_doc_put_flow(s->doc, text, strlen(text));
}

static void visit_sheet(void *arg, tq_xml_event event, const char *name, void *reader) {
    sheet *s = arg;
    bool open = event == TQ_XML_OPEN;
    char ref[16];
    if (event == TQ_XML_TEXT) {
        if (s->in_value) tq_buf_puts(&s->value, name);
    } else if (is(name, "row")) {
        if (open)
            tq_doc_begin(s->doc, TQ_BLOCK_ROW, 0), s->row++, s->column = SIZE_MAX, s->any = false;
        else
            tq_doc_end(s->doc);
    } else if (is(name, "c")) {
        if (open) {
            s->column = tq_xml_attribute(reader, "r", ref, sizeof ref) ? column_of(ref) : s->column + 1;
            tq_xml_attribute(reader, "t", s->type, sizeof s->type);
            tq_buf_reset(&s->value);
        } else {
            end_cell(s);
        }
    } else if (is(name, "v") || is(name, "t")) {
        s->in_value = open;
    }
}

typedef struct sheet_names {
    tq_doc *doc;
    int wanted, at;
} sheet_names;

/* The heading of sheet number `wanted`, as the workbook lists them. */
static void visit_workbook(void *arg, tq_xml_event event, const char *s, void *reader) {
    sheet_names *w = arg;
    char name[128];
    if (event != TQ_XML_OPEN || !is(s, "sheet") || ++w->at != w->wanted) return;
    if (!tq_xml_attribute(reader, "name", name, sizeof name)) return;
    tq_doc_begin(w->doc, TQ_BLOCK_HEADING, 1);
    tq_doc_put(w->doc, name, strlen(name));
    tq_doc_end(w->doc);
}

static toque_status read_sheet(tq_archive *a, tq_doc *doc, const strings *shared, const char *part, int number,
                               toque_error *err) {
    sheet_names w = {.doc = doc, .wanted = number};
    sheet *s = TQ_NEW(a->mem, sheet);
    if (!s) return TQ_NOMEM(err);
    s->doc = doc;
    s->shared = shared;
    tq_buf_init(&s->value, a->mem, TQ_DOC_MAX_TEXT);
    tq_buf_init(&s->names, a->mem, TQ_DOC_MAX_TEXT);
    toque_status status = TOQUE_OK;
    if (tq_archive_has(a, "xl/workbook.xml")) status = tq_archive_xml(a, "xl/workbook.xml", visit_workbook, &w, err);
    if (status == TOQUE_OK) status = tq_archive_xml(a, part, visit_sheet, s, err);
    if (status == TOQUE_OK) status = tq_buf_status(&s->names, "column names", err);
    if (status == TOQUE_OK) status = tq_buf_status(&s->value, "a cell", err);
    tq_buf_clear(&s->value);
    tq_buf_clear(&s->names);
    tq_free(a->mem, s);
    return status;
}

toque_status tq_parse_xlsx(tq_doc *doc, const tq_input *in, toque_error *err) {
    tq_archive a;
    char part[64];
    strings shared = {.mem = in->mem};
    TQ_TRY(tq_archive_open(&a, in->mem, in->data, in->n, err));
    tq_buf_init(&shared.text, in->mem, 4 * (size_t)TQ_DOC_MAX_TEXT);
    toque_status status = tq_archive_facts(&a, "docProps/core.xml", doc, err);
    if (status == TOQUE_OK && tq_archive_has(&a, "xl/sharedStrings.xml"))
        status = tq_archive_xml(&a, "xl/sharedStrings.xml", visit_strings, &shared, err);
    if (status == TOQUE_OK && (shared.failed || shared.text.failed)) status = TQ_NOMEM(err);
    for (int i = 1; status == TOQUE_OK && i <= MAX_SHEETS; i++) {
        snprintf(part, sizeof part, "xl/worksheets/sheet%d.xml", i);
        if (!tq_archive_has(&a, part)) {
            if (i == 1) status = TQ_FAIL(err, EFORMAT, "the archive has no sheets");
            break;
        }
        status = read_sheet(&a, doc, &shared, part, i, err);
    }
    tq_free(in->mem, shared.starts);
    tq_buf_clear(&shared.text);
    tq_archive_close(&a);
    return status;
}
