/* Who gets which rank: the assignment as a pure function of the members in the order of their arrival. */
#ifndef TUTTI_GROUP_TOPOLOGY_H
#define TUTTI_GROUP_TOPOLOGY_H

#include <stddef.h>
#include "tutti/tutti.h"

/* A member as the assignment sees it. */
struct place {
    const char *host; /* identity, borrowed: same text, same host */
    int wanted;       /* the rank asked for, or TUTTI_RANK_ANY */
    int remembered;   /* the rank in the generation before, or TUTTI_RANK_ANY */

    int host_index; /* out: hosts numbered in the order of their first arrival */
    int rank;       /* out */
    int local_rank; /* out: among the members of this host, in the order of the ranks */
    int local_size; /* out */
};

#define TOPOLOGY_SCRATCH 2 /* integers of scratch memory for each place */

/* Fills `host_index` and returns the number of different hosts.  O(n log n). */
int topology_number_hosts(struct place *places, int count, int *scratch);

/* Fills every `out` field and returns the number of different hosts.  Ranks asked for come first, then those
 * remembered that are still free; what is left goes to the other members host by host, so that those of one
 * host get consecutive ranks as far as the free ones are consecutive.  All wanted ranks are within the size
 * and differ; so are all remembered ones.  O(n log n). */
int topology_assign(struct place *places, int size, int *scratch);

/* "rank 2", "ranks 2, 5-7", cut with ", ..." where the text is full.  `ranks` is ascending, not empty. */
const char *topology_print_ranks(const int *ranks, int count, char *text, size_t text_size);

#endif
