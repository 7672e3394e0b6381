/* Every emitter and its cost function, for the table in algorithm.c. */
#ifndef TUTTI_ALGORITHM_TABLE_H
#define TUTTI_ALGORITHM_TABLE_H

#include "algorithm/cost.h"
#include "schedule/schedule.h"

#define ALGORITHM_DECLARE(name)                                                                              \
    void name(struct schedule *s);                                                                           \
    void name##_cost(const struct cost_case *c, struct cost *cost);

ALGORITHM_DECLARE(ring_all_reduce)
ALGORITHM_DECLARE(ring_exchange_all_reduce)
ALGORITHM_DECLARE(exchange_all_reduce)
ALGORITHM_DECLARE(recursive_doubling_all_reduce)
ALGORITHM_DECLARE(halving_doubling_all_reduce)
ALGORITHM_DECLARE(direct_all_reduce)
ALGORITHM_DECLARE(tree_all_reduce)
ALGORITHM_DECLARE(hierarchical_all_reduce)

ALGORITHM_DECLARE(mixed_all_reduce)
ALGORITHM_DECLARE(mixed_exchange_all_reduce)
ALGORITHM_DECLARE(mixed_barrier)

ALGORITHM_DECLARE(ring_broadcast)
ALGORITHM_DECLARE(tree_broadcast)
ALGORITHM_DECLARE(scatter_gather_broadcast)
ALGORITHM_DECLARE(hierarchical_broadcast)

ALGORITHM_DECLARE(ring_all_gather)
ALGORITHM_DECLARE(bruck_all_gather)
ALGORITHM_DECLARE(direct_all_gather)
ALGORITHM_DECLARE(hierarchical_all_gather)

ALGORITHM_DECLARE(ring_gather)
ALGORITHM_DECLARE(direct_gather)
ALGORITHM_DECLARE(tree_gather)

ALGORITHM_DECLARE(ring_reduce_scatter)
ALGORITHM_DECLARE(direct_reduce_scatter)
ALGORITHM_DECLARE(halving_reduce_scatter)
ALGORITHM_DECLARE(hierarchical_reduce_scatter)

ALGORITHM_DECLARE(ring_barrier)
ALGORITHM_DECLARE(dissemination_barrier)
ALGORITHM_DECLARE(hierarchical_barrier)

ALGORITHM_DECLARE(ring_reduce)
ALGORITHM_DECLARE(linear_reduce)
ALGORITHM_DECLARE(tree_reduce)
ALGORITHM_DECLARE(scatter_gather_reduce)

ALGORITHM_DECLARE(direct_scatter)
ALGORITHM_DECLARE(tree_scatter)

ALGORITHM_DECLARE(pairwise_all_to_all)
ALGORITHM_DECLARE(direct_all_to_all)

#undef ALGORITHM_DECLARE

#endif
