/* Ranks that arrive late, at random: the same for tutti and its rivals, since it goes by seed, rank and
 * iteration only. */
#ifndef TUTTI_TOOLS_BENCH_SKEW_H
#define TUTTI_TOOLS_BENCH_SKEW_H

#include <stdint.h>

/* From 0 to skew_us, evenly: what this rank waits before this iteration.  The mixing function is splitmix64
 * (Steele, Lea and Flood 2014). */
static inline double bench_skew_us(double skew_us, uint64_t seed, int rank, int iteration)
{
    uint64_t x = seed ^ ((uint64_t)(uint32_t)rank << 32 | (uint32_t)iteration);
    for (int turn = 0; turn < 2; turn++) {
        x += 0x9E3779B97F4A7C15u;
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
        x = (x ^ x >> 27) * 0x94D049BB133111EBu;
        x ^= x >> 31;
    }
    return skew_us * (double)(x >> 11) * 0x1p-53;
}

#endif
