/* The program's entry: what must happen once a process, before any library of ours runs. */
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <unistd.h>

#include "cli/cli.h"

/* A standard stream that the parent closed must not become the number of a file that we open. The replacements
 * are of the wrong direction, so using one fails with EBADF instead of losing output. */
static bool keep_standard_streams(void) {
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd) return false;
    return true;
}

int main(int argc, char **argv) {
    if (!keep_standard_streams()) return 1;
    (void)setlocale(LC_CTYPE, ""); /* characters only: numbers are read and written the same everywhere */
    (void)signal(SIGPIPE, SIG_IGN);
    return tq_cli_main(argc, argv);
}
