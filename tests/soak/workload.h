/* What the ranks of a long run do, and whether it came out right: each operation is drawn from its number, so
 * that all ranks make the same one, and each element of its result is compared with what it must be. */
#ifndef TESTS_SOAK_WORKLOAD_H
#define TESTS_SOAK_WORKLOAD_H

#include <stdint.h>
#include "tutti/tutti.h"

#define MIXED_RANKS_MAX 8 /* all types hold the sums of as many ranks exactly */
#define RANKS_MAX       32

struct tally {
    uint64_t operations;   /* completed; the calls that were made together count one by one */
    uint64_t wrong;        /* of them, those with a wrong result */
    int64_t entered_us;    /* when the latest call of tutti began */
    char first_wrong[256]; /* what is wrong with the first of them; empty when none is */
};

/* Once: touches the buffers, so that they do not look like growth later. */
void workload_prepare(void);

/* Some calls of any kind: every operation, type and reduction; 0 to 1 MiB; blocking, asynchronous or fused;
 * in place or not.  Returns a status of tutti. */
int workload_mixed(tutti_comm *comm, uint64_t number, struct tally *tally);

/* One blocking all_reduce of 64 Ki float32. */
int workload_all_reduce(tutti_comm *comm, uint64_t number, struct tally *tally);

/* The same pseudo-random number below `bound` wherever it is asked for. */
uint64_t draw(uint64_t number, uint64_t what, uint64_t bound);

#endif
