/* What cost functions share: who of a group is near and who is far.
 *
 * The counts are those of the busiest rank.  A round counts as one between hosts if any rank of the group
 * exchanges with another host in it, since the others wait for that one. */
#ifndef TUTTI_ALGORITHM_COUNT_H
#define TUTTI_ALGORITHM_COUNT_H

#include "algorithm/cost.h"
#include "algorithm/powers.h"

static inline double larger_of(double a, double b)
{
    return a > b ? a : b;
}

static inline double smaller_of(double a, double b)
{
    return a < b ? a : b;
}

/* Along the ring: `rounds` hops that wait for each other, and what one rank sends to its next. */
void count_ring(const struct cost_case *c, struct cost *cost, double rounds, double messages, double bytes);

/* Down the ring from rank to rank, all of the work vector, slice by slice: it is the first and the last
 * slices that the next ranks wait for. */
void count_chain(const struct cost_case *c, struct cost *cost);

/* One round in which each rank sends a message of `bytes` to every other. */
void count_everybody(const struct cost_case *c, struct cost *cost, double bytes);

/* One round in which one rank, anywhere, exchanges a message of `bytes` with every other. */
void count_star(const struct cost_case *c, struct cost *cost, double bytes);

/* Its bytes alone: what one rank, on the host with the fewest, exchanges with all others however it does. */
void count_star_bytes(const struct cost_case *c, struct cost *cost, double bytes);

enum count_reach {
    COUNT_SHIFTED, /* each rank sends to the one `distance` after it */
    COUNT_PAIRED,  /* each rank exchanges with the one whose number differs in the bit `distance` */
    COUNT_TREE     /* one rank sends to the one `distance` after it; others, on other hosts, may do so too */
};

/* The rounds that folding adds to a reduction by recursive doubling or halving: the way to the rank that
 * stands for a pair, and the way back unless other ranks need as long (algorithm/fold.h). */
static inline double count_fold_rounds(const struct cost_case *c)
{
    int folded = 1 << log2_floor(c->size), pairs = c->size - folded;
    return (pairs > 0) + (pairs > folded / 2);
}

/* `rounds` is 1, or 0 where nobody waits for it. */
void count_distance(const struct cost_case *c, struct cost *cost, enum count_reach reach, int distance,
                    double rounds, double messages, double bytes);

#endif
