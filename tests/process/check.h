/* Checks for programs of several ranks: what is not true ends the program with the line and the rank. */
#ifndef TESTS_PROCESS_CHECK_H
#define TESTS_PROCESS_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include "tutti/tutti.h"

static int check_rank = -1; /* for messages */

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: rank %d: not true: %s\n", __FILE__, __LINE__, check_rank, #condition);   \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

/* Any call on `comm` that must return `wanted`; says what tutti says where it does not. */
static inline void check_status(const char *file, int line, tutti_comm *comm, int status, int wanted)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    if (status == wanted)
        return;
    tutti_get_error(comm, &error);
    fprintf(stderr, "%s:%d: rank %d: returned %s instead of %s; the error is \"%s\"\n", file, line,
            check_rank, tutti_error_name(status), tutti_error_name(wanted), error.message);
    exit(1);
}
#define OK(comm, call) check_status(__FILE__, __LINE__, comm, call, TUTTI_OK)

#endif
