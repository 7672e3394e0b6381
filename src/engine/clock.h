/* The monotonic clock, in nanoseconds. */
#ifndef TUTTI_ENGINE_CLOCK_H
#define TUTTI_ENGINE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NS_PER_MS 1000000LL

static inline int64_t clock_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#endif
