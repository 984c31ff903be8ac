/* Mail: one message (eml) or a mailbox (mbox), through GMime. Of alternatives the plain text is taken; HTML only where
 * there is none. Attachments are named, not read. */
#include <string.h>

#include "rag/format.h"

#ifndef TQ_HAVE_GMIME

toque_status tq_parse_mail(tq_doc *doc, const tq_input *in, toque_error *err) {
    (void)doc;
    (void)in;
    return TQ_FAIL(err, EUNSUPPORTED, "this toque is built without GMime (libgmime-3.0-dev), which reads mail");
}

toque_status tq_parse_mbox(tq_doc *doc, const tq_input *in, toque_error *err) {
    return tq_parse_mail(doc, in, err);
}

#else

#include <gmime/gmime.h>

enum { MAX_PARTS = 1000 };

static void put_header(tq_doc *doc, const char *name, const char *value) {
    if (!value || !*value) return;
    tq_doc_put(doc, name, strlen(name));
    tq_doc_put(doc, ": ", 2);
    tq_doc_put_flow(doc, value, strlen(value));
    tq_doc_put(doc, "\n", 1);
}

/* The text of a part, decoded to UTF-8 with \n line ends; NULL when it has none. */
static char *part_text(GMimeTextPart *part) {
    char *text = g_mime_text_part_get_text(part);
    if (!text) return NULL;
    size_t len = 0;
    for (size_t i = 0; text[i]; i++)
        if (text[i] != '\r') text[len++] = text[i];
    text[len] = 0;
    return text;
}

static void put_plain(tq_doc *doc, char *text) {
    size_t begin = 0;
    for (size_t i = 0;; i++) { /* paragraphs */
        if (text[i] && !(text[i] == '\n' && text[i + 1] == '\n')) continue;
        if (i > begin) {
            tq_doc_begin(doc, TQ_BLOCK_TEXT, 0);
            tq_doc_put(doc, text + begin, i - begin);
            tq_doc_end(doc);
        }
        begin = i;
        if (!text[i]) return;
    }
}

static toque_status put_part(tq_doc *doc, GMimeObject *part, int *budget, toque_error *err);

/* Of multipart/alternative the best part that we read: plain text, else the last. */
static toque_status put_multipart(tq_doc *doc, GMimeMultipart *m, int *budget, toque_error *err) {
    int n = g_mime_multipart_get_count(m), pick = -1;
    GMimeContentType *type = g_mime_object_get_content_type(GMIME_OBJECT(m));
    if (g_mime_content_type_is_type(type, "multipart", "alternative"))
        for (int i = 0; i < n; i++) {
            GMimeContentType *t = g_mime_object_get_content_type(g_mime_multipart_get_part(m, i));
            if (pick < 0 || !g_mime_content_type_is_type(t, "text", "html")) pick = i;
            if (g_mime_content_type_is_type(t, "text", "plain")) break;
        }
    for (int i = 0; i < n; i++)
        if (pick < 0 || i == pick) TQ_TRY(put_part(doc, g_mime_multipart_get_part(m, i), budget, err));
    return TOQUE_OK;
}

static toque_status put_part(tq_doc *doc, GMimeObject *part, int *budget, toque_error *err) {
    if (!part || --*budget < 0) return TOQUE_OK;
    if (GMIME_IS_MULTIPART(part)) return put_multipart(doc, GMIME_MULTIPART(part), budget, err);
    if (GMIME_IS_MESSAGE_PART(part)) {
        GMimeMessage *inner = g_mime_message_part_get_message(GMIME_MESSAGE_PART(part));
        return inner ? put_part(doc, g_mime_message_get_mime_part(inner), budget, err) : TOQUE_OK;
    }
    const char *name = GMIME_IS_PART(part) ? g_mime_part_get_filename(GMIME_PART(part)) : NULL;
    if (name || !GMIME_IS_TEXT_PART(part)) {
        if (name) {
            tq_doc_begin(doc, TQ_BLOCK_TEXT, 0);
            put_header(doc, "Attachment", name);
            tq_doc_end(doc);
        }
        return TOQUE_OK;
    }
    char *text = part_text(GMIME_TEXT_PART(part));
    toque_status status = TOQUE_OK;
    if (text && g_mime_content_type_is_type(g_mime_object_get_content_type(part), "text", "html"))
        status = tq_put_html(doc, text, strlen(text), err);
    else if (text)
        put_plain(doc, text);
    g_free(text);
    return status;
}

static toque_status put_message(tq_doc *doc, GMimeMessage *message, bool only, toque_error *err) {
    const char *subject = g_mime_message_get_subject(message);
    GDateTime *date = g_mime_message_get_date(message);
    char *from = internet_address_list_to_string(g_mime_message_get_from(message), NULL, FALSE);
    char *to =
        internet_address_list_to_string(g_mime_message_get_addresses(message, GMIME_ADDRESS_TYPE_TO), NULL, FALSE);
    char *day = date ? g_date_time_format(date, "%Y-%m-%d %H:%M") : NULL;
    if (only) {
        if (subject) tq_doc_title(doc, subject, strlen(subject));
        if (from) tq_doc_pair_add(doc, "author", from, strlen(from));
        if (day) tq_doc_pair_add(doc, "date", day, strlen(day));
    } else {
        tq_doc_begin(doc, TQ_BLOCK_HEADING, 1);
        tq_doc_put_flow(doc, subject && *subject ? subject : "(no subject)",
                        strlen(subject && *subject ? subject : "(no subject)"));
        tq_doc_end(doc);
    }
    tq_doc_begin(doc, TQ_BLOCK_TEXT, 0);
    put_header(doc, "From", from);
    put_header(doc, "To", to);
    put_header(doc, "Date", day);
    tq_doc_end(doc);
    g_free(from);
    g_free(to);
    g_free(day);
    int budget = MAX_PARTS;
    return put_part(doc, g_mime_message_get_mime_part(message), &budget, err);
}

static toque_status put_messages(tq_doc *doc, const tq_input *in, GMimeFormat format, toque_error *err) {
    g_mime_init(); /* counts its calls; what it sets up stays for the process */
    GMimeStream *stream = g_mime_stream_mem_new_with_buffer(in->data, in->n);
    GMimeParser *parser = g_mime_parser_new_with_stream(stream);
    g_mime_parser_set_format(parser, format);
    toque_status status = TOQUE_OK;
    size_t n = 0;
    while (status == TOQUE_OK && (format == GMIME_FORMAT_MBOX ? !g_mime_parser_eos(parser) : n == 0)) {
        GMimeMessage *message = g_mime_parser_construct_message(parser, NULL);
        if (!message) break;
        status = put_message(doc, message, format != GMIME_FORMAT_MBOX, err);
        g_object_unref(message);
        n++;
    }
    g_object_unref(parser);
    g_object_unref(stream);
    if (status == TOQUE_OK && n == 0) status = TQ_FAIL(err, EFORMAT, "it holds no message");
    return status;
}

toque_status tq_parse_mail(tq_doc *doc, const tq_input *in, toque_error *err) {
    return put_messages(doc, in, GMIME_FORMAT_MESSAGE, err);
}

toque_status tq_parse_mbox(tq_doc *doc, const tq_input *in, toque_error *err) {
    return put_messages(doc, in, GMIME_FORMAT_MBOX, err);
}

#endif
