/* Fusion: several small calls of one kind run as one operation over a packed copy of their buffers, so that
 * they pay the latency of one. */
#ifndef TUTTI_EXECUTOR_FUSION_H
#define TUTTI_EXECUTOR_FUSION_H

#include "executor/executor.h"

#define FUSION_CALL_BYTES_MAX  (64u << 10) /* a longer call gains less than the copies cost */
#define FUSION_TOTAL_BYTES_MAX (4u << 20)
#define FUSION_CALLS_MAX       65535 /* as the frame header can say */

/* One of the calls that were packed. */
struct fusion_part {
    const void *send; /* NULL: nothing is packed from here (not the root) */
    void *recv;
    size_t bytes;
};

/* How many of the first of `calls` run as one operation: at least 1.  A function of what is the same on every
 * rank. */
size_t fusion_run_length(const struct tutti_call *calls, size_t count);

/* Makes `print`, the fingerprint of the first of `count` calls, that of all of them run as one. */
void fusion_fingerprint(struct fingerprint *print, const struct tutti_call *calls, size_t count);

/* Makes the executor, which was initialised with `packed` as both its buffers, fill it from the parts before
 * it starts and empty it into them when it is done.  Borrows all. */
void fusion_wrap(struct executor *executor, const struct fusion_part *parts, size_t count, void *packed);

#endif
