/* Formats: small files of every kind, and what is damaged or meant to harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zip.h>

#include "rag/format.h"

static tq_mem mem;

/* The document as one string: "kind level|text" a line, T: title, K=V: pairs. */
static void render(const tq_doc *doc, char *out, size_t size) {
    static const char kinds[] = "thcr";
    size_t n = 0;
    out[0] = 0;
    if (doc->title) n += (size_t)snprintf(out + n, size - n, "T:%s\n", doc->title);
    for (size_t i = 0; i < doc->n_pairs && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, "%s=%s\n", doc->pairs[i].key, doc->pairs[i].value);
    for (size_t i = 0; i < doc->n && n < size; i++) {
        const tq_block *b = &doc->blocks[i];
        n += (size_t)snprintf(out + n, size - n, "%c", kinds[b->kind]);
        if (b->level && n < size) n += (size_t)snprintf(out + n, size - n, "%d", b->level);
        if (b->page && n < size) n += (size_t)snprintf(out + n, size - n, "p%d", b->page);
        if (n < size)
            n += (size_t)snprintf(out + n, size - n, "|%.*s\n", (int)(b->end - b->start), doc->text.data + b->start);
    }
}

static void expect(const char *name, const char *data, size_t n, const char *format, const char *want) {
    tq_doc doc;
    toque_error err = {0};
    const tq_format *used;
    static char got[1 << 16];
    tq_doc_init(&doc, &mem);
    if (tq_parse(&doc, name, data, n, NULL, &used, &err) != TOQUE_OK) fail_msg("%s: %s", name, err.message);
    assert_string_equal(used->name, format);
    render(&doc, got, sizeof got);
    assert_string_equal(got, want);
    tq_doc_clear(&doc);
    assert_int_equal(mem.used, 0);
}
#define TEXT(name, text, format, want) expect(name, text, strlen(text), format, want)

static void refused(const char *name, const char *data, size_t n, toque_status status, const char *word) {
    tq_doc doc;
    toque_error err = {0};
    const tq_format *used;
    tq_doc_init(&doc, &mem);
    toque_status got = tq_parse(&doc, name, data, n, NULL, &used, &err);
    if (got != status || !strstr(err.message, word)) fail_msg("%s: status %d: %s", name, (int)got, err.message);
    tq_doc_clear(&doc);
    assert_int_equal(mem.used, 0);
}

static void text_and_code(void **state) {
    (void)state;
    TEXT("a.txt", "INTRODUCTION\n\nOne two.\nThree.\n\n\nTitle\n-----\nFour.\n", "text",
         "T:INTRODUCTION\nh1|INTRODUCTION\nt|One two.\nThree.\nh2|Title\nt|Four.\n");
    TEXT("README", "just words", "text", "t|just words\n");
    TEXT("x.c", "int a;\n\nint f(void) {\n    return 1;\n\n}\n\nint b;\n", "code",
         "T:x.c\nc|int a;\nc|int f(void) {\n    return 1;\n\n}\nc|int b;\n");
    expect("l.txt", "caf\xe9 au lait, d\xe9j\xe0 vu", 21, "text", "encoding=windows-1252\nt|café au lait, déjà vu\n");
    expect("e.txt", "", 0, "text", "");
    refused("x.dat",
            "\x7f"
            "ELF\0\0\0",
            7, TOQUE_EUNSUPPORTED, "kind");
}

static void markdown_keeps_the_bytes(void **state) {
    (void)state;
    static const char text[] =
        "---\ntitle: \"Front\"\nauthor: Ann\n---\n# One *two*\n\nPara with [a](b).\nSecond line.\n\n"
        "- item one\n- item two\n\n  more\n\nSetext\n------\n\n| h | i |\n|---|---|\n| 1 | 2 |\n\n"
        "```c\nint x;\n```\n\n> quoted &amp; text\n\n<!-- hidden -->\n\nEnd\\\n.\n";
    TEXT("a.md", text, "markdown",
         "T:Front\nauthor=Ann\nh1|# One *two*\nt|Para with [a](b).\nSecond line.\nt|- item one\nt|- item two\nt|more\n"
         "h2|Setext\nr|| h | i |\nr|| 1 | 2 |\nc|int x;\nt|> quoted &amp; text\nt|End\\\n.\n");
}

