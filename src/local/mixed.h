/* Mixed collectives: those of several hosts, on each of which equally many ranks share an arena.  One
 * resumable operation with three phases, of which the first and the last are direct collectives among the
 * ranks of a host, and the one between them is a schedule of ALGORITHM_MIXED over links across hosts:
 *
 *   all_reduce   reduce-scatter: each rank of a host has the host's sum of its part;
 *                the ranks with the same place on their hosts reduce their part, all places at once;
 *                all-gather;
 *   barrier      the first rank of each host waits for the others of its host;
 *                these first ranks hold a barrier;
 *                each lets the others of its host go.
 *
 * A failure in any phase is one of the operation.  What a rank waits for is what its phase waits for. */
#ifndef TUTTI_LOCAL_MIXED_H
#define TUTTI_LOCAL_MIXED_H

#include "executor/executor.h"
#include "local/direct.h"

enum mixed_phase { MIXED_WITHIN, MIXED_ACROSS, MIXED_WITHIN_AGAIN };

struct mixed {
    struct operation operation; /* first */
    enum mixed_phase phase;
    uint64_t moved_bytes; /* in the phases before */
    struct arena *arena;
    struct direct direct;     /* the phase within the host that is under way, or was the latest */
    struct executor executor; /* the phase across hosts; it also holds the buffers of the call */
};

/* Prepares `mixed` (storage of the caller) for a call of an operation of ALGORITHM_MIXED; `schedule`,
 * `buffers` and `scratch` as for executor_init().  Borrows everything until it is done; copies `buffers`. */
void mixed_init(struct mixed *mixed, struct arena *arena, const struct executor_group *group,
                const struct schedule *schedule, const struct fingerprint *call,
                const struct executor_buffers *buffers, void *scratch);

/* As executor_start().  Before the first progress() the caller begins the call in the arena and has its
 * position published. */
void mixed_start(struct mixed *mixed, uint64_t sequence, int64_t now_ns, int64_t deadline_ns);

#endif
