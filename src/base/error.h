/* Filling a struct tutti_error: the one way in which every layer reports a failure. */
#ifndef TUTTI_BASE_ERROR_H
#define TUTTI_BASE_ERROR_H

#include <stdarg.h>
#include "tutti/tutti.h"

/* Sets `code` and the formatted message, clears the rest (rank -1), and returns `code`, so that a caller can
 * write `return error_set(error, TUTTI_ERR_..., "...")`.  A message too long is cut.  `error` may be NULL. */
int error_set(struct tutti_error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* As error_set() for TUTTI_ERR_SYSTEM, with ": " and the text of `error_number` (an errno) at the end. */
int error_set_errno(struct tutti_error *error, int error_number, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