static void html_is_read_as_a_reader_would(void **state) {
    (void)state;
    TEXT(
        "a.html",
        "<!DOCTYPE html><html lang=fr><head><title> A\n title</title><meta name=author content=Ann><style>p{}</style>"
        "<script>alert(1)</script></head><body><nav>menu</nav><h1>Head</h1><p>One  <b>two</b>\nthree &eacute;.<br>x</p>"
        "loose<ul><li>a<li>b</ul><pre>  code\n  more</pre><table><tr><th>n</th><td>v <p>w</p></td></tr></table>"
        "<dl><dt>-a</dt><dd>All.</dd></dl></body></html>",
        "html",
        "T:A title\nauthor=Ann\nh1|Head\nt|One two three é.\nx\nt|loose\nt|a\nt|b\nc|  code\n  more\nr|n | v w\n"
        "t|-a: All.\n");
    TEXT("b.htm", "<p>caf\xc3\xa9", "html", "t|café\n");
    TEXT("c.htm", "<meta charset=iso-8859-1><p>caf\xe9", "html", "t|café\n");
    static char deep[200000];
    for (size_t i = 0; i + 5 < sizeof deep; i += 5) memcpy(deep + i, "<div>", 5);
    expect("d.html", deep, sizeof deep - 1, "html", "");
}

static void tables_name_their_values(void **state) {
    (void)state;
    TEXT("a.csv", "name;age\nTom;3\n\"A;B\";\n", "csv", "r|name: Tom; age: 3\nr|name: A;B\n");
    TEXT("a.tsv", "name\tage\nTom\t3\n", "tsv", "r|name: Tom; age: 3\n");
    TEXT("a.json", "{\"a\":1,\"list\":[{\"b\":{\"c\":\"x\"}},{\"b\":true}],\"o\":{\"p\":2.5}}", "json",
         "r|a: 1\nh1|list\nr|b.c: x\nr|b: true\nh1|o\nr|p: 2.5\n");
    TEXT("a.jsonl", "{\"t\":\"one\"}\n\n[\"x\",\"y\"]\n", "jsonl", "r|t: one\nr|x; y\n");
    refused("b.jsonl", "{}\n{bad\n", 8, TOQUE_EFORMAT, "line 2");
    refused("b.json", "[1", 2, TOQUE_EFORMAT, "line 1");
}

/* ---- archives ---- */

typedef struct part {
    const char *name, *text;
} part;

static char *archive(const part *parts, size_t *n) {
    zip_error_t e;
    zip_error_init(&e);
    zip_source_t *source = zip_source_buffer_create(NULL, 0, 0, &e);
    zip_t *z = zip_open_from_source(source, ZIP_TRUNCATE, &e);
    assert_non_null(z);
    zip_source_keep(source);
    for (; parts->name; parts++)
        assert_true(zip_file_add(z, parts->name, zip_source_buffer(z, parts->text, strlen(parts->text), 0), 0) >= 0);
    assert_int_equal(zip_close(z), 0);
    zip_stat_t st;
    zip_source_open(source);
    zip_source_stat(source, &st);
    char *data = malloc(st.size);
    *n = (size_t)zip_source_read(source, data, st.size);
    assert_int_equal(*n, st.size);
    zip_source_close(source);
    zip_source_free(source);
    return data;
}

static void office(const char *name, const part *parts, const char *format, const char *want) {
    size_t n;
    char *data = archive(parts, &n);
    expect(name, data, n, format, want);
    for (size_t cut = 1; cut < n; cut += 7) refused(name, data, n - cut, TOQUE_EFORMAT, "it");
    free(data);
}

