/* Encodings. See charset.h. Web browsers' rule is followed for Latin-1: it is read as windows-1252, its superset in
 * printable characters (WHATWG Encoding Standard). */
#include "train/charset.h"

#include <errno.h>
#include <iconv.h>
#include <string.h>
#include <strings.h>
#include <uchardet.h>

#include "text/unicode.h"

size_t tq_line_of(const char *data, size_t at) {
    size_t line = 1;
    for (size_t i = 0; i < at; i++) line += data[i] == '\n';
    return line;
}

/* True when the text is UTF-8 with some broken bytes rather than something else: in other encodings, byte pairs that
 * happen to be valid sequences are rare. Guessing would then garble the many good characters. */
static bool mostly_utf8(const char *data, size_t n) {
    size_t good = 0, bad = 0, len;
    uint32_t cp;
    for (size_t i = 0; i < n; i += len) {
        len = tq_utf8_next(data + i, n - i, &cp);
        bool valid = cp != TQ_UTF8_BAD && cp != TQ_UTF8_CUT;
        good += valid && len > 1;
        bad += !valid;
    }
    return good > bad;
}

static toque_status convert(tq_decoded *out, tq_mem *mem, const char *from, const char *data, size_t n,
                            toque_error *err) {
    iconv_t cd = iconv_open("UTF-8", from);
    if (cd == (iconv_t)-1)
        return TQ_FAIL(err, EUNSUPPORTED, "the text is in %s, which this system cannot convert: save it as UTF-8",
                       from);
    tq_buf buf;
    tq_buf_init(&buf, mem, SIZE_MAX / 4);
    toque_status status = TOQUE_OK;
    char *in = (char *)(uintptr_t)data;
    size_t left = n;
    while (left > 0) {
        char chunk[8192], *to = chunk;
        size_t room = sizeof chunk;
        size_t r = iconv(cd, &in, &left, &to, &room);
        int e = errno;
        if (!tq_buf_put(&buf, chunk, (size_t)(to - chunk))) {
            status = tq_buf_status(&buf, "the text", err);
            break;
        }
        if (r == (size_t)-1 && e != E2BIG) {
            status = TQ_FAIL(err, EFORMAT, "line %zu: byte 0x%02x is not valid %s: save the file as UTF-8",
                             tq_line_of(buf.data, buf.len), (unsigned)(unsigned char)*in, from);
            break;
        }
    }
    iconv_close(cd);
    if (status == TOQUE_OK) {
        out->len = buf.len;
        out->owned = tq_buf_take(&buf);
        out->data = out->owned;
        if (!out->owned) status = TQ_NOMEM(err);
        size_t name = strlen(from) < sizeof out->encoding ? strlen(from) : sizeof out->encoding - 1;
        memcpy(out->encoding, from, name);
        out->encoding[name] = 0;
    }
    tq_buf_clear(&buf);
    return status;
}

/* UTF-16 without a mark: mostly ASCII text has a NUL in every other byte. */
static const char *utf16_by_nuls(const char *data, size_t n) {
    size_t look = n < 4096 ? n : 4096, zero[2] = {0, 0};
    for (size_t i = 0; i < look; i++) zero[i & 1] += data[i] == 0;
    if (n % 2 == 0 && zero[1] * 4 > look && zero[0] * 16 < look) return "UTF-16LE";
    if (n % 2 == 0 && zero[0] * 4 > look && zero[1] * 16 < look) return "UTF-16BE";
    return NULL;
}

/* A code page of DOS keeps most of its letters in 0x80 to 0x9f, where Latin-1 has none: text without a byte there is
 * not in one, whatever its statistics say (names from many languages mislead them). */
static bool no_dos_page(const char *name, const char *data, size_t n) {
    if (strncasecmp(name, "IBM8", 4) != 0) return false;
    for (size_t i = 0; i < n; i++)
        if (((unsigned char)data[i] & 0xe0) == 0x80) return false;
    return true;
}

static toque_status guessed(tq_decoded *out, tq_mem *mem, const char *data, size_t n, toque_error *err) {
    char name[32] = "";
    uchardet_t u = uchardet_new();
    if (!u) return TQ_NOMEM(err);
    if (uchardet_handle_data(u, data, n) == 0) {
        uchardet_data_end(u);
        const char *found = uchardet_get_charset(u);
        if (found && strlen(found) < sizeof name) memcpy(name, found, strlen(found) + 1);
    }
    uchardet_delete(u);
    bool useless = !name[0] || !strcasecmp(name, "UTF-8") || !strcasecmp(name, "ASCII");
    if (useless || !strcasecmp(name, "ISO-8859-1") || !strcasecmp(name, "WINDOWS-1252") || no_dos_page(name, data, n))
        memcpy(name, "windows-1252", sizeof "windows-1252");
    toque_status status = convert(out, mem, name, data, n, err);
    if ((status == TOQUE_EFORMAT || status == TOQUE_EUNSUPPORTED) && strcmp(name, "windows-1252") != 0)
        status = convert(out, mem, "windows-1252", data, n, err);
    return status;
}

toque_status tq_decode(tq_decoded *out, tq_mem *mem, const char *data, size_t n, bool guess, toque_error *err) {
    *out = (tq_decoded){.data = data, .len = n, .encoding = "UTF-8"};
    const char *mark = NULL;
    size_t skip = 0;
    if (n >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0)
        skip = 3;
    else if (n >= 4 && memcmp(data, "\xff\xfe\0\0", 4) == 0)
        mark = "UTF-32LE", skip = 4;
    else if (n >= 2 && memcmp(data, "\xff\xfe", 2) == 0)
        mark = "UTF-16LE", skip = 2;
    else if (n >= 2 && memcmp(data, "\xfe\xff", 2) == 0)
        mark = "UTF-16BE", skip = 2;
    data += skip;
    n -= skip;
    if (!mark && guess) mark = utf16_by_nuls(data, n);
    if (mark) {
        TQ_TRY(convert(out, mem, mark, data, n, err));
    } else {
        size_t good = tq_utf8_valid_prefix(data, n);
        out->data = data;
        out->len = n;
        if (good < n) {
            if (!guess || mostly_utf8(data, n))
                return TQ_FAIL(err, EFORMAT, "line %zu: byte 0x%02x is not valid UTF-8: save the file as UTF-8",
                               tq_line_of(data, good), (unsigned)(unsigned char)data[good]);
            if (memchr(data, 0, n) == NULL) TQ_TRY(guessed(out, mem, data, n, err));
        }
    }
    const char *nul = out->len ? memchr(out->data, 0, out->len) : NULL;
    if (nul) {
        size_t line = tq_line_of(out->data, (size_t)(nul - out->data));
        tq_decoded_clear(out, mem);
        return TQ_FAIL(err, EFORMAT, "line %zu holds a NUL byte: this is not a text file", line);
    }
    return TOQUE_OK;
}

void tq_decoded_clear(tq_decoded *d, tq_mem *mem) {
    tq_free(mem, d->owned);
    *d = (tq_decoded){0};
}
