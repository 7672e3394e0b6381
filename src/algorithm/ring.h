/* What the ring algorithms share.  Rank r sends to r + 1 and receives from r - 1, modulo the size. */
#ifndef TUTTI_ALGORITHM_RING_H
#define TUTTI_ALGORITHM_RING_H

#include "algorithm/team.h"

/* `distance` ranks (or chunks) after this rank; before it where negative, at most `size` away. */
static inline int ring_at(const struct schedule *s, int distance)
{
    return (s->rank + distance + s->size) % s->size;
}

static inline int ring_next(const struct schedule *s)
{
    return ring_at(s, 1);
}

static inline int ring_previous(const struct schedule *s)
{
    return ring_at(s, -1);
}

/* Phases over a team in a ring, whose members have one part each.  Vectors lie in `own` before they are
 * reduced, and in PLACE_RECV afterwards.  Emit nothing for a team of one. */

/* Every part is reduced and ends on every member, finished. */
void ring_phase_all_reduce(struct schedule *s, const struct team *team, const struct parts *parts,
                           struct span own);

/* The reduced part of each member ends on that member.  `finish`: nothing more is to be added. */
void ring_phase_reduce_scatter(struct schedule *s, const struct team *team, const struct parts *parts,
                               struct span own, bool finish);

/* The part of each member, in PLACE_RECV there, ends on every member. */
void ring_phase_all_gather(struct schedule *s, const struct team *team, const struct parts *parts);

#endif
