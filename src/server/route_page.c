/* GET /: the chat page, web/index.html, which is part of the program. */
#include "server/state.h"

static const unsigned char page[] = {
#include "server/index.html.inc"
};

void tq_route_page(tq_exchange *x, json_t *body) {
    (void)body;
    tq_reply_text(x, 200, "text/html; charset=utf-8", (const char *)page, sizeof page);
}
