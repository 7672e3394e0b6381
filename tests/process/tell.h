/* How the ranks of the tests tell the Python script around them what happens: line by line. */
#ifndef TUTTI_TESTS_TELL_H
#define TUTTI_TESTS_TELL_H

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* Of CLOCK_MONOTONIC: comparable among the processes of a host, and with Python's time.monotonic(). */
static inline int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static inline void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* One write for a line, so that lines of several ranks and threads do not mix. */
static inline void say(const char *format, ...)
{
    char line[4096];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    if (length < 0 || length >= (int)sizeof line - 1)
        abort();
    line[length] = '\n';
    if (write(STDOUT_FILENO, line, (size_t)length + 1) < 0)
        _exit(4);
}

#endif
