/* Reducing what all members of a team have sent to this one, in their order and with one rounding. */
#ifndef TUTTI_ALGORITHM_RANK_ORDER_H
#define TUTTI_ALGORITHM_RANK_ORDER_H

#include "algorithm/team.h"

/* Scratch slots, one for each other member: what comes from the member k before this one goes to slot
 * first + (k - 1) * step, which begins with chunk `origin`. */
struct inbox {
    int first, step, origin;
};

static inline struct span inbox_slot(const struct inbox *inbox, int k)
{
    return span_scratch(inbox->first + (k - 1) * inbox->step, inbox->origin);
}

/* One REDUCE of `range` into `target`; this member's own contribution lies in `own`.  For a team of at least
 * two. */
void rank_order_reduce(struct schedule *s, const struct team *team, struct range range, struct span own,
                       const struct inbox *inbox, struct span target);

#endif