#define W "<w:document xmlns:w='w'><w:body>"
static void office_documents(void **state) {
    (void)state;
    const part docx[] = {
        {"docProps/core.xml", "<c xmlns:dc='d'><dc:title>Doc</dc:title><dc:creator>Ann</dc:creator></c>"},
        {"word/document.xml",
         W "<w:p><w:pPr><w:pStyle w:val='Heading2'/></w:pPr><w:r><w:t>Head</w:t></w:r></w:p>"
           "<w:p><w:r><w:t>One </w:t></w:r><w:r><w:t>two&amp;</w:t><w:tab/><w:t>x</w:t></w:r></w:p><w:p/>"
           "<w:tbl><w:tr><w:tc><w:p><w:r><w:t>a</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>b</w:t></w:r>"
           "</w:p></w:tc></w:tr></w:tbl></w:body></w:document>"},
        {0}};
    office("a.docx", docx, "docx", "T:Doc\nauthor=Ann\nh2|Head\nt|One two&\tx\nr|a | b\n");
    const part xlsx[] = {
        {"xl/workbook.xml", "<workbook><sheets><sheet name='People'/><sheet name='Two'/></sheets></workbook>"},
        {"xl/sharedStrings.xml", "<sst><si><t>name</t></si><si><r><t>To</t></r><r><t>m</t></r></si></sst>"},
        {"xl/worksheets/sheet1.xml",
         "<worksheet><sheetData><row><c r='A1' t='s'><v>0</v></c><c r='C1' t='inlineStr'><is><t>age</t></is></c></row>"
         "<row><c r='A2' t='s'><v>1</v></c><c r='B2'><v>9</v></c><c r='C2'><v>3</v></c></row></sheetData></worksheet>"},
        {"xl/worksheets/sheet2.xml", "<worksheet><sheetData><row><c t='s'><v>77</v></c></row></sheetData></worksheet>"},
        {0}};
    office("a.xlsx", xlsx, "xlsx", "h1|People\nr|name; age\nr|name: Tom; 9; age: 3\nh1|Two\n");
    const part pptx[] = {
        {"ppt/slides/slide1.xml",
         "<p:sld xmlns:p='p' xmlns:a='a'><p:sp><p:nvPr><p:ph type='title'/></p:nvPr><a:p><a:r><a:t>Top</a:t>"
         "</a:r></a:p></p:sp><p:sp><a:p><a:r><a:t>Point</a:t></a:r></a:p></p:sp></p:sld>"},
        {0}};
    office("a.pptx", pptx, "pptx", "h2p1|Top\ntp1|Point\n");
    const part odt[] = {{"content.xml",
                         "<d xmlns:o='o' xmlns:t='t' xmlns:b='b'><o:body><t:h t:outline-level='2'>Head</t:h>"
                         "<t:p>One<t:s/>two</t:p><b:table b:name='Tab'><b:table-row><b:table-cell><t:p>a</t:p>"
                         "</b:table-cell><b:table-cell><t:p>b</t:p></b:table-cell></b:table-row></b:table>"
                         "</o:body></d>"},
                        {0}};
    office("a.odt", odt, "opendocument", "h2|Head\nt|One two\nh3|Tab\nr|a | b\n");
}

static void harmful_archives_are_refused(void **state) {
    (void)state;
    size_t n, size = (size_t)300 << 20;
    char *zeros = malloc(size + 1);
    memset(zeros, ' ', size);
    zeros[size] = 0;
    const part bomb[] = {{"word/document.xml", zeros}, {0}};
    char *data = archive(bomb, &n);
    assert_true(n < 2 << 20);
    refused("a.docx", data, n, TOQUE_ELIMIT, "unpacks");
    free(data);
    free(zeros);
    const part entities[] = {
        {"word/document.xml",
         "<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;'><!ENTITY c "
         "'&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;'><!ENTITY x SYSTEM 'file:///etc/passwd'>]>" W
         "<w:p><w:t>plain &c;&x;</w:t></w:p></w:body></w:document>"},
        {0}};
    data = archive(entities, &n);
    refused("a.docx", data, n, TOQUE_EFORMAT, "word/document.xml");
    free(data);
    const part declares[] = {{"word/document.xml", "<!DOCTYPE d [<!ENTITY a 'x'>]>" W "</w:body></w:document>"}, {0}};
    data = archive(declares, &n);
    refused("a.docx", data, n, TOQUE_EFORMAT, "entities");
    free(data);
    const part empty[] = {{"other.xml", "<a/>"}, {0}};
    data = archive(empty, &n);
    refused("a.docx", data, n, TOQUE_EFORMAT, "word/document.xml");
    refused("a.xlsx", data, n, TOQUE_EFORMAT, "sheets");
    free(data);
    refused("a.docx", "no zip", 6, TOQUE_EFORMAT, "ZIP");
}

