/* Progress: plain lines to a file, a rewritten line on a terminal (a pseudo terminal here), nothing when quiet. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/progress.h"

static void quiet_writes_nothing(void **state) {
    (void)state;
    tq_progress p;
    tq_progress_start(&p, NULL, "training", "tokens", 10, 0);
    tq_progress_update(&p, 5, NULL);
    tq_progress_end(&p, NULL);
    assert_int_equal(p.done, 5);
}

static void a_log_gets_few_plain_lines(void **state) {
    (void)state;
    char text[1000] = "";
    FILE *f = fmemopen(text, sizeof text, "w");
    tq_progress p;
    tq_progress_start(&p, f, "training", "tokens", 4000, 1000);
    for (int i = 0; i < 1000; i++) tq_progress_update(&p, 1000 + (uint64_t)i, "loss 2");
    assert_string_equal(text, ""); /* the first line comes after seconds */
    p.shown -= 100, p.started -= 100;
    tq_progress_update(&p, 3000, "loss 1.5");
    char rest[64];
    int done, total;
    assert_int_equal(sscanf(text, "training %d%% %d/%d tokens, %60[^\n]", &done, &done, &total, rest), 4);
    assert_int_equal(total, 4000);
    assert_string_equal(rest, "20.0/s, 0:50 left, loss 1.5"); /* 2000 new ones in 100 s */
    tq_progress_update(&p, 4000, "loss 1.25");
    tq_progress_end(&p, "loss 1");
    fclose(f);
    assert_null(strchr(text, '\r'));
    assert_null(strstr(text, "1.25"));
    assert_non_null(strstr(text, "100% 4000/4000"));
    int lines = 0;
    for (char *c = text; *c; c++) lines += *c == '\n';
    assert_int_equal(lines, 2);
}

static void an_unknown_total_shows_count_and_rate(void **state) {
    (void)state;
    char text[500] = "";
    FILE *f = fmemopen(text, sizeof text, "w");
    tq_progress p;
    tq_progress_start(&p, f, "reading", "rows", 0, 0);
    p.started -= 10, p.shown -= 10;
    tq_progress_update(&p, 25000, NULL);
    fclose(f);
    assert_string_equal(text, "reading 25k rows, 2500/s, ? left\n");
}

static void a_terminal_gets_one_line_that_fits(void **state) {
    (void)state;
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    assert_true(master >= 0);
    assert_int_equal(grantpt(master) | unlockpt(master), 0);
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    assert_true(slave >= 0);
    struct winsize size = {.ws_row = 24, .ws_col = 60};
    assert_int_equal(ioctl(slave, TIOCSWINSZ, &size), 0);
    struct termios raw;
    assert_int_equal(tcgetattr(slave, &raw), 0);
    cfmakeraw(&raw);
    assert_int_equal(tcsetattr(slave, TCSANOW, &raw), 0);
    FILE *f = fdopen(slave, "w");
    setenv("TERM", "xterm", 1);
    setenv("NO_COLOR", "1", 1);
    tq_progress p;
    tq_progress_start(&p, f, "training", "tokens", 100, 0);
    tq_progress_update(&p, 50, "a note that is much too long for a terminal of sixty columns");
    tq_progress_update(&p, 51, NULL); /* at once: not shown */
    tq_progress_end(&p, NULL);
    char text[500];
    ssize_t n = 0; /* a terminal hands over one write at a time */
    while (n == 0 || text[n - 1] != '\n') {
        ssize_t k = read(master, text + n, sizeof text - 1 - (size_t)n);
        assert_true(k > 0);
        n += k;
    }
    text[n] = 0;
    assert_non_null(strstr(text, "############------------"));
    assert_null(strchr(text, '\033'));
    int returns = 0, width = 0;
    for (char *c = text; *c; c++) {
        if (*c == '\r')
            returns++, width = 0;
        else if (*c != '\n')
            assert_true(++width <= 59);
    }
    assert_int_equal(returns, 2);
    assert_int_equal(text[n - 1], '\n');
    fclose(f);
    close(master);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quiet_writes_nothing),
        cmocka_unit_test(a_log_gets_few_plain_lines),
        cmocka_unit_test(an_unknown_total_shows_count_and_rate),
        cmocka_unit_test(a_terminal_gets_one_line_that_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
