/* What the ring algorithms share.  Rank r sends to r + 1 and receives from r - 1, modulo the size. */
#ifndef TUTTI_ALGORITHM_RING_H
#define TUTTI_ALGORITHM_RING_H

#include "schedule/schedule.h"

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

#endif
