/* FNV-1a with 64 bits: names for things, and no secret. */
#ifndef TUTTI_BASE_HASH_H
#define TUTTI_BASE_HASH_H

#include <stdint.h>

#define FNV1A_START UINT64_C(0xcbf29ce484222325)

/* The hash with one more byte in it. */
static inline uint64_t fnv1a_add(uint64_t hash, uint8_t byte)
{
    return (hash ^ byte) * UINT64_C(0x100000001b3);
}

#endif
