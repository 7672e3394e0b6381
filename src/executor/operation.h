/* The resumable operation: everything that moves data is one.  Whoever holds the progress token calls
 * progress() until it returns something else than TUTTI_PENDING.  Deadline, failure and completion live here,
 * once. */
#ifndef TUTTI_EXECUTOR_OPERATION_H
#define TUTTI_EXECUTOR_OPERATION_H

#include <stdatomic.h>
#include "executor/link.h"

struct operation;

/* What a blocked operation waits for: at most one rank to receive from and one to send to.  Both -1: it is
 * not blocked, but has had its share of turns. */
struct operation_wait {
    int from, to;
    const struct link *receive, *send; /* to them; NULL while that link is not open yet */
    bool elsewhere;                    /* for a part of it that others move */
};

struct operation {
    /* Does what can be done without blocking.  TUTTI_PENDING, TUTTI_OK when all is done, or an error in
     * *error. */
    int (*progress)(struct operation *operation, struct tutti_error *error);

    struct fingerprint call;
    uint64_t sequence; /* number on its communicator, from 1 */
    int64_t started_ns, deadline_ns;
    struct operation_wait wait;       /* valid after TUTTI_PENDING */
    atomic_uint_fast64_t moved_bytes; /* received so far, headers included; changes exactly when there is
                                       * progress from a peer; any thread reads */
};

#endif
