#include "tools/tools.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/text.h"

#define COMPLAINT_BYTES 2048

static void complain_v(const char *command, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));

/* One write(2), so that it does not mix with the lines of ranks. */
static void complain_v(const char *command, const char *format, va_list arguments)
{
    char line[COMPLAINT_BYTES];
    int prefix = snprintf(line, sizeof line, "tutti %s: ", command);
    vsnprintf(line + prefix, sizeof line - (size_t)prefix - 1, format, arguments);
    size_t length = strlen(line);
    line[length++] = '\n';
    (void)write_all(STDERR_FILENO, line, length); /* there is nowhere left to complain */
}

void complain(const char *command, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    complain_v(command, format, arguments);
    va_end(arguments);
}

int usage_error(const char *command, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    complain_v(command, format, arguments);
    va_end(arguments);
    fprintf(stderr, "See `tutti %s --help`.\n", command);
    return EXIT_USAGE;
}

int option_error(const char *command, char **argv, int result)
{
    const char *word = argv[optind - 1];
    char letter[3] = {'-', (char)optopt, '\0'};
    /* getopt_long() leaves optopt 0 for an unknown long option, and has not passed a short one that is
     * followed by more letters. */
    const char *option = optopt > 0 && optopt <= 0x7F && word[1] != '-' ? letter : word;
    if (result == ':')
        return usage_error(command, "option '%s' needs an argument", option);
    if (optopt > 0 && strncmp(word, "--", 2) == 0)
        return usage_error(command, "option '%s' takes no argument", word);
    return usage_error(command, "there is no option '%s'", option);
}

int tools_number(const char *command, const char *option, int min, int max, int *value)
{
    assert(min >= 0 && max >= min);
    uint64_t number;
    if (!text_to_number(optarg, (uint64_t)max, &number) || number < (uint64_t)min)
        return usage_error(command, "%s: '%s' is not a number from %d to %d", option, optarg, min, max);
    *value = (int)number;
    return 0;
}

int tools_bytes(const char *command, const char *option, size_t *bytes)
{
    uint64_t number;
    if (!text_to_amount(optarg, text_byte_units, SIZE_MAX, &number) || number == 0)
        return usage_error(command, "%s: '%s' is not a size above 0, such as 4, 64K or 1M", option, optarg);
    *bytes = (size_t)number;
    return 0;
}

bool write_all(int fd, const void *bytes, size_t size)
{
    const char *rest = bytes;
    while (size > 0) {
        ssize_t n = write(fd, rest, size);
        if (n >= 0) {
            rest += n;
            size -= (size_t)n;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            /* Somebody who shares it has made it non-blocking. */
            struct pollfd room = {.fd = fd, .events = POLLOUT};
            (void)poll(&room, 1, -1);
        } else if (errno != EINTR) {
            return false;
        }
    }
    return true;
}

bool finish_output(const char *command)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return true;
    complain(command, "cannot write to standard output: %s", strerror(errno));
    return false;
}

int tools_help(const char *command, const char *usage)
{
    fputs(usage, stdout);
    return finish_output(command) ? EXIT_SUCCESS : EXIT_FAILURE;
}