/* The Nth allocation fails, for N = 1, 2, ... until all is well: out of memory is returned and nothing is lost. */
static void out_of_memory_is_returned(void **state) {
    (void)state;
    size_t n;
    const part docx[] = {{"word/document.xml", W "<w:p><w:t>One</w:t></w:p></w:body></w:document>"}, {0}};
    const part xlsx[] = {{"xl/sharedStrings.xml", "<sst><si><t>name</t></si></sst>"},
                         {"xl/worksheets/sheet1.xml", "<w><row><c t='s'><v>0</v></c></row></w>"},
                         {0}};
    struct {
        const char *name, *data;
        size_t n;
    } inputs[] = {
        {"a.txt", "HEAD\n\nOne two. Three.\n", 21},
        {"a.md", "---\na: b\n---\n# One\n\nTwo *three*.\n\n| a |\n|---|\n| 1 |\n", 51},
        {"a.html", "<title>T</title><meta name=author content=A><h1>H</h1><p>One<table><tr><td>x</table>", 83},
        {"a.csv", "name,age\nTom,3\n", 15},
        {"l.txt", "caf\xe9 au lait, d\xe9j\xe0 vu", 21},
        {"a.json", "{\"a\":[{\"b\":1}]}", 15},
        {"a.docx", archive(docx, &n), 0},
        {"a.xlsx", NULL, 0}};
    enum { INPUTS = sizeof inputs / sizeof *inputs };
    inputs[INPUTS - 2].n = n;
    inputs[INPUTS - 1].data = archive(xlsx, &n);
    inputs[INPUTS - 1].n = n;
    for (int i = 0; i < INPUTS; i++) {
        toque_status status = TOQUE_ENOMEM;
        for (unsigned long long fail = 1; status != TOQUE_OK; fail++) {
            tq_mem faulty = {.fail_at = fail};
            tq_doc doc;
            toque_error err;
            const tq_format *used;
            assert_true(fail < 1000);
            tq_doc_init(&doc, &faulty);
            status = tq_parse(&doc, inputs[i].name, inputs[i].data, inputs[i].n, NULL, &used, &err);
            if (status != TOQUE_OK && status != TOQUE_ENOMEM) fail_msg("%s: %s", inputs[i].name, err.message);
            tq_doc_clear(&doc);
            assert_int_equal(faulty.used, 0);
        }
    }
    free((char *)(uintptr_t)inputs[INPUTS - 2].data);
    free((char *)(uintptr_t)inputs[INPUTS - 1].data);
}

static void gzip_is_taken_off(void **state) {
    (void)state;
    static const unsigned char packed[] = {0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03,
                                           0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0xd7, 0xe3, 0x02, 0x00, 0x51,
                                           0xc4, 0xda, 0x37, 0x07, 0x00, 0x00, 0x00}; /* gzip of "Hello.\n" */
    char data[sizeof packed];
    memcpy(data, packed, sizeof data);
    tq_doc doc;
    toque_error err;
    const tq_format *used;
    tq_doc_init(&doc, &mem);
    toque_status status = tq_parse(&doc, "a.txt.gz", data, sizeof data, NULL, &used, &err);
    if (status != TOQUE_OK) fail_msg("%s", err.message);
    assert_memory_equal(doc.text.data, "Hello.", 6);
    tq_doc_clear(&doc);
    refused("a.txt.gz", data, sizeof data - 9, TOQUE_EFORMAT, "damaged");
}

