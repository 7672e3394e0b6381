/* Hosts and the ranks on them, as the hierarchical algorithms see them.  The ranks of a host are consecutive.
 *
 * So that every local rank carries its own slice across, but none without a partner elsewhere, there are as
 * many carriers on each host as the host with the fewest ranks has ranks: `parts`.  Where the ranks
 * themselves have parts (all_gather, reduce_scatter), each host's ranks are cut into that many blocks of
 * nearly equal lengths, and the first rank of a block carries for it. */
#ifndef TUTTI_ALGORITHM_HIERARCHY_H
#define TUTTI_ALGORITHM_HIERARCHY_H

#include "algorithm/cost.h"
#include "algorithm/team.h"

struct hierarchy {
    int hosts, host; /* how many, and this rank's */
    int parts;       /* carriers on each host: the fewest ranks of a host */
    int *first;      /* host h has the ranks first[h] to first[h + 1] - 1; owned */
    int *across;     /* ranks of the team that hierarchy_across() has made last; owned */
};

/* false, with s->failed set and nothing to clean up, when out of memory. */
bool hierarchy_init(struct hierarchy *h, struct schedule *s);
void hierarchy_clean_up(struct hierarchy *h);

/* The ranks of this host. */
struct team hierarchy_local(const struct hierarchy *h, const struct schedule *s);

/* The ranks that have the same place on their hosts as this one, which is among the first `parts`.  Lives
 * until the next call. */
struct team hierarchy_across(struct hierarchy *h, const struct schedule *s);

/* A barrier of the first ranks of all hosts, of whom this is one, by dissemination.  The schedule has a chunk
 * for each rank. */
void hierarchy_leaders_barrier(struct schedule *s, const struct hierarchy *h);

/* The ranks of block `part` of a host. */
struct range hierarchy_block(const struct hierarchy *h, int host, int part);

/* In which block a rank of this host is. */
int hierarchy_block_of(const struct hierarchy *h, int rank);

/* The hosts as cost functions see them: the largest block. */
static inline double hierarchy_block_max(const struct cost_case *c)
{
    return (c->local_max + c->local_min - 1) / c->local_min;
}

#endif
