/* The resumable operation: everything that moves data is one.  Whoever holds the progress token calls
 * progress() until it returns something else than TUTTI_PENDING.  Deadline, failure and completion live here,
 * once. */
#ifndef TUTTI_EXECUTOR_OPERATION_H
#define TUTTI_EXECUTOR_OPERATION_H

#include <stdatomic.h>
#include "executor/link.h"

struct operation;
struct fusion_part;
struct reduce_table;

/* What a blocked operation waits for: at most one rank to receive from and one to send to.  Both -1: it is
 * not blocked, but has had its share of turns. */
struct operation_wait {
    int from, to;
    struct link *receive, *send; /* to them; NULL while that link is not open yet */
    bool elsewhere;              /* for a part of it that others move */
    bool shared;                 /* for `from` in shared memory, whose bell wakes; spun already */
};

/* Input that is prepared before the operation first moves: fusion.h.  Unused otherwise. */
struct operation_input {
    const struct fusion_part *parts;
    size_t count;
    uint8_t *packed;
    bool is_packed;
    const struct reduce_table *kernels;
    bool alone; /* in a group of one, where no kernel runs */
    int (*progress)(struct operation *operation, struct tutti_error *error);
};

struct operation {
    /* Does what can be done without blocking.  TUTTI_PENDING, TUTTI_OK when all is done, or an error in
     * *error. */
    int (*progress)(struct operation *operation, struct tutti_error *error);

    struct fingerprint call;
    bool begun;        /* told to the other ranks of the host, where they share memory */
    uint64_t sequence; /* number on its communicator, from 1 */
    int64_t started_ns, deadline_ns;
    struct operation_wait wait; /* valid after TUTTI_PENDING */
    /* Received so far, headers included; in shared memory the bytes of the call by the actions done.  Changes
     * when the operation gets on; any thread reads. */
    atomic_uint_fast64_t moved_bytes;
    struct operation_input input;
};

#endif
