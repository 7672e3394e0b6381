/* Which uses of memory get in each other's way. */
#ifndef TUTTI_EXECUTOR_OVERLAP_H
#define TUTTI_EXECUTOR_OVERLAP_H

#include <stdbool.h>
#include <stddef.h>

struct memory_use {
    const char *begin;
    size_t bytes; /* at least 1 */
    size_t owner; /* uses of the same owner do not disturb each other */
    bool writes;
};

static inline bool memory_overlaps(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    return a_bytes > 0 && b_bytes > 0 && a < b + b_bytes && b < a + a_bytes;
}

/* Are there two uses of different owners that overlap, of which one writes?  Then they are in `conflict`.
 * Takes the `count` uses at `uses` in any order and changes it; behind them is room for as many. */
bool memory_uses_conflict(struct memory_use *uses, size_t count, struct memory_use conflict[2]);

#endif
