/* Gather and scatter on a binomial tree: the parts of the ranks below a rank pass through its scratch memory,
 * as one message where they are consecutive. */
#ifndef TUTTI_ALGORITHM_SUBTREE_H
#define TUTTI_ALGORITHM_SUBTREE_H

#include "algorithm/binomial.h"
#include "algorithm/wrapped.h"

/* The chunks of the rank `step` behind this one and of those below it. */
static inline struct wrapped subtree_chunks(const struct schedule *s, int step)
{
    int node = (s->rank - s->root + s->size) % s->size;
    return wrapped_of(s->rank + step, binomial_nodes(node + step, s->size), s->size);
}

/* Where a chunk of this rank's tree lies in scratch memory: slot 0 begins with this rank's own, slot 1 with
 * chunk 0 for those beyond the end of the vector. */
static inline struct span subtree_place(const struct schedule *s, int chunk)
{
    return chunk >= s->rank ? span_scratch(0, s->rank) : span_scratch(1, 0);
}

#endif