#ifdef TQ_HAVE_GMIME
static void mail(void **state) {
    (void)state;
    static const char eml[] =
        "From: Ann <ann@example.org>\r\nTo: Bob <bob@example.org>\r\nSubject: =?utf-8?q?Caf=C3=A9?=\r\n"
        "Date: Mon, 2 Jan 2023 10:00:00 +0000\r\nMIME-Version: 1.0\r\n"
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: multipart/alternative; "
        "boundary=c\r\n\r\n--c\r\nContent-Type: text/html\r\n\r\n<p>No</p>\r\n--c\r\nContent-Type: "
        "text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nHello =E9.\r\n"
        "\r\nBye.\r\n--c--\r\n--b\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; "
        "filename=x.pdf\r\n\r\nzzz\r\n--b--\r\n";
    TEXT("a.eml", eml, "mail",
         "T:Café\nauthor=Ann <ann@example.org>\ndate=2023-01-02 10:00\nt|From: Ann <ann@example.org>\nTo: Bob "
         "<bob@example.org>\nDate: 2023-01-02 10:00\nt|Hello é.\nt|Bye.\nt|Attachment: x.pdf\n");
    TEXT("a.mbox",
         "From a Mon Jan  2 10:00:00 2023\nSubject: One\n\nFirst.\n\nFrom b Mon Jan  2 10:00:00 2023\nSubject: Two\n\n"
         "Second.\n",
         "mbox", "h1|One\nt|First.\nh1|Two\nt|Second.\n");
}
#endif

static void other_programs_read_for_us(void **state) {
    (void)state;
    static const char man[] = ".TH X 1\n.SH NAME\nx \\- do things\n.SH OPTIONS\n.TP\n.B \\-a\nAll of them.\n";
    TEXT("x.1", man, "man", "T:x(1)\nh1|NAME\nt|x - do things\nh1|OPTIONS\nt|-a: All of them.\n");
    static const char pdf[] =
        "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
        "3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>endobj\n"
        "4 0 obj<</Length 44>>stream\nBT /F 12 Tf 20 100 Td (Hello from a page.) Tj ET\nendstream endobj\n"
        "5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj\ntrailer<</Root 1 0 R>>\n";
    TEXT("a.pdf", pdf, "pdf", "tp1|Hello from a page.\n");
    refused("b.pdf", "%PDF-1.4 nonsense", 17, TOQUE_EFORMAT, "pdftotext");
    char *path = strdup(getenv("PATH"));
    setenv("PATH", "/nonexistent", 1);
    refused("a.pdf", pdf, strlen(pdf), TOQUE_EUNSUPPORTED, "poppler-utils");
    refused("x.1", man, strlen(man), TOQUE_EUNSUPPORTED, "mandoc");
    setenv("PATH", path, 1);
    free(path);
}

static void programs_are_bounded(void **state) {
    (void)state;
    toque_error err = {0};
    tq_buf out;
    tq_buf_init(&out, &mem, 1 << 20);
    char *big = calloc(1, 1 << 20);
    memset(big, 'x', (1 << 20) - 1);
    static const char *const cat[] = {"cat", NULL}, *const yes[] = {"yes", NULL}, *const no[] = {"false", NULL};
    assert_int_equal(tq_run_program(cat, "coreutils", big, (1 << 20) - 1, &out, &err), TOQUE_OK);
    assert_int_equal(out.len, (1 << 20) - 1);
    assert_memory_equal(out.data, big, out.len);
    tq_buf_reset(&out);
    assert_int_equal(tq_run_program(yes, "coreutils", big, 1000, &out, &err), TOQUE_ELIMIT); /* it reads nothing */
    tq_buf_reset(&out);
    assert_int_equal(tq_run_program(no, "coreutils", big, (1 << 20) - 1, &out, &err),
                     TOQUE_EFORMAT); /* SIGPIPE is held */
    tq_buf_clear(&out);
    free(big);
    assert_int_equal(mem.used, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_and_code),
        cmocka_unit_test(markdown_keeps_the_bytes),
        cmocka_unit_test(html_is_read_as_a_reader_would),
        cmocka_unit_test(tables_name_their_values),
        cmocka_unit_test(office_documents),
        cmocka_unit_test(harmful_archives_are_refused),
        cmocka_unit_test(gzip_is_taken_off),
        cmocka_unit_test(out_of_memory_is_returned),
#ifdef TQ_HAVE_GMIME
        cmocka_unit_test(mail),
#endif
        cmocka_unit_test(other_programs_read_for_us),
        cmocka_unit_test(programs_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
