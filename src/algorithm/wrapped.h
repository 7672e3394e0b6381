/* Consecutive ranks behind a root: their chunks are consecutive too, but for one jump from the last chunk to
 * the first, hence at most two ranges, and two messages. */
#ifndef TUTTI_ALGORITHM_WRAPPED_H
#define TUTTI_ALGORITHM_WRAPPED_H

#include "algorithm/team.h"

struct wrapped {
    struct range range[2]; /* the second is empty where the chunks do not wrap */
};

/* `count` chunks of n, from chunk `first` (modulo n) on. */
static inline struct wrapped wrapped_of(int first, int count, int n)
{
    first %= n;
    int before = count < n - first ? count : n - first;
    return (struct wrapped){{{first, before}, {0, count - before}}};
}

#endif
