/* The fingerprint of a call, by which ranks that called differently find out. */
#ifndef TUTTI_EXECUTOR_CALL_PRINT_H
#define TUTTI_EXECUTOR_CALL_PRINT_H

#include "wire/frame.h"

/* Of `count` collectives that run as one operation in a group of `size`; all but the algorithm.  `last`: a
 * barrier is that of finalize, and does not pass for one that another rank calls. */
struct fingerprint call_print(const struct tutti_call *calls, size_t count, int size, bool last);

#endif
