/* Powers of two around the size of a group. */
#ifndef TUTTI_ALGORITHM_POWERS_H
#define TUTTI_ALGORITHM_POWERS_H

/* The exponents of the powers next to n >= 1. */
static inline int log2_floor(int n)
{
    int log = 0;
    while (n >> (log + 1) > 0)
        log++;
    return log;
}

static inline int log2_ceil(int n)
{
    return n > 1 ? log2_floor(n - 1) + 1 : 0;
}

#endif
