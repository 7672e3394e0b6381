#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/log.h"
#include "base/text.h"

#define LOG_LINE_BYTES 2048 /* the longest line; a longer one is cut */

static const char *level_name(enum log_level level)
{
    switch (level) {
    case LOG_LEVEL_ERROR:
        return "error";
    case LOG_LEVEL_WARNING:
        return "warning";
    case LOG_LEVEL_INFO:
        return "info";
    case LOG_LEVEL_DEBUG:
        return "debug";
    }
    return "log";
}

void log_write(const struct log *log, enum log_level level, const char *format, ...)
{
    if (level > log->level)
        return;

    int saved_errno = errno;
    char line[LOG_LINE_BYTES];
    int prefix = log->rank < 0
                     ? snprintf(line, sizeof line, "tutti %s: ", level_name(level))
                     : snprintf(line, sizeof line, "tutti[rank %d] %s: ", log->rank, level_name(level));
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line + prefix, sizeof line - (size_t)prefix - 1, format, arguments);
    va_end(arguments);

    /* Text may come from a peer. */
    text_to_one_line(line + prefix);
    size_t length = strlen(line);
    line[length++] = '\n';

    ssize_t written;
    do
        written = write(STDERR_FILENO, line, length);
    while (written < 0 && errno == EINTR);
    errno = saved_errno;
}
