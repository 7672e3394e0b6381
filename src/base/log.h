/* Log lines on standard error: "tutti[rank 2] warning: text". */
#ifndef TUTTI_BASE_LOG_H
#define TUTTI_BASE_LOG_H

enum log_level { LOG_LEVEL_ERROR = 1, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

struct log {
    enum log_level level; /* the most talkative level that is written */
    int rank;             /* -1: not known yet, not printed */
};

/* Writes one line with one write(2), so that lines of several ranks do not mix.  Any thread. */
void log_write(const struct log *log, enum log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define log_error(log, ...)   log_write(log, LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(log, ...) log_write(log, LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(log, ...)    log_write(log, LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(log, ...)   log_write(log, LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
