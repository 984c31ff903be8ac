/* Telling formats apart and handing a file to its parser. See format.h. */
#include "rag/format.h"

#include <string.h>
#include <strings.h>
#include <zlib.h>

#include "train/charset.h"

static const tq_format formats[] = {
#define FORMAT(name, text, endings) {#name, " " endings " ", text, tq_parse_##name},
#include "rag/formats.def"
#undef FORMAT
};
enum { FORMATS = sizeof formats / sizeof *formats };

const tq_format *tq_format_named(const char *name) {
    for (int i = 0; i < FORMATS; i++)
        if (strcmp(formats[i].name, name) == 0) return &formats[i];
    return NULL;
}

/* .1 to .9 with letters behind: a section of the manual. */
static bool man_ending(const char *dot) {
    if (dot[1] < '1' || dot[1] > '9') return false;
    size_t i = 2;
    while ((dot[i] | 32) >= 'a' && (dot[i] | 32) <= 'z') i++;
    return dot[i] == 0;
}

static bool begins(const char *data, size_t n, const char *with) {
    size_t k = strlen(with);
    return n >= k && strncasecmp(data, with, k) == 0;
}

static bool looks_like_roff(const char *data, size_t n) {
    static const char *const heads[] = {".TH ", ".Dd ", ".\\\"", "'\\\"", ".so "};
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        if (begins(data, n, heads[i])) return true;
    return false;
}

/* "From ann Mon Jan  2 10:00:00 2023": a time in the first line. */
static bool looks_like_mbox(const char *data, size_t n) {
    const char *nl = begins(data, n, "From ") ? memchr(data, '\n', n) : NULL;
    for (const char *p = data; nl && p + 3 < nl; p++)
        if (p[0] >= '0' && p[0] <= '9' && p[1] == ':' && p[2] >= '0' && p[2] <= '9') return true;
    return false;
}

const tq_format *tq_format_of(const char *name, const char *data, size_t n) {
    const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name, *dot = strrchr(base, '.');
    size_t len = dot ? strlen(dot) : 0;
    if (dot && man_ending(dot) && looks_like_roff(data, n)) return tq_format_named("man");
    char key[16];
    if (dot && len > 1 && len + 2 < sizeof key) {
        key[0] = ' ';
        for (size_t i = 0; i < len; i++) key[i + 1] = (char)(dot[i] >= 'A' && dot[i] <= 'Z' ? dot[i] | 32 : dot[i]);
        memcpy(key + len + 1, " ", 2);
        for (int i = 0; i < FORMATS; i++)
            if (strstr(formats[i].endings, key)) return &formats[i];
    }
    if (begins(data, n, "%PDF-")) return tq_format_named("pdf");
    if (begins(data, n, "<!doctype html") || begins(data, n, "<html")) return tq_format_named("html");
    if (looks_like_mbox(data, n)) return tq_format_named("mbox");
    if (looks_like_roff(data, n)) return tq_format_named("man");
    /* Binary files of unknown kinds have a NUL in front, except UTF-16, which has a mark. */
    size_t look = n < 4096 ? n : 4096;
    bool mark = n >= 2 && (memcmp(data, "\xff\xfe", 2) == 0 || memcmp(data, "\xfe\xff", 2) == 0);
    if (!mark && look && memchr(data, 0, look)) return NULL;
    return tq_format_named("text");
}

/* --- gzip ------------------------------------------------------------------------------------------------------ */

static toque_status unzip(tq_buf *out, const char *data, size_t n, toque_error *err) {
    z_stream z = {.next_in = (Bytef *)(uintptr_t)data, .avail_in = (uInt)n};
    if (n > UINT32_MAX / 2) return TQ_FAIL(err, ELIMIT, "the compressed file is too large");
    if (inflateInit2(&z, 15 + 16) != Z_OK) return TQ_NOMEM(err);
    int r = Z_OK;
    while (r == Z_OK && !out->failed) {
        char piece[65536];
        z.next_out = (Bytef *)piece;
        z.avail_out = sizeof piece;
        r = inflate(&z, Z_NO_FLUSH);
        tq_buf_put(out, piece, sizeof piece - z.avail_out);
        if (r == Z_STREAM_END && z.avail_in > 0) r = inflateReset(&z); /* several, one behind the other */
    }
    inflateEnd(&z);
    if (out->over) return TQ_FAIL(err, ELIMIT, "it unpacks to more than %d MiB", TQ_DOC_MAX_TEXT >> 20);
    TQ_TRY(tq_buf_status(out, "the file", err));
    return r == Z_STREAM_END ? TOQUE_OK : TQ_FAIL(err, EFORMAT, "the compressed data are damaged or cut off");
}

/* --- parsing --------------------------------------------------------------------------------------------------- */

static toque_status parse_decoded(tq_doc *doc, tq_input *in, const tq_format *f, toque_error *err) {
    tq_decoded d = {.data = in->data, .len = in->n};
    if (f->text) TQ_TRY(tq_decode(&d, in->mem, in->data, in->n, true, err));
    in->data = d.data;
    in->n = d.len;
    toque_status status = f->parse(doc, in, err);
    if (status == TOQUE_OK && d.owned) tq_doc_pair_add(doc, "encoding", d.encoding, strlen(d.encoding));
    if (status == TOQUE_OK) status = tq_doc_status(doc, err);
    if (f->text) tq_decoded_clear(&d, in->mem);
    return status;
}

toque_status tq_parse(tq_doc *doc, const char *name, const char *data, size_t n, const tq_format *format,
                      const tq_format **used, toque_error *err) {
    tq_mem *mem = doc->mem;
    tq_buf plain;
    char *inner = NULL;
    size_t len = strlen(name);
    toque_status status;
    tq_buf_init(&plain, mem, TQ_DOC_MAX_TEXT);
    if (len > 3 && strcasecmp(name + len - 3, ".gz") == 0) {
        inner = tq_strndup(mem, name, len - 3);
        if (!inner) return TQ_NOMEM(err);
        TQ_GO(unzip(&plain, data, n, err));
        name = inner;
        data = plain.data;
        n = plain.len;
    }
    if (!format) format = tq_format_of(name, data, n);
    *used = format;
    if (!format) {
        status = TQ_FAIL(err, EUNSUPPORTED, "it is a binary file of a kind that is not known");
        goto done;
    }
    tq_input in = {.mem = mem, .name = name, .data = data, .n = n};
    status = parse_decoded(doc, &in, format, err);
done:
    tq_free(mem, inner);
    tq_buf_clear(&plain);
    return status;
}
