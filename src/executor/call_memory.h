/* What a call uses of the caller's memory on one rank. */
#ifndef TUTTI_EXECUTOR_CALL_MEMORY_H
#define TUTTI_EXECUTOR_CALL_MEMORY_H

#include <stdbool.h>
#include "tutti/tutti.h"

/* A buffer of the call: one part or, where `offsets` is set, one for each rank.  Borrows all. */
struct call_buffer {
    const char *begin;
    size_t elements;                /* of all parts together; 0: it is not used on this rank */
    const size_t *counts, *offsets; /* by rank; NULL: one part, at `begin` */
};

struct call_memory {
    struct call_buffer send, recv;
    size_t element_bytes;
    bool in_place; /* this rank's part lies at the same place in both, as tutti.h says for the operation */
};

/* Of a call that arguments_check() takes, or whose type, root and counts at least are good. */
struct call_memory call_memory_of(int rank, int size, const struct tutti_call *call);

#endif
