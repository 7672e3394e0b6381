/* What a schedule costs: each algorithm counts, the constants of a kind of link weigh.  See
 * docs/algorithms.md.
 *
 * The predicted time of an algorithm is, over both kinds of links (within a host, between hosts),
 *
 *     sum of  rounds * latency  +  messages * overhead  +  bytes * per_byte      (each kind)
 *     +  reduced * reduce_per_byte  +  copied * copy_per_byte
 *
 * where the ranks of a host that outnumber its cores share them.  What costs a core's time (overhead, bytes
 * within a host, reduction, copies) is multiplied by max(1, ranks_per_core * load): a core does the work of
 * all its ranks, but never less than that of the busiest, whose counts these are.  The latency of a round
 * grows by a constant of its own for each further rank of a core.  Bytes between hosts cost the time of the
 * network, which cost_case's ranks share already.  A message of more than a slice is as many frames, and as
 * many overheads. What ALGORITHM_RANK_ORDER reduces costs a copy as well: all operands must be there first,
 * so they pass through memory once more.
 */
#ifndef TUTTI_ALGORITHM_COST_H
#define TUTTI_ALGORITHM_COST_H

#include <stdbool.h>
#include <stddef.h>

enum cost_link { COST_LOCAL, COST_REMOTE, COST_LINKS };

/* What is asked of an algorithm: the same on every rank. */
struct cost_case {
    int operation;            /* enum tutti_operation, never a _v */
    int size;                 /* ranks */
    int host_count;           /* 1: all links are local */
    int local_min, local_max; /* fewest and most ranks on a host */
    bool hosts_consecutive;   /* the ranks of each host are consecutive */
    double bytes;             /* of the work vector (of all_to_all: of one rank's input) */
    double slice_bytes;       /* the pipeline's unit */
};

/* Counts on the critical path: of the rank that does most. */
struct cost {
    double rounds[COST_LINKS];   /* messages that wait for one another */
    double messages[COST_LINKS]; /* sent or received, whichever are more, by one rank */
    double bytes[COST_LINKS]; /* sent or received, whichever are more, by one rank; to and from other hosts:
                               * by all ranks of one host, for they share its network */
    double reduced;           /* bytes read by reductions, the first operand apart */
    double copied;            /* bytes copied within the rank's memory */
    double load; /* what the average rank does, as a share of the rank that does most, whose counts these are:
                  * messages sent by all ranks / size / messages[], or bytes where they weigh more; 0: 1, all
                  * ranks alike */
};

/* Fills *cost, which is zeroed, for a case with size > 1. */
typedef void (*algorithm_cost)(const struct cost_case *c, struct cost *cost);

#endif
